//! What procroll takes when it is killed, and what is left when it has rolled a thousand times.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sd_notify::NotifyState;

use super::machine::Machine;
use super::run;

const KILLS: usize = 50;
const ROLLS: usize = 1000;

/// How long systemd waits before it starts a unit anew: not at all, and what it does unless it is told otherwise.
const RESTARTS: [(&str, &str); 2] = [("RestartSec=0", "at-once"), ("RestartSec=100ms", "default")];

/// From procroll's SIGKILL to its being in charge again, beside a plain unit of the same `RestartSec=`.
pub fn kills(machine: &Machine) {
    for (restart, name) in RESTARTS {
        let unit =
            |lines: &str| format!("[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure\n{restart}\n{lines}");
        let wrapper = unit(
            "Type=notify-reload\nRestartMode=direct\n\
             ExecStart=+/usr/bin/procroll --systemd-run --settle=0 --service-type=exec -- /usr/bin/sleep infinity\n",
        );
        let plain = unit("Type=notify\nExecStart=/usr/bin/measure --ready\n");
        machine.write(&format!("/etc/systemd/system/{name}-plain.service"), &plain);
        machine.unit(&format!("{name}.service"), &wrapper);
        machine.ok(&format!("systemctl start {name} {name}-plain"));
        print!("{}", machine.ok(&format!("/usr/bin/measure --kills-inside {name} {restart}")));
        println!();
        machine.ok(&format!("systemctl stop {name} {name}-plain"));
    }
}

/// In the machine.
pub fn kills_inside(name: &str, restart: &str) {
    let (wrapper, plain, generation) =
        (format!("{name}.service"), format!("{name}-plain.service"), format!("{name}@1.service"));
    let (mut wrappers, mut plains, mut kept) = (Vec::new(), Vec::new(), 0);
    for _ in 0..KILLS {
        let [pid] = show(&generation, ["MainPID"]);
        wrappers.push(back_after_kill(&wrapper, "serves"));
        kept += usize::from(show(&generation, ["MainPID"]) == [pid]);
        plains.push(back_after_kill(&plain, ""));
    }
    wrappers.sort_by(f64::total_cmp);
    plains.sort_by(f64::total_cmp);
    for (what, index) in [("median", KILLS / 2), ("p95", KILLS * 95 / 100)] {
        let (wrapper, plain) = (wrappers[index], plains[index]);
        println!(
            "killed, {restart}, {what} of {KILLS}: procroll in charge again after {wrapper:.1} ms, a plain unit ready again \
             after {plain:.1} ms, ratio {:.2}",
            wrapper / plain
        );
    }
    println!("killed, {restart}: the generation was kept {kept} times of {KILLS}");
}

/// The time in ms from the SIGKILL of a unit's main process until systemd takes the next one for ready, by systemd's own
/// clock.
fn back_after_kill(unit: &str, status: &str) -> f64 {
    // As it is when nothing has happened for a while.
    std::thread::sleep(Duration::from_millis(200));
    let [pid, restarts] = show(unit, ["MainPID", "NRestarts"]);
    let began = now();
    kill(Pid::from_raw(pid.parse().expect("a process")), Signal::SIGKILL).expect("a signal");
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let [again, count, state, since, text] =
            show(unit, ["MainPID", "NRestarts", "ActiveState", "ActiveEnterTimestampMonotonic", "StatusText"]);
        let since: i128 = since.parse().expect("a time");
        if again != pid && count != restarts && state == "active" && since > began && text.contains(status) {
            return (since - began) as f64 / 1e3;
        }
    }
}

/// In µs, as systemd counts.
fn now() -> i128 {
    match NotifyState::monotonic_usec_now() {
        Ok(NotifyState::MonotonicUsec(now)) => now,
        _ => unreachable!("the kernel has a clock"),
    }
}

/// The properties of a unit, in this order.
fn show<const N: usize>(unit: &str, properties: [&str; N]) -> [String; N] {
    let asked = format!("--property={}", properties.join(","));
    let output = std::process::Command::new("systemctl").args(["show", &asked, unit]).output().expect("systemctl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    properties.map(|name| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    })
}

/// In the machine: a program that is ready at once.
pub fn ready() {
    sd_notify::notify(&[NotifyState::Ready]).expect("told");
    loop {
        std::thread::park();
    }
}

/// What PID 1 and procroll hold before and after a thousand rolls.
pub fn rolls(machine: &Machine) {
    machine.unit("web.service", super::WRAPPER);
    machine.ok("systemctl start web && for i in $(seq 20); do systemctl reload web; done");
    let pid = machine.show("web", "MainPID");
    let tell = |when: &str| {
        machine.wait_for("the old ones to go", || (machine.units("web@*").len() == 1).then_some(()));
        assert_eq!(machine.show("web", "MainPID"), pid, "the same procroll has made all rolls");
        for (who, pid) in [("PID 1", "1"), ("procroll", &pid)] {
            let kilobytes = |file: &str, name: &str| {
                let text = machine.read(&format!("/proc/{pid}/{file}"));
                let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a field").to_owned();
                line.split_whitespace().next().expect("kB").parse::<u64>().expect("a number")
            };
            let open = machine.ok(&format!("ls /proc/{pid}/fd | wc -l"));
            println!(
                "{when}: {who} Pss {} kB, Pss_Anon {} kB, VmRSS {} kB, descriptors {open}",
                kilobytes("smaps_rollup", "Pss:"),
                kilobytes("smaps_rollup", "Pss_Anon:"),
                kilobytes("status", "VmRSS:")
            );
        }
    };
    tell("before the rolls");
    let seconds = machine.ok("/usr/bin/measure --rolls-inside");
    tell(&format!("after {ROLLS} rolls in {seconds} s"));
    machine.ok("systemctl daemon-reload");
    tell("after a daemon-reload");
    machine.ok("systemctl stop web");
}

/// In the machine.
pub fn rolls_inside() {
    let began = std::time::Instant::now();
    for _ in 0..ROLLS {
        run(&["systemctl", "reload", "web"]);
    }
    println!("{}", began.elapsed().as_secs());
}
