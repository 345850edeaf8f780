//! Whether the new generation starts beside the old one.

use clap::ValueEnum;

/// How one generation follows another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// The new one is up before the old one goes.
    #[default]
    Overlap,
    /// The old one is gone before the new one starts, for what two of can't live at once.
    Handover,
}
