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
    /// The generation could be started now, and is one beside which no other can live: it waits for
    /// [`Action::Proceed`].
    Prepared {
        /// Which one.
        generation: Generation,
        /// What its unit says of rolls.
        pace: Pace,
    },
    /// The generation exists and is on its way.
    Started {
        /// Which one.
        generation: Generation,
        /// What its unit says of rolls.
        pace: Pace,
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
    /// What its unit says of rolls.
    pub pace: Pace,
    /// It runs what another one ran, since a handover to the one in between had failed.
    pub again: bool,
}

impl Inherited {
    /// Who serves of those that were `left`, and who is to once it has settled. Of two that are active the higher one may not
    /// have.
    pub fn who_serves(left: &[Self]) -> (Option<Generation>, Option<Self>) {
        let mut newest_first = left.to_vec();
        newest_first.sort_by_key(|one| std::cmp::Reverse(one.generation));
        let mut up =
            newest_first.into_iter().filter(|one| matches!(one.standing, Standing::Starting | Standing::Active));
        let (newest, before) = (up.next(), up.find(|one| one.standing == Standing::Active));
        match (newest, before) {
            (Some(newest), None) if newest.standing == Standing::Active => (Some(newest.generation), None),
            (newest, before) => (before.map(|one| one.generation), newest),
        }
    }
}

/// How fast rolls may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a candidate has to stay active before it counts.
    pub settle: Duration,
    /// How many old generations may be on their way out before the next roll waits for one of them to end.
    pub most_leaving: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { settle: Duration::from_secs(1), most_leaving: 8 }
    }
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
    /// Start this generation. Answered by `Taken`, `Refused`, `Prepared`, or `Started` and what follows.
    Start(Generation),
    /// Go on with the start of this generation, which is prepared: all others are gone. Answered by `Taken`, `Refused`, or
    /// `Started` and what follows.
    Proceed(Generation),
    /// Start this generation, to run what another one ran. Answered as `Start`.
    Again {
        /// Which one.
        generation: Generation,
        /// Whose settings it is to have: the one that was stopped for the handover.
        of: Generation,
    },
    /// Ask this generation to stop; systemd counts its stop timeout. Ends in `Dead`.
    Stop(Generation),
    /// Kill every process of this generation. Ends in `Dead`.
    Kill(Generation),
    /// Make systemd forget this generation, of which nothing runs. Ends in `Gone`.
    Forget(Generation),
    /// To be told to whoever waits for a start: the first generation serves or, at a takeover, this one does already.
    Up(Generation),
    /// To be told to whoever waits for a roll: the outcome of the last of those asked for so far.
    Answer(Result<Generation, Failed>),
    /// procroll is done.
    Exit(Exit),
}
