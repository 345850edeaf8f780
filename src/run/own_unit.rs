//! What the unit that procroll runs in says of procroll's arguments, for what reads them and not the unit.

use std::fs;

use crate::cli;
use crate::exit::Fatal;
use crate::systemd::wrapper::{self, Own};
use crate::systemd::{Bus, Link, Place, place};

/// In a unit the arguments hold what the application's environment made of them. Where that could have something done as root,
/// it is the unit's text that counts: there must be no variable among procroll's own.
///
/// # Errors
/// That there is one, or that systemd can't be asked.
pub async fn heed() -> Result<(), Fatal> {
    if rustix::process::geteuid().is_root() && place::likely_own_service().is_some() {
        find(&Bus::new(Place::find(false)).connect().await?).await?;
    }
    Ok(())
}

/// The unit that procroll runs in, if it does.
///
/// # Errors
/// The same.
pub async fn find(link: &Link) -> Result<Option<Own>, Fatal> {
    let Some(own) = wrapper::own(link).await? else { return Ok(None) };
    // A shell, say, has its own arguments.
    let executed = fs::read_link("/proc/self/exe").ok();
    let is_own = executed.is_some() && fs::canonicalize(&own.program).ok() == executed;
    if is_own && rustix::process::geteuid().is_root() {
        cli::refuse_variables(&own.arguments, own.expands_variables)?;
    }
    Ok(Some(own))
}
