//! A stop leaves nothing: G4. And systemd counts the timeouts: G8.

mod anytime;
mod shutdown;

use std::time::Instant;

use crate::machine::Machine;
use crate::restless::wait_for_only;
use crate::{transient, with_lines, wrapper};

on_each_systemd!(
    a_stop_leaves_nothing,
    a_stop_in_the_middle_of_a_roll_starts_nothing_more,
    a_stop_of_the_first_start_leaves_nothing,
    a_deaf_generation_is_killed_after_its_stop_timeout,
    one_that_nothing_kills_keeps_nobody_waiting,
    a_second_signal_kills,
    a_restart_is_a_stop_and_a_start,
    a_stop_longer_than_the_units_timeout_is_not_cut_off,
    a_stop_works_without_procroll,
    a_stop_in_a_roll_has_a_timeout_of_its_own,
    the_units_own_signals_to_stop_are_heard,
    a_frozen_generation_is_stopped,
    a_stop_that_systemd_refuses_is_asked_for_again,
    a_stop_without_a_bus_ends,
    a_stop_that_somebody_cancels_is_asked_for_again,
    a_stop_by_a_signal_is_no_reload,
);

// ReloadSignal= came with Type=notify-reload.
from_systemd_254!(the_units_own_signal_to_reload_is_heard);

/// No unit, no process, no file.
pub fn nothing_is_left(machine: &Machine) {
    // It goes when it has seen the wrapper go.
    machine.wait_for("the guard to go", || machine.units("procroll@*").is_empty().then_some(()));
    assert_eq!(machine.ok("systemctl list-units --all --plain --no-legend 'web@*'"), "");
    assert_eq!(transient(machine), "");
    assert_eq!(machine.run("find /run -name '*procroll*'").stdout, "", "no folder of ours");
    assert_eq!(machine.run("pgrep --full /usr/bin/[p]ayload").status, Some(1), "no process");
    assert!(!machine.path("/sys/fs/cgroup/system.slice/web.service").exists());
}

fn a_stop_leaves_nothing(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0 -pNice=3", "ready run"));
    machine.ok("systemctl start web && systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
    assert_eq!(machine.show("web", "ExecMainStatus"), "0");

    // Also what a failed roll left to be looked at.
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "exit 3"));
    assert_eq!(machine.run("systemctl reload web").status, Some(1));
    assert_eq!(machine.units("web@*").len(), 2);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_in_the_middle_of_a_roll_starts_nothing_more(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/never ready run"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "activating");
    machine.ok("systemctl stop web");
    assert!(!reload.wait_with_output().expect("it ends").status.success());
    nothing_is_left(machine);
}

fn a_stop_of_the_first_start_leaves_nothing(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/never ready run"));
    machine.ok("systemctl start --no-block web");
    machine.wait_for_property("web@1", "ActiveState", "activating");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn a_deaf_generation_is_killed_after_its_stop_timeout(machine: &Machine) {
    machine.unit("web.service", &with_lines("TimeoutStopSec=2s", "--settle=0", "deaf leave ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to be killed", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let began = Instant::now();
    machine.ok("systemctl stop web");
    assert!(began.elapsed().as_secs() < 20);
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

/// As a process is that waits for a disk. systemd leaves it where it is.
fn one_that_nothing_kills_keeps_nobody_waiting(machine: &Machine) {
    let lines = "TimeoutStopSec=1s\nSendSIGKILL=no";
    machine.unit("web.service", &with_lines(lines, "--settle=0 --max-stopping=1", "deaf ready run"));
    machine.ok("systemctl start web && timeout 60 systemctl reload web && timeout 60 systemctl reload web");
    machine.ok("timeout 60 systemctl stop web");
    machine.ok("pkill --signal KILL --full ^/usr/bin/python3./usr/bin/[p]ayload");
    machine.wait_for("their end", || (machine.run("pgrep --full /usr/bin/[p]ayload").status == Some(1)).then_some(()));
    machine.ok("systemctl reset-failed");
    nothing_is_left(machine);
}

fn a_second_signal_kills(machine: &Machine) {
    machine.unit("web.service", &with_lines("TimeoutStopSec=infinity", "--settle=0", "leave deaf ready run"));
    machine.ok("systemctl start web");
    let term = "systemctl kill --kill-whom=main --signal=TERM web";
    machine.ok(term);
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    // One right after the first might be the first one once more.
    machine.wait_for("the end", || {
        machine.run(term);
        (machine.show("web", "ActiveState") == "inactive").then_some(())
    });
    nothing_is_left(machine);
}

fn a_restart_is_a_stop_and_a_start(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    let before = machine.show("web@2", "MainPID");
    machine.ok("systemctl restart web");
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
    assert_ne!(machine.show("web@1", "MainPID"), before);
}

fn a_stop_longer_than_the_units_timeout_is_not_cut_off(machine: &Machine) {
    // The generation may take longer than the wrapper, and procroll waits for it.
    let unit = with_lines("TimeoutStopSec=1s", "--settle=0 --shutdown-timeout=5s", "deaf ready run");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    let began = Instant::now();
    machine.ok("systemctl stop web");
    assert!(began.elapsed().as_secs_f64() >= 4.9, "{:?}", began.elapsed());
    assert_eq!(machine.show("web", "Result"), "success");
    nothing_is_left(machine);
}

fn a_stop_works_without_procroll(machine: &Machine) {
    let unit = wrapper("--settle=0", "ready run").replace("Restart=on-failure\n", "");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for("the generation to follow its wrapper", || machine.units("web@*").is_empty().then_some(()));
    assert_eq!(machine.run("pgrep --full /usr/bin/[p]ayload").status, Some(1), "no process");
    // The socket of `procroll reload`, where there is one, goes with the next start's.
    machine.ok("systemctl reset-failed && systemctl start web && systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_in_a_roll_has_a_timeout_of_its_own(machine: &Machine) {
    machine.ok("touch /run/go");
    let unit = with_lines("TimeoutStopSec=1s", "--settle=0 --shutdown-timeout=3s", "deaf wait /run/go ready run");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web && rm /run/go && systemctl reload --no-block web");
    machine.wait_for_property("web@2", "SubState", "start");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

fn a_stop_by_a_signal_is_no_reload(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=1min", "ready run"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "active");
    machine.ok("systemctl kill --kill-whom=main --signal=TERM web");
    assert!(!reload.wait_with_output().expect("systemctl reload").status.success());
    machine.wait_for_property("web", "ActiveState", "inactive");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

fn the_units_own_signals_to_stop_are_heard(machine: &Machine) {
    let signals = "KillSignal=SIGUSR1\nRestartKillSignal=SIGWINCH\nTimeoutStopSec=30s";
    machine.unit("web.service", &with_lines(signals, "--settle=0 --signal=TERM", "ready run"));
    machine.ok("systemctl start web && systemctl restart web && systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

fn the_units_own_signal_to_reload_is_heard(machine: &Machine) {
    let signals = "ReloadSignal=SIGUSR2\nKillSignal=SIGHUP\nTimeoutStopSec=30s";
    machine.unit("web.service", &with_lines(signals, "--settle=0 --signal=TERM", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    assert_eq!(machine.show("web", "NRestarts"), "0");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");

    machine.unit("web.service", &with_lines("KillSignal=SIGHUP\nRestartPreventExitStatus=174", "", "ready run"));
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains("it has SIGHUP as its KillSignal= and its ReloadSignal= as well"), "{status}");
}

fn a_frozen_generation_is_stopped(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl freeze web@1 && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.ok("systemctl freeze web@2 && systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_that_systemd_refuses_is_asked_for_again(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web@1.service.d/by-hand.conf", "[Unit]\nRefuseManualStop=yes\n");
    machine.ok("systemctl reload web");
    let log = || machine.log("web.service");
    machine.wait_for("word of that", || log().contains("can't stop web@1.service").then_some(()));
    machine.ok("rm -r /etc/systemd/system/web@1.service.d && systemctl daemon-reload");
    wait_for_only(machine, "web@2.service");
}

fn a_stop_without_a_bus_ends(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.ok("systemctl stop dbus.socket dbus.service");
    machine.ok("systemctl stop web");
    assert_eq!(machine.show("web", "Result"), "success");
    nothing_is_left(machine);
    // With the bus back all is as before.
    machine.ok("systemctl start dbus.socket && systemctl start web && systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_that_somebody_cancels_is_asked_for_again(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    // web@1 can't stop before this one has, and this one does not.
    machine.ok(
        "systemd-run --quiet --collect --unit=later --service-type=notify -p After=web@1.service -p TimeoutStopSec=infinity \
         /usr/bin/payload deaf ready run && systemctl stop --no-block later && systemctl reload web",
    );
    let job = || machine.wait_for("a job", || Some(machine.show("web@1", "Job")).filter(|job| !job.is_empty()));
    let first = job();
    machine.ok(&format!("systemctl cancel {first}"));
    assert_ne!(job(), first);
    machine.ok("systemctl kill --signal=KILL later");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
}
