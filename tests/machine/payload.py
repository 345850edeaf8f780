#!/usr/bin/python3
"""payload STEP...: a service that does as it is told, one step after the other.

ready            send READY=1
say TEXT         print a line
facts            print what the service is run with
exit STATUS      exit
kill SIGNAL      be killed by a signal
wait PATH        go on when PATH exists
deaf             ignore SIGTERM from now on
heed SIGNAL      print the name of a signal whenever it comes
leave            leave a child behind that ignores SIGTERM
run              do nothing until told to stop
"""

import json
import os
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


def writable(path):
    return os.access(path, os.W_OK)


def credentials():
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return {name: open(os.path.join(folder, name)).read() for name in sorted(os.listdir(folder))} if folder else {}


def facts():
    """What differs from unit to unit by nature is left out: process ids, invocations, the unit's own group."""
    by_nature = {"INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "LISTEN_PID", "CREDENTIALS_DIRECTORY"}
    by_nature |= {"NOTIFY_SOCKET", "WATCHDOG_PID"}
    by_nature |= {f"{what}_PRESSURE_{how}" for what in ("CPU", "IO", "MEMORY") for how in ("WATCH", "WRITE")}
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    return {
        "arguments": sys.argv,
        "user": (os.getuid(), os.getgid(), sorted(os.getgroups())),
        "directory": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name not in by_nature},
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.nice(0),
        "umask": os.umask(0),
        "writable": {path: writable(path) for path in ("/usr", "/etc", "/var", "/tmp", "/run")},
        "tmp": sorted(os.listdir("/tmp")),
        "capabilities": {key: status[key] for key in ("CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")},
        "credentials": credentials(),
        "pre": os.path.exists("/run/pre"),
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
        elif step == "exit":
            sys.exit(int(next(steps)))
        elif step == "kill":
            os.kill(os.getpid(), getattr(signal, next(steps)))
        elif step == "wait":
            path = next(steps)
            while not os.path.exists(path):
                time.sleep(0.005)
        elif step == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif step == "heed":
            signal.signal(getattr(signal, next(steps)), lambda number, _: print(signal.Signals(number).name, flush=True))
        elif step == "leave":
            subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"])
        elif step == "run":
            while True:
                signal.pause()
        else:
            sys.exit(f"no such step: {step}")


if __name__ == "__main__":
    main()
