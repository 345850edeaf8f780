//! How generations and rolls end. Plain data: what it means for people is said in `manager::status`.

use std::fmt;

use crate::exit::ExitStatus;

/// The number of a generation, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u32);

impl Generation {
    /// Before the first.
    pub const NONE: Self = Self(0);

    /// The generation of this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The one after; none after the last, which no lifetime reaches, but somebody's unit may have.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its main process exited with this status, by itself.
    Exited(u8),
    /// Its main process was ended by this signal, by itself.
    Killed(i32),
    /// The unit failed in another way: systemd's word for it (`Result=`, such as `timeout`), or, where the start job
    /// itself failed, the job's result.
    Failed(String),
    /// The unit is no longer there: somebody stopped it.
    Stopped,
}

/// Why a start was refused before anything of the generation existed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in one line.
    pub reason: String,
    /// What procroll exits with, should nobody serve.
    pub exit: ExitStatus,
}

impl Refusal {
    pub(super) fn names_taken(last: Generation) -> Self {
        Self {
            reason: format!("the unit names up to number {last} belong to somebody else"),
            exit: ExitStatus::NameTaken,
        }
    }
}

/// How far a candidate got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not started yet: it waits for all others to be gone.
    Prepared,
    /// Not active yet.
    Starting,
    /// Active, but not for long enough yet.
    Settling,
}

/// Why a candidate will not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was started.
    Refused(Refusal),
    /// It was started, and ended.
    Died(Death),
}

/// A roll that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The candidate.
    pub generation: Generation,
    /// How far it got.
    pub stage: Stage,
    /// Why.
    pub failure: Failure,
    /// After a handover, in which the old one had to go first: what serves in its place.
    pub again: Option<Again>,
}

impl Failed {
    /// The same, where this `generation` runs what another one ran.
    pub(super) fn and_again(self, generation: Generation, of: Generation) -> Self {
        Self { again: Some(Again { generation, of }), ..self }
    }
}

/// A generation that runs what another one ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// Which one.
    pub generation: Generation,
    /// Whose settings it has.
    pub of: Generation,
}

/// Why procroll is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to stop, and everything has.
    Stopped,
    /// The generation that served died by itself.
    Died(Generation, Death),
    /// The first generation never served.
    Failed(Failed),
    /// After the old one had been stopped for it the candidate failed, and so did what was to run as the old one.
    Neither {
        /// The candidate.
        candidate: Failed,
        /// What came after it.
        again: Failed,
    },
}
