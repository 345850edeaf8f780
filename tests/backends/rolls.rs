//! Rolls, and what must not become of them.

use nix::sys::signal::Signal::{self, SIGHUP, SIGTERM};

use crate::harness::Running;
use crate::in_every_way;
use crate::ways::{Generations, Start};

in_every_way! {
    the_new_one_is_up_before_the_old_one_goes
    a_failed_roll_keeps_the_old_one
    an_exit_is_not_readiness
    one_that_dies_while_it_settles_fails_the_roll
    one_that_is_never_ready_fails_the_roll
    a_command_that_is_gone_fails_the_roll
    a_command_that_is_gone_stops_nothing_for_a_handover
    no_reload_of_a_storm_is_lost_and_rolls_never_overlap
    a_stop_in_a_roll_stops_everything
    a_stop_before_anything_serves_is_heard
    a_stop_behind_a_storm_is_heard
    old_generations_do_not_pile_up
    the_old_one_may_die_in_a_roll
    what_two_cannot_have_is_handed_over
    a_handover_that_fails_twice_ends
    a_stop_in_a_handover_starts_nothing
    signals_for_the_service_reach_the_one_that_serves
}

/// Says what happens to it.
const TELLS: &str = "\
def ends(*_): say('down', GENERATION); sys.exit(0)
signal.signal(signal.SIGTERM, ends)
say('up', GENERATION)
notify('READY=1')
serve()";

fn the_new_one_is_up_before_the_old_one_goes(start: Start) {
    let mut running = Running::start("up_before", start, &["--settle=100ms"], TELLS);
    running.serves(1);
    running.notified("READY=1");
    running.send(SIGHUP);
    running.notified("RELOADING=1");
    running.serves(2);
    running.notified("READY=1");
    running.services_are(1);
    running.send(SIGTERM);
    running.notified("STOPPING=1");
    running.ends_with(0);
    assert_eq!(running.out.rest(), ["up 1", "up 2", "down 1", "down 2"]);
}

/// Generation 2 does this. 1 serves on, with not a single signal, and 3 takes over.
fn fails(test: &str, start: Start, options: &[&str], second: &str, reason: &str) {
    let service = format!("if GENERATION == 2:\n    {second}\n{TELLS}");
    let mut running = Running::start(test, start, options, &service);
    running.serves(1);
    running.send(SIGHUP);
    let why = running.err.expect("Roll failed");
    let start = format!("procroll: Roll failed, {} serves on: {} {reason}", running.name(1), running.name(2));
    assert!(why.starts_with(&start), "{why}");
    running.notified("RELOADING=1");
    if let Some(status) = running.notified("last roll failed") {
        assert!(status.starts_with(&format!("STATUS={} (main PID ", running.name(1))), "{status}");
    }
    running.notified("READY=1");
    running.services_are(1);
    assert_eq!(running.out.so_far().last().map(String::as_str).filter(|line| line.starts_with("down 1")), None);
    running.roll(3);
    running.stop();
}

fn a_failed_roll_keeps_the_old_one(start: Start) {
    fails("a_failed_roll", start, &["--settle=0"], "sys.exit(3)", "failed (Result=exit-code, status=3) while starting");
}

fn an_exit_is_not_readiness(start: Start) {
    fails("an_exit", start, &["--settle=0"], "sys.exit(0)", "failed (Result=protocol) while starting");
}

fn one_that_dies_while_it_settles_fails_the_roll(start: Start) {
    let second = "notify('READY=1'); os.kill(os.getpid(), signal.SIGSEGV)";
    let reason = "was killed (Result=signal, status=SIGSEGV) while settling";
    fails("dies_settling", start, &["--settle=5s"], second, reason);
}

fn one_that_is_never_ready_fails_the_roll(start: Start) {
    let reason = "failed (Result=timeout) while starting";
    // Generation 1 has to be ready in that time, too.
    fails("never_ready", start, &["--settle=0", "--ready-timeout=3s"], "serve()", reason);
}

fn a_command_that_is_gone_fails_the_roll(start: Start) {
    command_gone("command_gone", start, "overlap");
}

fn a_command_that_is_gone_stops_nothing_for_a_handover(start: Start) {
    command_gone("command_gone_handover", start, "handover");
}

fn command_gone(test: &str, start: Start, strategy: &str) {
    let mut running = Running::start_program(test, start, &["--settle=0", "--strategy", strategy], TELLS);
    running.serves(1);
    let program = running.folder.join("program");
    let aside = running.folder.join("aside");
    std::fs::rename(&program, &aside).expect("aside");
    running.send(SIGHUP);
    let why = running.err.expect("Roll failed");
    let command = match start.generations {
        // It is systemd's to execute, which knows nothing of the caller's directory.
        Generations::Services => running.inner().join("program"),
        Generations::Processes | Generations::Scopes => "./program".into(),
    };
    let reason = "can't be executed: No such file or directory (os error 2)";
    let reason = format!("{} was not started: the command {} {reason}", running.name(2), command.display());
    assert!(why.contains(&reason), "{why}");
    assert!(!running.out.so_far().iter().any(|line| line.contains("down")), "it serves on");
    std::fs::rename(&aside, &program).expect("back");
    running.roll(3);
    running.stop();
}

fn no_reload_of_a_storm_is_lost_and_rolls_never_overlap(start: Start) {
    let service = TELLS.replace("notify(", "if GENERATION == 2: wait_for_word('go')\nnotify(");
    let mut running = Running::start("a_storm", start, &["--settle=0"], &service);
    running.pipe("go");
    running.serves(1);
    let storm = || (0..100).for_each(|_| running.send(SIGHUP));
    storm();
    let mut lines: Vec<_> = (0..2).filter_map(|_| running.out.next()).collect();
    // The roll to 2 goes on, and can't be the answer to these.
    storm();
    running.word("go", "");
    running.rests_after(2);
    running.stop();
    lines.extend(running.out.rest());
    // Reloads that are answered together are answered by the last roll.
    let served = running.err.rest().into_iter().rfind(|line| line.contains(" serves")).expect("a roll");
    let last = served.strip_prefix("procroll: ").and_then(|line| running.number(line)).expect("a number");
    let ups: Vec<_> = lines.iter().filter(|line| line.starts_with("up")).cloned().collect();
    assert_eq!(ups, (1..=last).map(|number| format!("up {number}")).collect::<Vec<_>>());
    for number in 1..=last {
        let at = |line: String| lines.iter().position(|one| *one == line);
        assert!(number == last || at(format!("up {}", number + 1)) < at(format!("down {number}")), "{lines:?}");
        assert!(at(format!("down {number}")).is_some(), "{lines:?}");
    }
}

fn a_stop_in_a_roll_stops_everything(start: Start) {
    let service = format!("if GENERATION == 2:\n    say('up 2')\n    serve()\n{TELLS}");
    let mut running = Running::start("stop_in_roll", start, &["--settle=0", "--ready-timeout=infinity"], &service);
    running.serves(1);
    running.send(SIGHUP);
    running.out.expect("up 2");
    running.send(SIGHUP);
    running.stop();
    assert_eq!(running.out.rest(), ["down 1"]);
}

fn a_stop_before_anything_serves_is_heard(start: Start) {
    let mut running = Running::start("stop_early", start, &["--ready-timeout=infinity"], "say('up'); serve()");
    running.out.expect("up");
    running.stop();
}

fn a_stop_behind_a_storm_is_heard(start: Start) {
    let mut running = Running::start("stop_behind", start, &["--settle=10s"], TELLS);
    running.out.expect("up 1");
    for _ in 0..50 {
        running.send(SIGHUP);
    }
    running.stop();
}

fn old_generations_do_not_pile_up(start: Start) {
    let service = "signal.signal(signal.SIGTERM, lambda *_: say('asked', GENERATION))\nsay('up', GENERATION)\nnotify('READY=1')\n\
        if GENERATION > 3: serve()\nwait_for_word('go%d' % GENERATION)\nsay('goes', GENERATION)";
    let options = ["--settle=0", "--max-stopping=2", "--shutdown-timeout=infinity"];
    let mut running = Running::start("pile_up", start, &options, service);
    for pipe in ["go1", "go2", "go3"] {
        running.pipe(pipe);
    }
    running.serves(1);
    running.roll(2);
    running.roll(3);
    running.out.expect("asked 2");
    running.send(SIGHUP);
    running.notified("the next roll waits for one of them to end");
    running.word("go1", "");
    running.out.expect("goes 1");
    running.out.expect("up 4");
    running.serves(4);
    running.word("go2", "");
    running.word("go3", "");
    running.services_are(1);
    running.send(SIGTERM);
    running.out.expect("asked 4");
    running.kill();
    running.ends_with(0);
}

fn the_old_one_may_die_in_a_roll(start: Start) {
    let service = "if GENERATION == 2:\n    say('up')\n    wait_for_word('go')\nnotify('READY=1')\nserve()";
    let mut running = Running::start("old_dies", start, &["--settle=0"], service);
    running.pipe("go");
    running.serves(1);
    running.send(SIGHUP);
    running.out.expect("up");
    running.send(Signal::SIGUSR1);
    running.services_are(1);
    running.word("go", "");
    running.serves(2);
    running.stop();
}

/// A lock that only one can have.
const LOCKS: &str = "\
import fcntl, os
lock = open(os.environ['FOLDER'] + '/lock', 'w')
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
";

fn what_two_cannot_have_is_handed_over(start: Start) {
    let service = format!("{LOCKS}if GENERATION == 3: sys.exit(5)\n{TELLS}");
    let mut running = Running::start("handover", start, &["--settle=100ms", "--strategy=handover"], &service);
    running.serves(1);
    running.send(SIGHUP);
    let serves = running.err.expect(&format!("{} serves", running.name(2)));
    assert!(serves.contains(", after a gap of "), "{serves}");
    // 3 fails, so there is one more of what 2 was.
    running.send(SIGHUP);
    let why = running.err.expect("Roll failed");
    assert!(why.contains(&format!("{} failed (Result=exit-code, status=5)", running.name(3))), "{why}");
    running.services_are(1);
    running.send(SIGTERM);
    running.ends_with(0);
    assert_eq!(running.out.rest(), ["up 1", "down 1", "up 2", "down 2", "up 4", "down 4"]);
}

fn a_handover_that_fails_twice_ends(start: Start) {
    let service = format!("if GENERATION > 1: sys.exit(3 + GENERATION)\n{TELLS}");
    let mut running = Running::start("handover_twice", start, &["--settle=0", "--strategy=handover"], &service);
    running.serves(1);
    running.send(SIGHUP);
    let why = running.err.expect("; then ");
    for (generation, status) in [(2, 5), (3, 6)] {
        let part = format!("{} failed (Result=exit-code, status={status})", running.name(generation));
        assert!(why.contains(&part), "{why}");
    }
    running.ends_with(1);
    assert_eq!(running.out.rest(), ["up 1", "down 1"]);
}

fn a_stop_in_a_handover_starts_nothing(start: Start) {
    let service = "\
def ends(*_): say('asked', GENERATION); wait_for_word('go'); say('down', GENERATION); os._exit(0)
signal.signal(signal.SIGTERM, ends)
say('up', GENERATION)
notify('READY=1')
serve()";
    let mut running = Running::start("handover_stop", start, &["--settle=0", "--strategy=handover"], service);
    running.pipe("go");
    running.serves(1);
    running.send(SIGHUP);
    running.out.expect("asked 1");
    running.send(SIGTERM);
    running.wait_for("it to hear the signal", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("procroll");
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).expect("its signals");
        let pending = u64::from_str_radix(pending.trim(), 16).expect("a number");
        (pending & 1 << (SIGTERM as u32 - 1) == 0).then_some(())
    });
    running.notified("STOPPING=1");
    running.word("go", "");
    running.ends_with(0);
    assert_eq!(running.out.rest(), ["down 1"]);
}

fn signals_for_the_service_reach_the_one_that_serves(start: Start) {
    let signals = [Signal::SIGUSR1, Signal::SIGUSR2];
    let service = format!("on(signal.SIGUSR1, signal.SIGUSR2)\n{TELLS}");
    let mut running = Running::start("signals", start, &["--settle=0"], &service);
    running.serves(1);
    running.roll(2);
    for signal in signals {
        running.send(signal);
        running.out.expect(&format!("2 {signal}"));
    }
    running.stop();
}
