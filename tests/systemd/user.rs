//! The same in a user's service manager, without root: `systemctl --user`.

use crate::machine::Machine;
use crate::wrapper;

on_each_systemd!(a_user_rolls_services_of_their_own, a_user_runs_one_from_a_terminal, a_user_runs_one_in_a_scope);
from_systemd_257!(a_users_generation_outlives_procroll);

/// A unit of alice's. procroll finds out by itself whose manager runs it, and needs no +.
fn unit(steps: &str) -> String {
    wrapper("--settle=0 -p Nice=3 -E A=b", steps).replace("=+/", "=/")
}

/// What alice types.
pub fn alice(line: &str) -> String {
    format!("runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) sh -c \"{line}\"")
}

/// Lets alice have a manager.
pub fn user(machine: &Machine) {
    machine.ok("useradd --create-home alice && loginctl enable-linger alice");
    machine.wait_for("alice's manager", || {
        (machine.run(&alice("systemctl --user is-system-running --wait")).stdout == "running").then_some(())
    });
}

/// A property of a unit of alice's.
pub fn show(machine: &Machine, unit: &str, property: &str) -> String {
    machine.ok(&alice(&format!("systemctl --user show --property={property} --value {unit}")))
}

/// The names of all units of alice's that match.
pub fn units(machine: &Machine, pattern: &str) -> Vec<String> {
    let listed = machine.ok(&alice(&format!("systemctl --user list-units --all --plain --no-legend '{pattern}'")));
    listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Installs a unit file of alice's and makes her manager read it.
pub fn write(machine: &Machine, name: &str, text: &str) {
    machine.write(&format!("/home/alice/.config/systemd/user/{name}"), text);
    machine.ok("chown --recursive alice /home/alice");
    machine.ok(&alice("systemctl --user daemon-reload"));
}

fn a_user_rolls_services_of_their_own(machine: &Machine) {
    user(machine);
    write(machine, "web.service", &unit("facts ready run"));
    machine.ok(&alice("systemctl --user start web && systemctl --user reload web"));
    machine.wait_for("the old one to go", || (units(machine, "web@*") == ["web@2.service"]).then_some(()));
    let pid = show(machine, "web@2", "MainPID");
    let serves = format!("web@2.service (main PID {pid}) serves");
    machine.wait_for("procroll to see that", || (show(machine, "web", "StatusText") == serves).then_some(()));
    assert_eq!(show(machine, "web@2", "Nice"), "3");
    assert_eq!(machine.ok(&format!("stat --format=%U /proc/{pid}")), "alice");

    // A roll that fails, and what is said to type.
    write(machine, "web.service", &unit("exit 3"));
    assert_ne!(machine.run(&alice("systemctl --user reload web")).status, Some(0));
    let status = show(machine, "web", "StatusText");
    let commands = "See \"systemctl --user status web@3.service\" and \"journalctl -xe --user-unit=web@3.service\"";
    assert!(status.contains("(Result=exit-code, status=3)") && status.contains(commands), "{status}");
    let fields = "USER_UNIT=web@3.service GENERATION=3 MESSAGE_ID=7c83927ddc414af3ba91399fca73c73a";
    assert!(
        machine.journal(fields).contains("Roll failed, web@2.service serves on"),
        "in the journal, with its fields"
    );
    machine.write("/home/alice/.config/systemd/user/web.service", &unit("ready run"));
    assert_ne!(machine.run(&alice("systemctl --user reload web")).status, Some(0));
    assert!(show(machine, "web", "StatusText").contains("Type \"systemctl --user daemon-reload\""));
    machine.ok(&alice("systemctl --user daemon-reload && procroll reload --user web && systemctl --user stop web"));
    nothing_is_left(machine);
}

fn a_user_runs_one_in_a_scope(machine: &Machine) {
    user(machine);
    let options = "--scope --user --settle=0 --unit=web --service-type=exec -p TasksMax=20";
    let outcome = machine.run(&alice(&format!("procroll run {options} -- sh -c 'cat /proc/self/cgroup; exit 4'")));
    assert_eq!(outcome.status, Some(4), "{outcome:?}");
    assert!(outcome.stdout.contains("/user@") && outcome.stdout.ends_with("/web-1.scope"), "{outcome:?}");
    machine.wait_for("the scope to go", || units(machine, "web-*").is_empty().then_some(()));
    nothing_is_left(machine);
    let system = machine.run(&alice("procroll run --scope --unit=web -- true"));
    assert_eq!(system.status, Some(173), "{system:?}");
    assert!(system.stderr.contains("Try it with sudo, or with --user"), "{system:?}");
}

fn nothing_is_left(machine: &Machine) {
    machine.wait_for("the guard to go", || units(machine, "procroll@*").is_empty().then_some(()));
    assert_eq!(units(machine, "web@*"), [] as [&str; 0]);
    assert_eq!(machine.ok("ls /run/user/$(id -u alice)/systemd/transient"), "");
    assert_eq!(machine.run("find /run -name '*procroll*'").stdout, "", "no folder of ours");
    assert_eq!(machine.run("pgrep --full /usr/bin/[p]ayload").status, Some(1), "no process");
}

fn a_users_generation_outlives_procroll(machine: &Machine) {
    user(machine);
    write(machine, "web.service", &unit("ready run"));
    machine.ok(&alice("systemctl --user start web"));
    let pid = show(machine, "web@1", "MainPID");
    machine.ok(&alice("systemctl --user kill --kill-whom=main --signal=KILL web"));
    machine.wait_for("the next procroll", || {
        (show(machine, "web", "StatusText") == format!("web@1.service (main PID {pid}) serves")
            && show(machine, "web", "NRestarts") == "1"
            && show(machine, "web", "ActiveState") == "active")
            .then_some(())
    });
    machine.ok(&alice("systemctl --user reload web && systemctl --user stop web"));
    nothing_is_left(machine);
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
