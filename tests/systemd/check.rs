//! `procroll check`: what it says of units is true, and what it writes makes them roll.

use crate::machine::{Answers, Load, Machine, Outcome};
use crate::{SOCKET, wrapper};

on_each_systemd!(
    a_plain_unit_rolls_with_its_drop_in,
    a_unit_of_a_users_rolls_with_its_drop_in,
    what_cannot_roll_is_said_with_the_reason,
    what_its_processes_hold_decides,
    a_file_that_never_ends_is_not_read,
    the_document_is_for_programs,
    nothing_of_anybody_elses_is_overwritten,
    a_wrapper_is_told_what_it_lacks,
);

const USAGE: i32 = 170;
const NOT_ALLOWED: i32 = 173;
const UNIT_REFUSED: i32 = 174;
const NAME_TAKEN: i32 = 175;

/// gunicorn as its documentation has it.
const GUNICORN: &str = "[Unit]\nDescription=Web\nRequires=web.socket\nAfter=web.socket\n[Service]\nType=notify\nUser=app\n\
                        RuntimeDirectory=web\nWorkingDirectory=/srv/app\nExecStart=/usr/bin/gunicorn \\\n  app:app\n\
                        ExecReload=/bin/kill -s HUP $MAINPID\n";

/// One paragraph, whatever the width.
fn said(outcome: &Outcome) -> String {
    outcome.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn a_plain_unit_rolls_with_its_drop_in(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", SOCKET);
    machine.unit("web.service", GUNICORN);
    machine.ok("systemctl start web.socket web.service");
    let before = machine.ok("find /etc/systemd /run/systemd/system");
    let outcome = machine.run("procroll check web");
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(said(&outcome).starts_with("web.service can roll, with the drop-in below"), "{outcome:?}");
    assert!(said(&outcome).contains("it has its sockets from web.socket"), "{outcome:?}");
    assert!(
        said(&outcome).contains("ExecStart=+/usr/bin/procroll --systemd-run -- /usr/bin/gunicorn app:app"),
        "{outcome:?}"
    );
    assert_eq!(machine.ok("find /etc/systemd /run/systemd/system"), before, "nothing was changed");

    let outcome = machine.run("procroll check --write web");
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let next = "next Type \"systemctl restart web\", the last time that anybody notices. From then on \"systemctl reload web\" rolls it";
    assert!(said(&outcome).contains(next), "{outcome:?}");
    assert!(said(&outcome).contains("note it is no longer told to read its configuration anew"), "{outcome:?}");
    assert_eq!(said(&outcome).matches("it has its sockets from web.socket").count(), 1, "{outcome:?}");
    assert_eq!(machine.ok("ls -A /etc/systemd/system/web.service.d"), "50-procroll.conf");
    assert!(!said(&outcome).contains("still runs without procroll"), "{outcome:?}");
    let outcome = machine.run("procroll check web");
    assert!(said(&outcome).contains("it still runs without procroll. Type \"systemctl restart web\""), "{outcome:?}");
    machine.ok("systemctl restart web");
    let load = Load::start(machine, "127.0.0.1:8000", 4);
    for _ in 0..3 {
        machine.ok("systemctl reload web");
    }
    let answers = load.stop();
    assert_eq!(Answers { answered: 0, ..answers }, Answers::default(), "lost: {answers:?}");
    assert_eq!(machine.show("web@4", "ActiveState"), "active");
    let outcome = machine.run("procroll check web.service");
    assert_eq!(
        (outcome.status, said(&outcome).starts_with("web.service rolls as it is")),
        (Some(0), true),
        "{outcome:?}"
    );
    assert!(machine.log("web.service").lines().all(|line| !line.contains("has ")), "and says so itself");
    let outcome = machine.run("procroll check web@4");
    assert!(outcome.status == Some(UNIT_REFUSED) && said(&outcome).contains("it is a generation of web.service"));
}

fn a_unit_of_a_users_rolls_with_its_drop_in(machine: &Machine) {
    use crate::user::{alice, show, user, write};
    user(machine);
    write(machine, "web.service", "[Service]\nType=notify\nRestart=always\nExecStart=/usr/bin/payload ready run\n");
    let outcome = machine.run(&alice("procroll check --user --write web"));
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(said(&outcome).contains("Type \"systemctl --user start web\""), "{outcome:?}");
    let folder = "/home/alice/.config/systemd/user/web.service.d";
    assert!(
        machine.read(&format!("{folder}/50-procroll.conf")).contains("\nExecStart=/usr/bin/procroll --systemd-run -- ")
    );
    machine.ok(&alice("systemctl --user start web && systemctl --user reload web"));
    machine.wait_for("the roll", || (show(machine, "web@2", "ActiveState") == "active").then_some(()));
    let outcome = machine.run(&alice("procroll check --user web"));
    assert!(said(&outcome).starts_with("web.service rolls as it is"), "{outcome:?}");
}

fn what_cannot_roll_is_said_with_the_reason(machine: &Machine) {
    machine.write("/etc/systemd/system/fork.service", "[Service]\nType=forking\nExecStart=/bin/true\n");
    machine.write("/etc/systemd/system/bad.service", "[Service]\nType=notify\n");
    machine.write("/etc/systemd/system/plain.service", "[Service]\nType=exec\nExecStart=/usr/bin/sleep infinity\n");
    machine.ok("ln -s /dev/null /etc/systemd/system/masked.service; systemctl daemon-reload");
    machine.ok("systemd-run --quiet --unit=made sleep infinity");
    for (unit, reason) in [
        ("nope", "nope.service can't roll no it is not-found"),
        ("masked", "it is masked. See \"systemctl status masked.service\""),
        ("bad", "it is bad-setting"),
        ("fork", "it has Type=forking: it puts itself into the background"),
        ("made.service", "it is transient"),
        ("user@", "it is a template. Name an instance of it, such as user@NAME.service"),
        ("web.socket", "it is not a service"),
        ("systemd-logind", ", which two"),
        ("/no/such.service", "it can't be read: /no/such.service: No such file"),
    ] {
        let outcome = machine.run(&format!("procroll check {unit}"));
        assert_eq!(outcome.status, Some(UNIT_REFUSED), "{unit}: {outcome:?}");
        assert!(said(&outcome).contains(reason), "{unit}: {outcome:?}");
    }
    // Where it says so, and what becomes of the others.
    let outcome = machine.run("procroll check fork plain");
    assert_eq!(outcome.status, Some(UNIT_REFUSED));
    assert!(said(&outcome).contains("/etc/systemd/system/fork.service:2 plain.service can roll"), "{outcome:?}");
    let outcome = machine.run("procroll check /etc/systemd/system/plain.service");
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    machine.ok("systemctl start plain");
    machine.write("/etc/systemd/system/plain.service", "[Service]\nType=exec\nExecStart=/usr/bin/sleep 1000\n");
    let outcome = machine.run("procroll check plain");
    assert!(said(&outcome).contains("Type \"systemctl daemon-reload\" and try again"), "{outcome:?}");
    for words in ["", "--nope web", "--write ./web.service"] {
        let outcome = machine.run(&format!("procroll check {words}"));
        assert_eq!((outcome.status, outcome.stderr.lines().count()), (Some(USAGE), 1), "{outcome:?}");
    }
}

fn what_its_processes_hold_decides(machine: &Machine) {
    let unit =
        |command: &str| format!("[Service]\nType=exec\nUser=app\nWorkingDirectory=/srv/app\nExecStart={command}\n");
    let gunicorn = "/usr/bin/gunicorn app:app --bind";
    machine.write("/etc/systemd/system/port.service", &unit(&format!("{gunicorn} 127.0.0.1:8001")));
    machine.write("/etc/systemd/system/shared.service", &unit(&format!("{gunicorn} 127.0.0.1:8002 --reuse-port")));
    machine.write("/etc/systemd/system/path.service", &unit(&format!("{gunicorn} unix:/tmp/web.sock")));
    machine.write("/etc/systemd/system/lock.service", &unit("/usr/bin/flock /tmp/web.lock sleep infinity"));
    let outcome = machine.run("systemctl daemon-reload; procroll check port shared path lock");
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert_eq!(said(&outcome).matches("locks of its own: it doesn't run").count(), 4, "{outcome:?}");

    machine.ok("systemctl start port shared path lock");
    for (unit, reason) in [
        (
            "port",
            "it listens on tcp 127.0.0.1:8001 alone, so it rolls by handover: the old one is gone before the new one starts. For a roll without a gap, let port.socket listen",
        ),
        ("shared", "it listens on tcp 127.0.0.1:8002 with SO_REUSEPORT"),
        ("path", "it listens at /tmp/web.sock, so it rolls by handover"),
        ("lock", "it has locked /tmp/web.lock, so it rolls by handover"),
    ] {
        machine.wait_for("what it holds to be seen", || {
            let outcome = machine.run(&format!("procroll check {unit}"));
            (outcome.status == Some(0) && said(&outcome).contains(reason)).then_some(())
        });
        let outcome = machine.run(&format!("procroll check {unit}"));
        let strategy = said(&outcome).contains("procroll --systemd-run --service-type=exec --strategy=handover -- ");
        assert_eq!(strategy, unit != "shared", "{outcome:?}");
    }
    // Who may not look is told so.
    let outcome = machine.run("runuser -u nobody -- procroll check port");
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(said(&outcome).contains("only root may look at them"), "{outcome:?}");
    // And so it does.
    machine.ok("procroll check --write port path lock && systemctl restart port path lock");
    for unit in ["port", "path", "lock"] {
        machine.ok(&format!("systemctl reload {unit}"));
        machine.wait_for_property(&format!("{unit}@2"), "ActiveState", "active");
        let outcome = machine.run(&format!("procroll check {unit}"));
        assert!(said(&outcome).starts_with(&format!("{unit}.service rolls as it is")), "{outcome:?}");
    }
}

fn a_file_that_never_ends_is_not_read(machine: &Machine) {
    machine.ok("cd /tmp && mkfifo pipe.service && ln -s /dev/zero zero.service && truncate --size=1G long.service && \
         mkdir web.service.d && mkfifo web.service.d/pipe.conf");
    machine.write("/tmp/web.service", "[Service]\nType=notify\nExecStart=/usr/bin/payload ready run\n");
    for (file, reason) in [
        ("pipe", "/tmp/pipe.service: it is not a file"),
        ("zero", "/tmp/zero.service: it is not a file"),
        ("long", "/tmp/long.service: it is longer than 16 MiB"),
        ("web", "/tmp/web.service.d/pipe.conf: it is not a file"),
    ] {
        let outcome = machine.run(&format!("timeout 20 procroll check /tmp/{file}.service"));
        assert_eq!(outcome.status, Some(UNIT_REFUSED), "{file}: {outcome:?}");
        assert!(said(&outcome).contains(reason), "{file}: {outcome:?}");
    }
}

fn the_document_is_for_programs(machine: &Machine) {
    machine.unit("web.service", "[Service]\nType=notify\nExecStart=/usr/bin/payload ready run\nExecReload=true\n");
    let document = |words: &str| {
        let outcome = machine.run(&format!("procroll check --json {words}"));
        assert_eq!(outcome.stderr, "", "{outcome:?}");
        let document: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        document["units"].as_array().expect("units").clone()
    };
    let units = document("web nope");
    assert_eq!(units.iter().map(|unit| &unit["unit"]).collect::<Vec<_>>(), ["web.service", "nope.service"]);
    assert_eq!(units.iter().map(|unit| &unit["verdict"]).collect::<Vec<_>>(), ["with-drop-in", "no"]);
    assert_eq!(units[0]["drop_in"]["path"], "/etc/systemd/system/web.service.d/50-procroll.conf");
    let text = units[0]["drop_in"]["text"].as_str().expect("text").to_owned();
    let findings = units[0]["findings"].as_array().expect("findings");
    let reload = findings.iter().find(|finding| finding["subject"] == "ExecReload=").expect("ExecReload=");
    assert_eq!(reload["at"]["path"], "/etc/systemd/system/web.service");
    assert_eq!(reload["at"]["line"], 4);
    assert!(["level", "why", "todo"].iter().all(|field| reload[field].is_string()), "{reload}");

    let units = document("--write web");
    assert_eq!((&units[0]["verdict"], &units[0]["written"]), (&"as-it-is".into(), &true.into()));
    assert_eq!(machine.read("/etc/systemd/system/web.service.d/50-procroll.conf"), text);
    let units = document("--write web");
    assert_eq!(
        (&units[0]["drop_in"], &units[0]["written"]),
        (&serde_json::Value::Null, &false.into()),
        "once is enough"
    );
}

fn nothing_of_anybody_elses_is_overwritten(machine: &Machine) {
    let unit = "[Service]\nType=notify\nExecStart=/usr/bin/payload ready run\n";
    machine.write("/etc/systemd/system/web.service.d/50-procroll.conf", "[Service]\nNice=3\n");
    machine.unit("web.service", unit);
    let outcome = machine.run("procroll check --write web");
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (Some(NAME_TAKEN), 1), "{outcome:?}");
    assert_eq!(machine.read("/etc/systemd/system/web.service.d/50-procroll.conf"), "[Service]\nNice=3\n");
    machine.ok("rm -r /etc/systemd/system/web.service.d && systemctl daemon-reload");
    let outcome = machine.run("runuser -u app -- procroll check --write web");
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (Some(NOT_ALLOWED), 1), "{outcome:?}");

    // What somebody says of the command later on wins, so procroll's comes after it.
    machine.write(
        "/etc/systemd/system/web.service.d/override.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/payload say other ready run\n",
    );
    machine.ok("systemctl daemon-reload && procroll check --write web");
    assert_eq!(machine.ok("ls -A /etc/systemd/system/web.service.d"), "override.conf\nzz-procroll.conf");
    machine.ok("systemctl start web");
    assert_eq!(machine.output("web@1.service"), "other");
}

fn a_wrapper_is_told_what_it_lacks(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    let outcome = machine.run("procroll check web");
    assert_eq!(
        (outcome.status, said(&outcome).starts_with("web.service rolls as it is")),
        (Some(0), true),
        "{outcome:?}"
    );

    let unit = wrapper("--settle=0", "ready run")
        .replace("Restart=on-failure\nRestartMode=direct\n", "RuntimeDirectory=web\n");
    machine.unit("web.service", &unit);
    let outcome = machine.run("procroll check --write web");
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let drop_in = machine.read("/etc/systemd/system/web.service.d/50-procroll.conf");
    assert!(
        drop_in.contains("Restart=on-failure\n") && drop_in.contains("RuntimeDirectoryPreserve=restart\n"),
        "{drop_in}"
    );
    assert!(!drop_in.contains("ExecStart"), "{drop_in}");
    machine.ok("systemctl start web");
    assert!(!machine.log("web.service").contains("no Restart"), "it says the same of itself");
}
