//! Signals to procroll, as events.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::roll::Event;

/// The signals that control procroll. Once this exists, none of them kills it.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over SIGHUP, SIGTERM and SIGINT.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// What the next signal asks for: a stop before a roll. May be dropped and called again.
    pub async fn next(&mut self) -> Event {
        poll_fn(|context| {
            let stops = [&mut self.terminate, &mut self.interrupt].map(|signal| signal.poll_recv(context).is_ready());
            if stops.contains(&true) {
                Poll::Ready(Event::Stop)
            } else {
                self.hangup.poll_recv(context).map(|_| Event::Reload)
            }
        })
        .await
    }
}
