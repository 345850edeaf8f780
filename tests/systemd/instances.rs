//! Instances of a template as wrappers, the names of generations, and the slices that they are in.

use crate::machine::Machine;
use crate::settings::facts;
use crate::{owner, transient, user, with_lines, wrapper};

on_each_systemd!(
    instances_of_a_template_are_rolled_side_by_side,
    specifiers_mean_the_instance,
    drop_ins_of_the_template_and_of_the_instance_apply,
    a_dynamic_user_is_the_same_for_wrapper_and_generations,
    an_instance_of_a_socket_is_the_instances_own,
    two_wrappers_whose_generations_would_have_one_name_are_told_apart,
    a_name_that_has_become_somebody_elses_refuses_the_roll,
    generations_are_where_the_limits_of_an_instance_hold,
    a_limit_for_all_generations_stays_from_roll_to_roll,
    options_are_checked_under_a_name_with_a_colon,
    what_cannot_be_an_instance_with_generations_is_refused,
    a_user_rolls_an_instance_of_their_own,
);

from_systemd_257!(the_next_procroll_takes_over_an_instances_generation);

const NAME_TAKEN: &str = "175";
const UNIT_REFUSED: &str = "174";

/// A unit that ends in its failure, so that its exit status can be read.
fn once(unit: &str) -> String {
    unit.replace("Restart=on-failure\n", "")
}

fn instances_of_a_template_are_rolled_side_by_side(machine: &Machine) {
    machine.unit("app@.service", &wrapper("--settle=0", "ready run %i"));
    machine.ok("systemctl start app@blue app@green");
    assert_eq!(machine.units("app:*"), ["app:blue@1.service", "app:green@1.service"]);
    let green = machine.show("app:green@1", "MainPID");
    machine.ok("systemctl reload app@blue");
    machine.wait_for("the old one to go", || {
        (machine.units("app:*") == ["app:blue@2.service", "app:green@1.service"]).then_some(())
    });
    assert_eq!(machine.show("app:green@1", "MainPID"), green, "the other one never noticed");
    let pid = machine.show("app:blue@2", "MainPID");
    machine.wait_for_property("app@blue", "StatusText", &format!("app:blue@2.service (main PID {pid}) serves"));
    assert!(machine.ok(&format!("tr '\\0' ' ' </proc/{pid}/cmdline")).ends_with("ready run blue"));

    // One that can't be rolled, and the others that can.
    machine.unit("app@blue.service.d/fail.conf", "[Service]\nEnvironment=A=b\nExecStartPre=test -e /run/fine\n");
    assert_ne!(machine.run("systemctl reload app@blue").status, Some(0));
    let status = machine.show("app@blue", "StatusText");
    let failed = format!("app:blue@2.service (main PID {pid}) serves; last roll failed: app:blue@3.service failed");
    assert!(status.starts_with(&failed), "{status}");
    assert!(status.contains("See \"systemctl status app:blue@3.service\""), "{status}");
    machine.ok("systemctl reload app@green");
    machine.ok("touch /run/fine && systemctl reload app@blue");

    machine.ok("systemctl restart app@blue");
    assert_eq!(machine.units("app:blue@*"), ["app:blue@1.service"]);
    machine.ok("systemctl stop app@blue");
    machine.wait_for("the old one to go", || (machine.units("app:*") == ["app:green@2.service"]).then_some(()));
    machine.ok("systemctl stop app@green");
    // The guard keeps its wrapper loaded until it goes.
    machine.wait_for("all to go", || machine.units("*app*@*").is_empty().then_some(()));
    assert_eq!(transient(machine), "");
}

fn specifiers_mean_the_instance(machine: &Machine) {
    let all = "Environment=\"ALL=%n %N %p %P %i %I %j %J %f %y %Y %%i\"\nWorkingDirectory=%f\n";
    for name in ["app@blue", "my-app@a-b", "app@srv", "app@a:b", "app@me@host", "app@-"] {
        let (prefix, instance) = name.split_once('@').expect("an instance");
        let plain = prefix.replace("app", "plain");
        // WorkingDirectory= is the wrapper's too, so it has to be there.
        machine.ok(&format!("mkdir -p \"$(systemd-escape --unescape --path -- '{instance}')\""));
        let steps = "facts ready run %n %i";
        let unit = format!("[Service]\nType=notify\n{all}ExecStart=/usr/bin/payload {steps}\n");
        machine.write(&format!("/etc/systemd/system/{plain}@.service"), &unit);
        machine.unit(&format!("{prefix}@.service"), &with_lines(all, "--settle=0", steps));
        machine.ok(&format!("systemctl start '{plain}@{instance}' '{name}'"));
        let plain = facts(machine, &format!("{plain}@{instance}.service")).to_string().replace("plain", "app");
        let generation = format!("{}@1.service", name.replace('@', ":"));
        assert_eq!(facts(machine, &generation).to_string(), plain, "{name}");
        machine.ok(&format!("systemctl stop '{name}'"));
    }
}

fn drop_ins_of_the_template_and_of_the_instance_apply(machine: &Machine) {
    let drop_in = |folder: &str, name: &str, text: &str| {
        machine.write(&format!("/etc/systemd/system/{folder}/{name}"), &format!("[Service]\n{text}\n"));
    };
    drop_in("service.d", "05-all.conf", "Environment=A=all B=all");
    drop_in("my-app@.service.d", "10-template.conf", "Environment=B=%i C=template D=template");
    drop_in("my-app@blue.service.d", "20-instance.conf", "Environment=C=instance");
    drop_in("my-.service.d", "prefix.conf", "Environment=P=prefix\nExecStartPre=sh -c 'echo ran >>/run/ran'");
    drop_in("my-@blue.service.d", "odd.conf", "Environment=O=odd");
    // Not the wrapper's, though a generation's by its name.
    drop_in("my-app:blue@.service.d", "generations.conf", "Environment=G=generations");
    drop_in("my-@1.service.d", "number.conf", "Environment=N=number");
    // Another instance's.
    drop_in("my-app@green.service.d", "green.conf", "Environment=D=green");
    machine.unit("my-app@.service", &with_lines("", "--settle=0", "facts ready run"));
    machine.ok("systemctl start my-app@blue");
    let environment = &facts(machine, "my-app:blue@1.service")["environment"];
    for (name, value) in
        [("A", "all"), ("B", "blue"), ("C", "instance"), ("D", "template"), ("P", "prefix"), ("O", "odd")]
    {
        assert_eq!(environment[name], value, "{name}");
    }
    for none in ["G", "N"] {
        assert!(environment[none].is_null(), "{none}");
    }
    assert_eq!(machine.read("/run/ran"), "ran\nran\n", "once for the wrapper and once for the generation");
    let order = |unit: &str| machine.show(unit, "Environment");
    assert_eq!(order("my-app:blue@1"), order("my-app@blue"));
}

fn a_dynamic_user_is_the_same_for_wrapper_and_generations(machine: &Machine) {
    let lines = "DynamicUser=yes\nStateDirectory=state\nCacheDirectory=state\nLogsDirectory=state\n\
        RuntimeDirectory=state\nRuntimeDirectoryPreserve=restart\n\
        ExecStartPre=sh -c 'id -u | tee --append /var/lib/state/log /run/state/log'";
    machine.unit("made@.service", &with_lines(lines, "--settle=0", "ready run"));
    machine.unit("other.service", &with_lines(lines, "--settle=0 --unit=pool", "ready run"));
    for (wrapper, base, user) in [("made@blue", "made:blue", "made"), ("other", "pool", "other")] {
        machine.ok(&format!("systemctl start {wrapper} && systemctl reload {wrapper}"));
        machine.wait_for("the old one to go", || {
            (machine.units(&format!("{base}@*")) == [format!("{base}@2.service")]).then_some(())
        });
        for unit in [wrapper, &format!("{base}@2")] {
            assert_eq!((machine.show(unit, "User"), machine.show(unit, "Group")), (user.to_owned(), user.to_owned()));
        }
        // Each of the three could write what the others had written.
        let main_pid = machine.show(&format!("{base}@2"), "MainPID");
        let owner = machine.ok(&format!("stat --format=%u /proc/{main_pid}"));
        for folder in ["/var/lib/private", "/run/private"] {
            assert_eq!(machine.read(&format!("{folder}/state/log")), format!("{owner}\n").repeat(3), "{folder}");
        }
        machine.ok(&format!("systemctl stop {wrapper} && rm /var/lib/private/state/log"));
    }
}

fn an_instance_of_a_socket_is_the_instances_own(machine: &Machine) {
    let socket = "[Socket]\nListenStream=/run/%i.sock\nFileDescriptorName=of-%i\n";
    machine.write("/etc/systemd/system/app@.socket", socket);
    let unit = wrapper("--settle=0", "facts ready run");
    let unit = unit.replace("[Unit]\n", "[Unit]\nRequires=app@%i.socket\nAfter=app@%i.socket\n");
    machine.unit("app@.service", &unit);
    machine.ok("systemctl start app@blue app@green && systemctl reload app@blue");
    for (generation, name) in [("app:blue@1", "of-blue"), ("app:blue@2", "of-blue"), ("app:green@1", "of-green")] {
        let environment = &facts(machine, &format!("{generation}.service"))["environment"];
        assert_eq!((&environment["LISTEN_FDS"], &environment["LISTEN_FDNAMES"]), (&"1".into(), &name.into()));
    }
    // One that forgets to ask for its socket is told of it.
    machine.write("/etc/systemd/system/bare@.socket", "[Socket]\nListenStream=/run/bare-%i.sock\n");
    machine.unit("bare@.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start bare@blue");
    let log = machine.log("bare@blue.service");
    assert!(log.contains("there is a bare@blue.socket") && log.contains("Requires=bare@blue.socket"), "{log}");

    machine.ok("systemctl stop app@blue.socket");
    assert_ne!(machine.run("systemctl reload app@blue").status, Some(0), "without its socket");
    machine.ok("systemctl reload app@green");
}

fn two_wrappers_whose_generations_would_have_one_name_are_told_apart(machine: &Machine) {
    let unit = once(&wrapper("--settle=0", "ready run"));
    machine.write("/etc/systemd/system/app@.service", &unit);
    machine.unit("app:blue.service", &unit);
    for (first, second) in [("app@blue", "app:blue"), ("app:blue", "app@blue")] {
        machine.ok(&format!("systemctl start {first}"));
        assert_ne!(machine.run(&format!("systemctl start {second}")).status, Some(0));
        assert_eq!(machine.show(second, "ExecMainStatus"), NAME_TAKEN);
        let status = machine.show(second, "StatusText");
        let why = format!("app:blue@1.service is a generation of {first}.service. Choose another name");
        assert!(status.contains(&why) && status.contains("--unit=NAME"), "{status}");
        // The first is none the worse.
        machine.ok(&format!("systemctl reload {first} && systemctl stop {first}"));
        assert_eq!(machine.units("app:blue@*"), [] as [&str; 0]);
    }
    // Also when both begin at once: there is no generation that is not of one of those that run.
    for _ in 0..5 {
        machine.run("systemctl start app@blue app:blue");
        let up = |name: &str| machine.show(name, "ActiveState") == "active";
        let owners: Vec<_> = machine.units("app:blue@*").iter().map(|unit| owner(machine, unit)).collect();
        for name in ["app@blue", "app:blue"].into_iter().filter(|name| up(name)) {
            assert!(owners.contains(&format!("{name}.service")), "{name}: {owners:?}");
        }
        machine.ok("systemctl stop app@blue app:blue");
        assert_eq!(transient(machine), "");
    }
}

fn a_name_that_has_become_somebody_elses_refuses_the_roll(machine: &Machine) {
    machine.unit("app@.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start app@blue");
    let pid = machine.show("app:blue@1", "MainPID");
    let refused = |why: &str| {
        assert_ne!(machine.run("systemctl reload app@blue").status, Some(0));
        let status = machine.show("app@blue", "StatusText");
        assert!(status.starts_with(&format!("app:blue@1.service (main PID {pid}) serves; ")), "{status}");
        assert!(status.contains(why) && status.contains("--unit=NAME"), "{status}");
    };
    // As a procroll leaves it that began in the same instant.
    let mark = "[X-Procroll]\nOwner=app:blue.service\nUnit=app:blue@7.service\n";
    machine.write("/run/systemd/transient/app:blue@7.service.d/90-procroll.conf", mark);
    machine.ok("touch /run/systemd/system && systemd-run --quiet --unit=app:blue@7.service sleep infinity");
    refused("app:blue@7.service is a generation of app:blue.service");
    machine.ok("systemctl stop app:blue@7.service && systemctl reload app@blue");
    machine.wait_for("the old one to go", || (machine.units("app:blue@*").len() == 1).then_some(()));
    machine.ok("systemctl restart app@blue");
    let pid = machine.show("app:blue@1", "MainPID");

    machine.unit("app:blue@.service", "[Service]\nExecStart=sleep infinity\n");
    assert_ne!(machine.run("systemctl reload app@blue").status, Some(0));
    let status = machine.show("app@blue", "StatusText");
    assert!(status.contains("there is a unit app:blue@.service"), "{status}");
    assert_eq!(machine.show("app:blue@1", "MainPID"), pid, "it serves on");
}

fn generations_are_where_the_limits_of_an_instance_hold(machine: &Machine) {
    machine.unit("my-app@.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl set-property 'system-my\\x2dapp.slice' TasksMax=77");
    machine.ok("systemctl start my-app@blue");
    let slice = |unit: &str| machine.show(unit, "Slice");
    assert_eq!(slice("my-app@blue"), "system-my\\x2dapp.slice");
    assert_eq!(slice("my-app:blue@1"), slice("my-app@blue"));
    assert_eq!(machine.show("system-my\\x2dapp.slice", "TasksMax"), "77");
    // What the unit says, and what the options say.
    let unit = with_lines("Slice=%p-%i.slice", "--settle=0", "ready run");
    machine.unit("app@.service", &unit);
    machine.ok("systemctl start app@blue");
    assert_eq!((slice("app@blue"), slice("app:blue@1")), ("app-blue.slice".to_owned(), "app-blue.slice".to_owned()));
    machine.unit("app@.service", &unit.replace("--settle=0", "--settle=0 --slice=special"));
    machine.ok("systemctl reload app@blue");
    assert_eq!((slice("app@blue"), slice("app:blue@2")), ("app-blue.slice".to_owned(), "special.slice".to_owned()));
}

fn a_limit_for_all_generations_stays_from_roll_to_roll(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web && systemctl set-property system-web.slice TasksMax=77");
    machine.ok("systemctl reload web");
    assert!(machine.show("web@2", "ControlGroup").starts_with("/system.slice/system-web.slice/"));
    assert_eq!(machine.show("web", "ControlGroup"), "/system.slice/web.service");
    machine.ok("systemctl restart web");
    assert_eq!(machine.show("web@1", "Slice"), "system-web.slice");
    assert_eq!(machine.show("system-web.slice", "TasksMax"), "77");
    // What is set for the wrapper is a line of its unit, and comes with the next roll.
    machine.ok("systemctl set-property web TasksMax=55 && systemctl reload web");
    assert_eq!(machine.show("web@2", "TasksMax"), "55");
}

fn options_are_checked_under_a_name_with_a_colon(machine: &Machine) {
    let unit = once(&wrapper("--settle=0 -p Nice=500", "ready run"));
    machine.write("/etc/systemd/system/app@.service", &unit);
    machine.unit("app:red.service", &unit);
    for wrapper in ["app@blue", "app:red"] {
        assert_ne!(machine.run(&format!("systemctl start {wrapper}")).status, Some(0));
        let status = machine.show(wrapper, "StatusText");
        assert!(status.contains("Nice priority out of range: 500"), "{status}");
    }
    machine.write("/etc/systemd/system/app@.service", &unit.replace("500", "5"));
    machine.unit("app:red.service", &unit.replace("500", "5"));
    for (wrapper, generation) in [("app@blue", "app:blue@1"), ("app:red", "app:red@1")] {
        machine.ok(&format!("systemctl start {wrapper}"));
        assert_eq!(machine.show(generation, "Nice"), "5");
    }
}

fn what_cannot_be_an_instance_with_generations_is_refused(machine: &Machine) {
    let unit = once(&wrapper("--settle=0", "ready run"));
    machine.write("/etc/systemd/system/conn.socket", "[Socket]\nListenStream=/run/conn.sock\nAccept=yes\n");
    machine.write("/etc/systemd/system/conn@.service", &unit);
    machine.unit("app@.service", &unit);
    assert_ne!(machine.run("systemctl start 'app@a\\x2db'").status, Some(0));
    assert_eq!(machine.show("app@a\\x2db", "ExecMainStatus"), UNIT_REFUSED);
    let status = machine.show("app@a\\x2db", "StatusText");
    assert!(status.contains("it has a backslash") && status.contains("Choose one that needs no escaping"), "{status}");

    machine.ok("systemctl start conn.socket");
    machine.ok("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/conn.sock\")'");
    let service = machine.wait_for("the refusal", || {
        machine.units("conn@*").into_iter().find(|unit| machine.show(unit, "ExecMainStatus") == UNIT_REFUSED)
    });
    let status = machine.show(&service, "StatusText");
    assert!(status.contains("it serves a single connection, since conn.socket has Accept=yes"), "{status}");
    assert_eq!(machine.units("*:*@*"), [] as [&str; 0]);
}

fn the_next_procroll_takes_over_an_instances_generation(machine: &Machine) {
    machine.unit("app@.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start app@blue app@green && systemctl reload app@blue");
    machine.wait_for("the old one to go", || (machine.units("app:blue@*") == ["app:blue@2.service"]).then_some(()));
    let pid = machine.show("app:blue@2", "MainPID");
    machine.ok("systemctl kill --kill-whom=main --signal=KILL app@blue");
    machine.wait_for_property("app@blue", "NRestarts", "1");
    machine.wait_for_property("app@blue", "StatusText", &format!("app:blue@2.service (main PID {pid}) serves"));
    machine.ok("systemctl reload app@blue");
    machine.wait_for("the old one to go", || (machine.units("app:blue@*") == ["app:blue@3.service"]).then_some(()));
    assert_eq!(machine.units("app:green@*"), ["app:green@1.service"]);
}

fn a_user_rolls_an_instance_of_their_own(machine: &Machine) {
    user::user(machine);
    let unit = with_lines("Environment=A=%i", "--settle=0", "facts ready run %n").replace("=+/", "=/");
    user::write(machine, "app@.service", &unit);
    machine.ok(&user::alice("systemctl --user start app@blue app@green && systemctl --user reload app@blue"));
    machine.wait_for("the old one to go", || {
        (user::units(machine, "app:*") == ["app:blue@2.service", "app:green@1.service"]).then_some(())
    });
    let pid = user::show(machine, "app:blue@2", "MainPID");
    let serves = format!("app:blue@2.service (main PID {pid}) serves");
    machine
        .wait_for("procroll to see that", || (user::show(machine, "app@blue", "StatusText") == serves).then_some(()));
    assert_eq!(user::show(machine, "app:blue@2", "Environment"), "A=blue");
    for unit in ["app@blue", "app:blue@2"] {
        assert_eq!(user::show(machine, unit, "Slice"), "app-app.slice");
    }
    machine.ok(&user::alice("systemctl --user stop app@blue app@green"));
    machine.wait_for("all to go", || user::units(machine, "app*@*").is_empty().then_some(()));
}
