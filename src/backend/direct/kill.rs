//! Signals to what there is of a generation, and its end when it does not end by itself.

use std::collections::BTreeSet;

use super::ears::{self, Process};
use super::tree::{self, Stat};
use super::{DirectBackend, Home, life};
use crate::roll::Generation;
use crate::systemd::group;
use crate::systemd::pidfd::Pidfd;

/// How often in a row to look for what has forked before it was killed.
const ROUNDS: usize = 50;

impl DirectBackend {
    pub(super) fn signal_main(&self, generation: Generation, signal: i32) {
        let main = self.generations.get(&generation).and_then(|running| running.main.as_ref());
        if let Some(main) = main
            && let Err(error) = main.handle.send(signal)
        {
            tracing::warn!("can't signal process {} of generation {generation}: {error}", main.pid);
        }
    }

    pub(super) fn signal_all(&self, generation: Generation, signal: i32) {
        for process in self.processes(generation) {
            // One that can't be signalled is killed in the end, or given up.
            let _ = process.handle.send(signal);
        }
    }

    /// Kills what there is of a generation, and gives it up if none of that can be killed.
    pub(super) fn kill_all(&mut self, generation: Generation) {
        if let Some(running) = self.generations.get(&generation) {
            running.ears.stop_listening();
            // Somebody may have stopped it, who would tell of no end then.
            let _ = running.keeper.process.handle.send(nix::libc::SIGCONT);
        }
        match self.generations.get(&generation).map(|running| running.home.clone()) {
            Some(Home::Held) => return self.give_up(generation),
            // Whatever has left it is found below the keeper.
            Some(Home::Group(group)) => drop(group::kill(&group)),
            _ => {}
        }
        let (mut killed, mut spared) = (BTreeSet::new(), BTreeSet::new());
        // What they have started before they heard of it is found in the next round.
        for _ in 0..ROUNDS {
            let found = self.processes(generation);
            let new: Vec<_> =
                found.iter().filter(|one| !killed.contains(&one.pid) && !spared.contains(&one.pid)).collect();
            if new.is_empty() {
                break;
            }
            for process in new {
                let them = if process.handle.send(nix::libc::SIGKILL).is_ok() { &mut killed } else { &mut spared };
                them.insert(process.pid);
            }
        }
        let Some(running) = self.generations.get(&generation) else { return };
        if !spared.is_empty() && killed.is_empty() {
            let pids = spared.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "generation {generation} is given up, since procroll may not kill what is left of it: {pids}"
            );
            self.handle(generation, life::Event::Empty);
        } else if spared.is_empty() && killed.is_empty() && running.keeper.is_lost {
            self.handle(generation, life::Event::Empty);
        }
    }

    /// Kills what nobody has let go on.
    fn give_up(&mut self, generation: Generation) {
        let held: Vec<_> = self.processes(generation).iter().map(|process| process.pid).collect();
        kill(&held);
        if let Some(running) = self.generations.get(&generation) {
            let _ = running.keeper.process.handle.send(nix::libc::SIGKILL);
        }
        // A scope may have been asked for.
        self.listed.insert(generation);
        self.handle(generation, life::Event::Empty);
    }

    /// All processes of a generation that can be found now. If its keeper has been killed, they are procroll's own, as are those
    /// of another generation of which that is so.
    fn processes(&self, generation: Generation) -> Vec<Process> {
        let Some(running) = self.generations.get(&generation) else { return Vec::new() };
        let (keeper, own) = (&running.keeper, std::process::id());
        // A number stays the keeper's until it is reaped, which does not happen while this thread is here.
        if !keeper.process.handle.has_ended() {
            let pids = tree::below(keeper.process.pid).into_iter();
            return pids.filter_map(|pid| ears::descendant(pid, keeper.process.pid)).collect();
        }
        if !keeper.is_lost {
            // It ends by itself when nothing is left.
            return Vec::new();
        }
        let is_keeper = |pid| self.generations.values().any(|running| running.keeper.process.pid == pid);
        let is_orphan = |stat: Stat| stat.began >= keeper.began && !stat.is_zombie;
        let orphans =
            tree::children(own).into_iter().filter(|pid| !is_keeper(*pid) && Stat::of(*pid).is_some_and(is_orphan));
        let all = orphans.flat_map(|pid| tree::below(pid).into_iter().chain([pid]));
        all.filter_map(|pid| ears::descendant(pid, own)).collect()
    }
}

/// Kills these processes.
pub(super) fn kill(pids: &[u32]) {
    for pid in pids.iter().filter_map(|pid| Pidfd::open(*pid)) {
        let _ = pid.send(nix::libc::SIGKILL);
    }
}
