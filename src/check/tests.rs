//! Units as people write them, and what is said of them.

use proptest::prelude::*;

use super::*;

fn host(version: u32) -> Host {
    Host { version: Some(version), user: false, procroll: "/usr/bin/procroll".to_owned() }
}

fn facts(name: &str, files: &[(&str, &str)]) -> Facts {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
    Facts {
        name: name.to_owned(),
        sources: Sources::parse(&files).expect("readable"),
        arguments: None,
        sockets: Vec::new(),
        missed_socket: None,
        template: false,
        written: Vec::new(),
        restart_due: false,
        held: Held::NotAsked,
    }
}

fn web(lines: &str) -> Facts {
    facts("web.service", &[("/etc/web.service", &format!("[Service]\n{lines}\n"))])
}

fn judged(lines: &str) -> Report {
    judge(&web(lines), &host(257))
}

/// The drop-in's lines, without its mark.
fn drop_in(report: &Report) -> &str {
    let drop_in = report.drop_in.as_ref().unwrap_or_else(|| panic!("a drop-in: {report:#?}"));
    drop_in.text.strip_prefix(MARK).expect("its mark").strip_prefix("[Service]\n").expect("one section")
}

/// The command in it.
fn command(report: &Report) -> &str {
    drop_in(report).trim_end().rsplit_once("\nExecStart=").expect("a command").1
}

/// The one thing that keeps a unit from rolling.
fn refusal(lines: &str) -> String {
    let report = judged(lines);
    assert_eq!((report.verdict, &report.drop_in), (Verdict::No, &None), "{lines}: {report:#?}");
    let refusals: Vec<_> = report.findings.iter().filter(|finding| finding.level == Level::No).collect();
    let [refusal] = refusals.as_slice() else { panic!("{lines}: {refusals:#?}") };
    format!("{} {}", refusal.subject, text::sentence(refusal))
}

/// The subjects of all findings that matter this much.
fn subjects(report: &Report, level: Level) -> Vec<&str> {
    let findings = report.findings.iter().filter(|finding| finding.level == level);
    findings.map(|finding| finding.subject.as_str()).collect()
}

const WRAPPER: &str = "Type=notify-reload\nRestart=on-failure\nRestartMode=direct\n\
                       ExecStart=+/usr/bin/procroll --systemd-run -- /bin/web";

#[test]
fn a_sound_wrapper_rolls_as_it_is() {
    let report = judged(WRAPPER);
    assert_eq!((report.verdict, report.findings, report.drop_in), (Verdict::AsItIs, vec![], None));
}

#[test]
fn a_plain_unit_gets_procroll_in_front_of_its_command() {
    let report = judged("Type=notify\nUser=app\nExecStart=/usr/bin/gunicorn \\\n  -b \"[::]:80\" $OPTS %i 'a b'");
    assert_eq!(report.verdict, Verdict::WithDropIn);
    assert_eq!(
        drop_in(&report),
        "Type=notify-reload\nRestart=on-failure\nRestartMode=direct\nRestartPreventExitStatus=170 173 174 175\n\
         ExecStart=\nExecStart=+/usr/bin/procroll --systemd-run -- /usr/bin/gunicorn    -b \"[::]:80\" $OPTS %i 'a b'\n"
    );
    assert_eq!(report.drop_in.map(|drop_in| drop_in.name), Some("50-procroll.conf".to_owned()));
}

#[test]
fn what_the_unit_says_already_is_left_alone() {
    let report = judged("Type=notify-reload\nRestart=always\nRestartMode=direct\nExecStart=/bin/web");
    assert_eq!(
        drop_in(&report),
        "RestartPreventExitStatus=170 173 174 175\nExecStart=\n\
         ExecStart=+/usr/bin/procroll --systemd-run --service-type=notify-reload -- /bin/web\n"
    );
    let report = judged("Type=notify\nRestart=on-abnormal\nExecStart=/bin/web");
    assert!(!drop_in(&report).contains("Restart=") && !drop_in(&report).contains("Prevent"), "{report:#?}");
}

#[test]
fn each_type_has_its_own_answer() {
    for one in ["Type=exec\n", "Type=simple\n", "Type=idle\n", ""] {
        let report = judged(&format!("{one}ExecStart=/bin/web"));
        assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run --service-type=exec -- /bin/web", "{one}");
        assert!(subjects(&report, Level::Note).contains(&"Type="), "how long it settles matters");
    }
    for (lines, said) in [
        ("Type=forking\nPIDFile=/run/web.pid\nExecStart=/bin/web", "Type= has Type=forking: it puts itself"),
        ("Type=oneshot\nExecStart=/bin/web", "Type= has Type=oneshot: it is over when it is ready"),
        ("Type=dbus\nBusName=org.web\nExecStart=/bin/web", "Type= has Type=dbus: it owns a name"),
        ("BusName=org.web\nExecStart=/bin/web", "Type= has Type=dbus"),
        ("Type=notify\nBusName=org.web\nExecStart=/bin/web", "BusName= has a BusName="),
        (
            "Type=oneshot\nExecStart=+/usr/bin/procroll --systemd-run -- /bin/web",
            "Type= has Type=oneshot. Make it Type=notify-reload",
        ),
    ] {
        assert!(refusal(lines).starts_with(said), "{lines}: {}", refusal(lines));
    }
}

#[test]
fn a_prefix_is_kept_or_named() {
    for (prefix, lines, expected) in [
        (":", "", ":+/usr/bin/procroll --systemd-run -- /bin/web $x"),
        ("-", "", "+/usr/bin/procroll --systemd-run -- /bin/web $x"),
        ("!!", "User=app", "+/usr/bin/procroll --systemd-run -- /bin/web $x"),
        ("!", "", "+/usr/bin/procroll --systemd-run -- /bin/web $x"),
    ] {
        let report = judged(&format!("Type=notify\n{lines}\nExecStart={prefix}/bin/web $x"));
        assert_eq!(command(&report), expected, "{prefix}");
        let said = report.findings.iter().any(|finding| finding.subject == "ExecStart=");
        assert_eq!(said, prefix != ":", "{prefix}: what is lost is said");
    }
    let report = judged("Type=notify\nExecStart=@/usr/bin/web web  -x 'y z'");
    assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run -- /usr/bin/web -x 'y z'");
    for (lines, said) in [
        ("ExecStart=+/bin/web", "exempts it from User="),
        ("ExecStart=|web", "login shell"),
        ("User=app\nExecStart=!/bin/web", "changes to its User= by itself"),
        ("ExecStart=@/bin/busybox httpd -f", "another name than its file's"),
    ] {
        assert!(refusal(&format!("Type=notify\n{lines}")).contains(said), "{lines}");
    }
}

#[test]
fn there_is_one_command_and_it_is_the_application() {
    for (lines, said) in [
        ("", "Type= has Type=oneshot"),
        ("Type=notify\nExecStart=/bin/a\nExecStart=", "has no ExecStart="),
        ("Type=notify\nExecStart=/bin/a\nExecStart=/bin/b", "has 2 ExecStart= commands"),
        ("Type=notify\nExecStart=/bin/a ; /bin/b", "is several commands"),
        ("Type=notify\nExecStart=/bin/sh -c 'exec procroll --systemd-run -- /bin/web'", "runs procroll through sh"),
        ("Type=notify\nExecStart=/usr/bin/env A=b /usr/bin/procroll --systemd-run -- /bin/web", "through env"),
        (
            "Type=notify-reload\nRestart=always\nRestartMode=direct\nExecStart=+/usr/bin/procroll --setle=1 -- /bin/web",
            "--setle",
        ),
        (
            "Type=notify-reload\nRestart=always\nRestartMode=direct\nExecStart=+/usr/bin/procroll --systemd-run $X -- /a",
            "$X",
        ),
    ] {
        let report = judged(lines);
        assert_eq!(report.verdict, Verdict::No, "{lines}");
        assert!(
            report.findings.iter().any(|one| format!("{} {}", one.subject, one.why).contains(said)),
            "{lines}: {report:#?}"
        );
    }
}

#[test]
fn braces_of_the_command_mean_nothing_to_procroll() {
    let report = judged("Type=notify\nExecStart=/bin/web --format {{.ID}} '{{x}}'");
    assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run -- /bin/web --format {{`{{`}}.ID}} '{{`{{`}}x}}'");
}

#[test]
fn a_reload_becomes_a_roll() {
    let report = judged("Type=notify\nExecReload=kill -HUP $MAINPID\nExecStart=/bin/web");
    assert!(drop_in(&report).starts_with("Type=notify-reload\nExecReload=\n"));
    let note = report.findings.iter().find(|one| one.level == Level::Note && one.subject == "ExecReload=");
    let note = note.expect("what reload does now");
    assert!(note.why.contains("starts its command anew"));
    assert_eq!(note.at, Some(Location { path: "/etc/web.service".to_owned(), line: 3 }));
}

#[test]
fn before_253_a_command_rolls() {
    let report = judge(&web("Type=notify\nExecReload=kill -HUP $MAINPID\nExecStart=/bin/web"), &host(252));
    assert!(
        drop_in(&report)
            .starts_with("ExecReload=\nExecReload=+/usr/bin/procroll reload\nRestart=on-failure\nRestartPrevent"),
        "{report:#?}"
    );
    assert_eq!(subjects(&report, Level::Caution), [] as [&str; 0], "a guard keeps the generation through a crash");
    let report = judge(&web("ExecStart=/bin/web"), &host(252));
    assert!(drop_in(&report).starts_with("Type=notify\nExecReload=+/usr/bin/procroll reload\n"), "{report:#?}");
    // A wrapper of either kind, where both are known.
    let wrapper = WRAPPER.replace("notify-reload", "notify") + "\nExecReload=+/usr/bin/procroll reload";
    assert_eq!(judge(&web(&wrapper), &host(252)).verdict, Verdict::AsItIs);
    assert_eq!(judge(&web(&wrapper), &host(257)).verdict, Verdict::AsItIs);
    assert_eq!(judge(&web(WRAPPER), &host(252)).verdict, Verdict::WithDropIn);
    // Another user may not ask for a roll.
    let wrapper = wrapper.replace("ExecReload=+", "ExecReload=");
    assert_eq!(judge(&web(&wrapper), &host(252)).verdict, Verdict::AsItIs);
    let report = judge(&web(&format!("User=app\n{wrapper}")), &host(252));
    assert_eq!(drop_in(&report), "ExecReload=\nExecReload=+/usr/bin/procroll reload\n");
}

#[test]
fn what_a_wrapper_lacks_is_named_and_mended() {
    for (lines, said, line) in [
        (
            WRAPPER.replace("notify-reload", "notify"),
            "has Type=notify, with which \"systemctl reload\" can't roll it",
            "Type=notify-reload",
        ),
        (WRAPPER.replace("Restart=on-failure\n", ""), "has no Restart=", "Restart=on-failure"),
        (WRAPPER.replace("RestartMode=direct\n", ""), "has no RestartMode=direct", "RestartMode=direct"),
        (
            format!("{WRAPPER}\nExecReload=true"),
            "has an ExecReload=, which \"systemctl reload\" runs beside the roll",
            "ExecReload=",
        ),
        (
            format!("{WRAPPER}\nRuntimeDirectory=web"),
            "has no RuntimeDirectoryPreserve=restart",
            "RuntimeDirectoryPreserve=restart",
        ),
        (format!("{WRAPPER}\nPIDFile=/run/web.pid"), "has a PIDFile=", "PIDFile="),
        (
            format!("{WRAPPER}\nUser=app").replace("=+", "="),
            "runs procroll as another user",
            "ExecStart=\nExecStart=+/usr/bin/procroll --systemd-run -- /bin/web",
        ),
    ] {
        let report = judged(&lines);
        assert_eq!(drop_in(&report), format!("{line}\n"), "{lines}");
        let [finding] = report.findings.as_slice() else { panic!("{lines}: {report:#?}") };
        assert!(finding.level == Level::Change && finding.why.starts_with(said), "{lines}: {finding:?}");
        assert!(text::render(&report, "/etc", None).contains("drop-in  it "), "and shown");
    }
    let report = judged(&format!("{WRAPPER}\nExecStopPost=true"));
    assert_eq!((report.verdict, subjects(&report, Level::Caution)), (Verdict::AsItIs, vec!["ExecStopPost="]));
}

#[test]
fn a_command_that_may_stop_the_new_one_is_left_out() {
    // As named.service has it.
    let report = judged("Type=notify\nExecStop=/usr/sbin/rndc stop\nExecStart=/bin/web");
    assert!(drop_in(&report).contains("\nExecStop=\n"), "{report:#?}");
    assert_eq!(subjects(&report, Level::Note), ["ExecStop="]);
    let report = judged("Type=notify\nExecStop=/bin/kill -s QUIT $MAINPID\nExecStart=/bin/web");
    assert!(!drop_in(&report).contains("ExecStop"), "{report:#?}");
    let report = judged(
        "Type=notify\nExecStop=/usr/bin/podman stop --filter=label=invocation=${INVOCATION_ID}\nExecStart=/bin/web",
    );
    assert!(!drop_in(&report).contains("ExecStop"), "{report:#?}");
    let report = judged(&format!("{WRAPPER}\nExecStop=/usr/sbin/rndc stop"));
    assert_eq!((report.verdict, subjects(&report, Level::Caution)), (Verdict::AsItIs, vec!["ExecStop="]));
}

#[test]
fn a_signal_means_one_thing() {
    let report = judged("Type=notify\nKillSignal=HUP\nExecStart=/bin/web");
    assert!(drop_in(&report).contains("KillSignal=SIGTERM\n") && command(&report).contains(" --signal=SIGHUP "));
    assert!(refusal(&format!("{WRAPPER}\nKillSignal=1")).contains("SIGHUP as its KillSignal= and its ReloadSignal="));
    assert!(refusal(&format!("{WRAPPER}\nReloadSignal=USR1\nRestartKillSignal=SIGUSR1")).contains("RestartKillSignal"));
    assert_eq!(judged(&format!("{WRAPPER}\nReloadSignal=USR1\nKillSignal=HUP")).verdict, Verdict::AsItIs);
}

#[test]
fn a_root_of_its_own_is_the_generations() {
    let report = judged("Type=notify\nRootDirectory=/srv/%n/root x\nExecStart=/bin/web");
    assert!(drop_in(&report).contains("RootDirectory=\n"));
    assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run -p \"RootDirectory=/srv/%n/root x\" -- /bin/web");
    let report = judged(&format!("{WRAPPER}\nRootImage=/srv/i"));
    assert_eq!((report.verdict, subjects(&report, Level::Caution)), (Verdict::AsItIs, vec!["RootImage="]));
}

#[test]
fn a_delegated_control_group_is_the_generations() {
    let report = judged("Type=notify\nUser=app\nDelegate=cpu io\nExecStart=/bin/web");
    assert!(drop_in(&report).contains("\nDelegate=no\n"), "{report:#?}");
    assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run -p \"Delegate=cpu io\" -- /bin/web");
    let cautions = |lines: &str| subjects(&judged(&format!("{lines}\n{WRAPPER}")), Level::Caution).join(" ");
    assert_eq!(cautions("DynamicUser=yes\nDelegate=yes"), "Delegate=");
    for harmless in ["Delegate=yes", "User=root\nDelegate=yes", "User=app\nDelegate=no"] {
        assert_eq!(cautions(harmless), "", "{harmless}");
    }
}

#[test]
fn a_watchdog_is_the_generations() {
    let report = judged("Type=notify\nWatchdogSec=1min 30s\nExecStart=/bin/web");
    assert!(drop_in(&report).contains("\nWatchdogSec=0\n"), "{report:#?}");
    assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run -p \"WatchdogSec=1min 30s\" -- /bin/web");
    let wrapper = |value: &str| web(&format!("{WRAPPER}\nWatchdogSec={value}"));
    let cautions = |value: &str, version| subjects(&judge(&wrapper(value), &host(version)), Level::Caution).join(" ");
    assert_eq!(cautions("30s", 257), "WatchdogSec=");
    assert_eq!((cautions("0", 257), cautions("", 257)), (String::new(), String::new()));
    // There is a guard.
    assert!(!cautions("30s", 254).contains("WatchdogSec"));
}

#[test]
fn names_that_generations_cannot_have_are_seen() {
    let of = |name: &str, template| Facts {
        template,
        ..facts(name, &[("/u", "[Service]\nType=notify\nExecStart=/bin/web\n")])
    };
    let report = judge(&of("web.service", true), &host(257));
    assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run --unit=web-generation -- /bin/web");
    assert_eq!(judge(&of("app@blue.service", false), &host(257)).verdict, Verdict::WithDropIn);
    assert_eq!(judge(&of("a\\x2db.service", false), &host(257)).verdict, Verdict::No);
    let wrapper = |text: &str| judge(&Facts { template: true, ..web(text) }, &host(257)).verdict;
    assert_eq!(wrapper(WRAPPER), Verdict::No);
    assert_eq!(wrapper(&WRAPPER.replace(" --systemd-run", " --systemd-run --unit=other")), Verdict::AsItIs);
}

#[test]
fn two_need_to_be_able_to_live_side_by_side() {
    for (lines, said) in [
        ("StandardInput=tty", "two can't read from"),
        ("StandardInput=socket", "two can't read from"),
        ("[Unit]\nDefaultDependencies=no", "starts before the bus"),
    ] {
        assert!(refusal(&format!("Type=notify\nExecStart=/bin/web\n{lines}")).contains(said), "{lines}");
    }
    let bus = facts("dbus.service", &[("/u", "[Service]\nType=notify\nExecStart=/bin/dbus\n")]);
    assert_eq!(judge(&bus, &host(257)).verdict, Verdict::No);
}

#[test]
fn what_the_processes_hold_decides() {
    let port = |shared| Port { protocol: "tcp", address: "0.0.0.0:80".to_owned(), shared };
    let seen = |lines: &str, ports: &[Port], sockets: &[&str], locks: &[&str]| {
        let owned = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
        let held = Held::Seen { ports: ports.to_vec(), sockets: owned(sockets), locks: owned(locks) };
        judge(&Facts { held, ..web(&format!("Type=notify\nExecStart=/bin/web\n{lines}")) }, &host(257))
    };
    assert_eq!(seen("", &[], &[], &[]).findings.iter().filter(|one| one.subject == "port").count(), 0);
    for (ports, sockets, locks, said) in [
        (&[port(Some(false))][..], &[][..], &[][..], "listens on tcp 0.0.0.0:80 alone"),
        (&[], &["/run/web.sock"], &[], "listens at /run/web.sock"),
        (&[], &[], &["/var/lib/web/LOCK"], "has locked /var/lib/web/LOCK"),
    ] {
        let report = seen("", ports, sockets, locks);
        assert_eq!(command(&report), "+/usr/bin/procroll --systemd-run --strategy=handover -- /bin/web");
        let is_said = |one: &Finding| one.level == Level::Caution && one.why.starts_with(said);
        assert!(report.findings.iter().any(is_said), "{report:#?}");
    }
    let report = seen("ExecStop=/usr/sbin/rndc stop\nKillMode=process", &[port(Some(false))], &["/run/x"], &["/run/y"]);
    assert_eq!(command(&report).matches("--strategy=handover").count(), 1);
    assert!(!drop_in(&report).contains("ExecStop"), "there is no new one that it could take for the old one");
    assert_eq!(subjects(&report, Level::Caution), ["port", "socket", "lock", "KillMode="]);
    for shared in [Some(true), None] {
        let report = seen("", &[port(shared)], &[], &[]);
        assert_eq!((report.verdict, subjects(&report, Level::Note)), (Verdict::WithDropIn, vec!["port"]));
    }
    // What each generation has for itself anyway.
    assert_eq!(seen("PrivateNetwork=yes", &[port(Some(false))], &[], &[]).verdict, Verdict::WithDropIn);
    assert!(!command(&seen("PrivateNetwork=yes", &[port(Some(false))], &[], &[])).contains("--strategy"));
    assert!(command(&seen("PrivateNetwork=false", &[port(Some(false))], &[], &[])).contains("--strategy=handover"));
    assert_eq!(seen("PrivateTmp=yes", &[], &["/tmp/x"], &["/var/tmp/y"]).verdict, Verdict::WithDropIn);
    let report = judge(&Facts { held: Held::NotSeen("it doesn't run".to_owned()), ..web(WRAPPER) }, &host(257));
    assert_eq!(
        report.findings[0].why,
        "has not been looked at for ports, sockets and locks of its own: it doesn't run"
    );
}

#[test]
fn a_wrapper_that_hands_over_may_be_stopped_by_a_command() {
    let lines = format!("{WRAPPER}\nExecStop=/usr/sbin/rndc stop")
        .replace("--systemd-run", "--systemd-run --strategy=handover");
    assert_eq!(judged(&lines).findings, []);
    assert_eq!(subjects(&judged(&format!("{lines}\nKillMode=none")), Level::Caution), ["KillMode="]);
}

#[test]
fn a_value_that_cannot_be_carried_names_its_line() {
    let report = judged("Type=notify\nExecStart=/bin/web\nEnvironment=\"A=\\x25n\"");
    assert_eq!(report.findings[0].at, Some(Location { path: "/etc/web.service".to_owned(), line: 4 }));
    assert!(report.findings[0].why.starts_with("has a Environment= that can't be carried over"), "{report:#?}");
}

#[test]
fn the_drop_in_comes_after_what_would_undo_it() {
    let base = ("/lib/web.service", "[Service]\nType=notify\nExecStart=/bin/old\n");
    let name = |path, text| judge(&facts("web.service", &[base, (path, text)]), &host(257)).drop_in.map(|one| one.name);
    let own = Some("zz-procroll.conf".to_owned());
    assert_eq!(name("/etc/web.service.d/override.conf", "[Service]\nExecStart=\nExecStart=/bin/web\n"), own);
    assert_eq!(name("/etc/web.service.d/10-x.conf", "[Service]\nRestart=no\n"), Some("50-procroll.conf".to_owned()));
    assert_eq!(name("/etc/web.service.d/override.conf", "[Service]\nUser=app\n"), Some("50-procroll.conf".to_owned()));
}

#[test]
fn a_drop_in_that_is_there_only_grows() {
    let text = format!("{MARK}[Service]\n{}\n", WRAPPER.replace("RestartMode=direct\n", "ExecStart=\n"));
    let written = DropIn { name: "50-procroll.conf".to_owned(), text: text.clone() };
    let files =
        [("/lib/web.service", "[Service]\nExecStart=/bin/web\n"), ("/etc/web.service.d/50-procroll.conf", &text)];
    let report = judge(&Facts { written: vec![written], ..facts("web.service", &files) }, &host(257));
    assert_eq!(report.drop_in.map(|one| one.text), Some(format!("{text}[Service]\nRestartMode=direct\n")));
}

#[test]
fn a_unit_that_there_is_nothing_to_say_of_is_named_with_systemds_word() {
    for (why, said) in [
        (Unfit::Load("masked".to_owned()), "it is masked. See \"systemctl status web.service\""),
        (Unfit::Load("not-found".to_owned()), "it is not-found. There is no unit file of this name"),
        (Unfit::Stale, "Type \"systemctl daemon-reload\" and try again"),
    ] {
        let text = text::render(&unfit("web.service", &why, &host(257)), "/etc", None);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.starts_with("web.service can't roll") && text.ends_with(said), "{text}");
    }
}

#[test]
fn nothing_that_others_have_named_reaches_the_terminal_but_as_text() {
    let odd = "a\x1b]0;b\x07\n  no       c\u{9b}2Jd";
    let held = Held::Seen { ports: Vec::new(), sockets: vec![odd.to_owned()], locks: vec![odd.to_owned()] };
    let path = format!("/{odd}.service");
    let command = "[Service]\nType=notify\nExecReload=x\nExecStart=/bin/web \x1b[2J\n";
    let plain = Facts { name: odd.to_owned(), ..facts("web.service", &[(path.as_str(), command)]) };
    for facts in [plain.clone(), Facts { name: "web.service".to_owned(), held, ..plain }] {
        let report = judge(&facts, &host(257));
        let text = text::render(&report, &path, None);
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("  no       c")), "{text:?}");
    }
}

#[test]
fn a_report_is_a_few_aligned_lines() {
    let report = judge(&web("Type=notify\nExecStart=-/bin/web\nExecStartPre=true"), &host(257));
    assert_eq!(
        text::render(&report, "/etc/systemd/system/web.service.d", None),
        "web.service can roll, with the drop-in below
  caution  it loses the - in front of its command, so if that fails, the unit has failed. Name exit
           statuses that are fine in SuccessExitStatus=
           /etc/web.service:3
  note     it has ExecStartPre=, run for the wrapper and for each generation, beside the one that
           serves
           /etc/web.service:4

    # /etc/systemd/system/web.service.d/50-procroll.conf
    [Service]
    Type=notify-reload
    Restart=on-failure
    RestartMode=direct
    RestartPreventExitStatus=170 173 174 175
    ExecStart=
    ExecStart=+/usr/bin/procroll --systemd-run -- /bin/web
"
    );
}

proptest! {
    /// Whatever a unit says: with its drop-in nothing is left to be done.
    #[test]
    fn with_the_drop_in_a_unit_is_a_sound_wrapper(
        version in prop_oneof![Just(252), Just(254), Just(257), Just(262)],
        lines in proptest::sample::subsequence(
            vec![
                "Type=notify", "Type=exec", "Type=notify-reload", "Restart=always", "Restart=no", "RestartMode=direct",
                "RestartMode=normal", "ExecReload=kill -HUP $MAINPID", "ExecReload=+/usr/bin/procroll reload",
                "RuntimeDirectory=web", "DynamicUser=yes", "User=app", "KillSignal=HUP", "ReloadSignal=USR1",
                "RootDirectory=/srv/root", "PIDFile=/run/web.pid", "ExecStartPre=true", "ExecStopPost=true", "ExecStop=/usr/sbin/rndc stop", "ExecStop=kill $MAINPID",
                "ExecStart=\nExecStart=:/bin/x \"a b\" $X", "ExecStart=\nExecStart=@/bin/x x {{a", "KillMode=none",
                "ExecStart=\nExecStart=/usr/bin/procroll --systemd-run --settle=0 -- /bin/x", "RestartKillSignal=1",
            ],
            0..12,
        ),
        template in any::<bool>(),
    ) {
        let text = format!("[Service]\nExecStart=/bin/web\n{}\n", lines.join("\n"));
        let before = Facts { template, ..facts("web.service", &[("/lib/web.service", &text)]) };
        let report = judge(&before, &host(version));
        if let Some(drop_in) = &report.drop_in {
            let path = format!("/etc/web.service.d/{}", drop_in.name);
            let after = facts("web.service", &[("/lib/web.service", &text), (&path, &drop_in.text)]);
            let after = Facts { template, ..after };
            let again = judge(&after, &host(version));
            prop_assert_eq!(again.verdict, Verdict::AsItIs, "{}\n{}\n{:#?}", text, drop_in.text, again.findings);
        }
    }
}
