//! `procroll [run] --systemd-run`: its options. Those that systemd-run has keep their names and meaning, and those of
//! the first procroll keep theirs.

use clap::Args;

use crate::exit::ExitStatus;
use crate::settings::{ServiceType, SignalName, Span};

/// What `procroll run` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Run each generation as a transient systemd service
    #[arg(long)]
    pub systemd_run: bool,

    /// Have the calling user's service manager run them; in a unit of a user's it does so by itself
    #[arg(long)]
    pub user: bool,

    /// How long a new generation has to stay active before the old one is stopped (default: 1s; 0 for not at all)
    #[arg(long, value_name = "SPAN", default_value = "1s", hide_default_value = true)]
    pub settle: Span,

    /// How long a generation may take to become active: its TimeoutStartSec=
    #[arg(long, value_name = "SPAN")]
    pub ready_timeout: Option<Span>,

    /// How long a generation may take to stop before it is killed: its TimeoutStopSec=
    #[arg(long, value_name = "SPAN")]
    pub shutdown_timeout: Option<Span>,

    /// The signal that asks a generation to stop: its KillSignal=
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<SignalName>,

    /// The generations' Type=: notify (the default), notify-reload, exec or simple
    #[arg(long, value_name = "TYPE", default_value = "notify", hide_default_value = true)]
    pub service_type: ServiceType,

    /// Name the generations NAME@1.service, NAME@2.service, … (default: after the wrapper unit, or made up)
    #[arg(long, value_name = "NAME")]
    pub unit: Option<String>,

    /// Set a property of the generations, as in a unit file; wins over the wrapper unit's
    #[arg(short = 'p', long, value_name = "NAME=VALUE")]
    pub property: Vec<String>,

    /// Set an environment variable of the generations; without a value, pass on the caller's
    #[arg(short = 'E', long, value_name = "NAME[=VALUE]")]
    pub setenv: Vec<String>,

    /// Run as this user: User=
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,

    /// Run as this group: Group=
    #[arg(long, value_name = "GROUP")]
    pub gid: Option<String>,

    /// Run in this directory: WorkingDirectory=
    #[arg(long, value_name = "PATH", conflicts_with = "same_dir")]
    pub working_directory: Option<String>,

    /// Run in the current directory
    #[arg(short = 'd', long)]
    pub same_dir: bool,

    /// Run in this slice: Slice=
    #[arg(long, value_name = "SLICE")]
    pub slice: Option<String>,

    /// Describe the generations: Description=
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "debug")]
    pub quiet: bool,

    /// Say more
    #[arg(long)]
    pub debug: bool,

    /// The command and its arguments; {{.PID}}, {{.Generation}}, {{.NotifySocket}} and {{.Unit}} are filled in
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What `--help` says below the options.
pub(super) fn after_long_help() -> String {
    let mut text = String::from(
        "In a wrapper unit (Type=notify-reload, ExecStart=+procroll --systemd-run -- COMMAND) the generations are that \
         unit, read afresh at each roll; from a terminal they have what the options say.\n\n\
         Signals:\n  HUP              roll: start the next generation, let it settle, stop the old one\n  \
         TERM, INT, QUIT  stop all generations, then procroll; the second time, kill them\n  \
         in a unit: USR1, USR2, WINCH, TTIN, TTOU\n                   go to the main process of the generation that serves\n\n\
         Exit status: that of the generation that served, if it ends by itself; else\n",
    );
    for status in ExitStatus::ALL {
        text.push_str(&format!("  {:<9}  {}\n", status as u8, status.meaning()));
    }
    text
}
