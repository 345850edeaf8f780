//! Signals to procroll, as requests.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use nix::sys::signal::Signal as Number;
use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::settings::SignalName;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop everything; the second time, kill it.
    Stop,
    /// Roll.
    Reload,
    /// Pass this signal on to the generation that serves.
    PassOn(i32),
    /// Execute procroll anew.
    Reexec,
}

/// SIGRTMIN+25, by which a user's systemd is asked to execute itself anew, too: see systemd(1).
const REEXEC: i32 = *SignalName::REAL_TIME.start() + 25;

/// What services take for requests of their own: to open their logs anew, to have one worker more or less.
const PASSED_ON: [Number; 5] = [SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU];

/// Those of them that a terminal sends: its window has another size; somebody in the background reads or writes.
const OF_TERMINALS: [Number; 3] = [SIGWINCH, SIGTTIN, SIGTTOU];

/// The signals that procroll hears. Once this exists, none of them kills it.
#[derive(Debug)]
pub struct Signals(Vec<Heard>);

/// One of them.
#[derive(Debug)]
struct Heard {
    number: i32,
    request: Request,
    signal: Signal,
}

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
    /// people send to a service.
    pub fn of_unit(mut self, stop: &[i32], reload: Option<i32>) -> io::Result<Self> {
        let theirs = |number: i32| stop.contains(&number) || reload == Some(number);
        // One that nobody can take over, as SIGKILL, ends procroll, and the unit decides what follows.
        if let Some(number) = reload {
            let _ = self.add(Request::Reload, number);
        }
        for number in stop {
            let _ = self.add(Request::Stop, *number);
        }
        if !theirs(REEXEC) {
            self.add(Request::Reexec, REEXEC)?;
        }
        for number in PASSED_ON.map(|signal| signal as i32).into_iter().filter(|number| !theirs(*number)) {
            self.add(Request::PassOn(number), number)?;
        }
        Ok(self)
    }

    /// Takes over, as well, the signals that people send to a service. At a terminal only those that the terminal doesn't send:
    /// see tty_ioctl(4) and credentials(7).
    pub fn passing_on(mut self) -> io::Result<Self> {
        let at_terminal = File::open("/dev/tty").is_ok();
        for signal in PASSED_ON.into_iter().filter(|signal| !(at_terminal && OF_TERMINALS.contains(signal))) {
            self.add(Request::PassOn(signal as i32), signal as i32)?;
        }
        // It is for wrapper units, and nobody who takes this for one is to end what serves.
        self.add(Request::Reexec, REEXEC)?;
        Ok(self)
    }

    /// Takes over all that can be taken over, to do nothing about them.
    pub fn all_ignored() -> Self {
        let all = Number::iterator().map(|signal| signal as i32).chain(SignalName::REAL_TIME);
        let streams = all.filter_map(|number| Heard::new(Request::PassOn(number), number).ok());
        Self(streams.collect())
    }

    /// From now on the signal asks for this. One that has come already does so as well.
    fn add(&mut self, request: Request, number: i32) -> io::Result<()> {
        match self.0.iter_mut().find(|heard| heard.number == number) {
            Some(heard) => heard.request = request,
            None => self.0.push(Heard::new(request, number)?),
        }
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

    /// Does `what`, unless somebody asks for a stop before that is done: then none. The other signals stay for
    /// [`Signals::next`].
    pub async fn unless_stopped<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        poll_fn(|context| match self.poll(context, |request| *request == Request::Stop) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => what.as_mut().poll(context).map(Some),
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>, which: impl Fn(&Request) -> bool) -> Poll<Request> {
        let mut those = self.0.iter_mut().filter(|heard| which(&heard.request));
        match those.find_map(|heard| heard.signal.poll_recv(context).is_ready().then_some(heard.request)) {
            Some(request) => Poll::Ready(request),
            None => Poll::Pending,
        }
    }
}

impl Heard {
    fn new(request: Request, number: i32) -> io::Result<Self> {
        Ok(Self { number, request, signal: signal(SignalKind::from_raw(number))? })
    }
}
