//! What systemd is told when the main process of a service is replaced. See sd_notify(3).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::handshake::{Deadline, wait_for};

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Whether systemd has executed this very process, as the main process of a service.
pub fn is_main() -> bool {
    let executed = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    executed == Some(std::process::id())
}

/// Whether this service has somewhere to tell systemd anything.
pub fn is_heard() -> bool {
    std::env::var_os(NOTIFY_SOCKET).is_some()
}

/// Makes a process the main process of the service that this one is the main process of. systemd knows when this
/// returns.
///
/// # Errors
/// It may know or not.
pub fn hand_over(pid: u32) -> io::Result<()> {
    Word::main_process(pid)?.say()
}

/// Makes this process the main process again. With `NotifyAccess=main` systemd no longer hears it.
pub fn take_back() {
    let _ = hand_over(std::process::id());
}

/// Has systemd see that this process, the main process, is its child by now. Of one that was somebody else's when it
/// became the main process it expects no exit, and a stop of the service would kill it at once. It looks again only
/// when the main process changes, so for a moment that is a child of ours.
///
/// # Errors
/// A stop may give this process no time.
pub fn settle() -> io::Result<()> {
    let word = Word::main_process(std::process::id())?;
    let (go, ours) = io::pipe()?;
    // What is sent to the main process meanwhile is for this one: none may end the child, and it hands them on.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let parent = Pid::this();
    // SAFETY: the child makes but system calls, and a small allocation, which the C libraries allow there.
    #[allow(unsafe_code)]
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        drop(ours);
        let _ = wait_for_end(&go);
        let _ = word.say();
        for signal in Signal::iterator().filter(|signal| is_pending(*signal)) {
            let _ = kill(parent, signal);
        }
        // SAFETY: it ends the child, and runs nothing of the program's there.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(0)
        }
    }
    mask.thread_set_mask()?;
    let ForkResult::Parent { child } = forked? else { return Ok(()) };
    // The child's alone, so that the end of its message can be seen.
    drop(word);
    let told = hand_over(child.as_raw().cast_unsigned());
    drop(ours);
    while waitpid(child, None) == Err(nix::errno::Errno::EINTR) {}
    told
}

/// Whether a signal that is blocked has come.
fn is_pending(signal: Signal) -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is read only once it has been written.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), signal as libc::c_int) == 1
    }
}

/// A message about the main process, ready to be sent: that takes but system calls.
struct Word {
    socket: UnixDatagram,
    text: String,
    /// A pipe whose one end goes to systemd, which closes it when it has read all that was sent before.
    barrier: (io::PipeReader, io::PipeWriter),
}

impl Word {
    fn main_process(pid: u32) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(std::env::var_os(NOTIFY_SOCKET).unwrap_or_default())?;
        Ok(Self { socket, text: format!("MAINPID={pid}"), barrier: io::pipe()? })
    }

    /// Sends it, and returns when systemd has read it.
    fn say(self) -> io::Result<()> {
        self.socket.send(self.text.as_bytes())?;
        let (ours, theirs) = self.barrier;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let descriptors = [theirs.as_fd()];
        rights.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(b"BARRIER=1")], &mut rights, SendFlags::NOSIGNAL)?;
        drop(theirs);
        wait_for_end(&ours)
    }
}

/// Waits until nobody has the other end any more.
fn wait_for_end(pipe: &io::PipeReader) -> io::Result<()> {
    wait_for(&[pipe.as_fd()], Deadline::after(Duration::MAX)).map(drop)
}
