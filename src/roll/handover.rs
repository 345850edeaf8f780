//! Handover, for what two of can't live at once: the old generation is stopped, all others are gone, the new one starts.
//!
//! The backend knows from the unit whether that is so, and says it by [`Event::Prepared`](super::Event::Prepared): all that
//! can be refused of the new one has been looked at, and it has not been started. Until then the old one serves, as in any
//! roll. What comes after is decided here, and that is short: whoever fails from then on is followed by one that runs what
//! the old one ran. What those settings are is the backend's to keep.
//!
//! ```text
//!            Prepared            all gone                 settled
//!   Starting ───────▶ Waiting ───────────▶ Starting ▶ … ─────────▶ Serving
//!      ▲               (Stop of the old one)  │
//!      └────────────── Again ◀────────────────┘ failed, once
//! ```

use std::time::Duration;

use super::{Action, Failed, Generation, Old, Pace, Phase, Roll, State};

impl Roll {
    pub(super) fn prepared(&mut self, generation: Generation, pace: Pace) {
        if let State::Rolling { candidate, phase, .. } = &mut self.state
            && *candidate == generation
            && let Phase::Starting { taken, .. } = *phase
        {
            *phase = Phase::Waiting { taken, settle: pace.settle };
            self.most_leaving = pace.most_leaving;
        }
    }

    /// Those that left before go first, while the old one serves: so the time in which nobody does is as short as it can be.
    /// What was cleared away for this roll is waited for as well, since somebody may have started that anew.
    pub(super) fn hand_over_if_due(&mut self) {
        let State::Rolling { old, candidate, phase } = &mut self.state else { return };
        let Phase::Waiting { taken, settle } = *phase else { return };
        if !self.leaving.is_empty() {
            return;
        }
        match *old {
            Old::Serving(_) if !self.forgetting.is_empty() => {}
            Old::Serving(serving) => {
                *old = Old::Stopped(serving);
                self.ask_to_stop(serving);
            }
            _ => {
                *phase = Phase::Starting { taken, settle };
                let candidate = *candidate;
                self.actions.push_back(Action::Proceed(candidate));
            }
        }
    }

    /// What was started in place of the one that was `stopped` has failed.
    pub(super) fn fall_back(&mut self, stopped: Generation, failed: Failed) {
        let old = Old::Again(stopped, failed);
        self.state = State::Rolling { old, candidate: self.last, phase: Phase::starting(Duration::ZERO) };
        self.start_next();
    }
}
