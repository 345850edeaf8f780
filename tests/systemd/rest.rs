//! At rest procroll costs nothing: no connection, no wake-up, one thread.

use crate::machine::Machine;
use crate::wrapper;

on_each_systemd!(at_rest_it_holds_no_connection_and_never_wakes);

fn at_rest_it_holds_no_connection_and_never_wakes(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let pid = machine.show("web", "MainPID");
    machine.wait_for("the connection to close", || {
        let clients = machine.ok("busctl list --no-legend --no-pager");
        (!clients.lines().any(|line| line.split_whitespace().nth(1) == Some(&pid))).then_some(())
    });
    assert_eq!(machine.ok(&format!("ls /proc/{pid}/task | wc -l")), "1");
    let switches = || machine.ok(&format!("grep ctxt_switches /proc/{pid}/status"));
    // Its last one may be on its way.
    let mut last = switches();
    let before = machine.wait_for("it to be at rest", || {
        let before = std::mem::replace(&mut last, switches());
        (before == last).then_some(before)
    });
    // There is no event to wait for where nothing is to happen.
    machine.ok("sleep 3");
    assert_eq!(switches(), before);

    // And still it notices at once.
    machine.ok("systemctl kill --signal=KILL web@2");
    machine.wait_for_property("web", "NRestarts", "1");
}
