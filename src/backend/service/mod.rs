//! Generations as transient systemd services.
//!
//! Each generation has a task that prepares and starts it ([`start`]) or looks after it ([`attend`]). The tasks share
//! one connection; when procroll comes to rest they are replaced by ones that wait for the end of the main process
//! and hold none.

mod attend;
mod clear;
mod origin;
mod prepare;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use origin::{Origin, active_base, refuse_taken};
pub use prepare::wrapper_settings;

use super::{Backend, Report, When};
use crate::exit::Fatal;
use crate::roll::{Death, Event, Generation, Inherited, Standing};
use crate::systemd::generation::MainProcess;
use crate::systemd::pidfd::Pidfd;
use crate::systemd::{Bus, Error};

/// What all tasks share.
#[derive(Debug)]
struct Context {
    bus: Arc<Bus>,
    origin: Origin,
    verified: prepare::Verified,
    sender: mpsc::UnboundedSender<Message>,
}

/// What a task tells the backend.
#[derive(Debug)]
enum Message {
    Report(Report),
    /// The main process of one that is active, to notice its end by.
    Main(Generation, MainProcess),
}

impl Context {
    fn tell(&self, event: Event) {
        // Nobody listens only when procroll is about to end.
        let _ = self.sender.send(Message::Report(Report::Event(event)));
    }

    fn tell_active(&self, generation: Generation, main_pid: u32) {
        let main_pid = Some(main_pid).filter(|pid| *pid != 0);
        let _ = self.sender.send(Message::Report(Report::Active { generation, main_pid }));
    }

    fn tell_invoked(&self, generation: Generation, invocation: [u8; 16]) {
        let id = invocation.iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}"));
        let _ = self.sender.send(Message::Report(Report::Invoked(generation, id)));
    }

    fn tell_main(&self, generation: Generation, main: MainProcess) {
        let _ = self.sender.send(Message::Main(generation, main));
    }

    fn unit(&self, generation: Generation) -> String {
        self.origin.base().generation(generation)
    }
}

/// The service backend.
#[derive(Debug)]
pub struct ServiceBackend {
    context: Arc<Context>,
    messages: mpsc::UnboundedReceiver<Message>,
    units: BTreeMap<Generation, Unit>,
    /// Single calls: a stop, a kill, a clearing away.
    calls: JoinSet<()>,
}

/// A generation that this backend is in charge of.
#[derive(Debug)]
struct Unit {
    /// Starts it, attends to it, or waits for its main process. Never more than one.
    task: JoinSet<()>,
    /// How far its start has got.
    asked: watch::Receiver<Asked>,
    /// Its main process, while it is active.
    main: Option<MainProcess>,
    /// The task waits for the end of that process, and holds no connection.
    dozes: bool,
}

/// Whether systemd has been asked to start a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// It knows nothing of it.
    No,
    /// A unit of this name, if there is one by now, may be somebody else's.
    Unanswered,
    /// The unit is ours.
    Answered,
}

impl Unit {
    fn new(asked: watch::Receiver<Asked>) -> Self {
        Self { task: JoinSet::new(), asked, main: None, dozes: false }
    }

    /// Puts a task in place of the one there is.
    fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.task = JoinSet::new();
        self.task.spawn(task);
    }
}

impl ServiceBackend {
    /// A backend for the generations of `origin`, reached over `bus`.
    pub fn new(bus: Arc<Bus>, origin: Origin) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let context = Arc::new(Context { bus, origin, verified: prepare::Verified::default(), sender });
        Self { context, messages, units: BTreeMap::new(), calls: JoinSet::new() }
    }

    /// Asks systemd whether it takes what the options say. For a wrapper that is part of each start.
    ///
    /// # Errors
    /// What it would not take, in its own words.
    pub async fn verify(&self) -> Result<(), Fatal> {
        prepare::verified(&self.context, self.context.origin.settings()).await.map(drop)
    }

    fn call<F: Future<Output = ()> + Send + 'static>(&mut self, call: impl FnOnce(Arc<Context>) -> F) {
        // Those that have ended need no memory.
        while self.calls.try_join_next().is_some() {}
        self.calls.spawn(call(Arc::clone(&self.context)));
    }

    /// Makes a call about a unit when systemd has answered that it is ours. A start that failed leaves nothing to call for.
    fn once_ours<F>(
        &mut self,
        generation: Generation,
        call: impl FnOnce(Arc<Context>, Generation) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(unit) = self.units.get(&generation) else { return };
        let mut asked = unit.asked.clone();
        self.call(move |context| async move {
            if asked.wait_for(|asked| *asked == Asked::Answered).await.is_ok() {
                call(context, generation).await;
            }
        });
    }

    fn attend(&mut self, generation: Generation) {
        if let Some(unit) = self.units.get_mut(&generation) {
            unit.run(attend::attend(Arc::clone(&self.context), generation, None));
        }
    }

    fn heard(&mut self, message: Message) -> Option<Report> {
        match message {
            Message::Main(generation, main) => {
                // Nothing is new for the manager, but for that it may be at rest by now.
                let main_pid = Some(main.pid);
                let unit = self.units.get_mut(&generation)?;
                unit.main = Some(main);
                unit.dozes = false;
                Some(Report::Active { generation, main_pid })
            }
            Message::Report(report) => {
                match &report {
                    Report::Event(Event::Taken(one) | Event::Refused(one, _) | Event::Gone(one)) => {
                        self.units.remove(one);
                    }
                    Report::Event(Event::Dead { generation: one, .. }) => {
                        if let Some(unit) = self.units.get_mut(one) {
                            unit.main = None;
                        }
                    }
                    _ => {}
                }
                Some(report)
            }
        }
    }
}

impl Backend for ServiceBackend {
    async fn survey(&mut self) -> anyhow::Result<Vec<Inherited>> {
        let left = clear::survey(&self.context).await?;
        for one in &left {
            self.units.insert(one.generation, Unit::new(watch::channel(Asked::Answered).1));
            if one.standing != Standing::Dead {
                self.attend(one.generation);
            }
        }
        Ok(left)
    }

    fn start(&mut self, generation: Generation) {
        let (asked, answer) = watch::channel(Asked::No);
        let mut unit = Unit::new(answer);
        unit.run(start::start(Arc::clone(&self.context), generation, asked));
        self.units.insert(generation, unit);
    }

    fn stop(&mut self, generation: Generation) {
        let Some(unit) = self.units.get_mut(&generation) else { return };
        if *unit.asked.borrow() == Asked::No {
            // systemd knows nothing of it, and now never will.
            unit.task = JoinSet::new();
            self.context.tell(Event::Dead { generation, death: Death::Stopped, was_active: false });
            return;
        }
        self.once_ours(generation, clear::stop);
    }

    fn kill(&mut self, generation: Generation) {
        self.once_ours(generation, clear::kill);
    }

    fn pass_on(&mut self, generation: Generation, signal: i32) {
        self.call(move |context| clear::pass_on(context, generation, signal));
    }

    fn forget(&mut self, generation: Generation) {
        self.call(move |context| clear::forget(context, generation));
    }

    fn rest(&mut self) {
        for (&generation, unit) in self.units.iter_mut().filter(|(_, unit)| !unit.dozes) {
            let Some(main) = unit.main.as_ref().and_then(|main| main.pidfd.try_clone().ok()) else { continue };
            unit.dozes = true;
            unit.run(doze(Arc::clone(&self.context), generation, main));
        }
    }

    fn is_in_touch(&self) -> bool {
        self.context.bus.is_up()
    }

    async fn end(&mut self) {
        // In a wrapper a failed unit stays to be looked at, and the next start clears it away. At a terminal there is no
        // next start, and while systemd lists the unit it keeps the caller's standard output open.
        if matches!(self.context.origin, Origin::Terminal { .. }) {
            for generation in std::mem::take(&mut self.units).into_keys() {
                clear::forget(Arc::clone(&self.context), generation).await;
            }
        }
    }

    fn hint(&self, generation: Generation, when: When) -> String {
        let (unit, place) = (self.context.unit(generation), &self.context.bus.place);
        match (when, &self.context.origin) {
            (When::Cleared, _) | (When::Ended, Origin::Terminal { .. }) => format!("See {}", place.journalctl(&unit)),
            _ => format!("See {} and {}", place.systemctl(format!("status {unit}")), place.journalctl(&unit)),
        }
    }

    fn name(&self, generation: Generation) -> String {
        self.context.unit(generation)
    }

    async fn report(&mut self) -> Report {
        loop {
            // The sender lives in our own context, so there is always a next message.
            match self.messages.recv().await.and_then(|message| self.heard(message)) {
                Some(report) => return report,
                None => continue,
            }
        }
    }
}

/// Waits for the end of the main process, then attends again.
async fn doze(context: Arc<Context>, generation: Generation, main: Pidfd) {
    if let Err(error) = main.ended().await {
        tracing::warn!("can't watch a process: {error}");
    }
    attend::attend(context, generation, None).await;
}

/// Logs a call to systemd that failed and is not repeated.
fn log(what: &str, unit: &str, error: &Error) {
    tracing::warn!("{what} {unit}: {error}");
}
