//! procroll called by somebody, outside of any unit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout};

use crate::machine::Machine;

on_each_systemd!(
    only_the_environment_asked_for_is_passed,
    it_rolls_and_stops_by_signal_and_passes_output_through,
    a_name_is_made_up_and_printed,
    it_ends_as_its_generation_does,
    the_command_is_found_where_the_caller_finds_it,
);

fn read_line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("its output");
    line.trim_end().to_owned()
}

fn signal(machine: &Machine, signal: &str) {
    machine.ok(&format!("pkill --signal {signal} --exact procroll"));
}

fn only_the_environment_asked_for_is_passed(machine: &Machine) {
    let line = "FOO=foo BAR='b $r %n' BAZ=baz procroll --systemd-run --settle=0 --unit=env \
        -E FOO --setenv=BAR -E NEW='x  y' -E EMPTY= --working-directory=/var --uid=app -pLimitNOFILE=77 \
        -- /usr/bin/payload facts ready run";
    let mut child = machine.spawn(&["sh", "-c", line]);
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let facts: serde_json::Value = serde_json::from_str(&read_line(&mut output)).expect("JSON");
    let environment = &facts["environment"];
    assert_eq!(environment["FOO"], "foo");
    assert_eq!(environment["BAR"], "b $r %n");
    assert_eq!(environment["NEW"], "x  y");
    assert_eq!(environment["EMPTY"], "");
    assert!(environment["BAZ"].is_null());
    assert_eq!(facts["directory"], "/var");
    assert_eq!(facts["files"][0], 77);
    signal(machine, "INT");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(machine.units("env@*"), [] as [&str; 0]);
}

fn it_rolls_and_stops_by_signal_and_passes_output_through(machine: &Machine) {
    let words = ["--unit=job.service", "--", "/usr/bin/payload", "say", "this is {{.Unit}}", "ready", "run"];
    let mut child: Child = machine.spawn(&[&["/usr/bin/procroll", "--systemd-run", "--settle=0"][..], &words].concat());
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    assert_eq!(read_line(&mut output), "this is job@1.service");
    machine.wait_for_property("job@1", "ActiveState", "active");
    signal(machine, "HUP");
    assert_eq!(read_line(&mut output), "this is job@2.service");
    machine.wait_for("the old one to go", || (machine.units("job@*") == ["job@2.service"]).then_some(()));
    signal(machine, "INT");
    assert!(child.wait().expect("it ends").success());
    let mut messages = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut messages).expect("its messages");
    assert!(messages.contains("procroll: job@1.service serves (main PID "), "{messages}");
    assert!(messages.contains("procroll: job@2.service serves (main PID "), "{messages}");
    assert_eq!(machine.ok("ls /run/systemd/transient"), "");
}

fn a_name_is_made_up_and_printed(machine: &Machine) {
    let mut child = machine.spawn(&["/usr/bin/procroll", "--systemd-run", "--", "/usr/bin/payload", "ready", "run"]);
    let mut messages = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    messages.read_line(&mut line).expect("a message");
    let name = line.trim_end().strip_prefix("procroll: Generations are named run-").expect(&line).to_owned();
    machine.wait_for("the generation", || (!machine.units(&format!("run-{name}")).is_empty()).then_some(()));
    signal(machine, "TERM");
    assert!(child.wait().expect("it ends").success());
    // --quiet means just that.
    let child = machine.spawn(&[
        "/usr/bin/procroll",
        "--systemd-run",
        "--quiet",
        "--unit=q",
        "--",
        "/usr/bin/payload",
        "ready",
        "run",
    ]);
    machine.wait_for_property("q@1", "ActiveState", "active");
    signal(machine, "TERM");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

fn it_ends_as_its_generation_does(machine: &Machine) {
    let end =
        |steps: &str| machine.run(&format!("procroll --systemd-run --settle=0 --unit=end -- /usr/bin/payload {steps}"));
    let outcome = end("ready exit 5");
    assert_eq!(outcome.status, Some(5), "{outcome:?}");
    // Exit statuses over 128 are how a shell tells of signals.
    assert_eq!(end("ready kill SIGKILL").status, Some(137));
    assert_eq!(end("ready kill SIGTERM").status, Some(143));
    assert_eq!(end("ready exit 0").status, Some(0));
    let outcome = end("exit 9");
    assert_eq!(outcome.status, Some(9));
    assert!(
        outcome.stderr.contains("failed (Result=exit-code, status=9) while starting. See \"journalctl -xeu end@"),
        "{outcome:?}"
    );
    assert_eq!(machine.units("end@*"), [] as [&str; 0]);
}

fn the_command_is_found_where_the_caller_finds_it(machine: &Machine) {
    for (directory, command) in [("/usr", "bin/payload"), ("/usr/bin", "./payload"), ("/", "payload")] {
        let line = format!(
            "cd {directory} && procroll --systemd-run --unit=found --settle=0 --same-dir -- {command} facts exit 4"
        );
        let outcome = machine.run(&line);
        assert_eq!(outcome.status, Some(4), "{outcome:?}");
        let facts: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_eq!(facts["directory"], directory);
    }
    assert_eq!(machine.run("PATH=/sbin /usr/bin/procroll --systemd-run -- payload").status, Some(171));
}
