//! Talking to systemd: over the bus ([`bus`], [`manager`], [`generation`], [`wrapper`], [`guard`], [`job`], `words`, [`error`]),
//! through the files it reads ([`place`] and [`folder`], in the file tree it has itself, [`mounts`]), and by its own programs
//! ([`verify`], [`systemctl`]). [`pidfd`], [`group`] and [`program`] are what the kernel says of a process, of a unit's
//! processes and of a file.
//!
//! Here is what systemd is asked and told, and nothing of when or why: that is for
//! [`backend`](crate::backend::service).

pub mod bus;
pub mod error;
pub mod folder;
pub mod generation;
pub mod group;
pub mod guard;
pub mod job;
pub mod manager;
pub mod mounts;
pub mod pidfd;
pub mod place;
pub mod program;
pub mod systemctl;
pub mod verify;
mod words;
pub mod wrapper;

pub use bus::{Bus, Link};
pub use error::Error;
pub use place::Place;
