//! `procroll::rollover` with real processes, which need no systemd. `program.rs` beside this file is what replaces itself.
#![allow(clippy::expect_used, clippy::panic)] // That is how a test fails.

mod example;
mod failures;
mod harness;
mod strangers;

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::Running;
use nix::sys::signal::Signal;

/// As the README of the Go rollover has it.
#[test]
fn start_hup_hup_kill() {
    let mut program = Running::start("start_hup_hup_kill", &["one", "two  words", ""]);
    let first = program.pid();
    let start = fs::read(format!("/proc/{first}/cmdline")).expect("its arguments");
    let environment = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/environ")).expect("its environment");
        let mut names: Vec<_> =
            text.split('\0').filter(|one| !one.starts_with("PROCROLL_ROLLOVER=")).map(str::to_owned).collect();
        names.sort();
        names
    };
    let (variables, folder) = (environment(first), fs::read_link(format!("/proc/{first}/cwd")).expect("its folder"));
    for _ in 0..3 {
        let old = program.pid();
        let new = program.roll();
        assert_ne!(old, new);
        assert_eq!(program.processes(), [new], "the predecessor is gone when wait() returns");
        assert_eq!(fs::read(format!("/proc/{new}/cmdline")).expect("its arguments"), start);
        assert_eq!(environment(new), variables);
        assert_eq!(fs::read_link(format!("/proc/{new}/cwd")).expect("its folder"), folder);
    }
    program.send(Signal::SIGTERM);
    program.expect(&format!("{} ends by SIGTERM", program.pid()));
    program.is_gone();
}

/// 50, or `PROCROLL_ROLLOVERS=1000`.
#[test]
fn many_in_a_row_leave_nothing() {
    let count = std::env::var("PROCROLL_ROLLOVERS").map_or(50, |count| count.parse().expect("a number"));
    let mut program = Running::start("many_in_a_row_leave_nothing", &[]);
    let descriptors = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count();
    let before = descriptors(program.pid());
    for _ in 0..count {
        let new = program.roll();
        assert_eq!(program.processes(), [new]);
    }
    assert_eq!(descriptors(program.pid()), before, "none is handed on");
    program.send(Signal::SIGINT);
    program.is_gone();
}

#[test]
fn what_is_executed_is_the_new_file_at_the_path() {
    let mut program = Running::start("what_is_executed_is_the_new_file_at_the_path", &[]);
    let executes = |pid: u32| fs::metadata(format!("/proc/{pid}/exe")).expect("its program").ino();
    // In the way of an update that keeps the old file, and of one that doesn't.
    for keep in [true, false] {
        let new = program.path.with_extension("new");
        // By a process of its own: who has it open to write, as a child of another test's may, keeps it from being executed.
        let copied = std::process::Command::new("cp").args([&program.path, &new]).status();
        assert!(copied.expect("cp").success());
        let inode = fs::metadata(&new).expect("it").ino();
        if keep {
            fs::rename(&program.path, program.path.with_extension("old")).expect("the old file aside");
        } else {
            fs::remove_file(&program.path).expect("the old file gone");
        }
        fs::rename(&new, &program.path).expect("the new file in its place");
        let pid = program.roll();
        assert_eq!(executes(pid), inode);
    }
}

#[test]
fn a_program_that_is_named_by_a_link_follows_the_link() {
    let mut program = Running::start("a_program_that_is_named_by_a_link_follows_the_link", &["program=current"]);
    let (one, two) = (program.path.clone(), program.path.with_extension("two"));
    fs::hard_link(&one, &two).expect("another name");
    for target in [&two, &one] {
        let link = program.folder().join("current");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).expect("a link");
        let pid = program.roll();
        assert_eq!(&fs::read_link(format!("/proc/{pid}/exe")).expect("its program"), target);
    }
}

#[test]
fn its_own_children_get_nothing_of_it() {
    let mut program = Running::start("its_own_children_get_nothing_of_it", &[]);
    for _ in 0..2 {
        program.roll();
        program.send(Signal::SIGUSR1);
        program.expect("child [] 0");
    }
}

#[test]
fn the_signal_is_the_programs_choice() {
    let program = Running::start("the_signal_is_the_programs_choice", &["signal=15"]);
    let old = program.pid();
    program.send(Signal::SIGHUP);
    program.expect(&format!("{old} ends by SIGTERM"));
}

#[test]
fn what_is_no_signal_is_refused_before_anything_happens() {
    let program = Running::start_unready("what_is_no_signal_is_refused_before_anything_happens", &["signal=0"]);
    program.expect("refused: 0 is not a signal that a program can be asked to end by");
}

#[test]
fn a_predecessor_that_ignores_the_signal_is_killed() {
    let mut program = Running::start("a_predecessor_that_ignores_the_signal_is_killed", &["stubborn", "stop=2000"]);
    for _ in 0..2 {
        let old = program.pid();
        program.send(Signal::SIGHUP);
        program.expect(&format!("{old} ignores SIGINT"));
        let new = program.waited();
        assert_eq!(program.processes(), [new]);
    }
}

#[test]
fn a_predecessor_that_takes_its_time_has_one_successor() {
    let mut program = Running::start("a_predecessor_that_takes_its_time_has_one_successor", &["stubborn"]);
    let old = program.pid();
    program.send(Signal::SIGHUP);
    program.expect(&format!("{old} succeeded"));
    program.send(Signal::SIGHUP);
    program.expect(&format!("{old} goes on: a successor of process {old} has taken over already"));
    program.send(Signal::SIGKILL);
    let new = program.waited();
    assert_eq!(program.processes(), [new]);
}

#[test]
fn a_successor_starts_with_the_mask_that_its_predecessor_started_with() {
    let program = Running::start("a_successor_starts_with_the_mask_that_its_predecessor_started_with", &[]);
    // A shell would unblock them.
    program.replace(
        "#!/usr/bin/python3\nprint(*(line for line in open('/proc/self/status') if line.startswith('SigBlk')))\n",
    );
    program.send(Signal::SIGHUP);
    // HUP, INT, USR1 and TERM, which it blocks before it waits. Not USR2, which it blocks where it restarts.
    program.expect("SigBlk:\t0000000000004203");
}
