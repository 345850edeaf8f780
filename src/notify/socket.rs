//! A generation's own notify socket, by which it is known who says what. What that means is not decided here.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, sockopt};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::datagram::{self, BadMessage, LONGEST, Message};

/// The most descriptors that can be sent along with one message: SCM_MAX_FD.
const MOST_DESCRIPTORS: usize = 253;

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
        match self.socket.try_io(Interest::READABLE, || Ok(receive(self.socket.as_fd())?)) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Descriptors that come with it are closed.
fn receive(socket: impl AsFd) -> Result<Received, Errno> {
    let mut bytes = [0; LONGEST + 1];
    // Room for all that can come, since none of it can be read otherwise.
    let mut control = cmsg_space!([RawFd; MOST_DESCRIPTORS], UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let (length, is_cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_TRUNC));
    let mut sender = None;
    for message in received.cmsgs().into_iter().flatten() {
        match message {
            ControlMessageOwned::ScmCredentials(credentials) => sender = Some(credentials.pid()),
            ControlMessageOwned::ScmRights(numbers) => numbers.into_iter().for_each(|number| {
                // SAFETY: the kernel has just made it for this process, and nobody else knows of it.
                #[allow(unsafe_code)]
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }),
            _ => {}
        }
    }
    let content = match is_cut {
        true => Err(BadMessage::TooLong),
        false => datagram::parse(bytes.get(..length).unwrap_or(&bytes)),
    };
    // 0 is for a process of another namespace.
    Ok(Received { sender: sender.and_then(|pid| pid.try_into().ok()).filter(|pid| *pid != 0), content })
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
