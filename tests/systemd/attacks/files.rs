//! Files that were put where procroll reads or writes: they make nobody root, nor is one written through them.

use crate::machine::Machine;
use crate::{with_lines, wrapper};

on_each_systemd!(
    a_file_swapped_behind_systemds_back_is_not_rolled_to,
    what_systemd_writes_itself_may_change,
    nothing_is_written_through_planted_links,
);
from_systemd_257!(the_next_procroll_knows_what_the_last_one_read);

const UNIT: &str = "/etc/systemd/system/web.service";

/// Puts a file in place of another, with a date that hides it from systemd.
fn swap(machine: &Machine, path: &str, text: &str) {
    machine.write("/run/swapped", text);
    machine.ok(&format!("touch --date=2001-01-01 /run/swapped && mv /run/swapped {path}"));
}

fn rolls_to_nothing(machine: &Machine, why: &str) {
    assert_ne!(machine.run("systemctl reload web").status, Some(0), "{why}");
    assert_eq!(machine.units("web@*"), ["web@1.service"], "{why}");
    let status = machine.show("web", "StatusText");
    assert!(status.starts_with("web@1.service (main PID ") && status.contains("daemon-reload"), "{why}: {status}");
    assert_eq!(machine.run("ls /var/owned").stdout, "", "{why}");
}

fn a_file_swapped_behind_systemds_back_is_not_rolled_to(machine: &Machine) {
    let lines = "User=app\nNoNewPrivileges=yes";
    let unit = with_lines(lines, "--settle=0", "ready run");
    let (drop_in, limit) = ("/etc/systemd/system/web.service.d/limit.conf", "[Service]\nLimitNOFILE=77\n");
    machine.write(drop_in, limit);
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    let evil = "ExecStartPre=+/usr/bin/touch /var/owned";
    for (why, text) in [
        ("a command of root's", with_lines(&format!("{lines}\n{evil}"), "--settle=0", "ready run")),
        ("root", with_lines("", "--settle=0", "ready run")),
        ("no sandbox", with_lines("User=app", "--settle=0", "ready run")),
        ("another command", with_lines(lines, "--settle=0", "ready run run")),
        ("an option", with_lines(lines, "--settle=0 --uid=root", "ready run")),
        ("a comment", "# nothing\n".to_owned()),
        ("a section", "[Service]\n".to_owned()),
    ] {
        swap(machine, UNIT, &text);
        rolls_to_nothing(machine, why);
    }
    for text in ["", "\n", &format!("{limit}{evil}\n")] {
        swap(machine, UNIT, &unit);
        swap(machine, drop_in, text);
        rolls_to_nothing(machine, text);
    }
    swap(machine, drop_in, limit);
    for gone in ["ln --symbolic --force /dev/null", ": >", "rm"] {
        swap(machine, UNIT, &unit);
        machine.ok(&format!("{gone} {UNIT}"));
        assert_ne!(machine.run("systemctl reload web").status, Some(0), "{gone}");
        assert_eq!(machine.units("web@*"), ["web@1.service"], "{gone}");
    }
    // What was there, and what systemd has read.
    swap(machine, UNIT, &unit);
    machine.ok("systemctl reload web");
    swap(machine, drop_in, "[Service]\nLimitNOFILE=88\n");
    machine.ok("systemctl daemon-reload && systemctl reload web");
    let serving = machine.units("web@*").pop().expect("a generation");
    assert_eq!(machine.show(&serving, "LimitNOFILE"), "88");
}

fn what_systemd_writes_itself_may_change(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    for weight in ["50", "60"] {
        machine.ok(&format!("systemctl set-property web CPUWeight={weight} && systemctl reload web"));
        let serving = machine.units("web@*").pop().expect("a generation");
        assert_eq!(machine.show(&serving, "CPUWeight"), weight);
    }
}

fn the_next_procroll_knows_what_the_last_one_read(machine: &Machine) {
    let lines = "User=app";
    machine.unit("web.service", &with_lines(lines, "--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", "1");
    machine.wait_for_property("web", "ActiveState", "active");
    let evil = format!("{lines}\nExecStartPre=+/usr/bin/touch /var/owned");
    swap(machine, UNIT, &with_lines(&evil, "--settle=0", "ready run"));
    rolls_to_nothing(machine, "after a crash");
}

fn nothing_is_written_through_planted_links(machine: &Machine) {
    machine.write("/srv/precious/file", "precious");
    // Names that procroll uses, or might, in folders that are the application's.
    let names =
        "web.service.procroll web@1.service.d web@2.service.d web@1.service web.service procroll 90-procroll.conf";
    let plant =
        format!("for name in {names}; do ln --symbolic --force --no-target-directory /srv/precious $name; done");
    for folder in ["/srv/app", "/run/procroll", "/run/web", "/tmp", "/var/tmp", "/dev/shm"] {
        machine.ok(&format!("mkdir --parents {folder} && cd {folder} && runuser -u app -- sh -c '{plant}' || {{ chown app . && {plant}; }}"));
    }
    let lines = "User=app\nWorkingDirectory=/srv/app\nRuntimeDirectory=procroll web\nRuntimeDirectoryPreserve=yes";
    machine.unit("web.service", &with_lines(lines, "--settle=0 -p Nice=5", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.ok("systemctl stop web");
    assert_eq!(machine.ok("cd /srv/precious && ls && cat file"), "file\nprecious");
    assert_eq!(
        machine.ok("find /srv/app /run/procroll /run/web /tmp /var/tmp /dev/shm -lname /srv/precious | wc -l"),
        "42"
    );
}
