//! procroll's own notifications: what it tells the manager of the unit it runs in, and how it makes a reload fail.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::mpsc;

use crate::systemd::{Bus, wrapper};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Up, or done with a reload, whatever came of it.
    Ready,
    /// A roll has begun; systemd wants to know when.
    Reloading,
    /// On the way out.
    Stopping,
    /// It may take so much longer than the unit's timeout.
    Extend(Duration),
    /// Alive.
    Watchdog,
    /// What `systemctl status` shows.
    Status(String),
}

/// Whoever waits for procroll.
pub trait Upstream {
    /// Tells all of it at once.
    fn tell(&mut self, words: &[Word]);
    /// Makes the reload that somebody waits for fail. [`Upstream::refused`] returns when that is done.
    fn refuse_reload(&mut self);
    /// A reload was refused; systemd still waits to hear that it is over. May be dropped and called again.
    fn refused(&mut self) -> impl Future<Output = ()>;
}

/// The manager of the wrapper unit. It is reached at the place that main() put into `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct Systemd {
    bus: Arc<Bus>,
    id: String,
    sender: mpsc::UnboundedSender<()>,
    refused: mpsc::UnboundedReceiver<()>,
}

impl Systemd {
    /// The manager of the unit `id`.
    pub fn new(bus: Arc<Bus>, id: String) -> Self {
        let (sender, refused) = mpsc::unbounded_channel();
        Self { bus, id, sender, refused }
    }
}

impl Upstream for Systemd {
    fn tell(&mut self, words: &[Word]) {
        if let Err(error) = sd_notify::notify(&words.iter().flat_map(states).collect::<Vec<_>>()) {
            tracing::warn!("can't notify systemd: {error}");
        }
    }

    fn refuse_reload(&mut self) {
        let (bus, id, sender) = (Arc::clone(&self.bus), self.id.clone(), self.sender.clone());
        tokio::spawn(async move {
            // Without a bus nobody can be told, and to say that the reload is over would be taken for success: so it
            // goes on until there is one.
            loop {
                match wrapper::cancel_reload_job(&bus.insist().await, &id).await {
                    Ok(()) => break,
                    Err(error) if error.is_about_the_connection() => {}
                    Err(error) => {
                        tracing::warn!("can't tell whoever reloads {id} that it failed: {error}");
                        break;
                    }
                }
            }
            let _ = sender.send(());
        });
    }

    async fn refused(&mut self) {
        // We hold a sender ourselves, so this does not end.
        self.refused.recv().await;
    }
}

/// Nobody: procroll was called from a terminal.
#[derive(Debug)]
pub struct Nobody;

impl Upstream for Nobody {
    fn tell(&mut self, _: &[Word]) {}

    fn refuse_reload(&mut self) {}

    async fn refused(&mut self) {
        std::future::pending().await
    }
}

fn states(word: &Word) -> Vec<NotifyState<'_>> {
    match word {
        Word::Ready => vec![NotifyState::Ready],
        Word::Reloading => {
            let mut states = vec![NotifyState::Reloading];
            // Without the time systemd would not take it for an answer to its signal.
            states.extend(NotifyState::monotonic_usec_now());
            states
        }
        Word::Stopping => vec![NotifyState::Stopping],
        Word::Extend(duration) => {
            vec![NotifyState::ExtendTimeoutUsec(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX))]
        }
        Word::Watchdog => vec![NotifyState::Watchdog],
        Word::Status(status) => vec![NotifyState::Status(status)],
    }
}
