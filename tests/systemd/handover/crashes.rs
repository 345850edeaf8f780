//! procroll may be killed in the middle of a handover, also while nothing runs.

use std::process::Child;

use super::{ALONE, fails, reload, serves, start, unit};
use crate::machine::Machine;
use crate::payloads::is_at_rest;
use crate::stops::nothing_is_left;

on_each_systemd!(
    killed_while_the_old_one_stops_it_waits_for_that_the_next_time,
    killed_while_nothing_runs_it_starts_what_the_unit_says,
    killed_while_the_new_one_starts_it_takes_over,
    killed_while_the_new_one_settles_it_takes_over,
    killed_while_the_old_settings_start_again_it_takes_over,
);

fn kill(machine: &Machine) {
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", "1");
}

/// In the end one serves, and is rolled and stopped like any other.
fn is_in_charge(machine: &Machine, unit: &str) {
    machine.wait_for(&format!("{unit} to serve"), || {
        machine.show("web", "StatusText").starts_with(&serves(machine, unit)).then_some(())
    });
    machine.wait_for_property("web", "ActiveState", "active");
    machine.wait_for("the others to go", || (machine.units("web@*") == [unit]).then_some(()));
    assert_eq!(machine.show("web", "NRestarts"), "1");
    machine.unit("web.service", &self::unit("", "--settle=0", &format!("{ALONE} ready run")));
    machine.ok("systemctl reload web && systemctl stop web");
    nothing_is_left(machine);
}

/// Where systemd goes on with the job, it is told what comes of the start that it has become.
fn is_told(machine: &Machine, reload: Child) {
    let output = reload.wait_with_output().expect("systemctl reload");
    assert_eq!(output.status.success(), machine.suite.notify_reload, "{output:?}");
}

fn killed_while_the_old_one_stops_it_waits_for_that_the_next_time(machine: &Machine) {
    start(machine, "TimeoutStopSec=10s", "--settle=0", "deaf ready run");
    machine.unit("web.service", &unit("Environment=NEW=1", "--settle=0", &format!("{ALONE} facts ready run")));
    let reload = reload(machine);
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    kill(machine);
    machine.wait_for_property("web", "StatusText", "web@2.service waits for all others to stop; web@1.service stops");
    // Had it been started too soon, the lock would have been the old one's.
    is_in_charge(machine, "web@2.service");
    assert!(machine.output("web@2.service").contains("\"NEW\": \"1\""));
    is_told(machine, reload);
}

fn killed_while_nothing_runs_it_starts_what_the_unit_says(machine: &Machine) {
    start(machine, "TimeoutStopSec=1min", "--settle=0", "deaf ready run");
    machine.unit("web.service", &unit("Environment=NEW=1", "--settle=0", &format!("{ALONE} facts ready run")));
    let reload = reload(machine);
    machine.wait_for_property("web@1", "ActiveState", "deactivating");
    // It does not see the old one go.
    machine.ok("systemctl kill --kill-whom=main --signal=STOP web");
    machine.ok("systemctl kill --signal=KILL web@1");
    machine.wait_for_property("web@1", "ActiveState", "failed");
    kill(machine);
    let unit = machine.wait_for("a generation", || {
        let units = machine.units("web@*");
        units.into_iter().find(|unit| machine.show(unit, "ActiveState") == "active")
    });
    assert!(machine.output(&unit).contains("\"NEW\": \"1\""));
    is_in_charge(machine, &unit);
    is_told(machine, reload);
}

fn killed_while_the_new_one_starts_it_takes_over(machine: &Machine) {
    start(machine, "", "--settle=0", "ready run");
    machine.unit("web.service", &unit("", "--settle=0", &format!("{ALONE} wait /run/go ready run")));
    let reload = reload(machine);
    machine.wait_for_property("web@2", "ActiveState", "activating");
    let pid = machine.show("web@2", "MainPID");
    kill(machine);
    machine.wait_for_property("web", "StatusText", "web@2.service starts");
    machine.ok("touch /run/go");
    machine.wait_for_property("web", "StatusText", &format!("web@2.service (main PID {pid}) serves"));
    is_in_charge(machine, "web@2.service");
    is_told(machine, reload);
}

fn killed_while_the_new_one_settles_it_takes_over(machine: &Machine) {
    start(machine, "", "--settle=0", "ready run");
    machine.unit("web.service", &unit("", "--settle=1h", &format!("{ALONE} ready run")));
    let reload = reload(machine);
    machine.wait_for_property("web@2", "ActiveState", "active");
    let pid = machine.show("web@2", "MainPID");
    kill(machine);
    machine.wait_for_property("web", "StatusText", &format!("web@2.service (main PID {pid}) serves"));
    is_in_charge(machine, "web@2.service");
    fails(reload);
}

fn killed_while_the_old_settings_start_again_it_takes_over(machine: &Machine) {
    machine.ok("touch /run/go");
    start(machine, "Environment=OLD=1", "--settle=0", "wait /run/go facts ready run");
    machine.ok("rm /run/go");
    machine.unit("web.service", &unit("", "--settle=0", "exit 3"));
    let reload = reload(machine);
    machine.wait_for_property("web@3", "ActiveState", "activating");
    kill(machine);
    machine.wait_for_property("web", "StatusText", "web@3.service starts");
    machine.ok("touch /run/go");
    // The roll has failed, whoever says so.
    fails(reload);
    machine.wait_for("it to serve", || {
        machine.show("web", "StatusText").starts_with(&serves(machine, "web@3.service")).then_some(())
    });
    assert!(machine.output("web@3.service").contains("\"OLD\": \"1\""));
    is_at_rest(machine);
    assert_eq!(machine.units("web@*"), ["web@2.service", "web@3.service"], "what it failed with is to be looked at");
    machine.ok("systemctl reset-failed web@2");
    is_in_charge(machine, "web@3.service");
}
