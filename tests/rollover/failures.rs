//! Successors that don't take over: the old one goes on, says why, and can be replaced by a good one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::harness::Running;

/// The descriptor of a successor, as Python has it.
const SPEAK: &str = "#!/usr/bin/python3\nimport os, socket, signal\n\
    channel = socket.socket(fileno=int(os.environ['PROCROLL_ROLLOVER'].split(':')[0]))\n";

/// The time that a successor has, where it is not to run out.
const AMPLE: &str = "start=5000";

fn goes_on(test: &str, start: &str, spoil: impl Fn(&Running), reasons: &[&str]) {
    let mut program = Running::start(test, &[start]);
    // What went wrong once may go wrong again.
    for _ in 0..2 {
        spoil(&program);
        let reason = program.fails();
        for part in reasons {
            assert!(reason.contains(part), "no {part:?} in {reason:?}");
        }
        assert_eq!(reason.lines().count(), 1);
    }
    program.put_back();
    let new = program.roll();
    assert_eq!(program.processes(), [new]);
    program.send(Signal::SIGTERM);
    program.is_gone();
}

fn script_goes_on(test: &str, script: &str, reasons: &[&str]) {
    goes_on(test, AMPLE, |program| program.replace(script), reasons);
}

/// The good one that follows has as long.
fn times_out(test: &str, script: &str) {
    goes_on(test, "start=2000", |program| program.replace(script), &["has not taken over within 2s, and was killed"]);
}

#[test]
fn no_file_at_the_path() {
    let spoil = |program: &Running| drop(fs::remove_file(&program.path));
    let path = "no_file_at_the_path/program: No such file or directory (os error 2). Put a program there";
    goes_on("no_file_at_the_path", AMPLE, spoil, &["can't execute /", path]);
}

#[test]
fn a_file_that_is_not_executable() {
    let spoil = |program: &Running| {
        program.replace("#!/bin/sh\n");
        fs::set_permissions(&program.path, fs::Permissions::from_mode(0o644)).expect("a mode");
    };
    goes_on("a_file_that_is_not_executable", AMPLE, spoil, &["Permission denied (os error 13)"]);
}

#[test]
fn a_file_that_is_no_program() {
    script_goes_on("a_file_that_is_no_program", "half a download", &["Exec format error (os error 8)"]);
}

#[test]
fn one_that_dies_at_once() {
    let script = "#!/bin/sh\nexit 3\n";
    script_goes_on("one_that_dies_at_once", script, &["has ended before it took over (exit status 3)"]);
}

#[test]
fn one_that_a_signal_ends() {
    let script = "#!/bin/sh\nkill -SEGV $$\n";
    script_goes_on("one_that_a_signal_ends", script, &["has ended before it took over (signal 11)"]);
}

#[test]
fn one_that_never_waits() {
    let script = "#!/bin/sh\nexec sleep 1000\n";
    times_out("one_that_never_waits", script);
}

#[test]
fn one_that_closes_its_descriptor() {
    let script = format!("{SPEAK}channel.close()\nsignal.pause()\n");
    times_out("one_that_closes_its_descriptor", &script);
}

#[test]
fn one_that_says_something_else() {
    for (number, said) in ["b'\\0'", "b'asks '", "b'asked'", "b'x' * 65536"].iter().enumerate() {
        let script = format!("{SPEAK}channel.send({said})\nsignal.pause()\n");
        let test = format!("one_that_says_something_else_{number}");
        script_goes_on(&test, &script, &["does not speak as procroll::rollover::wait() does, and was killed"]);
    }
}

#[test]
fn one_that_dies_between_its_two_words() {
    let script = format!("{SPEAK}channel.send(b'asks')\nassert channel.recv(64) == b'go'\nos._exit(4)\n");
    script_goes_on("one_that_dies_between_its_two_words", &script, &["has ended before it took over (exit status 4)"]);
}

#[test]
fn one_that_hangs_between_its_two_words() {
    let script = format!("{SPEAK}channel.send(b'asks')\nassert channel.recv(64) == b'go'\nsignal.pause()\n");
    times_out("one_that_hangs_between_its_two_words", &script);
}

/// Once it may go ahead it is on its way to be in charge, however late it has asked.
#[test]
fn one_that_asks_late_takes_over() {
    let mut program = Running::start("one_that_asks_late_takes_over", &["start=3000"]);
    let old = program.pid();
    let asks = "time.sleep(1.8)\nchannel.send(b'asks')\nassert channel.recv(64) == b'go'\ntime.sleep(1.8)\n";
    // As the real one it waits until its predecessor is gone, so that what both print has one order.
    let takes_over = "old = os.pidfd_open(os.getppid())\nos.kill(os.getppid(), signal.SIGINT)\n\
        channel.send(b'asked')\nselect.select([old], [], [])\nprint(os.getpid(), 'waited', flush=True)\n";
    program.replace(&format!("{SPEAK}import select, time\n{asks}{takes_over}signal.pause()\n"));
    program.send(Signal::SIGHUP);
    program.expect(&format!("{old} succeeded"));
    let new = program.waited();
    assert_ne!(new, old);
    program.send(Signal::SIGKILL);
    program.is_gone();
}

#[test]
fn one_that_a_program_has_reaped_already_is_none() {
    let mut program =
        Running::start_by("one_that_a_program_has_reaped_already_is_none", "exec env --ignore-signal=CHLD \"$0\"");
    program.replace("#!/bin/sh\nexit 3\n");
    let reason = program.fails();
    assert!(reason.contains("has ended before it took over (nobody but its reaper knows how)"), "{reason}");
    program.put_back();
    program.roll();
}

#[test]
fn a_predecessor_that_is_killed_meanwhile_is_gone() {
    let mut program = Running::start("a_predecessor_that_is_killed_meanwhile_is_gone", &[]);
    let old = program.pid();
    fs::rename(&program.path, program.path.with_extension("good")).expect("another name");
    program.replace("#!/bin/sh\nmkfifo \"$0.go\"; echo there; read -r line <\"$0.go\"\nexec \"$0.good\"\n");
    program.send(Signal::SIGHUP);
    program.expect("there");
    program.send(Signal::SIGKILL);
    fs::write(program.path.with_extension("go"), "\n").expect("a pipe");
    let new = program.waited();
    assert_ne!(new, old);
    assert_eq!(program.processes(), [new]);
}
