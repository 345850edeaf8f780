//! Processes beside procroll: none that the application may have can trace it or look into it. Those of its own user may
//! send it signals, and lower its limits, which the kernel lets nobody forbid.

use crate::machine::Machine;
use crate::{with_lines, wrapper};

on_each_systemd!(
    the_applications_user_cannot_get_at_procroll,
    an_application_that_is_root_in_a_sandbox_cannot_look_into_procroll,
    a_users_own_processes_cannot_look_into_procroll,
    a_delegated_control_group_is_the_generations_alone,
);

/// probe.py PID: prints all that it can get of a process.
const PROBE: &str = r#"
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
got = []
def attempt(what, how):
    try:
        answer = how()
        if answer is not False and answer != -1:
            got.append(what)
    except OSError:
        pass
for name in ["environ", "maps", "auxv", "syscall", "io", "fdinfo/0"]:
    attempt(name, lambda: open(f"/proc/{pid}/{name}", "rb").read(1) != b"")
attempt("writing mem", lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)))
for name in ["root", "cwd", "exe", "fd/2", "ns/mnt"]:
    attempt(f"link {name}", lambda: os.readlink(f"/proc/{pid}/{name}"))
attempt("etc", lambda: os.listdir(f"/proc/{pid}/root/etc"))
PTRACE_SEIZE, PTRACE_ATTACH = 0x4206, 16
attempt("seize", lambda: libc.ptrace(PTRACE_SEIZE, pid, 0, 0))
attempt("attach", lambda: libc.ptrace(PTRACE_ATTACH, pid, 0, 0))
vector = (ctypes.c_size_t * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
attempt("memory", lambda: libc.process_vm_readv(pid, vector, 1, vector, 1, 0) == -1 and ctypes.get_errno() == 14)
attempt("descriptor", lambda: libc.syscall(438, os.pidfd_open(pid), 0, 0))
if "kill" in sys.argv:
    for signal in [0, 1, 9, 10, 15, 19]:
        attempt(f"signal {signal}", lambda: os.kill(pid, signal))
print("got:", ", ".join(got), flush=True)
"#;

fn probe(machine: &Machine, run: &str, pid: &str) -> String {
    let said = machine.ok(&format!("{run} /usr/bin/python3 /srv/probe.py {pid} 2>&1"));
    said.lines().find_map(|line| line.strip_prefix("got:")).unwrap_or_else(|| panic!("{said}")).trim().to_owned()
}

fn a_delegated_control_group_is_the_generations_alone(machine: &Machine) {
    // The application moves a process into a group that it makes, where it may freeze or kill it.
    let may_take = |group: &str, pid: &str| {
        let line = format!(
            "cd /sys/fs/cgroup/system.slice/{group} && mkdir taken && echo {pid} >taken/cgroup.procs && \
             echo 0 >taken/cgroup.freeze"
        );
        machine.run_words(&["runuser", "-u", "app", "--", "sh", "-c", &line]).status == Some(0)
    };
    // As systemd has it, the group of whoever is the unit's main process is the application's. That is said.
    machine.unit("web.service", &with_lines("User=app\nDelegate=yes", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    assert!(may_take("web.service", &machine.show("web", "MainPID")));
    let log = machine.log("web.service");
    assert!(log.contains("has a Delegate= and a User=, who could freeze or kill procroll"), "{log}");
    // The way out that it tells.
    let unit = with_lines("User=app\nDelegate=no", "--settle=0 -p Delegate=yes", "ready run");
    machine.unit("web.service", &unit);
    machine.ok("systemctl restart web");
    assert!(!may_take("web.service", &machine.show("web", "MainPID")));
    assert!(may_take("system-web.slice/web@1.service", &machine.show("web@1", "MainPID")));
    assert_eq!(machine.log("web.service").matches("Delegate=").count(), log.matches("Delegate=").count());
}

fn the_applications_user_cannot_get_at_procroll(machine: &Machine) {
    machine.write("/srv/probe.py", PROBE);
    machine.unit("web.service", &with_lines("User=app", "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let (procroll, payload) = (machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));
    let as_app = "runuser -u app --";
    assert!(probe(machine, as_app, &payload).contains("environ"), "it can get at its own");
    assert_eq!(probe(machine, as_app, &format!("{procroll} kill")), "");
    machine.ok("systemctl reload web");
    assert_eq!(machine.show("web", "MainPID"), procroll);
}

fn an_application_that_is_root_in_a_sandbox_cannot_look_into_procroll(machine: &Machine) {
    machine.write("/srv/probe.py", PROBE);
    // All that procroll has, and no CAP_SYS_PTRACE, with which nothing is closed to root.
    let sandbox = "CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_SETUID CAP_KILL";
    machine.unit("web.service", &with_lines(sandbox, "--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let run = format!("systemd-run --quiet --pipe --wait -p '{sandbox}'");
    let own = probe(machine, &run, &machine.show("web@1", "MainPID"));
    assert!(
        own.contains("environ") && own.contains("link root") && own.contains("memory") && own.contains("seize"),
        "{own}"
    );
    assert_eq!(probe(machine, &run, &machine.show("web", "MainPID")), "");
    machine.ok("systemctl reload web");
}

fn a_users_own_processes_cannot_look_into_procroll(machine: &Machine) {
    machine.write("/srv/probe.py", PROBE);
    machine.ok("useradd --create-home alice && loginctl enable-linger alice");
    let alice = "runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice)";
    machine.wait_for("alice's manager", || {
        (machine.run(&format!("{alice} systemctl --user is-system-running --wait")).stdout == "running").then_some(())
    });
    let show = |unit: &str, property: &str| {
        machine.ok(&format!("{alice} systemctl --user show --property={property} --value {unit}"))
    };
    machine.write(
        "/home/alice/.config/systemd/user/web.service",
        &wrapper("--settle=0", "ready run").replace("=+/", "=/"),
    );
    machine.ok(&format!("chown --recursive alice /home/alice && {alice} systemctl --user daemon-reload"));
    machine.ok(&format!("{alice} systemctl --user start web"));
    assert!(probe(machine, alice, &show("web@1", "MainPID")).contains("environ"), "she can get at her own");
    let procroll = show("web", "MainPID");
    assert_eq!(probe(machine, alice, &procroll), "");
    let status = machine.ok(&format!("cat /proc/{procroll}/status"));
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Seccomp:\t2\n"), "{status}");
    // It is closed to its user, not to its manager and the journal.
    assert_eq!(show("web", "StatusText"), format!("web@1.service (main PID {}) serves", show("web@1", "MainPID")));
    let status = machine.ok(&format!("{alice} systemctl --user status web"));
    assert!(status.contains(&format!("{procroll} /usr/bin/procroll --systemd-run")), "{status}");
    let log = machine.journal(&format!("_SYSTEMD_USER_UNIT=web.service _EXE=/usr/bin/procroll _PID={procroll}"));
    assert!(log.contains("web@1.service serves"), "{log}");
    machine.ok(&format!("{alice} systemctl --user reload web"));
}
