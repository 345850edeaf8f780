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
//!
//! As a rule both live side by side while the new one settles. Where two can't, that is a [`handover`].

mod event;
mod handover;
mod outcome;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenarios;
mod view;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use event::{Action, Event, Inherited, Pace, Standing};
pub use outcome::{Again, Death, Exit, Failed, Failure, Generation, Refusal, Stage};
pub use view::View;

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
    /// In a handover: asked to stop, so that the candidate can start.
    Stopped(Generation),
    /// The same, and what was started in its place has failed so: the candidate runs what it ran.
    Again(Generation, Failed),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// `taken` names in a row belonged to somebody else.
    Starting {
        taken: u32,
        settle: Duration,
    },
    /// In a handover: prepared, and to start when all others are gone.
    Waiting {
        taken: u32,
        settle: Duration,
    },
    Settling {
        until: Instant,
        settle: Duration,
    },
}

impl Phase {
    fn starting(settle: Duration) -> Self {
        Self::Starting { taken: 0, settle }
    }
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

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct Roll {
    state: State,
    /// The highest number given out.
    last: Generation,
    /// A roll was asked for and has not begun: another one is under way, or too many old generations are on their way out.
    again: bool,
    /// How many of those may be before a roll waits.
    most_leaving: usize,
    /// Asked to stop, not dead yet.
    leaving: BTreeSet<Generation>,
    /// Dead, and systemd was asked to forget them.
    forgetting: BTreeSet<Generation>,
    /// Candidates that failed and stay listed, to be looked at, until the next roll.
    kept: BTreeSet<Generation>,
    failed: Option<Failed>,
    actions: VecDeque<Action>,
}

impl Default for Roll {
    fn default() -> Self {
        Self {
            state: State::Idle,
            last: Generation::NONE,
            again: false,
            most_leaving: Pace::default().most_leaving,
            leaving: BTreeSet::new(),
            forgetting: BTreeSet::new(),
            kept: BTreeSet::new(),
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
            Event::Prepared { generation, pace } => self.prepared(generation, pace),
            Event::Started { generation, pace } => self.started(generation, pace),
            Event::Active(generation) => self.active(now, generation),
            Event::Deactivating(generation) => self.deactivating(generation),
            Event::Dead { generation, death, was_active } => self.dead(generation, death, was_active),
            Event::Gone(generation) => {
                self.forgetting.remove(&generation);
                self.exit_if_over();
            }
        }
        self.hand_over_if_due();
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
        matches!(self.state, State::Serving(_)) && self.forgetting.is_empty() && !self.again
    }

    /// Takes over what an earlier procroll left. A candidate has to settle now, for as long as it takes (G1), from when it is
    /// heard to be active by somebody who would hear of its end as well. The last that failed stays to be looked at (G2), and
    /// all others go.
    fn begin(&mut self, left: Vec<Inherited>) {
        if self.state != State::Idle {
            return;
        }
        let (serving, candidate) = Inherited::who_serves(&left);
        self.last = left.iter().map(|one| one.generation).max().unwrap_or(Generation::NONE);
        // What a roll failed with stays to be looked at. It comes after the one that serves, unless that runs again, or is about to,
        // what ran before both.
        let dead = left.iter().filter(|one| one.standing == Standing::Dead).map(|one| one.generation);
        let is_again = |one: Generation| left.iter().any(|other| other.generation == one && other.again);
        self.kept.extend(match (serving, candidate) {
            (Some(serving), None) => dead.filter(|one| *one > serving || is_again(serving)).max(),
            (None, Some(candidate)) => dead.filter(|one| *one < candidate.generation && candidate.again).max(),
            _ => None,
        });
        if let Some(one) = left.iter().max_by_key(|one| one.generation) {
            self.most_leaving = one.pace.most_leaving;
        }
        for Inherited { generation, standing, .. } in &left {
            if Some(*generation) == serving || Some(*generation) == candidate.map(|one| one.generation) {
                continue;
            }
            match standing {
                Standing::Starting | Standing::Active => self.ask_to_stop(*generation),
                Standing::Deactivating => drop(self.leaving.insert(*generation)),
                Standing::Dead if self.kept.contains(generation) => {}
                Standing::Dead => self.forget(*generation),
            }
        }
        if let Some(serving) = serving {
            // Up, whatever becomes of a candidate.
            self.actions.push_back(Action::Up(serving));
        }
        match (serving, candidate) {
            (None, None) => self.start(Old::Nobody),
            (Some(serving), None) => self.state = State::Serving(serving),
            (serving, Some(Inherited { generation, pace: Pace { settle, .. }, .. })) => {
                let old = serving.map_or(Old::Nobody, Old::Serving);
                self.state = State::Rolling { old, candidate: generation, phase: Phase::starting(settle) };
            }
        }
    }

    fn reload(&mut self) {
        match &self.state {
            State::Serving(_) | State::Rolling { .. } => self.again = true,
            State::Idle | State::Stopping { .. } | State::Ending(_) | State::Ended => {}
        }
        self.start_if_due();
    }

    /// Begins the roll that was asked for, unless it has to wait. It waits and does not hurry the old ones, which have
    /// connections to finish, and a stop timeout that somebody has chosen for that.
    fn start_if_due(&mut self) {
        if let State::Serving(serving) = self.state
            && self.again
            && self.leaving.len() < self.most_leaving
        {
            self.start(Old::Serving(serving));
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
            self.start_next();
        }
        self.never_was(generation);
    }

    /// A start that failed although a stop had overtaken it: there is nothing to wait for.
    fn never_was(&mut self, generation: Generation) {
        self.leaving.remove(&generation);
        self.exit_if_over();
    }

    fn started(&mut self, generation: Generation, pace: Pace) {
        if let State::Rolling { candidate, phase: Phase::Starting { settle, .. }, .. } = &mut self.state
            && *candidate == generation
        {
            *settle = pace.settle;
            self.most_leaving = pace.most_leaving;
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
            *phase = Phase::starting(settle);
        }
    }

    fn dead(&mut self, generation: Generation, death: Death, was_active: bool) {
        if self.leaving.remove(&generation) {
            self.forget(generation);
            self.start_if_due();
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
                self.kept.insert(generation);
                self.fail(if was_active { Stage::Settling } else { Stage::Starting }, Failure::Died(death));
            }
            _ => {}
        }
    }

    /// Begins a roll: the next number, with what the last failed roll left out of the way.
    fn start(&mut self, old: Old) {
        self.forget_kept();
        self.again = false;
        self.state = State::Rolling { old, candidate: self.last, phase: Phase::starting(Duration::ZERO) };
        self.start_next();
    }

    /// Starts the candidate under the next number, if there is one: the last of all may be in use.
    fn start_next(&mut self) {
        let Some(next) = self.last.next() else {
            return self.fail(Stage::Starting, Failure::Refused(Refusal::names_taken(self.last)));
        };
        self.last = next;
        if let State::Rolling { candidate, .. } = &mut self.state {
            *candidate = next;
        }
        self.actions.push_back(match &self.state {
            State::Rolling { old: Old::Again(of, _), .. } => Action::Again { generation: next, of: *of },
            _ => Action::Start(next),
        });
    }

    /// The candidate has settled: it serves, and only now is the old one asked to stop (G1).
    fn succeed(&mut self) {
        let State::Rolling { old, candidate, .. } = &self.state else { return };
        let (old, candidate) = (old.clone(), *candidate);
        if let Old::Serving(serving) = old {
            self.ask_to_stop(serving);
        }
        self.state = State::Serving(candidate);
        self.failed = match &old {
            Old::Again(of, failed) => Some(failed.clone().and_again(candidate, *of)),
            _ => None,
        };
        match (old, self.failed.clone()) {
            (Old::Nobody, _) => self.actions.push_back(Action::Up(candidate)),
            _ if self.again => {}
            (_, Some(failed)) => self.answer(Err(failed)),
            (_, None) => self.answer(Ok(candidate)),
        }
        self.start_if_due();
    }

    /// The candidate is no more: the old one serves on (G2), or what it ran is started again. Only if nobody serves does
    /// procroll end.
    fn fail(&mut self, stage: Stage, failure: Failure) {
        let State::Rolling { old, candidate, .. } = &self.state else { return };
        let failed = Failed { generation: *candidate, stage, failure, again: None };
        match old.clone() {
            Old::Nobody => self.end(Exit::Failed(failed)),
            Old::Died(generation, death) => {
                self.answer(Err(failed));
                self.end(Exit::Died(generation, death));
            }
            Old::Serving(serving) => {
                self.failed = Some(failed.clone());
                self.state = State::Serving(serving);
                if !self.again {
                    self.answer(Err(failed));
                }
                self.start_if_due();
            }
            Old::Stopped(stopped) => self.fall_back(stopped, failed),
            Old::Again(_, first) => {
                self.answer(Err(first.clone()));
                self.end(Exit::Neither { candidate: first, again: failed });
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
        std::mem::take(&mut self.kept).into_iter().for_each(|kept| self.forget(kept));
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
