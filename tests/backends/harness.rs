//! A procroll that runs services written for a test, and all that is heard of both.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ways::{Generations, Place, Start};

/// How long anything may take that a test waits for. Far longer than it takes, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look for what tells nobody that it has happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
        self.expect_any(&[part])
    }

    /// The next line that has any of these in it, whatever comes before.
    pub fn expect_any(&self, parts: &[&str]) -> String {
        let mut before = Vec::new();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if parts.iter().any(|part| line.contains(part)) => return line,
                Ok(line) => before.push(line),
                Err(_) => break,
            }
        }
        let parts = parts.join("\" or \"");
        panic!("no \"{parts}\" in its {}, but {before:#?}", self.whose);
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
    /// How it was started.
    pub start: Start,
    /// What it is to name units after, where there are any.
    unit: String,
    /// A folder of the test's own, where it is for the test.
    pub folder: PathBuf,
    /// The same, where it is for procroll.
    inner: PathBuf,
    /// Standard output: what services say.
    pub out: Lines,
    /// Standard error: what procroll says.
    pub err: Lines,
    /// What procroll notifies.
    pub up: Lines,
    /// The process that is procroll.
    pid: Pid,
}

/// A place of a test's own: an empty folder, with a path that is short enough for sockets.
struct Own {
    unit: String,
    folder: PathBuf,
    inner: PathBuf,
}

impl Own {
    fn new(test: &str, start: Start) -> Self {
        let unit = format!("{test}-{}", start.label());
        let name = format!("procroll-{}-{unit}", std::process::id());
        let (folder, inner) = match start.machine() {
            Some(machine) => (machine.path(&format!("/tmp/{name}")), PathBuf::from("/tmp").join(name)),
            None => (std::env::temp_dir().join(&name), std::env::temp_dir().join(&name)),
        };
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tmp")).expect("a folder");
        Self { unit, folder, inner }
    }
}

impl Running {
    /// procroll with these options, and a service that does this, in Python, after the prelude.
    pub fn start(test: &str, start: Start, options: &[&str], service: &str) -> Self {
        let script = format!("{}\n{service}", include_str!("prelude.py"));
        Self::start_command(test, start, options, &["python3", "-c", &script, "{{.Generation}}"])
    }

    /// The same, where the service is a file of its own, `program` in the test's folder.
    pub fn start_program(test: &str, start: Start, options: &[&str], service: &str) -> Self {
        let own = Own::new(test, start);
        let script = format!("#!/usr/bin/env python3\n{}\n{service}", include_str!("prelude.py"));
        // By another process, since all tests are one, and a file that somebody writes can't be executed.
        let write = r#"printf %s "$1" >"$2" && chmod 755 "$2""#;
        let status = Command::new("sh").args(["-c", write, "sh", &script]).arg(own.folder.join("program")).status();
        assert!(status.expect("a shell").success());
        Self::start_in(own, start, options, &["./program", "{{.Generation}}"], |_| {})
    }

    /// The same with any command.
    pub fn start_command(test: &str, start: Start, options: &[&str], command: &[&str]) -> Self {
        Self::start_in(Own::new(test, start), start, options, command, |_| {})
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
        Self::start_in(Own::new(test, start), start, options, &["python3", "-c", &script, "{{.Generation}}"], more)
    }

    fn start_in(own: Own, start: Start, options: &[&str], command: &[&str], more: impl FnOnce(&mut Command)) -> Self {
        let Own { unit, folder, inner } = own;
        let socket = UnixDatagram::bind(folder.join("up")).expect("a socket");
        let mut procroll = match start.machine() {
            Some(machine) => machine.command(&["sh", "-c", "cd \"$FOLDER\" && exec \"$@\"", "sh", "/usr/bin/procroll"]),
            None => {
                let words = [start.before, &[env!("CARGO_BIN_EXE_procroll")]].concat();
                let mut command = Command::new(words[0]);
                command.args(&words[1..]).current_dir(&folder);
                command
            }
        };
        procroll.args(start.form);
        if start.generations != Generations::Processes {
            procroll.args(["--unit", &unit]);
        }
        match start.generations {
            // They have neither a folder of procroll's nor its environment.
            Generations::Services => procroll.args(["-E", "FOLDER"]),
            Generations::Processes | Generations::Scopes => procroll.arg("--tempdir").arg(inner.join("tmp")),
        };
        procroll.args(options).arg("--").args(command).env("FOLDER", &inner).env("NOTIFY_SOCKET", inner.join("up"));
        procroll.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        more(&mut procroll);
        let mut child = procroll.spawn().expect("procroll");
        let out = Lines::of("output", OwnedFd::from(child.stdout.take().expect("a pipe")).into_file());
        let err = Lines::of("messages", OwnedFd::from(child.stderr.take().expect("a pipe")).into_file());
        let up = Lines::of_socket(socket);
        let outer = Pid::from_raw(child.id().cast_signed());
        let mut running = Self { child, start, unit, folder, inner, out, err, up, pid: outer };
        if start.place != Place::Here {
            running.pid = running.first();
        }
        running
    }

    /// The process that is procroll in another namespace, as it is numbered here. One that has ended already needs no number.
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

    /// The folder of the test's own, where it is for procroll.
    pub fn inner(&self) -> &Path {
        &self.inner
    }

    /// The process that is procroll.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// The same, as it is numbered where it is.
    pub fn inner_pid(&self) -> i32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("procroll");
        let all = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("its numbers");
        all.split_whitespace().next_back().and_then(|pid| pid.parse().ok()).expect("a number")
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

    /// What procroll calls a generation.
    pub fn name(&self, generation: u32) -> String {
        let (before, after) = self.start.around_number(&self.unit);
        format!("{before}{generation}{after}")
    }

    /// The number of the generation with whose name this text begins.
    pub fn number(&self, text: &str) -> Option<u32> {
        let rest = text.strip_prefix(&self.start.around_number(&self.unit).0)?;
        rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
    }

    /// Waits until this generation serves.
    pub fn serves(&self, generation: u32) {
        self.err.expect(&format!("{} serves", self.name(generation)));
    }

    /// Waits until procroll has said this to whoever has started it, where it says anything to them.
    pub fn notified(&self, part: &str) -> Option<String> {
        self.start.notifies().then(|| self.up.expect(part))
    }

    /// Waits until a later generation than this one serves and nothing else goes on.
    pub fn rests_after(&self, generation: u32) {
        self.wait_for("rest", || match self.start.machine() {
            Some(machine) if !self.start.notifies() => {
                let units = machine.units(&format!("{}*", self.unit));
                let [unit] = &units[..] else { return None };
                // It lets go of the bus when it needs it for nothing.
                let clients = machine.ok("busctl list --no-legend --no-pager");
                let own = self.inner_pid().to_string();
                let talks = clients.lines().any(|line| line.split_whitespace().nth(1) == Some(&own));
                (self.number(unit)? > generation && !talks).then_some(())
            }
            _ => {
                let status = self.up.so_far().into_iter().rfind(|line| line.starts_with("STATUS="))?;
                let number = self.number(status.strip_prefix("STATUS=")?)?;
                (number > generation && !status.contains(';')).then_some(())
            }
        });
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
        let mark = [b"FOLDER=", self.inner.as_os_str().as_encoded_bytes(), b"\0"].concat();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let is_own =
                fs::read(entry.path().join("environ")).is_ok_and(|text| text.windows(mark.len()).any(|at| at == mark));
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if is_own && !["procroll\n", "unshare\n", "nsenter\n"].contains(&name.as_str()) {
                found.push(Pid::from_raw(pid));
            }
        }
        found
    }

    /// Waits until there are so many services.
    pub fn services_are(&self, count: usize) {
        self.wait_for("the right number of services", || (self.services().len() == count).then_some(()));
    }

    /// Waits until procroll has ended, and sees that nothing is left: no process, no file, no unit. How it ended.
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
        if let Some(machine) = self.start.machine() {
            // systemd forgets a unit a moment after its end is known.
            self.wait_for("the end of its units", || {
                machine.units(&format!("{}*", self.unit)).is_empty().then_some(())
            });
            // systemd makes the folder for the first of them.
            let transient = Some(machine.path("/run/systemd/transient")).filter(|folder| folder.exists());
            let entries = || transient.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder").flatten());
            let is_own = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&self.unit);
            let own = || entries().filter(is_own).count();
            self.wait_for("the end of their files", || (own() == 0).then_some(()));
        }
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
        let (code, by) = if self.start.place == Place::First {
            (Some(128 + signal as i32), None)
        } else {
            (None, Some(signal as i32))
        };
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
        // nsenter does not take it along.
        if self.start.machine().is_some() && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(machine) = self.start.machine().filter(|_| std::thread::panicking()) {
            machine.run(&format!("systemctl kill --signal=KILL '{0}*'; systemctl reset-failed '{0}*'", self.unit));
        }
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
