//! What becomes of a wrapper that is down: whether it comes back by itself. Pure: what is seen is handed in.

use crate::systemd::guard::Seen;

/// An outage, from when the wrapper is looked at first.
#[derive(Debug, Default)]
pub struct Outage {
    /// `NRestarts` when systemd had not counted the next one yet.
    restarts: Option<u32>,
    /// The least `RestartUSec` that was seen: a daemon-reload may have changed it, and what systemd goes by.
    pause: Option<u64>,
    /// It had RestartMode=direct.
    direct: bool,
}

impl Outage {
    /// What is to become of the generations, once that can be told.
    pub fn verdict(&mut self, seen: &Seen) -> Option<Verdict> {
        let job = seen.job.as_deref();
        self.pause = Some(self.pause.map_or(seen.restart_usec, |pause| pause.min(seen.restart_usec)));
        self.direct |= seen.direct;
        match (seen.active_state.as_str(), seen.sub_state.as_str()) {
            _ if job == Some("stop") => Some(Verdict::Stop),
            // Of one that is up, only somebody's.
            _ if seen.is_up() && job == Some("restart") => Some(Verdict::Stop),
            // No start is left, or none was wanted.
            _ if seen.is_down() => seen.stays_down().then_some(Verdict::Stop),
            // Its main process has ended, and systemd hasn't said yet what follows.
            ("deactivating", _) => None,
            (_, waits) if waits.starts_with("auto-restart") => {
                if job.is_none() {
                    self.restarts = Some(seen.restarts[0]);
                }
                None
            }
            // Its main process is not there yet, or a stop would not come to anything.
            _ if !seen.hears() => None,
            _ if self.is_started_by_somebody(seen) => Some(Verdict::Stop),
            _ => Some(Verdict::Keep),
        }
    }

    /// Its main process was started when the guard went down or later, and sooner than systemd would have, or without its
    /// counting that.
    fn is_started_by_somebody(&self, seen: &Seen) -> bool {
        // With RestartMode=direct systemd 254 cuts the pause short when it reads its units anew. When it did so first it doesn't say,
        // so a start of somebody's right before that is taken for its own, and they serve on.
        let cut_short = self.direct && seen.units_load >= seen.active_exit;
        let paused = seen.main_start.saturating_sub(seen.active_exit);
        let too_soon = !cut_short && self.pause.is_some_and(|pause| paused < pause);
        // "systemctl reset-failed" has it counted anew, after which it is 0 or 1.
        let uncounted = seen.restarts[1] > 1 && self.restarts == Some(seen.restarts[1]);
        seen.main_start + TOGETHER > seen.guard_exit && (too_soon || uncounted)
    }
}

/// How long may pass between the two halves of what systemd does at once, in µs: with RestartMode=direct, systemd 254 tells the
/// guard of nothing but the start.
const TOGETHER: u64 = 1_000_000;

/// What is to become of the generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They serve on, and the next procroll takes over.
    Keep,
    /// They go with their wrapper.
    Stop,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CRASH: u64 = 5_000_000;
    const PAUSE: u64 = 100_000;

    /// `active running`, with a job behind it if there is one, and a main process that was started at this time.
    fn verdict(state: &str, main_start: u64) -> Option<Verdict> {
        let mut words = state.split_whitespace().map(str::to_owned);
        let mut word = || words.next();
        let seen = Seen {
            active_state: word().unwrap_or_default(),
            sub_state: word().unwrap_or_default(),
            job: word(),
            active_exit: CRASH,
            main_start,
            has_spoken: true,
            now: main_start,
            units_load: 1_000_000,
            restart_usec: PAUSE,
            direct: false,
            guard_exit: CRASH + 2_000,
            restarts: [3; 2],
        };
        Outage::default().verdict(&seen)
    }

    fn seen() -> impl Strategy<Value = Seen> {
        let states = [
            ("active", "running"),
            ("reloading", "reload"),
            ("deactivating", "stop-sigterm"),
            ("activating", "start"),
            ("activating", "auto-restart"),
            ("inactive", "dead"),
            ("failed", "failed"),
        ];
        let jobs = [None, None, Some("start"), Some("restart"), Some("reload"), Some("stop")];
        let times = || {
            prop::sample::select(vec![0, CRASH - 2_000_000, CRASH, CRASH + PAUSE / 2, CRASH + PAUSE, CRASH + 4_000_000])
        };
        let told = (
            prop::sample::select(states.to_vec()),
            prop::sample::select(jobs.to_vec()),
            [any::<bool>(), any::<bool>()],
            [0u32..5, 0..5],
        );
        (told, (times(), times(), times(), times(), times())).prop_map(|(told, times)| {
            let ((active_state, sub_state), job, [has_spoken, direct], restarts) = told;
            let (active_exit, main_start, now, units_load, guard_exit) = times;
            Seen {
                active_state: active_state.to_owned(),
                sub_state: sub_state.to_owned(),
                job: job.map(str::to_owned),
                active_exit,
                main_start,
                has_spoken,
                now,
                units_load,
                restart_usec: PAUSE,
                direct,
                guard_exit,
                restarts,
            }
        })
    }

    proptest! {
        /// Whatever was seen before.
        #[test]
        fn a_stop_is_one_and_what_keeps_them_hears_the_next(sights in prop::collection::vec(seen(), 1..8)) {
            let mut outage = Outage::default();
            for seen in sights {
                match outage.verdict(&seen) {
                    _ if seen.job.as_deref() == Some("stop") => prop_assert_eq!(outage.verdict(&seen), Some(Verdict::Stop)),
                    Some(Verdict::Keep) => prop_assert!(seen.hears() && !seen.stays_down(), "{:?}", seen),
                    Some(Verdict::Stop) => {}
                    None => prop_assert!(!seen.stays_down(), "{:?}", seen),
                }
            }
        }

        /// Whatever else happens meanwhile, if systemd starts it again no sooner than it would, and counts that.
        #[test]
        fn what_systemd_starts_by_itself_keeps_them(
            waits in prop::collection::vec(0usize..3, 0..6),
            reset in any::<bool>(),
            late in 0u64..10_000_000,
            cut_short in prop::option::of(0..PAUSE),
            again in 0u64..1_000_000,
        ) {
            let mut outage = Outage::default();
            // systemd 254 cuts the pause short when it reads its units anew, which somebody may have it do once more meanwhile.
            let started = CRASH + cut_short.unwrap_or(PAUSE + late);
            let mut seen = Seen {
                active_exit: CRASH,
                guard_exit: if cut_short.is_some() { started } else { CRASH + 2_000 },
                restart_usec: PAUSE,
                direct: cut_short.is_some(),
                main_start: CRASH - 2_000_000,
                restarts: [3; 2],
                units_load: if cut_short.is_some() { started + again } else { 0 },
                ..Seen::default()
            };
            for wait in waits {
                let (active_state, sub_state) =
                    [("deactivating", "stop-sigterm"), ("activating", "auto-restart"), ("activating", "auto-restart-queued")][wait];
                seen.active_state = active_state.to_owned();
                seen.sub_state = sub_state.to_owned();
                prop_assert_eq!(outage.verdict(&seen), None);
            }
            seen.active_state = "activating".to_owned();
            seen.sub_state = "start".to_owned();
            seen.main_start = started;
            seen.now = seen.main_start;
            seen.restarts = if reset { [1; 2] } else { [4; 2] };
            prop_assert_eq!(outage.verdict(&seen), None, "it does not hear yet");
            seen.has_spoken = true;
            prop_assert_eq!(outage.verdict(&seen), Some(Verdict::Keep));
        }
    }

    #[test]
    fn an_automatic_restart_keeps_them() {
        let before = 1_000_000;
        for waits in [
            "deactivating final-sigterm",
            "activating auto-restart",
            "activating auto-restart restart",
            "activating auto-restart-queued restart",
            "failed failed start",
            "inactive dead start",
            "activating start-pre start",
        ] {
            assert_eq!(verdict(waits, before), None, "{waits}");
        }
        for starts in ["activating start start", "active running", "reloading reload reload"] {
            assert_eq!(verdict(starts, CRASH + PAUSE + 10), Some(Verdict::Keep), "{starts}");
        }
    }

    #[test]
    fn the_end_of_the_wrapper_stops_them() {
        for ends in [
            "active running stop",
            "deactivating stop-sigterm stop",
            "activating auto-restart stop",
            "inactive dead",
            "failed failed",
            "inactive dead reload",
        ] {
            assert_eq!(verdict(ends, 1_000_000), Some(Verdict::Stop), "{ends}");
        }
    }

    #[test]
    fn a_restart_of_somebodys_stops_them() {
        assert_eq!(verdict("active running restart", 1_000_000), Some(Verdict::Stop));
        assert_eq!(verdict("deactivating stop-sigterm restart", 1_000_000), Some(Verdict::Stop));
        // In the pause before systemd's own.
        assert_eq!(verdict("activating start start", CRASH + PAUSE - 10), Some(Verdict::Stop));
        assert_eq!(verdict("active running", CRASH + PAUSE - 10), Some(Verdict::Stop));
    }

    #[test]
    fn what_systemd_does_by_itself_it_counts() {
        let started_after = |restarts: u32| {
            let mut outage = Outage::default();
            let mut seen = Seen { active_state: "activating".to_owned(), restarts: [3; 2], ..Seen::default() };
            seen.sub_state = "auto-restart".to_owned();
            assert_eq!(outage.verdict(&seen), None);
            seen.job = Some("restart".to_owned());
            seen.restarts = [restarts; 2];
            assert_eq!(outage.verdict(&seen), None);
            seen.sub_state = "start".to_owned();
            seen.main_start = 1;
            assert_eq!(outage.verdict(&seen), None, "it may not hear of a stop yet");
            let silent = Seen { now: u64::MAX, ..seen.clone() };
            let verdict = outage.verdict(&Seen { has_spoken: true, ..seen });
            assert_eq!(outage.verdict(&silent), verdict, "one that says nothing is old enough at last");
            verdict
        };
        assert_eq!(started_after(4), Some(Verdict::Keep));
        assert_eq!(started_after(3), Some(Verdict::Stop));
        for reset in [0, 1] {
            assert_eq!(started_after(reset), Some(Verdict::Keep), "after a reset-failed");
        }
    }

    #[test]
    fn who_stops_the_guard_alone_stops_nothing() {
        for up in ["active running", "reloading reload reload", "active running reload"] {
            assert_eq!(verdict(up, CRASH - 2_000_000), Some(Verdict::Keep), "{up}");
        }
    }
}
