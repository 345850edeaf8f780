//! Figures, printed and not judged: `cargo bench --bench measure`. What is compared is compared in one run on one
//! machine, and told as a ratio.
#![allow(clippy::expect_used)] // What can't be measured fails by panicking.

#[path = "../machine/mod.rs"]
mod machine;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use machine::{FORKY, Load, Machine, Suite, TRIXIE};

const WRAPPER: &str = "[Service]\nType=notify-reload\nRestart=on-failure\nRestartMode=direct\n\
    ExecStart=+/usr/bin/procroll --systemd-run --settle=0 --service-type=exec -- /usr/bin/sleep infinity\n";

const GUNICORN: &str = "[Service]\nType=notify-reload\nUser=app\nWorkingDirectory=/srv/app\nPrivateTmp=yes\n\
    Restart=on-failure\nRestartMode=direct\n\
    ExecStart=+/usr/bin/procroll --systemd-run -- /usr/bin/gunicorn app:app\n";

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--time-inside") {
        return time_inside();
    }
    for suite in [TRIXIE, FORKY] {
        measure(suite);
    }
}

fn measure(suite: Suite) {
    let machine = Machine::boot(suite, env!("CARGO_BIN_EXE_procroll"));
    let version = machine.ok("systemctl --version | head -n 1");
    println!("\n{version}");

    machine.unit("web.service", WRAPPER);
    machine.ok("systemctl start web");
    // Timed from within, so that the way into the machine doesn't count.
    let ourselves = std::env::current_exe().expect("our own path");
    std::fs::copy(ourselves, machine.path("/usr/bin/measure")).expect("ourselves in the machine");
    print!("{}", machine.ok("/usr/bin/measure --time-inside"));
    println!();

    at_rest(&machine);
    machine.ok("systemctl stop web");
    hundred_rolls(&machine);
}

/// procroll at rest in its wrapper, after the rolls above.
fn at_rest(machine: &Machine) {
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

/// In the machine: a roll against systemd-run starting the same program, turn about. From rest is how a service is
/// rolled. In quick succession the kernel is still busy with control groups from before, which makes it twice as fast at
/// making one.
fn time_inside() {
    compare("from rest", Duration::from_millis(300));
    compare("in quick succession", Duration::ZERO);
}

fn compare(how: &str, rest: Duration) {
    let run = |words: &[&str]| {
        let status = Command::new(words[0]).args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("a command").success(), "{words:?}");
    };
    let timed = |words: &[&str]| {
        std::thread::sleep(rest);
        let began = Instant::now();
        run(words);
        began.elapsed()
    };
    let roll = || {
        let time = timed(&["systemctl", "reload", "web"]);
        // So that the old one's end does not fall into what is timed next.
        run(&["sh", "-c", "while [ $(systemctl list-units --plain --no-legend 'web@*' | wc -l) != 1 ]; do :; done"]);
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
