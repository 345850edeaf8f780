//! The predecessor's side: it starts a successor, and is in charge until that has asked it to end.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::stat::fstat;
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use super::handshake::{ASKED, ASKS, Channel, Deadline, GO, GO_AS_MAIN, Heard, Place, VARIABLE, wait_for};
use super::{Ended, Error, Rollover, scope, service};

/// Starts the successor and sees it take over.
pub fn restart(rollover: &Rollover) -> Result<(), Error> {
    if std::process::id() == 1 {
        return Err(Error::FirstProcess);
    }
    if rollover.main && !service::is_heard() {
        return Err(Error::Unheard);
    }
    let deadline = Deadline::after(rollover.start_timeout);
    let (channel, theirs) = Channel::pair()?;
    let child = spawn(rollover, theirs)?;
    let pid = child.id();
    let process = match handle(child) {
        Ok(Some(process)) => process,
        Ok(None) => return Err(Failure::Ended.of(rollover, Ended::Unknown)),
        Err(error) => return Err(error.into()),
    };
    let mut candidate = Candidate { channel, process, deadline, main: false };
    candidate.take_over(rollover, pid).map_err(|failure| failure.of(rollover, candidate.end()))
}

/// Executes the program, with the other end of the channel: that is its alone when this returns.
fn spawn(rollover: &Rollover, theirs: Channel) -> Result<Child, Error> {
    let word = |word: OsString| CString::new(word.into_vec()).map_err(io::Error::from);
    let program = word(rollover.program.clone().into())?;
    let arguments = std::env::args_os().map(word).collect::<io::Result<Vec<_>>>()?;
    let number = theirs.as_fd().as_raw_fd();
    let inode = fstat(&theirs).map_err(io::Error::from)?.st_ino;
    let environment = environment(Place { number, inode }).map(word).collect::<io::Result<Vec<_>>>()?;
    let mask = rollover.mask;
    let execute = move || {
        // Only here does it lose its close-on-exec: another thread of ours may be starting a program just now.
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        mask.thread_set_mask()?;
        // `Command` itself would give to a shell what is no program: half a download, or an error page.
        let Err(error) = nix::unistd::execve(&program, &arguments, &environment);
        Err(error.into())
    };
    let mut command = Command::new(&rollover.program);
    // SAFETY: between fork and exec there are system calls and two allocations, which the C libraries allow there.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(execute);
    }
    command.spawn().map_err(|source| Error::NotExecuted { program: rollover.program.clone(), source })
}

/// This process's environment, but for what is about this process alone.
fn environment(place: Place) -> impl Iterator<Item = OsString> {
    let ourselves = std::process::id().to_string();
    let is_ours = move |(name, value): &(OsString, OsString)| {
        name != VARIABLE && !(name == "WATCHDOG_PID" && value.as_os_str() == ourselves.as_str())
    };
    let variable = (VARIABLE.into(), place.to_string().into());
    std::env::vars_os().filter(is_ours).chain(std::iter::once(variable)).map(|(mut assignment, value)| {
        assignment.push("=");
        assignment.push(value);
        assignment
    })
}

/// A handle of our child; none if the program has reaped it already, whoever has its process id by now.
fn handle(mut child: Child) -> io::Result<Option<OwnedFd>> {
    let process = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error.into());
        }
    };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let is_ours = waitid(WaitId::PidFd(process.as_fd()), look).is_ok();
    Ok(is_ours.then_some(process))
}

/// What is wrong with a successor.
enum Failure {
    Ended,
    Silent,
    Stranger,
    NotTold(io::Error),
    NoScope(io::Error),
    Failed(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Failure {
    fn of(self, rollover: &Rollover, status: Ended) -> Error {
        let program = rollover.program.clone();
        match self {
            Self::Ended => Error::Ended { program, status },
            Self::Silent => Error::Silent { program, timeout: rollover.start_timeout },
            Self::Stranger => Error::Stranger { program },
            Self::NotTold(error) => Error::NotTold(error),
            Self::NoScope(error) => Error::NoScope(error),
            Self::Failed(error) => Error::Failed(error),
        }
    }
}

/// A successor that has not taken over yet.
struct Candidate {
    channel: Channel,
    process: OwnedFd,
    deadline: Deadline,
    /// systemd may have been told of it.
    main: bool,
}

impl Candidate {
    fn take_over(&mut self, rollover: &Rollover, pid: u32) -> Result<(), Failure> {
        self.expect(ASKS)?;
        if rollover.main {
            self.main = true;
            // systemd may be as late as it likes, since it may not hear this process any more.
            service::hand_over(pid).map_err(Failure::NotTold)?;
        } else {
            if scope::is_due(&rollover.program) {
                scope::place(&rollover.program, pid, self.deadline).map_err(Failure::NoScope)?;
            }
            if self.deadline.left() == Some(Duration::ZERO) {
                return Err(Failure::Silent);
            }
        }
        // Once it may go ahead it may have sent the signal, so it has as much time again to say so.
        self.deadline = Deadline::after(rollover.start_timeout);
        // If it is gone that is heard next.
        let _ = self.channel.say(if rollover.main { GO_AS_MAIN } else { GO });
        self.expect(ASKED)
    }

    /// Waits for this message, and for no other.
    fn expect(&self, message: &[u8]) -> Result<(), Failure> {
        loop {
            let in_time = wait_for(&[self.channel.as_fd(), self.process.as_fd()], self.deadline)?;
            // What it said before it ended counts.
            match self.channel.hear()? {
                Heard::Message(heard) if heard == message => return Ok(()),
                Heard::Message(_) => return Err(Failure::Stranger),
                // Its descriptors are closed before it has ended.
                Heard::Closed if self.ends(self.deadline)? => return Err(Failure::Ended),
                Heard::Closed => return Err(Failure::Silent),
                Heard::Nothing if self.ends(Deadline::after(Duration::ZERO))? => return Err(Failure::Ended),
                Heard::Nothing if !in_time => return Err(Failure::Silent),
                Heard::Nothing => {}
            }
        }
    }

    fn ends(&self, deadline: Deadline) -> io::Result<bool> {
        wait_for(&[self.process.as_fd()], deadline)
    }

    /// Ends it, and is in charge again. How it ended.
    fn end(&self) -> Ended {
        if self.main {
            // First, so that systemd need not see its main process end.
            service::take_back();
        }
        // One that has ended already needs no signal.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let status = loop {
            match waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                status => break status.ok().flatten(),
            }
        };
        status.as_ref().map_or(Ended::Unknown, |status| match (status.exit_status(), status.terminating_signal()) {
            (Some(status), _) => Ended::Exited(status),
            (None, Some(signal)) => Ended::Killed(signal),
            (None, None) => Ended::Unknown,
        })
    }
}
