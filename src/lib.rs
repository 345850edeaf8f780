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
//! - [`backend`] runs generations; [`systemd`] is what it needs of systemd; [`notify`] is what the wrapper's manager is
//!   told.
//! - [`run`] puts the parts together, with as few [`privileges`] as they need.

pub mod backend;
pub mod cli;
pub mod exit;
pub mod log;
pub mod manager;
pub mod notify;
pub mod privileges;
pub mod roll;
pub mod run;
pub mod settings;
pub mod systemd;
pub mod unit;
