//! Stops and signals generations, clears them away, and finds those that an earlier procroll left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::{Context, Origin, log};
use crate::roll::{Event, Generation, Inherited, Standing};
use crate::systemd::generation::{State, Watched};
use crate::systemd::{Error, Link, folder};

/// How long clearing away a dead unit may take. It is not worth keeping anybody waiting for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks systemd to stop the unit.
pub(super) async fn stop(context: Arc<Context>, generation: Generation) {
    let unit = &context.unit(generation);
    insist(&context, "stop", unit, |link| async move { link.stop_unit(unit).await }).await;
}

/// Kills all processes of the unit.
pub(super) async fn kill(context: Arc<Context>, generation: Generation) {
    let unit = &context.unit(generation);
    insist(&context, "kill", unit, |link| async move { link.kill_unit(unit).await }).await;
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
        link.stop_unit(unit).await?;
        let mut watched = Watched::now(link.clone(), unit).await?;
        watched.until(|state| state.standing == Standing::Dead).await?;
        clear(&link, unit).await
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
            Err(error) if error.is_about_the_connection() => {}
            Err(error) => return log(&format!("can't {what}"), unit, &error),
        }
    }
}

/// Makes systemd forget the unit, of which nothing runs, and removes its files.
pub(super) async fn forget(context: Arc<Context>, generation: Generation) {
    let unit = context.unit(generation);
    let cleared = tokio::time::timeout(PATIENCE, async {
        let link = context.bus.insist().await;
        clear(&link, &unit).await
    });
    match cleared.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log("can't clear away", &unit, &error),
        Err(_) => tracing::warn!(
            "{unit} is still listed. Type {}",
            context.bus.place.systemctl(format!("reset-failed {unit}"))
        ),
    }
    context.tell(Event::Gone(generation));
}

async fn clear(link: &Link, unit: &str) -> Result<(), Error> {
    if !link.is_loaded(unit).await? {
        return Ok(());
    }
    let manager = link.manager().await?;
    let mut watched = Watched::now(link.clone(), unit).await?;
    let is_over = |state: &State| state.standing == Standing::Dead && !state.exited;
    if !is_over(&watched.next().await?) {
        // Of one that ended nothing runs, unless somebody has started it anew.
        link.stop_unit(unit).await?;
        watched.until(is_over).await?;
    }
    // It fails where there is nothing to do.
    let _ = manager.reset_failed_unit(unit).await;
    // Each watch there was has a reference of its own.
    while manager.unref_unit(unit).await.is_ok() {}
    Ok(())
}

/// The generations that are loaded and carry the mark of this service. Others of such a name are somebody else's.
pub(super) async fn survey(context: &Context) -> anyhow::Result<Vec<Inherited>> {
    // Nobody takes over from a caller, who is gone when procroll is.
    let Origin::Wrapper { settings, .. } = &context.origin else { return Ok(Vec::new()) };
    let link = context.bus.connect().await?;
    let (base, owner, place) = (context.origin.base(), context.origin.owner(), &context.bus.place);
    let is_ours = |unit: &str| folder::owner(place, unit).as_deref() == Some(owner.as_str());
    let listed = link.manager().await?.list_units_by_patterns(&[], &[&base.pattern()]).await?;
    let mut left = Vec::new();
    for (unit, ..) in &listed {
        let Some(generation) = base.number(unit).filter(|_| is_ours(unit)) else { continue };
        let state = Watched::now(link.clone(), unit).await?.next().await?;
        left.push(Inherited { generation, standing: state.standing, settle: settings.settle });
    }
    // Files of a start that procroll did not live to ask for.
    folder::remove_scratch(place, &owner).context("can't remove what was left of a start")?;
    let started = |unit: &String| listed.iter().any(|(listed, ..)| listed == unit);
    for unit in folder::all(place).filter(|unit| base.number(unit).is_some() && is_ours(unit) && !started(unit)) {
        folder::remove(place, &unit).with_context(|| format!("can't remove what was left of {unit}"))?;
    }
    Ok(left)
}
