//! A procroll that runs services written for a test, and all that is heard of both.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take that a test waits for. Far longer than it takes, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look for what tells nobody that it has happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How procroll is started: what stands before it, and what makes it run generations in one way or another.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// What executes it, in the end.
    pub before: &'static [&'static str],
    /// What comes before the options.
    pub form: &'static [&'static str],
    /// It is the first process of a namespace.
    pub is_first: bool,
}

/// As from a shell.
pub const PLAIN: Start = Start { before: &[], form: &["run"], is_first: false };

/// As in a container.
pub const FIRST: Start = Start {
    before: &["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"],
    form: &["run"],
    is_first: true,
};

/// Lines from somewhere.
pub struct Lines {
    receiver: Receiver<String>,
    whose: &'static str,
}

impl Lines {
    fn of(whose: &'static str, stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            BufReader::new(stream).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { receiver, whose }
    }

    fn of_socket(socket: UnixDatagram) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if length == 0 || !text.lines().all(|line| sender.send(line.to_owned()).is_ok()) {
                    return;
                }
            }
        });
        Self { receiver, whose: "notifications" }
    }

    /// The next line; none when there will be no more.
    pub fn next(&self) -> Option<String> {
        match self.receiver.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("there is no more of its {}", self.whose),
        }
    }

    /// The next line that has this in it, whatever comes before.
    pub fn expect(&self, part: &str) -> String {
        let mut before = Vec::new();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(_) => break,
            }
        }
        panic!("no {part:?} in its {}, but {before:#?}", self.whose);
    }

    /// All that is there by now.
    pub fn so_far(&self) -> Vec<String> {
        self.receiver.try_iter().collect()
    }

    /// All that is still to come.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

/// A procroll, and whatever descends from it. All of it is gone when this is dropped.
pub struct Running {
    child: Child,
    start: Start,
    /// A folder of the test's own.
    pub folder: PathBuf,
    /// Standard output: what services say.
    pub out: Lines,
    /// Standard error: what procroll says.
    pub err: Lines,
    /// What procroll notifies.
    pub up: Lines,
    /// The process that is procroll.
    pid: Pid,
}

/// An empty folder of a test's own, with a path that is short enough for sockets.
fn folder(test: &str, start: Start) -> PathBuf {
    let kind = if start.is_first { "first" } else { "plain" };
    let folder = std::env::temp_dir().join(format!("procroll-{}-{test}-{kind}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("tmp")).expect("a folder");
    folder
}

impl Running {
    /// procroll with these options, and a service that does this, in Python, after the prelude.
    pub fn start(test: &str, start: Start, options: &[&str], service: &str) -> Self {
        let script = format!("{}\n{service}", include_str!("prelude.py"));
        Self::start_command(test, start, options, &["python3", "-c", &script, "{{.Generation}}"])
    }

    /// The same, where the service is a file of its own, `program` in the test's folder.
    pub fn start_program(test: &str, start: Start, options: &[&str], service: &str) -> Self {
        let folder = folder(test, start);
        let script = format!("#!/usr/bin/env python3\n{}\n{service}", include_str!("prelude.py"));
        // By another process, since all tests are one, and a file that somebody writes can't be executed.
        let write = r#"printf %s "$1" >program && chmod 755 program"#;
        let status = Command::new("sh").args(["-c", write, "sh", &script]).current_dir(&folder).status();
        assert!(status.expect("a shell").success());
        Self::start_in(folder, start, options, &["./program", "{{.Generation}}"], |_| {})
    }

    /// The same with any command.
    pub fn start_command(test: &str, start: Start, options: &[&str], command: &[&str]) -> Self {
        Self::start_in(folder(test, start), start, options, command, |_| {})
    }

    /// The same, with a command of which more is to be said.
    pub fn start_with(
        test: &str,
        start: Start,
        options: &[&str],
        service: &str,
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let script = format!("{}\n{service}", include_str!("prelude.py"));
        Self::start_in(folder(test, start), start, options, &["python3", "-c", &script, "{{.Generation}}"], more)
    }

    fn start_in(
        folder: PathBuf,
        start: Start,
        options: &[&str],
        command: &[&str],
        more: impl FnOnce(&mut Command),
    ) -> Self {
        let words = [start.before, &[env!("CARGO_BIN_EXE_procroll")], start.form].concat();
        let socket = UnixDatagram::bind(folder.join("up")).expect("a socket");
        let mut procroll = Command::new(words[0]);
        procroll.args(&words[1..]).args(options).arg("--tempdir").arg(folder.join("tmp")).arg("--").args(command);
        procroll.env("FOLDER", &folder).env("NOTIFY_SOCKET", folder.join("up")).current_dir(&folder);
        procroll.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        more(&mut procroll);
        let mut child = procroll.spawn().expect("procroll");
        let out = Lines::of("output", OwnedFd::from(child.stdout.take().expect("a pipe")).into_file());
        let err = Lines::of("messages", OwnedFd::from(child.stderr.take().expect("a pipe")).into_file());
        let up = Lines::of_socket(socket);
        let outer = Pid::from_raw(child.id().cast_signed());
        let mut running = Self { child, start, folder, out, err, up, pid: outer };
        if start.is_first {
            running.pid = running.first();
        }
        running
    }

    /// The first process of the namespace, as it is numbered here. One that has ended already needs no number.
    fn first(&mut self) -> Pid {
        let outer = self.pid.as_raw();
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("procroll").is_none() {
            let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap_or_default();
            let is_there =
                |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "procroll\n");
            if let Some(pid) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).filter(is_there) {
                return Pid::from_raw(pid);
            }
            assert!(Instant::now() < until, "procroll does not come. {:#?}", self.err.so_far());
            std::thread::sleep(LOOK_EVERY);
        }
        self.pid
    }

    /// The process that is procroll.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends procroll a signal.
    pub fn send(&self, signal: Signal) {
        kill(self.pid, signal).expect("procroll");
    }

    /// Waits until something is there.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > until {
                panic!("{what} does not come. {:#?}", self.err.so_far());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until this generation serves.
    pub fn serves(&self, generation: u32) {
        self.err.expect(&format!("generation {generation} serves"));
    }

    /// Has it roll to this generation.
    pub fn roll(&self, generation: u32) {
        self.send(Signal::SIGHUP);
        self.serves(generation);
    }

    /// Makes a pipe from which a service can wait for a word.
    pub fn pipe(&self, pipe: &str) {
        nix::unistd::mkfifo(&self.folder.join(pipe), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    }

    /// Writes to a pipe from which a service waits for a word. To be made before by [`Running::pipe`].
    pub fn word(&self, pipe: &str, word: &str) {
        fs::write(self.folder.join(pipe), word).expect("a pipe");
    }

    /// All processes that have come of this, by their environment, as they are numbered here. procroll's own are not among them,
    /// nor those that have ended.
    pub fn services(&self) -> Vec<Pid> {
        let mark = [b"FOLDER=", self.folder.as_os_str().as_encoded_bytes(), b"\0"].concat();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let is_own =
                fs::read(entry.path().join("environ")).is_ok_and(|text| text.windows(mark.len()).any(|at| at == mark));
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if is_own && !["procroll\n", "unshare\n"].contains(&name.as_str()) {
                found.push(Pid::from_raw(pid));
            }
        }
        found
    }

    /// Waits until there are so many services.
    pub fn services_are(&self, count: usize) {
        self.wait_for("the right number of services", || (self.services().len() == count).then_some(()));
    }

    /// Waits until procroll has ended, and sees that nothing is left: no process, no file. How it ended.
    pub fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("procroll") {
                break status;
            }
            assert!(Instant::now() < until, "it does not end. {:#?}", self.err.so_far());
            std::thread::sleep(LOOK_EVERY);
        };
        assert_eq!(self.services(), [], "processes are left");
        assert_eq!(fs::read_dir(self.folder.join("tmp")).expect("the folder").count(), 0, "files are left");
        status
    }

    /// Waits until procroll itself has ended.
    pub fn has_gone(&mut self) {
        self.child.wait().expect("procroll");
    }

    /// Waits until it has ended with this status.
    pub fn ends_with(&mut self, expected: i32) {
        let status = self.ends();
        assert_eq!(status.code(), Some(expected), "{status}, {:#?}", self.err.so_far());
    }

    /// Waits until it has ended as if by this signal.
    pub fn ends_by(&mut self, signal: Signal) {
        let status = self.ends();
        let (code, by) =
            if self.start.is_first { (Some(128 + signal as i32), None) } else { (None, Some(signal as i32)) };
        assert_eq!((status.code(), status.signal()), (code, by), "{:#?}", self.err.so_far());
    }

    /// Asks it to stop again and again, as somebody does who has no patience.
    pub fn kill(&mut self) {
        while self.child.try_wait().expect("procroll").is_none() {
            let _ = kill(self.pid, Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        self.send(Signal::SIGTERM);
        self.ends_with(0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What a failed test leaves: what forks meanwhile is found the next time.
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.services();
            if left.is_empty() || Instant::now() > until {
                break;
            }
            for pid in left {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

trait IntoFile {
    fn into_file(self) -> fs::File;
}

impl IntoFile for OwnedFd {
    fn into_file(self) -> fs::File {
        self.into()
    }
}
