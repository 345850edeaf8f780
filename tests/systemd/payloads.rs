//! Payloads from hell: as the candidate of a roll (G2), as the one that serves (G9), as the one that drains (G8).

use crate::machine::Machine;
use crate::restless::wait_for_only;
use crate::stops::nothing_is_left;
use crate::{with_lines, wrapper};

on_each_systemd!(
    a_main_process_that_is_another_ones_child_may_end_unnoticed,
    one_that_does_not_behave_never_serves,
    one_that_does_not_end_is_ended,
    one_that_is_odd_serves_and_goes_like_any_other,
    the_death_of_an_odd_one_is_procrolls,
    an_old_one_may_die_at_each_step_of_a_roll,
    a_flood_of_notifications_leaves_procroll_at_rest,
);

/// A service that is rolled again and again.
struct Web<'a> {
    machine: &'a Machine,
    /// The generation that serves.
    serving: u32,
    /// The last one there was.
    last: u32,
}

/// One that does all that is asked of it.
const GOOD: (&str, &str, &str) = ("", "--settle=0", "ready run");

/// What is said of one that systemd forgets when it has ended, or when the processes it has left have.
const LEAVES: [&str; 2] = [
    "exited (Result=success, status=0) while settling. See \"journalctl",
    "was stopped (by itself with STOPPING=1, by somebody, or with a unit that it depends on) while settling",
];

impl<'a> Web<'a> {
    fn start(machine: &'a Machine, (lines, options, steps): (&str, &str, &str)) -> Self {
        machine.unit("web.service", &with_lines(lines, options, steps));
        machine.ok("systemctl start web");
        Self { machine, serving: 1, last: 1 }
    }

    fn unit(&self) -> String {
        format!("web@{}.service", self.serving)
    }

    fn pid(&self) -> String {
        self.machine.show(&self.unit(), "MainPID")
    }

    fn next(&mut self, (lines, options, steps): (&str, &str, &str)) -> String {
        self.machine.unit("web.service", &with_lines(lines, options, steps));
        self.last += 1;
        format!("web@{}.service", self.last)
    }

    /// Rolls, in vain: this is `said`, and the one that serves is as it was. What to type then shows the failed one.
    fn refuses(&mut self, bad: (&str, &str, &str), said: &str) {
        let (machine, pid, candidate) = (self.machine, self.pid(), self.next(bad));
        let state = machine.show(&self.unit(), "ActiveState");
        assert!(["active", "reloading"].contains(&state.as_str()), "{bad:?}: {state}");
        let outcome = machine.run("systemctl reload web");
        assert_eq!(outcome.status, Some(1), "{bad:?}: {outcome:?}");
        machine.wait_for_property("web", "ActiveState", "active");
        let (unit, status) = (self.unit(), machine.show("web", "StatusText"));
        let main = if pid == "0" { String::new() } else { format!(" (main PID {pid})") };
        let serves = format!("{unit}{main} serves; last roll failed: {candidate} {said}");
        assert!(status.starts_with(&serves), "{bad:?}: {status}, not {serves}");
        assert_eq!(machine.show(&unit, "ActiveState"), state, "{bad:?}");
        assert_eq!(self.pid(), pid, "{bad:?}");
        let stays = !LEAVES.contains(&said);
        assert_eq!(status.contains(&format!("\"systemctl status {candidate}\"")), stays, "{bad:?}: {status}");
        assert!(status.contains(&format!("\"journalctl -xeu {candidate}\"")), "{bad:?}: {status}");
        if stays {
            assert!(machine.units("web@*").contains(&candidate), "{bad:?}: it stays to be looked at");
        }
        assert_eq!(self.processes(&candidate), "", "{bad:?}: nothing of it runs");
    }

    /// Rolls, and well: in the end nothing else is there than the new one.
    fn rolls(&mut self, good: (&str, &str, &str)) {
        let next = self.next(good);
        let outcome = self.machine.run("systemctl reload web");
        assert_eq!(outcome.status, Some(0), "{good:?}: {}", self.machine.show("web", "StatusText"));
        self.serving = self.last;
        self.machine.wait_for(&format!("the others to go before {good:?}"), || {
            (self.machine.units("web@*") == [next.as_str()]).then_some(())
        });
    }

    fn processes(&self, unit: &str) -> String {
        let group = format!("/sys/fs/cgroup/system.slice/system-web.slice/{unit}/cgroup.procs");
        self.machine.run(&format!("cat {group}")).stdout
    }
}

fn one_that_does_not_behave_never_serves(machine: &Machine) {
    let mut web = Web::start(machine, GOOD);
    let (starting, settling) = ("--ready-timeout=700ms", "--settle=5s");
    let timed_out = "failed (Result=timeout) while starting";
    let [exited, stopped] = LEAVES;
    let cases = [
        // Says so by a child, whom systemd does not believe.
        ("", starting, "child ready run", timed_out),
        ("", "--ready-timeout=30s", "desert ready run", "failed (Result=protocol) while starting"),
        // With NotifyAccess=all systemd waits for the others to say so, and is then without a main process.
        ("NotifyAccess=all", settling, "desert ready run", exited),
        ("", settling, "ready desert run", exited),
        // Its time is over before what lives on has ended.
        ("TimeoutStopSec=4s", "--settle=2s", "ready deaf pause 0.3 desert run", exited),
        ("", settling, "ready send STOPPING=1 exit 0", stopped),
        ("", settling, "ready send STOPPING=1 exit 5", "failed (Result=exit-code, status=5) while settling"),
        (
            "",
            settling,
            "ready send RELOADING=1|MONOTONIC_USEC=NOW exit 6",
            "failed (Result=exit-code, status=6) while settling",
        ),
        ("", settling, "pass-on ready exit 3", "failed (Result=exit-code, status=3) while settling"),
        ("", settling, "ready pass-on kill SIGKILL", "was killed (Result=signal, status=SIGKILL) while settling"),
        ("", settling, "ready again exit 4", "failed (Result=exit-code, status=4) while settling"),
        ("TimeoutStopSec=500ms", starting, "deaf run", timed_out),
        ("TimeoutStopSec=500ms", starting, "swarm run", timed_out),
        ("TimeoutStopSec=500ms", settling, "ready swarm send STOPPING=1 run", "failed (Result=timeout) while settling"),
        ("", starting, "send STOPPING=1 run", timed_out),
        ("", starting, "send RELOADING=1|MONOTONIC_USEC=NOW run", timed_out),
        ("", starting, "send EXTEND_TIMEOUT_USEC=1000000 run", timed_out),
        ("", starting, "flood 0.5 run", timed_out),
        ("", starting, "spill 8 run", timed_out),
        ("ExecStartPre=false", settling, "ready run", "failed (Result=exit-code) while starting"),
        ("ExecStartPost=false", settling, "ready run", "failed (Result=exit-code) while starting"),
        ("ExecStartPost=false", settling, "polite ready run", "failed (Result=exit-code) while starting"),
        ("ExecStartPost=sh -c 'kill -KILL $$$$'", settling, "ready run", "failed (Result=signal) while starting"),
        ("LimitCORE=0", "--settle=5s -p WatchdogSec=300ms", "ready run", "failed (Result=watchdog) while settling"),
        ("", settling, "oom", "failed (Result=oom-kill) while starting"),
        ("", settling, "ready oom", "failed (Result=oom-kill) while settling"),
    ];
    for (lines, options, steps, said) in cases {
        web.refuses((lines, options, steps), said);
    }
    for property in ["Restart=always", "RestartMode=direct", "RemainAfterExit=no", "Type=forking", "PIDFile=/run/pid"] {
        let (unit, pid) = (web.unit(), web.pid());
        machine.unit("web.service", &with_lines("", &format!("-p {property}"), "ready run"));
        assert_eq!(machine.run("systemctl reload web").status, Some(1));
        web.last += 1;
        let status = machine.show("web", "StatusText");
        assert!(status.contains("of a generation is procroll's to set"), "{status}");
        assert_eq!((machine.units("web@*"), web.pid()), (vec![unit], pid));
    }
    web.rolls(GOOD);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn one_that_does_not_end_is_ended(machine: &Machine) {
    let mut web = Web::start(machine, GOOD);
    let cases = [
        ("TimeoutStopSec=500ms", "swarm ready run"),
        ("TimeoutStopSec=500ms", "swarm ready pass-on run"),
        ("TimeoutStopSec=500ms\nExecStop=sleep infinity", "deaf ready run"),
    ];
    for (lines, steps) in cases {
        web.rolls((lines, "--settle=0", steps));
        web.rolls(GOOD);
    }
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

/// It holds no connection to the bus, and has one thread, whatever its generation does.
pub fn is_at_rest(machine: &Machine) {
    let pid = machine.show("web", "MainPID");
    machine.wait_for("the connection to close", || {
        let clients = machine.ok("busctl list --no-legend --no-pager");
        (!clients.lines().any(|line| line.split_whitespace().nth(1) == Some(&pid))).then_some(())
    });
}

fn one_that_is_odd_serves_and_goes_like_any_other(machine: &Machine) {
    let mut web = Web::start(machine, GOOD);
    let keeps = "FileDescriptorStoreMax=4\nFileDescriptorStorePreserve=yes";
    let cases = [
        ("NotifyAccess=all", "--settle=0", "child ready run"),
        ("", "--settle=100ms", "ready pass-on run"),
        ("NotifyAccess=all", "--settle=0", "pass-on pass-on ready pass-on child run"),
        ("", "--settle=100ms", "ready again run"),
        ("", "--settle=100ms", "send RELOADING=1|MONOTONIC_USEC=NOW ready send RELOADING=1|MONOTONIC_USEC=NOW run"),
        ("", "--settle=100ms", "ready send RELOADING=1 ready send RELOADING=1 run"),
        ("", "--settle=0 --ready-timeout=3s", "send EXTEND_TIMEOUT_USEC=20000000 pause 4 ready run"),
        (keeps, "--settle=0", "store ready run"),
        ("", "--settle=0", "spill 8 ready run"),
        ("", "--settle=100ms", "ready flood 1 run"),
        ("ExitType=cgroup\nNotifyAccess=all", "--settle=100ms", "desert ready run"),
        ("ExitType=cgroup", "--settle=100ms", "ready desert run"),
    ];
    for odd in cases {
        web.rolls(odd);
        assert!(machine.show("web", "StatusText").starts_with(&web.unit()), "{odd:?}");
        assert_ne!(web.processes(&web.unit()), "", "{odd:?}");
        is_at_rest(machine);
        if odd.2.contains("flood") {
            let sent = machine.wait_for("the end of the flood", || {
                machine.output(&web.unit()).strip_prefix("sent ")?.strip_suffix(" bytes")?.parse::<u64>().ok()
            });
            assert!(sent > 2_000_000, "{sent}");
        }
        web.refuses(("", "", "exit 3"), "failed (Result=exit-code, status=3) while starting");
        web.rolls(GOOD);
    }
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

/// Starts one without a roll and lets it come to its end. Gives how procroll ended, as systemd has it.
fn ends(machine: &Machine, (lines, options, steps): (&str, &str, &str)) -> (String, String) {
    let lines = format!("{lines}\nLimitCORE=0\nTimeoutStopSec=500ms");
    let unit = with_lines(&lines, options, steps).replace("Restart=on-failure\n", "");
    machine.unit("web.service", &unit);
    machine.ok("rm -f /run/go; systemctl start web");
    is_at_rest(machine);
    machine.ok("touch /run/go");
    machine.wait_for(&format!("procroll to end with {steps}"), || {
        ["inactive", "failed"].contains(&machine.show("web", "ActiveState").as_str()).then_some(())
    });
    let end = (machine.show("web", "Result"), machine.show("web", "ExecMainStatus"));
    machine.wait_for(&format!("all of {steps} to go"), || {
        (machine.run("pgrep --full /usr/bin/[p]ayload").status == Some(1)).then_some(())
    });
    machine.ok("systemctl reset-failed");
    assert_eq!(machine.units("web@*"), [] as [&str; 0], "{steps}");
    end
}

fn the_death_of_an_odd_one_is_procrolls(machine: &Machine) {
    let cases = [
        ("", "ready wait /run/go pass-on exit 7", ("exit-code", "7")),
        ("", "ready pass-on wait /run/go exit 7", ("exit-code", "7")),
        ("", "pass-on ready pass-on wait /run/go kill SIGKILL", ("signal", "9")),
        ("", "ready again wait /run/go exit 8", ("exit-code", "8")),
        ("", "ready wait /run/go again exit 8", ("exit-code", "8")),
        ("", "ready wait /run/go send STOPPING=1 exit 9", ("exit-code", "9")),
        ("", "ready wait /run/go send STOPPING=1 exit 0", ("success", "0")),
        ("", "deaf ready wait /run/go send STOPPING=1 run", ("exit-code", "1")),
        ("", "ready send RELOADING=1|MONOTONIC_USEC=NOW wait /run/go exit 10", ("exit-code", "10")),
        ("", "ready wait /run/go desert run", ("success", "0")),
        ("", "swarm ready wait /run/go exit 11", ("exit-code", "11")),
        ("", "swarm ready wait /run/go exit 0", ("success", "0")),
        ("ExecStop=sleep infinity", "ready wait /run/go exit 12", ("exit-code", "12")),
        // systemd runs that for the unit as well.
        ("ExecStop=sleep infinity", "ready wait /run/go exit 0", ("timeout", "0")),
        ("ExitType=cgroup", "ready desert wait /run/go exit 0", ("success", "0")),
        (
            "FileDescriptorStoreMax=1\nFileDescriptorStorePreserve=yes",
            "store ready wait /run/go exit 0",
            ("success", "0"),
        ),
        ("WatchdogSec=2s", "ready wait /run/go run", ("exit-code", "1")),
        ("", "ready wait /run/go oom", ("exit-code", "1")),
    ];
    for (lines, steps, (result, status)) in cases {
        let end = ends(machine, (lines, "--settle=0", steps));
        assert_eq!((end.0.as_str(), end.1.as_str()), (result, status), "{lines} {steps}");
    }
    // The unit's own Restart= decides, whoever has become the main process.
    machine.unit("web.service", &with_lines("", "--settle=0", "ready pass-on run"));
    machine.ok("systemctl start web");
    is_at_rest(machine);
    machine.ok("systemctl kill --kill-whom=main --signal=KILL web@1");
    machine.wait_for_property("web", "NRestarts", "1");
    machine.wait_for_property("web", "ActiveState", "active");
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

/// The one that serves dies while the next one starts or settles, before it, with it, or after it was asked to stop.
fn an_old_one_may_die_at_each_step_of_a_roll(machine: &Machine) {
    let mut web = Web::start(machine, GOOD);
    let kill = |units: &str| machine.ok(&format!("systemctl kill --signal=KILL {units}"));
    let gone = |unit: &str| machine.wait_for_property(unit, "LoadState", "not-found");
    let reloads = |child: std::process::Child| child.wait_with_output().expect("it ends").status.success();
    let reload = || machine.spawn(&["systemctl", "reload", "web"]);

    // While the next one settles, for longer than it takes.
    let (old, next) = (web.unit(), web.next(("", "--settle=5s", "ready run")));
    let waits = reload();
    machine.wait_for_property(&next, "ActiveState", "active");
    kill(&old);
    gone(&old);
    assert_eq!(
        machine.show("web", "StatusText"),
        format!("{next} (main PID {}) settles", machine.show(&next, "MainPID"))
    );
    assert!(reloads(waits));
    web.serving = web.last;

    // When it has been asked to stop, and does not.
    web.rolls(("TimeoutStopSec=1min", "--settle=0", "deaf ready run"));
    let (old, next) = (web.unit(), web.next(GOOD));
    assert!(reloads(reload()));
    machine.wait_for_property(&old, "ActiveState", "deactivating");
    kill(&old);
    gone(&old);
    web.serving = web.last;
    assert_eq!((machine.units("web@*"), machine.show("web", "NRestarts")), (vec![next], "0".to_owned()));

    // It and the next one at the same time, and one after the other: then nobody serves, and the unit starts anew.
    for (nth, order) in ["together", "old first", "next first"].iter().enumerate() {
        let (old, next) = (web.unit(), web.next(("", "--settle=1min", "ready run")));
        let waits = reload();
        machine.wait_for_property(&next, "ActiveState", "active");
        machine.unit("web.service", &with_lines("RestartSec=100ms\nStartLimitBurst=100", "--settle=0", "ready run"));
        match *order {
            "together" => drop(kill(&format!("{old} {next}"))),
            "old first" => {
                kill(&old);
                gone(&old);
                kill(&next);
            }
            _ => {
                kill(&next);
                assert!(!reloads(waits), "{order}");
                machine.wait_for_property("web", "ActiveState", "active");
                kill(&old);
            }
        }
        machine.wait_for_property("web", "NRestarts", &(nth + 1).to_string());
        machine.wait_for_property("web", "ActiveState", "active");
        let units = machine.wait_for("one to serve", || Some(machine.units("web@*")).filter(|units| units.len() == 1));
        web.last = units[0]["web@".len()..].trim_end_matches(".service").parse().expect("a number");
        web.serving = web.last;
        assert_eq!(machine.show(&units[0], "ActiveState"), "active", "{order}");
    }
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

fn a_flood_of_notifications_leaves_procroll_at_rest(machine: &Machine) {
    machine.unit("web.service", &with_lines("NotifyAccess=all", "--settle=0", "ready child chatter"));
    machine.ok("systemctl start web");
    is_at_rest(machine);
    let procroll = machine.show("web", "MainPID");
    let spent = || machine.ok(&format!("cut -d' ' -f14,15 /proc/{procroll}/stat"));
    let before = spent();
    // There is no event to wait for where nothing is to happen.
    machine.ok("sleep 1");
    assert_eq!(spent(), before, "it hears nothing of them");
    // In a roll it does, and is not held up.
    machine.ok("systemctl reload web && systemctl reload web");
    machine.wait_for("the others to go", || (machine.units("web@*") == ["web@3.service"]).then_some(()));
    is_at_rest(machine);
    machine.ok("systemctl stop web");
    nothing_is_left(machine);
}

/// systemd is told of a main process that it does not reap.
fn a_main_process_that_is_another_ones_child_may_end_unnoticed(machine: &Machine) {
    let script = "sleep 0.5 &\nsystemd-notify --ready MAINPID=$!\nwait\ntouch /run/ended\nexec sleep infinity\n";
    machine.write("/srv/parent.sh", script);
    let unit = wrapper("--settle=3s -p NotifyAccess=all", "");
    machine.unit("web.service", &unit.replace("/usr/bin/payload ", "/bin/sh /srv/parent.sh"));
    machine.ok("timeout 60 systemctl start web");
    assert!(machine.path("/run/ended").exists(), "it ended while it settled");
    machine.ok("systemctl reload web");
    wait_for_only(machine, "web@2.service");
}
