//! A generation is the wrapper's own unit: G6.

use serde_json::Value;

use crate::machine::{Answers, Load, Machine};
use crate::stops::nothing_is_left;
use crate::{SOCKET, gunicorn, owner, transient, with_lines, wrapper};

on_each_systemd!(
    a_generation_is_what_a_plain_unit_of_the_same_text_is,
    every_change_of_the_unit_comes_with_the_next_roll,
    no_request_is_lost_while_the_unit_changes,
    options_win_over_the_unit,
    options_are_checked_where_there_are_no_credentials,
    options_that_could_not_be_checked_are_no_wrong_ones,
    drop_ins_apply_in_the_wrappers_order_and_others_do_not,
    arguments_mean_what_the_unit_file_means,
    what_is_about_the_wrapper_stays_with_it,
    a_changed_file_is_refused_until_systemd_has_read_it,
    a_masked_wrapper_is_refused,
    a_runtime_directory_of_a_dynamic_user_is_kept_in_one_place,
    a_first_start_is_tried_again_where_that_may_help,
    a_variable_among_the_options_is_refused,
);

/// What the payload of a unit was run with.
pub fn facts(machine: &Machine, unit: &str) -> Value {
    let output = machine.output(unit);
    let line = output.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no facts in {output:?}"));
    serde_json::from_str(line).expect("JSON")
}

const LINES: &str = "User=app\nGroup=app\nEnvironment=GREETING=hello \"TWO=a b\"\nEnvironmentFile=/etc/web.env\n\
    ProtectSystem=strict\nLimitNOFILE=4321\nLoadCredential=token:/etc/token\nWorkingDirectory=/srv/app\nNice=5\n\
    UMask=0027\nPrivateTmp=yes\nNoNewPrivileges=yes\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
    AmbientCapabilities=CAP_NET_BIND_SERVICE\nStateDirectory=web\nSystemCallFilter=@system-service\n\
    ExecStartPre=+touch /run/pre\n";

fn prepare(machine: &Machine) {
    machine.write("/etc/web.env", "FROM_FILE=\"x y\"\n# comment\nEMPTY=\n");
    machine.write("/etc/token", "secret");
}

fn a_generation_is_what_a_plain_unit_of_the_same_text_is(machine: &Machine) {
    prepare(machine);
    let steps = "facts %n %p %%i $GREETING ${TWO} $TWO \"q u\" ready run";
    // `facts` ends the arguments' meaning, so they are only shown.
    let steps = steps.replace("facts", "facts ready run");
    machine.unit("plain.service", &format!("[Service]\nType=notify\n{LINES}ExecStart=/usr/bin/payload {steps}\n"));
    machine.unit("web.service", &with_lines(LINES, "--settle=0", &steps));
    machine.ok("systemctl start plain web");
    let mut plain = facts(machine, "plain.service");
    // The unit's own name is all that may differ.
    let own = plain.to_string().replace("plain", "web");
    plain = serde_json::from_str(&own).expect("JSON");
    assert_eq!(facts(machine, "web@1.service"), plain);

    let properties = "User,Group,Environment,EnvironmentFiles,ProtectSystem,LimitNOFILE,LoadCredential,\
        WorkingDirectory,Nice,UMask,PrivateTmp,NoNewPrivileges,CapabilityBoundingSet,AmbientCapabilities,\
        StateDirectory,SystemCallFilter,KillMode,KillSignal,TimeoutStartUSec,TimeoutStopUSec,Type,NotifyAccess";
    let show = |unit: &str| machine.ok(&format!("systemctl show --property={properties} {unit}"));
    assert_eq!(show("web@1"), show("plain"));
    machine.ok("systemctl daemon-reload");
    assert_eq!(show("web@1"), show("plain"), "after a daemon-reload");
}

fn every_change_of_the_unit_comes_with_the_next_roll(machine: &Machine) {
    prepare(machine);
    machine.unit("web.service", &with_lines("", "--settle=0", "facts ready run"));
    machine.ok("systemctl start web");
    let before = facts(machine, "web@1.service");
    assert_eq!(before["user"][0], 0);
    assert_eq!(before["writable"]["/usr"], true);

    machine.unit("web.service", &with_lines(LINES, "--settle=0", "facts ready run another argument"));
    machine.ok("systemctl reload web");
    let after = facts(machine, "web@2.service");
    let app: u64 = machine.ok("id -u app").parse().expect("a number");
    assert_eq!(after["user"][0], app);
    assert_eq!(after["writable"]["/usr"], false);
    assert_eq!(after["files"][0], 4321);
    assert_eq!(after["environment"]["GREETING"], "hello");
    assert_eq!(after["environment"]["FROM_FILE"], "x y");
    assert_eq!(after["credentials"]["token"], "secret");
    assert_eq!(after["pre"], true);
    assert_eq!(after["arguments"][4], "another");

    // What a file holds is read anew as well, without a daemon-reload.
    machine.write("/etc/web.env", "FROM_FILE=new\n");
    machine.ok("systemctl reload web");
    assert_eq!(facts(machine, "web@3.service")["environment"]["FROM_FILE"], "new");
}

fn no_request_is_lost_while_the_unit_changes(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    machine.unit("web.service", &gunicorn("--settle=100ms", "app"));
    machine.ok("systemctl start web.socket web.service");
    let load = Load::start(machine, "127.0.0.1:8000", 8);
    for greeting in ["hello", "goodbye"] {
        let lines = format!("Environment=GREETING={greeting}\nLimitNOFILE=999\nProtectHome=yes\n");
        let unit = gunicorn("--settle=100ms", "app").replace("[Service]\n", &format!("[Service]\n{lines}"));
        machine.unit("web.service", &unit);
        machine.ok("systemctl reload web");
        let ask =
            "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8000\").read().decode())'";
        machine.wait_for("the new environment to answer", || machine.ok(ask).starts_with(greeting).then_some(()));
    }
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert!(answers.answered > 0);
}

fn options_win_over_the_unit(machine: &Machine) {
    prepare(machine);
    machine.ok("useradd --system other");
    let options = "--settle=0 --uid=other --gid=other --working-directory=/var --slice=special.slice \
        --description=Mine -pLimitNOFILE=1234 --property=Nice=7 -E GREETING=bye --setenv=MORE=100%%n \
        --signal=QUIT --ready-timeout=33 --shutdown-timeout=44s";
    machine.unit("web.service", &with_lines(LINES, options, "facts ready run"));
    machine.ok("systemctl start web");
    let facts = facts(machine, "web@1.service");
    let other: u64 = machine.ok("id -u other").parse().expect("a number");
    assert_eq!(facts["user"][0], other);
    assert_eq!(facts["directory"], "/var");
    assert_eq!(facts["files"][0], 1234);
    assert_eq!(facts["nice"], 7);
    assert_eq!(facts["environment"]["MORE"], "100%n");
    assert_eq!(facts["environment"]["GREETING"], "bye");
    assert_eq!(facts["environment"]["TWO"], "a b", "the rest of the unit stays");
    for (property, value) in [
        ("Slice", "special.slice"),
        ("Description", "Mine"),
        ("KillSignal", "3"),
        ("TimeoutStartUSec", "33s"),
        ("TimeoutStopUSec", "44s"),
    ] {
        assert_eq!(machine.show("web@1", property), value, "{property}");
    }
    // Options are the unit's as much as all else: changed there, they come with the next roll.
    machine.unit("web.service", &with_lines(LINES, "--settle=0 -E GREETING=again", "facts ready run"));
    machine.ok("systemctl reload web");
    assert_eq!(self::facts(machine, "web@2.service")["environment"]["GREETING"], "again");
}

/// Restart= may try again then.
fn options_that_could_not_be_checked_are_no_wrong_ones(machine: &Machine) {
    let lines = "RestartSec=100ms\nRestartPreventExitStatus=170 173 174 175";
    let unit = with_lines(lines, "--settle=0 -pNice=3", "ready run");
    machine.unit("web.service", &unit.replace("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n"));
    machine.ok("mv /usr/bin/systemd-analyze /usr/bin/analyze && ln -s true /usr/bin/systemd-analyze");
    machine.ok("systemctl start --no-block web");
    machine.wait_for("it to be tried again", || (machine.show("web", "NRestarts") != "0").then_some(()));
    assert!(machine.log("web.service").contains("systemd-analyze verify was not heard to the end"));
    machine.ok("mv /usr/bin/analyze /usr/bin/systemd-analyze");
    machine.wait_for_property("web", "ActiveState", "active");
    assert_eq!(machine.show("web@1", "Nice"), "3");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn options_are_checked_where_there_are_no_credentials(machine: &Machine) {
    // As in a container in which systemd can't mount.
    machine.ok("mkdir -p /run/credentials && mount -t tmpfs -o ro none /run/credentials");
    machine.unit("web.service", &wrapper("--settle=0 -p Nice=3", "ready run"));
    machine.ok("systemctl start web");
    assert_eq!(machine.show("web@1", "Nice"), "3");
    assert_eq!(transient(machine), "web@1.service\nweb@1.service.d");
    machine.unit("web.service", &wrapper("--settle=0 -p Nice=300", "ready run"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains("Nice priority out of range: 300"), "{status}");
    machine.ok("systemctl stop web && umount /run/credentials");
}

fn drop_ins_apply_in_the_wrappers_order_and_others_do_not(machine: &Machine) {
    let drop_in = |folder: &str, name: &str, text: &str| {
        machine.write(&format!("/etc/systemd/system/{folder}/{name}"), &format!("[Service]\n{text}\n"));
    };
    // On the wrapper, drop-ins for all services come before its own by their names only.
    drop_in("service.d", "05-first.conf", "Environment=A=all\nEnvironment=B=all");
    drop_in("service.d", "zz-last.conf", "Environment=C=all");
    drop_in("my-web.service.d", "10-own.conf", "Environment=B=own\nEnvironment=C=own");
    drop_in("my-.service.d", "prefix.conf", "Environment=P=prefix\nExecStartPre=sh -c 'echo ran >>/run/ran'");
    // A mask on the wrapper holds for its generations.
    drop_in("service.d", "masked.conf", "Environment=M=masked");
    machine.ok("ln -s /dev/null /etc/systemd/system/my-web.service.d/masked.conf");
    // These would apply to the name my-web@1 alone, and are not the wrapper's.
    drop_in("my-web@.service.d", "template.conf", "Environment=T=template");
    drop_in("my-@1.service.d", "odd.conf", "Environment=O=odd");
    let unit = with_lines("Environment=A=unit", "--settle=0", "facts ready run");
    machine.unit("my-web.service", &unit);
    machine.ok("systemctl start my-web");
    let environment = &facts(machine, "my-web@1.service")["environment"];
    assert_eq!(environment["A"], "all", "a drop-in wins over the unit file");
    assert_eq!(environment["B"], "own");
    assert_eq!(environment["C"], "all");
    assert_eq!(environment["P"], "prefix");
    for none in ["M", "T", "O"] {
        assert!(environment[none].is_null(), "{none}");
    }
    assert_eq!(machine.read("/run/ran"), "ran\nran\n", "once for the wrapper and once for the generation");
    let order = |unit: &str| machine.show(unit, "Environment");
    assert_eq!(order("my-web@1"), order("my-web"));

    machine.ok("systemctl stop my-web");
    assert_eq!(transient(machine), "", "no file is left behind");
    // Settings that somebody made for one number are not another generation's: the number is skipped.
    drop_in("my-web@1.service.d", "set.conf", "Environment=N=number");
    machine.ok("systemctl start my-web");
    assert_eq!(machine.units("my-web@*"), ["my-web@2.service"]);
}

fn arguments_mean_what_the_unit_file_means(machine: &Machine) {
    let steps = r#"facts ready run "a b" 'c "d"' "" $EMPTY ${NONE} "$WORDS" $WORDS $$HOME %% \x41 \\ ; x"#;
    // Only Type=oneshot has more than one command, so a lone ; needs its backslash.
    let steps = steps.replace("; x", r"\; x");
    machine.unit(
        "plain.service",
        &format!("[Service]\nType=notify\nEnvironment=\"WORDS=1 2\"\nExecStart=/usr/bin/payload {steps}\n"),
    );
    machine.unit("web.service", &with_lines("Environment=\"WORDS=1 2\"", "--settle=0", &steps));
    machine.ok("systemctl start plain web");
    let plain = &facts(machine, "plain.service")["arguments"];
    assert_eq!(&facts(machine, "web@1.service")["arguments"], plain);
    assert!(plain.to_string().contains(r#""a b","c \"d\"","""#), "{plain}");

    // With a colon systemd expands no variables, for the generation either.
    let unit = with_lines("Environment=WORDS=1", "--settle=0", "facts ready run $WORDS $$").replace("=+/", "=+:/");
    machine.unit("web.service", &unit);
    machine.ok("systemctl reload web");
    let arguments = facts(machine, "web@2.service")["arguments"].to_string();
    assert!(arguments.ends_with(r#""$WORDS","$$"]"#), "{arguments}");
}

fn what_is_about_the_wrapper_stays_with_it(machine: &Machine) {
    machine.unit("other.service", "[Service]\nType=oneshot\nExecStart=sh -c 'echo ran >>/run/other'\n");
    machine.unit("alarm.service", "[Service]\nType=oneshot\nExecStart=touch /run/alarm\n");
    let unit = with_lines("RestartForceExitStatus=7\nRuntimeMaxSec=1h", "--settle=0", "ready wait /run/die exit 7")
        .replace(
            "[Unit]\n",
            "[Unit]\nWants=other.service\nOnFailure=alarm.service\nRefuseManualStop=no\nAfter=sysinit.target\n",
        );
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    machine.ok("systemctl reload web");
    assert_eq!(machine.read("/run/other"), "ran\n", "once, for the wrapper");
    assert_eq!(machine.show("web@2", "Restart"), "no");
    assert_eq!(machine.show("web@2", "RestartForceExitStatus"), "");
    assert_eq!(machine.show("web@2", "OnFailure"), "");
    assert_eq!(machine.show("web@2", "RuntimeMaxUSec"), "infinity");
    assert!(machine.show("web@2", "After").contains("sysinit.target"));
    assert_eq!(owner(machine, "web@2.service"), "web.service");
    let tied = if machine.suite.direct { "web.service" } else { "" };
    assert_eq!(machine.show("web@2", "StopPropagatedFrom"), tied);
}

fn a_changed_file_is_refused_until_systemd_has_read_it(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.write("/etc/systemd/system/web.service", &with_lines("User=app", "--settle=0", "ready run"));
    let outcome = machine.run("systemctl reload web");
    assert_ne!(outcome.status, Some(0), "{outcome:?}");
    let status = machine.show("web", "StatusText");
    assert!(
        status.contains("web.service has changed on disk") && status.contains("systemctl daemon-reload"),
        "{status}"
    );
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
    machine.ok("systemctl daemon-reload && systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    assert_eq!(machine.show("web@3", "User"), "app");

    // An older date hides the change from systemd; who it would run as is looked at all the same.
    machine.write("/etc/systemd/system/web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("touch --date=2001-01-01 /etc/systemd/system/web.service");
    if machine.show("web", "NeedDaemonReload") == "no" {
        assert_ne!(machine.run("systemctl reload web").status, Some(0));
        let status = machine.show("web", "StatusText");
        assert!(status.contains("systemd has loaded User=app"), "{status}");
    }
    let unit = with_lines("User=app\nGroup=daemon", "--settle=0", "ready run");
    machine.write("/etc/systemd/system/web.service", &unit);
    machine.ok("touch --date=2001-01-01 /etc/systemd/system/web.service");
    if machine.show("web", "NeedDaemonReload") == "no" {
        assert_ne!(machine.run("systemctl reload web").status, Some(0));
        let status = machine.show("web", "StatusText");
        assert!(status.contains("say Group=daemon, but systemd has loaded Group="), "{status}");
    }
}

fn a_masked_wrapper_is_refused(machine: &Machine) {
    machine.write("/usr/lib/systemd/system/web.service", &with_lines("User=app", "--settle=0", "ready run"));
    machine.ok("systemctl daemon-reload && systemctl start web");
    machine.ok("systemctl mask web && systemctl daemon-reload");
    machine.ok("systemctl kill --kill-whom=main --signal=HUP web");
    // systemd takes no notification for a masked unit, and reloads none.
    let refused = "Roll failed, web@1.service serves on: web@2.service was not started: web.service is masked.";
    machine.wait_for("the refusal", || machine.log("web.service").contains(refused).then_some(()));
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
}

fn a_first_start_is_tried_again_where_that_may_help(machine: &Machine) {
    let unit = |options: &str| {
        let lines = "RestartSec=100ms\nRestartPreventExitStatus=170 173 174 175";
        let unit = with_lines(lines, options, "ready run").replace("/usr/bin/payload", "/usr/local/bin/late");
        unit.replace("[Service]", "StartLimitIntervalSec=0\n[Service]")
    };
    let restarts = || machine.show("web", "NRestarts").parse::<u32>().expect("a number");
    let tried = |count: u32| {
        let before = restarts();
        machine.wait_for("another start", || (restarts() >= before + count).then_some(()));
    };
    machine.unit("web.service", &unit("--settle=0"));
    machine.ok("systemctl start --no-block web");
    tried(1);
    assert!(
        machine.log("web.service").contains("/usr/local/bin/late can't be executed"),
        "{}",
        machine.log("web.service")
    );
    machine.write("/etc/systemd/system/web.service", &unit("--settle=1ms"));
    machine.ok("ln -s /usr/bin/payload /usr/local/bin/late");
    tried(2);
    assert!(machine.log("web.service").contains("has changed on disk"), "{}", machine.log("web.service"));
    machine.ok("systemctl daemon-reload");
    machine.wait_for("a generation", || machine.show("web", "StatusText").ends_with("serves").then_some(()));
    machine.ok("rm /usr/local/bin/late");
}

fn a_variable_among_the_options_is_refused(machine: &Machine) {
    machine.write("/etc/web.env", "OPTS=--uid=root\n");
    let unit = with_lines("User=app\nEnvironmentFile=/etc/web.env", "$OPTS", "ready run");
    machine.unit("web.service", &unit.replace("Restart=on-failure\n", ""));
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    assert_eq!(machine.show("web", "ExecMainStatus"), "174");
    let log = machine.log("web.service");
    assert!(log.contains("has a variable among procroll's options: $OPTS"), "{log}");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
}

fn a_runtime_directory_of_a_dynamic_user_is_kept_in_one_place(machine: &Machine) {
    let lines = "DynamicUser=yes\nRuntimeDirectory=web\nRestartPreventExitStatus=174";
    machine.unit("web.service", &with_lines(lines, "--settle=0", "ready run"));
    assert_ne!(machine.run("systemctl start web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains("needs RuntimeDirectoryPreserve=restart"), "{status}");
    // What it says to do; and then as often as one likes.
    let lines = format!("{lines}\nRuntimeDirectoryPreserve=restart");
    machine.unit("web.service", &with_lines(&lines, "--settle=0", "ready run"));
    for _ in 0..2 {
        machine.ok("systemctl start web && systemctl reload web && systemctl stop web");
    }
}
