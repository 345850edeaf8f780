//! What goes into the state machine and what comes out of it: events, and the actions decided on.

use std::time::Duration;

use super::{Death, Exit, Failed, Generation, Refusal};

/// What has happened. All but the first three name the generation they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// procroll is in charge from now on, of these generations that an earlier one left (none, as a rule).
    Begin(Vec<Inherited>),
    /// Somebody wants a roll (SIGHUP).
    Reload,
    /// Somebody wants everything to stop (SIGTERM, SIGINT). The second one kills.
    Stop,
    /// The name of this generation belongs to a unit of somebody else.
    Taken(Generation),
    /// The start of this generation was refused before anything of it existed.
    Refused(Generation, Refusal),
    /// The generation exists and is on its way; once active it has to stay so for `settle`.
    Started {
        /// Which one.
        generation: Generation,
        /// How long it has to stay active before it counts.
        settle: Duration,
    },
    /// The generation is active, and its processes run.
    Active(Generation),
    /// The generation is on its way down, or started anew by somebody: not active any more, not dead yet.
    Deactivating(Generation),
    /// Nothing of the generation runs any more. systemd may still list it.
    Dead {
        /// Which one.
        generation: Generation,
        /// How it ended.
        death: Death,
        /// It has been active, were it for too short a time to be told.
        was_active: bool,
    },
    /// What [`Action::Forget`] asked for is done: systemd no longer knows the generation.
    Gone(Generation),
}

/// A generation that an earlier procroll left behind, as found when this one began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// Which one.
    pub generation: Generation,
    /// What it does.
    pub standing: Standing,
    /// How long it has to stay active, should it become a candidate.
    pub settle: Duration,
}

/// What a generation does, as systemd sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not active yet.
    Starting,
    /// Active, and its processes run.
    Active,
    /// On its way down.
    Deactivating,
    /// Nothing of it runs; it is only still listed.
    Dead,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this generation. Answered by `Taken`, `Refused`, or `Started` and what follows.
    Start(Generation),
    /// Ask this generation to stop; systemd counts its stop timeout. Ends in `Dead`.
    Stop(Generation),
    /// Kill every process of this generation. Ends in `Dead`.
    Kill(Generation),
    /// Make systemd forget this generation, of which nothing runs. Ends in `Gone`.
    Forget(Generation),
    /// To be told to whoever waits: the outcome of the last of the rolls asked for so far; at a takeover, that one serves
    /// already.
    Answer(Result<Generation, Failed>),
    /// procroll is done.
    Exit(Exit),
}
