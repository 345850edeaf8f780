//! procroll is root beside an application that may be hostile, and other users: neither gets anywhere (G11).

use crate::machine::Machine;
use crate::wrapper;

on_each_systemd!(a_forged_signal_is_not_systemds);

fn a_forged_signal_is_not_systemds(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go exit 3"));
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "SubState", "start");
    let connection = machine.ok("busctl list --no-legend | awk '$3 == \"procroll\" { print $1 }'");
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
