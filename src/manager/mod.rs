//! The one loop: feeds what happens to [`Roll`], and carries out what it decides.
//!
//! Everything comes in by the one `select!`: signals, reports of the backend, the answer of the unit's manager, time.
//! Nothing in the loop waits for anything else, so a stop is heard at any moment.

mod anew;
mod gap;
mod signals;
pub mod status;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gap::Gap;
pub use signals::{Request, Signals};

use crate::backend::{Backend, Report};
use crate::control::{Control, Outcome, Reply};
use crate::notify::{Upstream, Waiting, Word};
use crate::reexec::Reexec;
use crate::roll::{Action, Event, Exit, Generation, Inherited, Roll};
use crate::settings::SignalName;

/// While something is under way the wrapper's timeout is extended again and again, by more than it takes to do so: how
/// long that may go on is for the generation's own timeouts to say, which systemd counts. Without a way to hear of that
/// the wrapper's timeout holds.
const EXTEND_BY: Duration = Duration::from_secs(30);
const EXTEND_EVERY: Duration = Duration::from_secs(10);
const _: () = assert!(EXTEND_EVERY.as_secs() < EXTEND_BY.as_secs());
/// Without that, how often to look.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Most is over before that.
const EXTEND_FIRST: Duration = Duration::from_millis(100);

/// How long to wait for word of the end of what was asked to stop: without a connection, which takes some ms to make, and with
/// one, by which a call takes less than a minute.
const OUT_OF_TOUCH: Duration = Duration::from_secs(2);
const HUNG: Duration = Duration::from_secs(60);

/// Runs generations by a backend, and tells an upstream.
#[derive(Debug)]
pub struct Manager<B, U> {
    roll: Roll,
    backend: B,
    upstream: U,
    /// Main processes, for people.
    pids: BTreeMap<Generation, u32>,
    /// What generations say of themselves.
    said: BTreeMap<Generation, String>,
    /// Invocation ids, for the log.
    invocations: BTreeMap<Generation, String>,
    /// How often the upstream wants to hear that we live, and when next.
    watchdog: Option<(Duration, Instant)>,
    /// When the upstream's timeout is to be extended next.
    extend: Option<Instant>,
    /// Since when everything is to stop.
    stop_asked: Option<Instant>,
    /// When that was looked at last, no generation was left.
    found_nothing: bool,
    /// The unit is up: systemd was told so, by this process or before it was executed anew.
    up: bool,
    /// In a handover, the time in which nobody serves.
    gap: Gap,
    /// What an earlier procroll has left is being taken over.
    takes_over: TakesOver,
    /// A reload was refused, and its end not yet told.
    refusing: bool,
    /// A reload is under way, as systemd was told; and on whom that is noted.
    reloading: bool,
    noted: Option<Generation>,
    /// How to execute procroll anew, and whether somebody wants that.
    reexec: Option<Reexec>,
    reexec_asked: bool,
    /// Who has asked for a roll by the control socket and not been answered.
    waiting: Vec<Reply>,
    /// What the upstream is to be told, all at once: each message is work for PID 1.
    words: Vec<Word>,
    status: String,
}

/// Whether generations that an earlier procroll has left are being taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakesOver {
    No,
    /// Just now.
    Yes,
    /// None of them serves yet.
    NotYet,
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
            said: BTreeMap::new(),
            invocations: BTreeMap::new(),
            watchdog,
            extend: None,
            stop_asked: None,
            found_nothing: false,
            up: false,
            gap: Gap::default(),
            takes_over: TakesOver::No,
            refusing: false,
            reloading: false,
            noted: None,
            reexec: None,
            reexec_asked: false,
            waiting: Vec::new(),
            words: Vec::new(),
            status: String::new(),
        }
    }

    /// One that can be asked to execute procroll anew, and whether that has been done: then the unit is up, whatever is left.
    pub fn with_reexec(self, reexec: Reexec, was_executed_anew: bool) -> Self {
        Self { reexec: Some(reexec), up: was_executed_anew, ..self }
    }

    /// Begins with what an earlier procroll `left`, and runs until nothing is left to do.
    pub async fn run(mut self, left: Vec<Inherited>, mut signals: Signals, mut control: Control) -> Exit {
        let mut exit = self.begin(left);
        loop {
            if let Some(exit) = exit {
                if self.refusing {
                    let _ = tokio::time::timeout(OUT_OF_TOUCH, self.upstream.refused()).await;
                }
                self.backend.end().await;
                return exit;
            }
            if let Some(request) = self.execute_anew_if_due(&mut signals, &control).await {
                exit = self.asked(request);
                continue;
            }
            let wake = self.next_wake();
            exit = tokio::select! {
                request = signals.next() => self.asked(request),
                reply = control.next() => reply.and_then(|reply| self.asked_for_roll(reply)),
                report = self.backend.report() => self.report(report),
                () = self.upstream.refused() => self.refused(),
                () = sleep_until(wake) => self.woken(),
            };
        }
    }

    fn begin(&mut self, left: Vec<Inherited>) -> Option<Exit> {
        let any = !left.is_empty();
        self.takes_over = if any { TakesOver::Yes } else { TakesOver::No };
        let exit = self.handle(Event::Begin(left));
        if self.takes_over == TakesOver::Yes {
            self.takes_over = if self.up { TakesOver::No } else { TakesOver::NotYet };
        }
        exit
    }

    fn asked(&mut self, request: Request) -> Option<Exit> {
        let (view, rolls) = (self.roll.view(), self.rolls());
        let (event, word) = match request {
            Request::PassOn(signal) => {
                match view.serving {
                    Some(serving) => self.backend.pass_on(serving, signal),
                    None => tracing::warn!("nobody serves whom {} could be passed on to", SignalName::of(signal)),
                }
                return None;
            }
            Request::Reexec if self.reexec.is_none() => {
                tracing::warn!(
                    "procroll executes itself anew in a unit with --systemd-run and without --scope; here it goes on"
                );
                return None;
            }
            Request::Reexec => {
                self.reexec_asked = true;
                return None;
            }
            Request::Reload if view.stopping => return None,
            // Each time: systemd may have sent this signal for a reload that began after the last one.
            Request::Reload => (Event::Reload, self.up.then_some(Word::Reloading)),
            Request::Stop => (Event::Stop, (!view.stopping).then_some(Word::Stopping)),
        };
        if word.is_some() {
            // Each has a timeout of its own, whatever that of the last was extended to.
            self.extend_soon();
        }
        if word == Some(Word::Reloading) {
            // Its roll will tell its end, and nothing may before.
            self.refusing = false;
        }
        if word == Some(Word::Stopping) {
            self.stop_asked = Some(now());
            self.reply(&Outcome::Stopping);
            if rolls {
                self.upstream.refuse_reload(Waiting::InVain);
            }
        }
        self.words.extend(word);
        self.handle(event)
    }

    /// By the control socket. The unit's manager runs a command that waits for the answer, and needs no word for it.
    fn asked_for_roll(&mut self, reply: Reply) -> Option<Exit> {
        self.waiting.push(reply);
        if self.roll.view().stopping {
            self.reply(&Outcome::Stopping);
            return None;
        }
        self.extend_soon();
        self.handle(Event::Reload)
    }

    /// Answers all who asked by the control socket.
    fn reply(&mut self, outcome: &Outcome) {
        self.waiting.drain(..).for_each(|reply| reply.answer(outcome.clone()));
    }

    fn report(&mut self, report: Report) -> Option<Exit> {
        match report {
            Report::Event(event) => {
                match &event {
                    Event::Dead { generation, .. } => {
                        self.pids.remove(generation);
                        self.said.remove(generation);
                        self.no_longer_active(*generation);
                    }
                    Event::Deactivating(generation) => self.no_longer_active(*generation),
                    Event::Gone(generation) => drop(self.invocations.remove(generation)),
                    _ => {}
                }
                self.handle(event)
            }
            // Nothing is new, but that procroll may be executed anew by now.
            Report::Heard => None,
            Report::Status(generation, status) => {
                self.said.insert(generation, status);
                self.act()
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
                if self.is_candidate(generation) {
                    self.gap.next_is_active(now());
                }
                self.handle(Event::Active(generation))
            }
        }
    }

    /// The reload has failed for whoever waits for it; now it is over for systemd as well.
    fn refused(&mut self) -> Option<Exit> {
        if std::mem::take(&mut self.refusing) {
            self.ready();
        }
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
            // The bus may go before procroll when the machine goes down. systemd stops the generations all the same, and
            // nobody has to wait until it can be asked about them.
            // One that hangs looks as if it were there.
            let patience = if self.backend.is_in_touch() { HUNG } else { OUT_OF_TOUCH };
            let too_long = self.stop_asked.is_some_and(|asked| now.duration_since(asked) >= patience);
            let found_nothing = too_long && self.backend.nothing_is_left();
            if found_nothing && self.found_nothing {
                return Some(Exit::Stopped);
            }
            self.extend();
            if found_nothing {
                // Word of that may be on its way.
                self.extend = Some(now + LOOK_EVERY);
            }
            self.found_nothing = found_nothing;
        }
        if self.roll.next_timeout().is_some_and(|at| now >= at)
            && let Some((candidate, _)) = self.roll.view().candidate
            && self.backend.has_ended(candidate)
        {
            // It has settled as far as systemd has said, which has not got round to more. How it ended is to be heard.
            return self.report(Report::Event(Event::Deactivating(candidate)));
        }
        self.roll.handle_timeout(now);
        self.act()
    }

    fn handle(&mut self, event: Event) -> Option<Exit> {
        tracing::debug!("event: {event:?}");
        self.roll.handle_event(now(), event);
        self.act()
    }

    /// A roll is under way, or waits.
    fn rolls(&self) -> bool {
        let view = self.roll.view();
        view.candidate.is_some() || view.waiting
    }

    fn is_candidate(&self, generation: Generation) -> bool {
        self.roll.view().candidate.is_some_and(|(candidate, _)| candidate == generation)
    }

    fn no_longer_active(&mut self, generation: Generation) {
        if self.is_candidate(generation) {
            self.gap.goes_on();
        }
    }

    /// Carries out what has been decided.
    fn act(&mut self) -> Option<Exit> {
        let mut exit = None;
        if let Some(serving) = self.roll.view().serving {
            self.gap.is_over(serving, now());
        }
        while let Some(action) = self.roll.next_action() {
            tracing::debug!("action: {action:?}");
            match action {
                Action::Start(generation) => self.backend.start(generation),
                Action::Proceed(generation) => self.backend.proceed(generation),
                Action::Again { generation, of } => self.backend.again(generation, of),
                Action::Stop(generation) => {
                    if self.roll.view().stopped == Some(generation) {
                        self.gap.begins(now());
                    }
                    self.backend.stop(generation);
                }
                Action::Kill(generation) => self.backend.kill(generation),
                Action::Forget(generation) => self.backend.forget(generation),
                Action::Up(generation) => self.is_up(generation),
                Action::Answer(outcome) => self.answer(outcome),
                Action::Exit(how) => exit = Some(how),
            }
        }
        if let Some(exit) = exit {
            self.say_why(&exit);
            let somebody_waits = self.reloading || !self.waiting.is_empty();
            if somebody_waits && !self.refusing && !matches!(exit, Exit::Stopped) {
                // The unit's end would be taken for that of the reload, and for a good one.
                self.refusing = true;
                self.upstream.refuse_reload(Waiting::InVain);
            }
            return Some(exit);
        }
        let at_rest = self.roll.is_at_rest();
        if at_rest {
            self.backend.rest();
        }
        if at_rest && !self.refusing {
            self.extend = None;
        } else if self.extend.is_none() {
            self.extend = Some(now() + EXTEND_FIRST);
        }
        self.status();
        self.tell();
        None
    }

    /// Also where they come in a crowd.
    fn extend_soon(&mut self) {
        self.extend = self.extend.map(|at| at.min(now() + EXTEND_FIRST));
    }

    fn extend(&mut self) {
        self.backend.look();
        // What serves is not to go because nobody can be told that a reload has failed.
        let next = match self.backend.is_in_touch() || self.refusing {
            true => {
                self.words.push(Word::Extend(EXTEND_BY));
                EXTEND_EVERY
            }
            false => LOOK_EVERY,
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
