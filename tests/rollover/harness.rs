//! A program that replaces itself, and what it prints.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long anything may take that a test waits for. Far longer than it takes, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program, its successors, and all that they start: one process group. It is gone when this is dropped.
pub struct Running {
    /// Where its program is.
    pub path: PathBuf,
    group: Pid,
    /// The one that serves, by what it has said.
    pid: u32,
    lines: Receiver<String>,
}

/// A program that `cargo test` builds with the tests.
pub fn built(name: &str) -> PathBuf {
    let ourselves = std::env::current_exe().expect("our own path");
    let path = ourselves.ancestors().nth(2).expect("the folder of this build").join("examples").join(name);
    assert!(path.exists(), "no {}. Run \"cargo build --examples\" first", path.display());
    path
}

/// An empty folder of a test's own.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

impl Running {
    /// The program of the tests with these arguments, once it has waited.
    pub fn start(test: &str, arguments: &[&str]) -> Self {
        let mut running = Self::start_unready(test, arguments);
        running.waited();
        running
    }

    /// The same, at once.
    pub fn start_unready(test: &str, arguments: &[&str]) -> Self {
        let path = folder(test).join("program");
        // No copy: a file that somebody writes can't be executed, and all tests are one process.
        fs::hard_link(built("rollover-program"), &path).expect("the program");
        let mut command = Command::new(&path);
        command.args(arguments);
        Self::spawn(path, command)
    }

    /// The same by a shell's command line, where it is `$0`, once it has waited.
    pub fn start_by(test: &str, line: &str) -> Self {
        let path = folder(test).join("program");
        fs::hard_link(built("rollover-program"), &path).expect("the program");
        let mut command = Command::new("sh");
        command.args(["-c", line]).arg(&path);
        let mut running = Self::spawn(path, command);
        running.waited();
        running
    }

    /// Any program at this path, by any command.
    pub fn spawn(path: PathBuf, mut command: Command) -> Self {
        // What has lost its parent is ours, so that we can wait for all of it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("a subreaper");
        let (output, input) = std::io::pipe().expect("a pipe");
        command.process_group(0).current_dir(path.parent().expect("its folder")).stdin(Stdio::null());
        command.stderr(input.try_clone().expect("a pipe")).stdout(input);
        let pid = command.spawn().expect("the program").id();
        // It holds our copy of the pipe.
        drop(command);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { path, group: Pid::from_raw(pid.cast_signed()), pid, lines }
    }

    /// The process that serves.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Where its program is.
    pub fn folder(&self) -> &Path {
        self.path.parent().expect("its folder")
    }

    /// Sends a signal to the process that serves.
    pub fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid.cast_signed()), signal).expect("a process");
    }

    /// The next line; none when all processes have ended.
    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
        }
    }

    /// The next line that has this in it, whatever is said before.
    pub fn expect(&self, part: &str) -> String {
        let mut before = Vec::new();
        while let Some(line) = self.line() {
            if line.contains(part) {
                return line;
            }
            before.push(line);
        }
        panic!("it ended without {part:?}, after {before:#?}");
    }

    /// The next process that has waited: it serves.
    pub fn waited(&mut self) -> u32 {
        let line = self.expect(" waited");
        self.becomes(line.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a process id"));
        self.pid
    }

    /// Somebody else serves now.
    pub const fn becomes(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// Has it replace itself.
    pub fn roll(&mut self) -> u32 {
        self.send(Signal::SIGHUP);
        self.waited()
    }

    /// Has it try to replace itself, which fails: it goes on, alone, and says why.
    pub fn fails(&self) -> String {
        self.send(Signal::SIGHUP);
        let line = self.expect(" goes on: ");
        let (pid, reason) = line.split_once(" goes on: ").expect("a reason");
        assert_eq!(pid, self.pid.to_string());
        assert_eq!(self.processes(), [self.pid]);
        reason.to_owned()
    }

    /// Puts a script in the place of its program.
    pub fn replace(&self, script: &str) {
        // By another process, since all tests are one, and a file that somebody writes can't be executed.
        let write = r#"printf %s "$1" >"$2.new" && chmod 755 "$2.new" && mv "$2.new" "$2""#;
        let status = Command::new("sh").args(["-c", write, "sh", script]).arg(&self.path).status();
        assert!(status.expect("a shell").success());
    }

    /// Puts the program back.
    pub fn put_back(&self) {
        let _ = fs::remove_file(&self.path);
        fs::hard_link(built("rollover-program"), &self.path).expect("the program");
    }

    /// All processes of it. Those that have ended and are ours by now are reaped; others that nobody has reaped count.
    pub fn processes(&self) -> Vec<u32> {
        let ours = Pid::from_raw(-self.group.as_raw());
        while matches!(waitpid(ours, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has just gone has none.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2));
            if group.and_then(|group| group.parse().ok()) == Some(self.group.as_raw()) {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until all of it has ended, and sees that nothing is left.
    pub fn is_gone(&self) {
        while self.line().is_some() {}
        let ours = Pid::from_raw(-self.group.as_raw());
        // What has closed its output may take a moment to end.
        while waitpid(ours, None).is_ok() {}
        assert_eq!(self.processes(), [0; 0]);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = killpg(self.group, Signal::SIGKILL);
        while waitpid(Pid::from_raw(-self.group.as_raw()), None).is_ok() {}
        let _ = fs::remove_dir_all(self.folder());
    }
}
