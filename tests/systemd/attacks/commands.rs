//! Commands and values that would mean more to systemd than to whoever wrote them: prefixes that make a command root's,
//! specifiers, line ends.

use crate::machine::Machine;
use crate::settings::facts;
use crate::with_lines;

on_each_systemd!(no_prefix_is_smuggled_in, a_value_of_an_option_is_one_value, a_line_end_at_a_terminal_begins_nothing,);

fn no_prefix_is_smuggled_in(machine: &Machine) {
    machine.write("/srv/app/env", "SHELL_AS_ROOT=+/usr/bin/touch\n");
    let lines = "User=app\nEnvironmentFile=/srv/app/env";
    let serving = with_lines(lines, "--settle=0", "ready run");
    machine.unit("web.service", &serving);
    machine.ok("systemctl start web");
    let commands = [
        ("+/usr/bin/touch", "begins with '+'"),
        (r#""+/usr/bin/touch""#, "begins with '+'"),
        (r#"'+/usr/bin/touch'"#, "begins with '+'"),
        (r#""\x2b/usr/bin/touch""#, "begins with '+'"),
        (r#"\053/usr/bin/touch"#, "begins with '+'"),
        (r#""!/usr/bin/touch""#, "begins with '!'"),
        (r#""!!/usr/bin/touch""#, "begins with '!'"),
        (r#""@/usr/bin/touch""#, "begins with '@'"),
        (r#"":+/usr/bin/touch""#, "begins with ':'"),
        (r#""-+/usr/bin/touch""#, "begins with '-'"),
        (r#""|/usr/bin/touch""#, "begins with '|'"),
        (r#"";" "+/usr/bin/touch""#, "the command is \";\""),
        (r#""/usr/bin/true\n+/usr/bin/touch""#, "has the character "),
    ];
    for (command, said) in commands {
        let with = serving.replace("/usr/bin/payload ready run", &format!("{command} /var/owned"));
        machine.unit("web.service", &with);
        assert_ne!(machine.run("systemctl reload web").status, Some(0), "{command}");
        let status = machine.show("web", "StatusText");
        assert!(status.contains(said), "{command}: {status}");
    }
    // Variables are expanded in arguments only, and a program of this name is nowhere.
    for command in ["$SHELL_AS_ROOT", "${SHELL_AS_ROOT}"] {
        let with = serving.replace("/usr/bin/payload ready run", &format!("{command} /var/owned"));
        machine.unit("web.service", &with);
        assert_ne!(machine.run("systemctl reload web").status, Some(0), "{command}");
    }
    // In an argument all of it is text.
    let odd = r#"; +/usr/bin/touch /var/owned "+/usr/bin/touch" ";" "\n+/usr/bin/touch /var/owned""#;
    machine.unit(
        "web.service",
        &serving.replace("ready run", &format!("facts ready run {}", odd.replacen(';', r"\;", 1))),
    );
    machine.ok("systemctl reload web");
    let unit = machine.units("web@*").pop().expect("a generation");
    assert_eq!(facts(machine, &unit)["arguments"].as_array().map(Vec::len), Some(10));
    assert_eq!(machine.run("ls /var/owned").stdout, "");
}

fn a_value_of_an_option_is_one_value(machine: &Machine) {
    // As systemd reads them out of the unit file, these hold a line end, and what would be a line.
    for option in [
        r#""-pNice=1\nExecStartPre=+/usr/bin/touch /var/owned""#,
        r#""--uid=app\nExecStartPre=+/usr/bin/touch /var/owned""#,
        r#""--description=x\n[Service]\nExecStartPre=+/usr/bin/touch /var/owned""#,
        r#""--working-directory=/srv\nExecStartPre=+/usr/bin/touch /var/owned""#,
        r#""--slice=x.slice\nExecStartPre=+/usr/bin/touch /var/owned""#,
        r#""-pNice\nExecStartPre=1""#,
        r#""--unit=x\ny""#,
    ] {
        machine.unit("web.service", &with_lines("RestartPreventExitStatus=170 174", option, "ready run"));
        assert_ne!(machine.run("systemctl start web").status, Some(0), "{option}");
        assert_eq!(machine.show("web", "ExecMainStatus"), "170", "{option}");
        machine.ok("systemctl reset-failed web");
    }
    // A line end that may stand in a value, a backslash at its end, and specifiers that systemd has resolved once.
    let options = r#"--settle=0 "-E ONE=a\nExecStartPre=+/usr/bin/touch /var/owned" -E "TWO=b\\" -E THREE=%%n%%%%n
        "--description=%%n %%%%n \\" -p "SyslogIdentifier=x\\""#;
    machine.unit(
        "web.service",
        &with_lines("User=app", &options.replace("-E ONE", "-EONE").replace('\n', " "), "facts ready run"),
    );
    machine.ok("systemctl start web");
    let environment = &facts(machine, "web@1.service")["environment"];
    assert_eq!(environment["ONE"], "a\nExecStartPre=+/usr/bin/touch /var/owned");
    assert_eq!(environment["TWO"], "b\\");
    assert_eq!(environment["THREE"], "%n%%n");
    assert_eq!(machine.show("web@1", "Description"), "%n %%n \\");
    assert_eq!(machine.show("web@1", "User"), "app");
    assert_eq!(machine.run("ls /var/owned").stdout, "");
}

fn a_line_end_at_a_terminal_begins_nothing(machine: &Machine) {
    let evil = "x\nExecStartPre=+/usr/bin/touch /var/owned\n[Service]\nExecStartPre=+/usr/bin/touch /var/owned";
    let options =
        ["--unit", "--uid", "--gid", "--slice", "--description", "--working-directory", "--property=Nice", "-pX"];
    for option in options {
        let words = ["/usr/bin/procroll", "--systemd-run", &format!("{option}={evil}"), "--", "/usr/bin/true"];
        assert_eq!(machine.run_words(&words).status, Some(170), "{option}");
    }
    let words =
        ["--settle=0", "--unit=job", "-E", &format!("X={evil}"), "--", "/usr/bin/payload", "say", evil, "exit", "3"];
    let outcome = machine.run_words(&[&["/usr/bin/procroll", "--systemd-run"], &words[..]].concat());
    assert_eq!((outcome.status, outcome.stdout.as_str()), (Some(3), evil), "{outcome:?}");
    let words = ["/usr/bin/procroll", "--systemd-run", "--", &format!("/usr/bin/true{evil}")];
    assert_eq!(machine.run_words(&words).status, Some(170));
    assert_eq!(machine.run("ls /var/owned").stdout, "");
    assert_eq!(machine.ok("ls /run/systemd/transient"), "");
}
