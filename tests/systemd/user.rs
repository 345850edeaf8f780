//! The same in a user's service manager, without root: `systemctl --user`.

use crate::machine::Machine;
use crate::wrapper;

on_each_systemd!(a_user_rolls_services_of_their_own, a_user_runs_one_from_a_terminal);

/// What alice types.
fn alice(line: &str) -> String {
    format!("runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) sh -c \"{line}\"")
}

fn user(machine: &Machine) {
    machine.ok("useradd --create-home alice && loginctl enable-linger alice");
    machine.wait_for("alice's manager", || {
        (machine.run(&alice("systemctl --user is-system-running --wait")).stdout == "running").then_some(())
    });
}

fn show(machine: &Machine, unit: &str, property: &str) -> String {
    machine.ok(&alice(&format!("systemctl --user show --property={property} --value {unit}")))
}

fn units(machine: &Machine, pattern: &str) -> Vec<String> {
    let listed = machine.ok(&alice(&format!("systemctl --user list-units --all --plain --no-legend '{pattern}'")));
    listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn write(machine: &Machine, text: &str) {
    machine.write("/home/alice/.config/systemd/user/web.service", text);
    machine.ok("chown --recursive alice /home/alice");
    machine.ok(&alice("systemctl --user daemon-reload"));
}

fn a_user_rolls_services_of_their_own(machine: &Machine) {
    user(machine);
    // It finds out by itself whose manager runs it, and needs no +.
    let unit = |steps: &str| wrapper("--settle=0 -p Nice=3 -E A=b", steps).replace("=+/", "=/");
    write(machine, &unit("facts ready run"));
    machine.ok(&alice("systemctl --user start web && systemctl --user reload web"));
    machine.wait_for("the old one to go", || (units(machine, "web@*") == ["web@2.service"]).then_some(()));
    let pid = show(machine, "web@2", "MainPID");
    assert_eq!(show(machine, "web", "StatusText"), format!("web@2.service (main PID {pid}) serves"));
    assert_eq!(show(machine, "web@2", "Nice"), "3");
    assert_eq!(machine.ok(&format!("stat --format=%U /proc/{pid}")), "alice");

    // A roll that fails, and what is said to type.
    write(machine, &unit("exit 3"));
    assert_ne!(machine.run(&alice("systemctl --user reload web")).status, Some(0));
    let status = show(machine, "web", "StatusText");
    let commands = "See \"systemctl --user status web@3.service\" and \"journalctl -xe --user-unit=web@3.service\"";
    assert!(status.contains("(Result=exit-code, status=3)") && status.contains(commands), "{status}");
    machine.write("/home/alice/.config/systemd/user/web.service", &unit("ready run"));
    assert_ne!(machine.run(&alice("systemctl --user reload web")).status, Some(0));
    assert!(show(machine, "web", "StatusText").contains("Type \"systemctl --user daemon-reload\""));

    // It may crash.
    write(machine, &unit("ready run"));
    machine.ok(&alice("systemctl --user kill --kill-whom=main --signal=KILL web"));
    machine.wait_for("the next procroll", || {
        (show(machine, "web", "StatusText") == format!("web@2.service (main PID {pid}) serves")
            && show(machine, "web", "NRestarts") == "1")
            .then_some(())
    });
    machine.ok(&alice("systemctl --user reload web && systemctl --user stop web"));
    assert_eq!(units(machine, "web@*"), [] as [&str; 0]);
    assert_eq!(machine.ok("ls /run/user/$(id -u alice)/systemd/transient"), "");
    assert_eq!(machine.run("pgrep --full /usr/bin/[p]ayload").status, Some(1), "no process");
}

fn a_user_runs_one_from_a_terminal(machine: &Machine) {
    user(machine);
    let line =
        alice("exec procroll --systemd-run --user --unit=job --settle=0 -p Nice=3 -- /usr/bin/payload ready run");
    let mut job = machine.spawn(&["sh", "-c", &line]);
    machine.wait_for("it to serve", || (show(machine, "job@1", "SubState") == "running").then_some(()));
    assert_eq!(show(machine, "job@1", "Nice"), "3");
    machine.ok("pkill --signal=HUP procroll");
    machine.wait_for("the roll", || (units(machine, "job@*") == ["job@2.service"]).then_some(()));
    machine.ok("pkill procroll");
    assert!(job.wait().expect("it ends").success());
    assert_eq!(units(machine, "job@*"), [] as [&str; 0]);
}
