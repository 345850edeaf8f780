//! Where two can't live at once the old generation is gone before the new one starts; if that fails, what the old one ran
//! runs again.

mod crashes;

use std::io::{BufRead, BufReader};
use std::process::Child;

use crate::machine::{Answers, Load, Machine};
use crate::payloads::is_at_rest;
use crate::stops::nothing_is_left;
use crate::{SOCKET, gunicorn, transient, with_lines};

on_each_systemd!(
    what_two_cannot_have_goes_from_one_to_the_next,
    processes_that_hold_on_are_gone_before_the_new_one_starts,
    it_takes_as_long_as_a_stop_takes_and_says_so,
    what_fails_is_followed_by_what_was_there_before,
    if_that_fails_as_well_the_unit_has_failed,
    what_is_refused_is_refused_before_the_stop,
    a_stop_at_each_step_leaves_nothing,
    an_old_one_that_dies_by_itself_is_no_matter,
    requests_meanwhile_become_one_more,
    a_new_strategy_holds_from_the_next_roll_on,
    with_a_socket_unit_no_request_is_lost,
    from_a_terminal_it_is_the_same,
);

/// What there can be but one of: it has locked a file, and a port.
const ALONE: &str = "lock /run/db listen 8100";

fn unit(lines: &str, options: &str, steps: &str) -> String {
    with_lines(lines, &format!("--strategy=handover {options}"), steps)
}

/// Starts one that holds a lock and a port.
fn start(machine: &Machine, lines: &str, options: &str, steps: &str) {
    machine.unit("web.service", &unit(lines, options, &format!("{ALONE} {steps}")));
    machine.ok("systemctl start web");
}

fn reload(machine: &Machine) -> Child {
    machine.spawn(&["systemctl", "reload", "web"])
}

fn fails(reload: Child) {
    let output = reload.wait_with_output().expect("systemctl reload");
    assert!(!output.status.success(), "{output:?}");
}

fn serves(machine: &Machine, unit: &str) -> String {
    format!("{unit} (main PID {}) serves", machine.show(unit, "MainPID"))
}

/// The gap that STATUS= tells, in milliseconds.
fn gap(status: &str) -> u64 {
    let text = status.split_once(", after a gap of ").expect("a gap").1.split(';').next().unwrap_or_default();
    if let Some(millis) = text.strip_suffix("ms") {
        return millis.parse().expect("milliseconds");
    }
    let seconds: f64 = text.strip_suffix('s').expect("seconds").parse().expect("a number");
    (seconds * 1e3) as u64
}

fn what_two_cannot_have_goes_from_one_to_the_next(machine: &Machine) {
    start(machine, "", "--settle=0", "ready run");
    for number in 2..=6 {
        machine.ok("systemctl reload web");
        assert_eq!(machine.units("web@*"), [format!("web@{number}.service")], "no other is there by then");
        let status = machine.show("web", "StatusText");
        assert!(status.starts_with(&serves(machine, &format!("web@{number}.service"))), "{status}");
        assert!(gap(&status) < 20_000, "{status}");
        let log = machine.log(&format!("web@{number}"));
        assert!(log.contains(", after a gap of "), "{log}");
    }
    // Without that it can't be.
    machine.unit("web.service", &with_lines("", "--settle=0", &format!("{ALONE} ready run")));
    assert_eq!(machine.run("systemctl reload web").status, Some(1));
    assert!(machine.show("web", "StatusText").contains("web@7.service failed (Result=exit-code, status=41)"));
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn processes_that_hold_on_are_gone_before_the_new_one_starts(machine: &Machine) {
    // They have the lock between them, ignore SIGTERM, and fork all the time.
    start(machine, "TimeoutStopSec=500ms", "--settle=0", "swarm ready run");
    for number in 2..=3 {
        machine.ok("systemctl reload web");
        assert_eq!(machine.units("web@*"), [format!("web@{number}.service")]);
        assert!(gap(&machine.show("web", "StatusText")) >= 500, "its stop timed out");
    }
}

fn it_takes_as_long_as_a_stop_takes_and_says_so(machine: &Machine) {
    // For longer than the unit itself may take to start or to reload.
    let lines = "TimeoutStartSec=2s\nTimeoutStopSec=8s";
    start(machine, lines, "--settle=0 --ready-timeout=1min", "deaf ready run");
    let reload = reload(machine);
    let stops = "web@2.service waits for all others to stop; web@1.service stops";
    machine.wait_for_property("web", "StatusText", stops);
    assert_eq!(machine.show("web", "ActiveState"), "reloading");
    assert!(reload.wait_with_output().expect("systemctl reload").status.success());
    let gap = gap(&machine.show("web", "StatusText"));
    assert!((8000..60_000).contains(&gap), "{gap}");
    assert_eq!(
        (machine.units("web@*"), machine.show("web", "NRestarts")),
        (vec!["web@2.service".to_owned()], "0".into())
    );
}

fn facts(machine: &Machine, unit: &str) -> serde_json::Value {
    serde_json::from_str(machine.output(unit).lines().next().unwrap_or_default()).expect("JSON")
}

fn what_fails_is_followed_by_what_was_there_before(machine: &Machine) {
    let steps = format!("{ALONE} facts say {{{{.Generation}}}}/{{{{.Unit}}}} ready run");
    let good = |colour: &str| unit(&format!("Environment=COLOUR={colour}"), "--settle=0", &steps);
    machine.unit("web.service", &good("red"));
    machine.ok("systemctl start web");
    let cases = [
        ("", "--settle=0", "exit 3", "failed (Result=exit-code, status=3) while starting"),
        ("", "--settle=0 --ready-timeout=1s", "wait /run/never run", "failed (Result=timeout) while starting"),
        ("", "--settle=1min", "ready exit 0", "exited (Result=success, status=0) while settling"),
        ("ExecStartPost=false", "--settle=0", "ready run", "failed (Result=exit-code) while starting"),
        ("ConditionPathExists=/no", "--settle=0", "ready run", "failed (Result=condition) while starting"),
    ];
    let (mut old, mut last) = (1, 1);
    for (lines, options, steps, said) in cases {
        let bad = unit(&format!("Environment=COLOUR=blue\n{lines}"), options, &format!("{ALONE} {steps}"));
        let bad = match lines.strip_prefix("Condition") {
            Some(condition) => bad.replace("[Unit]\n", &format!("[Unit]\nCondition{condition}\n")),
            None => bad,
        };
        machine.unit("web.service", &bad);
        let outcome = machine.run("procroll reload web");
        assert_eq!(outcome.status, Some(1), "{steps}: {outcome:?}");
        let [candidate, again] = [last + 1, last + 2].map(|number| format!("web@{number}.service"));
        let runs = format!("{again} runs what web@{old}.service did");
        for named in [format!("{candidate} {said}"), runs.clone()] {
            assert!(outcome.stderr.contains(&named), "{steps}: {outcome:?}");
        }
        machine.wait_for_property("web", "ActiveState", "active");
        let status = machine.show("web", "StatusText");
        assert!(status.starts_with(&format!("{}, after a gap of ", serves(machine, &again))), "{steps}: {status}");
        assert!(status.contains(&format!("; last roll failed: {candidate} {said}")), "{steps}: {status}");
        assert!(status.ends_with(&format!("; {runs}")), "{steps}: {status}");
        let log = machine.log(&again.replace(".service", "")) + &machine.log(&candidate);
        assert!(log.contains(&format!("Roll failed, {runs}, after a gap of ")), "{steps}: {log}");
        // As the old one was, however the unit has changed; only its own number is another.
        let facts = facts(machine, &again);
        assert_eq!(facts["environment"]["COLOUR"], "red", "{steps}");
        assert!(machine.output(&again).ends_with(&format!("{}/{again}", last + 2)), "{}", machine.output(&again));
        // One whose condition does not hold is not kept by systemd.
        let stays = machine.units("web@*").contains(&candidate);
        assert_eq!(
            stays || said.contains("condition"),
            status.contains(&format!("\"systemctl status {candidate}\"")),
            "{steps}: {status}"
        );
        // A procroll that follows leaves it to be looked at, too.
        let signal = if machine.show("web", "NRestarts") == "0" { "KILL" } else { "RTMIN+25" };
        machine.ok(&format!("systemctl kill --kill-whom=main --signal={signal} web"));
        machine.wait_for_property("web", "StatusText", &serves(machine, &again));
        is_at_rest(machine);
        assert_eq!(machine.units("web@*").contains(&candidate), stays, "{steps}");
        (old, last) = (last + 2, last + 2);
    }
    // The next roll is one like any other.
    machine.unit("web.service", &good("green"));
    machine.ok("systemctl reload web");
    let new = format!("web@{}.service", last + 1);
    machine.wait_for("the others to go", || (machine.units("web@*") == [new.clone()]).then_some(()));
    assert_eq!(facts(machine, &new)["environment"]["COLOUR"], "green");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn if_that_fails_as_well_the_unit_has_failed(machine: &Machine) {
    machine.ok("touch /run/go");
    let steps = format!("{ALONE} wait /run/go ready run");
    // What runs again has the time that it had at first.
    let new = unit("", "--settle=0", &steps).replace("Restart=on-failure\n", "");
    machine.unit("web.service", &new.replace("--settle=0", "--settle=0 --ready-timeout=3s"));
    machine.ok("systemctl start web && rm /run/go");
    machine.unit("web.service", &new.replace("ready run", "exit 3").replace("wait /run/go", ""));
    assert_eq!(machine.run("systemctl reload web").status, Some(1));
    machine.wait_for_property("web", "ActiveState", "failed");
    assert_eq!(machine.show("web", "ExecMainStatus"), "1");
    let (status, log) = (machine.show("web", "StatusText"), machine.log("web"));
    for text in [&status, &log] {
        for named in ["web@2.service failed (Result=exit-code, status=3)", "web@3.service failed (Result=timeout)"] {
            assert!(text.contains(named), "{text}");
        }
    }
    assert!(log.contains("Roll failed, and nobody serves any more: web@2.service failed"), "{log}");
    assert_eq!(machine.units("web@*"), ["web@2.service", "web@3.service"], "they stay to be looked at");
    // The unit's own Restart= decides, as ever: what it says now is started.
    machine.ok("touch /run/go");
    machine.unit("web.service", &new);
    machine.ok("systemctl start web");
    machine.wait_for("the others to go", || (machine.units("web@*") == ["web@4.service"]).then_some(()));
}

fn what_is_refused_is_refused_before_the_stop(machine: &Machine) {
    start(machine, "", "--settle=0", "ready run");
    let (good, pid) = (unit("", "--settle=0", &format!("{ALONE} ready run")), machine.show("web@1", "MainPID"));
    let cases = [
        ("/usr/bin/payload", "/usr/bin/no-such-command", "/usr/bin/no-such-command can't be executed"),
        ("--settle=0", "--settle=soon", "'--settle <SPAN>': not a time span"),
        ("=handover", "=both", "invalid value 'both' for '--strategy <STRATEGY>'"),
        ("--settle=0", "-pMemoryMax=10Q", "Invalid memory limit '10Q'"),
        ("ready run", "{{.Nope}}", "{{.Nope}} is none of"),
        ("/usr/bin/procroll", "/usr/bin/payload", "no longer runs /usr/bin/procroll but /usr/bin/payload"),
        ("--settle=0", "--unit=other", "--unit= has changed from web to other"),
        ("[Service]\n", "[Service]\nEnvironment=A=%y\\x25\n", "can't be carried over"),
    ];
    let refused = |to: &str, said: &str| {
        assert_eq!(machine.run("systemctl reload web").status, Some(1), "{to}");
        let status = machine.show("web", "StatusText");
        assert!(status.contains(said), "{to}: {status}");
        assert!(!machine.journal("").contains("Stopping web@1.service"), "{to}");
        assert_eq!(
            (machine.units("web@*"), machine.show("web@1", "MainPID")),
            (vec!["web@1.service".into()], pid.clone())
        );
    };
    for (from, to, said) in cases {
        machine.unit("web.service", &good.replace(from, to));
        refused(to, said);
    }
    // One that systemd has not read.
    machine.unit("web.service", &good);
    machine.write("/etc/systemd/system/web.service", &good.replace("ready run", "exit 3"));
    refused("exit 3", "has changed on disk since systemd read it");
    machine.unit("web.service", &good);
    machine.ok("mkdir /run/systemd/system/web@.service.d && printf '[Service]\\n' >/run/systemd/system/web@.service");
    machine.ok("systemctl daemon-reload");
    refused("a template", "Choose another name");
    machine.ok("rm -r /run/systemd/system/web@.service* && systemctl daemon-reload && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*").len() == 1).then_some(()));
    assert_eq!(transient(machine).lines().count(), 2);
}

fn a_stop_at_each_step_leaves_nothing(machine: &Machine) {
    let stops = |reload: Child, step: &str| {
        machine.ok("systemctl stop web");
        fails(reload);
        nothing_is_left(machine);
        assert_eq!(machine.show("web", "Result"), "success", "{step}");
        machine.ok("rm -f /run/go");
    };
    // While the old one stops.
    start(machine, "TimeoutStopSec=8s", "--settle=0", "deaf ready run");
    let reloads = reload(machine);
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    stops(reloads, "the old one stops");
    assert!(!machine.journal("").contains("Started web@2.service"), "nothing starts any more");

    // While the new one starts, and while it settles.
    for (options, steps, state) in
        [("--settle=0", "wait /run/never run", "activating"), ("--settle=1h", "ready run", "active")]
    {
        start(machine, "", "--settle=0", "ready run");
        machine.unit("web.service", &unit("", options, &format!("{ALONE} {steps}")));
        let reloads = reload(machine);
        machine.wait_for_property("web@2", "ActiveState", state);
        stops(reloads, state);
    }

    // While what was there before starts again.
    machine.ok("touch /run/go");
    start(machine, "", "--settle=0", "wait /run/go ready run");
    machine.ok("rm /run/go");
    machine.unit("web.service", &unit("", "--settle=0", "exit 3"));
    let reloads = reload(machine);
    machine.wait_for_property("web@3", "ActiveState", "activating");
    let status = machine.show("web", "StatusText");
    assert!(status.starts_with("web@3.service starts, to run what web@1.service did; last roll failed: "), "{status}");
    assert_eq!(machine.show("web", "ActiveState"), "reloading");
    stops(reloads, "again");
}

fn an_old_one_that_dies_by_itself_is_no_matter(machine: &Machine) {
    start(machine, "TimeoutStopSec=1min", "--settle=0", "deaf ready run");
    let reload = reload(machine);
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    machine.ok("systemctl kill --signal=KILL web@1");
    assert!(reload.wait_with_output().expect("systemctl reload").status.success());
    assert_eq!(
        (machine.units("web@*"), machine.show("web", "NRestarts")),
        (vec!["web@2.service".to_owned()], "0".into())
    );
}

fn requests_meanwhile_become_one_more(machine: &Machine) {
    start(machine, "TimeoutStopSec=infinity", "--settle=0", "deaf ready run");
    let first = reload(machine);
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    for _ in 0..5 {
        machine.ok("systemctl kill --kill-whom=main --signal=HUP web");
    }
    machine.ok("systemctl kill --signal=KILL web@1");
    machine.wait_for_property("web@2", "ActiveState", "deactivating");
    machine.ok("systemctl kill --signal=KILL web@2");
    assert!(first.wait_with_output().expect("systemctl reload").status.success());
    machine.wait_for("one more", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    machine.wait_for("it to serve", || {
        machine.show("web", "StatusText").starts_with(&serves(machine, "web@3.service")).then_some(())
    });
    assert_eq!(machine.units("web@*"), ["web@3.service"], "and no more than one");
}

fn a_new_strategy_holds_from_the_next_roll_on(machine: &Machine) {
    let lines = "TimeoutStopSec=infinity";
    machine.unit("web.service", &with_lines(lines, "--settle=0", "deaf ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    machine.unit("web.service", &unit(lines, "--settle=0", &format!("{ALONE} ready run")));
    let reload = reload(machine);
    machine.wait_for("the first one to be waited for", || {
        let status = machine.show("web", "StatusText");
        status.ends_with("serves; web@3.service waits for all others to stop; web@1.service stops").then_some(())
    });
    assert_eq!(machine.show("web@2", "ActiveState"), "active", "it serves until its turn has come");
    machine.ok("systemctl kill --signal=KILL web@1");
    machine.wait_for_property("web@2", "ActiveState", "deactivating");
    machine.ok("systemctl kill --signal=KILL web@2");
    assert!(reload.wait_with_output().expect("systemctl reload").status.success());
    assert_eq!(machine.units("web@*"), ["web@3.service"]);
    machine.unit("web.service", &with_lines("", "--settle=0", "ready run"));
    machine.ok("systemctl reload web");
    assert!(!machine.show("web", "StatusText").contains("gap"));
}

fn with_a_socket_unit_no_request_is_lost(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    machine.unit("web.service", &gunicorn("--strategy=handover --settle=50ms", "app"));
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    for _ in 0..10 {
        machine.ok("systemctl reload web");
    }
    // Also when the new one fails.
    machine.unit("web.service", &gunicorn("--strategy=handover --settle=5s", "no_such_module"));
    assert_eq!(machine.run("systemctl reload web").status, Some(1));
    machine.unit("web.service", &gunicorn("--strategy=handover --settle=50ms", "app"));
    machine.ok("systemctl reload web");
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert!(answers.answered > 100, "{answers:?}");
    machine.wait_for("all others to go", || (machine.units("web@*") == ["web@14.service"]).then_some(()));
    println!("{answers:?}, {}", machine.show("web", "StatusText"));
}

fn from_a_terminal_it_is_the_same(machine: &Machine) {
    let command = format!(
        "procroll --systemd-run --strategy=handover --settle=0 --unit=job -- /usr/bin/payload {ALONE} wait /run/go ready run"
    );
    machine.ok("touch /run/go");
    let mut procroll = machine.spawn(&["sh", "-c", &format!("exec {command}")]);
    let mut said = BufReader::new(procroll.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("job@1.service serves")));
    machine.ok("pkill -HUP -x procroll");
    assert!(said.any(|line| line.contains("job@2.service serves") && line.contains(", after a gap of ")));
    assert_eq!(machine.units("job@*"), ["job@2.service"]);
    machine.ok("pkill -TERM -x procroll");
    assert!(procroll.wait().expect("procroll").success());
}
