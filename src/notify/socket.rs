//! A generation's own notify socket, by which it is known who says what. What that means is not decided here.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::datagram::{self, BadMessage, LONGEST, Message};

/// A socket at a path, which is gone with it.
#[derive(Debug)]
pub struct Socket {
    socket: UnixDatagram,
    path: PathBuf,
}

/// A notification.
#[derive(Debug)]
pub struct Received {
    /// The process that sent it, by the kernel's word; none if it can't be seen from here.
    pub sender: Option<u32>,
    /// What it says.
    pub content: Result<Message, BadMessage>,
}

impl Socket {
    /// Binds a new socket to this path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        // Before anybody can send: what comes earlier would have no sender.
        sockopt::set_socket_passcred(&socket, true)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket: UnixDatagram::from_std(socket.into())?, path: path.to_owned() })
    }

    /// Returns when there may be something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next notification, if there is one by now.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        match self.socket.try_io(Interest::READABLE, || receive(&self.socket)) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Room for the credentials that the kernel puts first, and for no descriptors: those that come with a message never get here,
/// however few are left.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    credentials: libc::ucred,
}

/// By hand, since neither nix nor rustix gives the credentials where something else was cut off, and the sender may be unseen.
fn receive(socket: impl AsFd) -> io::Result<Received> {
    let mut bytes = [0u8; LONGEST + 1];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all of both may be zero.
    #[allow(unsafe_code)]
    let (mut message, mut control): (libc::msghdr, Control) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = ((&raw mut control).cast(), size_of::<Control>());
    // SAFETY: it names buffers that live on, and their lengths.
    #[allow(unsafe_code)]
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let content = match message.msg_flags & libc::MSG_TRUNC != 0 {
        true => Err(BadMessage::TooLong),
        false => datagram::parse(bytes.get(..length).unwrap_or(&bytes)),
    };
    let kind = (control.header.cmsg_level, control.header.cmsg_type);
    let sender = (kind == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)).then_some(control.credentials.pid);
    // 0 is for a process of another namespace.
    Ok(Received { sender: sender.and_then(|pid| pid.try_into().ok()).filter(|pid| *pid != 0), content })
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
