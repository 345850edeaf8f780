//! How long nobody serves in a handover: from the request to stop the old generation until the next one is active, for good.

use std::time::{Duration, Instant};

use crate::roll::Generation;

/// The gap there is, and the last one.
#[derive(Debug, Default)]
pub(super) struct Gap {
    open: Option<Open>,
    last: Option<(Generation, Duration)>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// When the one became active that may end it.
    until: Option<Instant>,
}

impl Gap {
    /// The old generation is asked to stop, were it once more.
    pub fn begins(&mut self, now: Instant) {
        self.open.get_or_insert(Open { since: now, until: None });
    }

    /// The next generation is active, but doesn't serve yet.
    pub fn next_is_active(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.until.get_or_insert(now);
        }
    }

    /// It is no longer.
    pub fn goes_on(&mut self) {
        if let Some(open) = &mut self.open {
            open.until = None;
        }
    }

    /// This generation serves.
    pub fn is_over(&mut self, serving: Generation, now: Instant) {
        if let Some(open) = self.open.take() {
            let until = open.until.unwrap_or(now);
            self.last = Some((serving, until.saturating_duration_since(open.since)));
        }
    }

    /// How long nobody served before this one did, if that was so.
    pub fn before(&self, generation: Generation) -> Option<Duration> {
        self.last.filter(|(after, _)| *after == generation).map(|(_, gap)| gap)
    }
}
