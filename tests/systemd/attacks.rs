//! procroll is root beside an application that may be hostile, and other users: neither gets anywhere (G11).

mod commands;
mod environment;
mod files;
mod notifications;
mod processes;

use crate::machine::Machine;
use crate::{with_lines, wrapper};

on_each_systemd!(
    options_from_the_environment_are_refused_whosever_manager_they_name,
    a_forged_signal_is_not_systemds,
    the_applications_file_tree_is_not_systemds,
    nothing_is_written_where_an_application_can_plant_links,
    a_drop_in_that_cannot_be_hidden_is_refused,
    procroll_has_no_capability_that_it_does_not_need,
);

fn a_forged_signal_is_not_systemds(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go exit 3"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "SubState", "start");
    let procroll = machine.show("web", "MainPID");
    let connection = machine.ok(&format!("busctl list --no-legend | awk '$2 == {procroll} {{ print $1 }}'"));
    assert!(connection.starts_with(":1."), "{connection}");
    // Anybody may send a message to anybody. This one says that the candidate is active.
    machine.ok(&format!(
        "runuser -u app -- busctl --destination={connection} emit /org/freedesktop/systemd1/unit/web_402_2eservice \
         org.freedesktop.DBus.Properties PropertiesChanged 'sa{{sv}}as' org.freedesktop.systemd1.Unit 6 \
         ActiveState s active SubState s running Job '(uo)' 0 / ConditionResult b true ConditionTimestamp t 1 \
         ActiveEnterTimestamp t 1 0"
    ));
    machine.ok("touch /run/go");
    let outcome = reload.wait_with_output().expect("systemctl reload");
    assert!(!outcome.status.success(), "the candidate was never active");
    assert_eq!(machine.show("web@1", "ActiveState"), "active");
}

fn the_applications_file_tree_is_not_systemds(machine: &Machine) {
    // A unit that its owner put the application's own files into; there the application has planted another unit.
    let shared = "User=app\nBindPaths=/srv/app/units:/etc/systemd/system /srv/app/run:/run/systemd/transient";
    let planted = format!("{shared}\nExecStartPre=+/usr/bin/touch /var/owned");
    machine.write("/srv/app/units/web.service", &with_lines(&planted, "--settle=0", "ready run"));
    machine.ok("mkdir /srv/app/run && chown --recursive app /srv/app");
    machine.unit("web.service", &with_lines(shared, "--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    assert_eq!(machine.run("ls /var/owned /srv/app/run").stdout, "/srv/app/run:");
    let pid = machine.show("web", "MainPID");
    assert_eq!(machine.ok(&format!("readlink /proc/{pid}/ns/mnt")), machine.ok("readlink /proc/1/ns/mnt"));
    assert_ne!(
        machine.ok(&format!("readlink /proc/{}/ns/mnt", machine.show("web@2", "MainPID"))),
        machine.ok("readlink /proc/1/ns/mnt"),
        "the application has the tree that it was given"
    );

    // Nothing to tell by in which tree it is.
    machine.ok("mkdir --parents /srv/root/usr/bin && cp /usr/bin/procroll /srv/root/usr/bin");
    let unit = with_lines("RootDirectory=/srv/root", "--settle=0", "ready run").replace("Restart=on-failure\n", "");
    machine.unit("rooted.service", &unit);
    assert_ne!(machine.run("systemctl start rooted").status, Some(0));
    assert_eq!(machine.show("rooted", "ExecMainStatus"), "173");
    let log = machine.log("rooted.service");
    assert!(log.contains("can't get at the files that systemd sees: /proc/self/mountinfo: No such file"), "{log}");
    // The way out.
    machine
        .ok("cp /bin/sleep /srv/root/usr/bin && ldd /bin/sleep | grep -o '/[^ ]*' | xargs cp --parents -t /srv/root");
    let options = "--service-type=exec --settle=0 -p RootDirectory=/srv/root";
    let unit = with_lines("", options, "").replace("/usr/bin/payload", "/usr/bin/sleep infinity");
    machine.unit("rooted.service", &unit);
    machine.ok("systemctl start rooted && systemctl reload rooted");
    let root = format!("/proc/{}/root", machine.show("rooted@2", "MainPID"));
    assert_eq!(machine.ok(&format!("ls {root}/usr/bin")), "procroll\nsleep");
}

fn nothing_is_written_where_an_application_can_plant_links(machine: &Machine) {
    machine.write("/srv/precious", "precious");
    // Whatever number procroll gets as its process id, the application has links ready for it.
    machine.ok("install --directory --owner=app /run/procroll && cd /run/procroll && for i in $(seq 1000); do \
         ln -s /srv $i; done && chown --no-dereference app /run/procroll/*");
    machine.unit("web.service", &wrapper("--settle=0 -p Nice=5", "ready run"));
    machine.ok("systemctl start web");
    assert_eq!(machine.show("web@1", "Nice"), "5");
    assert_eq!(machine.ok("ls /srv"), "app\nprecious");
    assert_eq!(machine.ok("ls /run/procroll | wc -l"), "1000");
    assert_eq!(machine.run("find /run/systemd/procroll* ! -type d ! -type s").stdout, "");
}

fn a_drop_in_that_cannot_be_hidden_is_refused(machine: &Machine) {
    machine.unit("web.service", &with_lines("User=app", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    // Of this name is the file that says User=app, and systemd takes the one in the first of its folders.
    let folder = "/etc/systemd/system.control/web@.service.d";
    machine.write(&format!("{folder}/10-00000.conf"), "[Service]\nExecStartPre=/usr/bin/touch /var/owned\n");
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains(&format!("what is in {folder} would apply to web@2.service as well")), "{status}");
    assert_eq!(machine.run("ls /var/owned").stdout, "");
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
}

fn procroll_has_no_capability_that_it_does_not_need(machine: &Machine) {
    machine.unit("web.service", &with_lines("User=app\nAmbientCapabilities=CAP_NET_BIND_SERVICE", "", "ready run"));
    // For its owner and systemd to read.
    machine.ok("chown app /etc/systemd/system/web.service && chmod 400 /etc/systemd/system/web.service");
    machine.ok("systemctl daemon-reload && systemctl start web && systemctl reload web");
    let status = machine.ok(&format!("cat /proc/{}/status", machine.show("web", "MainPID")));
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
    // CAP_DAC_READ_SEARCH is the third.
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(field);
    assert_eq!(sets.map(|set| u64::from_str_radix(&set, 16).expect("a number")), [0, 4, 4, 4, 0]);
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "a filter");
    // What the generation has is its unit's to say.
    let status = machine.ok(&format!("cat /proc/{}/status", machine.show("web@2", "MainPID")));
    assert!(status.contains("CapEff:\t0000000000000400"), "{status}");
}

fn options_from_the_environment_are_refused_whosever_manager_they_name(machine: &Machine) {
    // root's own service manager would run anything as root.
    machine.ok("loginctl enable-linger root");
    machine.wait_for_property("user@0.service", "ActiveState", "active");
    machine.write("/srv/app/env", "OPTS=--user -pExecStartPre=/usr/bin/touch\\x20/var/owned\n");
    let lines = "User=app\nEnvironmentFile=/srv/app/env\nRestartPreventExitStatus=174";
    machine.unit("web.service", &with_lines(lines, "--settle=0 $OPTS", "ready run"));
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    assert_eq!(machine.show("web", "ExecMainStatus"), "174");
    assert!(machine.log("web.service").contains("has a variable among procroll's options: $OPTS"));
    let units = "XDG_RUNTIME_DIR=/run/user/0 systemctl --user list-units --all --plain --no-legend '*@*'";
    assert_eq!(machine.ok(units), "");
    assert_eq!(machine.run("ls /var/owned").stdout, "");
}
