//! What a roll never does, whatever happens in whatever order.
//!
//! A [`Plan`] is a made-up sequence of steps. [`systemd`] turns each into something that a real one could report just
//! then: a generation that was told to start gets there or doesn't, one that was told to stop ends at some time, somebody
//! restarts what is on its way out, words come twice, or late, or about generations that nobody has seen; procroll is
//! killed, and the next one adopts what there is. [`watcher`] knows only what went in and what came out, and holds that
//! against what users are promised. What fails is cut down to a story of as few lines as possible.
//!
//! A test run makes up two million words, in a few seconds. More are had by hand:
//! `PROCROLL_STORIES=1000000 cargo test --lib whatever_happens`.

mod story;
mod systemd;
mod watcher;

use std::fmt;
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::*;
use systemd::Step;
use watcher::World;

/// How many stories a test run tells, of up to [`LONGEST`] steps each.
const STORIES: u32 = 40_000;
const LONGEST: usize = 160;

/// What is left by an earlier procroll, and what happens then.
struct Plan {
    left: Vec<Inherited>,
    steps: Vec<Step>,
    /// In the end the unit says that two can't live at once.
    handover: bool,
}

impl Plan {
    fn any() -> impl Strategy<Value = Self> {
        let standing = prop_oneof![
            Just(Standing::Starting),
            Just(Standing::Active),
            Just(Standing::Deactivating),
            Just(Standing::Dead)
        ];
        let one = (1u32..7, standing, systemd::pace(), any::<bool>());
        let left = prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(one, 0..6)];
        let steps = proptest::collection::vec(Step::any(), 0..LONGEST);
        (left, steps, any::<bool>()).prop_map(|(left, steps, handover)| {
            let mut seen = BTreeSet::new();
            let left = left.into_iter().filter(|(number, ..)| seen.insert(*number));
            let left = left.map(|(number, standing, pace, again)| {
                let generation = Generation::new(number);
                Inherited { generation, standing, pace, again }
            });
            Self { left: left.collect(), steps, handover }
        })
    }

    /// Lives through it, then lets everything come to rest, and stops.
    fn live(&self, world: &mut World) -> Result<(), String> {
        world.begin(self.left.clone())?;
        for step in &self.steps {
            world.take(step)?;
        }
        world.handover = self.handover;
        world.come_to_rest()?;
        world.stop_for_good()
    }
}

/// The story, line by line, and how it ends.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut world = World::new(Instant::now(), true);
        let end = self.live(&mut world);
        writeln!(f)?;
        world.story().iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        end.map_or_else(|breach| writeln!(f, "    But {breach}"), |()| Ok(()))
    }
}

#[test]
fn whatever_happens() {
    let stories = std::env::var("PROCROLL_STORIES").ok().map_or(STORIES, |count| count.parse().expect("a number"));
    let config = Config { cases: stories, failure_persistence: None, max_shrink_iters: 100_000, ..Config::default() };
    let began = Instant::now();
    let steps = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&Plan::any(), |plan| {
        let mut world = World::new(began, false);
        plan.live(&mut world).map_err(TestCaseError::fail)?;
        steps.set(steps.get() + world.heard());
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{} words in {stories} stories", steps.get());
}
