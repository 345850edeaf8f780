//! systemd and other people are at work while procroll is (G10): what is under way goes on, and what serves is not
//! touched.

use std::process::Child;

use crate::machine::Machine;
use crate::stops::nothing_is_left;
use crate::{with_lines, wrapper};

on_each_systemd!(
    systemd_executes_itself_anew_all_the_time,
    others_stop_and_start_generations,
    a_restart_while_the_rest_of_one_is_stopped,
    a_name_that_others_have_taken_is_skipped,
    what_has_the_name_of_one_that_failed_is_left_alone,
    nothing_can_be_written_to_run,
    a_journal_that_hangs_keeps_nobody_waiting_for_long,
    reloads_while_procroll_executes_itself_anew,
);

pub fn signal(machine: &Machine, signal: &str) {
    machine.ok(&format!("systemctl kill --kill-whom=main --signal={signal} web"));
}

/// Waits until procroll says this.
pub fn wait_for_status(machine: &Machine, status: &str) {
    machine.wait_for(&format!("the status {status}"), || {
        // systemctl itself may lose systemd meanwhile.
        let shown = machine.run("systemctl show --property=StatusText --value web").stdout;
        shown.contains(status).then_some(())
    });
}

pub fn wait_for_only(machine: &Machine, unit: &str) {
    machine.wait_for(&format!("{unit} alone"), || (machine.units("web@*") == [unit]).then_some(()));
}

pub fn succeeds(child: Child) -> bool {
    child.wait_with_output().expect("its end").status.success()
}

fn systemd_executes_itself_anew_all_the_time(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && touch /run/go");
    let anew = "while [ -e /run/go ]; do systemctl daemon-reexec; sleep 0.1; done";
    let mut anew = machine.spawn(&["sh", "-c", anew]);
    // systemctl loses its connection by that, and with it the outcome of what it has asked for. So does this.
    let procroll = machine.wait_for("procroll's id", || {
        let pid = machine.run("systemctl show --property=MainPID --value web").stdout;
        pid.parse::<u32>().ok().filter(|pid| *pid != 0)
    });
    for generation in 2..=6 {
        machine.ok(&format!("kill -HUP {procroll}"));
        wait_for_status(machine, &format!("web@{generation}.service (main PID"));
    }
    machine.ok("rm /run/go");
    assert!(anew.wait().is_ok());
    wait_for_only(machine, "web@6.service");
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@7.service");
    assert_eq!(
        (machine.show("web", "NRestarts"), machine.show("web", "MainPID")),
        ("0".to_owned(), procroll.to_string())
    );
}

/// Its main process has ended, and procroll stops what lives on.
fn a_restart_while_the_rest_of_one_is_stopped(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0 --shutdown-timeout=3s", "leave ready wait /run/go exit 0"));
    machine.ok("systemctl start web && touch /run/go");
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    machine.ok("rm /run/go && systemctl restart web@1");
    let pid = machine.show("web@1", "MainPID");
    wait_for_status(machine, &format!("web@1.service (main PID {pid}) serves"));
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
}

fn others_stop_and_start_generations(machine: &Machine) {
    let serves = |unit: &str| {
        let pid = machine.show(unit, "MainPID");
        wait_for_status(machine, &format!("{unit}.service (main PID {pid}) serves"));
        pid
    };
    let starts = |unit: &str| {
        let deaf = || (machine.output(unit) == "deaf").then_some(());
        machine.wait_for("a start that waits", deaf);
    };
    machine.ok("touch /run/go");
    machine.unit(
        "web.service",
        &with_lines("TimeoutStopSec=infinity", "--settle=0", "deaf say deaf wait /run/go ready run"),
    );
    machine.ok("systemctl start web");

    // The one that serves, as needrestart does. It is another process then.
    let before = serves("web@1");
    let restart = machine.spawn(&["systemctl", "restart", "web@1"]);
    machine.wait_for_property("web@1", "SubState", "stop-sigterm");
    machine.ok("systemctl kill --signal=KILL web@1");
    assert!(succeeds(restart));
    assert_ne!(serves("web@1"), before);

    // The candidate: with a stop the roll fails, after a restart it goes on.
    machine.ok("rm /run/go");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    starts("web@2.service");
    machine.ok("systemctl stop --no-block web@2 && systemctl kill --signal=KILL web@2");
    assert!(!succeeds(reload));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    starts("web@3.service");
    let restart = machine.spawn(&["systemctl", "restart", "web@3"]);
    machine.wait_for_property("web@3", "SubState", "stop-sigterm");
    machine.ok("systemctl kill --signal=KILL web@3 && touch /run/go");
    assert!(succeeds(restart) && succeeds(reload));
    serves("web@3");

    // The one that drains: it is on its way already.
    machine.ok("systemctl stop --no-block web@1 && systemctl reset-failed && systemctl kill --signal=KILL web@1");
    wait_for_only(machine, "web@3.service");

    // What a failed roll left to be looked at.
    machine.unit("web.service", &with_lines("TimeoutStopSec=infinity", "--settle=0", "exit 3"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    machine.ok("systemctl reset-failed");
    wait_for_only(machine, "web@3.service");
    machine.unit("web.service", &with_lines("TimeoutStopSec=infinity", "--settle=3s", "ready run"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    wait_for_status(machine, "settles");
    // Frozen, it has no less settled.
    machine.ok("systemctl freeze web@5");
    assert!(succeeds(reload));
    machine.ok("systemctl thaw web@5 && systemctl kill --signal=KILL web@3");
    wait_for_only(machine, "web@5.service");
    serves("web@5");
    assert_eq!(machine.show("web", "NRestarts"), "0");

    // To stop the one that serves is to stop the service.
    machine.ok("systemctl stop web@5");
    machine.wait_for_property("web", "ActiveState", "inactive");
    assert_eq!(machine.show("web", "Result"), "success");
    nothing_is_left(machine);
}

fn a_name_that_others_have_taken_is_skipped(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    // By a file that systemd has not loaded, by a file of settings, by a transient unit that has ended.
    machine.unit("web@2.service", "[Service]\nExecStart=false\n");
    machine.unit("web@3.service.d/x.conf", "[Service]\nNice=3\n");
    machine.ok("systemd-run --quiet --unit=web@4.service --property=RemainAfterExit=yes true");
    machine.ok("systemctl reload web");
    machine
        .wait_for("the old one to go", || (machine.units("web@*") == ["web@4.service", "web@5.service"]).then_some(()));
    assert_eq!(machine.show("web@5", "Nice"), "0");
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), ["web@4.service"]);
    assert_eq!(machine.ok("ls /run/systemd/transient /etc/systemd/system | grep web@ | sort | xargs"), {
        "web@2.service web@3.service.d web@4.service"
    });
}

fn nothing_can_be_written_to_run(machine: &Machine) {
    // As much as systemd wants there for a daemon-reload.
    machine.ok("mount -o remount,size=20m,nr_inodes=4k /run");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let procroll = machine.show("web", "MainPID");
    for (free, fill) in [
        ("rm /run/fill", "dd if=/dev/zero of=/run/fill bs=4k status=none"),
        ("rm -r /run/fill", "mkdir /run/fill; i=0; while true >/run/fill/$i; do i=$((i + 1)); done"),
    ] {
        let before = machine.units("web@*");
        let serves = machine.wait_for("it alone to serve", || {
            Some(machine.show("web", "StatusText")).filter(|status| status.ends_with(" serves"))
        });
        assert_eq!(before.len(), 1);
        machine.run(fill);
        let refused = || {
            assert_ne!(machine.run("systemctl reload web").status, Some(0));
            let status = machine.show("web", "StatusText");
            assert!(status.starts_with(&serves), "{status}");
            status
        };
        let status = refused();
        assert!(status.contains("No space left on device"), "{status}");
        // It takes over all the same.
        signal(machine, "RTMIN+25");
        machine.wait_for("a new procroll", || (machine.show("web", "StatusText") == serves).then_some(()));
        refused();
        machine.ok(free);
        // That of 252 asks at a socket, which is tried once a second.
        machine.wait_for("a roll", || (machine.run("systemctl reload web").status == Some(0)).then_some(()));
        machine.wait_for("the old one to go", || (machine.units("web@*").len() == 1).then_some(()));
        assert_ne!(machine.units("web@*"), before);
        assert_eq!(machine.show("web", "MainPID"), procroll);
    }
    machine.run("dd if=/dev/zero of=/run/fill bs=4k status=none");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

/// Takes all the room there is for messages that the journal has not read yet.
const FILL_THE_JOURNAL: &str = r#"
import socket
sent = True
while sent:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sent = False
    try:
        while True:
            one.sendto(b"MESSAGE=more\n", "/run/systemd/journal/socket")
            sent = True
    except BlockingIOError:
        pass
"#;

fn a_journal_that_hangs_keeps_nobody_waiting_for_long(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.write("/root/fill.py", FILL_THE_JOURNAL);
    machine.ok("systemctl start web && systemctl kill --signal=STOP systemd-journald && python3 /root/fill.py");
    // Also where procroll begins.
    let again = "systemctl kill --kill-whom=main --signal=KILL web; for _ in $(seq 600); do sleep 0.1; \
                 systemctl show --property=NRestarts web | grep -q =1 && systemctl is-active web && break; done";
    let done = machine.run(&format!(
        "timeout 60 systemctl reload web && {again} && timeout 60 systemctl reload web && timeout 60 systemctl stop web"
    ));
    machine.ok("systemctl kill --signal=CONT systemd-journald");
    assert_eq!(done.status, Some(0), "{done:?}");
    nothing_is_left(machine);
    assert_eq!(machine.show("web", "Result"), "success");
}

/// Once it is forgotten anybody may have the name of one that failed.
fn what_has_the_name_of_one_that_failed_is_left_alone(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let rolls = |steps: &str| {
        machine.unit("web.service", &wrapper("--settle=0", steps));
        machine.run("systemctl reload web").status == Some(0)
    };
    assert!(!rolls("exit 3"));
    machine.ok("systemctl reset-failed && systemd-run --quiet --unit=web@2 sleep infinity");
    let pid = machine.show("web@2", "MainPID");
    assert!(rolls("ready run"));
    machine
        .wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service", "web@3.service"]).then_some(()));
    machine.ok("systemctl stop web");
    assert_eq!(machine.show("web@2", "MainPID"), pid);
    machine.ok("systemctl stop web@2");
    nothing_is_left(machine);
}

/// Whoever asks at the very instant finds one of the two that is there.
fn reloads_while_procroll_executes_itself_anew(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && touch /run/go");
    let pid = machine.show("web", "MainPID");
    let filters = || machine.ok(&format!("grep ^Seccomp_filters: /proc/{pid}/status"));
    let before = filters();
    let anew = format!("while [ -e /run/go ]; do kill -s RTMIN+25 {pid} || exit; sleep 0.2; done");
    let mut anew = machine.spawn(&["bash", "-c", &anew]);
    for _ in 0..20 {
        machine.ok("systemctl reload web");
    }
    machine.ok("rm /run/go");
    assert!(anew.wait().expect("its end").success());
    wait_for_only(machine, "web@21.service");
    assert_eq!((machine.show("web", "MainPID"), filters()), (pid.clone(), before), "as at first");
}
