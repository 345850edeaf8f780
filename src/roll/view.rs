//! What the state comes to for people. Nothing is decided by it.

use std::collections::BTreeSet;

use super::{Failed, Generation, Old, Phase, Roll, Stage, State};

/// What there is to tell about the state, for STATUS= and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The generation that answers.
    pub serving: Option<Generation>,
    /// The generation on its way, and how far it is.
    pub candidate: Option<(Generation, Stage)>,
    /// Those that were asked to stop and have not ended.
    pub leaving: &'a BTreeSet<Generation>,
    /// In a handover: the one that was asked to stop so that the candidate can start.
    pub stopped: Option<Generation>,
    /// The candidate runs what that one ran, since what was to come after it has failed.
    pub again: bool,
    /// How the last roll failed, if it did.
    pub failed: Option<&'a Failed>,
    /// The next roll waits for one of those that leave to end.
    pub waiting: bool,
    /// Everything is being stopped.
    pub stopping: bool,
}

impl Roll {
    /// What there is to tell.
    pub fn view(&self) -> View<'_> {
        let mut view = View {
            serving: None,
            candidate: None,
            leaving: &self.leaving,
            stopped: None,
            again: false,
            failed: self.failed.as_ref(),
            waiting: false,
            stopping: false,
        };
        match &self.state {
            State::Serving(generation) => view.serving = Some(*generation),
            State::Rolling { old, candidate, phase } => {
                let stage = match phase {
                    Phase::Starting { .. } => Stage::Starting,
                    Phase::Waiting { .. } => Stage::Prepared,
                    Phase::Settling { .. } => Stage::Settling,
                };
                view.candidate = Some((*candidate, stage));
                match old {
                    Old::Nobody | Old::Died(..) => {}
                    Old::Serving(generation) => view.serving = Some(*generation),
                    Old::Stopped(generation) => view.stopped = Some(*generation),
                    Old::Again(generation, failed) => {
                        (view.stopped, view.again, view.failed) = (Some(*generation), true, Some(failed));
                    }
                }
            }
            State::Stopping { .. } => view.stopping = true,
            State::Idle | State::Ending(_) | State::Ended => {}
        }
        view.waiting = self.again && view.candidate.is_none();
        view
    }
}
