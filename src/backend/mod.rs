//! How generations are run: one interface, and what stands behind it.
//!
//! A backend carries out what the [manager](crate::manager) asks of it and reports what became of it, each in its own
//! time; no call waits. It decides nothing about rolls.

pub mod direct;
mod names;
pub mod scope;
pub mod service;

use std::future::Future;

use crate::roll::{Event, Generation};

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
    /// A generation says this of itself (`STATUS=`). Not where its unit's manager hears that.
    Status(Generation, String),
    /// What was asked of a generation has been heard.
    Heard,
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
    /// Starts a generation. Reports `Taken`, `Refused`, or `Started` and what follows. One beside which no other can live is
    /// only prepared: that reports `Prepared`, when nothing of it can be refused any more and it is known what the others run.
    fn start(&mut self, generation: Generation);
    /// Goes on with the start of a generation that is prepared.
    fn proceed(&mut self, generation: Generation);
    /// Prepares a generation to run what another one ran, that was there when the last one was prepared.
    fn again(&mut self, generation: Generation, of: Generation);
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
    /// Whether all that was asked of generations has been heard, so that this process may go without it being lost. As a rule
    /// that is so at once; otherwise [`Report::Heard`] tells each time.
    fn is_heard(&mut self) -> bool {
        true
    }
    /// Asks what has become of those that were asked to stop and are to be noticed by the end of a process: that may outlive its
    /// unit, if nothing kills it.
    fn look(&mut self) {}
    /// Whether what an active generation lives with has ended, as far as that shows before its unit's manager says so. Then that
    /// is asked what the generation does, which is reported anew.
    fn has_ended(&mut self, _: Generation) -> bool {
        false
    }
    /// Whether no generation is left, as far as that can be told without being in touch.
    fn nothing_is_left(&self) -> bool;
    /// The reload job that a generation was started for, 0 for none, if that can be told.
    fn reload_of(&self, _: Generation) -> Option<u32> {
        None
    }
    /// Notes on this generation, for whoever finds it when procroll has crashed, that a reload is under way; or with none, that
    /// this is over.
    fn note_reload(&mut self, _: Option<Generation>) {}
    /// procroll ends: clears away what nobody would look after any more, and returns when that is done.
    fn end(&mut self) -> impl Future<Output = ()>;
    /// What to type to see more about a generation.
    fn hint(&self, generation: Generation, when: When) -> String;
    /// Its unit, for the log, where it has one.
    fn unit(&self, generation: Generation) -> Option<String>;
    /// What to call a generation before people.
    fn name(&self, generation: Generation) -> String;
    /// The next report. May be dropped and called again without losing one.
    fn report(&mut self) -> impl Future<Output = Report>;
}
