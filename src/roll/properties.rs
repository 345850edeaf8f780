//! What a roll never does, whatever happens in whatever order: late words, doubled words, deaths at any moment.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Something that may happen. The number picks one of the generations there have been.
#[derive(Clone, Debug)]
enum Step {
    Reload,
    Stop,
    Wait(u16),
    Taken,
    Refused,
    Started(u16),
    Active(u8),
    Deactivating(u8),
    Dead(u8),
    Gone(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Reload),
        1 => Just(Step::Stop),
        6 => (0u16..800).prop_map(Step::Wait),
        1 => Just(Step::Taken),
        1 => Just(Step::Refused),
        6 => (0u16..1500).prop_map(Step::Started),
        8 => (0u8..4).prop_map(Step::Active),
        2 => (0u8..4).prop_map(Step::Deactivating),
        4 => (0u8..6).prop_map(Step::Dead),
        3 => (0u8..6).prop_map(Step::Gone),
    ]
}

/// What a watcher from outside knows of a generation.
#[derive(Debug, Default)]
struct Known {
    settle: Option<Duration>,
    active_since: Option<Instant>,
    asked_to_stop: bool,
    dead: bool,
    forgotten: bool,
}

/// A roll, and a watcher that knows only what went in and what came out.
#[derive(Debug)]
struct World {
    roll: Roll,
    now: Instant,
    known: BTreeMap<Generation, Known>,
    /// Started, and neither settled nor given up.
    candidate: Option<Generation>,
    serving: Option<Generation>,
    stop_asked: bool,
    unanswered: bool,
    ended: Option<Exit>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            roll: Roll::default(),
            now: Instant::now(),
            known: BTreeMap::new(),
            candidate: None,
            serving: None,
            stop_asked: false,
            unanswered: true,
            ended: None,
        };
        world.hear(Event::Begin(Vec::new()));
        world
    }

    /// The generation that is `back` before the newest.
    fn pick(&self, back: u8) -> Generation {
        self.known
            .keys()
            .rev()
            .nth(back.into())
            .or_else(|| self.known.keys().next())
            .copied()
            .unwrap_or(Generation::NONE)
    }

    fn newest_unstarted(&self) -> Option<Generation> {
        let (generation, known) = self.known.last_key_value()?;
        (known.settle.is_none() && !known.dead).then_some(*generation)
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Reload => {
                self.unanswered |= self.serving.is_some() && !self.stop_asked;
                self.hear(Event::Reload);
            }
            Step::Stop => {
                self.stop_asked = true;
                self.hear(Event::Stop);
            }
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis.into());
                self.roll.handle_timeout(self.now);
                self.watch();
            }
            Step::Taken | Step::Refused => {
                let Some(generation) = self.newest_unstarted() else { return };
                self.know(generation).dead = true;
                self.candidate.take_if(|candidate| *candidate == generation);
                self.hear(match step {
                    Step::Taken => Event::Taken(generation),
                    _ => Event::Refused(
                        generation,
                        Refusal { reason: String::new(), exit: crate::exit::ExitStatus::Internal },
                    ),
                });
            }
            Step::Started(settle) => {
                let Some(generation) = self.newest_unstarted() else { return };
                let settle = Duration::from_millis(settle.into());
                self.know(generation).settle = Some(settle);
                self.hear(Event::Started { generation, settle });
            }
            Step::Active(back) => {
                let (generation, now) = (self.pick(back), self.now);
                let known = self.know(generation);
                // Nothing is active before it was started. That it is active after its death may well be heard late.
                if known.settle.is_none() {
                    return;
                }
                if !known.dead {
                    known.active_since.get_or_insert(now);
                }
                self.hear(Event::Active(generation));
            }
            Step::Deactivating(back) => {
                let generation = self.pick(back);
                self.know(generation).active_since = None;
                self.hear(Event::Deactivating(generation));
            }
            Step::Dead(back) => self.die(self.pick(back)),
            Step::Gone(back) => self.hear(Event::Gone(self.pick(back))),
        }
    }

    fn die(&mut self, generation: Generation) {
        let known = self.know(generation);
        known.dead = true;
        known.active_since = None;
        self.candidate.take_if(|candidate| *candidate == generation);
        self.serving.take_if(|serving| *serving == generation);
        self.hear(Event::Dead { generation, death: Death::Exited(1), was_active: false });
    }

    fn know(&mut self, generation: Generation) -> &mut Known {
        self.known.entry(generation).or_default()
    }

    fn hear(&mut self, event: Event) {
        self.roll.handle_event(self.now, event);
        self.watch();
    }

    /// Takes the actions and holds them against what must never be.
    fn watch(&mut self) {
        let mut count = 0;
        while let Some(action) = self.roll.next_action() {
            count += 1;
            assert!(count < 50, "endless actions");
            assert_eq!(self.ended, None, "nothing is done after the end: {action:?}");
            match action {
                Action::Start(generation) => {
                    assert!(!self.stop_asked, "a start after the stop (G4)");
                    // With nobody left to stop, that a candidate serves shows only in the next roll.
                    if let Some(candidate) = self.candidate.filter(|one| self.roll.view().serving == Some(*one)) {
                        self.settled(candidate);
                    }
                    assert_eq!(self.candidate, None, "two rolls at once (G5)");
                    let last = self.known.last_key_value().map(|(last, _)| *last);
                    assert!(Some(generation) > last, "number {generation} was used before");
                    self.candidate = Some(generation);
                    self.know(generation);
                }
                Action::Stop(generation) => self.check_stop(generation),
                Action::Kill(generation) => {
                    assert!(self.stop_asked && self.known[&generation].asked_to_stop, "a kill that nobody asked for");
                }
                Action::Forget(generation) => {
                    let known = self.know(generation);
                    assert!(known.dead, "only the dead are forgotten");
                    assert!(!known.forgotten, "forgotten twice");
                    known.forgotten = true;
                }
                Action::Answer(outcome) => {
                    assert!(!self.stop_asked, "an answer after the stop");
                    self.unanswered = false;
                    if let Ok(generation) = outcome {
                        self.settled(generation);
                    }
                }
                Action::Exit(exit) => {
                    self.check_exit(&exit);
                    self.ended = Some(exit);
                }
            }
        }
        if self.roll.is_at_rest() {
            let serving = self.roll.view().serving.expect("at rest exactly one serves");
            assert!(!self.known[&serving].dead, "a dead one serves");
            assert_eq!(self.candidate, None, "at rest with a candidate");
        }
    }

    /// G1: the one that serves is asked to stop only after its successor has been active for its settling time.
    fn check_stop(&mut self, generation: Generation) {
        assert!(!self.known[&generation].dead, "a stop of the dead");
        if self.known[&generation].asked_to_stop {
            // Once more, of one that somebody has started anew.
            return;
        }
        self.know(generation).asked_to_stop = true;
        if self.stop_asked {
            return;
        }
        assert_eq!(self.serving, Some(generation), "only the one that serves is ever stopped in a roll");
        let successor = self.roll.view().serving.or(self.candidate).expect("a successor");
        let successor = if successor == generation { self.candidate.expect("a successor") } else { successor };
        self.settled(successor);
    }

    fn settled(&mut self, generation: Generation) {
        let known = &self.known[&generation];
        assert!(!known.dead);
        if self.serving != Some(generation) {
            let since = known.active_since.expect("it is active");
            assert!(self.now >= since + known.settle.expect("it was started"), "it has not settled");
        }
        self.serving = Some(generation);
        self.candidate.take_if(|candidate| *candidate == generation);
    }

    /// G2: as long as anybody serves, or is about to, procroll goes on.
    fn check_exit(&self, exit: &Exit) {
        let alive = self.known.iter().filter(|(_, known)| !known.dead).map(|(generation, _)| *generation);
        if *exit == Exit::Stopped {
            assert!(self.stop_asked);
            assert_eq!(alive.collect::<Vec<_>>(), [], "left behind by a stop (G4)");
        } else {
            assert!(
                alive.into_iter().all(|generation| self.known[&generation].asked_to_stop),
                "it ends and one lives on"
            );
        }
    }

    /// From here on systemd does all it is asked to, and everything comes to its end.
    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            if self.ended.is_some() || (self.roll.is_at_rest() && !self.unanswered) {
                return;
            }
            self.be_fair();
        }
        panic!("it never comes to rest");
    }

    fn stop_for_good(&mut self) {
        self.take(&Step::Stop);
        for _ in 0..200 {
            if self.ended.is_some() {
                return;
            }
            self.be_fair();
        }
        panic!("the stop never ends");
    }

    fn be_fair(&mut self) {
        self.take(&Step::Started(100));
        if let Some(candidate) = self.candidate {
            self.know(candidate).active_since = None;
            self.hear(Event::Deactivating(candidate));
            let now = self.now;
            if self.known[&candidate].settle.is_some() {
                self.know(candidate).active_since = Some(now);
                self.hear(Event::Active(candidate));
            }
        }
        self.take(&Step::Wait(2000));
        let leaving: Vec<_> =
            self.known.iter().filter(|(_, known)| known.asked_to_stop && !known.dead).map(|(one, _)| *one).collect();
        leaving.into_iter().for_each(|one| self.die(one));
        let forgotten: BTreeSet<_> =
            self.known.iter().filter(|(_, known)| known.forgotten).map(|(one, _)| *one).collect();
        forgotten.into_iter().for_each(|one| self.hear(Event::Gone(one)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.come_to_rest();
        world.stop_for_good();
    }
}
