//! What systemd says on the bus without being asked, for as long as all of it is heard.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::{Sleep, sleep};
use zbus::{Connection, MatchRule, Message, MessageStream, ObjectPath};

use super::bus::SYSTEMD;
use super::{Error, Link};

/// How long systemd may be away to execute itself anew. One that is away for longer may have gone to another bus.
const AWAY: Duration = Duration::from_secs(10);

/// How many words are kept until somebody takes them. With more the whole connection waits, also for the answer to what
/// whoever takes them has asked before.
const QUEUE: NonZeroUsize = NonZeroUsize::new(1024).expect("some");

/// Signals of one kind about one object of systemd's.
pub struct Words {
    signals: MessageStream,
    /// Who has systemd's name on the bus.
    owners: MessageStream,
    /// Ends when it has been away for too long.
    away: Option<Pin<Box<Sleep>>>,
    connection: Connection,
}

impl Words {
    /// The signals `member` of `interface` about the object at this path; of the manager's about jobs those about this `unit`. A
    /// match on all of systemd's would wake every procroll for every unit.
    pub async fn about(
        link: &Link,
        path: ObjectPath<'static>,
        interface: &'static str,
        member: &'static str,
        unit: Option<&str>,
    ) -> Result<Self, Error> {
        let signal = || MatchRule::builder().msg_type(zbus::message::Type::Signal);
        let mut signals = signal().sender(SYSTEMD).path(path).interface(interface).member(member);
        if let Some(unit) = unit {
            signals = signals.arg(2, unit.to_owned());
        }
        let signals = signals.build()?;
        let owners = signal()
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .add_arg(SYSTEMD)
            .build()?;
        let heard = |rule| MessageStream::for_match_rule(rule, link.connection(), Some(QUEUE));
        let (signals, owners) = tokio::try_join!(heard(signals), heard(owners))?;
        Ok(Self { signals, owners, away: None, connection: link.connection().clone() })
    }

    /// The next signal; none when the connection has ended, or each time that systemd has come back to the bus, or does not: what
    /// it said meanwhile nobody has heard. It leaves the bus to execute itself anew, and is not let in again at once where a crowd
    /// has all the connections.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|context| {
            while let Poll::Ready(owner) = Pin::new(&mut self.owners).poll_next(context) {
                match owner.and_then(Result::ok).map(|owner| owns_it(&owner)) {
                    None | Some(Some(true)) => {
                        self.away = None;
                        return Poll::Ready(None);
                    }
                    Some(Some(false)) => self.away = Some(Box::pin(sleep(AWAY))),
                    Some(None) => {}
                }
            }
            if let Some(away) = &mut self.away
                && away.as_mut().poll(context).is_ready()
            {
                self.away = None;
                // Whoever else has it would wait as well.
                tokio::spawn(self.connection.clone().close());
                return Poll::Ready(None);
            }
            loop {
                match ready!(Pin::new(&mut self.signals).poll_next(context)) {
                    Some(Ok(signal)) if !is_broadcast(&signal) => {}
                    signal => return Poll::Ready(signal.and_then(Result::ok)),
                }
            }
        })
        .await
    }
}

/// Whether somebody has the name now; none if this does not tell.
fn owns_it(owner: &Message) -> Option<bool> {
    let (_, _, new) = owner.body().deserialize::<(String, String, String)>().ok()?;
    is_broadcast(owner).then_some(!new.is_empty())
}

/// The bus compares a broadcast's sender with the rule, and systemd broadcasts. A message to this connection alone comes
/// past the rule, and so from whoever likes to send one.
fn is_broadcast(signal: &Message) -> bool {
    signal.header().destination().is_none()
}
