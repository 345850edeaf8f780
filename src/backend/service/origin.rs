//! Where generations come from: a wrapper unit, read afresh each time, or a command line. And whether their name is free.

use crate::backend::names;
use crate::check;
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::settings::{BaseName, Settings, WrapperName};
use crate::systemd::wrapper::Seen;
use crate::systemd::{Error, Link, Place, folder};

/// What generations are made from.
#[derive(Debug)]
pub enum Origin {
    /// procroll is the main process of this unit.
    Wrapper {
        /// Its name.
        name: WrapperName,
        /// The program that its `ExecStart=` runs, which is procroll.
        program: String,
        /// A [guard](crate::guard) stops its generations with it.
        guarded: bool,
        /// What its files say.
        seen: Seen,
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

    /// What was asked for when procroll began.
    pub fn settings(&self) -> &Settings {
        match self {
            Self::Wrapper { settings, .. } | Self::Terminal { settings, .. } => settings,
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

/// What the active generations of `owner` are named after, if there are any. An earlier procroll may have been told another
/// name than this one.
///
/// # Errors
/// If systemd can't be asked.
pub async fn active_base(place: &Place, link: &Link, owner: &str) -> Result<Option<BaseName>, Error> {
    for unit in folder::all(place).filter(|unit| folder::owner(place, unit).as_deref() == Some(owner)) {
        if link.is_loaded(&unit).await?
            && !matches!(link.unit(&unit).await?.active_state().await?.as_str(), "inactive" | "failed" | "deactivating")
            && let Some(base) = BaseName::of(&unit)
        {
            return Ok(Some(base));
        }
    }
    Ok(None)
}

/// Refuses a name of which somebody else has a template, since systemd would take generations for instances of that; or
/// generations.
pub async fn refuse_taken(place: &Place, link: &Link, origin: &Origin) -> Result<(), Fatal> {
    let (base, template) = (origin.base(), origin.base().template());
    let manager = link.manager().await.or_exit(ExitStatus::Internal)?;
    if manager.get_unit_file_state(&template).await.is_ok() {
        return Err(names::taken(place, &check::taken_by_template(base), &format!("cat {template}")));
    }
    names::claim(link, &base.pattern(), |unit| base.number(unit).is_some(), &origin.owner()).await?;
    Ok(())
}
