//! The text of a generation's unit, composed from its wrapper's. Pure: text in, text out.
//!
//! A generation is the wrapper's own unit: systemd's parser reads the wrapper's fragment and drop-ins once more, as
//! drop-ins of the transient unit `web@3.service`, and procroll's few lines on top of them. What goes from one to the
//! other is decided here and nowhere else: [`text`] cuts files into assignments, [`Sources`] are a unit's files together, [`keys`]
//! says which of them a generation gets, [`specifier`] resolves those `%` specifiers that would mean the generation, [`quote`] writes
//! words so that systemd reads them back, and [`compose`] puts it all together. [`again`] makes another generation of what
//! was composed for one. A [`scope`] has a text of its own.
//!
//! Reading files, asking systemd and writing the result belong to [`systemd`](crate::systemd) and
//! [`backend`](crate::backend).

pub mod again;
pub mod compose;
pub mod keys;
pub mod quote;
pub mod scope;
mod sources;
pub mod specifier;
pub mod text;

pub use again::{again, is_again, pace};
pub use compose::{Command, DropIn, OWN_DROP_IN, Recipe, Source, Unfit, Wrapper, compose, digest, job, owner, sockets};
pub use sources::{Placed, Sources, is_no};
