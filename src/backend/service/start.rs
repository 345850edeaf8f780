//! Starts one generation.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use zbus::Variant;

use super::origin::Origin;
use super::prepare::{NotStarted, Prepared, prepare};
use super::{Context, attend, clear};
use crate::exit::{ExitStatus, Fatal};
use crate::roll::{Event, Generation, Refusal};
use crate::systemd::generation::Watched;
use crate::systemd::manager::Property;
use crate::systemd::{Error, Link, folder};

/// Prepares and starts the generation, then attends to it. `asked` is set when systemd is asked to start it.
pub(super) async fn start(context: Arc<Context>, generation: Generation, asked: Arc<AtomicBool>) {
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

async fn begin(context: &Context, generation: Generation, asked: &AtomicBool) -> Result<Begun, NotStarted> {
    let link = context.bus.connect().await.map_err(fatal)?;
    let unit = context.unit(generation);
    // The watch comes before the start: what happens in between would go unheard.
    let watch = async { Watched::before_start(link.clone(), &unit).await.map_err(|error| fatal(error).into()) };
    let (prepared, watched) = tokio::try_join!(prepare(context, &link, generation), watch)?;
    let place = &context.bus.place;
    folder::write(place, &unit, &prepared.drop_ins).map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ExitStatus::NotAllowed,
            _ => ExitStatus::Internal,
        };
        let folder = folder::path(place, &unit);
        Fatal { exit, error: anyhow::Error::new(error).context(format!("can't write {}", folder.display())) }
    })?;
    asked.store(true, Ordering::Relaxed);
    match ask(context, &link, &unit).await {
        Ok(()) => Ok(Begun { prepared, watched: Some(watched) }),
        Err(error) if error.is_about_the_connection() => Ok(Begun { prepared, watched: None }),
        Err(error) => {
            let _ = folder::remove(place, &unit);
            Err(match error {
                Error::UnitExists(_) => NotStarted::Taken,
                error => NotStarted::Refused(fatal(error)),
            })
        }
    }
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
    let read = loop {
        let link = context.bus.insist().await;
        match link.drop_in_paths(&unit).await {
            Ok(read) => break read,
            Err(error) if error.is_about_the_connection() => continue,
            Err(error) => return Err(error.into()),
        }
    };
    let folder = folder::path(&context.bus.place, &unit);
    for path in &read {
        let ours = prepared.drop_ins.iter().any(|drop_in| folder.join(&drop_in.name) == Path::new(path));
        ensure!(ours, "systemd applied {path} to {unit}, which is not the wrapper's");
    }
    // A unit that is over already may have been unloaded, and then has none.
    ensure!(
        read.is_empty() || read.len() == prepared.drop_ins.len(),
        "systemd read {} of the {} files in {}",
        read.len(),
        prepared.drop_ins.len(),
        folder.display()
    );
    Ok(())
}

fn fatal(error: Error) -> Fatal {
    Fatal { exit: error.exit(), error: error.into() }
}
