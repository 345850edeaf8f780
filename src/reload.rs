//! `procroll reload`: has a wrapper unit rolled, waits, and tells what came of it.
//!
//! From a terminal it queues the reload job that `systemctl reload` would, and says why it failed if it does. As the
//! command of that job (`ExecReload=`, for a systemd without Type=notify-reload) it asks the unit's procroll.

use std::io;
use std::path::Path;

use anyhow::anyhow;

use crate::cli;
use crate::control::{self, Outcome};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::manager::Signals;
use crate::privileges;
use crate::run::own_unit;
use crate::systemd::{Bus, Error, Link, Place, job, place};

/// Rolls, and returns when that is over, with what to exit with.
///
/// # Errors
/// If the roll failed and nobody else has said so, with how it failed; or could not be asked for.
pub async fn reload(reload: &cli::Reload, place: Place) -> Result<ExitStatus, Fatal> {
    privileges::step_back()?;
    match &reload.unit {
        Some(unit) => {
            own_unit::heed().await?;
            by_job(&Bus::new(place).connect().await?, &service(unit)).await
        }
        None => by_asking(&place).await,
    }
}

/// `web` is `web.service`, as for systemctl.
fn service(name: &str) -> String {
    if name.ends_with(".service") { name.to_owned() } else { format!("{name}.service") }
}

async fn by_job(link: &Link, unit: &str) -> Result<ExitStatus, Fatal> {
    let place = link.place();
    if !is_wrapper(link, unit).await? {
        let error = anyhow!(
            "{unit} is not active, or does not run procroll, so its reload is no roll. See {}",
            place.systemctl(format!("status {unit}"))
        );
        return Err(Fatal { exit: ExitStatus::UnitRefused, error });
    }
    let result = job::reload(link, unit).await.map_err(|error| match error {
        Error::Other(why) => {
            let manager = if place.user.is_some() { " --user" } else { "" };
            let error = anyhow!("{unit} can't be reloaded: {why} See \"procroll check{manager} {unit}\"");
            Fatal { exit: ExitStatus::UnitRefused, error }
        }
        error @ Error::Lost(_) => {
            let error = anyhow!("{error}. See {}", place.systemctl(format!("status {unit}")));
            Fatal { exit: ExitStatus::NoManager, error }
        }
        other => other.into(),
    })?;
    let status = link.service(unit).await.or_exit(ExitStatus::Internal)?.status_text().await.unwrap_or_default();
    if result == "done" {
        tracing::info!("{status}");
        return Ok(ExitStatus::Success);
    }
    let error = anyhow!(
        "{unit} was not rolled (its reload job: {result}). {status}. See {}",
        place.systemctl(format!("status {unit}"))
    );
    Err(Fatal { exit: ExitStatus::Failure, error })
}

/// Whether the unit is up and its command is a program of this one's name. Somebody else's reload is no roll.
async fn is_wrapper(link: &Link, unit: &str) -> Result<bool, Fatal> {
    let runs = async {
        if !link.is_loaded(unit).await? {
            return Ok(false);
        }
        if matches!(link.unit(unit).await?.active_state().await?.as_str(), "inactive" | "failed") {
            return Ok(false);
        }
        let commands = link.service(unit).await?.exec_start_ex().await?;
        Ok(commands.iter().any(|(program, ..)| Path::new(program).ends_with("procroll")))
    };
    runs.await.map_err(|error: Error| error.into())
}

/// As a unit's `ExecReload=`. Needs no bus.
async fn by_asking(place: &Place) -> Result<ExitStatus, Fatal> {
    let Some(unit) = place::service_of_this_process() else {
        return Err(Fatal::usage("reload: no unit is named, and this is no unit's ExecReload="));
    };
    // A stop of the unit signals this process as well, by the unit's KillSignal=. If it ended by that, or with an error,
    // the unit would count as failed: the answer ends it, or the unit's procroll does.
    let _deaf = Signals::all_ignored();
    match control::ask(place, &unit).await {
        Ok(Outcome::Serves | Outcome::Stopping) => Ok(ExitStatus::Success),
        // The unit's procroll has logged it, with all there is to say.
        Ok(Outcome::Failed(why)) => {
            tracing::debug!("{why}");
            Ok(ExitStatus::Failure)
        }
        // It was killed, say. What became of the roll is for the next one to find out.
        Err(error) if control::is_end(&error) => {
            let error = anyhow!(
                "the procroll of {unit} ended before the roll was over. See {}",
                place.systemctl(format!("status {unit}"))
            );
            Err(Fatal { exit: ExitStatus::Failure, error })
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let error = anyhow!(
                "not allowed to ask the procroll of {unit} for a roll: the unit runs this as another user. \
                 Put a + in front of the command: ExecReload=+/usr/bin/procroll reload"
            );
            Err(Fatal { exit: ExitStatus::NotAllowed, error })
        }
        Err(error) => {
            let error = anyhow!(
                "the procroll of {unit} does not answer: {error}. It has to be up, and to need no ExecReload= it has to \
                 have Type=notify-reload. See {}",
                place.systemctl(format!("status {unit}"))
            );
            Err(Fatal { exit: ExitStatus::UnitRefused, error })
        }
    }
}
