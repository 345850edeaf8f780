//! How generations are run: one interface, and what stands behind it.
//!
//! A backend carries out what the [manager](crate::manager) asks of it and reports what became of it, each in its own
//! time; no call waits. It decides nothing about rolls.

pub mod service;

use std::future::Future;

use crate::roll::{Event, Generation, Inherited};

/// What a backend has to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A generation is active, or its main process is another one now.
    Active {
        /// Which one.
        generation: Generation,
        /// Its main process, for people; none if it has none just now.
        main_pid: Option<u32>,
    },
    /// A generation has this invocation id from now on, for the log.
    Invoked(Generation, String),
    /// Anything else that happened to a generation.
    Event(Event),
}

/// When somebody looks at a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While procroll runs, and keeps it to be looked at.
    Kept,
    /// After procroll has ended with it.
    Ended,
    /// When it has been cleared away.
    Cleared,
}

/// A way to run generations.
pub trait Backend {
    /// Generations that an earlier procroll left, in charge of which this backend now is.
    fn survey(&mut self) -> impl Future<Output = anyhow::Result<Vec<Inherited>>>;
    /// Starts a generation. Reports `Taken`, `Refused`, or `Started` and what follows.
    fn start(&mut self, generation: Generation);
    /// Asks a generation to stop, also while it is being started. Ends in `Dead`.
    fn stop(&mut self, generation: Generation);
    /// Kills all processes of a generation.
    fn kill(&mut self, generation: Generation);
    /// Sends a signal to the main process of a generation.
    fn pass_on(&mut self, generation: Generation, signal: i32);
    /// Clears away what is left of a dead generation. Ends in `Gone`.
    fn forget(&mut self, generation: Generation);
    /// Nothing is wanted for now: the backend lets go of whatever it does not need to notice the end of a generation.
    fn rest(&mut self);
    /// Whether it would hear of a generation's end, as far as it knows.
    fn is_in_touch(&self) -> bool;
    /// procroll ends: clears away what nobody would look after any more, and returns when that is done.
    fn end(&mut self) -> impl Future<Output = ()>;
    /// What to type to see more about a generation.
    fn hint(&self, generation: Generation, when: When) -> String;
    /// What to call a generation before people.
    fn name(&self, generation: Generation) -> String;
    /// The next report. May be dropped and called again without losing one.
    fn report(&mut self) -> impl Future<Output = Report>;
}
