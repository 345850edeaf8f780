//! A failed roll leaves the old generation serving (G2), and a death of its own ends procroll alike (G9).

use crate::machine::{Answers, Load, Machine};
use crate::{SOCKET, gunicorn, transient, with_lines, wrapper};

from_systemd_254!(a_failed_roll_fails_the_reload_also_while_the_bus_restarts);
on_each_systemd!(
    the_journal_knows_what_a_message_is_about,
    a_broken_application_never_takes_over,
    a_generation_that_is_never_ready_is_given_up_in_time,
    one_that_exits_before_it_is_ready_has_failed,
    one_that_exits_well_while_settling_has_failed,
    a_roll_that_is_refused_starts_nothing,
    a_condition_that_does_not_hold_is_named,
    if_the_old_one_dies_meanwhile_the_roll_goes_on,
    a_roll_after_which_nobody_serves_has_failed,
    a_first_start_that_fails_fails_the_unit,
    the_serving_generations_exit_status_is_procrolls,
    the_serving_generations_signal_is_procrolls,
    a_clean_end_is_a_clean_end,
    what_is_neither_is_one,
    a_death_is_answered_by_the_units_restart,
    processes_left_behind_go_with_their_generation,
);

/// Rolls, in vain, and checks what G2 promises. Gives STATUS= and the journal's line.
fn fails_to_roll(machine: &Machine) -> (String, String) {
    let serving = machine.show("web@1", "MainPID");
    let outcome = machine.run("systemctl reload web");
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    // The reload has failed when it was cancelled; that it is over systemd hears a moment later.
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.show("web@1", "ActiveState"), "active");
    assert_eq!(machine.show("web@1", "MainPID"), serving, "the old one is untouched");
    let status = machine.show("web", "StatusText");
    assert!(status.starts_with(&format!("web@1.service (main PID {serving}) serves; last roll failed: ")), "{status}");
    let log = machine.log("web.service");
    let lines: Vec<_> = log.lines().filter(|line| line.starts_with("Roll failed, web@1.service serves on: ")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    (status, lines[0].to_owned())
}

fn names_unit_result_and_command(text: &str, unit: &str, result: &str) {
    let commands = format!("See \"systemctl status {unit}\" and \"journalctl -xeu {unit}\"");
    assert!(text.contains(unit) && text.contains(result) && text.contains(&commands), "{text}");
}

fn a_broken_application_never_takes_over(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    machine.unit("web.service", &gunicorn("", "app"));
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    // However long it takes to find out, on a machine that has much to do.
    machine.unit("web.service", &gunicorn("--settle=1min", "no_such_module"));
    let (status, line) = fails_to_roll(machine);
    // gunicorn 23 says it is ready and dies while it settles; later ones find out before.
    for text in [&status, &line] {
        names_unit_result_and_command(text, "web@2.service", "(Result=exit-code, status=3)");
    }
    assert_eq!(machine.show("web@2", "ActiveState"), "failed", "it stays to be looked at");

    machine.unit("web.service", &gunicorn("", "app"));
    machine.ok("systemctl reload web");
    machine.wait_for("the others to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    machine.wait_for("the status to forget the failure", || {
        (!machine.show("web", "StatusText").contains("failed")).then_some(())
    });
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
}

fn a_generation_that_is_never_ready_is_given_up_in_time(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0 --ready-timeout=1s", "run"));
    let (status, line) = fails_to_roll(machine);
    for text in [&status, &line] {
        names_unit_result_and_command(text, "web@2.service", "failed (Result=timeout) while starting");
    }
}

fn one_that_exits_before_it_is_ready_has_failed(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "exit 0"));
    let (status, _) = fails_to_roll(machine);
    names_unit_result_and_command(&status, "web@2.service", "(Result=protocol) while starting");
}

fn one_that_exits_well_while_settling_has_failed(machine: &Machine) {
    machine.unit("web.service", &wrapper("", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=1min", "ready exit 0"));
    let (status, _) = fails_to_roll(machine);
    names_unit_result_and_command(&status, "web@2.service", "exited (Result=success, status=0) while settling");
}

fn a_roll_that_is_refused_starts_nothing(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let cases = [
        ("/usr/bin/payload", "/usr/bin/no-such-command", "/usr/bin/no-such-command can't be executed"),
        ("/usr/bin/payload", "/etc/passwd", "/etc/passwd is not executable"),
        ("--settle=0", "--settle=soon", "ExecStart= of web.service (/etc/systemd/system/web.service:8)"),
        ("--settle=0", "--settle=soon", "'--settle <SPAN>': not a time span"),
        ("--settle=0", "--no-such-option", "'--no-such-option'"),
        ("--settle=0", "-pMemoryMax=10Q", "Invalid memory limit '10Q'"),
        ("--settle=0", "-pNoSuchKey=1", "systemd knows no NoSuchKey="),
        ("ready run", "{{.Nope}}", "{{.Nope}} is none of"),
        ("/usr/bin/procroll", "/usr/bin/env procroll", "runs procroll through env"),
        ("/usr/bin/procroll", "/usr/bin/payload", "no longer runs /usr/bin/procroll but /usr/bin/payload"),
        (
            "/usr/bin/procroll",
            "/bin/sh -c 'exec procroll'",
            "web.service:8) runs procroll through sh, so systemd takes that for the service. Let ExecStart= begin",
        ),
        ("--settle=0", "--unit=other", "--unit= has changed from web to other"),
    ];
    for (from, to, said) in cases {
        machine.unit("web.service", &wrapper("--settle=0", "ready run").replace(from, to));
        let outcome = machine.run("systemctl reload web");
        assert_eq!(outcome.status, Some(1), "{to}: {outcome:?}");
        let status = machine.show("web", "StatusText");
        assert!(status.contains(said), "{to}: {status}");
        assert_eq!(machine.units("web@*"), ["web@1.service"], "{to}");
    }
    assert_eq!(transient(machine), "web@1.service\nweb@1.service.d");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl reload web");
}

fn a_condition_that_does_not_hold_is_named(machine: &Machine) {
    let unit = wrapper("--settle=0", "ready run");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    machine.unit("web.service", &unit.replace("[Unit]\n", "[Unit]\nConditionPathExists=/no/such/path\n"));
    let (status, _) = fails_to_roll(machine);
    names_unit_result_and_command(&status, "web@2.service", "(Result=condition)");
}

fn if_the_old_one_dies_meanwhile_the_roll_goes_on(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go ready run"));
    machine.ok("systemctl start web && rm /run/go");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "activating");
    machine.ok("systemctl kill --signal=KILL web@1");
    machine.wait_for_property("web@1", "LoadState", "not-found");
    assert_eq!(machine.show("web", "StatusText"), format!("web@2.service starts"));
    machine.ok("touch /run/go");
    assert!(reload.wait_with_output().expect("it ends").status.success());
    assert_eq!(machine.units("web@*"), ["web@2.service"]);
    assert_eq!(machine.show("web", "NRestarts"), "0");
}

/// With a good end of both the unit has no more to do, which systemd by itself would take for a reload that is done.
fn a_roll_after_which_nobody_serves_has_failed(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready wait /run/end exit 0"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=1min", "ready wait /run/go exit 3"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "active");
    machine.ok("touch /run/end");
    machine.wait_for_property("web@1", "LoadState", "not-found");
    machine.ok("touch /run/go");
    assert!(!reload.wait_with_output().expect("systemctl reload").status.success());
    machine.wait_for_property("web", "ActiveState", "inactive");
    assert_eq!(machine.show("web", "Result"), "success");
}

fn without_restart(unit: &str) -> String {
    unit.replace("Restart=on-failure\n", "")
}

fn a_first_start_that_fails_fails_the_unit(machine: &Machine) {
    machine.unit("web.service", &without_restart(&gunicorn("", "no_such_module")));
    assert_eq!(machine.run("systemctl start web").status, Some(1));
    assert_eq!(machine.show("web", "ExecMainStatus"), "3");
    let status = machine.show("web", "StatusText");
    names_unit_result_and_command(&status, "web@1.service", "(Result=exit-code, status=3)");
    assert_eq!(machine.show("web@1", "ActiveState"), "failed", "it stays to be looked at");
    machine.unit("web.service", &gunicorn("", "app"));
    machine.ok("systemctl start web");
    assert_eq!(machine.units("web@*"), ["web@2.service"], "the next start clears it away");
}

/// Starts a payload that dies when told, and tells it. Gives procroll's code and status, as systemd has them.
fn dies(machine: &Machine, how: &str) -> (String, String, String) {
    let lines = "TimeoutStopSec=5s\nLimitCORE=0";
    machine
        .unit("web.service", &without_restart(&with_lines(lines, "--settle=0", &format!("ready wait /run/die {how}"))));
    machine.ok("rm -f /run/die; systemctl start web && touch /run/die");
    machine.wait_for("procroll to end", || {
        ["inactive", "failed"].contains(&machine.show("web", "ActiveState").as_str()).then_some(())
    });
    machine.wait_for("its generation to be cleared away", || machine.units("web@*").is_empty().then_some(()));
    let result =
        (machine.show("web", "Result"), machine.show("web", "ExecMainCode"), machine.show("web", "ExecMainStatus"));
    machine.ok("systemctl reset-failed");
    result
}

fn outcome(result: &str, code: &str, status: &str) -> (String, String, String) {
    (result.to_owned(), code.to_owned(), status.to_owned())
}

fn the_serving_generations_exit_status_is_procrolls(machine: &Machine) {
    assert_eq!(dies(machine, "exit 7"), outcome("exit-code", "1", "7"));
    let log = machine.log("web.service");
    assert!(
        log.contains(
            "web@1.service served and failed (Result=exit-code, status=7). See \"journalctl -xeu web@1.service\""
        ),
        "{log}"
    );
    assert_eq!(dies(machine, "exit 255"), outcome("exit-code", "1", "255"));
}

fn the_serving_generations_signal_is_procrolls(machine: &Machine) {
    assert_eq!(dies(machine, "kill SIGKILL"), outcome("signal", "2", "9"));
    assert_eq!(dies(machine, "kill SIGSEGV"), outcome("signal", "2", "11"));
}

fn a_clean_end_is_a_clean_end(machine: &Machine) {
    for end in ["exit 0", "kill SIGTERM"] {
        // systemd forgets how a unit ended that ended well, but for the word.
        assert_eq!(dies(machine, end).0, "success", "{end}");
        let log = machine.journal("--unit=web.service --lines=1");
        assert_eq!(log, "web.service: Deactivated successfully.", "{end}");
    }
}

fn what_is_neither_is_one(machine: &Machine) {
    // Of the payload only: procroll is to be in time.
    machine.unit("web.service", &without_restart(&wrapper("--settle=0 -p WatchdogSec=1s", "ready run")));
    machine.ok("systemctl start web");
    machine.wait_for_property("web", "ActiveState", "failed");
    assert_eq!(machine.show("web", "ExecMainStatus"), "1");
    let status = machine.show("web", "StatusText");
    assert!(status.contains("web@1.service served and failed (Result=watchdog)"), "{status}");
}

fn a_death_is_answered_by_the_units_restart(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.ok("systemctl kill --signal=KILL web@1");
    machine.wait_for_property("web", "NRestarts", "1");
    machine.wait_for_property("web", "ActiveState", "active");
    machine.wait_for("a generation to serve", || (machine.units("web@*").len() == 1).then_some(()));
}

fn processes_left_behind_go_with_their_generation(machine: &Machine) {
    let unit = with_lines("TimeoutStopSec=1s", "--settle=0", "leave ready wait /run/die exit 0");
    machine.unit("web.service", &without_restart(&unit));
    machine.ok("systemctl start web");
    let group = format!("/sys/fs/cgroup{}", machine.show("web@1", "ControlGroup"));
    machine.ok("touch /run/die");
    machine.wait_for_property("web", "ActiveState", "inactive");
    machine.wait_for("all processes to go", || (!machine.path(&group).exists()).then_some(()));
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
}

fn the_journal_knows_what_a_message_is_about(machine: &Machine) {
    machine.write("/usr/lib/systemd/catalog/procroll.catalog", include_str!("../../units/procroll.catalog"));
    machine.ok("journalctl --update-catalog");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "exit 3"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    machine.ok("journalctl --sync");
    let messages = machine.ok("journalctl --output=json MESSAGE_ID=7c83927ddc414af3ba91399fca73c73a");
    let message: serde_json::Value = serde_json::from_str(&messages).expect("one message");
    assert_eq!((&message["GENERATION"], &message["UNIT"]), (&"2".into(), &"web@2.service".into()));
    assert_eq!(message["INVOCATION_ID"], machine.show("web@2", "InvocationID"));
    assert_eq!(message["PRIORITY"], "3");
    assert_eq!(message["_SYSTEMD_UNIT"], "web.service");
    for unit in ["web", "web@2"] {
        assert!(machine.journal(&format!("--unit={unit}")).contains("Roll failed, web@1.service serves on"), "{unit}");
    }
    let explained = machine.ok("journalctl --catalog --unit=web@2");
    assert!(explained.contains("The roll to generation 2 failed"), "{explained}");
}

/// Nobody is told that a failed roll went well, whatever becomes of the bus by which that is told.
fn a_failed_roll_fails_the_reload_also_while_the_bus_restarts(machine: &Machine) {
    let unit = |steps: &str| wrapper("--settle=5s", steps).replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n");
    machine.unit("web.service", &unit("ready run"));
    machine.write("/etc/systemd/system/dbus.service.d/often.conf", "[Unit]\nStartLimitIntervalSec=0\n");
    machine.write(
        "/etc/systemd/system/dbus.socket.d/often.conf",
        "[Unit]\nStartLimitIntervalSec=0\n[Socket]\nTriggerLimitIntervalSec=0\n",
    );
    machine.ok("systemctl daemon-reload && systemctl start web");
    machine.unit("web.service", &unit("ready wait /run/go exit 3"));
    for apart in 0..20 {
        machine.run("rm -f /run/go /run/outcome");
        let mut reload = machine.spawn(&["sh", "-c", "systemctl reload web; echo $? >/run/outcome"]);
        let number = apart + 2;
        machine.wait_for_property(&format!("web@{number}.service"), "ActiveState", "active");
        machine.run(&format!("touch /run/go; sleep 0.0{apart:02}; systemctl restart dbus.service"));
        reload.wait().expect("it ends");
        assert_ne!(machine.read("/run/outcome").trim(), "0", "{apart} × 10 ms later");
    }
    assert_eq!(machine.show("web@1", "ActiveState"), "active");
}
