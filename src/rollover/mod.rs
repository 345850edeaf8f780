//! For a program that replaces itself: an agent that updates its own binary, say.
//!
//! [`Options::wait`] comes first thing in any run. It asks the predecessor to end, if there is one, and returns when that
//! is completely gone. [`Rollover::restart`] starts the successor: what is at the program's path by then, with the same
//! arguments, environment, working directory and descriptors.
//!
//! ```no_run
//! use procroll::rollover;
//!
//! let rollover = rollover::wait()?;
//! // The predecessor is gone: what two can't have at once is free now. Serve, until there is a new version. Then:
//! match rollover.restart() {
//!     Ok(()) => { /* The successor has asked this process to end, by SIGINT. */ }
//!     Err(error) => eprintln!("{error}"), // It goes on as if nothing had been.
//! }
//! # Ok::<(), rollover::Error>(())
//! ```
//!
//! # Who is in charge when
//!
//! Until the successor has sent the signal, the predecessor is: whatever goes wrong before ends the successor, and
//! nothing has changed. From then on it is the successor, whatever the predecessor does. A program may be replaced any
//! number of times.
//!
//! A stop that is meant for both should reach both: systemd and a terminal see to that as long as they are in one unit,
//! `kill` with one process id doesn't. A predecessor that somebody else ends while its successor starts is gone, so that
//! [`Options::wait`] returns.
//!
//! # Under systemd
//!
//! If the program is the main process of a service, its successor, in the same service and under the same limits, becomes
//! the main process before the old one ends, so that systemd never sees the service dead. For that it
//! has to be told, which takes `Type=notify`, `Type=notify-reload` or `NotifyAccess=main`: without it
//! [`Rollover::restart`] refuses. A successor that dies or hangs just then, when systemd knows it and it has not asked yet, is
//! made up for only with `NotifyAccess=all`: else systemd hears none but the dead one, and until the service is started
//! anew it runs on, the predecessor in it, without a main process that systemd knows (with a `WatchdogSec=`, only for so long).
//! Whether a process is the main process is known from `SYSTEMD_EXEC_PID` (systemd.exec(5)), and of a successor from its
//! predecessor.
//!
//! The successor of a program that was started from a login session, by root, is a transient unit of its own: before it takes
//! over, systemd puts it into a scope (systemd.scope(5)) that has the name of its program and its process id,
//! `agent-4120.scope`. It is a child of its predecessor there as well, with all that it has inherited. So it no longer ends
//! with the session, systemctl lists and stops it, and `agent-.scope.d/` in /etc/systemd/system can limit it.
//! In any other unit, a scope of systemd-run's, say, the successor is where its predecessor was, in what was made for
//! them; and so it is for users who are not root, since a unit of their own manager would end when they log out.
//!
//! # What is handed on, and what isn't
//!
//! The successor starts with the signal mask that [`Options::wait`] found. A program that blocks its signals before it
//! waits loses none. Of systemd's variables `WATCHDOG_PID` is left out, so that the watchdog holds for the successor.
//! `LISTEN_PID` stays what it is, so that sockets by `LISTEN_FDS` are not found by the successor.
//!
//! # Parts
//!
//! `restart` is the predecessor's side and `wait` the successor's; `handshake` is what they say to each other, and
//! `service` what systemd is told. None of them knows the rest of procroll, or needs its runtime, a bus or systemd, but
//! `scope`, for what only a bus can be asked.

mod handshake;
mod restart;
mod scope;
mod service;
mod wait;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::{fmt, io};

use nix::sys::signal::SigSet;
use rustix::process::Signal;

/// [`Options::wait`] with what holds unless somebody says otherwise.
///
/// # Errors
/// As there.
pub fn wait() -> Result<Rollover, Error> {
    Options::new().wait()
}

/// How a program replaces itself.
#[derive(Clone, Debug)]
pub struct Options {
    kill_signal: i32,
    start_timeout: Duration,
    stop_timeout: Duration,
    program: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// SIGINT, ten seconds and a minute.
    pub const fn new() -> Self {
        Self {
            kill_signal: Signal::INT.as_raw(),
            start_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(60),
            program: None,
        }
    }

    /// The signal that asks the predecessor to end, by its number (signal(7)): SIGINT unless told otherwise. It is the
    /// successor that chooses it, so a new version that wants another one gets along only with what the old one does on
    /// that.
    #[must_use]
    pub const fn kill_signal(mut self, number: i32) -> Self {
        self.kill_signal = number;
        self
    }

    /// How long a successor has to ask, and as long again to say that it has once it may: ten seconds unless told otherwise. Then
    /// it is killed.
    #[must_use]
    pub const fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long the predecessor has to end once it was asked: a minute unless told otherwise, [`Duration::MAX`] for ever.
    /// Then it is killed.
    #[must_use]
    pub const fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// The path of the program that a successor executes. Unless told otherwise it is where this program was when it
    /// started, with links followed: where a link leads to the version in use, name the link.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Asks the predecessor to end, if there is one, and returns when it is completely gone. Without one it returns at
    /// once.
    ///
    /// To be called before this process has other threads, children and descriptors of its own: it takes a descriptor
    /// and a variable, `PROCROLL_ROLLOVER`, from what it has inherited. (With other threads the variable stays. It means
    /// nothing to anybody else.)
    ///
    /// # Errors
    /// The predecessor was not asked, so it goes on: this process should end.
    pub fn wait(self) -> Result<Rollover, Error> {
        let signal = Signal::from_named_raw(self.kill_signal).ok_or(Error::NoSignal(self.kill_signal))?;
        // A mask can always be read.
        let mask = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
        let program = self.program.as_ref().map_or_else(own_program, std::path::absolute).map_err(Error::NoProgram)?;
        let succeeded_main = match wait::predecessor()? {
            Some(predecessor) => predecessor.succeed(signal, self.stop_timeout)?,
            None => false,
        };
        if succeeded_main {
            // The predecessor is gone, so this process goes on in any case; it would only be stopped less gently.
            let _ = service::settle();
        }
        let main = succeeded_main || service::is_main();
        Ok(Rollover { program, main, mask, start_timeout: self.start_timeout, succeeded: Mutex::new(false) })
    }
}

/// A program that has no predecessor any more. It is what can be replaced.
#[derive(Debug)]
pub struct Rollover {
    program: PathBuf,
    /// Whether this process is the main process of a systemd service.
    main: bool,
    mask: SigSet,
    start_timeout: Duration,
    /// Held while a successor starts; whether there is one in the end.
    succeeded: Mutex<bool>,
}

impl Rollover {
    /// Starts the successor, and returns when it has asked this process to end. May be called from any thread, and again
    /// after an error.
    ///
    /// # Errors
    /// There is no successor, or none any more, and why. Nothing has changed.
    pub fn restart(&self) -> Result<(), Error> {
        // Nothing in there panics with it.
        let mut succeeded = self.succeeded.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *succeeded {
            return Err(Error::Succeeded);
        }
        restart::restart(self)?;
        *succeeded = true;
        Ok(())
    }

    /// The path of the program that a successor executes.
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }
}

/// Where this process's program is, or was before it was replaced or removed. See proc_pid_exe(5).
fn own_program() -> io::Result<PathBuf> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let Some(stripped) = path.as_os_str().as_bytes().strip_suffix(b" (deleted)") else { return Ok(path) };
    // Somebody may have called a file just that.
    if std::fs::exists(&path).unwrap_or(false) { Ok(path) } else { Ok(OsString::from_vec(stripped.to_vec()).into()) }
}

/// Why there is no rollover.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of [`Options::wait`]: the number is no signal's.
    #[error("{0} is not a signal that a program can be asked to end by. Take one of signal(7), such as 2, SIGINT")]
    NoSignal(i32),
    /// Of [`Options::wait`]: it can't be known what a successor would execute.
    #[error("can't find this program's own path: {0}. Mount /proc, or name the program with Options::program")]
    NoProgram(#[source] io::Error),
    /// Of [`Options::wait`]: the predecessor could not be asked to end.
    #[error("can't ask the predecessor, process {pid}, to end: {source}. It goes on, and this process should end")]
    NotAsked {
        /// The predecessor's process id.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Of [`Options::wait`]: the predecessor has gone on without this process, which took too long.
    #[error("the predecessor, process {0}, no longer waits for a successor. It goes on, and this process should end")]
    NotWanted(i32),

    /// The successor can't be executed.
    #[error("can't execute {}: {source}. Put a program there, and restart again", .program.display())]
    NotExecuted {
        /// The path of the program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The successor has ended before it asked.
    #[error("the new {} has ended before it took over ({status}). See what it said, and restart again", .program.display())]
    Ended {
        /// The path of the program.
        program: PathBuf,
        /// How it ended.
        status: Ended,
    },
    /// The successor did not ask in time, and was killed.
    #[error(
        "the new {} has not taken over within {timeout:?}, and was killed. It has to call procroll::rollover::wait() \
         first thing; or give it more time with Options::start_timeout", .program.display()
    )]
    Silent {
        /// The path of the program.
        program: PathBuf,
        /// The time it had.
        timeout: Duration,
    },
    /// The successor said something that [`Options::wait`] doesn't, and was killed.
    #[error(
        "the new {} does not speak as procroll::rollover::wait() does, and was killed. Put a program there that calls \
         it, and restart again", .program.display()
    )]
    Stranger {
        /// The path of the program.
        program: PathBuf,
    },
    /// systemd could not be told of the successor, which was killed.
    #[error("can't tell systemd of the new main process: {0}. See \"systemctl status {pid}\"", pid = std::process::id())]
    NotTold(#[source] io::Error),
    /// systemd has not put the successor, which was killed, into a scope.
    #[error(
        "the successor has got no scope of its own, and was killed: {0}. See \"systemctl status\", and restart again"
    )]
    NoScope(#[source] io::Error),
    /// systemd would take the end of this process for the end of its service.
    #[error(
        "this is the main process of a service that systemd does not hear of a successor from. Add \"NotifyAccess=main\" \
         to its unit, or make it Type=notify, and start it anew"
    )]
    Unheard,
    /// This is process 1, and no process outlives it.
    #[error(
        "process 1 can't be replaced: all others end with it. Run it under an init, as by \"podman run --init\", and \
         start it anew"
    )]
    FirstProcess,
    /// A successor has taken over already. This process should end.
    #[error("a successor of process {} has taken over already, and waits for its end", std::process::id())]
    Succeeded,
    /// The kernel has refused something that it always grants, if it has memory and descriptors left.
    #[error("can't start a successor: {0}. See whether memory or descriptors have run out, and restart again")]
    Failed(#[from] io::Error),
}

/// How a successor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By the signal of this number.
    Killed(i32),
    /// This program reaps all its children itself, or has the kernel do it.
    Unknown,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("nobody but its reaper knows how"),
        }
    }
}
