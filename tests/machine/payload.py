#!/usr/bin/python3
"""payload STEP...: a service that does as it is told, one step after the other.

look PID...      print what these processes are run with, a line for each, as seen from outside

ready            send READY=1
say TEXT         print a line
facts            print what the service is run with
exit STATUS      exit
kill SIGNAL      be killed by a signal
oom              be killed as one that takes too much memory
wait PATH        go on when PATH exists
lock PATH        lock a file against all others, or exit with 41
listen PORT      listen on a port that nobody else has, or exit with 42
deaf             ignore SIGTERM from now on
heed SIGNAL      print the name of a signal whenever it comes
leave            leave a child behind that ignores SIGTERM
polite           exit with 0 when told to stop
send TEXT        send a notification: | is a new line, NOW the time as MONOTONIC_USEC= has it
store            have systemd keep a descriptor
flood SECONDS    send notifications of 4 kB, as many as can be, which leaves PID 1 time for nothing else
chatter          send a thousand of them a second, for ever
spill MEGABYTES  print so much
pause SECONDS    be busy for so long
child            go on in a child; the parent does nothing until told to stop
pass-on          go on in a child that is the main process from now on; the parent exits
desert           go on in a child of which nobody is told; the parent exits
again            execute itself anew, in the same process
swarm            ignore SIGTERM, and have children that fork on and on
run              do nothing until told to stop
"""

import fcntl
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time


def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        notifications.sendall(text.encode())


def notify_with(file, text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        socket.send_fds(notifications, [text.encode()], [file])


def barrier():
    """Returns when systemd has taken in what was sent."""
    ours, systemds = os.pipe()
    notify_with(systemds, "BARRIER=1")
    os.close(systemds)
    os.read(ours, 1)
    os.close(ours)


def flood(seconds, pause=0):
    until, count = time.monotonic() + seconds, 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        while time.monotonic() < until:
            count += 1
            notifications.sendall(f"STATUS={count} {'x' * 4000}".encode())
            if pause and count % 50 == 0:
                time.sleep(pause)
    print(f"sent {count * 4000} bytes", flush=True)


def fork(main):
    """Gives 0 in the child, when systemd has been told of it, if it is to be the `main` process."""
    heard, told = os.pipe()
    child = os.fork()
    if child and main:
        notify(f"MAINPID={child}")
        barrier()
    if child:
        os.write(told, b".")
    else:
        os.read(heard, 1)
    os.close(heard)
    os.close(told)
    return child


def swarm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(4):
        if os.fork() == 0:
            while True:
                time.sleep(0.05)
                if os.fork():
                    os._exit(0)


HELD = []


def lock(path):
    HELD.append(open(path, "w"))
    try:
        fcntl.flock(HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(41)


def listen(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    HELD.append(listener)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        sys.exit(42)


def idle():
    while True:
        signal.pause()


def writable(path):
    return os.access(path, os.W_OK)


def credentials():
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return {name: open(os.path.join(folder, name)).read() for name in sorted(os.listdir(folder))} if folder else {}


# What differs from unit to unit by nature.
BY_NATURE = {"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "LISTEN_PID", "LISTEN_PIDFDID"}
BY_NATURE |= {"CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID"}
BY_NATURE |= {f"{what}_PRESSURE_{how}" for what in ("CPU", "IO", "MEMORY") for how in ("WATCH", "WRITE")}


def opens(path, flags):
    try:
        os.close(os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK))
        return True
    except OSError as error:
        return error.strerror


def temporary(path):
    """What lies there, without what systemd itself needs for other services."""
    return sorted(name for name in os.listdir(path) if not name.startswith(("systemd-", "namespace-dev-")))


def facts():
    """What differs from unit to unit by nature is left out: process ids, invocations, the unit's own group."""
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    return {
        "arguments": sys.argv,
        "user": (os.getuid(), os.getgid(), sorted(os.getgroups())),
        "directory": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name not in BY_NATURE},
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.nice(0),
        "umask": os.umask(0),
        "writable": {path: writable(path) for path in ("/usr", "/etc", "/var", "/tmp", "/run", "/srv", "/sys")},
        # Not /dev/ptmx: it is the terminal of another sample, and systemd gives a terminal to its service's user.
        "devices": {path: opens(path, os.O_RDWR) for path in ("/dev/null", "/dev/full", "/dev/tty", "/dev/zero")},
        "tmp": temporary("/tmp"),
        "capabilities": {key: status[key] for key in ("CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")},
        "credentials": credentials(),
        "pre": os.path.exists("/run/pre"),
    }


def read(path):
    try:
        return open(path, "rb").read().decode(errors="backslashreplace")
    except OSError as error:
        return error.strerror


def mount(line):
    """A line of mountinfo, without what is counted and what is made up anew each time."""
    first, last = line.split(" - ")
    words = first.split()
    shared = [word.split(":")[0] for word in words[6:]]
    return re.sub(r"(systemd-private-[0-9a-f]+-[^/ ]+)-\w{6}", r"\1", " ".join(words[3:6] + shared + last.split()))


def out_of_memory():
    """Ends as systemd-oomd ends a unit, which leaves its own note at the control group; see its source."""
    with open("/proc/self/cgroup") as file:
        group = re.search(r"^0::(.*)$", file.read(), re.MULTILINE)[1]
    for name in ("user.oomd_ooms", "user.oomd_kill"):
        os.setxattr(f"/sys/fs/cgroup{group}", name, b"1")
    with open(f"/sys/fs/cgroup{group}/cgroup.kill", "w") as file:
        file.write("1")


def control_group(path):
    """What can be set of a control group, by whom, and what systemd has noted about it."""
    counted = re.compile(r".*\.(events|events\.local|stat|stat\.local|pressure|current|peak|procs|threads|numa_stat)$")
    noted = {name: os.getxattr(path, name).decode(errors="backslashreplace") for name in os.listxattr(path) if "invocation_id" not in name}
    files = {name: read(f"{path}/{name}") for name in os.listdir(path) if os.path.isfile(f"{path}/{name}")}
    return {
        "files": {name: text for name, text in files.items() if not counted.match(name)},
        "groups": sorted(name for name in os.listdir(path) if os.path.isdir(f"{path}/{name}")),
        "owner": [os.stat(path).st_uid, os.stat(path).st_gid],
        "noted": noted,
    }


def look(pid):
    """What a process is run with, as root sees it from outside, whatever the process itself may do and see."""
    proc = f"/proc/{pid}"
    status = dict(line.split(":\t", 1) for line in read(f"{proc}/status").splitlines() if ":\t" in line)
    told = "Umask Uid Gid Groups SigIgn CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters"
    told += " Cpus_allowed Mems_allowed THP_enabled"
    environment = [entry.partition("=") for entry in read(f"{proc}/environ").split("\0") if entry]
    environment = {name: value for name, _, value in environment}
    files = {number: os.readlink(f"{proc}/fd/{number}").split(":[")[0] for number in os.listdir(f"{proc}/fd")}
    credentials = f"{proc}/root{environment.get('CREDENTIALS_DIRECTORY', '/no-such')}"
    return {
        "arguments": read(f"{proc}/cmdline"),
        "control group": control_group("/sys/fs/cgroup" + read(f"{proc}/cgroup").strip().split("::")[1]),
        "credentials": {name: read(f"{credentials}/{name}") for name in os.listdir(credentials)}
        if os.path.exists(credentials)
        else {},
        "devices": sorted(os.listdir(f"{proc}/root/dev")),
        "directories": [os.readlink(f"{proc}/{name}") for name in ("cwd", "root")],
        "environment": {name: value for name, value in environment.items() if name not in BY_NATURE},
        "files": files,
        "io": subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True).stdout,
        "limits": read(f"{proc}/limits"),
        # Other services' credentials come and go in everybody's sight; its own are told above.
        "mounts": sorted(
            mount(line) for line in read(f"{proc}/mountinfo").splitlines() if "/run/credentials/" not in line
        ),
        "namespaces": {
            name: os.readlink(f"{proc}/ns/{name}") != os.readlink(f"/proc/1/ns/{name}")
            for name in os.listdir(f"{proc}/ns")
        },
        "numbers": {
            name: read(f"{proc}/{name}")
            for name in ("coredump_filter", "oom_score_adj", "personality", "timerslack_ns", "loginuid", "uid_map")
        },
        "scheduling": [os.sched_getscheduler(pid), os.sched_getparam(pid).sched_priority, os.getpriority(0, pid)],
        "status": {name: status.get(name) for name in told.split()},
        "tmp": temporary(f"{proc}/root/tmp"),
        "writable": {path: writable(f"{proc}/root{path}") for path in ("/usr", "/etc", "/var", "/srv", "/opt", "/sys")},
    }


def main():
    steps = iter(sys.argv[1:])
    for step in steps:
        if step == "ready":
            notify("READY=1\nSTATUS=as told\n")
        elif step == "say":
            print(next(steps), flush=True)
        elif step == "facts":
            print(json.dumps(facts(), sort_keys=True), flush=True)
        elif step == "look":
            for pid in steps:
                print(json.dumps(look(int(pid)), sort_keys=True))
        elif step == "exit":
            sys.exit(int(next(steps)))
        elif step == "kill":
            os.kill(os.getpid(), getattr(signal, next(steps)))
        elif step == "oom":
            out_of_memory()
        elif step == "wait":
            path = next(steps)
            while not os.path.exists(path):
                time.sleep(0.005)
        elif step == "lock":
            lock(next(steps))
        elif step == "listen":
            listen(int(next(steps)))
        elif step == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif step == "heed":
            signal.signal(getattr(signal, next(steps)), lambda number, _: print(signal.Signals(number).name, flush=True))
        elif step == "leave":
            subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"])
        elif step == "polite":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        elif step == "send":
            notify(next(steps).replace("|", "\n").replace("NOW", str(time.monotonic_ns() // 1000)))
        elif step == "store":
            with open("/dev/null") as file:
                notify_with(file.fileno(), "FDSTORE=1\nFDNAME=kept")
        elif step == "flood":
            flood(float(next(steps)))
        elif step == "chatter":
            flood(float("inf"), 0.05)
        elif step == "spill":
            for _ in range(int(next(steps)) * 16):
                print("x" * 65535, flush=True)
        elif step == "pause":
            time.sleep(float(next(steps)))
        elif step == "child":
            if fork(main=False):
                idle()
        elif step in ("pass-on", "desert"):
            if fork(main=step == "pass-on"):
                os._exit(0)
        elif step == "again":
            os.execv(sys.argv[0], [sys.argv[0], *steps])
        elif step == "swarm":
            swarm()
        elif step == "run":
            idle()
        else:
            sys.exit(f"no such step: {step}")


if __name__ == "__main__":
    main()
