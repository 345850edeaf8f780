//! The ways to run generations that are tried: with which backend, and where.

use std::sync::OnceLock;

use crate::machine::{Machine, SUITES};

/// How procroll is started: what stands before it, and what makes it run generations in one way or another.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// What executes it, in the end. Nothing in a machine.
    pub before: &'static [&'static str],
    /// What comes before the options.
    pub form: &'static [&'static str],
    /// Where that is.
    pub place: Place,
    /// What it makes of them.
    pub generations: Generations,
}

/// Where procroll is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the test is, as if a shell had started it.
    Here,
    /// In a namespace, as its first process.
    First,
    /// In the machine with this version of systemd, as if a shell had started it.
    Machine(&'static str),
}

/// What a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generations {
    /// Processes of procroll's own.
    Processes,
    /// The same, each in a scope.
    Scopes,
    /// A service of systemd's.
    Services,
}

/// The direct backend, as from a shell.
pub const PLAIN: Start = Start { before: &[], form: &["run"], place: Place::Here, generations: Generations::Processes };

/// The direct backend, as in a container.
pub const FIRST: Start = Start {
    before: &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"],
    place: Place::First,
    ..PLAIN
};

/// The scope backend, with this version of systemd.
pub const fn scope(version: &'static str) -> Start {
    Start {
        form: &["--systemd-run", "--scope"],
        place: Place::Machine(version),
        generations: Generations::Scopes,
        ..PLAIN
    }
}

/// The service backend, with this version of systemd.
pub const fn service(version: &'static str) -> Start {
    Start { form: &["--systemd-run"], place: Place::Machine(version), generations: Generations::Services, ..PLAIN }
}

impl Start {
    /// What tells it from all others, in the names of files and units.
    pub fn label(self) -> String {
        let version = match self.place {
            Place::Here => return "plain".to_owned(),
            Place::First => return "first".to_owned(),
            Place::Machine(version) => version,
        };
        let unit = if self.generations == Generations::Scopes { "scope" } else { "service" };
        format!("{unit}-{version}")
    }

    /// The machine it is in, if it is in one: the same for all tests, which run side by side in it. It boots for the first of
    /// them, and goes when this process does.
    pub fn machine(self) -> Option<&'static Machine> {
        static MACHINES: [OnceLock<Machine>; SUITES.len()] = [const { OnceLock::new() }; SUITES.len()];
        let Place::Machine(version) = self.place else { return None };
        let known = SUITES.iter().zip(&MACHINES).find(|(suite, _)| suite.version == version);
        let (suite, machine) = known.expect("a suite of this version");
        Some(machine.get_or_init(|| Machine::boot(suite, env!("CARGO_BIN_EXE_procroll"))))
    }

    /// Whether it tells whoever has started it of all that goes on: a procroll that systemd has not started has nobody to tell
    /// of services.
    pub fn notifies(self) -> bool {
        self.generations != Generations::Services
    }

    /// What comes before and after a generation's number in its name, where units are named after `unit`.
    pub fn around_number(self, unit: &str) -> (String, &'static str) {
        match self.generations {
            Generations::Processes => ("generation ".to_owned(), ""),
            Generations::Scopes => (format!("{unit}-"), ".scope"),
            Generations::Services => (format!("{unit}@"), ".service"),
        }
    }
}
