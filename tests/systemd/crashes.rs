//! procroll itself may crash: the running generation never notices, and the next procroll takes over (G3).

use crate::machine::{Answers, Load, Machine};
use crate::{SOCKET, gunicorn, wrapper};

on_each_systemd!(
    the_next_procroll_takes_over_the_running_generation,
    a_roll_left_half_way_is_settled,
    no_request_is_lost_when_procroll_is_killed,
    what_is_somebody_elses_is_not_taken_over,
    a_new_name_for_generations_takes_a_restart,
);

fn kill(machine: &Machine, restarts: &str) {
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web");
    machine.wait_for_property("web", "NRestarts", restarts);
}

fn the_next_procroll_takes_over_the_running_generation(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    let (procroll, pid) = (machine.show("web", "MainPID"), machine.show("web@2", "MainPID"));
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@2.service (main PID {pid}) serves"));
    assert_ne!(machine.show("web", "MainPID"), procroll);
    assert_eq!(machine.show("web@2", "MainPID"), pid, "it never noticed");
    // It goes on counting, and is in charge as before.
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
}

fn a_roll_left_half_way_is_settled(machine: &Machine) {
    machine.ok("touch /run/go");
    machine.unit("web.service", &wrapper("--settle=0", "wait /run/go ready run"));
    machine.ok("systemctl start web && rm /run/go");
    let reload = machine.spawn(&["systemctl", "reload", "web"]);
    machine.wait_for_property("web@2", "ActiveState", "activating");
    kill(machine, "1");
    let _ = reload.wait_with_output();
    machine.wait_for("the new procroll to see both", || {
        machine.show("web", "StatusText").ends_with("serves; web@2.service starts").then_some(())
    });
    machine.ok("touch /run/go");
    machine.wait_for("the roll to end", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.wait_for_property("web", "ActiveState", "active");
}

fn no_request_is_lost_when_procroll_is_killed(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    let unit = gunicorn("--settle=100ms", "app").replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n");
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    for restart in 1..=5 {
        kill(machine, &restart.to_string());
        machine.wait_for_property("web", "ActiveState", "active");
        machine.ok("systemctl reload web");
    }
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert!(answers.answered > 0);
}

fn what_is_somebody_elses_is_not_taken_over(machine: &Machine) {
    machine.ok("systemd-run --quiet --unit=web@7.service sleep infinity");
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    // What procroll was about to write when it was killed.
    machine.ok("mkdir /run/systemd/transient/web.service.procroll");
    let pid = machine.show("web@1", "MainPID");
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), ["web@7.service"]);
    assert_eq!(machine.ok("ls /run/systemd/transient"), "web@7.service");
}

fn a_new_name_for_generations_takes_a_restart(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let pid = machine.show("web@1", "MainPID");
    machine.unit("web.service", &wrapper("--settle=0 --unit=new", "ready run"));
    kill(machine, "1");
    machine.wait_for_property("web", "StatusText", &format!("web@1.service (main PID {pid}) serves"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains("--unit= has changed from web to new, which takes a restart"), "{status}");
    machine.ok("systemctl restart web");
    assert_eq!((machine.units("web@*"), machine.units("new@*")), (vec![], vec!["new@1.service".to_owned()]));
}
