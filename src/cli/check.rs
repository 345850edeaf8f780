//! `procroll check`: its options.

use clap::Args;

/// What `--help` says of it at length.
pub(super) const ABOUT: &str = "\
Say of service units whether they can roll: as they are, with a drop-in, or not, and why.

A unit that procroll runs already is looked at for what it lacks. Of another the drop-in is printed that puts procroll in \
front of its command and leaves the rest as it is: with it the unit can be started, stopped and enabled as ever, and \
\"systemctl reload\" rolls it. If the unit runs, and the caller may look, what its processes listen on or have locked \
decides as well, since two generations live side by side during a roll, unless they have --strategy=handover.

Nothing is changed unless --write says so, and nothing is ever started or stopped.";

const EXAMPLES: &str = "\
Examples:
  procroll check nginx gunicorn    what would become of two units
  procroll check ./web.service     the same for a file that needn't be installed
  procroll check --write gunicorn  install the drop-in; then type: systemctl restart gunicorn
  procroll check --json $(systemctl list-units --type=service --plain --no-legend | cut -d' ' -f1)

The JSON document is {\"units\": […]}, and each of them has: unit, wrapper (whether procroll runs it already), verdict \
(as-it-is, with-drop-in or no), findings (each with level, subject, at, why and todo), drop_in (path and text), written.

Exit status: 0 if each unit can roll, as it is or with its drop-in; 174 if one can't; 170 if the command line is wrong; \
172 if there is no systemd to ask; 173 if a drop-in may not be written; 175 if there is another of its name.";

/// What `procroll check` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(override_usage = "procroll check [OPTIONS] UNIT|FILE...", after_long_help = EXAMPLES)]
pub struct Check {
    /// Unit names, as systemctl takes them ("web" is web.service); or files, which are those with a / in them
    #[arg(required = true, value_name = "UNIT|FILE")]
    pub units: Vec<String>,

    /// Ask the calling user's service manager
    #[arg(long)]
    pub user: bool,

    /// Install the drop-ins, and have systemd read them
    #[arg(long)]
    pub write: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}
