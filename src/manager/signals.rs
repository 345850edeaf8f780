//! Signals to procroll, as requests.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use nix::sys::signal::Signal as Number;
use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop everything; the second time, kill it.
    Stop,
    /// Roll.
    Reload,
    /// Pass this signal on to the generation that serves.
    PassOn(i32),
}

/// What services take for requests of their own: to open their logs anew, to have one worker more or less.
const PASSED_ON: [Number; 5] = [SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU];

/// The signals that procroll hears. Once this exists, none of them kills it.
#[derive(Debug)]
pub struct Signals(Vec<(Request, Signal)>);

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGQUIT, which stop, and SIGHUP, which rolls.
    pub fn new() -> io::Result<Self> {
        let mut signals = Self(Vec::new());
        for stop in [SIGTERM, SIGINT, SIGQUIT] {
            signals.add(Request::Stop, stop as i32)?;
        }
        signals.add(Request::Reload, SIGHUP as i32)?;
        Ok(signals)
    }

    /// Takes over, as well, the signals by number that a unit's manager uses to `stop` and to `reload` it, and those that
    /// people send to a service. (At a terminal some of these come with a window that changes its size.)
    pub fn of_unit(mut self, stop: &[i32], reload: Option<i32>) -> io::Result<Self> {
        let theirs = |number: i32| stop.contains(&number) || reload == Some(number);
        self.0.retain(|(request, _)| *request != Request::Reload || !theirs(SIGHUP as i32));
        for number in stop {
            // One that nobody can take over, as SIGKILL, ends procroll, and systemd stops the generations.
            let _ = self.add(Request::Stop, *number);
        }
        if let Some(number) = reload {
            self.add(Request::Reload, number)?;
        }
        for number in PASSED_ON.map(|signal| signal as i32).into_iter().filter(|number| !theirs(*number)) {
            self.add(Request::PassOn(number), number)?;
        }
        Ok(self)
    }

    fn add(&mut self, request: Request, number: i32) -> io::Result<()> {
        self.0.push((request, signal(SignalKind::from_raw(number))?));
        Ok(())
    }

    /// What the next signal asks for: a stop before anything else. May be dropped and called again.
    pub async fn next(&mut self) -> Request {
        poll_fn(|context| match self.poll(context, |request| *request == Request::Stop) {
            Poll::Ready(request) => Poll::Ready(request),
            Poll::Pending => self.poll(context, |_| true),
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>, which: impl Fn(&Request) -> bool) -> Poll<Request> {
        let mut those = self.0.iter_mut().filter(|(request, _)| which(request));
        match those.find_map(|(request, signal)| signal.poll_recv(context).is_ready().then_some(*request)) {
            Some(request) => Poll::Ready(request),
            None => Poll::Pending,
        }
    }
}
