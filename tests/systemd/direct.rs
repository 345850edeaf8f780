//! A unit that runs procroll without `--systemd-run`: a service like any other, which rolls within itself.

use crate::machine::Machine;

from_systemd_254!(
    it_is_up_when_its_service_is_and_a_failed_roll_fails_the_reload,
    it_needs_no_privilege_and_leaves_nothing,
    no_variable_gives_the_application_a_command_as_root,
);

fn unit(lines: &str) -> String {
    format!(
        "[Service]\nType=notify-reload\n{lines}\nExecStart=/usr/bin/procroll run --settle=0 -- /bin/sh -c \
         'test ! -e /run/bad || exit 3; exec /usr/bin/payload ready run'\n"
    )
}

fn it_is_up_when_its_service_is_and_a_failed_roll_fails_the_reload(machine: &Machine) {
    machine.unit("web.service", &unit(""));
    machine.ok("systemctl start web");
    let main = machine.show("web", "MainPID");
    for generation in [2, 3] {
        machine.ok("systemctl reload web");
        machine.wait_for("the old one to go", || {
            let status = machine.show("web", "StatusText");
            (status.starts_with(&format!("generation {generation} (main PID ")) && status.ends_with(" serves: as told"))
                .then_some(())
        });
    }
    machine.ok("touch /run/bad");
    let outcome = machine.run("systemctl reload web");
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    let status = machine.show("web", "StatusText");
    assert!(status.starts_with("generation 3 (main PID "), "{status}");
    let why = "last roll failed: generation 4 failed (Result=exit-code, status=3) while starting. See \"journalctl -xeu web.service\"";
    assert!(status.contains(why), "{status}");
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.show("web", "MainPID"), main);
    machine.ok("rm /run/bad");
    machine.ok("systemctl reload web");
    machine.ok("systemctl stop web");
    assert_eq!(machine.run("pgrep --exact payload").stdout, "");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
}

fn it_needs_no_privilege_and_leaves_nothing(machine: &Machine) {
    machine.unit("web.service", &unit("User=app\nProtectProc=invisible\nRestart=on-failure\nRestartSec=0"));
    machine.ok("systemctl start web");
    machine.ok("systemctl reload web");
    assert!(machine.show("web", "StatusText").starts_with("generation 2 (main PID "));
    // If it crashes it is started anew, and what it has run is gone before: systemd kills the whole control group.
    let before = machine.show("web", "MainPID");
    machine.ok("systemctl kill --signal=KILL --kill-whom=main web");
    machine.wait_for("another procroll", || {
        let status = machine.show("web", "StatusText");
        (machine.show("web", "MainPID") != before && status.starts_with("generation 1 (main PID ")).then_some(())
    });
    assert_eq!(machine.run("pgrep --count --exact payload").stdout.trim(), "1");
    machine.ok("systemctl stop web");
    assert_eq!(machine.run("pgrep --exact payload").stdout, "");
}

fn no_variable_gives_the_application_a_command_as_root(machine: &Machine) {
    machine.unit("other.service", "[Service]\nType=notify\nExecStart=/usr/bin/payload ready run\n");
    for (options, rest) in [
        ("run -- /usr/bin/touch /var/owned", "--systemd-run -- /usr/bin/payload ready run"),
        ("check --write other.service --", "--systemd-run -- /usr/bin/payload ready run"),
        ("reload other.service", ""),
    ] {
        machine.write("/srv/app/env", &format!("OPTIONS={options}\n"));
        machine.unit(
            "web.service",
            &format!(
                "[Service]\nType=notify-reload\nUser=app\nEnvironmentFile=/srv/app/env\n\
                 ExecStart=+/usr/bin/procroll $OPTIONS {rest}\n"
            ),
        );
        assert_ne!(machine.run("systemctl start web").status, Some(0));
        assert_eq!(machine.show("web", "ExecMainStatus"), "174", "{options}");
        let log = machine.journal("--unit=web.service");
        assert!(log.contains("has a variable among procroll's options: $OPTIONS"), "{options}: {log}");
        assert_eq!(machine.run("ls -d /var/owned /etc/systemd/system/other.service.d").stdout, "");
    }
    // One of the command's own is the command's.
    machine
        .unit("web.service", &unit("Environment=OPTIONS=run").replace("ready run'", "ready $$OPTIONS' \"$OPTIONS\""));
    machine.ok("systemctl start web");
}
