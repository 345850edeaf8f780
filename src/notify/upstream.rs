//! procroll's own notifications: what it tells the manager of the unit it runs in, and how it makes a reload fail.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::log::{self, About};
use crate::systemd::wrapper::{self, Interrupted, Own};
use crate::systemd::{Bus, Error, Place, place};

/// How long a reload that has failed may stay without an end for want of somebody to hear that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Up, or done with a reload, whatever came of it.
    Ready,
    /// A roll has begun; systemd wants to know when.
    Reloading,
    /// On the way out.
    Stopping,
    /// It may take so much longer than the unit's timeout.
    Extend(Duration),
    /// Alive.
    Watchdog,
    /// What `systemctl status` shows.
    Status(String),
}

/// Who is to hear that a reload has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Whoever waits for the roll that has just failed: by this reload job, 0 for none. If that is not known, by the one that
    /// is running: a next one may be by then.
    Failed(Option<u32>),
    /// Whoever waits for a roll while procroll ends, which systemd would take for the end of the reload, and a good one.
    InVain,
    /// Whoever has waited for one since before procroll crashed.
    Interrupted,
    /// The same, where that had failed by then: what has been taken over runs what there was before it.
    InterruptedInVain,
}

/// Whoever waits for procroll.
pub trait Upstream {
    /// Tells all of it at once.
    fn tell(&mut self, words: &[Word]);
    /// Makes the reload that somebody waits for fail. [`Upstream::refused`] returns when that is done.
    fn refuse_reload(&mut self, waiting: Waiting);
    /// All reloads that were to be refused have been; systemd still waits to hear that the last is over. May be dropped and
    /// called again.
    fn refused(&mut self) -> impl Future<Output = ()>;
}

/// The manager of the wrapper unit. It is reached at the place that main() put into `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct Systemd {
    bus: Arc<Bus>,
    id: String,
    /// A reload is this process's own, by Type=notify-reload. That of a command is the command's to fail.
    owns_reload: bool,
    interrupted: Interrupted,
    refusals: Refusals,
}

impl Systemd {
    /// The manager of the unit that this process runs in.
    pub fn new(bus: Arc<Bus>, own: &Own, interrupted: Interrupted) -> Self {
        let (id, owns_reload) = (own.id.clone(), own.reload_signal.is_some());
        Self { bus, id, owns_reload, interrupted, refusals: Refusals::new() }
    }
}

/// Tells the manager of the unit that this process runs in, if it does.
pub fn tell(words: &[Word]) {
    if let Err(error) = sd_notify::notify(&words.iter().flat_map(states).collect::<Vec<_>>()) {
        log::warn(About::NotTold, format_args!("can't notify systemd: {error}"));
    }
}

impl Upstream for Systemd {
    fn tell(&mut self, words: &[Word]) {
        tell(words);
    }

    fn refuse_reload(&mut self, waiting: Waiting) {
        let (bus, id, interrupted) = (Arc::clone(&self.bus), self.id.clone(), self.interrupted.clone());
        let refusal = self.refusals.begin();
        let nobody = match waiting {
            Waiting::Failed(job) => !self.owns_reload || job == Some(0),
            Waiting::InVain => false,
            Waiting::Interrupted => !self.owns_reload || interrupted.jobs.is_empty() && !interrupted.in_doubt,
            Waiting::InterruptedInVain => !self.owns_reload || interrupted.in_vain.is_empty(),
        };
        if nobody {
            return refusal.end();
        }
        tokio::spawn(async move {
            // Without a bus nobody can be told, and to say that the reload is over would be taken for success: so it
            // goes on until there is one.
            loop {
                let link = bus.insist().await;
                let cancelled = match waiting {
                    Waiting::Failed(job) => wrapper::cancel_reload_job(&link, &id, job).await,
                    Waiting::InVain => wrapper::cancel_last_reload_job(&link, &id).await,
                    Waiting::Interrupted => {
                        wrapper::cancel_interrupted_job(&link, &id, &interrupted.jobs, interrupted.in_doubt).await
                    }
                    Waiting::InterruptedInVain => {
                        wrapper::cancel_interrupted_job(&link, &id, &interrupted.in_vain, false).await
                    }
                };
                match cancelled {
                    Ok(()) => break,
                    Err(error) if error.is_about_the_connection() => bus.pause().await,
                    Err(error) => {
                        let why = format_args!("can't tell whoever reloads {id} that it failed: {error}");
                        log::warn(About::NotTold, why);
                        break;
                    }
                }
            }
            refusal.end();
        });
    }

    async fn refused(&mut self) {
        self.refusals.all_done().await;
    }
}

/// Reloads that are being refused, each by a call to systemd. That of an earlier reload may still be under way when the next
/// one begins, whose end must not be told before it has been refused itself.
#[derive(Debug)]
struct Refusals {
    sender: mpsc::UnboundedSender<()>,
    done: mpsc::UnboundedReceiver<()>,
    under_way: usize,
}

/// One of them.
struct Refusal(mpsc::UnboundedSender<()>);

impl Refusal {
    fn end(self) {
        // Nobody listens only when procroll is about to end.
        let _ = self.0.send(());
    }
}

impl Refusals {
    fn new() -> Self {
        let (sender, done) = mpsc::unbounded_channel();
        Self { sender, done, under_way: 0 }
    }

    fn begin(&mut self) -> Refusal {
        self.under_way += 1;
        Refusal(self.sender.clone())
    }

    /// Returns when the last of them that is under way is done. May be dropped and called again.
    async fn all_done(&mut self) {
        // We hold a sender ourselves, so this does not end.
        while self.done.recv().await.is_some() {
            self.under_way -= 1;
            if self.under_way == 0 {
                return;
            }
        }
    }
}

/// Whoever has started procroll with a `NOTIFY_SOCKET=`, if anybody has: a service manager, a container's engine, another
/// procroll.
#[derive(Debug)]
pub struct Notifier {
    refusals: Refusals,
}

impl Notifier {
    /// The one that this process was started with.
    pub fn new() -> Self {
        Self { refusals: Refusals::new() }
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Upstream for Notifier {
    fn tell(&mut self, words: &[Word]) {
        tell(words);
    }

    /// Only systemd has a way to hear of that, and not of everybody.
    fn refuse_reload(&mut self, waiting: Waiting) {
        let refusal = self.refusals.begin();
        tokio::spawn(async move {
            if place::likely_own_service().is_some() {
                let told = timeout(PATIENCE, cancel_own_reload(waiting)).await;
                let told = told.unwrap_or_else(|_| Err(Error::Unreachable("it does not answer".to_owned())));
                if let Err(error) = told {
                    let why = format_args!("can't tell whoever reloads this unit that it failed: {error}");
                    log::warn(About::NotTold, why);
                }
            }
            refusal.end();
        });
    }

    async fn refused(&mut self) {
        self.refusals.all_done().await;
    }
}

/// Makes the reload of this process's unit fail, if that is this process's own to fail.
async fn cancel_own_reload(waiting: Waiting) -> Result<(), Error> {
    let link = Bus::new(Place::find(false)).connect().await?;
    let Some(own) = wrapper::own(&link).await? else { return Ok(()) };
    match waiting {
        Waiting::InVain => wrapper::cancel_last_reload_job(&link, &own.id).await,
        Waiting::Failed(job) if own.reload_signal.is_some() => wrapper::cancel_reload_job(&link, &own.id, job).await,
        // Here nothing outlives procroll.
        Waiting::Failed(_) | Waiting::Interrupted | Waiting::InterruptedInVain => Ok(()),
    }
}

/// Nobody: procroll was called from a terminal.
#[derive(Debug, Default)]
pub struct Nobody(Notify);

impl Upstream for Nobody {
    fn tell(&mut self, _: &[Word]) {}

    fn refuse_reload(&mut self, _: Waiting) {
        self.0.notify_one();
    }

    async fn refused(&mut self) {
        self.0.notified().await;
    }
}

fn states(word: &Word) -> Vec<NotifyState<'_>> {
    match word {
        Word::Ready => vec![NotifyState::Ready],
        Word::Reloading => {
            let mut states = vec![NotifyState::Reloading];
            // Without the time systemd would not take it for an answer to its signal.
            states.extend(NotifyState::monotonic_usec_now());
            states
        }
        Word::Stopping => vec![NotifyState::Stopping],
        Word::Extend(duration) => {
            vec![NotifyState::ExtendTimeoutUsec(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX))]
        }
        Word::Watchdog => vec![NotifyState::Watchdog],
        Word::Status(status) => vec![NotifyState::Status(status)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_refusal_of_an_earlier_reload_is_none_of_the_next() {
        let mut refusals = Refusals::new();
        let (first, second) = (refusals.begin(), refusals.begin());
        first.end();
        assert!(timeout(PATIENCE, refusals.all_done()).await.is_err());
        second.end();
        assert!(timeout(PATIENCE, refusals.all_done()).await.is_ok());
        refusals.begin().end();
        assert!(timeout(PATIENCE, refusals.all_done()).await.is_ok());
    }
}
