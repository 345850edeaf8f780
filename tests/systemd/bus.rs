//! The bus is restarted, gone, silent or full while procroll is at work (G10): what is under way goes on, and what serves is
//! not touched.

use std::io::{BufRead, BufReader};
use std::process::Child;

use crate::guard;
use crate::machine::Machine;
use crate::payloads::is_at_rest;
use crate::restless::{signal, succeeds, wait_for_only, wait_for_status};
use crate::stops::nothing_is_left;
use crate::{transient, with_lines, wrapper};

on_each_systemd!(
    the_bus_may_be_restarted_at_any_time,
    taking_over_outlasts_a_bus_that_hangs,
    taking_over_waits_for_the_bus,
    a_bus_that_restarts_while_procroll_takes_over,
    a_start_that_is_lost_with_the_bus_is_asked_for_again,
    a_stop_before_a_start_is_answered_leaves_nothing,
    a_bus_without_a_free_connection,
    systemd_is_not_let_back_to_the_bus,
    systemd_goes_to_another_bus,
    a_first_start_outlasts_a_bus_that_restarts,
    a_reload_whose_end_goes_unheard_ends,
    what_dies_unheard_has_not_settled,
);

from_systemd_257!(
    a_crash_while_the_bus_is_down,
    a_stop_while_a_start_hangs_with_the_bus_starts_nothing,
    a_plain_signal_before_it_is_up_keeps_nobody_waiting,
);

const BUS_DOWN: &str = "systemctl stop dbus.socket dbus.service";
const BUS_UP: &str = "systemctl start dbus.socket";

/// Has the machine's other bus from now on.
const DBUS_BROKER: &str = "systemctl stop dbus.socket dbus.service && systemctl enable --quiet dbus-broker && \
                           systemctl start dbus.socket dbus.service";

/// Lets the bus be restarted as often as one likes.
fn lift_its_start_limit(machine: &Machine) {
    for unit in ["dbus.service", "dbus-broker.service"] {
        machine.unit(&format!("{unit}.d/often.conf"), "[Unit]\nStartLimitIntervalSec=0\n");
    }
}

fn the_bus_may_be_restarted_at_any_time(machine: &Machine) {
    lift_its_start_limit(machine);
    let restart = || machine.ok("systemctl restart dbus.service");
    machine.ok("touch /run/go");
    let lines = "TimeoutStopSec=infinity\nRestartSec=1ms";
    machine.unit("web.service", &with_lines(lines, "--settle=3s", "deaf wait /run/go ready run"));
    machine.ok("systemctl start web");
    for (bus, old) in [("dbus-daemon", 1), ("dbus-broker", 1)] {
        if bus == "dbus-broker" {
            // procroll is at rest.
            machine.ok(DBUS_BROKER);
        }
        let program = machine.ok("readlink /proc/$(systemctl show --property=MainPID --value dbus.service)/exe");
        assert!(program.starts_with(&format!("/usr/bin/{bus}")), "{program}");
        let (one, two, three) = (format!("web@{old}"), format!("web@{}", old + 1), format!("web@{}.service", old + 2));
        restart();
        // While the new one starts, and while it settles.
        machine.ok("rm --force /run/go");
        let reload = machine.spawn(&["systemctl", "reload", "web"]);
        machine.wait_for_property(&two, "SubState", "start");
        restart();
        machine.ok("touch /run/go");
        wait_for_status(machine, "settles");
        restart();
        assert!(succeeds(reload), "{bus}");
        // While the old one drains.
        wait_for_status(machine, &format!("{one}.service stops"));
        restart();
        machine.ok(&format!("systemctl kill --signal=KILL {one}"));
        wait_for_only(machine, &format!("{two}.service"));
        assert_eq!(machine.show("web", "NRestarts"), "0", "{bus}");
        // At rest, and then the one that serves dies.
        restart();
        machine.ok(&format!("systemctl kill --signal=KILL {two}"));
        machine.wait_for_property("web", "NRestarts", "1");
        wait_for_status(machine, "serves");
        assert!(!machine.units("web@*").contains(&three), "as after any other death");
        // For the next one to begin as this did.
        machine.ok("systemctl stop --no-block web");
        machine.wait_for("procroll to hear of it", || {
            machine.show("web", "StatusText").starts_with("Stopping").then_some(())
        });
        machine.wait_for("the end", || {
            machine.run("systemctl kill --signal=KILL 'web@*'");
            (machine.show("web", "ActiveState") == "inactive").then_some(())
        });
        machine.ok("systemctl start web");
        assert_eq!(machine.units("web@*"), ["web@1.service"]);
    }
}

/// The bus does not answer, for longer than the unit may take to start.
fn taking_over_outlasts_a_bus_that_hangs(machine: &Machine) {
    let lines = "TimeoutStartSec=2s\nRestartSec=100ms";
    machine.unit("web.service", &with_lines(lines, "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let payload = machine.show("web@1", "MainPID");
    machine.ok("systemctl kill --signal=STOP dbus.service && systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for("the next procroll to wait for longer than it might", || {
        let began = machine.show("web", "ExecMainStartTimestampMonotonic").parse::<u64>().unwrap_or_default();
        let uptime = machine.read("/proc/uptime");
        let seconds: f64 = uptime.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
        (machine.show("web", "NRestarts") == "1" && seconds * 1e6 > began as f64 + 4e6).then_some(())
    });
    machine.ok("systemctl kill --signal=CONT dbus.service");
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.show("web", "NRestarts"), "1");
    assert_eq!(machine.show("web@1", "MainPID"), payload);
}

/// procroll takes over from itself when it executes itself anew, and has nobody but systemd to ask what there is.
fn taking_over_waits_for_the_bus(machine: &Machine) {
    machine.unit("web.service", &with_lines("WatchdogSec=10s", "--settle=0 -pWatchdogSec=0", "ready run"));
    machine.ok("systemctl start web");
    let (procroll, payload) = (machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));
    machine.ok(BUS_DOWN);
    signal(machine, "RTMIN+25");
    wait_for_status(machine, "Waiting: systemd can't be reached");
    // What is asked for meanwhile is done afterwards.
    signal(machine, "HUP");
    machine.ok(BUS_UP);
    wait_for_only(machine, "web@2.service");
    wait_for_status(machine, "web@2.service");
    assert_eq!(machine.show("web", "MainPID"), procroll);
    assert_ne!(machine.show("web@2", "MainPID"), payload);

    // A stop is heard.
    machine.ok(BUS_DOWN);
    signal(machine, "RTMIN+25");
    wait_for_status(machine, "Waiting");
    machine.ok("systemctl stop web");
    assert_eq!(machine.show("web", "Result"), "success");
    nothing_is_left(machine);

    // Nothing is lost by a start that fails, so the unit's own timeout holds. And a person isn't kept waiting.
    let lines = "TimeoutStartSec=1s\nWatchdogSec=10s";
    machine.unit("web.service", &with_lines(lines, "", "ready run").replace("Restart=on-failure\n", ""));
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    assert_eq!(machine.show("web", "Result"), "timeout");
    assert_eq!(machine.run("procroll --systemd-run -- true").status, Some(172));
}

fn a_crash_while_the_bus_is_down(machine: &Machine) {
    // As many starts as systemd allows by itself, within a time that no test outlasts.
    let unit = with_lines("TimeoutStartSec=2s", "--settle=0", "ready run");
    machine.unit("web.service", &unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=1h\n"));
    machine.ok("systemctl start web");
    let payload = machine.show("web@1", "MainPID");
    machine.ok(BUS_DOWN);
    for restart in ["1", "2"] {
        signal(machine, "KILL");
        machine.wait_for_property("web", "NRestarts", restart);
        wait_for_status(machine, "Waiting");
    }
    // For longer than the start timeout. There is no event to wait for where nothing is to happen.
    machine.ok("sleep 5");
    assert_eq!(machine.show("web", "NRestarts"), "2");
    machine.ok(BUS_UP);
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.show("web", "StatusText"), format!("web@1.service (main PID {payload}) serves"));
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@2.service");

    machine.ok(BUS_DOWN);
    signal(machine, "KILL");
    wait_for_status(machine, "Waiting");
    machine.ok("systemctl stop web");
    assert_eq!(machine.show("web", "Result"), "success");
    nothing_is_left(machine);
}

/// At each of the questions that procroll asks before it is in charge.
fn a_bus_that_restarts_while_procroll_takes_over(machine: &Machine) {
    lift_its_start_limit(machine);
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let (procroll, payload) = (machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));
    for bus in ["true", DBUS_BROKER] {
        machine.ok(bus);
        for apart in 0..15 {
            let both = format!(
                "systemctl kill --kill-whom=main --signal=RTMIN+25 web; sleep 0.0{apart:02}; systemctl restart dbus"
            );
            machine.ok(&both);
        }
        wait_for_status(machine, &format!("web@1.service (main PID {payload}) serves"));
    }
    assert_eq!(machine.show("web", "MainPID"), procroll, "it never ended");
    // It is in charge.
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@2.service");
}

/// Takes all connections that the bus grants root, and each that becomes free, until its input ends.
const TAKE_CONNECTIONS: &str = r#"
import select, socket, struct, sys
def field(code, kind, text):
    field = bytes([code, 1]) + kind + b"\0" + struct.pack("<I", len(text)) + text + b"\0"
    return field + b"\0" * (-len(field) % 8)
bus = b"org.freedesktop.DBus"
fields = field(1, b"o", b"/org/freedesktop/DBus") + field(6, b"s", bus) + field(2, b"s", bus) + field(3, b"s", b"Hello")
hello = b"l\1\0\1" + struct.pack("<III", 0, 1, len(fields) - 2) + fields
taken = []
def take():
    one = socket.socket(socket.AF_UNIX)
    one.connect("/run/dbus/system_bus_socket")
    one.sendall(b"\0AUTH EXTERNAL 30\r\n")
    if not one.recv(1024).startswith(b"OK"):
        return False
    one.sendall(b"BEGIN\r\n" + hello)
    if one.recv(1024)[1:2] != b"\2":
        return False
    taken.append(one)
    return True
while take():
    pass
print(len(taken), flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]:
    take()
"#;

/// Has procroll (a process id) roll, and stops it when it has made a folder of this name and before it does anything more:
/// on the one processor that both have, whoever is idle gives way at once to whoever waits for that.
const CATCH: &str = r#"
import ctypes, os, signal, sys
name, procroll = sys.argv[1].encode(), int(sys.argv[2])
libc = ctypes.CDLL(None)
inotify = libc.inotify_init()
IN_MOVED_TO = 0x80
libc.inotify_add_watch(inotify, b"/run/systemd/transient", IN_MOVED_TO)
everywhere = os.sched_getaffinity(0)
for process in (0, procroll):
    os.sched_setaffinity(process, {min(everywhere)})
os.sched_setscheduler(procroll, os.SCHED_IDLE, os.sched_param(0))
os.kill(procroll, signal.SIGHUP)
while name not in os.read(inotify, 4096):
    pass
os.kill(procroll, signal.SIGSTOP)
os.sched_setscheduler(procroll, os.SCHED_OTHER, os.sched_param(0))
os.sched_setaffinity(procroll, everywhere)
"#;

fn a_start_that_is_lost_with_the_bus_is_asked_for_again(machine: &Machine) {
    lift_its_start_limit(machine);
    machine.write("/run/catch", CATCH);
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let procroll = machine.show("web", "MainPID");
    let mut caught = 0;
    for generation in 2..100 {
        let unit = format!("web@{generation}.service");
        machine.ok(&format!("python3 /run/catch {unit}.d {procroll}"));
        if machine.units(&unit).is_empty() {
            caught += 1;
            machine.ok("systemctl restart dbus.service");
        }
        machine.ok(&format!("kill -CONT {procroll}"));
        wait_for_only(machine, &unit);
        wait_for_status(machine, " serves");
        if caught == 3 {
            break;
        }
    }
    assert_eq!(caught, 3, "as often as it was to be");
    assert_eq!(machine.show("web", "MainPID"), procroll);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_before_a_start_is_answered_leaves_nothing(machine: &Machine) {
    lift_its_start_limit(machine);
    stop_before_an_answer(machine, BUS_DOWN, BUS_UP);
}

/// What the bus has to pass on to systemd yet is not started after the stop. That takes a minute, until procroll believes that
/// nobody will answer, so not all have to try it.
fn a_stop_while_a_start_hangs_with_the_bus_starts_nothing(machine: &Machine) {
    let hangs = "systemctl kill --signal=STOP dbus.service";
    stop_before_an_answer(machine, hangs, "systemctl kill --signal=CONT dbus.service && busctl >/dev/null");
}

fn stop_before_an_answer(machine: &Machine, fault: &str, back: &str) {
    machine.write("/run/catch", CATCH);
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let procroll = machine.show("web", "MainPID");
    let caught = (2..100).map(|generation| format!("web@{generation}.service")).find(|unit| {
        machine.ok(&format!("python3 /run/catch {unit}.d {procroll}"));
        let caught = machine.units(unit).is_empty();
        if !caught {
            machine.ok(&format!("kill -CONT {procroll}"));
            wait_for_only(machine, unit);
            wait_for_status(machine, " serves");
        }
        caught
    });
    let unit = caught.expect("one that is not started yet");
    machine.ok(&format!("{fault} && kill -CONT {procroll} && systemctl stop web"));
    assert!(!transient(machine).contains(&unit), "its files are gone");
    machine.ok(back);
    nothing_is_left(machine);
    assert!(!machine.journal("").contains(&format!("Started {unit}")));
}

/// Until the child's input is dropped.
fn take_connections(machine: &Machine) -> Child {
    let mut taker = machine.spawn(&["python3", "-c", TAKE_CONNECTIONS]);
    let mut taken = String::new();
    BufReader::new(taker.stdout.take().expect("its output")).read_line(&mut taken).expect("its output");
    assert!(taken.trim().parse::<u32>().expect("a number") > 100, "{taken}");
    taker
}

fn a_bus_without_a_free_connection(machine: &Machine) {
    machine.unit("web.service", &with_lines("TimeoutStopSec=2s", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let (procroll, payload) = (machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));
    // A roll fails, and says so as soon as it can.
    is_at_rest(machine);
    let taker = take_connections(machine);
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    let said = "Roll failed, web@1.service serves on: web@2.service was not started: systemd can't be reached: ";
    machine.wait_for("the reason", || machine.log("web.service").contains(said).then_some(()));
    drop(taker.wait_with_output());
    assert!(!succeeds(reload));
    assert_eq!(machine.show("web@1", "MainPID"), payload);

    // A new procroll waits until it can ask.
    let taker = take_connections(machine);
    signal(machine, "RTMIN+25");
    wait_for_status(machine, "Waiting: systemd can't be reached");
    drop(taker.wait_with_output());
    wait_for_status(machine, &format!("web@1.service (main PID {payload}) serves"));
    assert_eq!(machine.show("web", "MainPID"), procroll);

    // So does one that has to find out how its generation ended.
    is_at_rest(machine);
    let taker = take_connections(machine);
    machine.ok(&format!("kill -KILL {payload}"));
    machine.wait_for("its end", || (machine.show("web@1", "ActiveState") == "failed").then_some(()));
    assert_eq!(machine.show("web", "MainPID"), procroll);
    drop(taker.wait_with_output());
    machine.wait_for_property("web", "NRestarts", "1");
    machine.wait_for_property("web", "ActiveState", "active");

    // A stop ends.
    let taker = take_connections(machine);
    machine.ok("systemctl stop web");
    assert_eq!(machine.run("pgrep --full /usr/bin/[p]ayload").status, Some(1), "no process");
    drop(taker.wait_with_output());
    machine.run("systemctl reset-failed");
    machine.ok("systemctl start web && systemctl stop web");
    nothing_is_left(machine);
}

/// A systemd that executes itself anew leaves the bus, and asks only once to be let in again.
/// Another bus is where the bus was, and systemd on it, while the first one lives on, and procroll with it.
fn systemd_goes_to_another_bus(machine: &Machine) {
    let away = || {
        machine.ok("mv /run/dbus/system_bus_socket /run/dbus/before && systemd-run --quiet --unit=other --collect \
             dbus-daemon --system --nofork --nopidfile --address=unix:path=/run/dbus/system_bus_socket");
        machine.wait_for("the other bus", || (machine.run("busctl list --no-legend").status == Some(0)).then_some(()));
        machine.ok("systemctl daemon-reexec");
        let there = "busctl status org.freedesktop.systemd1";
        machine.wait_for("systemd to be there", || (machine.run(there).status == Some(0)).then_some(()));
    };
    let back = || {
        machine.ok("mv /run/dbus/before /run/dbus/system_bus_socket && systemctl stop other");
        machine.ok("systemctl daemon-reexec");
    };
    machine.ok("touch /run/go");
    machine.unit("web.service", &guard::wrapper_at_once("RestartSec=3s", "--settle=0", "wait /run/go ready run"));
    machine.ok("systemctl start web && rm /run/go && systemctl reload --no-block web");
    machine.wait_for_property("web@2", "SubState", "start");
    away();
    machine.ok("touch /run/go");
    wait_for_only(machine, "web@2.service");
    let serves = format!("web@2.service (main PID {}) serves", machine.show("web@2", "MainPID"));
    wait_for_status(machine, &serves);
    back();
    if !machine.suite.direct {
        // The next procroll waits for what the guard has to decide.
        signal(machine, "KILL");
        let guard = guard::process(machine);
        machine.ok(&format!("kill -STOP {guard}"));
        machine.wait_for_property("web", "StatusText", "Looks for generations");
        away();
        machine.ok(&format!("kill -CONT {guard}"));
        wait_for_status(machine, &serves);
        back();
    }
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@3.service");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

/// Nobody serves yet, and systemd has options to check. What could not be asked is no word about the unit.
fn a_first_start_outlasts_a_bus_that_restarts(machine: &Machine) {
    lift_its_start_limit(machine);
    let unit =
        with_lines("RestartSec=10ms\nRestartPreventExitStatus=170 173 174 175", "--settle=0 -pNice=3", "ready run");
    machine.unit("web.service", &unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n"));
    for apart in (0..100).step_by(10) {
        machine.ok(&format!("systemctl start --no-block web; sleep 0.0{apart:02}; systemctl restart dbus"));
        machine.wait_for_property("web", "ActiveState", "active");
        machine.ok("systemctl stop web");
    }
    nothing_is_left(machine);
}

fn systemd_is_not_let_back_to_the_bus(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let procroll = machine.show("web", "MainPID");
    machine.unit("web.service", &wrapper("--settle=0", "say up wait /run/go ready run"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for("the new one", || (machine.output("web@2.service") == "up").then_some(()));
    let taker = take_connections(machine);
    // It may be quicker than the one who takes what it has left; once it was not, it has no connection left to leave.
    machine.run("for _ in 1 2 3 4 5 6; do systemctl daemon-reexec; done");
    machine.ok("touch /run/go");
    machine.wait_for("it to be ready", || (machine.run("systemctl is-active web@2").stdout == "active").then_some(()));
    let _ = taker.wait_with_output();
    assert_ne!(machine.run("busctl status org.freedesktop.systemd1").status, Some(0), "it is not on the bus");
    // As systemd(1) has it. What came of the new one it has told nobody.
    machine.ok("kill -USR1 1");
    wait_for_status(machine, "web@2.service (main PID");
    let _ = reload.wait_with_output();
    wait_for_only(machine, "web@2.service");
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@3.service");
    assert_eq!(machine.show("web", "MainPID"), procroll);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

/// Whoever waits for it by `procroll reload` does not wait for ever, as one by `systemctl` doesn't.
fn a_reload_whose_end_goes_unheard_ends(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "say up wait /run/go ready run"));
    let reload = machine.spawn(&["procroll", "reload", "web"]);
    machine.wait_for("the new one", || (machine.output("web@2.service") == "up").then_some(()));
    // That systemd is back is no reason to give up.
    machine.ok("systemctl daemon-reexec");
    let asks = "busctl status org.freedesktop.systemd1";
    machine.wait_for("systemd on the bus", || (machine.run(asks).status == Some(0)).then_some(()));
    let taker = take_connections(machine);
    machine.run("for _ in 1 2 3 4 5 6; do systemctl daemon-reexec; done");
    // systemd may still be at it.
    let job = machine.wait_for("the job", || {
        let shown = machine.run("systemctl show --property=Job --value web");
        Some(shown.stdout).filter(|job| !job.is_empty())
    });
    machine.ok(&format!("systemctl cancel {job}"));
    let _ = taker.wait_with_output();
    assert_ne!(machine.run(asks).status, Some(0), "it is not on the bus");
    machine.ok("kill -USR1 1");
    let output = reload.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(172), "{said}");
    assert!(said.contains("what became of the reload of web.service went unheard"), "{said}");
    machine.ok("touch /run/go && systemctl stop web");
    nothing_is_left(machine);
}

/// The new one dies while it settles, and nobody can say so until later than that.
fn what_dies_unheard_has_not_settled(machine: &Machine) {
    lift_its_start_limit(machine);
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let payload = machine.show("web@1", "MainPID");
    machine.unit("web.service", &wrapper("--settle=5s", "ready wait /run/go exit 3"));
    let hangs = "systemctl kill --signal=STOP dbus.service";
    for (fault, mended) in [(BUS_DOWN, BUS_UP), (hangs, "systemctl kill --signal=CONT dbus.service")] {
        machine.ok("rm --force /run/go");
        let reload = machine.spawn(&["systemctl", "reload", "web"]);
        wait_for_status(machine, "settles");
        machine.ok(fault);
        machine.ok("touch /run/go");
        let said = machine.wait_for("the time to be over", || {
            Some(machine.show("web", "StatusText")).filter(|status| !status.contains(" settles"))
        });
        assert!(said.starts_with("web@1.service") && said.contains(" starts"), "{said}");
        machine.ok(mended);
        assert!(!succeeds(reload), "{fault}");
        assert_eq!(machine.show("web@1", "MainPID"), payload, "{fault}");
        wait_for_status(machine, "last roll failed");
    }
}

/// systemd sends none to a unit that is not up, so no reload waits for its roll.
fn a_plain_signal_before_it_is_up_keeps_nobody_waiting(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0 --max-stopping=1", "deaf ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    machine.ok(BUS_DOWN);
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    wait_for_status(machine, "Waiting");
    machine.ok("systemctl kill --kill-whom=main --signal=HUP web");
    machine.ok(BUS_UP);
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.show("web@1", "ActiveState"), "deactivating", "its roll has not begun");
    machine.ok("systemctl kill --signal=KILL web@1");
    machine.wait_for_property("web@3", "ActiveState", "active");
}
