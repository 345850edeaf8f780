//! Faults, one after the other, of a service under load: a seeded sequence of rolls and of what may go wrong beside
//! them. After each, what procroll promises is looked at from outside: units, processes, files, answers.
//!
//! `PROCROLL_FAULTS=1000 PROCROLL_SEED=7 cargo test --test systemd -- --nocapture faults::` tries more of them, and
//! others. Each systemd has a table, at the end or at a breach, which also tells the seed, and what was done last as scripts
//! of a shell.
//!
//! [`kinds`] is what may go wrong and [`payloads`] what is rolled to, both to be added to; [`world`] is the machine and
//! what is seen of it, [`clients`] who asks the service, and [`checks`] what has to hold.

mod checks;
mod clients;
mod kinds;
mod payloads;
mod world;

use std::env;
use std::fmt::Write as _;
use std::time::Instant;

use crate::machine::{Answers, Machine, SUITES};
use clients::Clients;
use kinds::{Excuse, FAULTS, Fault};
use payloads::{BROKEN, GOOD, Payload};
use world::{Seen, World};

on_each_systemd!(a_service_comes_through_faults);

/// How many a run of all tests tries on each systemd: on all of them together, each kind.
const FEW: u64 = 20;
const _: () = assert!(FAULTS.len() <= FEW as usize * SUITES.len());

/// How long a step takes at the most before a fault begins or the reload is asked for, in milliseconds: a roll takes
/// about that long.
const SPREAD: u64 = 700;

/// How long a fault lasts that has an end, in milliseconds.
const LASTS: u64 = 1200;

fn a_service_comes_through_faults(machine: &Machine) {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let version = SUITES.iter().position(|suite| suite.version == machine.suite.version).expect("one of them");
    let seed = number("PROCROLL_SEED").unwrap_or(version as u64);
    let count = number("PROCROLL_FAULTS").unwrap_or(FEW);
    let mut run = Run::begin(machine, seed);
    while run.tries.iter().sum::<u64>() < count {
        run.step();
    }
    println!("{}", run.table(&[]));
}

/// Numbers that look like chance and are the same for the same seed: xorshift64.
struct Chance(u64);

impl Chance {
    fn from(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one<T>(&mut self, of: &'static [T]) -> &'static T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// All kinds in an order of chance, and then again in another one.
struct Bag {
    chance: Chance,
    kinds: Vec<&'static Fault>,
}

impl Bag {
    /// Neighbouring seeds, as many as there are systemds, share an order and begin at different places of it.
    fn from(seed: u64) -> Self {
        let versions = SUITES.len() as u64;
        let mut bag = Self { chance: Chance::from(seed / versions), kinds: Vec::new() };
        bag.fill();
        bag.kinds.rotate_right(FAULTS.len().div_ceil(SUITES.len()) * (seed % versions) as usize % FAULTS.len());
        bag
    }

    fn fill(&mut self) {
        self.kinds = FAULTS.iter().collect();
        for left in (1..FAULTS.len()).rev() {
            self.kinds.swap(left, self.chance.below(left as u64 + 1) as usize);
        }
    }

    fn take(&mut self) -> &'static Fault {
        if self.kinds.is_empty() {
            self.fill();
        }
        self.kinds.pop().expect("it was filled")
    }
}

/// One step: the service is to roll, or not, and meanwhile something goes wrong.
pub struct Step {
    /// What it is rolled to; nothing is asked for if there is none.
    roll: Option<&'static Payload>,
    /// One or two of them, each at a time of its own.
    faults: Vec<&'static Fault>,
}

impl Step {
    fn draw(chance: &mut Chance, bag: &mut Bag, direct: bool) -> Self {
        let mut faults: Vec<_> = (0..=chance.below(3) / 2).map(|_| bag.take()).collect();
        faults.dedup();
        let mut step = Self { roll: None, faults };
        // Whoever starts a candidate by its name that has failed has two until the next roll.
        let revived =
            step.may(Excuse::Revives) && step.faults.iter().all(|fault| fault.name.starts_with("the candidate"));
        let never_thawed = step.may(Excuse::Freezes) && step.may(Excuse::Crashes);
        let never_stopped =
            direct && [Excuse::Holds, Excuse::Crashes, Excuse::Stops].iter().all(|excuse| step.may(*excuse));
        if step.faults.len() > 1 && (revived || never_thawed || never_stopped) {
            bag.kinds.extend(step.faults.pop());
        }
        loop {
            step.roll = match chance.below(6) {
                0 => None,
                1 | 2 => Some(chance.one(BROKEN)),
                _ => Some(chance.one(GOOD)),
            };
            // With a unit that does not work nothing could serve, and what waits for that would wait until it is put back.
            let waits = [Excuse::Starts, Excuse::Stops, Excuse::Rolls].iter().any(|excuse| step.may(*excuse));
            if !(step.leaves_nothing() && waits) {
                return step;
            }
        }
    }

    fn is_broken(&self) -> bool {
        self.roll.is_some_and(|payload| BROKEN.contains(payload))
    }

    /// Whether nothing can serve until the unit is put back.
    fn leaves_nothing(&self) -> bool {
        self.is_broken() && self.may(Excuse::Ends)
    }

    /// Whether what serves may be another one that runs the same.
    fn may_fall_back(&self) -> bool {
        self.roll.is_some_and(Payload::hands_over) && self.may(Excuse::Fails)
    }

    fn may(&self, excuse: Excuse) -> bool {
        self.faults.iter().any(|fault| fault.excuses.contains(&excuse))
    }
}

/// The run of a machine through its faults.
pub struct Run<'a> {
    world: World<'a>,
    clients: Clients,
    chance: Chance,
    bag: Bag,
    seed: u64,
    began: Instant,
    first: Seen,
    now: Seen,
    /// How often each of [`FAULTS`] has been tried.
    tries: Vec<u64>,
    /// Those of the step that is under way.
    tried: Vec<&'static Fault>,
    /// The scripts of the steps so far.
    done: Vec<String>,
    answers: Answers,
    /// What procroll takes of memory at the most, in KiB.
    most_memory: u64,
}

impl<'a> Run<'a> {
    fn begin(machine: &'a Machine, seed: u64) -> Self {
        println!("{} begins with seed {seed}", machine.suite.version);
        let mut world = World::new(machine);
        let first = world.start().unwrap_or_else(|why| panic!("{why}\n{}", world.story()));
        let clients = Clients::start(machine);
        Self {
            world,
            clients,
            chance: Chance::from(seed),
            bag: Bag::from(seed),
            seed,
            began: Instant::now(),
            now: first.clone(),
            first,
            tries: vec![0; FAULTS.len()],
            tried: Vec::new(),
            done: Vec::new(),
            answers: Answers::default(),
            most_memory: 0,
        }
    }

    fn step(&mut self) {
        let step = Step::draw(&mut self.chance, &mut self.bag, self.world.machine.suite.direct);
        self.tried.clone_from(&step.faults);
        for fault in &step.faults {
            let kind = FAULTS.iter().position(|one| one == *fault).expect("one of them");
            self.tries[kind] += 1;
        }
        let before = self.now.clone();
        let payload_before = self.world.payload;
        if let Some(payload) = step.roll {
            self.world.write(payload);
        }
        let script = self.script(&step, &before);
        self.done.push(script.clone());
        if step.may(Excuse::Stops) {
            // They would start it anew by its socket.
            self.clients.pause();
        }
        let mut said = self.run(&script);
        if step.may(Excuse::Stops) {
            if !step.may(Excuse::Starts) {
                self.nothing_is_left(&step);
            }
            if step.is_broken() {
                self.world.write_again(payload_before, before.mark);
            }
            self.run("systemctl start web");
            self.clients.resume();
        } else if step.leaves_nothing() {
            said.extend(self.world.write_again(payload_before, before.mark));
            // A reload that was asked for may have waited for this.
            said.extend(self.run("systemctl start web; wait"));
        } else if step.is_broken() {
            // Whatever was asked for of it is over, and nothing else may come of it.
            self.settled();
            self.world.write_again(payload_before, before.mark);
        }
        let succeeded = said.iter().find_map(|line| line.strip_prefix("reload ")).map(|status| status == "0");
        let after = self.settled();
        self.the_crowd_was_told_the_truth(&step, &said, &after);
        let after = self.the_service_is_as_it_should_be(&step, succeeded, &before, after);
        self.answers_are_as_they_should_be(&step, &before, &after);
        self.nothing_is_left_over(&after);
        self.now = after;
    }

    fn run(&mut self, script: &str) -> Vec<String> {
        self.world.shell.run(script).unwrap_or_else(|| self.breach("the step does not end"))
    }

    /// What the shell does of a step: all of it at once, each at its time.
    fn script(&mut self, step: &Step, before: &Seen) -> String {
        let mut script = String::new();
        let _ = writeln!(script, "# from {} (main PID {}) with mark {}", before.unit, before.pid, before.mark);
        let _ =
            writeln!(script, "number={} serving={} procroll={} faults=", before.number(), before.pid, before.procroll);
        let mut at = |line: &str, then: &str, comment: &str, chance: &mut Chance| {
            let seconds = |milliseconds: u64| milliseconds as f64 / 1000.0;
            let line = line.replace("LASTS", &seconds(chance.below(LASTS)).to_string());
            let _ = writeln!(script, "(sleep {}; {line}) &{then} # {comment}", seconds(chance.below(SPREAD)));
        };
        if let Some(payload) = step.roll {
            let comment = format!("to mark {}, {}", self.world.mark, payload.name);
            at("systemctl reload web; echo reload $?", "", &comment, &mut self.chance);
        }
        for fault in &step.faults {
            at(fault.script, " faults=\"$faults $!\"", fault.name, &mut self.chance);
        }
        script + if step.leaves_nothing() { "wait $faults" } else { "wait" }
    }

    fn settled(&mut self) -> Seen {
        let seen = self.world.settled().unwrap_or_else(|why| self.breach(&why));
        self.most_memory = self.most_memory.max(seen.memory);
        seen
    }

    fn breach(&self, what: &str) -> ! {
        let last = self.done[self.done.len().saturating_sub(3)..].join("\n");
        let version = self.world.machine.suite.version;
        let steps = self.done.len();
        println!("{}", self.table(&self.tried));
        panic!("{what}\nSeed {}, step {steps} on {version}. The last ones:\n{last}\n{}", self.seed, self.world.story())
    }

    fn hold(&self, holds: bool, what: &str) {
        if !holds {
            self.breach(what);
        }
    }

    /// A line for each fault, in the same order for each systemd. The run ends with its first breach, at the last of some.
    fn table(&self, breached: &[&Fault]) -> String {
        let last = &self.now;
        let version = self.world.machine.suite.version;
        let mut table = format!("{version} {:<46} tries breaches\n", format!("fault (seed {})", self.seed));
        for (fault, tries) in FAULTS.iter().zip(&self.tries) {
            let _ =
                writeln!(table, "{version} {:<46} {tries:>5} {:>8}", fault.name, u8::from(breached.contains(&fault)));
        }
        let (faults, minutes) = (self.tries.iter().sum::<u64>(), self.began.elapsed().as_secs_f64() / 60.0);
        let Answers { answered, refused, reset, unanswered } = self.answers;
        let _ = writeln!(
            table,
            "{version} {faults} faults in {} steps, {:.1} a minute\n\
             {version} {answered} requests answered; with a process that was killed {reset} were lost, without none \
             ({refused} refused, {unanswered} not answered)\n\
             {version} procroll's memory: {} KiB at first, {} at last, {} at the most; descriptors: {} and {}\n\
             {version} PID 1's memory: {} KiB at first, {} at last",
            self.done.len(),
            faults as f64 / minutes,
            self.first.memory,
            last.memory,
            self.most_memory,
            self.first.descriptors,
            last.descriptors,
            self.first.memory_of_pid_1,
            last.memory_of_pid_1,
        );
        table
    }
}
