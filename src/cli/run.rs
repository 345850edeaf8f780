//! `procroll [run]`: its options. Those that systemd-run has keep their names and meaning, and those of
//! the first procroll keep theirs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::exit::ExitStatus;
use crate::settings::{ServiceType, SignalName, Span, Strategy};

/// What `procroll run` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Run each generation as a transient systemd service; without it, "procroll run" runs it as a process of its own
    #[arg(long)]
    pub systemd_run: bool,

    /// Run each as a process of procroll's own in a transient scope: it has the limits that -p sets, systemctl lists and kills
    /// it, and it keeps the terminal, open descriptors and the environment
    #[arg(long)]
    pub scope: bool,

    /// Have the calling user's service manager run them; in a unit of a user's it does so by itself
    #[arg(long)]
    pub user: bool,

    /// overlap (the default): the old generation is stopped when the new one is up; or handover, where two can't live at
    /// once: it is gone before the new one starts, and what it ran runs again if that fails
    #[arg(
        long,
        value_name = "STRATEGY",
        default_value = "overlap",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub strategy: Strategy,

    /// How long a new generation has to stay active before the old one is stopped (default: 1s; 0 for not at all)
    #[arg(long, value_name = "SPAN", default_value = "1s", hide_default_value = true)]
    pub settle: Span,

    /// How many old generations may be stopping at a time (default: 8). The next roll waits for one of them to end
    #[arg(long, value_name = "N", default_value = "8", hide_default_value = true)]
    pub max_stopping: NonZeroUsize,

    /// How long a generation may take to become active: its TimeoutStartSec= (without --systemd-run: 10s)
    #[arg(long, value_name = "SPAN")]
    pub ready_timeout: Option<Span>,

    /// How long a generation may take to stop before it is killed: its TimeoutStopSec= (without --systemd-run: 1min)
    #[arg(long, value_name = "SPAN")]
    pub shutdown_timeout: Option<Span>,

    /// The signal that asks a generation to stop: its KillSignal= (without --systemd-run: SIGTERM)
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<SignalName>,

    /// Without --systemd-run, or with --scope: where to make the folder of the notify sockets (default: $TMPDIR or /tmp)
    #[arg(long, value_name = "PATH")]
    pub tempdir: Option<PathBuf>,

    /// The generations' Type=: notify (the default), notify-reload, exec or simple
    #[arg(long, value_name = "TYPE", default_value = "notify", hide_default_value = true)]
    pub service_type: ServiceType,

    /// Name the generations NAME@1.service, NAME@2.service, … or NAME-1.scope, … (default: after the wrapper unit, or made up)
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

    /// The Go procroll's place for the program: before the `--`.
    #[arg(value_name = "PROGRAM", hide = true)]
    pub program: Vec<String>,

    /// The command and its arguments; {{.PID}}, {{.Generation}}, {{.NotifySocket}} and {{.Unit}} are filled in
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What `--help` says below the options.
pub(super) fn after_long_help() -> String {
    let mut text = String::from(
        "In a wrapper unit (Type=notify-reload, ExecStart=+procroll --systemd-run -- COMMAND) the generations are that \
         unit, read afresh at each roll; from a terminal they have what the options say.\n\n\
         Without --systemd-run \"procroll run\" needs no systemd: generations are processes of its own, with its environment, \
         and what needs a unit is refused. With --scope they are that, too, and units as well.\n\n\
         Signals:\n  HUP              roll: start the next generation, let it settle, stop the old one\n  \
         TERM, INT, QUIT  stop all generations, then procroll; the second time, kill them\n  \
         USR1, USR2, WINCH, TTIN, TTOU\n                   go to the main process of the generation that serves; those that\n                   \
         a terminal sends, WINCH, TTIN and TTOU, only where there is none\n  \
         in a wrapper unit: RTMIN+25\n                   execute procroll anew, for a new version of it; nobody notices\n\n\
         Exit status: that of the generation that served, if it ends by itself; else\n",
    );
    for status in ExitStatus::ALL {
        text.push_str(&format!("  {:<9}  {}\n", status as u8, status.meaning()));
    }
    text
}
