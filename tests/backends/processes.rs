//! Generations as processes of procroll's own: their keepers, and their terminal.

use std::fs;

use nix::sys::signal::Signal::{self, SIGINT, SIGKILL, SIGTERM};
use nix::sys::signal::{kill, killpg};
use nix::unistd::{Pid, getpgid};

use crate::both_ways;
use crate::ends::{WITH_DAEMONS, are_gone};
use crate::harness::Running;
use crate::ways::{PLAIN, Start};

both_ways! {
    what_its_terminal_signals_is_for_procroll
    a_keeper_that_is_killed_takes_its_generation_along
    a_roll_without_descriptors_leaves_nothing
}

fn what_its_terminal_signals_is_for_procroll(start: Start) {
    use std::os::unix::process::CommandExt;
    let service = "on(signal.SIGINT)\nsignal.signal(signal.SIGTERM, lambda *_: (say('asked'), sys.exit(0)))\nnotify('READY=1')\nserve()";
    let mut running = Running::start_with("terminal", start, &["--settle=0"], service, |command| {
        command.process_group(0);
    });
    running.serves(1);
    killpg(getpgid(Some(running.pid())).expect("a group"), SIGINT).expect("a group");
    running.ends_with(0);
    assert_eq!(running.out.rest(), ["asked"]);
}

fn a_keeper_that_is_killed_takes_its_generation_along(start: Start) {
    let service = format!("{WITH_DAEMONS}notify('READY=1')\nserve()");
    let mut running = Running::start("keeper", start, &["--settle=0"], &service);
    running.serves(1);
    running.out.expect("daemons of 1");
    let all = running.with_daemons();
    kill(all[0], SIGKILL).expect("the keeper");
    running.ends_by(SIGKILL);
    running.err.expect("the keeper of generation 1 was killed, so all of it is");
    // Without one it is somebody else who reaps them.
    running.wait_for("their end", || are_gone(&all).then_some(()));
}

/// However many there are: each roll succeeds or fails as a whole.
fn a_roll_without_descriptors_leaves_nothing(start: Start) {
    let mut running = Running::start("descriptors_left", start, &["--settle=0"], "notify('READY=1')\nserve()");
    running.serves(1);
    let open = fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("its descriptors").count() as u64;
    let (mut failed, mut serves) = (0, 0);
    for limit in open..open + 20 {
        set_most_descriptors(running.pid(), limit);
        running.send(Signal::SIGHUP);
        let line = running.err.expect_any(&["Roll failed", " serves ("]);
        if line.contains("Roll failed") {
            failed += 1
        } else {
            serves += 1
        }
        running.services_are(1);
    }
    assert!(failed > 3 && serves > 3, "{failed} failed, {serves} served");
    running.stop();
}

fn set_most_descriptors(pid: Pid, most: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};
    let limit = Rlimit { current: Some(most), maximum: Some(1024) };
    prlimit(rustix::process::Pid::from_raw(pid.as_raw()), Resource::Nofile, limit).expect("a limit");
}

/// Nothing that serves stops for want of procroll.
#[test]
fn a_generation_serves_on_if_procroll_is_killed() {
    let mut running =
        Running::start("serves_on", PLAIN, &["--settle=0"], "on(signal.SIGUSR1)\nnotify('READY=1')\nserve()");
    running.serves(1);
    let [keeper, service] = running.descendants()[..] else { panic!("a keeper and a service") };
    running.send(SIGKILL);
    running.has_gone();
    kill(service, Signal::SIGUSR1).expect("the service");
    running.out.expect("1 SIGUSR1");
    kill(service, SIGTERM).expect("the service");
    running.wait_for("the end of the keeper", || kill(keeper, None).is_err().then_some(()));
    fs::remove_dir_all(running.folder.join("tmp")).expect("what it could not remove");
}

impl Running {
    /// All that descends from procroll now, whoever that is, its keeper first.
    pub fn descendants(&self) -> Vec<Pid> {
        let mut found = vec![self.pid()];
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
            next += 1;
        }
        found.split_off(1)
    }
}
