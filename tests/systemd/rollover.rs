//! A program that replaces itself as the main process of a service: `examples/self-update` with its own unit.

use std::fs;

use crate::machine::Machine;

on_each_systemd!(
    the_successor_is_the_new_main_process_and_the_service_is_never_dead,
    a_successor_that_fails_leaves_the_old_main_process,
    a_service_that_systemd_does_not_hear_is_left_as_it_is,
    a_signal_at_any_moment_does_no_harm,
);

const UNIT: &str = include_str!("../../examples/self-update/self-update.service");

/// What stays the same as long as the service runs on.
const LIFE: &str = "systemctl show self-update --property=ActiveState,SubState,InvocationID,NRestarts,\
    ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,InactiveEnterTimestampMonotonic,StatusErrno";

/// Starts the agent, and gives its main process.
fn start(machine: &Machine, unit: &str) -> String {
    machine.ok("useradd --system --no-create-home self-update && install -d -o self-update /opt/self-update");
    let ourselves = std::env::current_exe().expect("our own path");
    let agent = ourselves.ancestors().nth(2).expect("the folder of this build").join("examples/self-update");
    assert!(agent.exists(), "no {}. Run \"cargo build --examples\" first", agent.display());
    fs::copy(agent, machine.path("/opt/self-update/agent")).expect("the agent in the machine");
    machine.ok("chown self-update /opt/self-update/agent");
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
    machine.ok("cp /opt/self-update/agent /opt/self-update/agent.next");
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
    // Dies at once; and when systemd has heard of it already.
    let asks = "#!/usr/bin/python3\nimport os, socket\n\
        channel = socket.socket(fileno=int(os.environ['PROCROLL_ROLLOVER'].split(':')[0]))\n\
        channel.send(b'asks')\nassert channel.recv(64) == b'go main'\nos._exit(4)\n";
    for (script, status) in [("#!/bin/sh\nexit 3\n", 3), (asks, 4)] {
        machine.install("/opt/self-update/agent.next", script);
        update(machine);
        let reason = format!(
            "process {pid} goes on: the new /opt/self-update/agent has ended before it took over (exit status {status})"
        );
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

fn a_service_that_systemd_does_not_hear_is_left_as_it_is(machine: &Machine) {
    let unit = UNIT.replace("Type=notify\n", "Type=exec\n").replace("NotifyAccess=all\n", "");
    let pid = start(machine, &unit);
    machine.wait_for("it to serve", || answer(machine).contains("process").then_some(()));
    machine.ok("cp /opt/self-update/agent /opt/self-update/agent.next");
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
    machine.ok("cp /opt/self-update/agent /opt/self-update/agent.next");
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
