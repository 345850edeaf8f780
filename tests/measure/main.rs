//! Figures, printed and not judged: `cargo bench --bench measure`, or with `-- v257` on that systemd alone, or with
//! `-- v257 kills rolls` only those: time, backends, settings, rest, kills, rolls or load; `-- rollover` needs no systemd. What is
//! compared is compared in one run on one machine, and told as a ratio.
#![allow(clippy::expect_used)] // What can't be measured fails by panicking.

mod backends;
mod endurance;
#[path = "../machine/mod.rs"]
mod machine;
mod rollover;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::{Load, Machine, SUITES};

const WRAPPER: &str = "[Service]\nType=notify-reload\nRestart=on-failure\nRestartMode=direct\n\
    ExecStart=+/usr/bin/procroll --systemd-run --settle=0 --service-type=exec -- /usr/bin/sleep infinity\n";

const GUNICORN: &str = "[Service]\nType=notify-reload\nUser=app\nWorkingDirectory=/srv/app\nPrivateTmp=yes\n\
    Restart=on-failure\nRestartMode=direct\n\
    ExecStart=+/usr/bin/procroll --systemd-run -- /usr/bin/gunicorn app:app\n";

/// Settings of a service, as data. Five of them, and sixty.
const FEW: &str = "User=app\nProtectSystem=strict\nPrivateTmp=yes\nLimitNOFILE=4096\nEnvironment=A=b\n";
const PROCESS: &str = include_str!("../systemd/samples/anywhere/process.conf");
const SANDBOX: &str = include_str!("../systemd/samples/anywhere/sandbox.conf");
const MANY: usize = 60;

/// One thing to measure, and its name.
type Figure = (&'static str, fn(&Machine));

/// What can be measured, in this order.
const FIGURES: [Figure; 7] = [
    ("time", time),
    ("backends", backends::backends),
    ("settings", settings),
    ("rest", at_rest),
    ("kills", endurance::kills),
    ("rolls", endurance::rolls),
    ("load", hundred_rolls),
];

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--time-inside"] => return time_inside(),
        ["--backends-inside"] => return backends::backends_inside(),
        ["--settings-inside"] => return settings_inside(),
        ["--kills-inside", name, restart] => return endurance::kills_inside(name, restart),
        ["--rolls-inside"] => return endurance::rolls_inside(),
        ["--ready"] => return endurance::ready(),
        ["--rollover"] => return rollover::program(),
        _ => {}
    }
    let chosen = |names: &[&str]| words.iter().any(|word| names.contains(&word.as_str()));
    let (versions, figures) = (SUITES.each_ref().map(|suite| suite.version), FIGURES.map(|(name, _)| name));
    // Needs no machine.
    if chosen(&["rollover"]) || !chosen(&figures) && !chosen(&versions) {
        rollover::measure();
    }
    if chosen(&["rollover"]) && !chosen(&figures) {
        return;
    }
    for suite in SUITES.iter().filter(|suite| !chosen(&versions) || chosen(&[suite.version])) {
        let machine = Machine::boot(suite, env!("CARGO_BIN_EXE_procroll"));
        println!("\n{}", machine.ok("systemctl --version | head -n 1"));
        // What is timed is timed from within, so that the way into the machine doesn't count.
        let ourselves = std::env::current_exe().expect("our own path");
        std::fs::copy(ourselves, machine.path("/usr/bin/measure")).expect("ourselves in the machine");
        for (_, measure) in FIGURES.iter().filter(|(name, _)| !chosen(&figures) || chosen(&[name])) {
            measure(&machine);
        }
    }
}

/// A roll against systemd-run.
fn time(machine: &Machine) {
    machine.unit("web.service", WRAPPER);
    machine.ok("systemctl start web");
    print!("{}", machine.ok("/usr/bin/measure --time-inside"));
    println!();
    machine.ok("systemctl stop web");
}

/// procroll at rest in its wrapper, after a few rolls.
fn at_rest(machine: &Machine) {
    machine.unit("web.service", WRAPPER);
    machine.ok("systemctl start web && for i in $(seq 100); do systemctl reload web; done");
    machine.wait_for("the old ones to go", || (machine.units("web@*").len() == 1).then_some(()));
    let pid = machine.show("web", "MainPID");
    let memory = machine.read(&format!("/proc/{pid}/smaps_rollup"));
    let field = |name: &str| {
        let line = memory.lines().find(|line| line.starts_with(name)).expect("a field");
        line.split_whitespace().nth(1).expect("kB").parse::<f64>().expect("a number") / 1000.0
    };
    println!("at rest: Pss {:.2} MB, of which {:.2} MB are its own ", field("Pss:"), field("Pss_Anon:"));
    let clients = machine.ok("busctl list --no-legend --no-pager");
    let connections = clients.lines().filter(|line| line.split_whitespace().nth(1) == Some(&pid)).count();
    let threads = machine.ok(&format!("ls /proc/{pid}/task | wc -l"));
    let switches = || machine.ok(&format!("grep ^voluntary_ctxt_switches /proc/{pid}/status | cut -f 2"));
    let before: u64 = switches().parse().expect("a number");
    std::thread::sleep(Duration::from_secs(60));
    let wake_ups = switches().parse::<u64>().expect("a number") - before;
    println!("at rest: threads {threads}, bus connections {connections}, wake-ups in a minute {wake_ups}");
    machine.ok("systemctl stop web");
}

/// gunicorn behind its socket, rolled a hundred times under load, as the README has it.
fn hundred_rolls(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", "[Socket]\nListenStream=127.0.0.1:8000\n");
    machine.unit("web.service", GUNICORN);
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    let began = Instant::now();
    for _ in 0..100 {
        machine.ok("systemctl reload web");
    }
    let seconds = began.elapsed().as_secs();
    let answers = load.stop();
    println!(
        "100 rolls of gunicorn in {seconds} s under 8 clients: answered {}, refused {}, reset {}, unanswered {}",
        answers.answered, answers.refused, answers.reset, answers.unanswered
    );
}

/// What a roll takes with few settings and with many, beside the start of a plain unit that has the same.
fn settings(machine: &Machine) {
    machine.write("/etc/sample.env", "A=b\n");
    let many = PROCESS.lines().chain(SANDBOX.lines()).filter(|line| line.contains('=') && !line.starts_with('#'));
    let many: String = many.take(MANY).map(|line| format!("{line}\n")).collect();
    for (name, settings) in [("few", FEW), ("many", &many)] {
        let plain = format!("[Service]\nType=exec\n{settings}ExecStart=/usr/bin/sleep infinity\n");
        machine.write(&format!("/etc/systemd/system/{name}-plain.service"), &plain);
        machine.unit(&format!("{name}.service"), &WRAPPER.replace("[Service]\n", &format!("[Service]\n{settings}")));
    }
    print!("{}", machine.ok("systemctl start few many && /usr/bin/measure --settings-inside"));
    println!();
    machine.ok("systemctl stop few many");
}

fn settings_inside() {
    // CPU time of PID 1, in ms.
    let spent = || {
        let stat = std::fs::read_to_string("/sys/fs/cgroup/init.scope/cpu.stat").expect("PID 1's group");
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("its CPU time");
        usage.parse::<f64>().expect("a number") / 1e3
    };
    for (name, count) in [("few", FEW.lines().count()), ("many", MANY)] {
        let plain = format!("{name}-plain");
        let mut rolls = Vec::new();
        let mut starts = Vec::new();
        for _ in 0..30 {
            let (began, before) = (Instant::now(), spent());
            run(&["systemctl", "reload", name]);
            rolls.push((began.elapsed().as_secs_f64() * 1e3, spent() - before));
            settle(name);
            let (began, before) = (Instant::now(), spent());
            run(&["systemctl", "start", &plain]);
            starts.push((began.elapsed().as_secs_f64() * 1e3, spent() - before));
            run(&["systemctl", "stop", &plain]);
        }
        let median = |of: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<_> = of.iter().map(which).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (roll, start) = (median(&rolls, |one| one.0), median(&starts, |one| one.0));
        let (roll_cpu, start_cpu) = (median(&rolls, |one| one.1), median(&starts, |one| one.1));
        println!(
            "{count} settings, median: systemctl reload {roll:.1} ms, start of a plain unit {start:.1} ms, ratio {:.2}; \
             of PID 1's CPU time {roll_cpu:.1} ms and {start_cpu:.1} ms, ratio {:.2}",
            roll / start,
            roll_cpu / start_cpu
        );
    }
}

fn run(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("a command").success(), "{words:?}");
}

/// Waits for the old generation's end, so that it does not fall into what is timed next.
fn settle(name: &str) {
    let list = format!("systemctl list-units --plain --no-legend '{name}@*'");
    run(&["sh", "-c", &format!("while [ $({list} | wc -l) != 1 ]; do :; done")]);
}

/// In the machine: a roll against systemd-run starting the same program, turn about. From rest is how a service is
/// rolled. In quick succession the kernel is still busy with control groups from before, which makes it twice as fast at
/// making one.
fn time_inside() {
    compare("from rest", Duration::from_millis(300));
    compare("in quick succession", Duration::ZERO);
}

fn compare(how: &str, rest: Duration) {
    let timed = |words: &[&str]| {
        std::thread::sleep(rest);
        let began = Instant::now();
        run(words);
        began.elapsed()
    };
    let roll = || {
        let time = timed(&["systemctl", "reload", "web"]);
        settle("web");
        time
    };
    let start = || {
        let unit = "bench.service";
        let words = ["systemd-run", "--quiet", "--unit", unit, "--service-type=exec", "/usr/bin/sleep", "infinity"];
        let time = timed(&words);
        run(&["systemctl", "stop", unit]);
        time
    };
    let (mut rolls, mut starts) = (Vec::new(), Vec::new());
    for turn in 0..110 {
        // Each is first as often as second.
        let (one_roll, one_start) = if turn % 2 == 0 {
            let one_roll = roll();
            (one_roll, start())
        } else {
            let one_start = start();
            (roll(), one_start)
        };
        // The first ones warm up.
        if turn >= 10 {
            rolls.push(one_roll);
            starts.push(one_start);
        }
    }
    rolls.sort();
    starts.sort();
    for (name, index) in [("median", rolls.len() / 2), ("p95", rolls.len() * 95 / 100)] {
        let (roll, start) = (rolls[index].as_secs_f64() * 1e3, starts[index].as_secs_f64() * 1e3);
        let ratio = roll / start;
        println!("{how}, {name}: systemctl reload {roll:.1} ms, systemd-run {start:.1} ms, ratio {ratio:.2}");
    }
}
