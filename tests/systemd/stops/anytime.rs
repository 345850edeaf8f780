//! A stop comes at any moment of a roll, whatever has become of procroll: alive, stopped, frozen, dead. And a service that
//! fails once too often has stopped.

use super::nothing_is_left;
use crate::machine::{Machine, SUITES};
use crate::{transient, with_lines, wrapper};

on_each_systemd!(
    a_stop_is_a_stop_at_any_moment,
    a_restart_is_one_at_any_moment,
    failures_beyond_the_start_limit_leave_nothing,
);
// Before, each generation would have to be started anew, and the limit is the same.
from_systemd_257!(crashes_beyond_the_start_limit_leave_nothing);

const MOMENTS: &[&str] = &["at rest", "while one starts", "while one settles", "while one ends"];

/// What is done to procroll just before.
const FATES: &[&str] = &["true", STOPPED, FROZEN, HUNG, KILLED, DEAD];
const STOPPED: &str = "systemctl kill --signal=STOP --kill-whom=main web";
/// That is for systemd to know, which takes it back for a stop; or from 257 on refuses the stop until somebody has.
const FROZEN: &str = "systemctl freeze web";
/// And of this it knows nothing.
const HUNG: &str = "echo 1 >/sys/fs/cgroup/system.slice/web.service/cgroup.freeze";
const KILLED: &str = "systemctl kill --signal=KILL --kill-whom=main web";
const DEAD: &str = "systemctl kill --signal=KILL --kill-whom=main web && until systemctl show --property=SubState web | \
    grep --quiet auto-restart; do sleep 0.01; done";

/// A service that reloads can't be frozen.
fn scenes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = MOMENTS.iter().flat_map(|moment| FATES.iter().map(move |fate| (*moment, *fate)));
    all.filter(|(moment, fate)| *fate != FROZEN || !["while one starts", "while one settles"].contains(moment))
}

fn unit(settle: &str, steps: &str) -> String {
    // Time for one that ends to be seen, and for procroll to ask for more.
    let lines = "RestartSec=1min\nTimeoutStopSec=2s";
    let unit = with_lines(lines, &format!("--settle={settle} --shutdown-timeout=2s"), steps);
    unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n")
}

/// Brings the service to this moment.
fn bring_to(machine: &Machine, moment: &str) {
    let steps = if moment == "while one ends" { "deaf ready run" } else { "wait /run/go ready run" };
    machine.unit("web.service", &unit("0", steps));
    machine.ok("touch /run/go && systemctl reset-failed && systemctl start web");
    match moment {
        "while one starts" => {
            machine.ok("rm /run/go && systemctl reload --no-block web");
            machine.wait_for_property("web@2", "SubState", "start");
        }
        "while one settles" => {
            machine.unit("web.service", &unit("1min", steps));
            machine.ok("systemctl reload --no-block web");
            machine.wait_for_property("web@2", "SubState", "running");
        }
        "while one ends" => {
            machine.ok("systemctl reload web");
            machine.wait_for_property("web@1", "ActiveState", "deactivating");
        }
        _ => {}
    }
}

/// No process. A unit that failed may stay to be looked at, where procroll is not there to clear it away.
fn nothing_runs(machine: &Machine) {
    assert_eq!(machine.run("pgrep --full ^/usr/bin/python3./usr/bin/[p]ayload").status, Some(1));
    assert_eq!(machine.run("pgrep --exact procroll").status, Some(1));
    assert_eq!(machine.ok("systemctl list-units --plain --no-legend --all --state=active,activating 'web@*'"), "");
    assert_eq!(machine.ok("systemctl list-jobs --no-legend"), "");
}

/// Where procroll could not clear away: units that failed stay to be looked at, with their files, as systemd keeps any other.
fn only_failures_are_left(machine: &Machine, scene: &str) {
    let failed = machine.wait_for(scene, || {
        let failed = machine.ok("systemctl list-units --all --plain --no-legend --state=failed 'web@*'");
        (machine.ok("systemctl list-units --all --plain --no-legend 'web@*' 'procroll@*'") == failed).then_some(failed)
    });
    for folder in transient(machine).lines() {
        assert!(failed.contains(folder.trim_end_matches(".d")), "{scene}: {folder}");
    }
    let files = machine.run("find /run -name '*procroll*' -not -path '/run/systemd/transient/web@*'").stdout;
    assert_eq!(files, "", "{scene}");
}

/// The units that have been started since the mark, and the mark is gone.
fn started_since(machine: &Machine, mark: &str) -> Vec<String> {
    let journal = machine.journal("");
    let (_, since) = journal.rsplit_once(mark).expect("the mark");
    since.lines().filter(|line| line.starts_with("Starting web")).map(str::to_owned).collect()
}

fn a_stop_is_a_stop_at_any_moment(machine: &Machine) {
    for (moment, fate) in scenes() {
        let scene = format!("A stop {moment}, after: {fate}");
        bring_to(machine, moment);
        machine.ok(fate);
        // It goes another way than what systemd has said before.
        machine.ok(&format!("journalctl --sync && echo '{scene}' | systemd-cat"));
        if fate == FROZEN && machine.suite.direct {
            assert_ne!(machine.run("systemctl stop web").status, Some(0), "{scene}: it is refused");
            machine.wait_for(&scene, || {
                (machine.run("pgrep --full ^/usr/bin/python3./usr/bin/[p]ayload").status == Some(1)).then_some(())
            });
            machine.ok("systemctl thaw web");
        }
        machine.ok("systemctl stop web");
        machine.wait_for(&scene, || {
            matches!(machine.show("web", "ActiveState").as_str(), "inactive" | "failed").then_some(())
        });
        machine.wait_for(&scene, || machine.ok("systemctl list-jobs --no-legend").is_empty().then_some(()));
        assert_eq!(started_since(machine, &scene), [] as [&str; 0], "{scene}");
        nothing_runs(machine);
        if [HUNG, KILLED, DEAD].contains(&fate) {
            only_failures_are_left(machine, &scene);
        } else {
            nothing_is_left(machine);
            // A stop that was refused has ended the generations nevertheless, and procroll says how.
            assert!(fate == FROZEN || machine.show("web", "Result") == "success", "{scene}");
        }
    }
    // The next start clears away whatever was left.
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl stop web");
    nothing_is_left(machine);
}

fn a_restart_is_one_at_any_moment(machine: &Machine) {
    // Some on each, and all on all of them.
    let version = SUITES.iter().position(|suite| suite.version == machine.suite.version).expect("one of them");
    for (moment, fate) in scenes().skip(version).step_by(SUITES.len()) {
        let scene = format!("A restart {moment}, after: {fate}");
        bring_to(machine, moment);
        let before = machine.ok("pgrep --full ^/usr/bin/python3./usr/bin/[p]ayload");
        machine.ok(&format!("touch /run/go; {fate}"));
        machine.unit("web.service", &unit("0", "ready run"));
        machine.ok("systemctl restart web || { systemctl thaw web; systemctl restart web; }");
        let units = machine.ok("systemctl list-units --plain --no-legend --state=active 'web@*'");
        assert_eq!(units.lines().count(), 1, "{scene}: {units}");
        // Nobody but procroll would have had the old one end first.
        let now = machine.wait_for(&scene, || {
            Some(machine.ok("pgrep --full ^/usr/bin/python3./usr/bin/[p]ayload")).filter(|now| now.lines().count() == 1)
        });
        assert!(before.lines().all(|pid| pid != now), "{scene}");
        assert_eq!(machine.ok("pgrep --exact --count procroll"), "1", "{scene}");
        machine.ok("systemctl stop web");
        nothing_is_left(machine);
    }
}

/// One that systemd soon gives up.
fn failing(options: &str, steps: &str) -> String {
    let unit = with_lines("RestartSec=1ms\nTimeoutStopSec=500ms", options, steps);
    unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n")
}

/// Whatever is left of it, the next start clears it away.
fn fails_for_good(machine: &Machine, why: &str) {
    machine.wait_for_property("web", "SubState", "failed");
    machine.wait_for(why, || machine.ok("systemctl list-jobs --no-legend").is_empty().then_some(()));
    nothing_runs(machine);
    only_failures_are_left(machine, why);
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl reset-failed web && systemctl start web");
    assert_eq!(machine.units("web@*").len(), 1);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn failures_beyond_the_start_limit_leave_nothing(machine: &Machine) {
    // The application fails at its start, or whenever it has served for a moment; or it can't be started at all.
    for (options, steps) in
        [("", "exit 3"), ("", "ready exit 3"), ("", "leave ready exit 3"), ("--no-such", "ready run")]
    {
        machine.unit("web.service", &failing(&format!("--settle=0 {options}"), steps));
        machine.run("systemctl start web");
        fails_for_good(machine, steps);
    }
}

fn crashes_beyond_the_start_limit_leave_nothing(machine: &Machine) {
    for steps in ["ready run", "leave ready run"] {
        machine.unit("web.service", &failing("--settle=0", steps));
        machine.ok("systemctl start web");
        machine.wait_for("one crash too many", || {
            machine.run(KILLED);
            (machine.show("web", "SubState") == "failed").then_some(())
        });
        fails_for_good(machine, steps);
    }
}
