//! Private machines with a real systemd, for tests and measurements. `boot` and `root` beside this file make them.
#![allow(dead_code, clippy::expect_used, clippy::panic)] // Each of its users needs a part, and fails by panicking.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for. Far longer than it takes, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Copies a program, by a process of its own: nobody can execute what another one has open to write, and a child of ours may have
/// what we have.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args([from, to]).status();
    assert!(copied.expect("cp").success(), "{} in the machine", from.display());
}

/// A Debian suite, and the version of systemd it has.
#[derive(Debug)]
pub struct Suite {
    /// As Debian calls it.
    pub name: &'static str,
    /// `v` and its number.
    pub version: &'static str,
    /// Whether it knows Type=notify-reload.
    pub notify_reload: bool,
    /// Whether RestartMode=direct keeps a crash from units by StopPropagatedFrom=.
    pub direct: bool,
}

/// Debian 12, 12 with its backports, 13, and testing when this was written.
pub const SUITES: [Suite; 4] = [
    Suite { name: "bookworm", version: "v252", notify_reload: false, direct: false },
    Suite { name: "bookworm-backports", version: "v254", notify_reload: true, direct: false },
    Suite { name: "trixie", version: "v257", notify_reload: true, direct: true },
    Suite { name: "forky", version: "v262", notify_reload: true, direct: true },
];

/// A running machine. It is gone when this is dropped.
pub struct Machine {
    /// What it runs.
    pub suite: &'static Suite,
    pid: String,
    boot: Child,
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// What takes the place of Type=notify-reload.
const RELOAD_BY_COMMAND: &str = "[Service]\nExecReload=+/usr/bin/procroll reload\n";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine").join(name)
}

impl Machine {
    /// Boots a machine of this suite, with this procroll in it, a gunicorn application, and a payload that does as it
    /// is told.
    pub fn boot(suite: &'static Suite, procroll: &str) -> Self {
        // Its standard error is ours: making a root takes a while, and says so.
        let root =
            Command::new(script("root")).arg(suite.name).stderr(Stdio::inherit()).output().expect("tests/machine/root");
        assert!(root.status.success(), "no Debian root, so no machine to test in");
        let root = String::from_utf8(root.stdout).expect("a path");
        let mut boot = Command::new(script("boot"))
            .arg(root.trim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/machine/boot");
        let mut pid = String::new();
        BufReader::new(boot.stdout.take().expect("its output")).read_line(&mut pid).expect("its output");
        assert!(!pid.trim().is_empty(), "the machine did not boot");
        let machine = Self { suite, pid: pid.trim().to_owned(), boot };
        copy(Path::new(procroll), &machine.path("/usr/bin/procroll"));
        machine.install("/usr/bin/payload", include_str!("payload.py"));
        machine.install("/usr/bin/load", include_str!("../../examples/quickstart/load.py"));
        machine.write("/srv/app/app.py", include_str!("../../examples/quickstart/app.py"));
        machine.ok("useradd --system --no-create-home app");
        machine
    }

    /// Where a file of the machine is for us.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// The network that it has, for a thread of ours to enter.
    pub fn network(&self) -> std::fs::File {
        std::fs::File::open(format!("/proc/{}/ns/net", self.pid)).expect("its network")
    }

    /// Writes a file in the machine; a wrapper unit as this version of systemd needs it.
    pub fn write(&self, path: &str, text: &str) {
        let older;
        let text = if text.contains("Type=notify-reload\n") && !self.suite.notify_reload {
            // As many lines before the last one, which messages name.
            let text = text.replace("Type=notify-reload\n", "Type=notify\n").replace("RestartMode=direct\n", "\n");
            older = format!("{text}\n{RELOAD_BY_COMMAND}");
            &older
        } else {
            text
        };
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder in the machine");
        std::fs::write(path, text).expect("a file in the machine");
    }

    /// Writes a program in the machine.
    pub fn install(&self, path: &str, text: &str) {
        self.write(path, text);
        std::fs::set_permissions(self.path(path), PermissionsExt::from_mode(0o755)).expect("an executable file");
    }

    /// Reads a file of the machine.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).expect("a file in the machine")
    }

    /// A command in the machine, not started yet. Its environment is that of a login, not ours.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.pid, "--"]).args(words).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Runs a command line of the shell in the machine.
    pub fn run(&self, line: &str) -> Outcome {
        self.run_words(&["sh", "-c", line])
    }

    /// Runs a program with exactly these arguments in the machine.
    pub fn run_words<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Outcome {
        let output = self.command(words).output().expect("a command in the machine");
        Outcome {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        }
    }

    /// Runs a command line that must succeed, and gives what it printed.
    pub fn ok(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert_eq!(outcome.status, Some(0), "{line}: {outcome:?}\n{}", self.story());
        outcome.stdout
    }

    /// Starts a program in the machine and leaves it running; standard input is a pipe.
    pub fn spawn<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Child {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("a command in the machine")
    }

    /// A property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&format!("systemctl show --property={property} --value '{unit}'"))
    }

    /// The names of all loaded units that match.
    pub fn units(&self, pattern: &str) -> Vec<String> {
        let listed = self.ok(&format!("systemctl list-units --all --plain --no-legend '{pattern}'"));
        listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    /// What procroll says of a unit, as `journalctl -u` finds it.
    pub fn log(&self, unit: &str) -> String {
        self.journal(&format!("--unit='{unit}' SYSLOG_IDENTIFIER=procroll"))
    }

    /// What a unit's programs have printed.
    pub fn output(&self, unit: &str) -> String {
        self.journal(&format!("_SYSTEMD_UNIT='{unit}' _TRANSPORT=stdout"))
    }

    /// The messages in the journal that match, of what was sent until now.
    pub fn journal(&self, matches: &str) -> String {
        self.ok("journalctl --sync");
        self.ok(&format!("journalctl --output=cat --no-pager {matches}"))
    }

    /// Installs a unit file and makes systemd read it.
    pub fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.ok("systemctl daemon-reload");
    }

    /// Waits for something to become true, and gives it.
    pub fn wait_for<T>(&self, what: &str, mut happened: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(result) = happened() {
                return result;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.story());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a property of a unit has this value.
    pub fn wait_for_property(&self, unit: &str, property: &str, value: &str) {
        self.wait_for(&format!("{property}={value} of {unit}"), || (self.show(unit, property) == value).then_some(()));
    }

    /// The last lines of the journal, for a test that failed.
    pub fn story(&self) -> String {
        let mut story = String::new();
        for line in [
            "systemctl list-units --all --plain --no-legend 'web*' 'procroll*'",
            "systemctl show --all procroll@web.service",
            "journalctl --no-pager --lines=60",
        ] {
            let _ = writeln!(story, "$ {line}\n{}", self.run(line).stdout);
        }
        story
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The script ends with its input, and takes the machine with it.
        drop(self.boot.stdin.take());
        let _ = self.boot.wait();
    }
}

/// Answers a service gave to clients that open a connection for each request, while it was rolled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Answered with 200.
    pub answered: u64,
    /// Connection refused.
    pub refused: u64,
    /// Connection reset or closed without an answer.
    pub reset: u64,
    /// No answer in time, or another one.
    pub unanswered: u64,
}

impl std::ops::AddAssign for Answers {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.unanswered += other.unanswered;
    }
}

/// Clients at work in a machine.
pub struct Load(Child);

impl Load {
    /// Lets `clients` ask `address` (host:port) for as long as this lives.
    pub fn start(machine: &Machine, address: &str, clients: u32) -> Self {
        let mut load = machine.spawn(&["/usr/bin/load", address, &clients.to_string()]);
        let mut first = String::new();
        let output = load.stdout.take().expect("its output");
        let mut output = BufReader::new(output);
        output.read_line(&mut first).expect("its output");
        assert_eq!(first, "asking\n", "the load began");
        load.stdout = Some(output.into_inner());
        Self(load)
    }

    /// Ends it and counts.
    pub fn stop(mut self) -> Answers {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().expect("its output");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut answers = Answers::default();
        for line in text.lines() {
            let (name, count) = line.split_once(' ').expect("a count");
            let count = count.parse().expect("a number");
            match name {
                "answered" => answers.answered = count,
                "refused" => answers.refused = count,
                "reset" => answers.reset = count,
                "unanswered" => answers.unanswered = count,
                other => panic!("{other}"),
            }
        }
        answers
    }
}
