//! What may go wrong, and what it excuses.
//!
//! A fault is a script of a shell in the machine. It finds `$number` of the generation that serves, the main processes
//! `$serving` of that and `$procroll` of the wrapper, and a few words of [`WORDS`]; `LASTS` is a number of seconds that is
//! drawn for it. It ends when what it did has had its effect.

use Excuse::*;

/// A fault.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// How that is done.
    pub script: &'static str,
    /// What needs not hold in its step.
    pub excuses: &'static [Excuse],
}

/// What a fault does that nobody could keep from having consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// It kills processes that may have accepted a request.
    Kills,
    /// It ends a generation that serves, or that may serve by then; procroll ends with it, and is started anew.
    Ends,
    /// A reload may fail that would have succeeded.
    Fails,
    /// It kills procroll, which leaves all else as it is.
    Crashes,
    /// It freezes procroll. From 257 on systemd neither thaws nor starts any unit that was killed meanwhile.
    Freezes,
    /// It keeps a generation from stopping, which is procroll's to see to: freezes it, which from 257 on systemd does not stop
    /// then, or has it start anew. From 257 on nothing of procroll's is there if that is dead.
    Holds,
    /// It starts the candidate, also one that has failed.
    Revives,
    /// It asks for rolls itself.
    Rolls,
    /// It stops the service.
    Stops,
    /// It starts the service, whatever has stopped it.
    Starts,
}

/// What the scripts are made of.
pub const WORDS: &str = r#"
main() { systemctl show --property=MainPID --value "$1"; }
# Has a process terminated, and waits for its end, unless it ignores that.
terminate() { if [ "$1" != 0 ] && kill "$1"; then for _ in $(seq 100); do [ -d "/proc/$1" ] && sleep 0.02; done; fi; }
# Waits until a process that was killed is gone, and systemd knows.
gone() { for _ in $(seq 100); do [ -d "/proc/$1" ] && sleep 0.02; done; }
signal() { systemctl kill --kill-whom=main --signal="$1" web; }
old() { echo "web@$number"; }
new() { echo "web@$((number + 1))"; }
# Waits until the old one is on its way out, for as long as it takes to be.
drains() { for _ in $(seq 50); do [ "$(systemctl is-active "$(old)")" != deactivating ] || break; sleep 0.02; done; }
# A reload that somebody asks for meanwhile takes the place of a stop: then systemctl does not wait for its end.
stop() { until systemctl stop web && systemctl is-active web | grep -qE 'inactive|failed'; do sleep 0.05; done; }
take() { systemd-run --quiet --collect --description="Somebody's" --unit="$1" sleep infinity; }
untake() {
    until list=$(systemctl list-units --plain --no-legend 'web@*') && ! echo "$list" | grep -q "Somebody's"; do
        systemctl stop $(echo "$list" | grep "Somebody's" | cut -d ' ' -f 1)
        sleep 0.1
    done
}
other_bus() {
    until systemctl stop dbus.socket dbus.service; do sleep 0.1; done
    [ -e /etc/systemd/system/dbus.service ] && other=disable || other=enable
    # With /run full systemd can't read its units anew, and if it found only later which one dbus.service is it would leave the bus.
    until systemctl "$other" --quiet dbus-broker && systemctl daemon-reload; do sleep 0.1; done
    # One that somebody has started meanwhile would go on beside the other, at the same socket, and systemd be on one of them.
    until systemctl stop dbus.socket dbus.service dbus-broker.service; do sleep 0.1; done
    until systemctl start dbus.socket dbus.service; do sleep 0.1; done
}
# A systemd that executes itself anew while the bus is full, or has just become another one, is not on it then, and does not
# try again by itself: systemd(1).
back() {
    until timeout 5 busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.DBus.Peer Ping; do
        kill -USR1 1; sleep 1
    done
}
# Cancels the job of the reload that somebody has asked for, or is about to.
cancel() {
    for _ in $(seq 50); do
        job=$(systemctl list-jobs --no-legend | awk '$2 == "web.service" && $3 == "reload" { print $1 }')
        if [ -n "$job" ]; then systemctl cancel "$job"; break; fi
        sleep 0.02
    done
}
# Runs something as if a generation did.
within() {
    group=/sys/fs/cgroup/system.slice/system-web.slice/$1.service; shift
    NOTIFY_SOCKET=/run/systemd/notify sh -c "echo \$\$ >$group/cgroup.procs && exec $*"
}
# As its own watchdog does when a main process has not been heard of for too long.
watchdog() { NOTIFY_SOCKET=/run/systemd/notify systemd-notify --pid="$1" WATCHDOG=trigger; }
# Tells what came of it, and who served when it was asked for or before.
reload() {
    served=$(systemctl show --property=StatusText --value web | sed -n 's/^web@\([0-9]*\)\.service.* serves.*/\1/p')
    systemctl reload web; echo "told $? ${served:-0}"
}
repeat() { count=$1; shift; while [ "$count" != 0 ]; do "$@"; count=$((count - 1)); done; }
"#;

const fn fault(name: &'static str, script: &'static str, excuses: &'static [Excuse]) -> Fault {
    Fault { name, script, excuses }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    fault("nothing", "true", &[]),
    // A restless systemd.
    fault("daemon-reload", "systemctl daemon-reload", &[]),
    fault("daemon-reload again and again", "repeat 10 systemctl daemon-reload", &[]),
    fault("daemon-reexec", "systemctl daemon-reexec; back", &[Fails]),
    fault("daemon-reexec again and again", "repeat 5 systemctl daemon-reexec; back", &[Fails]),
    fault("reset-failed", "systemctl reset-failed", &[]),
    fault("somebody takes the next two names", "take $(new); take web@$((number + 2)); sleep LASTS; untake", &[]),
    fault(
        "/run is full",
        "mount -o remount,size=$(($(df --output=used -k /run | tail -n 1)))k /run; sleep LASTS; mount -o remount,size=50% /run",
        &[Fails],
    ),
    fault(
        "/run is full, and procroll killed",
        "mount -o remount,size=$(($(df --output=used -k /run | tail -n 1)))k /run; signal KILL; sleep LASTS; mount -o remount,size=50% /run",
        &[Crashes, Fails],
    ),
    // The bus.
    fault("the bus restarted", "systemctl restart dbus.service", &[Fails]),
    fault(
        "the bus restarted twice",
        "systemctl restart dbus.service; sleep LASTS; systemctl restart dbus.service",
        &[Fails],
    ),
    fault(
        "no bus for a while",
        "systemctl stop dbus.socket dbus.service; sleep LASTS; until systemctl start dbus.socket dbus.service; do sleep 0.1; done",
        &[Fails],
    ),
    fault("the bus out of connections", "crowd LASTS; back", &[Fails]),
    fault(
        "the bus stopped by SIGSTOP",
        // A systemd that is executed anew meanwhile waits for it, and hears nothing for a minute and a half.
        "systemctl kill --signal=STOP dbus.service; sleep 1; sleep LASTS; cat /sys/fs/cgroup/system.slice/dbus*.service/cgroup.procs | \
         xargs --no-run-if-empty kill -CONT",
        &[Fails],
    ),
    fault("dbus-broker for dbus-daemon, or back", "other_bus", &[Fails]),
    // Crowds.
    fault("five reloads at once", "for _ in 1 2 3 4 5; do reload & done; wait", &[Rolls]),
    fault("a hundred reloads at once", "for _ in $(seq 100); do reload & done; wait", &[Rolls]),
    fault("ten HUPs", "repeat 10 kill -HUP $procroll", &[Rolls]),
    fault("the reload canceled", "cancel", &[Fails]),
    fault("300 HUPs", "repeat 300 kill -HUP $procroll", &[Rolls]),
    // procroll.
    fault("procroll executed anew", "signal RTMIN+25", &[]),
    fault("procroll executed anew three times", "repeat 3 signal RTMIN+25", &[]),
    fault(
        "procroll replaced, and executed anew",
        "cp /usr/bin/procroll /usr/bin/procroll.new; mv /usr/bin/procroll.new /usr/bin/procroll; signal RTMIN+25",
        &[],
    ),
    fault(
        "procroll stopped by SIGSTOP",
        // systemd may be executing itself anew, and then hears nothing.
        "signal STOP; sleep LASTS; for _ in $(seq 30); do signal CONT && break; sleep 0.1; done",
        &[],
    ),
    fault(
        "procroll frozen",
        // What was killed meanwhile is not started while it is frozen, and systemd doesn't try again.
        "systemctl freeze web; sleep LASTS; for _ in $(seq 30); do systemctl thaw web && break; sleep 0.1; done; \
         [ $(systemctl show --property=SubState --value web) != auto-restart-queued ] || systemctl start web",
        &[Fails, Freezes],
    ),
    fault("procroll killed", "signal KILL", &[Crashes, Fails]),
    fault("procroll terminated", "terminate $(main web)", &[Ends, Stops, Starts, Fails]),
    fault(
        "procroll killed, and the next one as it begins",
        "signal KILL; for _ in $(seq 200); do next=$(main web); [ $next = 0 ] || [ $next = $procroll ] || break; done; \
         sleep 0.0$((next % 10)); signal KILL",
        &[Crashes, Fails],
    ),
    fault(
        "procroll killed, and the service stopped as the next one begins",
        "signal KILL; for _ in $(seq 200); do next=$(main web); [ $next = 0 ] || [ $next = $procroll ] || break; done; \
         sleep 0.00$((next % 10)); stop",
        &[Crashes, Stops, Fails],
    ),
    // The candidate, which may serve by then.
    fault(
        "the candidate killed",
        "pid=$(main $(new)); systemctl kill --signal=KILL $(new); gone $pid",
        &[Kills, Ends, Fails],
    ),
    fault(
        "the candidate killed for its memory",
        "pid=$(main $(new)); within $(new) payload oom; gone $pid",
        &[Kills, Ends, Fails],
    ),
    fault("the candidate terminated", "terminate $(main $(new))", &[Ends, Fails]),
    fault("the candidate stopped", "systemctl stop $(new)", &[Ends, Fails]),
    // Here and below: what is told to stop while it starts may not hear that, serves on, and is killed in the end.
    fault("the candidate restarted", "systemctl restart $(new)", &[Kills, Ends, Fails, Revives, Holds]),
    fault(
        "the candidate frozen",
        "systemctl freeze $(new); sleep LASTS; for _ in $(seq 30); do systemctl thaw $(new) && break; sleep 0.1; done",
        &[Holds],
    ),
    // The one that serves, at first.
    fault("the serving one killed", "systemctl kill --signal=KILL $(old); gone $serving", &[Kills, Ends, Fails]),
    fault("the serving one's main process killed", "kill -KILL $serving; gone $serving", &[Kills, Ends, Fails]),
    fault("the serving one killed for its memory", "within $(old) payload oom; gone $serving", &[Kills, Ends, Fails]),
    fault("the serving one killed by its watchdog", "watchdog $serving; gone $serving", &[Kills, Ends, Fails]),
    fault("megabytes of notifications", "within $(old) payload flood LASTS", &[]),
    fault("the serving one terminated", "terminate $serving", &[Ends, Fails]),
    fault("the serving one stopped", "systemctl stop $(old)", &[Ends, Fails]),
    fault("the serving one restarted", "systemctl restart $(old)", &[Kills, Ends, Fails, Holds]),
    fault(
        "the serving one frozen",
        "systemctl freeze $(old); sleep LASTS; for _ in $(seq 30); do systemctl thaw $(old) && break; sleep 0.1; done",
        &[Holds],
    ),
    // The same one, on its way out. Without a roll it serves on.
    fault("the draining one killed", "drains; systemctl kill --signal=KILL $(old)", &[Kills, Ends, Fails]),
    fault("the draining one stopped", "drains; systemctl stop $(old)", &[Ends, Fails]),
    fault("the draining one restarted", "drains; systemctl restart $(old)", &[Kills, Ends, Fails, Holds]),
    // The service.
    fault("the service stopped", "stop", &[Stops, Fails]),
    fault("the service stopped and started", "systemctl stop web; systemctl start web", &[Ends, Fails, Starts]),
    fault("the service restarted", "systemctl restart web", &[Ends, Fails, Starts]),
];
