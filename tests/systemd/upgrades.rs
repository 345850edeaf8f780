//! A new version of procroll under services that run: it executes itself anew, and nobody notices (G3).

use crate::machine::{Answers, Load, Machine};
use crate::restless::wait_for_only;
use crate::stops::nothing_is_left;
use crate::{SOCKET, gunicorn, with_lines, wrapper};

on_each_systemd!(
    a_new_version_takes_over_in_place,
    it_waits_for_the_roll_that_is_under_way,
    it_waits_until_the_old_one_has_been_asked_to_stop,
    it_does_not_wait_for_an_old_one_that_may_not_be_stopped,
    what_cannot_be_executed_changes_nothing,
    no_request_and_no_signal_is_lost,
    a_stop_at_that_very_moment_is_a_stop,
    a_stop_at_that_very_moment_leaves_no_failure,
    a_stop_at_that_very_moment_waits_for_what_takes_its_time,
    a_stop_at_that_very_moment_outlasts_a_systemd_that_executes_itself_anew,
    a_reload_at_that_very_moment_is_told_the_truth,
    a_reload_at_that_very_moment_that_fails_is_told_so,
);

from_systemd_254!(
    a_reload_while_nobody_serves_any_more_ends_with_its_roll,
    another_signal_of_the_units_own_is_heard_after_that,
);

/// Puts another file with the same content in the place of the binary, as a package does.
fn upgrade(machine: &Machine) {
    machine.ok("cp /usr/bin/procroll /usr/bin/procroll.new && mv /usr/bin/procroll.new /usr/bin/procroll");
}

fn ask(machine: &Machine) {
    machine.ok("systemctl kill --kill-whom=main --signal=RTMIN+25 web");
}

/// Whether the wrapper's process executes the binary that is there now.
fn is_new(machine: &Machine) -> bool {
    let pid = machine.show("web", "MainPID");
    machine.ok(&format!("readlink /proc/{pid}/exe")) == "/usr/bin/procroll"
}

fn a_new_version_takes_over_in_place(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let (procroll, payload) = (machine.show("web", "MainPID"), machine.show("web@2", "MainPID"));
    // As often as one likes.
    for generation in 3..=5 {
        upgrade(machine);
        assert!(!is_new(machine));
        ask(machine);
        machine.wait_for("the new version", || is_new(machine).then_some(()));
        machine.ok("systemctl reload web");
        let left = [format!("web@{generation}.service")];
        machine.wait_for("the old one to go", || (machine.units("web@*") == left).then_some(()));
    }
    assert_eq!(machine.show("web", "MainPID"), procroll);
    assert_eq!(machine.show("web", "NRestarts"), "0");
    assert_ne!(machine.show("web@5", "MainPID"), payload);
    // It has no more than before, and its messages are where they were.
    let status = machine.ok(&format!("cat /proc/{procroll}/status"));
    assert!(status.contains("CapPrm:\t0000000000000004") && status.contains("Seccomp:\t2"), "{status}");
    assert!(
        machine
            .log("web.service")
            .ends_with(&format!("web@5.service serves (main PID {})", machine.show("web@5", "MainPID")))
    );
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

fn it_waits_for_the_roll_that_is_under_way(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &wrapper("--settle=0 --ready-timeout=5s", "wait /run/go ready run"));
    machine.ok("systemctl start web && rm /run/go");
    for go in [true, false] {
        upgrade(machine);
        let reload = machine.spawn(&["systemctl", "reload", "web"]);
        machine.wait_for("the roll", || machine.show("web", "StatusText").contains("starts").then_some(()));
        ask(machine);
        assert!(!is_new(machine));
        if go {
            machine.ok("touch /run/go");
        }
        assert_eq!(reload.wait_with_output().expect("systemctl").status.success(), go, "the truth");
        machine.wait_for("the new version", || is_new(machine).then_some(()));
        machine.ok("rm --force /run/go");
        machine.wait_for_property("web", "ActiveState", "active");
    }
    assert_eq!(machine.show("web", "NRestarts"), "0");
}

/// Otherwise the next procroll would find two that are active, and what serves by now would have to settle once more.
fn it_waits_until_the_old_one_has_been_asked_to_stop(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=6s", "ready run"));
    machine.ok("systemctl reload --no-block web");
    machine.wait_for_property("web@2", "ActiveState", "active");
    upgrade(machine);
    machine.ok("systemctl kill --signal=STOP dbus.service");
    ask(machine);
    let serves = format!("web@2.service (main PID {}) serves", machine.show("web@2", "MainPID"));
    machine.wait_for("the roll to end", || machine.show("web", "StatusText").starts_with(&serves).then_some(()));
    assert_eq!(machine.show("web@1", "ActiveState"), "active", "nobody could be asked");
    assert!(!is_new(machine));
    machine.ok("systemctl kill --signal=CONT dbus.service");
    machine.wait_for("the new version", || is_new(machine).then_some(()));
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let log = machine.log("web.service");
    assert!(!log.contains("Found"), "{log}");
}

fn what_cannot_be_executed_changes_nothing(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web", "MainPID");
    machine.ok("mv /usr/bin/procroll /usr/bin/procroll.old");
    ask(machine);
    let said = "can't execute procroll anew, so it goes on as it is: ENOENT: No such file or directory";
    machine.wait_for("the reason", || machine.log("web.service").contains(said).then_some(()));
    machine.ok("mv /usr/bin/procroll.old /usr/bin/procroll && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    assert_eq!(machine.show("web", "MainPID"), pid);
}

fn no_request_and_no_signal_is_lost(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    machine.unit("web.service", &gunicorn("--settle=100ms", "app"));
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    for _ in 0..20 {
        machine.ok(
            "systemctl kill --kill-whom=main --signal=RTMIN+25 web; systemctl kill --kill-whom=main --signal=HUP web",
        );
    }
    let last = machine.wait_for("the rolls to end", || {
        let status = machine.show("web", "StatusText");
        (status.ends_with("serves") && machine.units("web@*").len() == 1).then_some(status)
    });
    assert!(!last.starts_with("web@1.service"), "{last}");
    // One that comes while procroll is executed anew asks for a roll all the same.
    let serving = machine.units("web@*");
    machine
        .ok("systemctl kill --kill-whom=main --signal=RTMIN+25 web; systemctl kill --kill-whom=main --signal=HUP web");
    machine.wait_for("a roll", || (machine.units("web@*") != serving).then_some(()));
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert_eq!(machine.show("web", "NRestarts"), "0");
}

fn a_reload_at_that_very_moment_is_told_the_truth(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    machine.unit("web.service", &wrapper("--settle=10s", "ready exit 3"));
    for apart in 0..12 {
        let both =
            format!("systemctl kill --kill-whom=main --signal=RTMIN+25 web; sleep 0.{apart:03}; systemctl reload web");
        assert_ne!(machine.run(&both).status, Some(0), "{apart} ms later");
        assert_eq!(machine.show("web@1", "MainPID"), pid);
    }
}

fn a_stop_at_that_very_moment_is_a_stop(machine: &Machine) {
    let unit = wrapper("--settle=0", "ready run").replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n");
    machine.unit("web.service", &unit);
    for apart in 0..40 {
        machine.ok("systemctl start web");
        let pid = machine.show("web", "MainPID");
        let both = "import os, sys, time; pid = int(sys.argv[1]); os.kill(pid, 59); \
                    time.sleep(float(sys.argv[2]) / 10000); os.kill(pid, 15)";
        machine.ok(&format!("python3 -c '{both}' {pid} {apart}"));
        machine.wait_for_property("web", "ActiveState", "inactive");
    }
    nothing_is_left(machine);
}

/// A unit that failed, at its start or at its end, goes as with any stop.
fn a_stop_at_that_very_moment_leaves_no_failure(machine: &Machine) {
    let command = "/bin/sh -c '[ -e /run/go ] || exit 3; exec /usr/bin/payload ready run'";
    let unit = wrapper("--settle=0", "").replace("/usr/bin/payload ", command);
    machine.unit("web.service", &unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n"));
    for apart in (0..60).step_by(4) {
        machine.ok("touch /run/go && systemctl start web && rm /run/go");
        assert_ne!(machine.run("systemctl reload web").status, Some(0));
        assert_eq!(machine.units("web@*").len(), 2);
        machine.ok(&format!(
            "systemctl kill --kill-whom=main --signal=RTMIN+25 web; sleep 0.{apart:03}; systemctl stop web"
        ));
        nothing_is_left(machine);
    }
}

/// Takes a second and more to stop.
fn slow(machine: &Machine) {
    let slow = "/bin/sh -c 'trap \"sleep 1; exit 0\" TERM; systemd-notify --ready; while :; do sleep 0.1; done'";
    machine.unit("web.service", &wrapper("--settle=0 -p NotifyAccess=all", "").replace("/usr/bin/payload ", slow));
}

fn a_stop_at_that_very_moment_waits_for_what_takes_its_time(machine: &Machine) {
    slow(machine);
    for _ in 0..5 {
        machine.ok("systemctl start web");
        machine.ok("systemctl kill --kill-whom=main --signal=RTMIN+25 web; systemctl stop web");
        let left =
            machine.ok("systemctl list-units --plain --no-legend --state=active,activating,deactivating 'web@*'");
        assert_eq!(left, "", "it still stops");
        nothing_is_left(machine);
    }
}

fn a_stop_at_that_very_moment_outlasts_a_systemd_that_executes_itself_anew(machine: &Machine) {
    slow(machine);
    for _ in 0..5 {
        machine.ok("systemctl start web");
        machine.ok("systemctl kill --kill-whom=main --signal=RTMIN+25 web; systemctl stop --no-block web");
        machine.wait_for("the stop to begin", || {
            (machine.run("systemctl is-active web@1").stdout != "active").then_some(())
        });
        machine.run("systemctl daemon-reexec");
        // systemctl may lose systemd meanwhile. Both in one answer: first the wrapper.
        let shown = machine.wait_for("it to end", || {
            let shown = machine.run("systemctl show --property=ActiveState --value web web@1").stdout;
            shown.starts_with("inactive").then_some(shown)
        });
        assert!(
            !shown.contains("deactivating"),
            "it still stops: {shown}\n{}",
            machine.ok("journalctl -o short-precise --no-pager -n 60")
        );
        nothing_is_left(machine);
    }
}

/// While procroll is executed anew the one that served dies, and then somebody reloads.
fn a_reload_while_nobody_serves_any_more_ends_with_its_roll(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let procroll = machine.show("web", "MainPID");
    machine.ok("mkfifo /run/hold && mv /usr/bin/procroll /usr/bin/procroll.real");
    machine.install("/usr/bin/procroll", "#!/bin/sh\nread go </run/hold\nexec /usr/bin/procroll.real \"$@\"\n");
    ask(machine);
    machine.wait_for("the new version", || {
        let program = machine.ok(&format!("readlink /proc/{procroll}/exe"));
        (!program.contains("procroll")).then_some(())
    });
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web@1");
    machine.wait_for_property("web@1", "ActiveState", "failed");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web", "ActiveState", "reloading");
    machine.ok("echo go >/run/hold");
    assert!(reload.wait_with_output().expect("systemctl").status.success());
    machine.wait_for_property("web", "ActiveState", "active");
    let pid = machine.show("web@3", "MainPID");
    let serves = format!("web@3.service (main PID {pid}) serves");
    machine.wait_for("its roll", || machine.show("web", "StatusText").starts_with(&serves).then_some(()));
    assert_eq!((machine.show("web", "MainPID"), machine.show("web", "NRestarts")), (procroll, "0".to_owned()));
    machine.ok("mv /usr/bin/procroll.real /usr/bin/procroll && systemctl stop web");
    nothing_is_left(machine);
}

/// A new version of procroll has to find out whether somebody waits for an earlier one's roll, and may hear of the next reload
/// meanwhile. That fails at once here.
fn a_reload_at_that_very_moment_that_fails_is_told_so(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit(
        "web.service",
        &wrapper("--settle=0", "ready run").replace("/usr/bin/payload", "/usr/bin/no-such-program"),
    );
    for _ in 0..30 {
        ask(machine);
        assert_ne!(machine.run("systemctl reload web").status, Some(0), "{}", machine.log("web.service"));
    }
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
}

fn another_signal_of_the_units_own_is_heard_after_that(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let signals = "ReloadSignal=SIGUSR2\nKillSignal=SIGUSR1\nTimeoutStopSec=30s";
    machine.unit("web.service", &with_lines(signals, "--settle=0 --signal=TERM", "ready run"));
    upgrade(machine);
    ask(machine);
    machine.wait_for("the new version", || is_new(machine).then_some(()));
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@2.service");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

fn it_does_not_wait_for_an_old_one_that_may_not_be_stopped(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web@1.service.d/by-hand.conf", "[Unit]\nRefuseManualStop=yes\n");
    machine.ok("systemctl reload web");
    upgrade(machine);
    ask(machine);
    machine.wait_for("the new version", || is_new(machine).then_some(()));
    machine.ok("rm -r /etc/systemd/system/web@1.service.d && systemctl daemon-reload");
    wait_for_only(machine, "web@2.service");
}
