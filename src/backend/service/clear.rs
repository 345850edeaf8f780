//! Stops and signals generations, clears them away, and finds those that an earlier procroll left.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, Origin, log_failure};
use crate::log::{self, About};
use crate::roll::{Event, Generation, Inherited, Standing};
use crate::settings::WrapperName;
use crate::systemd::error::if_there;
use crate::systemd::generation::{State, Watched};
use crate::systemd::{Bus, Error, Link, folder, guard};
use crate::unit;

/// How long to wait for a dead unit to be cleared away. It is not worth keeping anybody waiting for longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take until a unit that was asked to stop is on its way down, before it is asked again.
const HEEDED: Duration = Duration::from_secs(1);

/// How long to wait before systemd is asked once more for what it has refused.
const REFUSED: Duration = Duration::from_secs(5);

/// Asks systemd to stop the unit, once. What has not come of that by then is insisted on apart: whoever waits for this call to
/// be heard need not wait for that.
pub(super) async fn stop(context: Arc<Context>, generation: Generation) {
    let unit = &context.unit(generation);
    loop {
        match ask_to_stop(&context.bus.insist().await, unit).await {
            Ok(true) => return,
            Err(error) if error.is_about_the_connection() => context.bus.pause().await,
            Ok(false) | Err(_) => return context.tell_unheeded(generation),
        }
    }
}

/// Asks for a stop that nothing has come of, for as long as it takes.
pub(super) async fn stop_at_last(context: Arc<Context>, generation: Generation) {
    let unit = &context.unit(generation);
    insist(&context, "stop", unit, |link| async move { insist_on_stop(&link, unit).await }).await;
}

/// Asks systemd to stop the unit until it does, also where it refuses that at first: somebody has given the unit a
/// `RefuseManualStop=`, say, or frozen its slice.
pub(super) async fn insist_on_stop(link: &Link, unit: &str) -> Result<(), Error> {
    let mut refused = false;
    loop {
        match ask_to_stop(link, unit).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.is_about_the_connection() => return Err(error),
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    let why = format_args!("can't stop {unit}: {error}. It is tried again for as long as it takes");
                    log::warn_of(About::NotDone, unit, why);
                }
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
}

/// Asks systemd to stop the unit, and returns when it does. A stop may come to nothing: somebody cancels it, or freezes
/// the unit at that very moment.
async fn bring_down(link: &Link, unit: &str) -> Result<(), Error> {
    while !ask_to_stop(link, unit).await? {}
    Ok(())
}

/// Asks systemd to stop the unit. Whether it is on its way down soon.
async fn ask_to_stop(link: &Link, unit: &str) -> Result<bool, Error> {
    link.stop_unit(unit).await?;
    let mut watched = Watched::now(link.clone(), unit).await?;
    let down = watched.until(|state| matches!(state.standing, Standing::Deactivating | Standing::Dead));
    match tokio::time::timeout(HEEDED, down).await {
        Ok(down) => down.map(|_| true),
        Err(_) => Ok(false),
    }
}

/// Kills all processes of the unit.
pub(super) async fn kill(context: Arc<Context>, generation: Generation) {
    let unit = &context.unit(generation);
    insist(&context, "kill", unit, |link| async move { link.kill_unit(unit).await }).await;
}

/// Has the guard of a wrapper go that ends. A bus that doesn't answer is no reason to keep anybody waiting: the
/// next start finds what is left of it.
pub(super) async fn dismiss_guard(bus: &Bus, wrapper: &WrapperName) {
    let dismiss = async { guard::dismiss(&bus.connect().await?, wrapper).await };
    if bus.is_up()
        && let Ok(Err(error)) = tokio::time::timeout(HEEDED, dismiss).await
    {
        tracing::debug!("can't dismiss the guard of {wrapper}: {error}");
    }
}

/// Sends a signal to the unit's main process.
pub(super) async fn pass_on(context: Arc<Context>, generation: Generation, signal: i32) {
    let unit = &context.unit(generation);
    insist(&context, "pass a signal on to", unit, |link| async move { link.signal_main(unit, signal).await }).await;
}

/// Takes back a start: returns when nothing of it is left.
pub(super) async fn undo(context: &Context, generation: Generation) {
    let unit = &context.unit(generation);
    insist(context, "take back the start of", unit, |link| async move {
        loop {
            bring_down(&link, unit).await?;
            let mut watched = Watched::now(link.clone(), unit).await?;
            // Somebody's restart takes the place of a stop.
            let over = |state: &State| matches!(state.standing, Standing::Dead | Standing::Active);
            if watched.until(over).await?.standing == Standing::Dead {
                break;
            }
        }
        clear_away(&link, unit, &context.origin.owner()).await
    })
    .await;
}

/// Makes a call for as long as it takes to be heard.
async fn insist<F, R>(context: &Context, what: &str, unit: &str, call: F)
where
    F: Fn(Link) -> R,
    R: Future<Output = Result<(), Error>>,
{
    loop {
        match call(context.bus.insist().await).await {
            Ok(()) => return,
            Err(error) if error.is_about_the_connection() => context.bus.pause().await,
            Err(error) => return log_failure(&format!("can't {what}"), unit, &error),
        }
    }
}

/// Makes systemd forget the unit, of which nothing runs, and removes its files. What has its name by now and not its mark is
/// somebody else's.
pub(super) async fn forget(context: Arc<Context>, generation: Generation) {
    let unit = context.unit(generation);
    let mut clearing = pin!(async {
        loop {
            match clear_away(&context.bus.insist().await, &unit, &context.origin.owner()).await {
                Err(error) if error.is_about_the_connection() => context.bus.pause().await,
                cleared => return cleared,
            }
        }
    });
    let in_time = tokio::time::timeout(PATIENCE, clearing.as_mut()).await;
    context.tell(Event::Gone(generation));
    let cleared = match in_time {
        Ok(cleared) => cleared,
        Err(_) => {
            let command = context.bus.place.systemctl(format!("reset-failed {unit}"));
            log::warn_of(About::NotDone, &unit, format_args!("{unit} is still listed. If it stays so, type {command}"));
            clearing.await
        }
    };
    if let Err(error) = cleared {
        log_failure("can't clear away", &unit, &error);
    }
}

/// Makes systemd forget a generation of `owner`, of which nothing is to run any more, and removes its files.
///
/// # Errors
/// If systemd can't be asked.
pub async fn clear_away(link: &Link, unit: &str, owner: &str) -> Result<(), Error> {
    let place = link.place();
    let is_ours = || folder::owner(place, unit).as_deref() == Some(owner);
    let remove_files = || {
        // systemd has removed them with it, unless it never heard of it, or of them.
        if is_ours()
            && let Err(error) = folder::remove(place, unit)
        {
            tracing::warn!("can't remove the files of {unit}: {error}");
        }
    };
    let is_loaded = link.is_loaded(unit).await?;
    if !is_ours() {
        return Ok(());
    }
    if !is_loaded {
        remove_files();
        return Ok(());
    }
    let manager = link.manager().await?;
    loop {
        let mut watched = Watched::now(link.clone(), unit).await?;
        if !watched.next().await?.is_over() || is_started(link, unit).await? {
            // Of one that ended nothing runs, unless somebody has started it anew.
            bring_down(link, unit).await?;
            watched.until(State::is_over).await?;
        }
        if_there(manager.reset_failed_unit(unit).await)?;
        // Each watch there was has a reference of its own. A unit whose last one goes with the connection stays listed, until
        // somebody refers to it once more.
        while if_there(manager.unref_unit(unit).await)?.is_some() {}
        // Or it may be started just now, and not be unloaded for that. Once it is there is none to be started.
        if !is_started(link, unit).await? {
            if !link.is_loaded(unit).await? {
                remove_files();
            }
            return Ok(());
        }
    }
}

/// Whether the unit is up, or about to be.
async fn is_started(link: &Link, unit: &str) -> Result<bool, Error> {
    if !link.is_loaded(unit).await? {
        return Ok(false);
    }
    let unit = link.unit(unit).await?;
    let (state, job) = (if_there(unit.active_state().await)?, if_there(unit.job().await)?);
    let is_up = |state: String| !matches!(state.as_str(), "inactive" | "failed");
    Ok(state.is_some_and(is_up) || job.is_some_and(|(number, _)| number != 0))
}

/// The generations that are loaded and carry the mark of this service. Others of such a name are somebody else's. Whatever
/// else is odd about one is told, and keeps nobody from taking over the rest.
pub(super) async fn survey(context: &Context) -> Result<Vec<Inherited>, Error> {
    // Nobody takes over from a caller, who is gone when procroll is.
    let Origin::Wrapper { settings, .. } = &context.origin else { return Ok(Vec::new()) };
    let link = context.bus.connect().await?;
    let (base, owner, place) = (context.origin.base(), context.origin.owner(), &context.bus.place);
    let is_ours = |unit: &str| folder::owner(place, unit).as_deref() == Some(owner.as_str());
    let listed = link.manager().await?.list_units_by_patterns(&[], &[&base.pattern()]).await?;
    let mut left = Vec::new();
    for (unit, _, _, active_state, ..) in &listed {
        let Some(generation) = base.number(unit) else { continue };
        if is_ours(unit) {
            // What it was started with, whatever the wrapper's unit says by now.
            let mark = folder::read_own(place, unit);
            let pace = mark.as_deref().and_then(unit::pace).unwrap_or(settings.pace);
            let again = mark.as_deref().is_some_and(unit::is_again);
            left.push(Inherited { generation, standing: standing(&link, unit).await?, pace, again });
        } else if !matches!(active_state.as_str(), "inactive" | "failed") {
            tracing::info!("{unit} has no mark of {owner}, so it is somebody else's, and is left alone");
        }
    }
    left.sort_by_key(|one| one.generation);
    let runs = |one: &&Inherited| matches!(one.standing, Standing::Starting | Standing::Active);
    let run: Vec<_> = left.iter().filter(runs).map(|one| context.unit(one.generation)).collect();
    if run.len() > 1 {
        let run = run.join(", ");
        tracing::info!(
            "Found {run}: the newest serves once it has settled, until then the newest of the others that is active, \
             and the rest is stopped"
        );
    }
    // Files of a start that procroll did not live to ask for.
    if let Err(error) = folder::remove_scratch(place, &owner) {
        log::warn(About::NotDone, format_args!("can't remove what was left of a start: {error}"));
    }
    let started = |unit: &String| listed.iter().any(|(listed, ..)| listed == unit);
    for unit in folder::all(place).filter(|unit| base.number(unit).is_some() && is_ours(unit) && !started(unit)) {
        match folder::remove(place, &unit) {
            Ok(()) => tracing::info!("Removed what was left of a start of {unit} that came to nothing"),
            Err(error) => {
                log::warn_of(About::NotDone, &unit, format_args!("can't remove what was left of {unit}: {error}"))
            }
        }
    }
    Ok(left)
}

/// What a generation does. One of which that can't be told may serve or be about to: it is awaited.
async fn standing(link: &Link, unit: &str) -> Result<Standing, Error> {
    let standing = async {
        let mut watched = Watched::now(link.clone(), unit).await?;
        let state = watched.next().await?;
        // Its main process has ended and others live on, which are stopped.
        let lives_on = state.exited && watched.is_populated().await?;
        Ok::<_, Error>(if lives_on { Standing::Deactivating } else { state.standing })
    };
    match standing.await {
        Ok(standing) => Ok(standing),
        Err(error) if error.is_about_the_connection() => Err(error),
        Err(error) => {
            log_failure("can't tell what goes on in", unit, &error);
            Ok(Standing::Starting)
        }
    }
}
