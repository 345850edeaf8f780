//! Starts one generation.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use tokio::sync::watch;
use zbus::Variant;

use super::origin::Origin;
use super::prepare::{NotStarted, Prepared, prepare};
use super::{Asked, Context, attend, clear};
use crate::exit::{ExitStatus, Fatal};
use crate::roll::{Event, Generation, Refusal};
use crate::systemd::generation::Watched;
use crate::systemd::manager::Property;
use crate::systemd::{Error, Link, folder};

/// Prepares and starts the generation, then attends to it.
pub(super) async fn start(context: Arc<Context>, generation: Generation, asked: watch::Sender<Asked>) {
    let begun = match begin(&context, generation, &asked).await {
        Ok(begun) => begun,
        Err(NotStarted::Taken) => return context.tell(Event::Taken(generation)),
        Err(NotStarted::Refused(fatal)) => return refuse(&context, generation, fatal),
    };
    context.tell(Event::Started { generation, settle: begun.prepared.settle });
    // Only now: while systemd starts the unit, each question to it would hold that up.
    let watched = match begun.watched {
        Some(mut watched) => watched.started().await.ok().map(|()| watched),
        None => None,
    };
    if let Err(error) = confirm(&context, generation, &begun.prepared).await {
        // systemd has started something else than what was composed: it must not serve.
        clear::undo(&context, generation).await;
        return refuse(&context, generation, Fatal { exit: ExitStatus::UnitRefused, error });
    }
    attend::attend(context, generation, watched).await;
}

fn refuse(context: &Context, generation: Generation, fatal: Fatal) {
    let refusal = Refusal { reason: fatal.to_string(), exit: fatal.exit };
    context.tell(Event::Refused(generation, refusal));
}

/// A generation that systemd was asked to start.
struct Begun {
    prepared: Prepared,
    /// None if the connection broke meanwhile. The start may have been heard or not: attending to it will tell.
    watched: Option<Watched>,
}

async fn begin(context: &Context, generation: Generation, asked: &watch::Sender<Asked>) -> Result<Begun, NotStarted> {
    let link = context.bus.connect().await.map_err(fatal)?;
    let unit = context.unit(generation);
    // The watch comes before the start: what happens in between would go unheard.
    let watch = async { Watched::before_start(link.clone(), &unit).await.map_err(|error| fatal(error).into()) };
    let (prepared, watched) = tokio::try_join!(prepare(context, &link, generation), watch)?;
    let place = &context.bus.place;
    folder::write(place, &context.origin.owner(), &unit, &prepared.drop_ins).map_err(|error| {
        let exit = match error.kind() {
            // Another procroll is about to start a unit of this name.
            ErrorKind::AlreadyExists => return NotStarted::Taken,
            ErrorKind::PermissionDenied => ExitStatus::NotAllowed,
            _ => ExitStatus::Internal,
        };
        let folder = folder::path(place, &unit);
        Fatal { exit, error: anyhow::Error::new(error).context(format!("can't write {}", folder.display())) }.into()
    })?;
    asked.send_replace(Asked::Unanswered);
    let watched = match ask(context, &link, &unit).await {
        Ok(()) => Some(watched),
        Err(error) if error.is_about_the_connection() && !is_somebody_elses(context, &unit).await => None,
        Err(error) => {
            let _ = folder::remove(place, &unit);
            return Err(match error {
                Error::UnitExists(_) | Error::Lost(_) | Error::Unreachable(_) => NotStarted::Taken,
                error => NotStarted::Refused(fatal(error)),
            });
        }
    };
    asked.send_replace(Asked::Answered);
    Ok(Begun { prepared, watched })
}

/// All that the unit is, is in its drop-ins; over the bus go only the caller's descriptors, and a reference that keeps
/// the unit for as long as this connection lasts, so that there is an answer to how it ended.
async fn ask(context: &Context, link: &Link, unit: &str) -> Result<(), Error> {
    let mut properties: Vec<Property<'_>> = vec![("AddRef", Variant::from(true))];
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    if let Origin::Terminal { .. } = context.origin {
        properties.push(("StandardOutputFileDescriptor", Variant::from(zbus::Fd::from(&stdout))));
        properties.push(("StandardErrorFileDescriptor", Variant::from(zbus::Fd::from(&stderr))));
    }
    link.manager().await?.start_transient_unit(unit, "fail", &properties, &[]).await?;
    Ok(())
}

/// Whether systemd read just the drop-ins that were composed for the unit.
async fn confirm(context: &Context, generation: Generation, prepared: &Prepared) -> anyhow::Result<()> {
    let unit = context.unit(generation);
    // One that is over already may have been unloaded.
    let Some(read) = applied(context, &unit).await? else { return Ok(()) };
    let folder = folder::path(&context.bus.place, &unit);
    for path in &read {
        let ours = prepared.drop_ins.iter().any(|drop_in| folder.join(&drop_in.name) == Path::new(path));
        ensure!(ours, "systemd applied {path} to {unit}, which is not the wrapper's");
    }
    ensure!(
        read.len() == prepared.drop_ins.len(),
        "systemd read {} of the {} files in {}",
        read.len(),
        prepared.drop_ins.len(),
        folder.display()
    );
    Ok(())
}

/// Whether a unit of this name has been made by others, which shows in that it has nothing from its folder: that is
/// procroll's.
async fn is_somebody_elses(context: &Context, unit: &str) -> bool {
    let folder = folder::path(&context.bus.place, unit);
    match applied(context, unit).await {
        Ok(Some(read)) => !read.iter().any(|path| Path::new(path).starts_with(&folder)),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// The drop-ins that systemd has applied to a unit; none if it has not loaded it.
async fn applied(context: &Context, unit: &str) -> Result<Option<Vec<String>>, Error> {
    loop {
        let link = context.bus.insist().await;
        let read = async {
            match link.is_loaded(unit).await? {
                true => link.drop_in_paths(unit).await.map(Some),
                false => Ok(None),
            }
        };
        match read.await {
            Err(error) if error.is_about_the_connection() => {}
            read => return read,
        }
    }
}

fn fatal(error: Error) -> Fatal {
    Fatal { exit: error.exit(), error: error.into() }
}
