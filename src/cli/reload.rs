//! `procroll reload`: its options.

use clap::Args;

/// What `--help` says of it at length.
pub(super) const ABOUT: &str = "\
Roll a wrapper unit and say what came of it.

From a terminal it is \"systemctl reload\", and says why if the roll fails. Without a UNIT it is the command of that reload \
where systemd has no Type=notify-reload (252), in a wrapper unit: Type=notify, ExecReload=+procroll reload.";

const EXIT_STATUS: &str = "\
Exit status: 0 if the new generation serves; 1 if the roll failed, and the old one serves on; 174 if the unit is no wrapper; \
170, 172, 173 as for procroll itself.";

/// What `procroll reload` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(override_usage = "procroll reload [--user] UNIT", after_long_help = EXIT_STATUS)]
pub struct Reload {
    /// The wrapper unit, as systemctl takes it ("web" is web.service); none in its own ExecReload=
    #[arg(value_name = "UNIT")]
    pub unit: Option<String>,

    /// It is one of the calling user's service manager
    #[arg(long)]
    pub user: bool,
}
