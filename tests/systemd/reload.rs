//! `procroll reload`: at a terminal, and as the command of a wrapper's reload.

use std::process::Child;

use crate::machine::Machine;
use crate::stops::nothing_is_left;
use crate::{with_lines, wrapper};

on_each_systemd!(
    at_a_terminal_it_says_what_came_of_it,
    it_refuses_what_is_no_wrapper,
    as_a_command_it_is_the_reload,
    as_a_command_it_waits_for_the_roll_that_it_asked_for,
    a_stop_during_its_reload_is_a_stop,
    it_says_that_its_procroll_was_killed,
    its_unit_may_have_a_long_name,
    a_stranger_at_its_socket_gets_nowhere,
    it_listens_only_where_nobody_else_can_be,
);
from_systemd_257!(varlinkctl_may_ask_as_well);

/// A wrapper whose reload is a command, on any systemd.
fn by_command(steps: &str) -> String {
    let unit = with_lines("ExecReload=+/usr/bin/procroll reload", "--settle=0", steps);
    unit.replace("Type=notify-reload", "Type=notify").replace("RestartMode=direct\n", "")
}

fn at_a_terminal_it_says_what_came_of_it(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    for unit in ["web", "web.service"] {
        let outcome = machine.run(&format!("procroll reload {unit}"));
        let pid = machine.show("web", "StatusText");
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        assert!(pid.starts_with("web@") && outcome.stderr.contains(" serves"), "{outcome:?}");
        assert_eq!(outcome.stdout, "");
    }
    machine.wait_for("the old ones to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));

    machine.unit("web.service", &wrapper("--settle=0", "exit 3"));
    let outcome = machine.run("procroll reload web");
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    let said = "procroll: web.service was not rolled (its reload job: ";
    assert!(outcome.stderr.starts_with(said) && outcome.stderr.lines().count() == 1, "{outcome:?}");
    assert!(outcome.stderr.contains("web@4.service failed (Result=exit-code, status=3)"), "{outcome:?}");
    let outcome = machine.run("runuser -u app -- procroll reload web");
    assert_eq!(outcome.status, Some(173), "not allowed: {outcome:?}");
}

fn it_refuses_what_is_no_wrapper(machine: &Machine) {
    for unit in ["no-such-unit", "dbus"] {
        let outcome = machine.run(&format!("procroll reload {unit}"));
        assert_eq!(outcome.status, Some(174), "{outcome:?}");
        let said = format!("procroll: {unit}.service is not active, or does not run procroll");
        assert!(outcome.stderr.starts_with(&said), "{outcome:?}");
    }
    // A wrapper that systemd has loaded and not started; and one that is up, but can't be reloaded.
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.unit("other.service", "[Unit]\nBefore=web.service\n[Service]\nExecStart=sleep infinity\n");
    machine.ok("systemctl start other");
    assert_eq!(machine.run("procroll reload web").status, Some(174));
    machine.unit("web.service", &by_command("ready run").replace("ExecReload=", "X-ExecReload="));
    machine.ok("systemctl start web");
    let outcome = machine.run("procroll reload web");
    assert_eq!(outcome.status, Some(174), "{outcome:?}");
    assert!(outcome.stderr.ends_with(". See \"procroll check web.service\""), "{outcome:?}");
    let outcome = machine.run("procroll reload");
    assert_eq!(outcome.status, Some(170), "{outcome:?}");
    assert!(outcome.stderr.contains("no unit is named"), "{outcome:?}");
    // Where a reload is a roll by itself there is nobody to ask.
    machine.unit("other.service", "[Service]\nExecStart=sleep infinity\nExecReload=+/usr/bin/procroll reload\n");
    assert_eq!(machine.run("systemctl reload other").status, Some(1));
    let log = machine.log("other.service");
    assert!(log.contains("the procroll of other.service does not answer: No such file"), "{log}");
    assert_eq!(machine.show("other", "ActiveState"), "active");
    // Nor may another user ask.
    let unit = by_command("ready run").replace("ExecReload=+", "User=app\nExecReload=");
    machine.unit("web.service", &unit);
    machine.ok("systemctl restart web");
    assert_eq!(machine.run("systemctl reload web").status, Some(1));
    let log = machine.log("web.service");
    assert!(log.contains("Put a + in front of the command: ExecReload=+/usr/bin/procroll reload"), "{log}");
}

fn as_a_command_it_is_the_reload(machine: &Machine) {
    machine.unit("web.service", &by_command("ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let serving = machine.show("web@2", "MainPID");

    machine.unit("web.service", &by_command("exit 3"));
    let outcome = machine.run("systemctl reload web");
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert_eq!(machine.show("web", "ActiveState"), "active");
    assert_eq!(machine.show("web@2", "MainPID"), serving);
    let log = machine.log("web.service");
    assert_eq!(log.matches("Roll failed, web@2.service serves on: web@3.service failed").count(), 1, "{log}");

    machine.unit("web.service", &by_command("ready run"));
    machine.ok("systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
}

fn as_a_command_it_waits_for_the_roll_that_it_asked_for(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &by_command("wait /run/go ready run"));
    machine.ok("systemctl start web && rm /run/go");
    let reload = || machine.spawn(&["systemctl", "reload", "web"]);
    let succeeds = |reload: Child| reload.wait_with_output().expect("systemctl").status.success();
    let first = reload();
    machine.wait_for_property("web@2", "SubState", "start");
    // While that goes on the unit changes, and others want the change.
    machine.unit("web.service", &by_command("exit 3"));
    let (second, third) = (reload(), reload());
    machine.wait_for("systemd to have the others wait", || {
        let jobs = machine.ok("systemctl list-jobs --no-legend");
        jobs.contains("waiting").then_some(())
    });
    machine.ok("touch /run/go");
    assert!(![first, second, third].map(succeeds).into_iter().any(|success| success), "all hear of the last roll");
    // It is of one roll more if one of them came after the second had begun.
    let units = machine.units("web@*");
    assert_eq!((units.len(), machine.show(&units[1], "ActiveState")), (2, "failed".to_owned()), "{units:?}");
}

fn a_stop_during_its_reload_is_a_stop(machine: &Machine) {
    for signal in ["SIGTERM", "SIGQUIT"] {
        let unit = by_command("wait /run/go ready run");
        machine.unit("web.service", &unit.replace("[Service]\n", &format!("[Service]\nKillSignal={signal}\n")));
        machine.ok("touch /run/go && systemctl start web && rm /run/go && systemctl reload --no-block web");
        machine.wait_for_property("web@2", "SubState", "start");
        machine.ok("systemctl stop web");
        assert_eq!(machine.show("web", "Result"), "success");
        nothing_is_left(machine);
    }
}

fn it_says_that_its_procroll_was_killed(machine: &Machine) {
    machine.unit("web.service", &by_command("wait /run/go ready run"));
    machine.ok("touch /run/go && systemctl start web && rm /run/go");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "SubState", "start");
    machine.ok("kill -KILL $(systemctl show --property=MainPID --value web)");
    assert!(!reload.wait_with_output().expect("systemctl").status.success());
    machine.wait_for("why", || {
        machine.log("web.service").contains("the procroll of web.service ended before the roll was over").then_some(())
    });
}

/// Longer than the address of a socket may be.
fn its_unit_may_have_a_long_name(machine: &Machine) {
    let name = "long".repeat(50) + "web";
    machine.unit(&format!("{name}.service"), &by_command("ready run"));
    machine.ok(&format!("systemctl start {name} && systemctl reload {name}"));
    // A socket that lies there from before is no obstacle.
    machine.ok(&format!("systemctl kill --kill-who=main --signal=KILL {name}"));
    machine.wait_for_property(&name, "NRestarts", "1");
    machine.wait_for_property(&name, "ActiveState", "active");
    machine.ok(&format!("systemctl reload {name} && systemctl stop {name}"));
    assert!(!machine.path("/run/systemd/procroll").exists());
}

/// Says `words` at the socket and gives what is answered.
fn say(user: &str, words: &str) -> String {
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect(\"/run/systemd/procroll/web.service\")\n\
         try:\n    s.sendall({words})\n    s.shutdown(socket.SHUT_WR)\n    print(s.recv(9999))\n\
         except ConnectionError:\n    print(b\"\")\n"
    );
    format!("runuser -u {user} -- python3 -c '{script}'")
}

fn a_stranger_at_its_socket_gets_nowhere(machine: &Machine) {
    machine.unit("web.service", &by_command("ready run"));
    machine.ok("systemctl start web");
    let call = r#"b"{\"method\": \"io.systemd.service.Reload\"}\0""#;
    let outcome = machine.run(&say("app", call));
    assert!(outcome.status != Some(0) && outcome.stderr.contains("PermissionError"), "{outcome:?}");
    // If a link led there, or the folder had been opened to all.
    machine.ok("chmod 777 /run/systemd/procroll /run/systemd/procroll/web.service");
    assert_eq!(machine.ok(&say("app", call)), "b''");
    assert_eq!(machine.units("web@*"), ["web@1.service"]);

    // Of root, too, it takes one verb and nothing that has no end.
    for (words, answer) in [
        (r#"b"x" * (1 << 20)"#, "b''"),
        (r#"b"\0""#, "b''"),
        (r#"b"[]\0""#, "b''"),
        (r#"b"{\"method\": \"io.systemd.service.Ping\"}\0""#, "org.varlink.service.MethodNotFound"),
    ] {
        let said = machine.ok(&say("root", words));
        assert!(said.contains(answer), "{words}: {said}");
    }
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
    assert!(machine.ok(&say("root", call)).contains(r#"{"parameters":{}}"#));
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.ok("systemctl reload web");
}

fn it_listens_only_where_nobody_else_can_be(machine: &Machine) {
    machine.unit("web.service", &by_command("ready run"));
    let folder = "/run/systemd/procroll";
    for made in [
        format!("mkdir --mode=777 {folder}"),
        format!("mkdir {folder} && chmod 755 {folder}"),
        format!("mkdir --mode=700 {folder} && chown app {folder}"),
        format!("ln --symbolic /nowhere {folder}"),
        format!("mkdir --mode=700 /run/elsewhere && ln --symbolic /run/elsewhere {folder}"),
    ] {
        machine.ok(&made);
        assert_ne!(machine.run("timeout 20 systemctl start web").status, Some(0), "{made}");
        assert!(machine.log("web.service").contains("can't listen in /run/systemd/procroll: "), "{made}");
        assert_eq!(machine.ok(&format!("find {folder}/ -type s || true")), "", "{made}");
        // A guard that is still about to go would remove an empty one.
        machine.ok("systemctl stop web && systemctl reset-failed");
        machine.wait_for("the guard to go", || machine.units("procroll@*").is_empty().then_some(()));
        machine.ok(&format!("rm --recursive --force {folder}"));
    }
    machine.ok(&format!("mkdir --mode=700 {folder} && systemctl start web && systemctl reload web"));
}

fn varlinkctl_may_ask_as_well(machine: &Machine) {
    machine.unit("web.service", &by_command("ready run"));
    machine.ok("systemctl start web");
    let call = "varlinkctl call /run/systemd/procroll/web.service io.systemd.service.Reload '{}'";
    machine.ok(call);
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.unit("web.service", &by_command("exit 3"));
    let outcome = machine.run(call);
    assert!(outcome.status != Some(0) && outcome.stderr.contains("org.procroll.RollFailed"), "{outcome:?}");
}
