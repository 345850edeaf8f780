//! `--scope`: generations that are procroll's own processes and have units all the same.

use std::io::{BufRead, BufReader};
use std::process::Child;

use crate::machine::Machine;

on_each_systemd!(
    a_scope_has_limits_and_is_listed_and_killed,
    it_keeps_the_terminal,
    it_keeps_descriptors_and_environment,
    sockets_are_passed_on,
    a_crash_of_procroll_leaves_nothing,
    what_cannot_be_is_refused_before_anything_starts,
    names_of_others_are_left_alone,
    a_longer_name_takes_none,
    the_bus_may_be_restarted_in_a_roll,
    what_cannot_be_executed_leaves_nothing,
);
from_systemd_254!(a_wrapper_rolls_scopes_and_stops_them);

fn start(machine: &Machine, words: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = machine.spawn(&[&["/usr/bin/procroll", "--systemd-run", "--scope", "--unit=web"], words].concat());
    let messages = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    (child, messages)
}

fn expect(messages: &mut impl Iterator<Item = String>, part: &str) -> String {
    let mut before = Vec::new();
    for line in messages {
        if line.contains(part) {
            return line;
        }
        before.push(line);
    }
    panic!("no {part:?} but {before:#?}");
}

fn signal(machine: &Machine, signal: &str) {
    // The keepers have that name, too.
    machine.ok(&format!("kill -{signal} $(pgrep --oldest --exact procroll)"));
}

fn nothing_is_left(machine: &Machine) {
    machine.wait_for("the scopes to go", || machine.units("web-*.scope").is_empty().then_some(()));
    machine.wait_for("their files to go", || crate::transient(machine).is_empty().then_some(()));
    assert_eq!(machine.run("pgrep --exact 'payload|procroll'").stdout, "");
    assert_eq!(machine.run("ls -d /tmp/procroll.*").stdout, "");
}

fn a_scope_has_limits_and_is_listed_and_killed(machine: &Machine) {
    let options = ["--settle=0", "-p", "TasksMax=50", "-p", "CPUWeight=33", "--slice=shop", "--description=The shop"];
    let command = ["--", "/usr/bin/payload", "ready", "run"];
    let (mut child, mut messages) = start(machine, &[&options[..], &command].concat());
    expect(&mut messages, "web-1.scope serves (main PID ");
    signal(machine, "HUP");
    expect(&mut messages, "web-2.scope serves (main PID ");
    machine.wait_for("the old one to go", || (machine.units("web-*") == ["web-2.scope"]).then_some(()));
    let shown = |property: &str| machine.show("web-2.scope", property);
    assert_eq!((shown("TasksMax").as_str(), shown("CPUWeight").as_str()), ("50", "33"));
    assert_eq!((shown("Slice").as_str(), shown("Description").as_str()), ("shop.slice", "The shop"));
    assert_eq!((shown("NeedDaemonReload").as_str(), shown("KillSignal").as_str()), ("no", "15"));
    // Only what was to be run is in it.
    let processes = machine.ok("cat /sys/fs/cgroup/shop.slice/web-2.scope/cgroup.procs");
    assert_eq!(processes, machine.ok("pgrep --exact payload"));
    machine.ok("systemctl kill --signal=KILL web-2.scope");
    expect(&mut messages, "web-2.scope served and was killed (Result=signal, status=SIGKILL)");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().expect("it ends")), Some(9));
    nothing_is_left(machine);
}

/// script(1) runs it at a terminal of its own.
fn it_keeps_the_terminal(machine: &Machine) {
    let shell = "test -t 1 && test -t 2 && echo at a terminal >/dev/tty; read -r line || echo nothing to read; exit 7";
    let line = format!("procroll run --scope --service-type=exec --unit=web -- sh -c '{shell}'");
    machine.install("/run/line", &format!("#!/bin/sh\nexec {line}\n"));
    let mut child = machine.spawn(&["script", "--quiet", "--return", "--command", "/run/line", "/dev/null"]);
    let mut output = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut output).expect("its output");
    assert_eq!(child.wait().expect("it ends").code(), Some(7), "{output}");
    assert!(output.contains("at a terminal") && output.contains("nothing to read"), "{output}");
    nothing_is_left(machine);
}

fn it_keeps_descriptors_and_environment(machine: &Machine) {
    machine.write("/run/seven", "from descriptor 7\n");
    let shell = "cat <&7; read -r line; echo \"$line $COLOUR {{.Unit}} $(systemctl show --property=InvocationID --value {{.Unit}}) $INVOCATION_ID\"";
    let line = format!(
        "exec 7</run/seven; echo input | COLOUR=red INVOCATION_ID=other \
         procroll run --scope --settle=0 --service-type=exec --unit=web -- sh -c '{shell}'"
    );
    let outcome = machine.run(&line);
    let (first, second) = outcome.stdout.split_once('\n').expect("two lines");
    assert_eq!(first, "from descriptor 7", "{outcome:?}");
    let words: Vec<_> = second.split(' ').collect();
    assert_eq!(words[..3], ["input", "red", "web-1.scope"], "{outcome:?}");
    assert!(words[3] == words[4] && words[3].len() == 32, "{outcome:?}");
    nothing_is_left(machine);
}

fn sockets_are_passed_on(machine: &Machine) {
    let shell = "test $LISTEN_PID = $$ && test $LISTEN_FDS = 1 && test -e /proc/$$/fd/3 && systemd-notify --ready && exec sleep 1000";
    let line = format!(
        "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec procroll run --scope --settle=0 --unit=web -- sh -c '{shell}'"
    );
    let mut child = machine.spawn(&["sh", "-c", &line]);
    let mut messages = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    expect(&mut messages, "web-1.scope serves");
    signal(machine, "HUP");
    expect(&mut messages, "web-2.scope serves");
    signal(machine, "TERM");
    assert!(child.wait().expect("it ends").success());
    nothing_is_left(machine);
}

fn unit(options: &str, steps: &str) -> String {
    format!(
        "[Service]\nType=notify-reload\nExecStart=/usr/bin/procroll --systemd-run --scope --settle=0 {options} -- \
         /usr/bin/payload {steps}\n"
    )
}

fn a_wrapper_rolls_scopes_and_stops_them(machine: &Machine) {
    machine.unit("web.service", &unit("", "ready run"));
    machine.ok("systemctl start web");
    assert_eq!(machine.units("web-*"), ["web-1.scope"]);
    machine.ok("systemctl reload web");
    let status = machine.show("web", "StatusText");
    assert!(status.starts_with("web-2.scope (main PID ") && status.contains(" serves"), "{status}");
    machine.ok("systemctl restart web");
    machine.wait_for("one scope", || (machine.units("web-*").len() == 1).then_some(()));
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
    // What does not stop is killed.
    machine.unit(
        "web.service",
        &unit("--shutdown-timeout=1s", "deaf ready run").replace("[Service]\n", "[Service]\nTimeoutStopSec=2\n"),
    );
    machine.ok("systemctl start web");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn a_crash_of_procroll_leaves_nothing(machine: &Machine) {
    machine.unit("web.service", &unit("--shutdown-timeout=1s", "deaf ready run"));
    machine.ok("systemctl start web");
    machine.ok("systemctl kill --signal=KILL --kill-whom=main web");
    machine.wait_for_property("web", "ActiveState", "failed");
    // The folder of its notify sockets is all that nobody looks after.
    machine.ok("rm -r /tmp/procroll.*");
    nothing_is_left(machine);
    // From a shell it serves on, and systemctl stops it.
    let (mut child, mut messages) = start(machine, &["--settle=0", "--", "/usr/bin/payload", "ready", "run"]);
    expect(&mut messages, "web-1.scope serves");
    signal(machine, "KILL");
    child.wait().expect("it ends");
    machine.wait_for_property("web-1.scope", "ActiveState", "active");
    machine.ok("systemctl stop web-1.scope");
    machine.ok("rm -r /tmp/procroll.*");
    nothing_is_left(machine);
}

fn what_cannot_be_is_refused_before_anything_starts(machine: &Machine) {
    for (options, why) in [
        ("-p Nice=1", "--property=Nice=1: a scope has no Nice=, since systemd does not start its processes"),
        ("-p Foo=1", "--property=Foo=1: this version of systemd knows no Foo=. Leave it out"),
        ("-p TasksMax=many", "--property=TasksMax=many: "),
        ("--uid=app", "--uid means nothing with --scope: the command runs as whoever runs procroll"),
        ("--service-type=notify-reload", "--service-type=notify-reload means nothing with --scope"),
        ("--unit=web.scope", "--unit=web.scope can't be used"),
    ] {
        let outcome = machine.run(&format!("procroll run --scope {options} -- touch /run/started"));
        assert_eq!(outcome.status, Some(170), "{outcome:?}");
        assert!(outcome.stderr.contains(why) && !outcome.stderr.contains('\n'), "{outcome:?}");
    }
    let alone = "unshare --pid --fork --mount-proc -- procroll run --scope -- touch /run/started";
    let outcome = machine.run(alone);
    assert_eq!(outcome.status, Some(174), "{outcome:?}");
    assert!(outcome.stderr.contains("in a PID namespace of its own"), "{outcome:?}");
    let outcome = machine.run("setpriv --reuid=app --clear-groups -- procroll run --scope -- touch /run/started");
    assert_eq!(outcome.status, Some(173), "{outcome:?}");
    machine.unit(
        "web.service",
        &unit("$OPTIONS", "ready run").replace("[Service]\n", "[Service]\nEnvironment=OPTIONS=-pNice=1\n"),
    );
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    assert!(machine.log("web").contains("has a variable among procroll's options: $OPTIONS"), "{}", machine.log("web"));
    assert!(!machine.path("/run/started").exists());
    nothing_is_left(machine);
}

fn names_of_others_are_left_alone(machine: &Machine) {
    let mut other = machine.spawn(&["systemd-run", "--scope", "--unit=web-2", "--", "sleep", "1000"]);
    machine.wait_for_property("web-2.scope", "ActiveState", "active");
    let (mut child, mut messages) = start(machine, &["--settle=0", "--", "/usr/bin/payload", "ready", "run"]);
    expect(&mut messages, "web-1.scope serves");
    signal(machine, "HUP");
    expect(&mut messages, "web-3.scope serves");
    // Two that roll generations of one name are too many.
    let outcome = machine.run("procroll run --scope --unit=web -- /usr/bin/payload ready run");
    assert_eq!(outcome.status, Some(175), "{outcome:?}");
    assert!(outcome.stderr.contains("web-3.scope is a generation of pid "), "{outcome:?}");
    signal(machine, "TERM");
    assert!(child.wait().expect("it ends").success());
    machine.wait_for("that only the other is left", || (machine.units("web-*") == ["web-2.scope"]).then_some(()));
    machine.ok("systemctl stop web-2.scope");
    other.wait().expect("it ends");
    nothing_is_left(machine);
}

fn a_longer_name_takes_none(machine: &Machine) {
    let name = "--unit=web-api";
    let command =
        ["/usr/bin/procroll", "--systemd-run", "--scope", name, "--settle=0", "--", "/usr/bin/payload", "ready", "run"];
    let mut longer = machine.spawn(&command);
    machine.wait_for_property("web-api-1.scope", "ActiveState", "active");
    let (mut child, mut messages) = start(machine, &["--settle=0", "--", "/usr/bin/payload", "ready", "run"]);
    expect(&mut messages, "web-1.scope serves");
    for one in [&mut longer, &mut child] {
        signal(machine, "TERM");
        assert!(one.wait().expect("it ends").success());
    }
    nothing_is_left(machine);
}

fn the_bus_may_be_restarted_in_a_roll(machine: &Machine) {
    let command = ["--settle=0", "--ready-timeout=infinity", "--", "/usr/bin/payload", "ready", "run"];
    let (mut child, mut messages) = start(machine, &command);
    expect(&mut messages, "web-1.scope serves");
    for generation in 2..6 {
        machine.ok("systemctl stop dbus.socket dbus.service");
        signal(machine, "HUP");
        machine.ok("systemctl start dbus.socket dbus.service");
        expect(&mut messages, &format!("web-{generation}.scope serves"));
    }
    signal(machine, "TERM");
    assert!(child.wait().expect("it ends").success());
    nothing_is_left(machine);
}

fn what_cannot_be_executed_leaves_nothing(machine: &Machine) {
    let outcome = machine.run("procroll --systemd-run --scope --unit=web -- /no/such");
    assert_eq!(outcome.status, Some(171), "{outcome:?}");
    assert!(
        outcome.stderr.contains("web-1.scope was not started: the command /no/such can't be executed"),
        "{outcome:?}"
    );
    let outcome = machine.run("procroll --systemd-run --scope --unit=web --ready-timeout=1s -- sleep 1000");
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("web-1.scope failed (Result=timeout) while starting"), "{outcome:?}");
    nothing_is_left(machine);
}
