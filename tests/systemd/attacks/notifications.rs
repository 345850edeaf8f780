//! Notifications, of every kind and from everywhere: procroll and its wrapper stay as they are, and a roll still gives the
//! truth.

use crate::machine::Machine;
use crate::with_lines;

on_each_systemd!(
    what_a_generation_says_is_about_itself,
    what_others_of_its_user_say_is_about_nobody,
    a_signal_never_goes_to_a_process_that_is_not_the_generations,
    not_even_if_root_names_that_process,
    one_that_says_it_stops_does_not_serve,
);

/// notify.py PROCROLL [OTHER]: says all that can be said, then READY=1, and prints each SIGUSR1.
const NOTIFY: &str = r#"
import array, os, signal, socket, sys
signal.signal(signal.SIGUSR1, lambda *_: print("SIGUSR1", flush=True))
def send(text, *files):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno() for file in files]))]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
        manager.connect(os.environ.get("NOTIFY_SOCKET", "/run/systemd/notify"))
        try:
            manager.sendmsg([text.encode()], rights if files else [])
        except OSError as error:
            print(error, flush=True)
pids = ["1", "2", "0", "-1", "4194303", str(os.getppid()), *sys.argv[1:]]
for pid in pids:
    send(f"MAINPID={pid}")
    send(f"READY=1\nMAINPID={pid}\nSTATUS=MAINPID={pid}")
for text in [
    "RELOADING=1\nMONOTONIC_USEC=1", "RELOADING=1", "READY=1", "ERRNO=2", "BUSERROR=org.example.Broken", "EXIT_STATUS=3",
    "WATCHDOG=1", "WATCHDOG_USEC=600000000", "EXTEND_TIMEOUT_USEC=1", "EXTEND_TIMEOUT_USEC=18446744073709551615",
    "STATUS=web@9.service (main PID 1) serves\nSTATUS=\nSTATUS=two\x1b[2Jlines\rX=1\n\nMAINPID=1",
    "FDSTOREREMOVE=1\nFDNAME=x", "NOTIFYACCESS=all", "BARRIER=1", "INVOCATION_ID=0",
    "=", "\n\n\n", "\0", "READY", "X_PROCROLL=1", "STATUS=" + "x" * 100000, "STATUS=" + "x\n" * 2000000,
]:
    send(text)
for count in range(50):
    send("STATUS=" + str(count) * 4000)
files = [open("/dev/null") for _ in range(200)]
send("FDSTORE=1\nFDNAME=connection", *files[:3])
send("FDSTORE=1\nFDNAME=../../x\nFDPOLL=0", *files)
send("READY=1\nSTATUS=attacked")
print("said", flush=True)
while True:
    signal.pause()
"#;

const LINES: &str = "User=app\nNotifyAccess=all\nFileDescriptorStoreMax=8\nWatchdogSec=10min\nTimeoutStopSec=10s";

fn prepare(machine: &Machine) {
    machine.write("/srv/app/notify.py", NOTIFY);
    let unit =
        with_lines(LINES, "--settle=0", "").replace("/usr/bin/payload", "/usr/bin/python3 /srv/app/notify.py {{.PID}}");
    machine.unit("web.service", &unit);
}

/// What systemd thinks of the wrapper, apart from what it does just now.
fn standing(machine: &Machine) -> String {
    let properties = "MainPID,ActiveState,SubState,Result,NRestarts,NFileDescriptorStore,StatusErrno,NotifyAccess,\
        WatchdogUSec,InvocationID,ControlPID,TimeoutStartUSec,TimeoutStopUSec";
    machine.ok(&format!("systemctl show --property={properties} web"))
}

fn serves(machine: &Machine, generation: &str) {
    let status = format!("{generation} (main PID {}) serves", machine.show(generation, "MainPID"));
    machine.wait_for_property("web", "StatusText", &status);
}

fn what_a_generation_says_is_about_itself(machine: &Machine) {
    prepare(machine);
    machine.ok("systemctl start web");
    machine.wait_for_property("web@1", "StatusText", "attacked");
    machine.wait_for("all to be said", || machine.output("web@1.service").contains("said").then_some(()));
    let before = standing(machine);
    assert!(before.contains("ActiveState=active\nSubState=running\n") && before.contains("NFileDescriptorStore=0\n"));
    serves(machine, "web@1.service");
    let command = machine.ok(&format!("cat /proc/{}/cmdline", machine.show("web@1", "MainPID")));
    assert!(command.contains("notify.py"), "its own process: {command}");
    assert_ne!(machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));

    // The next one says the same while it starts and while the old one is stopped.
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    machine.wait_for_property("web@2", "StatusText", "attacked");
    serves(machine, "web@2.service");
    assert_eq!(standing(machine), before);
    let log = machine.log("web.service");
    assert!(!log.contains("web@9.service"), "{log}");
    machine.ok("systemctl stop web");
    assert_eq!(machine.units("web@*"), [] as [&str; 0]);
    assert_eq!(machine.show("web", "Result"), "success");
}

fn what_others_of_its_user_say_is_about_nobody(machine: &Machine) {
    prepare(machine);
    machine.unit("web.service", &with_lines(LINES, "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let (before, status) = (standing(machine), machine.show("web@1", "StatusText"));
    let (procroll, main) = (machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));
    // Of no unit, and of a unit of their own.
    let attack = format!("/usr/bin/python3 /srv/app/notify.py {procroll} {main}");
    let mut session = machine.spawn(&["runuser", "-u", "app", "--", "sh", "-c", &format!("exec {attack}")]);
    machine.ok(&format!("systemd-run --quiet --uid=app --unit=other -p Type=notify -p NotifyAccess=all {attack}"));
    machine.wait_for("all to be said", || machine.output("other.service").contains("said").then_some(()));
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    assert_eq!(standing(machine), before);
    assert_eq!(machine.show("web@2", "StatusText"), status);
    serves(machine, "web@2.service");
    machine.ok("pkill --full [n]otify.py");
    session.wait().expect("it ends");
}

fn a_signal_never_goes_to_a_process_that_is_not_the_generations(machine: &Machine) {
    prepare(machine);
    machine.ok("systemd-run --quiet --uid=app --unit=other -p Type=notify payload heed SIGUSR1 ready run");
    let other = machine.show("other", "MainPID");
    let unit = machine.read("/etc/systemd/system/web.service").replace("{{.PID}}", &format!("{{{{.PID}}}} {other}"));
    machine.unit("web.service", &unit);
    machine.ok("systemctl start web");
    machine.wait_for("all to be said", || machine.output("web@1.service").contains("said").then_some(()));
    machine.ok("systemctl kill --kill-whom=main --signal=USR1 web");
    machine.wait_for("the signal", || machine.output("web@1.service").contains("SIGUSR1").then_some(()));
    assert_eq!(machine.output("other.service"), "");
    assert_eq!(machine.output("web@1.service").matches("SIGUSR1").count(), 1);
}

fn not_even_if_root_names_that_process(machine: &Machine) {
    prepare(machine);
    machine.ok("systemd-run --quiet --uid=app --unit=other -p Type=notify payload heed SIGUSR1 ready run");
    let other = machine.show("other", "MainPID");
    let unit = machine.read("/etc/systemd/system/web.service").replace("User=app\n", "");
    for pid in ["{{.PID}}", &other] {
        // systemd believes root, who could have sent the signal itself. procroll does not.
        machine.unit("web.service", &unit.replace("{{.PID}}", pid));
        machine.ok("systemctl start web");
        machine.wait_for("all to be said", || machine.output("web@1.service").contains("said").then_some(()));
        let pid = if pid == other { other.clone() } else { machine.show("web", "MainPID") };
        machine.wait_for_property("web@1", "MainPID", &pid);
        machine.ok("systemctl kill --kill-whom=main --signal=USR1 web");
        let said = format!("can't pass a signal on to web@1.service: its main process (PID {pid}) is none of its own");
        machine.wait_for("the refusal", || machine.log("web.service").contains(&said).then_some(()));
        assert_eq!(machine.log("web.service").matches(&said).count(), 1);
        assert_eq!(machine.output("other.service"), "");
        machine.ok("systemctl kill --signal=KILL web 'web@*'; systemctl stop web 'web@*'; systemctl reset-failed");
    }
}

fn one_that_says_it_stops_does_not_serve(machine: &Machine) {
    machine.unit("web.service", &with_lines("User=app\nTimeoutStopSec=2s", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    machine.write("/srv/app/stops.py", &NOTIFY.replace("STATUS=attacked\")", "STATUS=attacked\\nSTOPPING=1\")"));
    let unit = with_lines("User=app\nTimeoutStopSec=2s", "--settle=1min", "");
    machine.unit("web.service", &unit.replace("/usr/bin/payload", "/usr/bin/python3 /srv/app/stops.py"));
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    serves_on(machine);
}

fn serves_on(machine: &Machine) {
    assert_eq!(machine.show("web@1", "ActiveState"), "active");
    let status = machine.show("web", "StatusText");
    assert!(
        status.starts_with("web@1.service (main PID ") && status.contains("last roll failed: web@2.service"),
        "{status}"
    );
}
