//! The successor's side: it asks its predecessor to end and sees it gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, FdFlags};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};

use super::Error;
use super::handshake::{ASKED, ASKS, Channel, Deadline, GO_AS_MAIN, Heard, Place, VARIABLE, wait_for};

/// A predecessor that waits for this process.
pub struct Predecessor {
    pid: Pid,
    process: OwnedFd,
    channel: Channel,
}

/// The process that has started this one to succeed it, if there is one.
pub fn predecessor() -> Result<Option<Predecessor>, Error> {
    let place = std::env::var(VARIABLE).ok().and_then(|place| place.parse::<Place>().ok());
    forget();
    let Some(place) = place else { return Ok(None) };
    let socket = std::fs::read_link(format!("/proc/self/fd/{}", place.number));
    if !socket.is_ok_and(|socket| socket.as_os_str() == format!("socket:[{}]", place.inode).as_str()) {
        return Ok(None);
    }
    // SAFETY: it is open, and nobody closes it, since this process has only begun.
    #[allow(unsafe_code)]
    let inherited = unsafe { BorrowedFd::borrow_raw(place.number) };
    // Who made it: variable and descriptor may have come down together from an ancestor that is not the parent.
    let Ok(maker) = socket_peercred(inherited).map(|peer| peer.pid) else { return Ok(None) };
    let process = pidfd_open(maker, PidfdFlags::empty());
    // Asked only now: as long as it is the parent, nobody else has had its process id.
    if getppid() != Some(maker) {
        return Ok(None);
    }
    let not_asked = |error: Errno| Error::NotAsked { pid: maker.as_raw_pid(), source: error.into() };
    let process = process.map_err(not_asked)?;
    // SAFETY: it was inherited for this, and this process has only begun: nothing in it owns the descriptor.
    #[allow(unsafe_code)]
    let channel = unsafe { OwnedFd::from_raw_fd(place.number) };
    rustix::io::fcntl_setfd(&channel, FdFlags::CLOEXEC).map_err(not_asked)?;
    Ok(Some(Predecessor { pid: maker, process, channel: Channel::inherited(channel) }))
}

/// Takes the variable out of the environment, where nobody can be reading it.
fn forget() {
    let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1);
    if alone && std::env::var_os(VARIABLE).is_some() {
        // SAFETY: there is no other thread.
        #[allow(unsafe_code)]
        unsafe {
            std::env::remove_var(VARIABLE);
        }
    }
}

impl Predecessor {
    /// Asks it to end, and returns when it has: whether this process is the main process of its service now.
    pub fn succeed(self, signal: Signal, stop_timeout: Duration) -> Result<bool, Error> {
        let not_asked = |source: io::Error| Error::NotAsked { pid: self.pid.as_raw_pid(), source };
        // If nobody hears it, that is seen next.
        let _ = self.channel.say(ASKS);
        let Some(main) = self.answer().map_err(not_asked)? else {
            // It has ended, or will end this process.
            let ended = wait_for(&[self.process.as_fd()], Deadline::after(stop_timeout)).map_err(not_asked)?;
            return if ended { Ok(false) } else { Err(Error::NotWanted(self.pid.as_raw_pid())) };
        };
        match pidfd_send_signal(&self.process, signal) {
            // It has just ended.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(not_asked(error.into())),
        }
        // From here on there is no way back.
        let _ = self.channel.say(ASKED);
        let process = [self.process.as_fd()];
        if !wait_for(&process, Deadline::after(stop_timeout)).map_err(not_asked)? {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
            wait_for(&process, Deadline::after(Duration::MAX)).map_err(not_asked)?;
        }
        Ok(main)
    }

    /// Its answer; none if it gives none any more.
    fn answer(&self) -> io::Result<Option<bool>> {
        loop {
            // It has a deadline itself.
            wait_for(&[self.channel.as_fd(), self.process.as_fd()], Deadline::after(Duration::MAX))?;
            match self.channel.hear()? {
                Heard::Message(message) => return Ok(Some(message.starts_with(GO_AS_MAIN))),
                Heard::Closed => return Ok(None),
                Heard::Nothing if wait_for(&[self.process.as_fd()], Deadline::after(Duration::ZERO))? => {
                    return Ok(None);
                }
                Heard::Nothing => {}
            }
        }
    }
}
