//! What a generation goes through, and what is to be done about it. Pure: no process, no clock.
//!
//! ```text
//!   Executing ──▶ Starting ──READY=1──▶ Active ──▶ Stopping ──timeout──▶ Killing ──▶ nothing is left: dead
//! ```
//!
//! The steps, the timeouts and their names are systemd's: systemd.service(5), systemd.kill(5).

use std::time::{Duration, Instant};

use crate::roll::Death;
use crate::settings::Span;

/// How long to wait between two rounds of killing. What forks while it is looked for is found the next time.
const ROUND: Duration = Duration::from_millis(100);

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program runs.
    Executed,
    /// `READY=1`
    Ready,
    /// `STOPPING=1`
    Stopping,
    /// `EXTEND_TIMEOUT_USEC=`
    Extend(Duration),
    /// The main process has ended.
    MainEnded(Death),
    /// Another one has.
    OtherEnded,
    /// Nothing is left.
    Empty,
    /// It is to stop.
    Stop,
    /// It is to be killed.
    Kill,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell that it exists.
    TellStarted,
    /// Tell that it is active.
    TellActive,
    /// Tell that it is active no more.
    TellDeactivating,
    /// Tell that it is dead, and how that came.
    TellDead {
        /// How.
        death: Death,
        /// It has been active.
        was_active: bool,
    },
    /// Send the stop signal to the main process.
    AskMain,
    /// Send the stop signal to all processes.
    AskAll,
    /// Kill all processes.
    KillAll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The program is being executed. It may have to stop at once.
    Executing { stop: bool },
    /// It runs and is not ready.
    Starting,
    /// It is ready.
    Active,
    /// Its stop timeout runs. It may go of itself, and then nobody has asked it to.
    Stopping { asked: bool },
    /// That is over.
    Killing,
    /// So is all.
    Dead,
}

/// How long things may take, and what is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// `READY=1` is waited for.
    pub notifies: bool,
    /// How long it may take to be ready.
    pub start: Span,
    /// How long it may take to stop.
    pub stop: Span,
}

/// The life of a generation, from its execution on.
#[derive(Debug)]
pub struct Life {
    terms: Terms,
    state: State,
    /// When the state lasts too long.
    until: Option<Instant>,
    /// How the main process has ended, or what was wrong before that.
    death: Option<Death>,
    was_active: bool,
}

impl Life {
    /// Of a generation that is executed now.
    pub fn new(now: Instant, terms: Terms) -> Self {
        let until = after(now, terms.start);
        Self { terms, state: State::Executing { stop: false }, until, death: None, was_active: false }
    }

    /// When [`Life::handle_timeout`] wants to be called, if ever.
    pub const fn next_timeout(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it may be that the program does not run yet.
    pub const fn is_executing(&self) -> bool {
        matches!(self.state, State::Executing { .. })
    }

    /// Whether it is active.
    pub const fn is_active(&self) -> bool {
        matches!(self.state, State::Active)
    }

    /// Takes in what has happened: what is to be done about it, in this order.
    pub fn handle_event(&mut self, now: Instant, event: Event) -> Vec<Action> {
        match (event, self.state) {
            (_, State::Dead) => Vec::new(),
            (Event::Empty, _) => {
                self.enter(State::Dead, None);
                // Who is killed before it was said to be ended, was killed.
                let death = self.death.take().unwrap_or(Death::Killed(nix::libc::SIGKILL));
                vec![Action::TellDead { death, was_active: self.was_active }]
            }
            (Event::Executed, State::Executing { stop: true }) => {
                self.stop(now, true);
                vec![Action::TellStarted, Action::AskMain]
            }
            (Event::Executed, State::Executing { stop: false }) => {
                self.state = State::Starting;
                let mut actions = vec![Action::TellStarted];
                if !self.terms.notifies {
                    actions.extend(self.ready());
                }
                actions
            }
            (Event::Ready, State::Starting) => self.ready(),
            (Event::Stopping, State::Starting | State::Active) => self.goes(now, false),
            (Event::Extend(duration), State::Starting | State::Stopping { .. }) => {
                self.until = self.until.and_then(|until| Some(until.max(now.checked_add(duration)?)));
                Vec::new()
            }
            (Event::MainEnded(death), State::Killing) => {
                self.death.get_or_insert(death);
                vec![Action::KillAll]
            }
            (Event::MainEnded(death), state) => {
                // As systemd has it: with no READY=1 no exit is a good one.
                let early = self.terms.notifies && !self.was_active && death == Death::Exited(0);
                self.death.get_or_insert(if early { Death::Failed("protocol".to_owned()) } else { death });
                let mut actions = match state {
                    State::Stopping { .. } => Vec::new(),
                    _ => self.goes(now, true),
                };
                self.state = State::Stopping { asked: true };
                actions.push(Action::AskAll);
                actions
            }
            (Event::OtherEnded, State::Killing) => vec![Action::KillAll],
            (Event::Stop, State::Executing { .. }) => {
                self.enter(State::Executing { stop: true }, after(now, self.terms.stop));
                Vec::new()
            }
            (Event::Stop, State::Starting | State::Active) => {
                self.stop(now, true);
                vec![Action::AskMain]
            }
            (Event::Stop, State::Stopping { asked: false }) => {
                self.state = State::Stopping { asked: true };
                vec![Action::AskMain]
            }
            (Event::Kill, _) => self.kill(now),
            (
                Event::Executed | Event::Ready | Event::Stopping | Event::Extend(_) | Event::OtherEnded | Event::Stop,
                _,
            ) => Vec::new(),
        }
    }

    /// To be called at or after [`Life::next_timeout`]; does nothing before it.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Action> {
        if self.until.is_none_or(|until| now < until) {
            return Vec::new();
        }
        match self.state {
            State::Starting => {
                self.death = Some(Death::Failed("timeout".to_owned()));
                self.stop(now, true);
                vec![Action::AskMain]
            }
            State::Executing { .. } | State::Stopping { .. } => {
                self.death.get_or_insert_with(|| Death::Failed("timeout".to_owned()));
                self.kill(now)
            }
            State::Killing => self.kill(now),
            State::Active | State::Dead => Vec::new(),
        }
    }

    fn ready(&mut self) -> Vec<Action> {
        self.was_active = true;
        self.enter(State::Active, None);
        vec![Action::TellActive]
    }

    /// It goes by itself.
    fn goes(&mut self, now: Instant, asked: bool) -> Vec<Action> {
        let was_up = self.state == State::Active;
        self.stop(now, asked);
        if was_up { vec![Action::TellDeactivating] } else { Vec::new() }
    }

    fn stop(&mut self, now: Instant, asked: bool) {
        self.enter(State::Stopping { asked }, after(now, self.terms.stop));
    }

    fn kill(&mut self, now: Instant) -> Vec<Action> {
        self.enter(State::Killing, now.checked_add(ROUND));
        vec![Action::KillAll]
    }

    fn enter(&mut self, state: State, until: Option<Instant>) {
        self.state = state;
        self.until = until;
    }
}

fn after(now: Instant, span: Span) -> Option<Instant> {
    match span {
        Span::Of(duration) => now.checked_add(duration),
        Span::Infinite => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Duration = Duration::from_secs(10);
    const STOP: Duration = Duration::from_secs(60);

    struct Bench {
        life: Life,
        now: Instant,
    }

    impl Bench {
        fn new(notifies: bool) -> Self {
            let now = Instant::now();
            let terms = Terms { notifies, start: Span::Of(START), stop: Span::Of(STOP) };
            Self { life: Life::new(now, terms), now }
        }

        fn active() -> Self {
            let mut bench = Self::new(true);
            assert_eq!(bench.after(Event::Executed), [Action::TellStarted]);
            assert_eq!(bench.after(Event::Ready), [Action::TellActive]);
            bench
        }

        fn after(&mut self, event: Event) -> Vec<Action> {
            self.life.handle_event(self.now, event)
        }

        fn waits(&mut self, duration: Duration) -> Vec<Action> {
            self.now += duration;
            self.life.handle_timeout(self.now)
        }
    }

    fn dead(death: Death, was_active: bool) -> [Action; 1] {
        [Action::TellDead { death, was_active }]
    }

    fn timeout() -> Death {
        Death::Failed("timeout".to_owned())
    }

    #[test]
    fn an_exit_is_not_readiness() {
        for (death, told) in [
            (Death::Exited(0), Death::Failed("protocol".to_owned())),
            (Death::Exited(3), Death::Exited(3)),
            (Death::Killed(11), Death::Killed(11)),
        ] {
            let mut bench = Bench::new(true);
            bench.after(Event::Executed);
            assert_eq!(bench.after(Event::MainEnded(death)), [Action::AskAll]);
            assert_eq!(bench.after(Event::Empty), dead(told, false));
        }
    }

    #[test]
    fn one_that_serves_and_ends_is_over_when_nothing_is_left() {
        let mut bench = Bench::active();
        assert_eq!(bench.after(Event::MainEnded(Death::Exited(0))), [Action::TellDeactivating, Action::AskAll]);
        assert_eq!(bench.after(Event::OtherEnded), []);
        assert_eq!(bench.waits(STOP), [Action::KillAll]);
        assert_eq!(bench.after(Event::OtherEnded), [Action::KillAll]);
        assert_eq!(bench.after(Event::Empty), dead(Death::Exited(0), true));
        assert_eq!(bench.life.next_timeout(), None);
    }

    #[test]
    fn one_that_is_not_ready_in_time_is_stopped_and_then_killed() {
        let mut bench = Bench::new(true);
        bench.after(Event::Executed);
        assert_eq!(bench.waits(START - SECOND), []);
        assert_eq!(bench.waits(SECOND), [Action::AskMain]);
        assert_eq!(bench.after(Event::Ready), [], "too late");
        assert_eq!(bench.waits(STOP), [Action::KillAll]);
        assert_eq!(bench.waits(ROUND), [Action::KillAll], "until nothing is left");
        bench.after(Event::MainEnded(Death::Killed(9)));
        assert_eq!(bench.after(Event::Empty), dead(timeout(), false));
    }

    #[test]
    fn one_that_wants_more_time_has_it() {
        let mut bench = Bench::new(true);
        bench.after(Event::Executed);
        bench.after(Event::Extend(2 * START));
        assert_eq!(bench.waits(START), []);
        bench.after(Event::Extend(SECOND));
        assert_eq!(bench.waits(START - SECOND), [], "no less than it had");
        assert_eq!(bench.waits(SECOND), [Action::AskMain]);
    }

    #[test]
    fn a_stop_while_it_is_executed_is_not_lost() {
        let mut bench = Bench::new(true);
        assert_eq!(bench.after(Event::Stop), []);
        assert_eq!(bench.after(Event::Executed), [Action::TellStarted, Action::AskMain]);
        let mut bench = Bench::new(true);
        bench.after(Event::Stop);
        assert_eq!(bench.waits(STOP), [Action::KillAll]);
    }

    #[test]
    fn who_says_that_it_stops_is_asked_only_if_somebody_wants_that() {
        let mut bench = Bench::active();
        assert_eq!(bench.after(Event::Stopping), [Action::TellDeactivating]);
        assert_eq!(bench.after(Event::Stop), [Action::AskMain]);
        assert_eq!(bench.after(Event::Stop), []);
        assert_eq!(bench.waits(STOP), [Action::KillAll], "since it said so");
    }

    #[test]
    fn one_that_does_not_notify_is_active_once_it_runs() {
        let mut bench = Bench::new(false);
        assert_eq!(bench.after(Event::Executed), [Action::TellStarted, Action::TellActive]);
        assert_eq!(bench.waits(START), []);
        bench.after(Event::MainEnded(Death::Exited(0)));
        assert_eq!(bench.after(Event::Empty), dead(Death::Exited(0), true));
    }

    proptest! {
        /// Whatever happens: somebody who was asked to stop is killed in the end, and dies once.
        #[test]
        fn every_stop_ends(events in proptest::collection::vec((0usize..9, 0u64..40), 0..30)) {
            let mut bench = Bench::new(true);
            let all = [
                Event::Executed, Event::Ready, Event::Stopping, Event::MainEnded(Death::Exited(0)), Event::OtherEnded,
                Event::Stop, Event::Kill, Event::Empty, Event::Ready,
            ];
            let mut deaths = 0;
            for (event, wait) in events {
                let actions = [bench.after(all[event].clone()), bench.waits(Duration::from_secs(wait))].concat();
                deaths += actions.iter().filter(|action| matches!(action, Action::TellDead { .. })).count();
            }
            bench.after(Event::Stop);
            let killed = (0..4).any(|_| bench.waits(STOP).contains(&Action::KillAll));
            prop_assert!(killed || deaths == 1);
            bench.after(Event::Empty);
            prop_assert!(deaths <= 1 && bench.after(Event::Empty).is_empty() && bench.life.next_timeout().is_none());
        }
    }
}
