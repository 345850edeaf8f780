//! The state machine of rolls: which generation serves, which one is on its way, which ones leave.
//!
//! It decides and does nothing else: no clock, no bus, no file, no async. The [manager](crate::manager) feeds it
//! [`Event`]s and the time, carries out the [`Action`]s it queues, and asks [`Roll::next_timeout`] when to call
//! [`Roll::handle_timeout`]. Every event about a generation names it, so a late word about one that is over is
//! ignored by rule.
//!
//! ```text
//!            Begin                settled                     Reload
//!   Idle ──────────────▶ Rolling ───────▶ Serving ◀────────────────────┐
//!                        │  ▲  │             │ │  (old one serves on)   │
//!       nobody serves    │  │  └── failed ───┼─┴──▶ Rolling ────────────┘
//!       and it failed    │  └──── Reload ────┘ │
//!                        ▼                     ▼ the serving one died
//!                     Ending ◀─────────────────┘        Stop, from anywhere: Stopping
//! ```

mod event;
mod outcome;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use event::{Action, Event, Inherited, Standing};
pub use outcome::{Death, Exit, Failed, Failure, Generation, Refusal, Stage};

/// How many numbers in a row may belong to somebody else's units before a roll gives up.
const MOST_TAKEN: u32 = 64;

/// A second signal to stop within this time is the first one once more: timeout(1), say, sends it to its child and then
/// to the child's whole process group.
const SAME_STOP: Duration = Duration::from_millis(100);

/// Who answers while a roll is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Old {
    /// Nobody has served yet: this is the first start.
    Nobody,
    Serving(Generation),
    /// The one that served died during the roll; the roll goes on.
    Died(Generation, Death),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// `taken` names in a row belonged to somebody else.
    Starting {
        taken: u32,
        settle: Duration,
    },
    Settling {
        until: Instant,
        settle: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Rolling {
        old: Old,
        candidate: Generation,
        phase: Phase,
    },
    Serving(Generation),
    /// Asked to stop; over when nothing is left of any generation.
    Stopping {
        asked: Instant,
    },
    /// Nobody serves any more; over when the dead are forgotten.
    Ending(Exit),
    Ended,
}

/// What there is to tell about the state, for STATUS= and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The generation that answers.
    pub serving: Option<Generation>,
    /// The generation on its way, and how far it is.
    pub candidate: Option<(Generation, Stage)>,
    /// Those that were asked to stop and have not ended.
    pub leaving: &'a BTreeSet<Generation>,
    /// How the last roll failed, if it did.
    pub failed: Option<&'a Failed>,
    /// Everything is being stopped.
    pub stopping: bool,
}

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct Roll {
    state: State,
    /// The highest number given out.
    last: Generation,
    /// A roll was asked for during a roll: one more is to follow.
    again: bool,
    /// Asked to stop, not dead yet.
    leaving: BTreeSet<Generation>,
    /// Dead, and systemd was asked to forget them.
    forgetting: BTreeSet<Generation>,
    /// A candidate that failed and stays listed, to be looked at, until the next roll.
    kept: Option<Generation>,
    failed: Option<Failed>,
    actions: VecDeque<Action>,
}

impl Default for Roll {
    fn default() -> Self {
        Self {
            state: State::Idle,
            last: Generation::NONE,
            again: false,
            leaving: BTreeSet::new(),
            forgetting: BTreeSet::new(),
            kept: None,
            failed: None,
            actions: VecDeque::new(),
        }
    }
}

impl Roll {
    /// Takes in one event. `now` never goes backwards.
    pub fn handle_event(&mut self, now: Instant, event: Event) {
        if self.state == State::Ended {
            return;
        }
        match event {
            Event::Begin(left) => self.begin(left),
            Event::Reload => self.reload(),
            Event::Stop => self.stop(now),
            Event::Taken(generation) => self.taken(generation),
            Event::Refused(generation, refusal) => {
                if self.is_candidate(generation) {
                    self.fail(Stage::Starting, Failure::Refused(refusal));
                }
                self.never_was(generation);
            }
            Event::Started { generation, settle } => self.started(generation, settle),
            Event::Active(generation) => self.active(now, generation),
            Event::Deactivating(generation) => self.deactivating(generation),
            Event::Dead { generation, death, was_active } => self.dead(generation, death, was_active),
            Event::Gone(generation) => {
                self.forgetting.remove(&generation);
                self.exit_if_over();
            }
        }
    }

    /// To be called at or after [`Roll::next_timeout`]; does nothing before it.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|until| now >= until) {
            self.succeed();
        }
    }

    /// When [`Roll::handle_timeout`] wants to be called, if ever.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Rolling { phase: Phase::Settling { until, .. }, .. } => Some(until),
            _ => None,
        }
    }

    /// What is to be done next; `None` when all has been handed out.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether one generation serves and nothing else is wanted: no roll, no stop. Old generations may still drain.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Serving(_)) && self.forgetting.is_empty()
    }

    /// What there is to tell.
    pub fn view(&self) -> View<'_> {
        let (serving, candidate) = match &self.state {
            State::Serving(generation) => (Some(*generation), None),
            State::Rolling { old, candidate, phase } => {
                let stage = match phase {
                    Phase::Starting { .. } => Stage::Starting,
                    Phase::Settling { .. } => Stage::Settling,
                };
                let serving = match old {
                    Old::Serving(generation) => Some(*generation),
                    Old::Nobody | Old::Died(..) => None,
                };
                (serving, Some((*candidate, stage)))
            }
            State::Idle | State::Stopping { .. } | State::Ending(_) | State::Ended => (None, None),
        };
        let stopping = matches!(self.state, State::Stopping { .. });
        View { serving, candidate, leaving: &self.leaving, failed: self.failed.as_ref(), stopping }
    }

    /// Takes over what an earlier procroll left: the highest active one serves, a higher one that is still starting
    /// is awaited, and all others go.
    fn begin(&mut self, left: Vec<Inherited>) {
        if self.state != State::Idle {
            return;
        }
        let highest = |standing| left.iter().filter(|one| one.standing == standing).max_by_key(|one| one.generation);
        let serving = highest(Standing::Active).map(|one| one.generation);
        let candidate = highest(Standing::Starting).filter(|one| Some(one.generation) > serving).copied();
        self.last = left.iter().map(|one| one.generation).max().unwrap_or(Generation::NONE);
        for Inherited { generation, standing, .. } in &left {
            if Some(*generation) == serving || Some(*generation) == candidate.map(|one| one.generation) {
                continue;
            }
            match standing {
                Standing::Starting | Standing::Active => self.ask_to_stop(*generation),
                Standing::Deactivating => drop(self.leaving.insert(*generation)),
                Standing::Dead => self.forget(*generation),
            }
        }
        if let Some(serving) = serving {
            // Up, whatever becomes of a candidate.
            self.answer(Ok(serving));
        }
        match (serving, candidate) {
            (None, None) => self.start(Old::Nobody),
            (Some(serving), None) => self.state = State::Serving(serving),
            (serving, Some(Inherited { generation, settle, .. })) => {
                let old = serving.map_or(Old::Nobody, Old::Serving);
                self.state = State::Rolling { old, candidate: generation, phase: Phase::Starting { taken: 0, settle } };
            }
        }
    }

    fn reload(&mut self) {
        match &self.state {
            State::Serving(serving) => {
                let old = Old::Serving(*serving);
                self.start(old);
            }
            State::Rolling { .. } => self.again = true,
            State::Idle | State::Stopping { .. } | State::Ending(_) | State::Ended => {}
        }
    }

    fn stop(&mut self, now: Instant) {
        match self.state.clone() {
            State::Stopping { asked } => {
                if now.duration_since(asked) < SAME_STOP {
                    return;
                }
                let leaving = self.leaving.iter().copied().map(Action::Kill);
                self.actions.extend(leaving);
                return;
            }
            State::Ending(_) | State::Ended => return,
            State::Idle => {}
            State::Serving(serving) => self.ask_to_stop(serving),
            State::Rolling { old, candidate, .. } => {
                self.ask_to_stop(candidate);
                if let Old::Serving(serving) = old {
                    self.ask_to_stop(serving);
                }
            }
        }
        self.forget_kept();
        self.again = false;
        self.state = State::Stopping { asked: now };
        self.exit_if_over();
    }

    fn taken(&mut self, generation: Generation) {
        if let State::Rolling { candidate, phase: Phase::Starting { taken, .. }, .. } = &mut self.state
            && *candidate == generation
        {
            *taken += 1;
            if *taken >= MOST_TAKEN {
                return self.fail(Stage::Starting, Failure::Refused(Refusal::names_taken(generation)));
            }
            self.last = generation.next();
            *candidate = self.last;
            self.actions.push_back(Action::Start(self.last));
        }
        self.never_was(generation);
    }

    /// A start that failed although a stop had overtaken it: there is nothing to wait for.
    fn never_was(&mut self, generation: Generation) {
        self.leaving.remove(&generation);
        self.exit_if_over();
    }

    fn started(&mut self, generation: Generation, new: Duration) {
        if let State::Rolling { candidate, phase: Phase::Starting { settle, .. }, .. } = &mut self.state
            && *candidate == generation
        {
            *settle = new;
        }
    }

    fn active(&mut self, now: Instant, generation: Generation) {
        if self.leaving.contains(&generation) {
            // Somebody has started it anew.
            self.actions.push_back(Action::Stop(generation));
        }
        if let State::Rolling { candidate, phase, .. } = &mut self.state
            && *candidate == generation
            && let Phase::Starting { settle, .. } = *phase
        {
            *phase = Phase::Settling { until: now + settle, settle };
            self.handle_timeout(now);
        }
    }

    /// A candidate that leaves `active` while it settles has to become active again, for the whole time.
    fn deactivating(&mut self, generation: Generation) {
        if let State::Rolling { candidate, phase, .. } = &mut self.state
            && *candidate == generation
            && let Phase::Settling { settle, .. } = *phase
        {
            *phase = Phase::Starting { taken: 0, settle };
        }
    }

    fn dead(&mut self, generation: Generation, death: Death, was_active: bool) {
        if self.leaving.remove(&generation) {
            self.forget(generation);
            return;
        }
        match &mut self.state {
            State::Serving(serving) if *serving == generation => {
                self.forget(generation);
                self.end(Exit::Died(generation, death));
            }
            State::Rolling { old, .. } if *old == Old::Serving(generation) => {
                *old = Old::Died(generation, death);
                self.forget(generation);
            }
            State::Rolling { candidate, .. } if *candidate == generation => {
                self.kept = Some(generation);
                self.fail(if was_active { Stage::Settling } else { Stage::Starting }, Failure::Died(death));
            }
            _ => {}
        }
    }

    /// Begins a roll: the next number, with what the last failed roll left out of the way.
    fn start(&mut self, old: Old) {
        self.forget_kept();
        self.again = false;
        self.last = self.last.next();
        self.state =
            State::Rolling { old, candidate: self.last, phase: Phase::Starting { taken: 0, settle: Duration::ZERO } };
        self.actions.push_back(Action::Start(self.last));
    }

    /// The candidate has settled: it serves, and only now is the old one asked to stop (G1).
    fn succeed(&mut self) {
        let State::Rolling { old, candidate, .. } = &self.state else { return };
        let (old, candidate) = (old.clone(), *candidate);
        if let Old::Serving(serving) = old {
            self.ask_to_stop(serving);
        }
        self.failed = None;
        self.state = State::Serving(candidate);
        // At the first start somebody waits for a service that is up, whatever else was asked for meanwhile.
        if old == Old::Nobody || !self.again {
            self.answer(Ok(candidate));
        }
        if self.again {
            self.start(Old::Serving(candidate));
        }
    }

    /// The candidate is no more: the old one serves on (G2). Only if nobody serves does procroll end.
    fn fail(&mut self, stage: Stage, failure: Failure) {
        let State::Rolling { old, candidate, .. } = &self.state else { return };
        let failed = Failed { generation: *candidate, stage, failure };
        match old.clone() {
            Old::Nobody => self.end(Exit::Failed(failed)),
            Old::Died(generation, death) => {
                self.answer(Err(failed));
                self.end(Exit::Died(generation, death));
            }
            Old::Serving(serving) => {
                self.failed = Some(failed.clone());
                self.state = State::Serving(serving);
                if self.again {
                    self.start(Old::Serving(serving));
                } else {
                    self.answer(Err(failed));
                }
            }
        }
    }

    fn is_candidate(&self, generation: Generation) -> bool {
        matches!(&self.state, State::Rolling { candidate, .. } if *candidate == generation)
    }

    fn answer(&mut self, outcome: Result<Generation, Failed>) {
        self.actions.push_back(Action::Answer(outcome));
    }

    fn ask_to_stop(&mut self, generation: Generation) {
        self.leaving.insert(generation);
        self.actions.push_back(Action::Stop(generation));
    }

    fn forget(&mut self, generation: Generation) {
        self.forgetting.insert(generation);
        self.actions.push_back(Action::Forget(generation));
    }

    fn forget_kept(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.forget(kept);
        }
    }

    fn end(&mut self, exit: Exit) {
        self.state = State::Ending(exit);
        self.exit_if_over();
    }

    /// A stop ends when nothing is left at all. After a death of its own procroll does not wait for those that still
    /// drain: whoever restarts it must not be kept waiting, and systemd ends them by itself.
    fn exit_if_over(&mut self) {
        let exit = match &self.state {
            State::Stopping { .. } if self.leaving.is_empty() && self.forgetting.is_empty() => Exit::Stopped,
            State::Ending(exit) if self.forgetting.is_empty() => exit.clone(),
            _ => return,
        };
        self.state = State::Ended;
        self.actions.push_back(Action::Exit(exit));
    }
}
