//! A program that replaces itself on SIGHUP, for the tests beside it, and ends on SIGINT or SIGTERM. It prints what
//! happens to it, one line each, with its process id. On SIGUSR1 it shows what a child of its own has.
#![allow(clippy::expect_used)] // That is how a test fails.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use procroll::rollover::Options;

fn main() {
    let pid = std::process::id();
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1].into_iter().collect();
    signals.thread_block().expect("a mask");
    let mut options = Options::new();
    let mut stubborn = false;
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            None if word == "stubborn" => stubborn = true,
            Some(("signal", number)) => options = options.kill_signal(number.parse().expect("a number")),
            Some(("start", ms)) => options = options.start_timeout(milliseconds(ms)),
            Some(("stop", ms)) => options = options.stop_timeout(milliseconds(ms)),
            Some(("program", path)) => options = options.program(path),
            _ => {}
        }
    }
    let rollover = match options.wait() {
        Ok(rollover) => rollover,
        Err(error) => return println!("{pid} refused: {error}"),
    };
    println!("{pid} waited");
    loop {
        match signals.wait().expect("a signal") {
            // Anywhere but in the first thread, with a mask of that thread's own.
            Signal::SIGHUP => std::thread::scope(|scope| {
                scope.spawn(|| {
                    SigSet::from(Signal::SIGUSR2).thread_block().expect("a mask");
                    println!("{pid} restarts");
                    match rollover.restart() {
                        Ok(()) => println!("{pid} succeeded"),
                        Err(error) => println!("{pid} goes on: {error}"),
                    }
                });
            }),
            Signal::SIGUSR1 => {
                let child = "echo child \"[$PROCROLL_ROLLOVER]\" $(ls -l /proc/self/fd | grep -c socket:)";
                Command::new("sh").args(["-c", child]).status().expect("a child");
            }
            signal if stubborn => println!("{pid} ignores {signal}"),
            signal => return println!("{pid} ends by {signal}"),
        }
    }
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().expect("a number"))
}
