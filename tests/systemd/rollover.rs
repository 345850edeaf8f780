//! A program that replaces itself under systemd: `examples/self-update` as the main process of a service, with its own unit, and
//! started by somebody who has logged in.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::machine::{Machine, copy};

on_each_systemd!(
    the_successor_is_the_new_main_process_and_the_service_is_never_dead,
    a_successor_that_fails_leaves_the_old_main_process,
    a_successor_that_hangs_stops_nothing_where_systemd_hears_it_alone,
    a_service_that_systemd_does_not_hear_is_left_as_it_is,
    a_signal_at_any_moment_does_no_harm,
    from_a_login_session_each_successor_is_a_unit_of_its_own,
    a_successor_that_gets_no_unit_is_none,
    in_a_unit_that_was_made_for_it_it_stays,
);

const UNIT: &str = include_str!("../../examples/self-update/self-update.service");

/// What the main process of a service hands over to.
const ASKS: &str = "#!/usr/bin/python3\nimport os, signal, socket\n\
    channel = socket.socket(fileno=int(os.environ['PROCROLL_ROLLOVER'].split(':')[0]))\n\
    channel.send(b'asks')\nassert channel.recv(64) == b'go main'\n";

/// What stays the same as long as the service runs on.
const LIFE: &str = "systemctl show self-update --property=ActiveState,SubState,InvocationID,NRestarts,\
    ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,InactiveEnterTimestampMonotonic,StatusErrno";

/// Puts the agent into the machine, and itself as the next version as well.
fn install(machine: &Machine) {
    machine.ok("useradd --system --no-create-home self-update && install -d -o self-update /opt/self-update");
    let ourselves = std::env::current_exe().expect("our own path");
    let agent = ourselves.ancestors().nth(2).expect("the folder of this build").join("examples/self-update");
    assert!(agent.exists(), "no {}. Run \"cargo build --examples\" first", agent.display());
    copy(&agent, &machine.path("/opt/self-update/agent"));
    machine.ok("chown self-update /opt/self-update/agent && cp /opt/self-update/agent /opt/self-update/agent.next");
}

/// Starts the agent, and gives its main process.
fn start(machine: &Machine, unit: &str) -> String {
    install(machine);
    machine.unit("self-update.service", unit);
    machine.ok("systemctl start self-update");
    machine.show("self-update", "MainPID")
}

fn answer(machine: &Machine) -> String {
    let ask = "import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8600/\").read().decode())";
    machine.run(&format!("python3 -c '{ask}'")).stdout
}

/// Has the agent take what lies there.
fn update(machine: &Machine) {
    machine.ok("systemctl reload self-update");
}

/// Waits until a new main process serves.
fn succeeded(machine: &Machine, old: &str) -> String {
    machine.wait_for("a new main process that serves", || {
        let pid = machine.show("self-update", "MainPID");
        (pid != old && answer(machine).ends_with(&format!("process {pid}"))).then_some(pid)
    })
}

/// A stop is what it always is: the agent is asked, and nothing is left.
fn stops(machine: &Machine) {
    let pid = machine.show("self-update", "MainPID");
    machine.ok("systemctl stop self-update");
    assert!(machine.output("self-update.service").ends_with(&format!("process {pid} ends by SIGTERM")));
    assert_eq!(machine.show("self-update", "Result"), "success");
    assert_eq!(processes(machine), "");
}

fn processes(machine: &Machine) -> String {
    machine.run("cat /sys/fs/cgroup/system.slice/self-update.service/cgroup.procs").stdout
}

fn the_successor_is_the_new_main_process_and_the_service_is_never_dead(machine: &Machine) {
    let mut pid = start(machine, UNIT);
    let life = machine.ok(LIFE);
    assert!(life.contains("ActiveState=active") && life.contains("ActiveExitTimestampMonotonic=0"), "{life}");
    for _ in 0..10 {
        update(machine);
        pid = succeeded(machine, &pid);
        assert_eq!(processes(machine), pid, "the old one is gone");
        assert_eq!(machine.ok(LIFE), life);
    }
    // It is the main process in earnest: its death is the service's.
    machine.ok(&format!("kill -KILL {pid}"));
    machine.wait_for_property("self-update", "NRestarts", "1");
    machine.wait_for("the service anew", || answer(machine).contains("process").then_some(()));
    let pid = machine.show("self-update", "MainPID");
    update(machine);
    succeeded(machine, &pid);
    stops(machine);
}

fn a_successor_that_fails_leaves_the_old_main_process(machine: &Machine) {
    let pid = start(machine, UNIT);
    let life = machine.ok(LIFE);
    // Dies at once; or when systemd has heard of it already; or hangs then.
    let (dies, hangs) = (format!("{ASKS}os._exit(4)\n"), format!("{ASKS}signal.pause()\n"));
    for (script, reason) in [
        ("#!/bin/sh\nexit 3\n", "has ended before it took over (exit status 3)"),
        (&dies, "has ended before it took over (exit status 4)"),
        (&hangs, "has not taken over within 10s, and was killed"),
    ] {
        machine.install("/opt/self-update/agent.next", script);
        update(machine);
        let reason = format!("process {pid} goes on: the new /opt/self-update/agent {reason}");
        machine.wait_for("the reason", || machine.output("self-update.service").contains(&reason).then_some(()));
        machine.wait_for_property("self-update", "MainPID", &pid);
        assert!(answer(machine).contains(&format!("process {pid}")));
        assert_eq!(machine.ok(LIFE), life);
        assert_eq!(processes(machine), pid);
    }
    machine.ok("cp /opt/self-update/agent /opt/self-update/agent.next");
    update(machine);
    succeeded(machine, &pid);
    assert_eq!(machine.ok(LIFE), life);
    stops(machine);
}

/// systemd then has no main process to look after, but what serves serves on.
fn a_successor_that_hangs_stops_nothing_where_systemd_hears_it_alone(machine: &Machine) {
    let pid = start(machine, &UNIT.replace("NotifyAccess=all\n", ""));
    let life = machine.ok(LIFE);
    machine.install("/opt/self-update/agent.next", &format!("{ASKS}signal.pause()\n"));
    update(machine);
    let reason = format!("process {pid} goes on: the new /opt/self-update/agent has not taken over within 10s");
    machine.wait_for("the reason", || machine.output("self-update.service").contains(&reason).then_some(()));
    assert!(answer(machine).contains(&format!("process {pid}")));
    assert_eq!((machine.ok(LIFE), processes(machine)), (life, pid.clone()));
    machine.ok("systemctl restart self-update");
    let new = machine.wait_for("the service anew", || {
        let new = machine.show("self-update", "MainPID");
        answer(machine).ends_with(&format!("process {new}")).then_some(new)
    });
    assert_ne!(new, pid);
    stops(machine);
}

fn a_service_that_systemd_does_not_hear_is_left_as_it_is(machine: &Machine) {
    let unit = UNIT.replace("Type=notify\n", "Type=exec\n").replace("NotifyAccess=all\n", "");
    let pid = start(machine, &unit);
    machine.wait_for("it to serve", || answer(machine).contains("process").then_some(()));
    update(machine);
    let reason = "goes on: this is the main process of a service that systemd does not hear of a successor from. \
        Add \"NotifyAccess=main\" to its unit";
    machine.wait_for("the reason", || machine.output("self-update.service").contains(reason).then_some(()));
    assert_eq!(machine.show("self-update", "MainPID"), pid);
    // It is as good as its word.
    machine.unit("self-update.service", &unit.replace("Type=exec\n", "Type=exec\nNotifyAccess=main\n"));
    machine.ok("systemctl restart self-update");
    let pid = machine.show("self-update", "MainPID");
    machine.wait_for("it to serve", || answer(machine).contains("process").then_some(()));
    update(machine);
    succeeded(machine, &pid);
    assert_eq!(machine.show("self-update", "NRestarts"), "0");
    stops(machine);
}

fn a_signal_at_any_moment_does_no_harm(machine: &Machine) {
    let first = start(machine, UNIT);
    let life = machine.ok(LIFE);
    // Also while a helper is the main process, and while nobody waits for the next one.
    let hups = "import subprocess, time\nfor apart in range(100):\n    time.sleep(apart % 30 / 3000)\n    subprocess.run(\
        \"systemctl kill --kill-whom=main --signal=HUP self-update\".split(), check=True)";
    machine.ok(&format!("python3 -c '{hups}'"));
    machine.wait_for("one process that serves", || {
        let pid = machine.show("self-update", "MainPID");
        (pid != first && processes(machine) == pid && answer(machine).ends_with(&format!("process {pid}")))
            .then_some(())
    });
    assert_eq!(machine.ok(LIFE), life);
    stops(machine);
}

/// How long it may be silent. Far longer than it is, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What somebody types who starts it.
const AGENT: &str = "exec /opt/self-update/agent 127.0.0.1:8600 /opt/self-update/agent.next";

/// The agent by these words, and what it says.
fn start_by(machine: &Machine, words: &[&str]) -> (String, impl Iterator<Item = String> + use<>) {
    let mut child = machine.spawn(words);
    let (output, messages) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let (sender, lines) = std::sync::mpsc::channel();
    let errors = sender.clone();
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
    });
    std::thread::spawn(move || {
        BufReader::new(messages).lines().map_while(Result::ok).all(|line| errors.send(line).is_ok())
    });
    // It outlives whoever has started it.
    std::thread::spawn(move || child.wait());
    let mut lines = std::iter::from_fn(move || lines.recv_timeout(PATIENCE).ok());
    (serves(&mut lines), lines)
}

/// Waits until the agent serves: the process that does.
fn serves(lines: &mut impl Iterator<Item = String>) -> String {
    let line = lines.find(|line| line.contains(", serves on ")).expect("an agent that serves");
    line.trim_start_matches("process ").split(',').next().expect("a process id").to_owned()
}

fn unit_of(machine: &Machine, pid: &str) -> String {
    machine.ok(&format!("ps --no-headers -o unit --pid {pid}"))
}

fn from_a_login_session_each_successor_is_a_unit_of_its_own(machine: &Machine) {
    install(machine);
    let (mut pid, mut lines) = start_by(machine, &["su", "--login", "root", "--command", AGENT]);
    let session = unit_of(machine, &pid);
    assert!(session.starts_with("session-"), "{session}");
    for round in 1..=3 {
        if round == 3 {
            machine.write("/etc/systemd/system/agent-.scope.d/limit.conf", "[Scope]\nTasksMax=77\n");
            machine.ok("systemctl daemon-reload");
        }
        machine.ok(&format!("cp /opt/self-update/agent /opt/self-update/agent.next && kill -HUP {pid}"));
        pid = serves(&mut lines);
        assert_eq!(unit_of(machine, &pid), format!("agent-{pid}.scope"));
        machine.wait_for("the old one's unit to go", || {
            (machine.units("agent-*") == [format!("agent-{pid}.scope")] && machine.units("session-*").is_empty())
                .then_some(())
        });
        assert!(answer(machine).ends_with(&format!("process {pid}")));
    }
    let unit = format!("agent-{pid}.scope");
    assert_eq!(machine.show(&unit, "Description"), "/opt/self-update/agent");
    assert_eq!(machine.show(&unit, "TasksMax"), "77");
    machine.ok(&format!("systemctl stop {unit}"));
    assert_eq!(lines.last(), Some(format!("process {pid} ends by SIGTERM")));
    assert_eq!(machine.units("agent-*"), [] as [&str; 0]);
}

fn a_successor_that_gets_no_unit_is_none(machine: &Machine) {
    install(machine);
    let (pid, mut lines) = start_by(machine, &["su", "--login", "root", "--command", AGENT]);
    machine.ok("systemctl stop dbus.socket dbus.service");
    machine.ok(&format!("kill -HUP {pid}"));
    let line = lines.find(|line| line.contains(" goes on: ")).expect("a reason");
    assert!(
        line.contains("the successor has got no scope of its own, and was killed: systemd can't be reached"),
        "{line}"
    );
    assert!(answer(machine).ends_with(&format!("process {pid}")));
    machine.ok("systemctl start dbus.socket");
    // One that ends before it has one leaves none.
    machine.install("/opt/self-update/agent.next", "#!/bin/sh\nexit 3\n");
    machine.ok(&format!("kill -HUP {pid}"));
    lines.find(|line| line.contains("has ended before it took over (exit status 3)")).expect("a reason");
    assert_eq!(machine.units("agent-*"), [] as [&str; 0]);
    machine.ok(&format!("cp /opt/self-update/agent /opt/self-update/agent.next && kill -HUP {pid}"));
    let pid = serves(&mut lines);
    assert_eq!(unit_of(machine, &pid), format!("agent-{pid}.scope"));
}

/// Its limits hold for the successor as well; and a user's own units would end when that user logs out.
fn in_a_unit_that_was_made_for_it_it_stays(machine: &Machine) {
    install(machine);
    machine.ok("useradd --create-home alice");
    let scope = ["systemd-run", "--quiet", "--scope", "--unit=shop", "-p", "TasksMax=66", "sh", "-c", AGENT];
    let login = ["su", "--login", "alice", "--command", AGENT];
    for words in [&scope[..], &login] {
        machine.ok("chown alice /opt/self-update /opt/self-update/*");
        let (pid, mut lines) = start_by(machine, words);
        let unit = unit_of(machine, &pid);
        machine.ok(&format!("cp /opt/self-update/agent /opt/self-update/agent.next && kill -HUP {pid}"));
        let new = serves(&mut lines);
        assert_ne!(new, pid);
        assert_eq!(unit_of(machine, &new), unit);
        machine.ok(&format!("kill {new}"));
        assert_eq!(lines.last(), Some(format!("process {new} ends by SIGTERM")));
    }
}
