//! `procroll guard`: what a guard does when systemd stops it.
//!
//! Up to systemd 256 no tie between a wrapper and its generations tells a crash of procroll, which they are to outlive,
//! from the wrapper's end, which is theirs as well. So a transient unit stands between them, the
//! [guard](crate::systemd::guard), which has no process and goes down whenever the wrapper does. Its `ExecStop=` is this:
//! it looks what becomes of the wrapper ([`outage`]), and then either stops the generations or puts the guard in place
//! again. The next procroll waits for that before it takes over.

mod outage;

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use outage::{Outage, Verdict};

use crate::control;
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::privileges;
use crate::roll::Standing;
use crate::settings::WrapperName;
use crate::systemd::generation::{State, Watched};
use crate::systemd::guard::Seen;
use crate::systemd::{Bus, Error, Link, Place, folder, guard, systemctl};

/// How long the bus may take to let us in. systemctl needs none.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long systemd may be away before it counts as gone.
const AWAY: Duration = Duration::from_secs(5);
/// Without a bus it takes looking again and again: how soon, and how seldom at last.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Looks after the generations of `wrapper`, which is going down, until it is clear what they are to do.
///
/// # Errors
/// A name that is no wrapper's; or the guard can't be put in place again.
pub async fn guard(wrapper: &str, place: Place) -> Result<(), Fatal> {
    privileges::step_back()?;
    let wrapper: WrapperName = wrapper.parse().or_exit(ExitStatus::Usage)?;
    let guard = Guard { unit: wrapper.to_string(), wrapper, bus: Bus::new(place) };
    let mut outage = Outage::default();
    match guard.watch(|seen| outage.verdict(seen)).await {
        Verdict::Keep => guard.rise().await?,
        Verdict::Stop => return guard.stop().await,
    }
    // A stop that came while the guard was down has not reached it.
    match guard.watch(|seen| outage.verdict(seen)).await {
        Verdict::Keep => Ok(()),
        Verdict::Stop => guard.stop().await,
    }
}

struct Guard {
    bus: Bus,
    wrapper: WrapperName,
    /// The wrapper's name.
    unit: String,
}

impl Guard {
    /// Looks at the wrapper each time that something about it has changed, until that is enough.
    async fn watch<T>(&self, mut enough: impl FnMut(&Seen) -> Option<T>) -> T {
        let mut pause = PAUSE;
        loop {
            match self.watch_by_bus(&mut enough).await {
                Ok(enough) => return enough,
                Err(error) => tracing::debug!("looking at {} without a bus: {error}", self.unit),
            }
            match systemctl::look(&self.bus.place, &self.unit, &guard::name(&self.wrapper)).await {
                Ok(seen) => {
                    if let Some(enough) = enough(&seen) {
                        return enough;
                    }
                }
                Err(error) => tracing::debug!("systemctl: {error}"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn watch_by_bus<T>(&self, enough: &mut impl FnMut(&Seen) -> Option<T>) -> Result<T, Error> {
        let link = link(&self.bus).await?;
        let mut changes = guard::changes(&link, &self.wrapper).await?;
        loop {
            if let Some(enough) = enough(&guard::look(&link, &self.wrapper).await?) {
                return Ok(enough);
            }
            // A word of it may be lost when systemd reads its units anew. All that have come mean no more than the first, and
            // those that nobody takes would block the connection.
            let mut pause = LONGEST_PAUSE;
            while let Ok(change) = timeout(pause, changes.next()).await {
                change.ok_or_else(|| Error::Unreachable("systemd has left the bus".to_owned()))?;
                pause = Duration::ZERO;
            }
        }
    }

    /// Puts the guard in place again: the job that stops it becomes one that starts it as well.
    async fn rise(&self) -> Result<(), Fatal> {
        let name = guard::name(&self.wrapper);
        let by_bus = async { guard::restart(&link(&self.bus).await?, &name).await };
        if let Err(error) = by_bus.await {
            tracing::debug!("{error}");
            let restarted = systemctl::run(&self.bus.place, &["restart", "--no-block", &name]).await;
            restarted.or_exit(ExitStatus::Internal)?;
        }
        Ok(())
    }

    /// Has the guard end with this.
    async fn stay_down(&self) {
        let name = guard::name(&self.wrapper);
        let by_bus = async { link(&self.bus).await?.stop_unit(&name).await };
        if by_bus.await.is_err()
            && let Err(error) = systemctl::run(&self.bus.place, &["stop", "--no-block", &name]).await
        {
            tracing::warn!("{error}");
        }
    }

    /// Stops the generations, and removes what procroll does not live to.
    async fn stop(&self) -> Result<(), Fatal> {
        stop_generations(&self.bus, &self.unit).await;
        // procroll may have been about to start one more. Another one that has been started looks after the rest itself.
        let is_leaving = |seen: &Seen| matches!(seen.job.as_deref(), Some("stop" | "restart"));
        let over = |seen: &Seen| seen.stays_down() || seen.hears() && !is_leaving(seen);
        if self.watch(|seen| over(seen).then(|| seen.stays_down())).await {
            // What stops it may be one half of a restart.
            self.stay_down().await;
            stop_generations(&self.bus, &self.unit).await;
            control::clear(&self.bus.place, &self.unit);
            if let Err(error) = folder::remove_scratch(&self.bus.place, &self.unit) {
                tracing::warn!("can't remove what was left of a start: {error}");
            }
        }
        Ok(())
    }
}

/// Has systemd stop all generations of the wrapper `unit`, and count their time: which ones. One that failed stays to be looked
/// at.
pub async fn stop_generations(bus: &Bus, unit: &str) -> Vec<String> {
    let place = &bus.place;
    let ours = |one: &String| folder::owner(place, one).as_deref() == Some(unit);
    let generations: Vec<_> = folder::all(place).filter(ours).collect();
    if generations.is_empty() {
        return generations;
    }
    if let Err(error) = stop_by_bus(bus, &generations).await {
        tracing::debug!("stopping them without a bus: {error}");
        let command: Vec<_> =
            ["stop", "--no-block"].into_iter().chain(generations.iter().map(String::as_str)).collect();
        if let Err(error) = systemctl::run(place, &command).await {
            tracing::warn!("{error}");
        }
    }
    generations
}

/// Returns when these units, which were asked to stop, have, or one of them does not: somebody's restart takes the place of a
/// stop. Whether they have.
///
/// # Errors
/// If systemd can't be asked.
pub async fn have_stopped(bus: &Bus, units: &[String]) -> Result<bool, Error> {
    for unit in units {
        if until(bus, unit, |state| state.standing != Standing::Deactivating).await?.standing != Standing::Dead {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns when the unit is in a state like this. A systemd that is away, to execute itself anew, say, is asked again for a
/// while.
async fn until(bus: &Bus, unit: &str, like: impl Fn(&State) -> bool) -> Result<State, Error> {
    let mut away_since = Instant::now();
    loop {
        let reached = async {
            let mut watched = Watched::now(link(bus).await?, unit).await?;
            let reached = watched.until(&like).await;
            away_since = Instant::now();
            reached
        };
        match reached.await {
            Err(error) if error.is_about_the_connection() && away_since.elapsed() < AWAY => bus.pause().await,
            reached => return reached,
        }
    }
}

async fn stop_by_bus(bus: &Bus, units: &[String]) -> Result<(), Error> {
    let link = link(bus).await?;
    for unit in units {
        link.stop_unit(unit).await?;
    }
    for unit in units {
        // From then on nobody takes it for one that serves.
        let begun = |state: &State| matches!(state.standing, Standing::Deactivating | Standing::Dead);
        if let Ok(lost) = timeout(PATIENCE, until(bus, unit, begun)).await {
            lost?;
        }
    }
    Ok(())
}

async fn link(bus: &Bus) -> Result<Link, Error> {
    let connected = timeout(PATIENCE, bus.connect()).await;
    connected.map_err(|_| Error::Unreachable("the bus does not answer".to_owned()))?
}
