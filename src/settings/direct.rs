//! What generations are to be run with that are procroll's own processes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{BaseName, Override, ServiceType, SignalName, Span, Strategy};
use crate::roll::Pace;

/// How long a generation may take to be ready: as the first procroll had it.
pub const READY_TIMEOUT: Span = Span::Of(Duration::from_secs(10));
/// How long one may take to stop: the same.
pub const SHUTDOWN_TIMEOUT: Span = Span::Of(Duration::from_secs(60));

/// What `procroll run` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Whether the new generation starts beside the old one.
    pub strategy: Strategy,
    /// How fast rolls may go.
    pub pace: Pace,
    /// What a generation is ready by; not `notify-reload`.
    pub service_type: ServiceType,
    /// How long one may take to be ready.
    pub ready_timeout: Span,
    /// How long one may take to stop before it is killed.
    pub shutdown_timeout: Span,
    /// What asks one to stop.
    pub signal: SignalName,
    /// Where the folder of the notify sockets is made: at the first of these that there is.
    pub tempdirs: Vec<PathBuf>,
    /// The caller's environment, without what is about procroll alone, and with what the options add.
    pub environment: Vec<(OsString, OsString)>,
    /// The caller passes sockets on by `LISTEN_FDS=`.
    pub listens: bool,
    /// The directory to run in, found anew for each generation; procroll's own if none.
    pub directory: Option<PathBuf>,
    /// What the caller calls procroll's own, if it says so.
    pub current: Option<PathBuf>,
    /// The scopes that they are put into, if they are.
    pub scope: Option<Scope>,
    /// The command and its arguments, with valid templates.
    pub command: Vec<String>,
}

/// What the scopes of generations are to be: systemd.scope(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The calling user's service manager has them, not the system's.
    pub user: bool,
    /// What they are named after, if the caller says so.
    pub unit: Option<BaseName>,
    /// What the options say of them.
    pub overrides: Vec<Override>,
}
