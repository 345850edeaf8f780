//! What a roll is: G1, G5, and the figures of the main job.

use crate::machine::{Answers, Load, Machine};
use crate::{SOCKET, gunicorn, transient, with_lines, wrapper};

on_each_systemd!(
    reload_brings_a_new_generation,
    the_old_one_goes_only_when_the_new_one_has_settled,
    no_request_is_lost_in_a_hundred_rolls,
    a_signal_rolls_as_well,
    signals_for_the_service_reach_the_one_that_serves,
    an_old_generation_that_is_started_anew_is_stopped_again,
    a_failed_generation_that_is_started_anew_goes_with_the_next_roll,
    a_reload_without_a_bus_ends_in_the_truth,
    reloads_during_a_roll_become_one_more_roll,
    a_roll_waits_while_too_many_old_ones_stop,
    a_reload_that_waits_fails_if_nobody_serves_any_more,
    it_starts_and_rolls_while_systemd_reads_its_units_anew,
    templates_are_filled_in,
    a_roll_longer_than_the_units_timeout_is_not_cut_off,
    the_watchdog_is_fed,
    what_a_wrapper_lacks_is_said,
);

fn reload_brings_a_new_generation(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let procroll = machine.show("web", "MainPID");
    let first = machine.show("web@1", "MainPID");
    assert_eq!(machine.show("web@1", "ActiveState"), "active");
    assert_eq!(machine.show("web", "StatusText"), format!("web@1.service (main PID {first}) serves"));

    machine.ok("systemctl reload web");
    let second = machine.show("web@2", "MainPID");
    machine.wait_for_property("web@1", "LoadState", "not-found");
    assert_eq!(machine.units("web@*"), ["web@2.service"]);
    machine.wait_for_property("web", "StatusText", &format!("web@2.service (main PID {second}) serves"));
    assert_eq!(machine.show("web", "MainPID"), procroll);
    assert_eq!(machine.show("web@2", "Slice"), "system-web.slice");

    for _ in 3..=5 {
        machine.ok("systemctl reload web");
    }
    machine.wait_for("the old ones to go", || (machine.units("web@*") == ["web@5.service"]).then_some(()));
    let files = transient(machine);
    assert_eq!(files, "web@5.service\nweb@5.service.d");
}

fn the_old_one_goes_only_when_the_new_one_has_settled(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=1500ms", "ready run"));
    machine.ok("systemctl start web");
    // The unit itself says when it was asked to stop, on the same clock.
    machine.ok("mkdir -p /etc/systemd/system/web.service.d");
    let stamp = "[Service]\nExecStop=sh -c 'cut -d\" \" -f1 /proc/uptime >/run/stopped'\n";
    machine.unit("web.service.d/stamp.conf", stamp);
    machine.ok("systemctl reload web");
    machine.ok("rm -f /run/stopped");
    machine.ok("systemctl reload web");
    let stopped: String = machine.wait_for("the old one to be asked to stop", || {
        machine.run("cat /run/stopped").stdout.lines().next().map(str::to_owned)
    });
    let active: f64 = machine.show("web@3", "ActiveEnterTimestampMonotonic").parse().expect("microseconds");
    let settled = stopped.parse::<f64>().expect("seconds") - active / 1e6;
    assert!(settled >= 1.48, "asked to stop {settled} s after the new one was active");
}

fn no_request_is_lost_in_a_hundred_rolls(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    machine.unit("web.service", &gunicorn("--settle=50ms", "app"));
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    for _ in 0..100 {
        machine.ok("systemctl reload web");
    }
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert!(answers.answered > 1000, "{answers:?}");
    assert_eq!(machine.show("web@101", "ActiveState"), "active");
    println!("{answers:?}");
}

fn a_signal_rolls_as_well(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.ok("systemctl kill --kill-whom=main --signal=HUP web");
    machine.wait_for_property("web@2", "ActiveState", "active");
    machine.wait_for_property("web@1", "LoadState", "not-found");
    machine.wait_for_property("web", "ActiveState", "active");
}

fn reloads_during_a_roll_become_one_more_roll(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go ready run"));
    machine.ok("touch /run/go");
    machine.ok("systemctl start web");
    machine.ok("rm /run/go");
    let reload = || machine.spawn(&["systemctl", "reload", "web"]);
    let first = reload();
    machine.wait_for_property("web@2", "ActiveState", "activating");
    let second = reload();
    machine.wait_for("the second to be queued", || {
        let jobs = machine.ok("systemctl list-jobs --no-legend web.service");
        jobs.contains("waiting").then_some(())
    });
    for _ in 0..5 {
        machine.ok("systemctl reload --no-block web");
    }
    machine.ok("touch /run/go");
    for child in [first, second] {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
    }
    machine.wait_for("the old ones to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
}

/// G10: packages that are installed meanwhile have systemd do so, and are not to be waited for.
fn it_starts_and_rolls_while_systemd_reads_its_units_anew(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("touch /run/go");
    let mut reading = machine.spawn(&["sh", "-c", "while [ -e /run/go ]; do systemctl daemon-reload; done"]);
    machine.ok("systemctl start web");
    for _ in 0..10 {
        machine.ok("systemctl reload web");
    }
    machine.ok("rm /run/go");
    assert!(reading.wait().expect("its end").success());
    assert_eq!(machine.show("web@11", "ActiveState"), "active", "each was a roll");
}

fn templates_are_filled_in(machine: &Machine) {
    let steps = "say {{.PID}}/{{.Generation}}/{{.Unit}}/{{.NotifySocket}}/{{`{{`}} ready run";
    machine.unit("web.service", &wrapper("--settle=0", steps));
    machine.ok("systemctl start web");
    machine.ok("systemctl reload web");
    let pid = machine.show("web", "MainPID");
    assert_eq!(machine.output("web@2.service"), format!("{pid}/2/web@2.service//run/systemd/notify/{{{{"));
}

fn a_roll_longer_than_the_units_timeout_is_not_cut_off(machine: &Machine) {
    let unit = wrapper("--settle=4s --ready-timeout=1min", "ready run");
    machine.unit("web.service", &unit.replace("[Service]\n", "[Service]\nTimeoutStartSec=2s\n"));
    machine.ok("systemctl start web");
    machine.ok("systemctl reload web");
    assert_eq!(machine.show("web@2", "ActiveState"), "active");
    assert_eq!(machine.show("web", "NRestarts"), "0");
}

fn a_roll_waits_while_too_many_old_ones_stop(machine: &Machine) {
    let lines = "TimeoutStartSec=3s\nTimeoutStopSec=infinity";
    machine.unit("web.service", &with_lines(lines, "--settle=0 --max-stopping=1", "deaf ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for("the roll to wait", || {
        let status = machine.show("web", "StatusText");
        status.ends_with("web@1.service stops; the next roll waits for one of them to end").then_some(())
    });
    // For longer than the unit's own timeout. There is no event to wait for where nothing is to happen.
    machine.ok("sleep 4");
    assert_eq!(machine.units("web@*"), ["web@1.service", "web@2.service"]);
    machine.ok("systemctl kill --signal=KILL web@1");
    assert!(reload.wait_with_output().expect("systemctl reload").status.success());
    machine.wait_for("the next one", || (machine.units("web@*") == ["web@2.service", "web@3.service"]).then_some(()));
    machine.ok("systemctl kill --signal=KILL web@2");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
}

fn the_watchdog_is_fed(machine: &Machine) {
    // Of the wrapper only: the payload feeds none.
    machine.unit("web.service", &with_lines("WatchdogSec=6s", "--settle=0 -pWatchdogSec=0", "ready run"));
    machine.ok("systemctl start web");
    let stamp = || machine.show("web", "WatchdogTimestampMonotonic");
    let first = stamp();
    let second = machine.wait_for("a second sign of life", || Some(stamp()).filter(|stamp| *stamp != first));
    machine.wait_for("a third one", || (stamp() != second).then_some(()));
    assert_eq!(machine.show("web", "NRestarts"), "0");
}

fn what_a_wrapper_lacks_is_said(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let log = machine.log("web.service");
    assert_eq!(log.lines().count(), 1, "nothing but that it serves: {log}");
    machine.ok("systemctl stop web");

    let lines = "ExecReload=true\nExecStopPost=true\nRuntimeDirectory=web";
    let unit = with_lines(lines, "--settle=0", "ready run");
    machine.unit("web.service", &unit.replace("RestartMode=direct\n", "").replace("notify-reload", "notify"));
    machine.ok("systemctl start web");
    let log = machine.log("web.service");
    let lacks: &[&str] = match machine.suite.version {
        "v252" => &["no ExecReload= that runs procroll", "no RuntimeDirectoryPreserve="],
        "v254" => &["Type=notify,", "an ExecReload=", "no RuntimeDirectoryPreserve="],
        _ => &[
            "Type=notify,",
            "no RestartMode=direct",
            "an ExecReload=",
            "an ExecStopPost=",
            "no RuntimeDirectoryPreserve=",
        ],
    };
    for lack in lacks {
        assert!(log.contains(lack), "{lack}: {log}");
    }
    // Said in the journal's own terms.
    let warnings = machine.journal("--priority=4..4 --unit=web.service SYSLOG_IDENTIFIER=procroll");
    assert_eq!(warnings.lines().count(), lacks.len(), "{warnings}");
}

fn an_old_generation_that_is_started_anew_is_stopped_again(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0 --shutdown-timeout=2s", "deaf ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    // As needrestart does. Who waits for it may hear that it was cancelled.
    machine.ok("systemctl restart --no-block web@1");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
}

fn a_failed_generation_that_is_started_anew_goes_with_the_next_roll(machine: &Machine) {
    machine.ok("touch /run/go");
    let command = "/bin/sh -c '[ -e /run/go ] || exit 3; exec /usr/bin/payload ready run'";
    machine.unit("web.service", &wrapper("--settle=0", "").replace("/usr/bin/payload ", command));
    machine.ok("systemctl start web && rm /run/go");
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    machine.ok("touch /run/go && systemctl restart web@2 && systemctl reload web");
    machine.wait_for("the others to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    // Also if that comes while it is being cleared away.
    let unit = wrapper("--settle=0", "exit 3").replace("[Service]", "StartLimitIntervalSec=0\n[Service]");
    for (failed, next) in [(4, "web@5.service"), (6, "web@7.service"), (8, "web@9.service")] {
        machine.unit("web.service", &unit);
        assert_ne!(machine.run("systemctl reload web").status, Some(0));
        machine.unit("web.service", &unit.replace("exit 3", "ready run"));
        let again = format!("for _ in $(seq 30); do systemctl restart --no-block web@{failed}; done");
        let again = machine.spawn(&["sh", "-c", &again]);
        machine.ok("systemctl reload web");
        again.wait_with_output().expect("it ends");
        machine.wait_for("the others to go", || (machine.units("web@*") == [next]).then_some(()));
    }
}

fn a_reload_without_a_bus_ends_in_the_truth(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.ok("systemctl stop dbus.socket dbus.service");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for("the roll to fail", || machine.log("web.service").contains("Roll failed").then_some(()));
    machine.ok("systemctl start dbus.socket");
    assert!(!reload.wait_with_output().expect("systemctl reload").status.success());
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
}

fn signals_for_the_service_reach_the_one_that_serves(machine: &Machine) {
    let signals = ["SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU"];
    let heed = signals.map(|signal| format!("heed {signal} ")).concat();
    machine.unit("web.service", &wrapper("--settle=0", &format!("{heed} ready run")));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    for signal in signals {
        machine.ok(&format!("systemctl kill --signal={signal} web"));
        machine
            .wait_for("the signal", || (machine.output("web@2.service").lines().last() == Some(signal)).then_some(()));
    }
    assert_eq!(machine.output("web@2.service").lines().collect::<Vec<_>>(), signals);
    assert_eq!(machine.show("web", "NRestarts"), "0");
}

/// procroll ends well then, and the unit with it, which systemd would take for a reload that went well.
fn a_reload_that_waits_fails_if_nobody_serves_any_more(machine: &Machine) {
    let unit = |steps| with_lines("TimeoutStopSec=1min", "--settle=0 --max-stopping=1", steps);
    machine.unit("web.service", &unit("deaf ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &unit("ready run"));
    machine.ok("systemctl reload web");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for("it to wait", || machine.show("web", "StatusText").contains("the next roll waits").then_some(()));
    machine.ok("systemctl stop web@2");
    let told = reload.wait_with_output().expect("systemctl");
    assert!(!told.status.success(), "{told:?}");
    machine.run("systemctl kill --signal=KILL 'web@*'");
    machine.wait_for("the end", || {
        machine.run("systemctl reset-failed");
        machine.units("web@*").is_empty().then_some(())
    });
}
