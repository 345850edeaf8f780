//! What can't be done is refused before anything is started: one line, and an exit code of its own.

use crate::machine::Machine;
use crate::{owner, transient, with_lines, wrapper};

on_each_systemd!(
    a_wrong_command_line_is_refused,
    a_name_of_somebody_elses_template_is_refused,
    a_name_of_somebody_elses_generations_is_refused,
    whoever_may_not_is_told_so,
    where_no_systemd_runs_it_says_so,
    a_unit_that_cannot_be_a_wrapper_is_refused,
    a_name_in_use_is_skipped,
    options_that_systemd_does_not_answer_for_are_refused,
);

const USAGE: i32 = 170;
const COMMAND_NOT_FOUND: i32 = 171;
const NO_MANAGER: i32 = 172;
const NOT_ALLOWED: i32 = 173;
const UNIT_REFUSED: i32 = 174;
const NAME_TAKEN: i32 = 175;

fn a_wrong_command_line_is_refused(machine: &Machine) {
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--no-such-option", "--", "/bin/true"], USAGE, "'--no-such-option'"),
        (&[], USAGE, "no command given"),
        (&["--"], USAGE, "no command given"),
        (&["/bin/true"], USAGE, "\"/bin/true\" is no option. Put the command behind --"),
        (&["--setle=1", "--", "/bin/true"], USAGE, "a similar argument exists: '--settle'"),
        (&["-pNice=500", "--", "/bin/true"], USAGE, "Nice priority out of range: 500"),
        (&["--", ""], USAGE, "the command is empty"),
        (&["--", "/no/such/command"], COMMAND_NOT_FOUND, "/no/such/command can't be executed: No such file"),
        (&["--", "no-such-command"], COMMAND_NOT_FOUND, "no-such-command"),
        (&["--", "/etc/passwd"], COMMAND_NOT_FOUND, "/etc/passwd is not executable"),
        (&["--", "/etc"], COMMAND_NOT_FOUND, "/etc is not a file"),
        (&["--", "/bin/true", "{{.Generations}}"], USAGE, "{{.Generations}} is none of"),
        (&["--", "/bin/true", "{{"], USAGE, "is not closed"),
        (&["--", "+/bin/true"], USAGE, "begins with '+'"),
        (&["--settle=x", "--", "/bin/true"], USAGE, "'--settle <SPAN>': not a time span"),
        (&["--ready-timeout=", "--", "/bin/true"], USAGE, "--ready-timeout"),
        (&["--shutdown-timeout=-1", "--", "/bin/true"], USAGE, "--shutdown-timeout"),
        (&["--signal=NOPE", "--", "/bin/true"], USAGE, "not a signal"),
        (&["--service-type=forking", "--", "/bin/true"], USAGE, "a generation can't be forking"),
        (&["--unit=a@b", "--", "/bin/true"], USAGE, "--unit=a@b"),
        (&["--unit=a/b", "--", "/bin/true"], USAGE, "--unit=a/b"),
        (&["-pNoSuchKey=1", "--", "/bin/true"], USAGE, "systemd knows no NoSuchKey="),
        (&["-pMemoryMax=10Q", "--", "/bin/true"], USAGE, "Invalid memory limit '10Q'"),
        (&["-pNice", "--", "/bin/true"], USAGE, "there is no ="),
        (&["-pRestart=always", "--", "/bin/true"], USAGE, "procroll's to set"),
        (&["-pWorkingDirectory=here", "--", "/bin/true"], USAGE, "path is not absolute"),
        (&["--slice=no.service", "--", "/bin/true"], USAGE, "--slice=no.service"),
        (&["-E", "NOT_SET_HERE", "--", "/bin/true"], USAGE, "it is not set here"),
    ];
    for (words, status, said) in cases {
        let command = [&["/usr/bin/procroll", "--systemd-run"][..], words].concat();
        let outcome = machine.run_words(&command);
        assert_eq!(outcome.status, Some(*status), "{words:?}: {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "one line: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{words:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "");
    }
    let odd = std::ffi::OsString::from(std::ffi::OsStr::new("x"));
    let bytes = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xffx").to_owned();
    let words = ["/usr/bin/procroll", "--systemd-run", "--", "/bin/echo"].map(std::ffi::OsString::from);
    let outcome = machine.run_words(&words.iter().cloned().chain([odd, bytes]).collect::<Vec<_>>());
    assert_eq!(outcome.status, Some(USAGE));
    assert!(outcome.stderr.contains("argument 5 (\"\\xFFx\") is not UTF-8"), "{outcome:?}");
    assert_eq!(machine.units("run-*@*"), [] as [&str; 0], "nothing was started");
    assert_eq!(machine.run("ls -A /run/systemd/transient").stdout, "");
}

fn a_name_of_somebody_elses_template_is_refused(machine: &Machine) {
    machine.unit("web@.service", "[Service]\nExecStart=/bin/sleep infinity\n");
    let outcome = machine.run("procroll --systemd-run --unit=web -- /usr/bin/payload ready run");
    assert_eq!(outcome.status, Some(NAME_TAKEN));
    assert!(
        outcome.stderr.contains("there is a unit web@.service") && outcome.stderr.contains("--unit=NAME"),
        "{outcome:?}"
    );

    machine.unit("web.service", &wrapper("--settle=0", "ready run").replace("Restart=on-failure\n", ""));
    assert_eq!(machine.run("systemctl start web").status, Some(1));
    assert_eq!(machine.show("web", "ExecMainStatus"), NAME_TAKEN.to_string());
    // The way out.
    machine.unit("web.service", &wrapper("--settle=0 --unit=web-generation", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || {
        (machine.units("web-generation@*") == ["web-generation@2.service"]).then_some(())
    });
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web-generation@*"), [] as [&str; 0]);
}

fn a_name_of_somebody_elses_generations_is_refused(machine: &Machine) {
    let unit = |user: &str| with_lines(&format!("User={user}"), "--settle=0 --unit=pool", "ready run");
    machine.unit("a.service", &unit("app").replace("Restart=on-failure\n", ""));
    machine.unit("b.service", &unit("nobody").replace("Restart=on-failure\n", ""));
    machine.ok("systemctl start a");
    assert_ne!(machine.run("systemctl start b").status, Some(0));
    assert_eq!(machine.show("b", "ExecMainStatus"), NAME_TAKEN.to_string());
    let log = machine.log("b.service");
    assert!(log.contains("pool@1.service is a generation of a.service. Choose another name"), "{log}");
    let outcome = machine.run("procroll --systemd-run --unit=pool -- /usr/bin/payload ready run");
    assert_eq!(outcome.status, Some(NAME_TAKEN), "{outcome:?}");
    assert_eq!(machine.units("pool@*"), ["pool@1.service"]);

    // Neither can know of the other when both begin at once. Each gets what is its own all the same.
    for _ in 0..5 {
        machine.run("systemctl stop a b; systemctl start a b; systemctl reload a b");
        for (wrapper, user) in [("a", "app"), ("b", "nobody")] {
            for unit in machine.units("pool@*") {
                let runs_as = machine.show(&unit, "User");
                // One that has been unloaded meanwhile shows nothing.
                let is_there = machine.show(&unit, "ActiveState") == "active";
                if is_there && owner(machine, &unit) == format!("{wrapper}.service") {
                    assert_eq!(runs_as, user, "{unit} of {wrapper}");
                }
            }
        }
    }
    machine.ok("systemctl stop a b");
    assert_eq!(transient(machine), "");
}

fn whoever_may_not_is_told_so(machine: &Machine) {
    let outcome = machine.run("runuser -u app -- procroll --systemd-run --unit=web -- /usr/bin/payload ready run");
    assert_eq!(outcome.status, Some(NOT_ALLOWED), "{outcome:?}");
    assert!(outcome.stderr.contains("not allowed") && outcome.stderr.contains("sudo"), "{outcome:?}");
    let unit = wrapper("--settle=0", "ready run").replace("=+/", "=/").replace("Restart=on-failure", "User=app");
    machine.unit("web.service", &unit);
    assert_eq!(machine.run("systemctl start web").status, Some(1));
    assert_eq!(machine.show("web", "ExecMainStatus"), NOT_ALLOWED.to_string());
    assert!(machine.log("web.service").contains("Put a + in front of its command"));
}

fn where_no_systemd_runs_it_says_so(machine: &Machine) {
    let hidden = "unshare --mount sh -c 'mount -t tmpfs tmpfs /run && procroll --systemd-run -- /bin/true'";
    let outcome = machine.run(hidden);
    assert_eq!(outcome.status, Some(NO_MANAGER), "{outcome:?}");
    assert_eq!(outcome.stderr, "procroll: no systemd runs here, so there is nobody to start generations");
    // systemd is there, and the bus is not.
    let outcome =
        machine.run("unshare --mount sh -c 'mount -t tmpfs tmpfs /run/dbus && procroll --systemd-run -- /bin/true'");
    assert_eq!(outcome.status, Some(NO_MANAGER), "{outcome:?}");
    assert!(outcome.stderr.starts_with("procroll: systemd can't be reached: "), "{outcome:?}");
}

fn a_unit_that_cannot_be_a_wrapper_is_refused(machine: &Machine) {
    let unit = wrapper("--settle=0", "ready run").replace("Restart=on-failure\n", "");
    machine.unit("once.service", &unit.replace("notify-reload", "oneshot"));
    assert_eq!(machine.run("systemctl start once").status, Some(1));
    assert_eq!(machine.show("once", "ExecMainStatus"), UNIT_REFUSED.to_string());
    assert!(machine.log("once.service").contains("it has Type=oneshot. Make it Type=notify"));
    assert_eq!(machine.units("once@*"), [] as [&str; 0]);
}

fn a_name_in_use_is_skipped(machine: &Machine) {
    machine.ok("systemd-run --quiet --unit=web@2.service sleep infinity");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine
        .wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service", "web@3.service"]).then_some(()));
    let stranger = machine.show("web@2", "MainPID");
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), ["web@2.service"], "somebody else's is left alone");
    assert_eq!(machine.show("web@2", "MainPID"), stranger);
}

/// Silence would pass for consent: a generation would start without its user or its limits.
fn options_that_systemd_does_not_answer_for_are_refused(machine: &Machine) {
    let unit = |options: &str| wrapper(&format!("--settle=0 {options}"), "ready run");
    machine.unit("web.service", &unit("-p TasksMax=7"));
    machine.ok("systemctl start web");
    assert_eq!(machine.show("web@1", "TasksMax"), "7");
    let pid = machine.show("web@1", "MainPID");
    machine.ok("mv /usr/bin/systemd-analyze /usr/bin/systemd-analyze.real");
    // It is not there, it says nothing, it is killed in the middle.
    let killed = "#!/bin/sh\necho \"$4:2: Unknown key 'TasksMax' in section [Unit], ignoring.\" >&2\nkill -KILL $$\n";
    for (number, script) in [(8, ""), (9, "#!/bin/sh\n"), (10, killed)] {
        if !script.is_empty() {
            machine.install("/usr/bin/systemd-analyze", script);
        }
        machine.unit("web.service", &unit(&format!("-p TasksMax={number}")));
        assert_eq!(machine.run("systemctl reload web").status, Some(1), "{script}");
        let status = machine.show("web", "StatusText");
        assert!(status.starts_with(&format!("web@1.service (main PID {pid}) serves")), "{status}");
        assert!(status.contains("systemd-analyze verify was not heard to the end"), "{status}");
    }
    machine.ok("mv /usr/bin/systemd-analyze.real /usr/bin/systemd-analyze");
    machine.ok("systemctl reload web");
    let serving = machine.units("web@*").pop().expect("one that serves");
    assert_eq!(machine.show(&serving, "TasksMax"), "10");
}
