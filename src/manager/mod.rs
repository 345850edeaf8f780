//! The one loop: feeds what happens to [`Roll`], and carries out what it decides.
//!
//! Everything comes in by the one `select!`: signals, reports of the backend, the answer of the unit's manager, time.
//! Nothing in the loop waits for anything else, so a stop is heard at any moment.

mod signals;
pub mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use signals::{Request, Signals};

use crate::backend::{Backend, Report, When};
use crate::log::{self, About};
use crate::notify::{Upstream, Word};
use crate::roll::{Action, Event, Exit, Failed, Generation, Roll};
use crate::settings::SignalName;

/// While something is under way the wrapper's timeout is extended again and again, by more than it takes to do so: how
/// long that may go on is for the generation's own timeouts to say, which systemd counts. Without a way to hear of that
/// the wrapper's timeout holds.
const EXTEND_BY: Duration = Duration::from_secs(30);
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const _: () = assert!(EXTEND_EVERY.as_secs() < EXTEND_BY.as_secs());
/// Most is over before that.
const EXTEND_FIRST: Duration = Duration::from_millis(100);

/// Runs generations by a backend, and tells an upstream.
#[derive(Debug)]
pub struct Manager<B, U> {
    roll: Roll,
    backend: B,
    upstream: U,
    /// Main processes, for people.
    pids: BTreeMap<Generation, u32>,
    /// Invocation ids, for the log.
    invocations: BTreeMap<Generation, String>,
    /// How often the upstream wants to hear that we live, and when next.
    watchdog: Option<(Duration, Instant)>,
    /// When the upstream's timeout is to be extended next.
    extend: Option<Instant>,
    /// The first generation is up.
    up: bool,
    /// What the upstream is to be told, all at once: each message is work for PID 1.
    words: Vec<Word>,
    status: String,
}

impl<B: Backend, U: Upstream> Manager<B, U> {
    /// A manager that has not begun. `watchdog` is how long the upstream waits for a sign of life, if it does.
    pub fn new(backend: B, upstream: U, watchdog: Option<Duration>) -> Self {
        let watchdog = watchdog.map(|limit| (limit / 2, now()));
        Self {
            roll: Roll::default(),
            backend,
            upstream,
            pids: BTreeMap::new(),
            invocations: BTreeMap::new(),
            watchdog,
            extend: None,
            up: false,
            words: Vec::new(),
            status: String::new(),
        }
    }

    /// Runs until nothing is left to do.
    pub async fn run(mut self, mut signals: Signals) -> anyhow::Result<Exit> {
        let left = self.backend.survey().await?;
        let mut exit = self.handle(Event::Begin(left));
        loop {
            if let Some(exit) = exit {
                self.backend.end().await;
                return Ok(exit);
            }
            let wake = self.next_wake();
            exit = tokio::select! {
                request = signals.next() => self.asked(request),
                report = self.backend.report() => self.report(report),
                () = self.upstream.refused() => self.refused(),
                () = sleep_until(wake) => self.woken(),
            };
        }
    }

    fn asked(&mut self, request: Request) -> Option<Exit> {
        let view = self.roll.view();
        let (event, word) = match request {
            Request::PassOn(signal) => {
                match view.serving {
                    Some(serving) => self.backend.pass_on(serving, signal),
                    None => tracing::warn!("nobody serves whom {} could be passed on to", SignalName::of(signal)),
                }
                return None;
            }
            Request::Reload if view.stopping => return None,
            // Each time: systemd may have sent this signal for a reload that began after the last one.
            Request::Reload => (Event::Reload, self.up.then_some(Word::Reloading)),
            Request::Stop => (Event::Stop, (!view.stopping).then_some(Word::Stopping)),
        };
        if word.is_some() {
            // Each has a timeout of its own, whatever that of the last was extended to.
            self.extend = None;
        }
        self.words.extend(word);
        self.handle(event)
    }

    fn report(&mut self, report: Report) -> Option<Exit> {
        match report {
            Report::Event(event) => {
                match &event {
                    Event::Dead { generation, .. } => drop(self.pids.remove(generation)),
                    Event::Gone(generation) => drop(self.invocations.remove(generation)),
                    _ => {}
                }
                self.handle(event)
            }
            Report::Invoked(generation, id) => {
                self.invocations.insert(generation, id);
                None
            }
            Report::Active { generation, main_pid } => {
                match main_pid {
                    Some(pid) => self.pids.insert(generation, pid),
                    None => self.pids.remove(&generation),
                };
                self.handle(Event::Active(generation))
            }
        }
    }

    /// The reload has failed for whoever waits for it; now it is over for systemd as well.
    fn refused(&mut self) -> Option<Exit> {
        self.words.push(Word::Ready);
        self.act()
    }

    fn woken(&mut self) -> Option<Exit> {
        let now = now();
        if let Some((every, at)) = &mut self.watchdog
            && now >= *at
        {
            *at = now + *every;
            self.words.push(Word::Watchdog);
        }
        if self.extend.is_some_and(|at| now >= at) {
            self.extend();
        }
        self.roll.handle_timeout(now);
        self.act()
    }

    fn handle(&mut self, event: Event) -> Option<Exit> {
        tracing::debug!("event: {event:?}");
        self.roll.handle_event(now(), event);
        self.act()
    }

    /// Carries out what has been decided.
    fn act(&mut self) -> Option<Exit> {
        let mut exit = None;
        while let Some(action) = self.roll.next_action() {
            tracing::debug!("action: {action:?}");
            match action {
                Action::Start(generation) => self.backend.start(generation),
                Action::Stop(generation) => self.backend.stop(generation),
                Action::Kill(generation) => self.backend.kill(generation),
                Action::Forget(generation) => self.backend.forget(generation),
                Action::Answer(outcome) => self.answer(outcome),
                Action::Exit(how) => exit = Some(how),
            }
        }
        if let Some(exit) = exit {
            self.say_why(&exit);
            return Some(exit);
        }
        if self.roll.is_at_rest() {
            self.extend = None;
            self.backend.rest();
        } else if self.extend.is_none() {
            self.extend = Some(now() + EXTEND_FIRST);
        }
        self.status();
        self.tell();
        None
    }

    fn answer(&mut self, outcome: Result<Generation, Failed>) {
        match outcome {
            Ok(generation) => {
                let unit = self.backend.name(generation);
                let serves = match self.pids.get(&generation) {
                    Some(pid) => format!("{unit} serves (main PID {pid})"),
                    None => format!("{unit} serves"),
                };
                self.log(About::Serves, generation, &serves);
                self.up = true;
                self.words.push(Word::Ready);
            }
            Err(failed) => {
                let why = self.failure(&failed, When::Kept);
                let who = match self.roll.view().serving {
                    Some(serving) => format!("{} serves on", self.backend.name(serving)),
                    None => "and nobody serves any more".to_owned(),
                };
                self.log(About::RollFailed, failed.generation, &format!("Roll failed, {who}: {why}"));
                self.upstream.refuse_reload();
            }
        }
    }

    fn say_why(&mut self, exit: &Exit) {
        let (about, generation, why) = match exit {
            Exit::Stopped => return,
            Exit::Failed(failed) => (About::StartFailed, failed.generation, self.failure(failed, When::Ended)),
            Exit::Died(generation, death) => {
                let unit = self.backend.name(*generation);
                let why = format!(
                    "{unit} served and {}. {}",
                    status::ended(death),
                    self.backend.hint(*generation, When::Cleared)
                );
                (About::Died, *generation, why)
            }
        };
        self.log(about, generation, &why);
        self.words.push(Word::Status(status::one_line(&why)));
        self.tell();
    }

    fn log(&self, about: About, generation: Generation, message: &str) {
        let invocation = self.invocations.get(&generation).map_or("", String::as_str);
        log::tell(about, generation, &self.backend.name(generation), invocation, message);
    }

    fn failure(&self, failed: &Failed, when: When) -> String {
        let unit = self.backend.name(failed.generation);
        status::failure(&unit, failed, &self.backend.hint(failed.generation, when))
    }

    fn status(&mut self) {
        let view = self.roll.view();
        let failed = view.failed.map(|failed| self.failure(failed, When::Kept));
        let status = status::status(&view, failed.as_deref(), |generation| self.backend.name(generation), &self.pids);
        if !status.is_empty() && status != self.status {
            self.words.push(Word::Status(status.clone()));
            self.status = status;
        }
    }

    fn tell(&mut self) {
        if !self.words.is_empty() {
            self.upstream.tell(&std::mem::take(&mut self.words));
        }
    }

    fn extend(&mut self) {
        let next = match self.backend.is_in_touch() {
            true => {
                self.words.push(Word::Extend(EXTEND_BY));
                EXTEND_EVERY
            }
            false => EXTEND_FIRST,
        };
        self.extend = Some(now() + next);
    }

    fn next_wake(&self) -> Option<Instant> {
        let watchdog = self.watchdog.map(|(_, at)| at);
        [self.roll.next_timeout(), watchdog, self.extend].into_iter().flatten().min()
    }
}

/// tokio's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
