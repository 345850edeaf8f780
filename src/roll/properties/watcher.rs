//! What a user is promised, held against what went in and what came out.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::story::{begins, decides, name, says};
use super::systemd::{Doing, Unit};

/// A roll, the generations that systemd has, and what a watcher knows.
pub struct World {
    roll: Roll,
    now: Instant,
    pub units: BTreeMap<Generation, Unit>,
    pub serving: Option<Generation>,
    /// Started, and neither settled nor given up.
    candidate: Option<Generation>,
    /// In a handover: the one that was asked to stop for the candidate.
    stopped: Option<Generation>,
    /// What came after that has failed so, and the candidate is to run what was stopped.
    first: Option<Failed>,
    /// That has failed as well.
    neither: Option<(Failed, Failed)>,
    /// The candidates that failed last, which stay to be looked at.
    kept: BTreeSet<Generation>,
    /// How the last roll failed, if it did.
    failed: Option<Failed>,
    /// How the one that served last died.
    died: Option<(Generation, Death)>,
    most_leaving: usize,
    /// When everything was asked to stop.
    stop: Option<Instant>,
    /// Whoever waits for a start was told that it is up.
    up: bool,
    /// Somebody waits for an answer.
    owed: bool,
    /// Somebody wants a roll that has not begun.
    wanted: bool,
    over: bool,
    /// The unit says that two can't live at once.
    pub handover: bool,
    /// The words heard.
    count: u64,
    story: Option<Vec<String>>,
}

/// What may be done just now only because of what was just heard.
#[derive(Default)]
struct Due {
    /// Those that are to be asked to stop.
    stops: BTreeSet<Generation>,
    kills: BTreeSet<Generation>,
    /// A number has to be given out, whoever wants a roll.
    start: bool,
    /// The candidate is prepared, and may start.
    proceed: Option<Generation>,
    /// What this one ran is to be started again.
    again: Option<Generation>,
    /// The one that has just begun to serve.
    serves: Option<Generation>,
    failed: Option<Failed>,
    /// The last failed one was cleared away.
    cleared: bool,
    stopping: bool,
}

macro_rules! promise {
    ($holds:expr, $($breach:tt)*) => {
        if !$holds {
            return Err(format!($($breach)*));
        }
    };
}

impl World {
    pub fn new(now: Instant, tell: bool) -> Self {
        Self {
            roll: Roll::default(),
            now,
            units: BTreeMap::new(),
            serving: None,
            candidate: None,
            stopped: None,
            first: None,
            neither: None,
            kept: BTreeSet::new(),
            failed: None,
            died: None,
            most_leaving: 0,
            stop: None,
            up: false,
            owed: false,
            wanted: false,
            over: false,
            handover: false,
            count: 0,
            story: tell.then(Vec::new),
        }
    }

    pub fn story(&self) -> &[String] {
        self.story.as_deref().unwrap_or_default()
    }

    pub fn heard(&self) -> u64 {
        self.count
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.roll.next_timeout()
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn is_at_rest(&self) -> bool {
        self.roll.is_at_rest()
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    /// procroll begins, and is told of these.
    pub fn begin(&mut self, left: Vec<Inherited>) -> Result<(), String> {
        let (now, story, count) = (self.now, self.story.take(), self.count);
        *self = Self { story, count, ..Self::new(now, false) };
        self.most_leaving = left
            .iter()
            .max_by_key(|one| one.generation)
            .map_or(Pace::default().most_leaving, |one| one.pace.most_leaving);
        for &Inherited { generation, standing, pace, again } in &left {
            let doing = match standing {
                Standing::Starting => Doing::Starting,
                Standing::Active => Doing::Active,
                Standing::Deactivating => Doing::Deactivating,
                Standing::Dead => Doing::Dead,
            };
            let active_since = (doing == Doing::Active).then_some(now);
            self.units.insert(generation, Unit { pace, active_since, again, ..Unit::new(doing) });
        }
        let mut up = self.units.iter().rev().filter(|(_, unit)| matches!(unit.doing, Doing::Starting | Doing::Active));
        let newest = up.next();
        let before = up.find(|(_, unit)| unit.doing == Doing::Active);
        // Nobody knows whether the newest has settled, unless nobody else could serve.
        (self.serving, self.candidate) = match (newest, before) {
            (Some((one, unit)), None) if unit.doing == Doing::Active => (Some(*one), None),
            (newest, before) => (before.map(|(one, _)| *one), newest.map(|(one, _)| *one)),
        };
        if let Some(candidate) = self.candidate.and_then(|one| self.units.get_mut(&one)) {
            // It is to be heard of anew.
            (candidate.doing, candidate.active_since) = (Doing::Starting, None);
        }
        if let (Some(serving), None) = (self.serving, self.candidate) {
            let from = if self.unit(serving).again { Generation::NONE } else { serving };
            let mut dead = self.units.range(from..).rev().filter(|(_, unit)| unit.doing == Doing::Dead);
            self.kept.extend(dead.next().map(|(one, _)| *one));
        }
        if let (None, Some(candidate)) = (self.serving, self.candidate)
            && self.unit(candidate).again
        {
            let mut dead = self.units.range(..candidate).rev().filter(|(_, unit)| unit.doing == Doing::Dead);
            self.kept.extend(dead.next().map(|(one, _)| *one));
        }
        self.owed = self.serving.is_some() && self.candidate.is_some();
        let mut due = Due { serves: self.serving, ..Due::default() };
        due.start = self.serving.is_none() && self.candidate.is_none();
        for (&generation, unit) in &mut self.units {
            unit.leaves = unit.lives() && Some(generation) != self.serving && Some(generation) != self.candidate;
            if unit.leaves && unit.doing != Doing::Deactivating {
                due.stops.insert(generation);
            }
        }
        self.tell(|| begins(&left));
        self.roll.handle_event(self.now, Event::Begin(left));
        self.watch(due)
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.tell(|| format!("{time:?} pass"));
    }

    pub fn ring(&mut self) -> Result<(), String> {
        if self.next_timeout().is_some_and(|until| self.now >= until) {
            self.tell(|| "The clock rings".to_owned());
        }
        self.roll.handle_timeout(self.now);
        self.watch(Due::default())?;
        promise!(self.next_timeout().is_none_or(|until| self.now < until), "the clock rings on and on");
        Ok(())
    }

    /// A word that is out of date.
    pub fn hear_late(&mut self, event: Event) -> Result<(), String> {
        self.tell(|| format!("Late: {}", says(&event)));
        self.roll.handle_event(self.now, event);
        self.watch(Due::default())
    }

    pub fn hear(&mut self, mut event: Event) -> Result<(), String> {
        let due = self.expect(&mut event);
        self.tell(|| says(&event));
        self.roll.handle_event(self.now, event);
        self.watch(due)
    }

    /// What is true from now on, and what has to come of it.
    fn expect(&mut self, event: &mut Event) -> Due {
        let mut due = Due::default();
        if self.over {
            return due;
        }
        let is_ending = self.serving.is_none() && self.candidate.is_none();
        match event {
            Event::Begin(_) => {}
            Event::Reload if self.stop.is_some() || is_ending => {}
            Event::Reload => (self.owed, self.wanted) = (true, true),
            Event::Stop => match self.stop {
                Some(asked) if self.now >= asked + SAME_STOP => {
                    due.kills = self.units.iter().filter(|(_, unit)| unit.lives()).map(|(one, _)| *one).collect();
                }
                None if !is_ending => {
                    due.stopping = true;
                    due.stops = self.serving.into_iter().chain(self.candidate).collect();
                    (self.stop, self.serving, self.candidate) = (Some(self.now), None, None);
                    (self.stopped, self.first) = (None, None);
                    (self.owed, self.wanted) = (false, false);
                    for unit in self.units.values_mut() {
                        unit.leaves |= unit.lives();
                    }
                }
                _ => {}
            },
            Event::Taken(generation) => {
                self.never_was(*generation);
                if self.candidate.take_if(|one| one == generation).is_some() {
                    due.again = self.stopped.filter(|_| self.first.is_some());
                    due.start = due.again.is_none();
                }
            }
            Event::Refused(generation, refusal) => {
                self.never_was(*generation);
                self.give_up(*generation, Stage::Starting, Failure::Refused(refusal.clone()), &mut due);
            }
            Event::Prepared { generation, pace } => {
                let unit = self.unit(*generation);
                (unit.doing, unit.pace, unit.alone) = (Doing::Prepared, *pace, true);
                if self.candidate == Some(*generation) {
                    self.most_leaving = pace.most_leaving;
                }
            }
            Event::Started { generation, pace } => {
                let unit = self.unit(*generation);
                (unit.doing, unit.pace) = (Doing::Starting, *pace);
                if self.candidate == Some(*generation) {
                    self.most_leaving = pace.most_leaving;
                }
            }
            Event::Active(generation) => {
                let now = self.now;
                let unit = self.unit(*generation);
                (unit.doing, unit.was_active) = (Doing::Active, true);
                unit.active_since.get_or_insert(now);
                if unit.leaves {
                    due.stops.insert(*generation);
                }
            }
            Event::Deactivating(generation) => {
                let unit = self.unit(*generation);
                (unit.doing, unit.active_since) = (Doing::Deactivating, None);
            }
            Event::Dead { generation, death, was_active } => {
                let unit = self.unit(*generation);
                *was_active |= unit.was_active;
                (unit.doing, unit.active_since) = (Doing::Dead, None);
                if self.serving.take_if(|one| one == generation).is_some() {
                    self.died = Some((*generation, death.clone()));
                }
                if self.candidate == Some(*generation) {
                    self.kept.extend(self.candidate);
                }
                let stage = if *was_active { Stage::Settling } else { Stage::Starting };
                self.give_up(*generation, stage, Failure::Died(death.clone()), &mut due);
            }
            Event::Gone(generation) => self.unit(*generation).doing = Doing::Nothing,
        }
        due
    }

    fn unit(&mut self, generation: Generation) -> &mut Unit {
        self.units.entry(generation).or_insert_with(|| Unit::new(Doing::Nothing))
    }

    fn never_was(&mut self, generation: Generation) {
        self.unit(generation).doing = Doing::Nothing;
    }

    fn give_up(&mut self, generation: Generation, stage: Stage, failure: Failure, due: &mut Due) {
        if self.candidate.take_if(|one| *one == generation).is_some() {
            let failed = Failed { generation, stage, failure, again: None };
            match (self.stopped, self.first.take()) {
                (None, _) => (self.failed, due.failed) = (Some(failed.clone()), Some(failed)),
                (stopped, None) => (self.first, due.again) = (Some(failed), stopped),
                (Some(_), Some(first)) => {
                    due.failed = Some(first.clone());
                    (self.stopped, self.neither) = (None, Some((first, failed)));
                }
            }
        }
    }

    /// Handover: the old one is stopped when the new one is prepared and those that left before are gone, and the new one
    /// starts when the old one is.
    fn hand_over(&self, due: &mut Due) -> Option<Generation> {
        let one = self.candidate.filter(|one| self.units[one].doing == Doing::Prepared)?;
        let mut others = self.units.iter().filter(|(other, _)| **other != one && Some(**other) != self.serving);
        if others.clone().any(|(_, unit)| unit.lives()) {
            return None;
        }
        if self.serving.is_none() {
            due.proceed = Some(one);
        }
        // What is only listed somebody may start anew.
        self.serving.filter(|_| others.all(|(_, unit)| unit.doing == Doing::Nothing))
    }

    /// No two that can't live at once do.
    fn check_alone(&self) -> Result<(), String> {
        let runs = |unit: &Unit| matches!(unit.doing, Doing::Starting | Doing::Active | Doing::Deactivating);
        let alone = self.units.iter().filter(|(_, unit)| unit.alone && runs(unit)).map(|(one, _)| *one);
        let alone: Vec<_> = alone.collect();
        promise!(alone.len() < 2, "{alone:?} live at once, and can't");
        Ok(())
    }

    /// Holds what was decided against what may be.
    fn watch(&mut self, mut due: Due) -> Result<(), String> {
        self.count += 1;
        self.check_alone()?;
        if let Some(old) = self.hand_over(&mut due) {
            due.stops.insert(old);
            self.unit(old).leaves = true;
            self.stopped = self.serving.take();
        }
        self.promote(&mut due)?;
        let mut decided = 0;
        while let Some(action) = self.roll.next_action() {
            decided += 1;
            promise!(decided < 1000, "it never stops to decide");
            self.tell(|| format!("    {}", decides(&action)));
            promise!(!self.over, "it is over, and something is done: {action:?}");
            self.check(action, &mut due)?;
        }
        promise!(due.stops.is_empty(), "G4: {:?} should have been asked to stop", due.stops);
        promise!(due.kills.is_empty(), "G4: {:?} should have been killed", due.kills);
        promise!(!due.start, "nothing is started, and nobody serves");
        promise!(due.proceed.is_none(), "all others are gone, and {} does not start", name(due.proceed));
        promise!(due.again.is_none(), "what {} ran is not started again, and nobody serves", name(due.again));
        promise!(!due.cleared || due.stopping, "G2: what failed is cleared away before the next roll");
        if self.over {
            return Ok(());
        }
        self.check_end()?;
        self.check_waiting()?;
        self.check_view()
    }

    /// G1: whoever begins to serve has been active for as long as its unit says, and only then is the old one stopped.
    /// G2: until then the old one serves on, whatever becomes of the other.
    fn promote(&mut self, due: &mut Due) -> Result<(), String> {
        let serving = self.roll.view().serving;
        if serving == self.serving {
            return Ok(());
        }
        let Some(new) = serving else {
            return Err(format!("G2: {} serves no more, and lives", name(self.serving)));
        };
        promise!(self.candidate == Some(new), "G2: {new} serves, and was no candidate");
        let unit = &self.units[&new];
        let settled = unit.active_since.is_some_and(|since| self.now >= since + unit.pace.settle);
        promise!(settled, "G1: {new} serves and has not been active for its settling time");
        due.serves = serving;
        if let Some(old) = std::mem::replace(&mut self.serving, serving) {
            due.stops.insert(old);
            self.unit(old).leaves = true;
        }
        (self.candidate, self.failed, self.died) = (None, None, None);
        if let (Some(of), Some(first)) = (self.stopped.take(), self.first.take()) {
            let failed = Failed { again: Some(Again { generation: new, of }), ..first };
            (self.failed, due.failed) = (Some(failed.clone()), Some(failed));
        }
        Ok(())
    }

    fn leaving(&self) -> impl Iterator<Item = Generation> {
        self.units.iter().filter(|(_, unit)| unit.leaves && unit.lives()).map(|(one, _)| *one)
    }

    fn check(&mut self, action: Action, due: &mut Due) -> Result<(), String> {
        match action {
            Action::Start(one) => {
                promise!(self.stop.is_none(), "G4: {one} is started after the stop");
                promise!(self.candidate.is_none(), "G5: {one} is started during the roll of {}", name(self.candidate));
                promise!(self.kept.is_empty(), "{one} is started and what failed is still there");
                promise!(self.first.is_none(), "{one} is started in place of what was stopped for another");
                promise!(self.units.keys().all(|other| *other < one), "{one} is no new number");
                let (leaving, most) = (self.leaving().count(), self.most_leaving);
                let waits = self.serving.is_some() && !due.start && leaving >= most;
                promise!(!waits, "{one} is started while {leaving} leave, of at most {most}");
                promise!(due.start || self.wanted, "{one} is started, and nobody wants that");
                if !std::mem::take(&mut due.start) {
                    self.wanted = false;
                }
                due.cleared = false;
                self.candidate = Some(one);
                self.units.insert(one, Unit::new(Doing::Asked));
            }
            Action::Proceed(one) => {
                promise!(self.stop.is_none(), "G4: {one} is started after the stop");
                promise!(due.proceed.take() == Some(one), "{one} is started, and not all others are gone");
                self.unit(one).doing = Doing::Asked;
            }
            Action::Again { generation: one, of } => {
                promise!(self.stop.is_none(), "G4: {one} is started after the stop");
                promise!(due.again.take() == Some(of), "{one} is to run what {of} ran, and nobody wants that");
                promise!(self.units.keys().all(|other| *other < one), "{one} is no new number");
                promise!(self.units.values().all(|unit| !unit.lives()), "{one} is started, and others live");
                self.candidate = Some(one);
                self.units.insert(one, Unit { again: true, ..Unit::new(Doing::Asked) });
            }
            Action::Stop(one) => {
                promise!(due.stops.remove(&one), "G1: {one} is asked to stop, and no successor of it has settled");
            }
            Action::Kill(one) => promise!(due.kills.remove(&one), "{one} is killed, and nobody wants that"),
            Action::Forget(one) => {
                due.cleared |= self.kept.remove(&one);
                let unit = self.unit(one);
                promise!(unit.doing == Doing::Dead, "{one} is to be forgotten, and isn't dead");
                promise!(!std::mem::replace(&mut unit.forgotten, true), "{one} is to be forgotten once more");
            }
            Action::Up(one) => {
                promise!(self.stop.is_none(), "G4: {one} is up after the stop");
                promise!(due.serves == Some(one), "{one} is up and does not serve");
                promise!(!std::mem::replace(&mut self.up, true), "{one} is up, once more");
            }
            Action::Answer(outcome) => {
                promise!(std::mem::take(&mut self.owed), "an answer is given twice, or to nobody: {outcome:?}");
                let newest = !self.wanted || self.serving.is_none();
                promise!(newest, "G5: the last who asked wants a newer roll than the one of which is answered");
                match outcome {
                    Ok(one) => {
                        promise!(due.serves == Some(one) && due.failed.is_none(), "{one} is said to serve");
                    }
                    Err(failed) => {
                        promise!(due.failed.as_ref() == Some(&failed), "what failed is not {failed:?}");
                    }
                }
            }
            Action::Exit(exit) => {
                let expected = self.end();
                promise!(expected == Some(exit), "it ends so, and should be: {expected:?}");
                promise!(!self.owed || !self.up || self.wanted, "it ends, and somebody has had no answer");
                self.over = true;
            }
        }
        Ok(())
    }

    /// How it should end now, if it should.
    fn end(&self) -> Option<Exit> {
        let is_nothing = |unit: &Unit| unit.doing == Doing::Nothing;
        match self.stop {
            Some(_) => self.units.values().all(is_nothing).then_some(Exit::Stopped),
            None if self.serving.is_some() || self.candidate.is_some() => None,
            None if self.units.values().any(|unit| unit.forgotten && !is_nothing(unit)) => None,
            None if self.neither.is_some() => {
                self.neither.clone().map(|(candidate, again)| Exit::Neither { candidate, again })
            }
            None => {
                self.died.clone().map(|(one, death)| Exit::Died(one, death)).or(self.failed.clone().map(Exit::Failed))
            }
        }
    }

    fn check_end(&self) -> Result<(), String> {
        // Every stop ends (G4), and who restarts a wrapper is not kept waiting.
        let end = self.end();
        promise!(end.is_none(), "it should have ended: {end:?}");
        Ok(())
    }

    fn check_waiting(&self) -> Result<(), String> {
        let lost = self.units.iter().find(|(one, unit)| {
            let is_again = |candidate| self.units.get(&candidate).is_some_and(|unit| unit.again);
            let is_kept = self.kept.contains(one) && self.candidate.is_none_or(is_again);
            unit.doing == Doing::Dead && !unit.forgotten && !is_kept
        });
        promise!(lost.is_none(), "{lost:?} is dead, and nobody has it forgotten");
        if self.stop.is_some() || self.serving.is_none() {
            return Ok(());
        }
        promise!(self.up, "one serves, and it isn't up");
        if self.candidate.is_none() {
            let room = self.leaving().count() < self.most_leaving;
            promise!(!self.wanted || !room, "G5: somebody wants a roll, and none begins");
            promise!(self.wanted || !self.owed, "G5: somebody who asked for a roll has had no answer");
        }
        Ok(())
    }

    /// What people are told is so.
    fn check_view(&self) -> Result<(), String> {
        let view = self.roll.view();
        let stage = |one| match self.units[&one].doing {
            Doing::Active => (one, Stage::Settling),
            Doing::Prepared => (one, Stage::Prepared),
            _ => (one, Stage::Starting),
        };
        promise!(view.candidate == self.candidate.map(stage), "the candidate is not {:?}", view.candidate);
        promise!(self.leaving().eq(view.leaving.iter().copied()), "those that leave are not {:?}", view.leaving);
        promise!(view.stopped == self.stopped, "the one stopped for a handover is not {}", name(view.stopped));
        promise!(view.again == self.first.is_some(), "that it runs what was stopped is not {}", view.again);
        promise!(!view.waiting || self.stop.is_none(), "a roll waits, after the stop");
        promise!(view.stopping == self.stop.is_some(), "stopping is not {}", view.stopping);
        let due = self.candidate.and_then(|one| Some(self.units[&one].active_since? + self.units[&one].pace.settle));
        promise!(self.next_timeout() == due, "the clock is set to {:?}", self.next_timeout());
        if self.serving.is_some() {
            promise!(view.failed == self.failed.as_ref(), "what failed is not {:?}", view.failed);
            promise!(view.waiting == (self.wanted && self.candidate.is_none()), "waiting is not {}", view.waiting);
        }
        let forgetting = self.units.values().any(|unit| unit.forgotten && unit.doing == Doing::Dead);
        let at_rest = self.serving.is_some() && self.candidate.is_none() && !forgetting && !self.wanted;
        promise!(self.is_at_rest() == at_rest, "at rest is not {}", !at_rest);
        Ok(())
    }
}
