//! What a roll takes, and what is held at rest, with each way to run generations.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine::Machine;

const ROLLS: usize = 100;
const WAYS: [(&str, &[&str]); 3] =
    [("direct", &["run"]), ("scope", &["--systemd-run", "--scope"]), ("service", &["--systemd-run"])];

/// Of procroll called from a shell.
pub fn backends(machine: &Machine) {
    print!("{}", machine.ok("/usr/bin/measure --backends-inside"));
    println!();
}

/// In the machine: one of each, turn about, from rest.
pub fn backends_inside() {
    let mut running = WAYS.map(|(_, form)| Procroll::start(form));
    let mut times = WAYS.map(|_| Vec::new());
    for turn in 0..ROLLS + 10 {
        for (procroll, times) in running.iter_mut().zip(&mut times) {
            std::thread::sleep(Duration::from_millis(100));
            let time = procroll.roll();
            // The first ones warm up.
            if turn >= 10 {
                times.push(time);
            }
        }
    }
    // Until the last of the old ones has gone.
    std::thread::sleep(Duration::from_secs(1));
    let least = median(&mut times[0]);
    for (((name, _), procroll), times) in WAYS.iter().zip(&running).zip(&mut times) {
        let time = median(times);
        let (processes, pss, own) = procroll.memory();
        println!(
            "{name}: a roll from HUP to serving, median {time:.1} ms, ratio to direct {:.2}; at rest {processes} processes of \
             procroll's, Pss {pss:.2} MB, of which {own:.2} MB are their own",
            time / least
        );
    }
}

struct Procroll {
    child: Child,
    messages: BufReader<std::process::ChildStderr>,
}

impl Procroll {
    fn start(form: &[&str]) -> Self {
        let mut command = Command::new("/usr/bin/procroll");
        command.args(form).args(["--settle=0", "--", "/usr/bin/measure", "--ready"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("procroll");
        let messages = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut procroll = Self { child, messages };
        procroll.serves();
        procroll
    }

    fn serves(&mut self) {
        let mut line = String::new();
        while !line.contains(" serves ") {
            line.clear();
            assert_ne!(self.messages.read_line(&mut line).expect("a message"), 0, "procroll has ended");
        }
    }

    /// In ms.
    fn roll(&mut self) -> f64 {
        let began = Instant::now();
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGHUP).expect("procroll");
        self.serves();
        began.elapsed().as_secs_f64() * 1e3
    }

    /// Of procroll and of those of its children that are procroll: how many, and MB.
    fn memory(&self) -> (usize, f64, f64) {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
        let pids: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([pid]).collect();
        let (mut pss, mut own) = (0.0, 0.0);
        for pid in &pids {
            let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
            let field = |name: &str| {
                let line = memory.lines().find(|line| line.starts_with(name)).expect("a field");
                line.split_whitespace().nth(1).expect("kB").parse::<f64>().expect("a number") / 1000.0
            };
            pss += field("Pss:");
            own += field("Pss_Anon:");
        }
        (pids.len(), pss, own)
    }
}

impl Drop for Procroll {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
