//! What a predecessor and its successor say to each other, over a pair of sockets that the predecessor has made.
//!
//! The two may be built with different versions of procroll, so none of this may change: a new word may only be added
//! to [`GO`]'s, and has to be ignored by who doesn't know it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The variable that tells the successor its descriptor.
pub const VARIABLE: &str = "PROCROLL_ROLLOVER";

/// The successor: it is there, and would take over.
pub const ASKS: &[u8] = b"asks";
/// The predecessor: go ahead.
pub const GO: &[u8] = b"go";
/// The predecessor: go ahead, you are the main process of our service.
pub const GO_AS_MAIN: &[u8] = b"go main";
/// The successor: it has sent the signal.
pub const ASKED: &[u8] = b"asked";

/// Longer than any of the messages, which is how those are told that are not.
const ROOM: usize = 64;

/// Which of its descriptors the successor is to use. The inode of a socket is its own as long as it is open, so that a
/// variable that has come down from another time means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the descriptor.
    pub number: RawFd,
    /// The inode of the socket.
    pub inode: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.inode)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, inode) = text.split_once(':').ok_or(())?;
        let place = Self { number: number.parse().map_err(drop)?, inode: inode.parse().map_err(drop)? };
        if place.number >= 0 { Ok(place) } else { Err(()) }
    }
}

/// A message, or what came in its place.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A whole message.
    Message(Vec<u8>),
    /// The other end is closed.
    Closed,
    /// Nothing yet.
    Nothing,
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends. No program that is executed gets one.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// An end that was inherited.
    pub const fn inherited(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Says something. It has room for all that is ever said, so this does not wait.
    pub fn say(&self, message: &[u8]) -> io::Result<()> {
        // A peer that is gone is an error, and no reason for SIGPIPE.
        rustix::net::send(&self.0, message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok(())
    }

    /// What has been said by now.
    pub fn hear(&self) -> io::Result<Heard> {
        let mut buffer = [0; ROOM];
        loop {
            return match rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
                // An empty message reads the same. Nobody sends one.
                Ok((_, 0)) | Err(Errno::CONNRESET) => Ok(Heard::Closed),
                Ok((_, length)) => Ok(Heard::Message(buffer.iter().take(length).copied().collect())),
                Err(Errno::AGAIN) => Ok(Heard::Nothing),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A time in the future; none for one that never comes.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// How long that is from now.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Waits until one of these is readable or closed, or a process has ended whose pidfd is among them. False at the deadline.
pub fn wait_for(these: &[BorrowedFd<'_>], deadline: Deadline) -> io::Result<bool> {
    loop {
        let mut poll: Vec<_> = these.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        // What can't be written as a time is for ever.
        let left = deadline.left().and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut poll, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            // By a signal that the program handles.
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_the_same() {
        let place = Place { number: 7, inode: u64::MAX };
        assert_eq!(place.to_string().parse(), Ok(place));
    }

    #[test]
    fn what_is_no_place_is_none() {
        for text in ["", ":", "7", "7:", ":7", "-1:7", "7:-1", "7:7:7", "x:7", "99999999999:7"] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn what_is_said_is_heard_whole_and_in_order() -> io::Result<()> {
        let (one, other) = Channel::pair()?;
        assert_eq!(other.hear()?, Heard::Nothing);
        assert!(!wait_for(&[other.as_fd()], Deadline::after(Duration::ZERO))?);
        one.say(ASKS)?;
        one.say(&[0; 4096])?;
        assert!(wait_for(&[other.as_fd()], Deadline::after(Duration::MAX))?);
        assert_eq!(other.hear()?, Heard::Message(ASKS.to_vec()));
        assert_eq!(other.hear()?, Heard::Message(vec![0; ROOM]), "what nobody says");
        drop(one);
        assert_eq!(other.hear()?, Heard::Closed);
        assert!(other.say(GO).is_err());
        Ok(())
    }
}
