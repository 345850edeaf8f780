//! `procroll guard`: its options. Nobody but a guard calls it.

use clap::Args;

/// What `procroll guard` takes.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The wrapper unit, by its full name
    #[arg(value_name = "UNIT")]
    pub unit: String,
    /// Only if the one before has not come to its end: a guard's ExecStopPost=
    #[arg(long)]
    pub if_it_failed: bool,
}
