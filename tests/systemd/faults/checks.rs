//! What has to hold after a step, looked at from outside.

use super::clients::CLIENTS;
use super::kinds::Excuse::*;
use super::payloads::Payload;
use super::world::Seen;
use super::{Run, Step};
use crate::machine::Answers;

/// How much more memory procroll may have than at first, in KiB: a procroll that has rolled has more than one that has
/// not.
const MORE_MEMORY: u64 = 8 * 1024;

/// Where systemd has no way of its own to keep generations when procroll crashes, this sees to that while the service runs.
const GUARD: &str = "procroll@web.service";

impl Run<'_> {
    /// Who serves, with which unit file, and what whoever asked for a reload was told. Gives who serves in the end.
    pub(super) fn the_service_is_as_it_should_be(
        &mut self,
        step: &Step,
        succeeded: Option<bool>,
        before: &Seen,
        after: Seen,
    ) -> Seen {
        let (mark, seen) = (self.world.mark, format!("before: {before:?}\nafter: {after:?}"));
        let ends = step.may(Ends) || step.may(Stops);
        let same = before.is_served_as(&after);
        self.hold(after.mark == before.mark || after.mark == mark, &format!("no other unit file was there\n{seen}"));
        // Up to systemd 256 a reload is one with a start of procroll that systemd is about to make.
        let is_a_start = step.may(Crashes) && !self.world.machine.suite.direct;
        match succeeded {
            // What it came to may be that of the unit that was put back.
            Some(true) if step.leaves_nothing() => {}
            Some(true) if !is_a_start => {
                self.hold(!step.is_broken(), &format!("a reload to what does not work fails\n{seen}"));
                self.hold(after.mark == mark, &format!("a reload that succeeded rolled\n{seen}"));
            }
            Some(false) if !step.is_broken() => {
                self.hold(step.may(Fails), &format!("a reload to what works succeeds\n{seen}"));
            }
            _ => {}
        }
        if step.is_broken() && !ends {
            self.hold(same, &format!("a roll that fails changes nothing\n{seen}"));
        }
        if after.mark == before.mark && !ends && !step.may(Rolls) && !step.may_fall_back() {
            self.hold(same, &format!("whoever serves without a roll is who served before\n{seen}"));
        }
        // What is started after all had gone counts from the beginning. In a handover they may have gone when procroll is killed.
        let none_left = step.roll.is_some_and(Payload::hands_over) && step.may(Crashes);
        let goes_on = ends || none_left || same || before.number() < after.number();
        self.hold(goes_on, &format!("what serves was not stopped but by a roll\n{seen}"));
        if !ends && !step.may(Crashes) {
            self.hold(before.procroll == after.procroll, &format!("procroll goes on\n{seen}"));
        }
        let most = self.first.memory + MORE_MEMORY;
        self.hold(after.memory < most, &format!("procroll's memory does not grow\n{seen}"));
        if after.mark == mark {
            return after;
        }
        // Whatever went wrong is over.
        let said = self.world.shell.run("systemctl reload web; echo $?");
        self.hold(said.is_some_and(|said| said == ["0"]), &format!("a reload works now\n{seen}"));
        let rolled = self.settled();
        self.hold(rolled.mark == mark, &format!("this reload rolled\n{seen}\nthen: {rolled:?}"));
        rolled
    }

    /// Whoever was told of a success is served by a generation that is newer than the one that served when they asked.
    pub(super) fn the_crowd_was_told_the_truth(&mut self, step: &Step, said: &[String], after: &Seen) {
        // Then numbers may begin anew, and a reload may be one with a start.
        if step.may(Ends) || step.may(Stops) || step.may(Crashes) {
            return;
        }
        for told in said.iter().filter_map(|line| line.strip_prefix("told ")) {
            let truth = match told.split_once(' ').map(|(status, served)| (status, served.parse::<u32>())) {
                Some(("0", Ok(served))) => !step.is_broken() && served < after.number(),
                Some((_, Ok(_))) => step.is_broken() || step.may(Fails),
                _ => false,
            };
            self.hold(truth, &format!("one of a crowd was told {told}\n{after:?}"));
        }
    }

    /// None is lost but those that a process had accepted which was killed.
    pub(super) fn answers_are_as_they_should_be(&mut self, step: &Step, before: &Seen, after: &Seen) {
        let (answers, marks, last) = self.clients.count();
        let lost = Answers { answered: 0, reset: 0, ..answers };
        self.hold(lost == Answers::default(), &format!("lost: {answers:?}"));
        let killed = step.faults.iter().filter(|fault| fault.excuses.contains(&Kills)).count();
        // Some take one process after the other.
        let accepted = (2 * killed * CLIENTS) as u64;
        self.hold(answers.reset <= accepted, &format!("lost with {killed} processes killed: {answers:?}"));
        let known = [before.mark, after.mark, self.world.mark];
        self.hold(marks.iter().all(|mark| known.contains(mark)), &format!("answers of {marks:?}, and not {known:?}"));
        self.hold(last == [self.world.mark], &format!("answers of {last:?}, and not of {}", self.world.mark));
        self.answers += answers;
    }

    /// No process, no unit and no file but those of the generation that serves, and of the last one that failed, which
    /// stays to be looked at.
    pub(super) fn nothing_is_left_over(&self, serving: &Seen) {
        let known = |name: &String| {
            let name = name.trim_end_matches(".d");
            name == serving.unit || name == GUARD || serving.failed.iter().any(|failed| failed == name)
        };
        // systemd removes them a moment after it has stopped to list their unit.
        let files = self.world.folder_when("/run/systemd/transient", |files| files.iter().all(known));
        self.hold(files.iter().all(known), &format!("files left over: {files:?}, {serving:?}"));
        let groups = self.world.folder("/sys/fs/cgroup/system.slice/system-web.slice");
        let groups: Vec<_> = groups.into_iter().filter(|name| name.starts_with("web@")).collect();
        self.hold(groups == [serving.unit.as_str()], &format!("processes left over: {groups:?}, {serving:?}"));
    }

    /// The service was stopped: no process, no unit, no file. Where procroll was killed meanwhile a unit that failed may
    /// be listed.
    pub(super) fn nothing_is_left(&mut self, step: &Step) {
        let crashed = step.may(Crashes);
        // Without procroll the generations stop behind their wrapper, and whoever stops that does not wait for them.
        let units = if crashed { self.world.units_when_over() } else { self.world.units() };
        let over = units.iter().all(|unit| unit.is_over() && (unit.id == "web.service" || crashed));
        self.hold(over, &format!("left after a stop: {units:#?}"));
        let group = self.world.folder("/sys/fs/cgroup/system.slice/web.service");
        let slice = self.world.folder("/sys/fs/cgroup/system.slice/system-web.slice");
        let groups: Vec<_> = slice.into_iter().filter(|name| name.starts_with("web@")).chain(group).collect();
        self.hold(groups.is_empty(), &format!("processes left after a stop: {groups:?}"));
        // The guard goes a moment after its wrapper, and systemd removes files a moment after it has stopped to list their unit.
        let failed = |file: &String| units.iter().any(|unit| file.trim_end_matches(".d") == unit.id);
        for folder in ["/run/systemd/transient", "/run/systemd/procroll"] {
            let files = self.world.folder_when(folder, |files| files.iter().all(failed));
            self.hold(files.iter().all(failed), &format!("files left after a stop: {files:?}"));
        }
    }
}
