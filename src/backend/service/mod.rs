//! Generations as transient systemd services.
//!
//! Each generation has a task that prepares and starts it ([`start`]) or looks after it ([`attend`]). The tasks share
//! one connection; when procroll comes to rest they are replaced by ones that wait for the end of the main process
//! (or, with `ExitType=cgroup`, of the last one) and hold none.

mod attend;
mod clear;
mod origin;
mod prepare;
mod start;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub use clear::clear_away;
pub use origin::{Origin, active_base, refuse_taken};
pub use prepare::wrapper_settings;

use super::{Backend, Report, When};
use crate::exit::Fatal;
use crate::log::{self, About};
use crate::roll::{Death, Event, Generation, Inherited, Standing};
use crate::systemd::generation::{Life, invocation_id};
use crate::systemd::{Bus, Error, folder, group};
use crate::unit::{self, DropIn};

/// What all tasks share.
#[derive(Debug)]
struct Context {
    bus: Arc<Bus>,
    origin: Origin,
    verified: prepare::Verified,
    /// In a handover: what those ran that were there before it.
    kept: Mutex<BTreeMap<Generation, Vec<DropIn>>>,
    sender: mpsc::UnboundedSender<Message>,
}

/// What a task tells the backend.
#[derive(Debug)]
enum Message {
    Report(Report),
    /// What to notice the end of one by that is active.
    Life(Generation, Life),
    /// A stop that systemd was asked for has come to nothing so far.
    Unheeded(Generation),
    /// One that has ended is no longer listed, although nobody has asked for that yet.
    Unlisted(Generation),
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
        let _ = self.sender.send(Message::Report(Report::Invoked(generation, invocation_id(invocation))));
    }

    fn tell_life(&self, generation: Generation, life: Life) {
        let _ = self.sender.send(Message::Life(generation, life));
    }

    fn tell_unheeded(&self, generation: Generation) {
        let _ = self.sender.send(Message::Unheeded(generation));
    }

    fn tell_unlisted(&self, generation: Generation) {
        let _ = self.sender.send(Message::Unlisted(generation));
    }

    fn unit(&self, generation: Generation) -> String {
        self.origin.base().generation(generation)
    }

    /// Keeps what all generations run, as long as systemd keeps their files.
    fn keep(&self) -> io::Result<()> {
        let (place, owner, base) = (&self.bus.place, self.origin.owner(), self.origin.base());
        for unit in folder::all(place) {
            let Some(generation) = base.number(&unit) else { continue };
            if folder::owner(place, &unit).as_deref() == Some(owner.as_str())
                && let Some(files) = folder::read(place, &unit)?
            {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(generation, files);
            }
        }
        Ok(())
    }

    fn kept(&self, generation: Generation) -> Option<Vec<DropIn>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&generation).cloned()
    }

    fn forget_kept(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The service backend.
#[derive(Debug)]
pub struct ServiceBackend {
    context: Arc<Context>,
    messages: mpsc::UnboundedReceiver<Message>,
    units: BTreeMap<Generation, Unit>,
    /// Single calls: a stop, a kill, a signal.
    calls: JoinSet<()>,
    /// Dead ones that are cleared away.
    clearings: JoinSet<()>,
}

/// A generation that this backend is in charge of.
#[derive(Debug)]
struct Unit {
    /// Starts it, attends to it, or waits for its main process. Never more than one.
    task: JoinSet<()>,
    /// How far its start has got.
    asked: watch::Receiver<Asked>,
    /// Lets its start go on, if that is only prepared.
    proceed: Option<oneshot::Sender<()>>,
    /// It was asked to stop.
    leaves: bool,
    /// What its end will be noticed by at rest, while it is active.
    life: Option<Life>,
    /// The task waits for that, and holds no connection.
    dozes: bool,
    /// systemd lists it, or will.
    listed: bool,
    /// Asks for a stop again and again that nothing has come of.
    unheeded: JoinSet<()>,
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
        Self {
            task: JoinSet::new(),
            asked,
            proceed: None,
            life: None,
            leaves: false,
            dozes: false,
            listed: true,
            unheeded: JoinSet::new(),
        }
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
        let context =
            Arc::new(Context { bus, origin, verified: prepare::Verified::default(), kept: Mutex::default(), sender });
        Self { context, messages, units: BTreeMap::new(), calls: JoinSet::new(), clearings: JoinSet::new() }
    }

    /// The digest of what the wrapper's unit said when procroll began.
    pub async fn digest(&self) -> Option<u64> {
        match &self.context.origin {
            Origin::Wrapper { seen, .. } => Some(seen.digest().await),
            Origin::Terminal { .. } => None,
        }
    }

    /// procroll's own drop-in of a generation, which carries its mark.
    pub fn mark(&self, generation: Generation) -> Option<String> {
        folder::read_own(&self.context.bus.place, &self.context.unit(generation))
    }

    /// Whether a reload was under way that the procroll before did not live to answer, be it that no roll had begun for it.
    pub fn is_reload_noted(&self, left: &[Inherited]) -> bool {
        let is_noted =
            |one: &Inherited| folder::is_flagged(&self.context.bus.place, &self.context.unit(one.generation));
        left.iter().any(is_noted)
    }

    /// Asks systemd whether it takes what the options say. For a wrapper that is part of each start.
    ///
    /// # Errors
    /// What it would not take, in its own words.
    pub async fn verify(&self) -> Result<(), Fatal> {
        prepare::verified(&self.context, self.context.origin.settings()).await.map(drop)
    }

    /// Generations that an earlier procroll left, in charge of which this backend now is.
    ///
    /// # Errors
    /// If systemd can't be asked.
    pub async fn survey(&mut self) -> Result<Vec<Inherited>, Error> {
        let left = clear::survey(&self.context).await?;
        for one in &left {
            self.units.insert(one.generation, Unit::new(watch::channel(Asked::Answered).1));
            if one.standing != Standing::Dead {
                self.attend(one.generation);
            }
        }
        Ok(left)
    }

    fn begin(&mut self, generation: Generation, of: Option<Generation>) {
        let (asked, answer) = watch::channel(Asked::No);
        let (proceed, held_back) = oneshot::channel();
        let mut unit = Unit { proceed: Some(proceed), ..Unit::new(answer) };
        let start = start::Start { generation, of, asked, held_back: Some(held_back) };
        unit.run(start::start(Arc::clone(&self.context), start));
        self.units.insert(generation, unit);
    }

    fn call<F: Future<Output = ()> + Send + 'static>(&mut self, call: impl FnOnce(Arc<Context>) -> F) {
        let (context, call) = (Arc::clone(&self.context), call(Arc::clone(&self.context)));
        // Those that have ended need no memory.
        while self.calls.try_join_next().is_some() {}
        self.calls.spawn(async move {
            call.await;
            let _ = context.sender.send(Message::Report(Report::Heard));
        });
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
            Message::Life(generation, life) => {
                // Nothing is new for the manager, but for that it may be at rest by now.
                let main_pid = life.main_pid();
                let unit = self.units.get_mut(&generation)?;
                unit.life = Some(life);
                unit.dozes = false;
                Some(Report::Active { generation, main_pid })
            }
            Message::Unheeded(generation) => {
                let unheeded = &mut self.units.get_mut(&generation)?.unheeded;
                while unheeded.try_join_next().is_some() {}
                if unheeded.is_empty() {
                    unheeded.spawn(clear::stop_at_last(Arc::clone(&self.context), generation));
                }
                None
            }
            Message::Unlisted(generation) => {
                self.units.get_mut(&generation)?.listed = false;
                None
            }
            Message::Report(report) => {
                match &report {
                    Report::Event(Event::Taken(one) | Event::Refused(one, _) | Event::Gone(one)) => {
                        self.units.remove(one);
                    }
                    Report::Event(Event::Dead { generation: one, .. }) => {
                        if let Some(unit) = self.units.get_mut(one) {
                            unit.life = None;
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
    fn start(&mut self, generation: Generation) {
        self.begin(generation, None);
    }

    fn proceed(&mut self, generation: Generation) {
        if let Some(proceed) = self.units.get_mut(&generation).and_then(|unit| unit.proceed.take()) {
            // Nobody waits for it only if the start is over.
            let _ = proceed.send(());
        }
    }

    fn again(&mut self, generation: Generation, of: Generation) {
        self.begin(generation, Some(of));
    }

    fn stop(&mut self, generation: Generation) {
        let Some(unit) = self.units.get_mut(&generation) else { return };
        if *unit.asked.borrow() == Asked::No {
            // systemd knows nothing of it, and now never will.
            unit.task = JoinSet::new();
            self.context.tell(Event::Dead { generation, death: Death::Stopped, was_active: false });
            return;
        }
        unit.leaves = true;
        self.once_ours(generation, clear::stop);
    }

    fn kill(&mut self, generation: Generation) {
        self.once_ours(generation, clear::kill);
    }

    fn pass_on(&mut self, generation: Generation, signal: i32) {
        self.call(move |context| clear::pass_on(context, generation, signal));
    }

    fn forget(&mut self, generation: Generation) {
        while self.clearings.try_join_next().is_some() {}
        self.clearings.spawn(clear::forget(Arc::clone(&self.context), generation));
    }

    fn rest(&mut self) {
        self.context.forget_kept();
        for (&generation, unit) in self.units.iter_mut().filter(|(_, unit)| !unit.dozes) {
            let Some(life) = unit.life.take() else { continue };
            unit.dozes = true;
            unit.run(doze(Arc::clone(&self.context), generation, life));
        }
    }

    fn look(&mut self) {
        for (&generation, unit) in self.units.iter_mut().filter(|(_, unit)| unit.leaves && unit.dozes) {
            unit.dozes = false;
            unit.run(attend::attend(Arc::clone(&self.context), generation, None));
        }
    }

    fn has_ended(&mut self, generation: Generation) -> bool {
        let Some(unit) = self.units.get_mut(&generation) else { return false };
        let has_ended = unit.life.take_if(|life| life.has_ended()).is_some();
        if has_ended {
            // systemd may never notice: the main process may be the child of another one.
            self.attend(generation);
        }
        has_ended
    }

    fn is_in_touch(&self) -> bool {
        self.context.bus.is_up()
    }

    fn is_heard(&mut self) -> bool {
        while self.calls.try_join_next().is_some() {}
        self.calls.is_empty()
    }

    fn nothing_is_left(&self) -> bool {
        let Origin::Wrapper { name, .. } = &self.context.origin else { return false };
        let units: Vec<_> = self.units.keys().map(|generation| self.context.unit(*generation)).collect();
        group::are_gone(&name.to_string(), &units)
    }

    fn reload_of(&self, generation: Generation) -> Option<u32> {
        self.mark(generation).map(|text| unit::job(&text).unwrap_or_default())
    }

    fn note_reload(&mut self, on: Option<Generation>) {
        for &generation in self.units.keys() {
            let unit = self.context.unit(generation);
            if let Err(error) = folder::flag(&self.context.bus.place, &unit, on == Some(generation)) {
                tracing::debug!("can't note on {unit} whether a reload is under way: {error}");
            }
        }
    }

    async fn end(&mut self) {
        // Nobody else would remove their files; and without them none can be started, whoever may hear of it yet.
        let unanswered = |unit: &Unit| *unit.asked.borrow() == Asked::Unanswered;
        for (&generation, unit) in self.units.iter_mut().filter(|(_, unit)| unanswered(unit)) {
            unit.task = JoinSet::new();
            let unit = self.context.unit(generation);
            if let Err(error) = folder::remove(&self.context.bus.place, &unit) {
                log::warn_of(About::NotDone, &unit, format_args!("can't remove the files of {unit}: {error}"));
            }
        }
        if let Origin::Wrapper { guarded: true, name, .. } = &self.context.origin {
            clear::dismiss_guard(&self.context.bus, name).await;
        }
        // In a wrapper a failed unit stays to be looked at, and the next start clears it away. At a terminal there is no
        // next start, and while systemd lists the unit it keeps the caller's standard output open.
        if matches!(self.context.origin, Origin::Terminal { .. }) {
            for generation in std::mem::take(&mut self.units).into_keys() {
                // That goes on after it has said that it is not done.
                let forgotten = clear::forget(Arc::clone(&self.context), generation);
                let _ = tokio::time::timeout(clear::PATIENCE * 2, forgotten).await;
            }
        }
    }

    fn hint(&self, generation: Generation, when: When) -> String {
        let (unit, place) = (self.context.unit(generation), &self.context.bus.place);
        let listed = self.units.get(&generation).is_none_or(|unit| unit.listed);
        match (when, &self.context.origin) {
            _ if !listed => format!("See {}", place.journalctl(&unit)),
            (When::Cleared, _) | (When::Ended, Origin::Terminal { .. }) => format!("See {}", place.journalctl(&unit)),
            _ => format!("See {} and {}", place.systemctl(format!("status {unit}")), place.journalctl(&unit)),
        }
    }

    fn unit(&self, generation: Generation) -> Option<String> {
        Some(self.context.unit(generation))
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

/// Waits for the end of what it lives with, then attends again.
async fn doze(context: Arc<Context>, generation: Generation, life: Life) {
    if let Err(error) = life.ended().await {
        tracing::warn!("can't watch a process: {error}");
    }
    attend::attend(context, generation, None).await;
}

/// Logs a call to systemd that failed and is not repeated.
fn log_failure(what: &str, unit: &str, error: &Error) {
    log::warn_of(About::NotDone, unit, format_args!("{what} {unit}: {error}"));
}
