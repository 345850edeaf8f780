//! Up to systemd 256 a guard tells a crash of procroll (G3) from the end of its unit (G4).

use crate::machine::Machine;
use crate::stops::nothing_is_left;
use crate::{with_lines, wrapper};

before_systemd_257!(
    a_stop_before_the_restart_is_a_stop,
    a_stop_before_the_next_procroll_can_hear_of_it_is_a_stop,
    a_restart_before_the_restart_is_one_of_the_application,
    what_somebody_restarts_meanwhile_is_stopped_all_the_same,
    a_frozen_generation_goes_with_a_stop_before_the_restart,
    a_restart_as_something_else_ends_the_guard,
    who_resets_what_is_counted_stops_nothing,
    a_daemon_reload_before_the_restart_stops_nothing,
    with_no_start_left_nothing_runs,
    without_a_bus_it_decides_all_the_same,
    who_stops_the_guard_stops_nothing,
    another_one_decides_where_the_guard_is_killed,
    where_its_name_is_taken_a_crash_stops_what_serves,
);

on_each_systemd!(
    an_end_by_itself_while_a_reload_waits_leaves_nothing,
    an_end_of_what_serves_while_a_reload_waits_leaves_nothing,
    a_crash_without_a_restart_while_a_reload_waits_leaves_what_a_stop_stops,
);

const GUARD: &str = "procroll@web.service";

fn in_place(machine: &Machine) {
    machine.wait_for_property(GUARD, "ActiveState", "active");
}

/// A wrapper whose guard begins with a crash. With RestartMode=direct that of systemd 254 begins with the restart.
pub fn wrapper_at_once(lines: &str, options: &str, steps: &str) -> String {
    with_lines(lines, options, steps).replace("RestartMode=direct\n", "")
}

/// The process that decides.
pub fn process(machine: &Machine) -> String {
    machine.wait_for("the guard to begin", || Some(machine.show(GUARD, "ControlPID")).filter(|pid| pid != "0"))
}

/// It is stopped when nobody may be there any more to wait for.
fn ends(machine: &Machine) {
    machine.wait_for("the generation to end", || machine.units("web@*").is_empty().then_some(()));
    nothing_is_left(machine);
}

/// Kills procroll, whose unit waits a while before it starts it again.
fn crash(machine: &Machine) -> String {
    let serving = machine.units("web@*").pop().expect("one that serves");
    let pid = machine.show(&serving, "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "SubState", "auto-restart");
    assert_eq!(
        (machine.show(&serving, "MainPID"), machine.show(&serving, "SubState")),
        (pid.clone(), "running".into())
    );
    pid
}

fn serves(machine: &Machine, pid: &str) {
    let status = format!("web@1.service (main PID {pid}) serves");
    machine.wait_for_property("web", "StatusText", &status);
    in_place(machine);
}

fn a_stop_before_the_restart_is_a_stop(machine: &Machine) {
    machine.unit("web.service", &with_lines("RestartSec=1h", "--settle=0", "ready run"));
    for crashed_before in [false, true] {
        machine.ok("systemctl start web");
        if crashed_before {
            // What counts the restarts does not begin anew for a stop.
            let pid = machine.show("web@1", "MainPID");
            machine.unit("web.service", &with_lines("RestartSec=100ms", "--settle=0", "ready run"));
            machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
            machine.wait_for_property("web", "NRestarts", "1");
            serves(machine, &pid);
            machine.unit("web.service", &with_lines("RestartSec=1h", "--settle=0", "ready run"));
        }
        crash(machine);
        machine.ok("systemctl stop web");
        ends(machine);
    }
}

fn a_stop_before_the_next_procroll_can_hear_of_it_is_a_stop(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    // It comes with the guard in any state.
    for _ in 0..3 {
        machine.ok("systemctl start web");
        // What is started next hears nothing, and says nothing.
        let deaf = "[Service]\nExecStart=\nExecStart=sh -c 'trap \"\" TERM; sleep infinity'\nTimeoutStopSec=1s\n";
        machine.unit("web.service.d/deaf.conf", deaf);
        machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
        machine.wait_for_property("web", "NRestarts", "1");
        machine.wait_for_property("web", "SubState", "start");
        machine.ok("systemctl stop web");
        ends(machine);
        machine.ok("rm /etc/systemd/system/web.service.d/deaf.conf && systemctl daemon-reload");
    }
}

fn a_restart_before_the_restart_is_one_of_the_application(machine: &Machine) {
    // With the second systemd starts the wrapper before it stops the guard.
    for weight in ["100", "200"] {
        let lines = format!("RestartSec=1h\nCPUWeight={weight}");
        machine.unit("web.service", &with_lines(&lines, "--settle=0", "ready run"));
        machine.ok("systemctl start web");
        for _ in 0..3 {
            let before = crash(machine);
            machine.ok("timeout 60 systemctl restart web");
            let pid = machine.show("web@1", "MainPID");
            assert_ne!(pid, before);
            assert!(!machine.path(&format!("/proc/{before}")).exists(), "it has ended");
            serves(machine, &pid);
        }
        machine.ok("systemctl stop web");
        ends(machine);
    }
    assert_eq!(
        machine.ok("journalctl --no-pager --priority=warning --grep='Failed to open' | grep procroll@ || true"),
        ""
    );
}

fn what_somebody_restarts_meanwhile_is_stopped_all_the_same(machine: &Machine) {
    let unit = wrapper_at_once("RestartSec=3s", "--settle=0 --shutdown-timeout=8s", "deaf ready run");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    crash(machine);
    // The next procroll waits for what the guard has to decide.
    let guard = process(machine);
    machine.ok(&format!("kill -STOP {guard}"));
    machine.wait_for_property("web", "StatusText", "Looks for generations");
    machine.ok("systemctl stop --no-block web");
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    // By then both have asked for its stop.
    machine.ok(&format!("kill -CONT {guard} && sleep 1 && systemctl restart --no-block web@1"));
    machine.wait_for_property("web", "ActiveState", "inactive");
    ends(machine);
}

/// From 257 on systemd would not stop it.
fn a_frozen_generation_goes_with_a_stop_before_the_restart(machine: &Machine) {
    machine.unit("web.service", &with_lines("RestartSec=1h", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    crash(machine);
    machine.ok("systemctl freeze web@1 && systemctl stop web");
    ends(machine);
}

fn a_restart_as_something_else_ends_the_guard(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let silent = "ExecStart=sh -c 'systemd-notify --ready && exec sleep infinity'\nNotifyAccess=all\n";
    machine.unit("web.service.d/else.conf", &format!("[Service]\nExecStart=\n{silent}"));
    machine.ok("systemctl restart web");
    machine.wait_for("the guard to go", || machine.units("procroll@*").is_empty().then_some(()));
    assert_eq!((machine.units("web@*"), machine.show("web", "SubState")), (vec![], "running".to_owned()));
    machine.ok("systemctl stop web");
    ends(machine);
}

fn who_resets_what_is_counted_stops_nothing(machine: &Machine) {
    machine.unit("web.service", &with_lines("RestartSec=5s", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    for restart in ["1", "2"] {
        crash(machine);
        machine.wait_for_property("web", "NRestarts", restart);
        serves(machine, &pid);
    }
    crash(machine);
    machine.ok("systemctl reset-failed web");
    machine.wait_for_property("web", "NRestarts", "1");
    serves(machine, &pid);
    machine.ok("systemctl stop web");
    ends(machine);
}

fn a_daemon_reload_before_the_restart_stops_nothing(machine: &Machine) {
    machine.unit("web.service", &with_lines("RestartSec=5s", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = crash(machine);
    // With RestartMode=direct systemd 254 starts it at once.
    machine.ok("systemctl daemon-reload");
    machine.wait_for_property("web", "NRestarts", "1");
    serves(machine, &pid);
    crash(machine);
    // Nor does one right after that.
    machine.ok("systemctl daemon-reload && systemctl daemon-reload && systemctl daemon-reload");
    machine.wait_for_property("web", "NRestarts", "2");
    serves(machine, &pid);
    // Otherwise it does not, and a restart of somebody's is one all the same.
    let unit = with_lines("RestartSec=1h", "--settle=0", "ready run").replace("RestartMode=direct\n", "");
    machine.unit("web.service", &unit);
    crash(machine);
    machine.ok("systemctl daemon-reload && timeout 60 systemctl restart web");
    assert!(!machine.path(&format!("/proc/{pid}")).exists(), "it has ended");
    machine.ok("systemctl stop web");
    ends(machine);
}

fn another_one_decides_where_the_guard_is_killed(machine: &Machine) {
    let kill_it = || {
        let first = process(machine);
        machine.ok(&format!("kill -KILL {first}"));
        machine.wait_for("the next one", || {
            let pid = machine.show(GUARD, "ControlPID");
            (pid != "0" && pid != first).then_some(())
        });
    };
    machine.unit("web.service", &wrapper_at_once("RestartSec=3s", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = crash(machine);
    kill_it();
    machine.wait_for_property("web", "NRestarts", "1");
    serves(machine, &pid);
    machine.unit("web.service", &wrapper_at_once("RestartSec=1h", "--settle=0", "ready run"));
    crash(machine);
    kill_it();
    machine.ok("systemctl stop web");
    ends(machine);
}

fn with_no_start_left_nothing_runs(machine: &Machine) {
    let limit = |burst: u32, options: &str| {
        with_lines("RestartSec=200ms", options, "ready run")
            .replace("[Service]\n", &format!("StartLimitBurst={burst}\nStartLimitIntervalSec=1h\n[Service]\n"))
    };
    // It is killed more often than it may start.
    machine.unit("web.service", &limit(3, "--settle=0"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    for restart in ["1", "2"] {
        machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
        machine.wait_for_property("web", "NRestarts", restart);
        serves(machine, &pid);
    }
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "ActiveState", "failed");
    ends(machine);

    // It does not come up any more, for which there is no stop that anybody could hear of.
    machine.unit("web.service", &limit(3, "--settle=0"));
    machine.ok("systemctl reset-failed web && systemctl start web");
    machine.unit("web.service", &limit(3, "--settle=0").replace("ExecStart=", "ExecStartPre=/bin/false\nExecStart="));
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "ActiveState", "failed");
    ends(machine);

    // Nobody wants it to be started again.
    machine.unit("web.service", &wrapper("--settle=0", "ready run").replace("Restart=on-failure\n", ""));
    machine.ok("systemctl reset-failed web && systemctl start web");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "ActiveState", "failed");
    ends(machine);
}

fn without_a_bus_it_decides_all_the_same(machine: &Machine) {
    machine.unit("web.service", &with_lines("RestartSec=1h", "--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl stop dbus.socket dbus.service");
    let pid = crash(machine);
    machine.ok("systemctl stop web");
    machine.wait_for("it to end", || (!machine.path(&format!("/proc/{pid}")).exists()).then_some(()));
    machine.ok("systemctl start dbus.socket");
    ends(machine);
}

fn who_stops_the_guard_stops_nothing(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    for line in [format!("systemctl stop {GUARD}"), format!("systemctl restart {GUARD}")] {
        // It puts itself in place again, for which systemd gives that job up.
        machine.run(&line);
        in_place(machine);
        assert_eq!(machine.show("web@1", "MainPID"), pid);
    }
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", "1");
    serves(machine, &pid);
    machine.ok("systemctl stop web");
    ends(machine);
}

fn where_its_name_is_taken_a_crash_stops_what_serves(machine: &Machine) {
    machine.unit(GUARD, "[Service]\nExecStart=/usr/bin/sleep infinity\n");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let log = machine.log("web.service");
    assert!(log.contains(&format!("web.service gets no {GUARD}, so a crash of procroll stops what serves: ")), "{log}");
    let pid = machine.show("web@1", "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", "1");
    machine.wait_for("another to serve", || {
        let status = machine.show("web", "StatusText");
        (status.ends_with("serves") && !status.contains(&pid)).then_some(())
    });
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
    assert_eq!(machine.show(GUARD, "ActiveState"), "inactive");

    // What it says then to type when the name is free.
    machine.ok("systemctl start web");
    machine.ok(&format!("rm /etc/systemd/system/{GUARD} && systemctl daemon-reload"));
    machine.ok("systemctl kill --kill-whom=main --signal=RTMIN+25 web.service");
    in_place(machine);
    machine.ok("systemctl reload web");
    let (pid, procroll) = (machine.show("web@2", "MainPID"), machine.show("web", "MainPID"));
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for("the next procroll to be in charge", || {
        let next = machine.show("web", "MainPID");
        (next != procroll && machine.show("web", "SubState") == "running").then_some(())
    });
    assert_eq!(machine.show("web", "StatusText"), format!("web@2.service (main PID {pid}) serves"));
    machine.ok("systemctl stop web");
    ends(machine);
}

/// A reload that has to wait, for a unit that the wrapper comes after.
fn with_a_reload_that_waits(machine: &Machine, restart: &str) {
    machine.unit("slow.service", "[Service]\nType=oneshot\nExecStart=sleep infinity\n");
    let unit = wrapper("--settle=0", "ready run").replace("[Unit]\n", "[Unit]\nAfter=slow.service\n");
    machine.unit("web.service", &unit.replace("Restart=on-failure\n", restart));
    machine.ok("systemctl start web && systemctl start --no-block slow && systemctl reload --no-block web");
    let jobs = machine.ok("systemctl list-jobs --plain --no-legend");
    assert!(jobs.lines().any(|job| job.contains("web.service") && job.ends_with("waiting")), "{jobs}");
}

fn an_end_by_itself_while_a_reload_waits_leaves_nothing(machine: &Machine) {
    with_a_reload_that_waits(machine, "Restart=on-failure\n");
    machine.ok("systemctl kill --kill-whom=main --signal=TERM web");
    machine.wait_for_property("web", "ActiveState", "inactive");
    ends(machine);
}

fn an_end_of_what_serves_while_a_reload_waits_leaves_nothing(machine: &Machine) {
    with_a_reload_that_waits(machine, "Restart=no\n");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web@1");
    machine.wait_for_property("web", "ActiveState", "failed");
    ends(machine);
}

/// For as long as it waits systemd tells nobody of the crash.
fn a_crash_without_a_restart_while_a_reload_waits_leaves_what_a_stop_stops(machine: &Machine) {
    with_a_reload_that_waits(machine, "Restart=no\n");
    let pid = machine.show("web@1", "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "ActiveState", "failed");
    assert_eq!((machine.show("web@1", "MainPID"), machine.show("web@1", "SubState")), (pid, "running".into()));
    machine.ok("systemctl stop web");
    ends(machine);
}
