//! The machine goes down, or to a state without services: everything ends in order, by its own signals, and without delay.

use std::time::{Duration, Instant};

use super::nothing_is_left;
use crate::machine::Machine;
use crate::{with_lines, wrapper};

on_each_systemd!(
    a_machine_that_goes_down_takes_all_with_it_in_order,
    a_target_that_isolates_stops_all,
    a_target_that_wants_it_leaves_it,
    a_stop_of_the_slice_is_a_stop,
);

/// Stops after all that is After= it, and then keeps the machine for as long as nobody has read what happened.
const WITNESS: &str = "[Unit]\nDefaultDependencies=no\nAfter=systemd-journald.service\nConflicts=shutdown.target\n\
    Before=shutdown.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n\
    ExecStop=sh -c 'journalctl --sync; journalctl --output=cat >/var/new; mv /var/new /var/story; sleep infinity'\n";

/// Takes its time to stop, and until the bus is gone.
const SLOWLY: &str =
    "TimeoutStopSec=60s\nExecStop=sh -c 'while systemctl --quiet is-active dbus; do sleep 0.1; done; sleep 1'";

/// Where a line of the journal is that says this; all of it is told if there is none.
fn at(story: &str, said: &str) -> usize {
    story.lines().position(|line| line.contains(said)).unwrap_or_else(|| panic!("nobody has said {said}\n{story}"))
}

fn a_machine_that_goes_down_takes_all_with_it_in_order(machine: &Machine) {
    let install =
        |name: &str, unit: String| machine.unit(name, &unit.replace("[Unit]\n", "[Unit]\nAfter=witness.service\n"));
    machine.unit("witness.service", WITNESS);
    // One at rest; one in a roll; one whose generation takes longer to end than the bus; two whose
    // procroll is stopped, or dead.
    install("rest.service", wrapper("--settle=0", "ready run"));
    install("rolls.service", wrapper("--settle=0", "wait /run/go ready run"));
    install("slow.service", with_lines(SLOWLY, "--settle=0", "ready run"));
    install("dead.service", with_lines("RestartSec=1min", "--settle=0", "ready run"));
    install("stopped.service", with_lines("TimeoutStopSec=5s", "--settle=0", "ready run"));
    machine.ok(
        "touch /run/go && systemctl start witness rest rolls slow dead stopped && systemctl reload rest && rm /run/go",
    );
    machine.ok(
        "systemctl kill --kill-whom=main --signal=STOP stopped && systemctl kill --kill-whom=main --signal=KILL dead",
    );
    machine.wait_for_property("dead", "SubState", "auto-restart");
    machine.ok("systemctl reload --no-block rolls");
    machine.wait_for_property("rolls@2", "SubState", "start");
    let began = Instant::now();
    machine.ok("systemctl poweroff --no-block");
    machine.wait_for("all to have stopped", || machine.path("/var/story").exists().then_some(()));
    let story = machine.read("/var/story");
    let story = story.split_once("System is powering down").expect("the beginning of the end").1;
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}\n{story}", began.elapsed());
    for name in ["rest@2", "rolls@1", "slow@1", "rest", "rolls", "slow"] {
        at(story, &format!("{name}.service: Deactivated successfully."));
        at(story, &format!("Stopped {name}.service"));
    }
    for name in ["rolls@2", "stopped@1", "dead@1"] {
        at(story, &format!("Stopped {name}.service"));
    }
    // procroll has waited for them.
    for name in ["rest@2", "rolls@1", "rolls@2", "slow@1"] {
        let wrapper = name.split('@').next().expect("its name");
        let (gone, ended) = (format!("Stopped {name}.service"), format!("{wrapper}.service: Deactivated"));
        assert!(at(story, &gone) < at(story, &ended), "{name}\n{story}");
    }
    // Nothing has begun any more.
    let begun = story.lines().find(|line| line.starts_with("Start") && line.contains("- Web"));
    assert_eq!(begun, None, "{story}");
    assert!(!story.contains("SIGKILL"), "{story}");
}

fn a_target_that_isolates_stops_all(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go ready run"));
    machine.unit("quiet.target", "[Unit]\nAllowIsolate=yes\n");
    for rolls in [false, true] {
        machine.ok("systemctl start web");
        if rolls {
            machine.ok("rm /run/go && systemctl reload --no-block web");
            machine.wait_for_property("web@2", "SubState", "start");
        }
        let began = Instant::now();
        machine.ok("systemctl isolate quiet.target");
        machine.wait_for_property("web", "ActiveState", "inactive");
        assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
        nothing_is_left(machine);
        assert_eq!(machine.show("web", "Result"), "success");
        machine.ok("systemctl isolate multi-user.target");
    }
}

fn a_target_that_wants_it_leaves_it(machine: &Machine) {
    let unit = wrapper("--settle=0", "ready run").replace("[Unit]\n", "[Unit]\nIgnoreOnIsolate=no\n");
    machine.unit("web.service", &unit);
    machine.ok("systemctl add-wants multi-user.target web.service && systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let pids = || [machine.show("web", "MainPID"), machine.show("web@2", "MainPID")];
    let before = pids();
    machine.ok("systemctl isolate multi-user.target");
    // After all that it stops.
    machine.wait_for("the end of its jobs", || machine.ok("systemctl list-jobs --no-legend").is_empty().then_some(()));
    assert_eq!((machine.show("web@2", "SubState"), pids()), ("running".to_owned(), before));
    machine.ok("systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
}

fn a_stop_of_the_slice_is_a_stop(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go ready run"));
    for rolls in [false, true] {
        machine.ok("systemctl start web");
        if rolls {
            machine.ok("rm /run/go && systemctl reload --no-block web");
            machine.wait_for_property("web@2", "SubState", "start");
        }
        machine.ok("systemctl stop system-web.slice");
        machine.wait_for_property("web", "ActiveState", "inactive");
        nothing_is_left(machine);
        assert_eq!(machine.show("web", "NRestarts"), "0");
    }
}
