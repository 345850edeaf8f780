//! A program that replaces itself a thousand times, as plain processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;

const ROLLOVERS: usize = 1000;

/// From a call of restart() to the successor's return from wait().
pub fn measure() {
    // What has lost its parent is ours, so that it can be counted.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("a subreaper");
    let mut program = Command::new(std::env::current_exe().expect("our own path"));
    let mut program =
        program.arg("--rollover").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ourselves");
    let (mut input, output) = (program.stdin.take().expect("its input"), program.stdout.take().expect("its output"));
    let mut lines = BufReader::new(output).lines().map(|line| line.expect("a line"));
    let mut heard = |what: &str| {
        let line = lines.next().expect("a line");
        line.strip_prefix(what).expect("this line").parse::<u64>().expect("a time")
    };
    heard("waited ");
    let mut times: Vec<_> = (0..ROLLOVERS)
        .map(|_| {
            input.write_all(b"\n").expect("its input");
            let began = heard("restarts ");
            (heard("waited ") - began) as f64 / 1e6
        })
        .collect();
    drop(input);
    // Every process that there was is a child of ours by now. It may have ended or not.
    assert!(lines.next().is_none());
    program.wait().expect("the first of them");
    let mut ended = 1;
    while waitpid(None::<Pid>, None).is_ok() {
        ended += 1;
    }
    assert_eq!(ended, ROLLOVERS + 1, "each has ended");
    times.sort_by(f64::total_cmp);
    println!(
        "{ROLLOVERS} rollovers in a row, no process left; from restart() to the return of wait(): median {:.1} ms, p95 {:.1} ms",
        times[ROLLOVERS / 2],
        times[ROLLOVERS * 95 / 100]
    );
}

/// What replaces itself for each byte that it reads.
pub fn program() {
    let rollover = procroll::rollover::wait().expect("no predecessor any more");
    say("waited");
    if std::io::stdin().read(&mut [0]).expect("input") > 0 {
        say("restarts");
        rollover.restart().expect("a successor");
        // It is the signal that ends it.
        std::thread::sleep(std::time::Duration::MAX);
    }
}

fn say(what: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    println!("{what} {}", now.as_nanos());
}
