//! Signals to procroll, as events.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::roll::Event;

/// The signals that control procroll. Once this exists, none of them kills it.
#[derive(Debug)]
pub struct Signals {
    stop: Vec<Signal>,
    reload: Vec<Signal>,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGQUIT, which stop, and SIGHUP, which rolls.
    pub fn new() -> io::Result<Self> {
        let stop = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()];
        Ok(Self {
            stop: stop.into_iter().map(signal).collect::<Result<_, _>>()?,
            reload: vec![signal(SignalKind::hangup())?],
        })
    }

    /// Takes over, as well, the signals by number that a unit's manager uses to `stop` and to `reload` it. SIGHUP means
    /// what it says there.
    pub fn of_unit(mut self, stop: &[i32], reload: Option<i32>) -> io::Result<Self> {
        let hangup = SignalKind::hangup().as_raw_value();
        if stop.contains(&hangup) {
            self.reload.clear();
        }
        // One that nobody can take over, as SIGKILL, ends procroll, and systemd stops the generations.
        self.stop.extend(stop.iter().filter_map(|number| signal(SignalKind::from_raw(*number)).ok()));
        if let Some(number) = reload {
            self.reload.push(signal(SignalKind::from_raw(number))?);
        }
        Ok(self)
    }

    /// What the next signal asks for: a stop before a roll. May be dropped and called again.
    pub async fn next(&mut self) -> Event {
        poll_fn(|context| {
            let mut any = |signals: &mut Vec<Signal>| {
                // Each of them is polled, to be woken by each.
                signals.iter_mut().map(|signal| signal.poll_recv(context).is_ready()).fold(false, |any, one| any | one)
            };
            if any(&mut self.stop) {
                Poll::Ready(Event::Stop)
            } else if any(&mut self.reload) {
                Poll::Ready(Event::Reload)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
