//! Starts one generation.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::{oneshot, watch};
use zbus::Variant;

use super::origin::Origin;
use super::prepare::{NotStarted, Prepared, prepare, prepare_again};
use super::{Asked, Context, attend, clear};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::roll::{Event, Generation, Pace, Refusal};
use crate::settings::Strategy;
use crate::systemd::error::is_about_the_connection;
use crate::systemd::generation::Watched;
use crate::systemd::manager::Property;
use crate::systemd::{Error, Link, folder};

/// The start of a generation.
pub(super) struct Start {
    /// Which one.
    pub generation: Generation,
    /// Whose settings it is to have, if not the wrapper's.
    pub of: Option<Generation>,
    /// How far it has got.
    pub asked: watch::Sender<Asked>,
    /// In a handover: when this comes all others are gone.
    pub held_back: Option<oneshot::Receiver<()>>,
}

/// Prepares and starts the generation, then attends to it.
pub(super) async fn start(context: Arc<Context>, mut start: Start) {
    let generation = start.generation;
    let begun = match begin(&context, &mut start).await {
        Ok(begun) => begun,
        Err(NotStarted::Taken) => return context.tell(Event::Taken(generation)),
        Err(NotStarted::Refused(fatal)) => return refuse(&context, generation, fatal),
    };
    context.tell(Event::Started { generation, pace: begun.prepared.pace });
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
    // That systemd could not be asked is no word about the unit, and Restart= may try again.
    let exit = if is_about_the_connection(&fatal.error) { ExitStatus::NoManager } else { fatal.exit };
    let refusal = Refusal { reason: fatal.to_string(), exit };
    context.tell(Event::Refused(generation, refusal));
}

/// A generation that systemd was asked to start.
struct Begun {
    prepared: Prepared,
    /// None if the connection broke meanwhile. The start may have been heard or not: attending to it will tell.
    watched: Option<Watched>,
}

/// How long a start is tried again that systemd knows nothing of yet. A systemd that executes itself anew, or a bus that is
/// restarted, is back by then; whoever waits for the roll is told of any other.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

async fn begin(context: &Context, start: &mut Start) -> Result<Begun, NotStarted> {
    let patience = Patience::of(start);
    let (prepared, mut ready) = loop {
        match prepare_one(context, start).await {
            Ok(done) => break done,
            Err(error) => patience.pause(context, start, error).await?,
        }
    };
    if prepared.strategy == Strategy::Handover {
        hold_back(context, start, prepared.pace).await?;
    }
    let patience = Patience::of(start);
    loop {
        match launch(context, start, &prepared, ready.take()).await {
            Ok(watched) => return Ok(Begun { prepared, watched }),
            Err(error) => patience.pause(context, start, error).await?,
        }
    }
}

/// How long something is tried again while systemd can't be reached.
struct Patience {
    began: Instant,
    /// None for as long as it takes.
    most: Option<Duration>,
}

impl Patience {
    /// What is to run again in a handover has to: nobody serves, and nothing else would.
    fn of(start: &Start) -> Self {
        Self { began: Instant::now(), most: start.of.is_none().then_some(PATIENCE) }
    }

    /// Returns when the next time has come, if there is one.
    async fn pause(&self, context: &Context, start: &Start, error: NotStarted) -> Result<(), NotStarted> {
        match error {
            NotStarted::Refused(fatal)
                if is_about_the_connection(&fatal.error)
                    && self.most.is_none_or(|most| self.began.elapsed() < most)
                    && !is_to_stop(&start.asked) =>
            {
                tracing::debug!("starting {} anew: {fatal}", context.unit(start.generation));
                start.asked.send_replace(Asked::No);
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            error => Err(error),
        }
    }
}

/// Somebody waits for the answer to make a call about the unit.
fn is_to_stop(asked: &watch::Sender<Asked>) -> bool {
    asked.receiver_count() > 1
}

/// A connection, and a watch that comes before the start: what happens in between would go unheard.
type Ready = (Link, Watched);

async fn get_ready(context: &Context, generation: Generation) -> Result<Ready, NotStarted> {
    let link = context.bus.connect().await.map_err(Fatal::from)?;
    let watched = Watched::before_start(link.clone(), &context.unit(generation)).await.map_err(Fatal::from)?;
    Ok((link, watched))
}

/// What is prepared, and what to start it by, unless that has to wait.
async fn prepare_one(context: &Context, start: &Start) -> Result<(Prepared, Option<Ready>), NotStarted> {
    let link = context.bus.connect().await.map_err(Fatal::from)?;
    let prepared = async {
        match start.of {
            Some(of) => prepare_again(context, &link, start.generation, of).await,
            None => prepare(context, &link, start.generation).await,
        }
    };
    let (prepared, ready) = tokio::try_join!(prepared, get_ready(context, start.generation))?;
    let ready = (prepared.strategy == Strategy::Overlap).then_some(ready);
    Ok((prepared, ready))
}

/// In a handover all others have to be gone before the start. What they run is kept while they are there.
async fn hold_back(context: &Context, start: &mut Start, pace: Pace) -> Result<(), NotStarted> {
    if start.of.is_none() {
        let kept = context.keep().context("can't read what runs now, to run it again if need be");
        kept.or_exit(ExitStatus::Internal)?;
    }
    context.tell(Event::Prepared { generation: start.generation, pace });
    if let Some(held_back) = start.held_back.take()
        && held_back.await.is_err()
    {
        // A start that is given up is dropped as a whole.
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn launch(
    context: &Context,
    start: &Start,
    prepared: &Prepared,
    ready: Option<Ready>,
) -> Result<Option<Watched>, NotStarted> {
    let (link, watched) = match ready {
        Some(ready) => ready,
        None => get_ready(context, start.generation).await?,
    };
    let (unit, place) = (context.unit(start.generation), &context.bus.place);
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
    start.asked.send_replace(Asked::Unanswered);
    let watched = match ask(context, &link, &unit).await {
        Ok(()) => Ok(Some(watched)),
        Err(error) if error.is_about_the_connection() => match whose(context, &unit).await {
            Whose::Ours => Ok(None),
            Whose::Others => Err(NotStarted::Taken),
            // What has been said over a connection is heard before one made later, or never.
            Whose::Nobodys => Err(NotStarted::Refused(error.into())),
        },
        Err(Error::UnitExists(_)) => Err(NotStarted::Taken),
        Err(error) => Err(NotStarted::Refused(error.into())),
    };
    let watched = watched.inspect_err(|_| drop(folder::remove(place, &unit)))?;
    start.asked.send_replace(Asked::Answered);
    Ok(watched)
}

/// All that the unit is, is in its drop-ins; over the bus go only the caller's descriptors, and a reference that keeps
/// the unit for as long as this connection lasts, so that there is an answer to how it ended.
async fn ask(context: &Context, link: &Link, unit: &str) -> Result<(), Error> {
    let mut properties: Vec<Property<'_>> = vec![("AddRef", Variant::from(true))];
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    if let Origin::Terminal { settings, .. } = &context.origin {
        // A descriptor wins over what the unit says, so somebody who says where output goes gets none. Errors go with
        // the output unless they are told otherwise.
        let says = |key: &str| settings.overrides.iter().any(|one| one.key == key);
        if !says("StandardOutput") {
            properties.push(("StandardOutputFileDescriptor", Variant::from(zbus::Fd::from(&stdout))));
        }
        if !says("StandardOutput") && !says("StandardError") {
            properties.push(("StandardErrorFileDescriptor", Variant::from(zbus::Fd::from(&stderr))));
        }
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

/// Whose the unit of a name is.
enum Whose {
    Ours,
    Others,
    Nobodys,
}

/// Whose the unit is. One that has been made by others shows in that it has nothing from its folder: that is procroll's.
async fn whose(context: &Context, unit: &str) -> Whose {
    let folder = folder::path(&context.bus.place, unit);
    match applied(context, unit).await {
        Ok(Some(read)) if read.iter().any(|path| Path::new(path).starts_with(&folder)) => Whose::Ours,
        Ok(None) => Whose::Nobodys,
        Ok(Some(_)) | Err(_) => Whose::Others,
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
            Err(error) if error.is_about_the_connection() => context.bus.pause().await,
            read => return read,
        }
    }
}
