//! Handles of processes. A handle stays its process's own, whoever gets the process id afterwards.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A handle of one process. See pidfd_open(2).
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// The process that has this id now; none if there is none.
    pub fn open(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        pidfd_open(pid, PidfdFlags::NONBLOCK).ok().map(Self)
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let mut poll = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Sends it a signal, by number. One that has ended gets none, and that is no error.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: it takes numbers, and no address but none.
        #[allow(unsafe_code)]
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, nothing, 0) };
        match Errno::result(sent) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when the process has ended. Costs nothing until then.
    pub async fn ended(self) -> io::Result<()> {
        // SAFETY: an `OwnedFd` is open for as long as it lives, always the same, and the `AsyncFd` owns it.
        #[allow(unsafe_code)]
        let watch = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }?;
        watch.readable().await.map(drop)
    }
}
