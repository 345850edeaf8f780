//! procroll itself may crash: the running generation never notices, and the next procroll takes over (G3).

use crate::machine::{Answers, Load, Machine};
use crate::payloads::is_at_rest;
use crate::stops::nothing_is_left;
use crate::{SOCKET, gunicorn, transient, with_lines, wrapper};

on_each_systemd!(
    the_next_procroll_takes_over_the_running_generation,
    a_roll_left_half_way_is_settled,
    a_candidate_that_had_not_settled_has_to_settle,
    the_first_start_goes_on,
    one_that_is_killed_while_it_is_frozen_stops_nothing,
    what_failed_stays_to_be_looked_at,
    no_request_is_lost_when_procroll_is_killed,
    who_waits_for_a_reload_is_not_told_that_it_is_done,
    a_stop_at_any_moment_of_a_takeover_is_a_stop,
    what_is_somebody_elses_is_not_taken_over,
    a_new_name_for_generations_takes_a_restart,
    a_unit_that_cannot_be_rolled_stops_nothing,
    a_generation_that_reloads_itself_is_taken_over,
    what_requires_the_service_is_there_after_a_crash,
    a_handover_waits_for_what_lives_on_of_one_that_ended_meanwhile,
);

from_systemd_257!(
    a_reload_that_comes_to_one_with_a_start_fails_if_what_serves_is_not_what_the_unit_says,
    who_waits_for_the_first_start_is_told_that_it_is_up,
    a_reload_for_which_no_roll_has_begun_fails_too,
);

fn kill(machine: &Machine, restarts: &str) {
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", restarts);
    machine.wait_for_property("web", "ActiveState", "active");
}

fn the_next_procroll_takes_over_the_running_generation(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let (procroll, pid) = (machine.show("web", "MainPID"), machine.show("web@2", "MainPID"));
    machine.unit("web.service", &with_lines("Nice=7", "--settle=0", "ready run"));
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@2.service (main PID {pid}) serves"));
    assert_ne!(machine.show("web", "MainPID"), procroll);
    assert_eq!(machine.show("web@2", "MainPID"), pid, "it never noticed");
    // It goes on counting, and is in charge as before: what has changed meanwhile comes with a reload.
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    assert_eq!(machine.show("web@3", "Nice"), "7");
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
}

fn a_roll_left_half_way_is_settled(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go ready run"));
    machine.ok("systemctl start web && rm /run/go");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "activating");
    kill(machine, "1");
    let _ = reload.wait_with_output();
    machine.wait_for("the new procroll to see both", || {
        machine.show("web", "StatusText").ends_with("serves; web@2.service starts").then_some(())
    });
    machine.ok("touch /run/go");
    machine.wait_for("the roll to end", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.wait_for_property("web", "ActiveState", "active");
}

fn a_candidate_that_had_not_settled_has_to_settle(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    machine.unit("web.service", &wrapper("--settle=1h", "ready wait /run/go exit 3"));
    machine.ok("systemctl reload --no-block web");
    machine.wait_for_property("web@2", "ActiveState", "active");
    // It settles for as long as it was started with, whatever somebody has in hand.
    machine.ok("echo >>/etc/systemd/system/web.service");
    kill(machine, "1");
    assert!(machine.log("web.service").contains("has changed on disk"), "{}", machine.log("web.service"));
    machine.wait_for("the new procroll to see both", || {
        machine.show("web", "StatusText").ends_with("settles").then_some(())
    });
    // Twice as long as it would without a word of the unit's.
    machine.ok("sleep 2 && touch /run/go");
    machine.wait_for_property("web@2", "ActiveState", "failed");
    machine.wait_for("the old one to serve on", || {
        let status = machine.show("web", "StatusText");
        status.starts_with(&format!("web@1.service (main PID {pid}) serves; last roll failed")).then_some(())
    });
}

fn the_first_start_goes_on(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "say up wait /run/go ready run"));
    // Up to systemd 256 whoever waits for it may be told that it failed.
    machine.ok("systemctl start --no-block web");
    machine.wait_for("the start", || (machine.output("web@1.service") == "up").then_some(()));
    let pid = machine.show("web@1", "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", "1");
    machine.ok("touch /run/go");
    machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
    machine.ok("systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
}

/// From 257 on systemd neither starts nor thaws any service of which that is so.
fn one_that_is_killed_while_it_is_frozen_stops_nothing(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    machine.ok("systemctl freeze web && systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", "1");
    if !machine.suite.direct {
        machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
        machine.ok("systemctl reload web && systemctl stop web");
        return nothing_is_left(machine);
    }
    machine.wait_for_property("web", "SubState", "auto-restart-queued");
    assert_ne!(machine.run("systemctl thaw web").status, Some(0), "or G4 has a bracket too many");
    assert_eq!((machine.show("web@1", "MainPID"), machine.show("web@1", "ActiveState")), (pid, "active".to_owned()));
    machine.ok("systemctl stop web@1");
}

fn what_failed_stays_to_be_looked_at(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "exit 3"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    let serves = format!("web@1.service (main PID {}) serves", machine.show("web@1", "MainPID"));
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &serves);
    is_at_rest(machine);
    assert_eq!(machine.units("web@*"), ["web@1.service", "web@2.service"]);
    // Until the next roll.
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    assert_eq!(machine.units("web@*"), ["web@1.service", "web@3.service"]);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn no_request_is_lost_when_procroll_is_killed(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    let unit = gunicorn("--settle=100ms", "app").replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    for restart in 1..=5 {
        kill(machine, &restart.to_string());
        machine.ok("systemctl reload web");
    }
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert!(answers.answered > 0);
}

fn who_waits_for_a_reload_is_not_told_that_it_is_done(machine: &Machine) {
    machine.unit("web.service", &with_lines("RestartSec=5s", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &with_lines("RestartSec=5s", "--settle=0", "wait /run/go ready run"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "activating");
    kill(machine, "1");
    assert!(!reload.wait_with_output().expect("systemctl reload").status.success());
    // Whether that was the last one that was asked for, nobody knows.
    machine.ok("touch /run/go");
    machine.wait_for("the roll to end", || (machine.units("web@*") == ["web@2.service"]).then_some(()));

    // Who wants it to be up is told that it is; and whatever waits for that starts.
    machine.unit(
        "front.service",
        "[Unit]\nRequires=web.service\nAfter=web.service\n[Service]\nExecStart=sleep infinity\n",
    );
    let pid = machine.show("web@2", "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "SubState", "auto-restart");
    machine.ok("systemctl start web front");
    assert_eq!((machine.show("front", "ActiveState"), machine.show("web@2", "MainPID")), ("active".to_owned(), pid));
    machine.ok("systemctl reload web");
}

/// systemd makes one of the reload and of the start of its own that is under way.
fn a_reload_that_comes_to_one_with_a_start_fails_if_what_serves_is_not_what_the_unit_says(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=1h", "ready wait /run/go exit 3"));
    // A roll that no job waits for.
    machine.ok("systemctl kill --kill-whom=main --signal=HUP web");
    machine.wait_for_property("web@2", "ActiveState", "active");
    // Without a bus the next procroll is not up yet.
    machine.ok("systemctl log-level debug && systemctl stop dbus.socket dbus.service");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "SubState", "start");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for("the two to be one", || {
        (!machine.journal("--grep='web.service: Merged into' || true").is_empty()).then_some(())
    });
    machine.ok("systemctl start dbus.socket");
    assert!(!reload.wait_with_output().expect("systemctl reload").status.success());
    machine.ok("touch /run/go");
    machine.wait_for_property("web@2", "ActiveState", "failed");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl reload web");
}

fn a_stop_at_any_moment_of_a_takeover_is_a_stop(machine: &Machine) {
    let unit = with_lines("RestartSec=50ms", "--settle=0", "ready run");
    machine.unit("web.service", &unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n"));
    // Up to systemd 256 a restart that coincides with systemd's own is one job with it.
    let commands: &[&str] = if machine.suite.direct { &["stop", "restart"] } else { &["stop"] };
    for command in commands {
        for later in (0..150).step_by(30) {
            machine.ok("systemctl start web");
            let pid = machine.show("web@1", "MainPID");
            machine.ok(&format!(
                "systemctl kill --kill-whom=main --signal=KILL web; sleep 0.{later:03}; systemctl {command} web"
            ));
            machine.wait_for(&format!("the end of {pid}, {command} {later} ms after the crash"), || {
                (!machine.path(&format!("/proc/{pid}")).exists()).then_some(())
            });
            machine.ok("systemctl stop web");
            nothing_is_left(machine);
        }
    }
}

fn what_is_somebody_elses_is_not_taken_over(machine: &Machine) {
    machine.ok("systemd-run --quiet --unit=web@7.service sleep infinity");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    // What procroll was about to write when it was killed.
    machine.ok("mkdir /run/systemd/transient/web.service.procroll");
    let pid = machine.show("web@1", "MainPID");
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), ["web@7.service"]);
    assert_eq!(transient(machine), "web@7.service");
}

fn a_new_name_for_generations_takes_a_restart(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    machine.unit("web.service", &wrapper("--settle=0 --unit=new", "ready run"));
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains("--unit= has changed from web to new, which takes a restart"), "{status}");
    machine.ok("systemctl restart web");
    assert_eq!((machine.units("web@*"), machine.units("new@*")), (vec![], vec!["new@1.service".to_owned()]));
}

fn a_unit_that_cannot_be_rolled_stops_nothing(machine: &Machine) {
    // With this the exit status of a refusal would be the last word.
    let unit = |options: &str| with_lines("RestartPreventExitStatus=170 173 174 175", options, "ready run");
    machine.unit("web.service", &unit("--settle=0"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    for (restart, options, reread, said) in [
        ("1", "--settle=2s", "true", "web.service has changed on disk since systemd read it"),
        ("2", "--settle=soon", "systemctl daemon-reload", "'--settle <SPAN>': not a time span"),
        ("3", "--setle=2s", "systemctl daemon-reload", "'--setle'"),
    ] {
        machine.write("/etc/systemd/system/web.service", &unit(options));
        machine.ok(reread);
        kill(machine, restart);
        machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
        let log = machine.log("web.service");
        assert!(log.contains(said) && log.contains("What runs of web@*.service is kept as it is"), "{log}");
        // A roll is refused for the same reason.
        assert_ne!(machine.run("systemctl reload web").status, Some(0), "{options}");
        assert_eq!(machine.show("web@1", "MainPID"), pid, "{options}");
    }
    machine.unit("web.service", &unit("--settle=0"));
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
}

/// And so is whatever waits for that.
fn who_waits_for_the_first_start_is_told_that_it_is_up(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=3s", "ready run"));
    machine.unit(
        "front.service",
        "[Unit]\nRequires=web.service\nAfter=web.service\n[Service]\nExecStart=sleep infinity\n",
    );
    let start = machine.spawn(&["systemctl", "start", "web", "front"]);
    machine.wait_for_property("web@1", "ActiveState", "active");
    let pid = machine.show("web@1", "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    assert!(start.wait_with_output().expect("systemctl start").status.success());
    assert_eq!((machine.show("front", "ActiveState"), machine.show("web@1", "MainPID")), ("active".to_owned(), pid));
}

/// The unit says what it said, but not what it tells of.
fn a_reload_for_which_no_roll_has_begun_fails_too(machine: &Machine) {
    machine.write("/etc/web.env", "CONFIG=1\n");
    let lines = "EnvironmentFile=/etc/web.env\nRestartSec=5s";
    machine.unit("web.service", &with_lines(lines, "--max-stopping=1 --settle=0", "deaf ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.write("/etc/web.env", "CONFIG=2\n");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web", "SubState", "reload-notify");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    assert!(!reload.wait_with_output().expect("systemctl reload").status.success());
    // That is over: who wants it to be up is told that it is, and the next reload has its roll.
    machine.wait_for_property("web", "ActiveState", "active");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "SubState", "auto-restart");
    machine.ok("systemctl start web");
    machine.ok("systemctl kill --signal=KILL web@1 && systemctl reload web");
    machine.wait_for_property("web@3", "ActiveState", "active");
}

fn a_generation_that_reloads_itself_is_taken_over(machine: &Machine) {
    let script = "/bin/sh -c 'systemd-notify --ready; systemd-notify RELOADING=1; exec sleep infinity'";
    let unit = |options: &str| {
        let unit = with_lines("RestartPreventExitStatus=170 173 174 175", options, "");
        unit.replace("/usr/bin/payload ", script)
    };
    machine.unit("web.service", &unit("--settle=0 -p NotifyAccess=all"));
    machine.ok("systemctl start web");
    machine.wait_for_property("web@1", "ActiveState", "reloading");
    let pid = machine.show("web@1", "MainPID");
    // One that systemd has not read is refused at a start, but not where something serves.
    machine.write("/etc/systemd/system/web.service", &unit("--settle=1s -p NotifyAccess=all"));
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
    assert_eq!(machine.show("web@1", "MainPID"), pid);
}

fn a_handover_waits_for_what_lives_on_of_one_that_ended_meanwhile(machine: &Machine) {
    let script = "[ ! -e /run/worker ] || ! kill -0 $(cat /run/worker) || touch /run/beside\n\
                  trap '' TERM\nsleep infinity &\necho $! >/run/worker\ntrap - TERM\n\
                  systemd-notify --ready\nwhile [ ! -e /run/go ]; do sleep 0.05; done\n";
    machine.write("/srv/lives.sh", script);
    let options = "--strategy=handover --settle=0 -p NotifyAccess=all --shutdown-timeout=2s";
    let unit = with_lines("RestartSec=5s", options, "").replace("/usr/bin/payload ", "/bin/sh /srv/lives.sh");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "SubState", "auto-restart");
    machine.ok("touch /run/go");
    machine.wait_for_property("web@1", "SubState", "exited");
    machine.ok("rm /run/go");
    machine.wait_for_property("web@2", "ActiveState", "active");
    assert!(!machine.path("/run/beside").exists(), "nothing else runs when it starts");
}

/// Up to systemd 256 that is restarted with procroll, and waits for it.
fn what_requires_the_service_is_there_after_a_crash(machine: &Machine) {
    let front = "[Unit]\nRequires=web.service\nAfter=web.service\n[Service]\nExecStart=sleep infinity\n";
    machine.unit("front.service", front);
    let unit = with_lines("RestartSec=1s", "--max-stopping=1 --settle=0", "deaf ready run");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web front && systemctl reload web");
    let is_there = |restarts: &str| {
        kill(machine, restarts);
        machine.wait_for_property("front", "ActiveState", "active");
    };
    is_there("1");
    // A roll that nobody waits for, and a unit that has changed.
    machine.ok("systemctl kill --kill-whom=main --signal=HUP web");
    machine.wait_for("procroll to hear of it", || {
        machine.show("web", "StatusText").ends_with("the next roll waits for one of them to end").then_some(())
    });
    is_there("2");
    machine.unit("web.service", &unit.replace("[Service]", "[Service]\nNice=3"));
    is_there("3");
}
