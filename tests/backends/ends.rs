//! Ends: of services by themselves, of those that are asked to, and that nothing is left of any.

use std::fs;

use nix::sys::signal::Signal::{self, SIGINT, SIGKILL, SIGSEGV, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::harness::Running;
use crate::in_every_way;
use crate::ways::{Generations, PLAIN, Start};

in_every_way! {
    the_exit_status_is_passed_on
    the_signal_is_passed_on
    one_that_never_was_ready_passes_its_status_on
    one_that_is_not_ready_in_time_is_a_failure
    one_that_serves_and_dies_later_is_noticed
    a_second_stop_kills
    one_that_does_not_stop_in_time_is_killed
    all_that_has_come_of_a_generation_goes_with_it
    all_that_is_left_by_a_death_goes_with_it
    one_that_makes_ever_new_processes_is_killed
    each_signal_to_stop_stops
    who_asks_for_a_new_procroll_ends_nothing
}

/// `kill -STOP $PPID` in the service is enough.
#[test]
fn one_whose_keeper_is_stopped_ends_all_the_same() {
    let options = ["--settle=0", "--shutdown-timeout=500ms"];
    let mut running = Running::start("keeper_stopped", PLAIN, &options, "notify('READY=1'); serve()");
    running.serves(1);
    let keeper = running.descendants()[0];
    kill(keeper, Signal::SIGSTOP).expect("the keeper");
    running.roll(2);
    running.wait_for("the old one to go", || (running.descendants().len() == 2).then_some(()));
    kill(running.descendants()[0], Signal::SIGSTOP).expect("the next one's");
    running.send(SIGTERM);
    running.ends_with(0);
}

fn the_exit_status_is_passed_on(start: Start) {
    for status in [0, 7, 255] {
        let service = format!("notify('READY=1'); wait_for_word('go'); os._exit({status})");
        let mut running = Running::start(&format!("status_{status}"), start, &["--settle=0"], &service);
        running.pipe("go");
        running.serves(1);
        running.word("go", "");
        running.ends_with(status);
        running.err.expect(&format!("{} served and ", running.name(1)));
    }
}

fn the_signal_is_passed_on(start: Start) {
    for signal in [SIGSEGV, SIGKILL, SIGTERM] {
        let service = format!("notify('READY=1'); wait_for_word('go'); os.kill(os.getpid(), {})", signal as i32);
        let mut running = Running::start(&format!("signal_{}", signal as i32), start, &["--settle=0"], &service);
        running.pipe("go");
        running.serves(1);
        running.word("go", "");
        running.ends_by(signal);
        running.err.expect(&format!("{} served and was killed (Result=signal, status={signal})", running.name(1)));
    }
}

fn one_that_never_was_ready_passes_its_status_on(start: Start) {
    for (status, code) in [(3, 3), (0, 1)] {
        let mut running = Running::start(&format!("never_{status}"), start, &[], &format!("sys.exit({status})"));
        running.ends_with(code);
        running.err.expect(&format!("{} failed (Result=", running.name(1)));
    }
}

fn one_that_is_not_ready_in_time_is_a_failure(start: Start) {
    let mut running = Running::start("not_in_time", start, &["--ready-timeout=200ms"], "serve()");
    running.ends_with(1);
    running.err.expect(&format!("{} failed (Result=timeout) while starting", running.name(1)));
}

fn one_that_serves_and_dies_later_is_noticed(start: Start) {
    let service = "notify('READY=1')\nif GENERATION == 1: serve()\nwait_for_word('go'); sys.exit(9)";
    let mut running = Running::start("dies_later", start, &["--settle=0"], service);
    running.pipe("go");
    running.serves(1);
    running.roll(2);
    running.word("go", "");
    running.ends_with(9);
}

const STUBBORN: &str = "on(signal.SIGTERM)\nnotify('READY=1')\nserve()";

fn a_second_stop_kills(start: Start) {
    let mut running = Running::start("second_stop", start, &["--settle=0", "--shutdown-timeout=infinity"], STUBBORN);
    running.serves(1);
    running.send(SIGTERM);
    running.out.expect("1 SIGTERM");
    running.kill();
    running.ends_with(0);
}

fn one_that_does_not_stop_in_time_is_killed(start: Start) {
    let mut running = Running::start("stop_timeout", start, &["--settle=0", "--shutdown-timeout=200ms"], STUBBORN);
    running.serves(1);
    running.roll(2);
    running.out.expect("1 SIGTERM");
    running.services_are(1);
    running.send(SIGTERM);
    running.out.expect("2 SIGTERM");
    running.ends_with(0);
}

/// Processes without a tie to their generation: by parent, session, group, environment or open files. One of them goes when it
/// is asked to, one has to be killed.
pub const WITH_DAEMONS: &str = "\
def gentle():
    signal.signal(signal.SIGTERM, lambda *_: (say('gentle goes', GENERATION), os._exit(0)))
def stubborn():
    os.execve('/bin/sh', ['sh', '-c', 'trap \"\" TERM; (trap \"\" TERM; while :; do sleep 1000; done) & exec >/dev/null 2>&1; while :; do wait; done'], {})
daemon(serve, gentle)
daemon(stubborn)
say('daemons of', GENERATION)
";

pub fn are_gone(these: &[Pid]) -> bool {
    these.iter().all(|pid| kill(*pid, None).is_err())
}

fn all_that_has_come_of_a_generation_goes_with_it(start: Start) {
    let service = format!("{WITH_DAEMONS}notify('READY=1')\nserve()");
    let mut running = Running::start("all_goes", start, &["--settle=0", "--shutdown-timeout=500ms"], &service);
    running.serves(1);
    running.out.expect("daemons of 1");
    let first = running.with_daemons();
    running.roll(2);
    running.out.expect("daemons of 2");
    running.out.expect("gentle goes 1");
    running.wait_for("the end of the first generation", || are_gone(&first).then_some(()));
    let second = running.with_daemons();
    running.stop();
    assert!(are_gone(&second));
}

fn all_that_is_left_by_a_death_goes_with_it(start: Start) {
    let service = format!("{WITH_DAEMONS}notify('READY=1')\nwait_for_word('go')\nsys.exit(5)");
    let mut running = Running::start("left_by_death", start, &["--settle=0", "--shutdown-timeout=500ms"], &service);
    running.pipe("go");
    running.serves(1);
    running.out.expect("daemons of 1");
    let all = running.with_daemons();
    running.word("go", "");
    running.ends_with(5);
    running.out.expect("gentle goes 1");
    assert!(are_gone(&all));
}

/// Each lives for a moment only, and leaves another one; not for ever, should the test fail.
fn one_that_makes_ever_new_processes_is_killed(start: Start) {
    let service = "\
signal.signal(signal.SIGTERM, signal.SIG_IGN)
until = time.monotonic() + 120
def run():
    while time.monotonic() < until:
        if os.fork(): os._exit(0)
        os.setsid()
        time.sleep(0.002)
for _ in range(5): daemon(run)
notify('READY=1')
while True: signal.pause()";
    let mut running = Running::start("ever_new", start, &["--settle=0", "--shutdown-timeout=1s"], service);
    running.serves(1);
    running.send(SIGTERM);
    running.ends_with(0);
}

fn each_signal_to_stop_stops(start: Start) {
    for signal in [SIGTERM, SIGINT, Signal::SIGQUIT] {
        let service = "on(signal.SIGINT, signal.SIGQUIT)\nsignal.signal(signal.SIGTERM, lambda *_: (say('asked'), sys.exit(0)))\nnotify('READY=1')\nserve()";
        let mut running = Running::start(&format!("stop_{}", signal as i32), start, &["--settle=0"], service);
        running.serves(1);
        running.send(signal);
        running.ends_with(0);
        assert_eq!(running.out.rest(), ["asked"]);
    }
}

/// That is for wrapper units, which a unit with `procroll run` in it looks like.
fn who_asks_for_a_new_procroll_ends_nothing(start: Start) {
    let mut running = Running::start("new_procroll", start, &["--settle=0"], "notify('READY=1')\nserve()");
    running.serves(1);
    let sent = std::process::Command::new("kill").args(["-s", "RTMIN+25", &running.pid().to_string()]).status();
    assert!(sent.expect("kill").success());
    running
        .err
        .expect("procroll executes itself anew in a unit with --systemd-run and without --scope; here it goes on");
    running.roll(2);
    running.stop();
}

impl Running {
    /// All processes of the only generation, once that are a service and what it has started as above; and its keeper first, if
    /// it has one.
    pub fn with_daemons(&self) -> Vec<Pid> {
        let (all, count): (fn(&Self) -> Vec<Pid>, _) = match self.start.generations {
            Generations::Services => (Self::in_units, 5),
            Generations::Processes | Generations::Scopes => (Self::descendants, 6),
        };
        self.wait_for("daemons", || Some(all(self)).filter(|all| all.len() == count))
    }

    /// All processes in units of procroll's.
    fn in_units(&self) -> Vec<Pid> {
        let is_own = |group: &str| group.rsplit('/').next().is_some_and(|unit| self.number(unit.trim_end()).is_some());
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let own =
            entries.filter(|entry| fs::read_to_string(entry.path().join("cgroup")).is_ok_and(|group| is_own(&group)));
        own.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect()
    }
}
