//! Handles of processes. A handle stays its process's own, whoever gets the process id afterwards.

use std::io;
use std::os::fd::OwnedFd;

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

    /// Another handle of the same process.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        let mut poll = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::event::poll(&mut poll, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Returns when the process has ended. Costs nothing until then.
    pub async fn ended(self) -> io::Result<()> {
        // SAFETY: an `OwnedFd` is open for as long as it lives, always the same, and the `AsyncFd` owns it.
        #[allow(unsafe_code)]
        let watch = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }?;
        watch.readable().await.map(drop)
    }
}
