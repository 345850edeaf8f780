//! procroll: rolling restarts of systemd services.
//!
//! Data goes one way round. The command line and the unit become settings; events go in to [`roll`], which decides, and
//! actions come out of it:
//!
//! ```text
//!   cli ──▶ settings ──▶ run ──▶ manager ◀──event── signals, time
//!                                 │   ▲
//!                            event│   │action          ┌──▶ unit (the text of a generation)
//!                                 ▼   │                │
//!                                 roll             backend ──▶ systemd (bus, files)
//!                                                    ▲  │
//!                                  manager ──action──┘  └──report──▶ manager ──▶ notify (STATUS=, READY=1)
//! ```
//!
//! - [`roll`] is pure: the state machine of rolls. [`unit`] is pure: what a generation's unit says. [`settings`] is
//!   pure: what has been checked.
//! - [`manager`] has the only `select!`.
//! - [`backend`] runs generations, as units or as processes of procroll's own; [`systemd`] is what it needs of systemd;
//!   [`notify`] is what the wrapper's manager is told, and what generations tell.
//! - [`run`] puts the parts together, with as few [`privileges`] as they need.
//! - [`reload`] is the command that has a wrapper roll, over [`control`] where systemd has no way of its own; [`reexec`] is
//!   how a new version takes over in place.
//! - [`guard`] keeps the generations when procroll crashes, and stops them with the wrapper, where systemd has no way of its
//!   own to tell the two apart.
//! - [`check`] is pure: whether a unit can roll, and what it takes; [`survey`] looks at units for it.
//! - [`rollover`] is for other programs, that replace themselves. procroll's own commands make no use of it.

#[cfg(test)]
mod arbitrary;
pub mod backend;
pub mod check;
pub mod cli;
pub mod control;
pub mod descriptors;
pub mod exit;
pub mod guard;
pub mod log;
pub mod manager;
pub mod notify;
pub mod privileges;
pub mod reexec;
pub mod reload;
pub mod roll;
pub mod rollover;
pub mod run;
pub mod settings;
pub mod survey;
pub mod systemd;
pub mod unit;
