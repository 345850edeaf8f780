//! Where generations come from: a wrapper unit, read afresh each time, or a command line.

use crate::settings::{BaseName, Settings, WrapperName};

/// What generations are made from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// procroll is the main process of this unit.
    Wrapper {
        /// Its name.
        name: WrapperName,
        /// The program that its `ExecStart=` runs, which is procroll.
        program: String,
        /// What the unit said when procroll began. Each start reads it anew; only the name stays.
        settings: Settings,
    },
    /// procroll was called by somebody.
    Terminal {
        /// What to name the generations after.
        base: BaseName,
        /// What the command line said.
        settings: Settings,
    },
}

impl Origin {
    /// What generations are named after.
    pub fn base(&self) -> &BaseName {
        match self {
            Self::Wrapper { name, settings, .. } => settings.unit.as_ref().unwrap_or(name.base()),
            Self::Terminal { base, .. } => base,
        }
    }

    /// Whose generations they are, for the mark that each carries.
    pub fn owner(&self) -> String {
        match self {
            Self::Wrapper { name, .. } => name.to_string(),
            Self::Terminal { .. } => format!("pid {}", std::process::id()),
        }
    }
}
