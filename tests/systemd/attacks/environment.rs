//! The application's environment and directory: procroll begins with both, and heeds neither.

use crate::machine::Machine;
use crate::settings::facts;
use crate::with_lines;

on_each_systemd!(
    the_applications_environment_is_not_procrolls,
    what_a_variable_holds_stays_an_argument,
    no_variable_becomes_an_option,
    the_applications_directory_is_not_procrolls,
);

/// Hears whoever connects or sends to its sockets, and writes down who it was.
const TRAP: &str = r#"
import os, select, socket, struct
def bound(kind, path):
    one = socket.socket(socket.AF_UNIX, kind)
    one.bind(path)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return one
stream, datagrams = bound(socket.SOCK_STREAM, "/srv/app/stream"), bound(socket.SOCK_DGRAM, "/srv/app/datagrams")
stream.listen()
heard = open("/srv/app/heard", "w", buffering=1)
while True:
    for one in select.select([stream, datagrams], [], [])[0]:
        if one is stream:
            client, _ = one.accept()
            who = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            client.close()
        else:
            who = one.recvmsg(4096, 1000)[1][0][2]
        print(one is stream and "stream" or "datagram", "by", struct.unpack("iii", who)[1], file=heard)
"#;

/// All that programs are known to heed.
const ENVIRONMENT: &str = "LD_PRELOAD=/srv/app/evil.so\nLD_LIBRARY_PATH=/srv/app/lib\nLD_DEBUG=libs\n\
    LD_DEBUG_OUTPUT=/srv/app/written/ld\nGCONV_PATH=/srv/app/lib\nLOCPATH=/srv/app/lib\n\
    MALLOC_CHECK_=3\nMALLOC_PERTURB_=1\nMALLOC_TRACE=/srv/app/written/trace\n\
    GLIBC_TUNABLES=glibc.malloc.check=3:glibc.malloc.perturb=1:glibc.malloc.arena_max=1\n\
    DBUS_SYSTEM_BUS_ADDRESS=unix:path=/srv/app/stream\nDBUS_SESSION_BUS_ADDRESS=unix:path=/srv/app/stream\n\
    DBUS_STARTER_ADDRESS=unix:path=/srv/app/stream\nDBUS_STARTER_BUS_TYPE=system\nNOTIFY_SOCKET=/srv/app/datagrams\n\
    INVOCATION_ID=00000000000000000000000000000001\nJOURNAL_STREAM=1:2\nLISTEN_FDS=1\nLISTEN_PID=1\n\
    LISTEN_FDNAMES=web\nFDSTORE=9\nMAINPID=1\nMANAGERPID=1\nWATCHDOG_USEC=1\nWATCHDOG_PID=1\n\
    SYSTEMD_LOG_LEVEL=debug\nSYSTEMD_UNIT_PATH=/srv/app/units\nSYSTEMD_EXEC_PID=1\nSYSTEMD_BUS_TIMEOUT=1us\n\
    SYSTEMD_OFFLINE=1\nRUST_LOG=trace\nRUST_BACKTRACE=full\nRUST_MIN_STACK=1\nTMPDIR=/srv/app/written\n\
    PATH=/srv/app/bin\nXDG_RUNTIME_DIR=/srv/app\nHOME=/srv/app\nNO_COLOR=1\nCOLUMNS=1\n";

/// Programs that leave a file behind if somebody runs them, named as those that procroll might look for.
fn plant_programs(machine: &Machine, folder: &str) {
    for name in ["systemd-analyze", "procroll", "payload", "sh", "true"] {
        machine.write(&format!("{folder}/{name}"), "#!/bin/sh\n: >/srv/app/written/$$\n");
        machine.ok(&format!("chmod 755 {folder}/{name}"));
    }
    machine.ok("mkdir --parents /srv/app/written && chown --recursive app /srv/app");
}

/// Files that root has made or run something to make, where the application owns all that there is.
fn made_by_root(machine: &Machine) -> String {
    machine.ok("find /srv/app /tmp -user root -type f")
}

fn the_applications_environment_is_not_procrolls(machine: &Machine) {
    plant_programs(machine, "/srv/app/bin");
    machine.write("/srv/app/trap.py", TRAP);
    machine.write("/srv/app/units/web@1.service", "[Service]\nExecStartPre=+/usr/bin/touch /var/owned\n");
    machine.write("/srv/app/env", ENVIRONMENT);
    machine
        .ok("cd /srv/app && mkdir lib && cp /lib/*/libz.so.1 evil.so && cp /lib/*/libexpat.so.1 /lib/*/libm.so.6 lib");
    machine.ok("chown --recursive app /srv/app && systemd-run --quiet --uid=app --unit=trap python3 /srv/app/trap.py");
    machine.wait_for("the trap", || machine.path("/srv/app/heard").exists().then_some(()));

    // The trap works: what runs with this environment as the application falls into it.
    let lines = "User=app\nEnvironmentFile=/srv/app/env\nExecStartPre=-/usr/bin/busctl list\nWatchdogSec=5min";
    let payload = "/usr/bin/payload facts ready run";
    machine.unit("plain.service", &format!("[Service]\nType=exec\n{lines}\nExecStart={payload}\n"));
    machine.ok("systemctl start plain");
    machine.wait_for("the trap to hear", || machine.read("/srv/app/heard").contains("datagram").then_some(()));
    assert!(machine.read("/srv/app/heard").contains("stream by "));
    assert_ne!(machine.ok("find /srv/app/written -name 'ld.*' -user app"), "");

    // Type=exec, since its READY=1 goes astray.
    let options = "--service-type=exec --settle=0 -p Nice=5";
    machine.unit("web.service", &with_lines(lines, options, "facts ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let maps = |unit: &str| machine.ok(&format!("cat /proc/{}/maps", machine.show(unit, "MainPID")));
    assert!(!maps("web").contains("/srv/app"), "{}", maps("web"));
    assert!(maps("web@2").contains("/srv/app/evil.so") && maps("web@2").contains("/srv/app/lib/"));
    machine.wait_for("its facts", || machine.output("web@2.service").contains('{').then_some(()));
    let mut plain = facts(machine, "plain.service");
    plain["nice"] = 5.into();
    assert_eq!(facts(machine, "web@2.service"), plain, "the generation has what a plain unit has");
    let status = format!("web@2.service (main PID {}) serves", machine.show("web@2", "MainPID"));
    assert_eq!(machine.show("web", "StatusText"), status);
    let log = machine.log("web.service");
    assert!(log.contains("web@2.service serves") && !log.contains("event: "), "{log}");
    assert_eq!(machine.show("web", "NRestarts"), "0");
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);

    assert_eq!(made_by_root(machine), "");
    let heard = machine.read("/srv/app/heard");
    let app = format!("by {}", machine.ok("id -u app"));
    assert!(heard.lines().all(|line| line.ends_with(&app)), "{heard}");
    assert_eq!(machine.run("ls /var/owned").stdout, "");
}

fn what_a_variable_holds_stays_an_argument(machine: &Machine) {
    let odd = r#"X='run
ExecStartPre=+/usr/bin/touch /var/owned ; +/usr/bin/touch /var/owned -- --uid=root -pUser=root %n $HOME {{.Nope}} {{'"#;
    machine.write("/srv/app/env", &format!("{odd}\nY=--debug\n"));
    let lines = "User=app\nEnvironmentFile=/srv/app/env";
    let steps = r#"facts ready run $X ${X} "$X" '${X}' "a ${Y}b" $Y"#;
    machine.unit("plain.service", &format!("[Service]\nType=notify\n{lines}\nExecStart=/usr/bin/payload {steps}\n"));
    machine.unit("web.service", &with_lines(lines, "--settle=0", steps));
    machine.ok("systemctl start plain web && systemctl reload web");
    for generation in ["web@1.service", "web@2.service"] {
        assert_eq!(facts(machine, generation), facts(machine, "plain.service"));
    }
    assert!(facts(machine, "web@2.service")["arguments"].to_string().contains("{{.Nope}}"));
    assert!(!machine.log("web.service").contains("event: "));
    assert_eq!(machine.show("web@2", "User"), "app");
    assert_eq!(machine.run("ls /var/owned").stdout, "");
}

fn no_variable_becomes_an_option(machine: &Machine) {
    machine.write("/srv/app/env", "OPTS=--uid=root\nNAME=root\nDASHES=--\nNONE=\n");
    let lines = "User=app\nEnvironmentFile=/srv/app/env\nRestartPreventExitStatus=170 174";
    let options = ["$OPTS", "${OPTS}", "\"$OPTS\"", "--uid=${NAME}", "-pUser=$NAME", "$DASHES", "$NONE", "$NOT_SET"];
    for options in options {
        machine.unit("web.service", &with_lines(lines, options, "ready run"));
        assert_ne!(machine.run("systemctl start web").status, Some(0), "{options}");
        let status = machine.show("web", "StatusText");
        let variable = options.trim_matches('"');
        let said = format!("has a variable among procroll's options: {variable}. ");
        assert!(status.contains(&said), "{options}: {status}");
        machine.ok("systemctl reset-failed web");
    }
    // Where the -- is to come from a variable as well, all are options.
    let unit = with_lines(lines, "$DASHES", "ready run").replace("-- /usr/bin/payload", "/usr/bin/payload");
    machine.unit("web.service", &unit);
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    machine.ok("systemctl reset-failed web");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);

    // Also of one that rolls already.
    machine.unit("web.service", &with_lines(lines, "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &with_lines(lines, "--settle=0 $OPTS", "ready run"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
}

fn the_applications_directory_is_not_procrolls(machine: &Machine) {
    plant_programs(machine, "/srv/app");
    let libraries = ["libc.so.6", "libnss_files.so.2", "libnss_systemd.so.2", "ld-linux-x86-64.so.2"];
    for name in
        libraries.iter().chain(&["web.service", "web@1.service", "web@2.service", "core", ".env", "nsswitch.conf"])
    {
        machine.write(&format!("/srv/app/{name}"), "[Service]\nExecStartPre=+/usr/bin/touch /var/owned\n");
    }
    machine.ok("chown --recursive app /srv/app");
    let lines = "User=app\nWorkingDirectory=/srv/app";
    let unit = with_lines(lines, "--settle=0 -p Nice=5", "facts ready run").replace("/usr/bin/payload", "payload");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    assert_eq!(facts(machine, "web@2.service")["directory"], "/srv/app");
    machine.ok("systemctl stop web");
    assert_eq!(machine.ok("ls /srv/app/written"), "", "nothing of it was run");
    assert_eq!(made_by_root(machine), "");
    assert_eq!(machine.run("ls /var/owned").stdout, "");
}
