//! What the service is rolled to.

/// A program, good or not, as a wrapper unit has it.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload {
    /// What is special about it.
    pub name: &'static str,
    /// procroll's options for it.
    pub options: &'static str,
    /// The command line in its unit.
    pub command: &'static str,
}

impl Payload {
    /// Whether the old one ends before it begins, so that one takes its place again if it fails.
    pub fn hands_over(&self) -> bool {
        self.options.contains("handover")
    }

    /// The wrapper unit, which shows its mark to whoever asks the service or looks at its process.
    pub fn unit(&self, mark: u32) -> String {
        let Self { options, command, .. } = self;
        // A pause in which somebody can come between.
        let pause = if mark.is_multiple_of(5) { "2s" } else { "100ms" };
        format!(
            "[Unit]\nDescription=Web\nStartLimitIntervalSec=0\n\
             [Service]\nType=notify-reload\nUser=app\nWorkingDirectory=/srv/app\nProtectSystem=strict\nPrivateTmp=yes\n\
             Restart=on-failure\nRestartMode=direct\nRestartSec={pause}\nRestartPreventExitStatus=170 173 174 175\n\
             TimeoutStopSec=20s\nEnvironment=GREETING=mark-{mark}\n\
             ExecStart=+/usr/bin/procroll --systemd-run {options} -- {command}\n"
        )
    }
}

/// Those that work.
pub const GOOD: &[Payload] = &[
    Payload {
        name: "gunicorn",
        options: "--settle=200ms --ready-timeout=30s -p NotifyAccess=all",
        command: "/usr/bin/gunicorn app:app",
    },
    Payload {
        name: "gunicorn once more",
        options: "--settle=0 --ready-timeout=30s",
        command: "/usr/bin/gunicorn app:app",
    },
    Payload {
        name: "beside which no other can live",
        options: "--strategy=handover --settle=200ms --ready-timeout=30s",
        command: "/usr/bin/gunicorn app:app",
    },
    Payload {
        name: "whose application is slow to load",
        options: "--settle=200ms --ready-timeout=30s",
        command: r#"/usr/bin/gunicorn --env LOAD_FOR=0.5 troubled:app"#,
    },
    Payload {
        name: "that floods its manager with notifications",
        options: "--settle=200ms --ready-timeout=30s -p NotifyAccess=all",
        command: "/usr/bin/gunicorn --env NOTIFICATIONS=200 troubled:app",
    },
    Payload {
        name: "that ignores SIGTERM",
        options: "--settle=200ms --ready-timeout=30s -p NotifyAccess=all --shutdown-timeout=3s --max-stopping=1",
        command: r#"/bin/sh -c "sh -c 'LISTEN_PID=$$$$ exec gunicorn app:app' & trap '' TERM; while :; do wait; sleep 0.2; done""#,
    },
    Payload {
        name: "that ignores SIGTERM and forks on",
        options: "--settle=200ms --ready-timeout=30s --shutdown-timeout=3s",
        command: r#"/bin/sh -c "(trap '' TERM; while :; do sleep 0.1; done) & exec gunicorn app:app""#,
    },
];

/// Those that do not, or not for long.
pub const BROKEN: &[Payload] = &[
    Payload {
        name: "that is not there",
        options: "--settle=200ms --ready-timeout=30s",
        command: "/usr/bin/no-such-program",
    },
    Payload {
        name: "that exits with 0 before it is ready",
        options: "--settle=200ms --ready-timeout=30s",
        command: "/bin/true",
    },
    Payload {
        name: "that fails before it is ready",
        options: "--settle=200ms --ready-timeout=30s",
        command: "/usr/bin/gunicorn --no-such-option",
    },
    Payload {
        name: "that is never ready",
        options: "--settle=200ms --ready-timeout=500ms",
        command: "/bin/sleep infinity",
    },
    Payload {
        name: "that is ready and dead at once",
        options: "--settle=2s",
        command: "/usr/bin/payload ready exit 3",
    },
    Payload {
        name: "that is ready and does not notify its watchdog",
        options: "--settle=3s -p WatchdogSec=300ms -p LimitCORE=0",
        command: "/usr/bin/payload ready run",
    },
    Payload {
        name: "that is ready and dead a while later",
        options: "--settle=3s -p NotifyAccess=all",
        command: r#"/bin/sh -c "systemd-notify --ready; sleep 0.5; exit 3""#,
    },
];

/// The application of those that make trouble.
pub const TROUBLED: &str = r#""""Loads for a while, or notifies its manager as fast as it can, before it answers as any other."""
import os
import socket
import time

from app import app

time.sleep(float(os.environ.get("LOAD_FOR", "0")))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
    for number in range(int(os.environ.get("NOTIFICATIONS", "0"))):
        notifications.sendto(f"STATUS={number}\n".encode(), os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
"#;
