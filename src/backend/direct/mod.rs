//! Generations as processes of procroll's own: with no systemd at all, or each in a [scope](super::scope).
//!
//! Each generation has a [`keeper`], below which all of its processes stay, a notify socket of its own, and tasks that
//! listen to both ([`ears`]). What is to be done about what is heard, and when, is for [`life`] to say. procroll looks at
//! /proc ([`tree`]) to know who has sent a notification, and whom to kill.
//!
//! What can't be guaranteed without a control group, which a scope is: that a program is killed which forks faster than it can
//! be looked for, and that another user's process is, if procroll is not root. A generation is kept as long as it runs if
//! procroll itself is killed, but nobody looks after it then; in a service, systemd ends it.

mod command;
mod ears;
mod folder;
mod keeper;
mod kill;
mod life;
mod tree;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use command::Names;
use ears::{Ears, Heard, Process, Scope};
use folder::Folder;
use keeper::Program;
use kill::kill;
use life::{Action, Life, Terms};
use tree::Stat;
use wire::Word;

use super::scope::{NotPlaced, Scopes};
use super::{Backend, Report, When};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::notify::datagram::Message as Notification;
use crate::notify::socket::Socket;
use crate::roll::{Death, Event, Generation, Refusal};
use crate::settings::direct::Direct;
use crate::settings::{ServiceType, Strategy};
use crate::systemd::pidfd::Pidfd;
use crate::systemd::place;

/// How long the end of procroll waits for what it has killed. Only the kernel can keep a process for longer.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How many descriptors it takes to look after a generation once there is a process: for its keeper and its main process, a handle
/// of each and one to wait for its end; and one to look at /proc by.
const SPARE: usize = 5;

/// The direct backend.
#[derive(Debug)]
pub struct DirectBackend {
    settings: Direct,
    directory: Option<PathBuf>,
    folder: Folder,
    sender: mpsc::UnboundedSender<(Generation, Heard)>,
    heard: mpsc::UnboundedReceiver<(Generation, Heard)>,
    generations: BTreeMap<Generation, Running>,
    /// Those that wait for all others to go.
    prepared: BTreeSet<Generation>,
    scopes: Option<Arc<Scopes>>,
    /// Those whose scopes systemd lists, or will.
    listed: BTreeSet<Generation>,
    /// Waits for systemd, of which nobody else has to.
    calls: JoinSet<()>,
    reports: VecDeque<Report>,
    /// Reaps keepers, and what procroll inherits.
    _reaper: JoinSet<()>,
}

/// A generation that has begun and is not dead.
#[derive(Debug)]
struct Running {
    life: Life,
    keeper: Keeper,
    main: Option<Process>,
    /// Waits for the end of that one, where its keeper may not hear of it.
    watch: Option<AbortHandle>,
    /// What was said before the keeper had told that anybody can say anything.
    early: Vec<(Notification, Option<Process>)>,
    ears: Arc<Ears>,
    tasks: JoinSet<()>,
    home: Home,
}

/// Where the processes of a generation are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    /// Where procroll is.
    Here,
    /// The first one waits to be put into a scope.
    Held,
    /// In this control group.
    Group(String),
}

#[derive(Debug)]
struct Keeper {
    process: Process,
    /// When it began, in ticks since boot.
    began: u64,
    /// It has said that nothing is left.
    is_done: bool,
    /// It was killed before that.
    is_lost: bool,
}

impl DirectBackend {
    /// A backend that starts what `settings` say, in `scopes` if there are any. To be made in a runtime, in a process with one
    /// thread.
    ///
    /// # Errors
    /// What it lacks: a folder to write to, or a kernel with handles of processes (5.3).
    pub fn new(settings: Direct, scopes: Option<Scopes>) -> Result<Self, Fatal> {
        let own = Pidfd::open(std::process::id());
        own.context("the kernel, or a filter, has no pidfd_open(2)").or_exit(ExitStatus::Internal)?;
        Stat::of(std::process::id()).context("/proc is not mounted").or_exit(ExitStatus::Internal)?;
        // What loses its keeper is procroll's.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).or_exit(ExitStatus::Internal)?;
        let folder = Folder::make(&settings)?;
        let mut children = signal(SignalKind::child()).or_exit(ExitStatus::Internal)?;
        let mut reaper = JoinSet::new();
        reaper.spawn(async move {
            loop {
                reap();
                if children.recv().await.is_none() {
                    return;
                }
            }
        });
        let (sender, heard) = mpsc::unbounded_channel();
        let directory = command::directory(&settings);
        Ok(Self {
            settings,
            directory,
            folder,
            sender,
            heard,
            generations: BTreeMap::new(),
            prepared: BTreeSet::new(),
            scopes: scopes.map(Arc::new),
            listed: BTreeSet::new(),
            calls: JoinSet::new(),
            reports: VecDeque::new(),
            _reaper: reaper,
        })
    }

    fn terms(&self) -> Terms {
        Terms {
            notifies: self.settings.service_type == ServiceType::Notify,
            start: self.settings.ready_timeout,
            stop: self.settings.shutdown_timeout,
        }
    }

    fn tell(&mut self, event: Event) {
        self.reports.push_back(Report::Event(event));
    }

    fn begin(&mut self, generation: Generation) -> Result<Running, Fatal> {
        let path = self.folder.socket(generation);
        let program = self.program(generation)?;
        let socket = Socket::bind(&path)
            .with_context(|| format!("can't make the notify socket {}", path.display()))
            .or_exit(ExitStatus::Internal)?;
        // Once there is a process it must be looked after, and that takes descriptors.
        let spare = (0..SPARE).map(|_| File::open("/")).collect::<io::Result<Vec<_>>>();
        let spare = spare.context("there are no descriptors left").or_exit(ExitStatus::Internal)?;
        let started = keeper::start(&program).context("no process can be made for it");
        let (pid, channel) = started.or_exit(ExitStatus::Internal)?;
        drop(spare);
        let scope = self.scopes.clone().map(|scopes| Scope { scopes, command: program.to_string() });
        let home = if scope.is_some() { Home::Held } else { Home::Here };
        let ears = Ears::new(generation, pid, socket, self.sender.clone(), scope);
        let attend = || {
            // It is not reaped before this thread waits for something.
            let (process, end) = (Process::open(pid)?, Pidfd::open(pid)?);
            let began = Stat::of(pid)?.began;
            channel.set_nonblocking(true).ok()?;
            Some((Keeper { process, began, is_done: false, is_lost: false }, end, UnixStream::from_std(channel).ok()?))
        };
        let attended = attend().context("there are no descriptors left").or_exit(ExitStatus::Internal);
        let (keeper, end, channel) = attended.inspect_err(|_| kill(&[pid]))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(ears.clone().hear_keeper(channel, end));
        tasks.spawn(ears.clone().hear_notifications());
        let life = Life::new(now(), self.terms());
        Ok(Running { life, keeper, main: None, watch: None, early: Vec::new(), ears, tasks, home })
    }

    fn program(&self, generation: Generation) -> Result<Program, Fatal> {
        let unit = self.unit(generation);
        let names =
            Names { generation, socket: &self.folder.socket(generation), unit: unit.as_deref().unwrap_or_default() };
        command::program(&self.settings, self.directory.as_deref(), &names)
    }

    /// Looks for the program, as far as that can be done without starting it.
    fn prepare(&mut self, generation: Generation) {
        let program = match self.program(generation) {
            Ok(program) => program,
            Err(fatal) => return self.refuse(generation, &fatal),
        };
        match command::look(&self.settings, self.directory.as_deref(), &program) {
            Ok(()) => {
                self.prepared.insert(generation);
                self.tell(Event::Prepared { generation, pace: self.settings.pace });
            }
            Err(refusal) => self.tell(Event::Refused(generation, refusal)),
        }
    }

    fn refuse(&mut self, generation: Generation, fatal: &Fatal) {
        let refusal = Refusal { reason: fatal.to_string(), exit: fatal.exit };
        self.tell(Event::Refused(generation, refusal));
    }

    fn handle(&mut self, generation: Generation, event: life::Event) {
        if let Some(running) = self.generations.get_mut(&generation) {
            let actions = running.life.handle_event(now(), event);
            self.act(generation, actions);
        }
    }

    fn act(&mut self, generation: Generation, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::TellStarted => self.tell(Event::Started { generation, pace: self.settings.pace }),
                Action::TellActive => self.tell_active(generation),
                Action::TellDeactivating => self.tell(Event::Deactivating(generation)),
                Action::TellDead { death, was_active } => {
                    self.generations.remove(&generation);
                    self.tell(Event::Dead { generation, death, was_active });
                }
                Action::AskMain => self.signal_main(generation, self.settings.signal.number()),
                Action::AskAll => self.signal_all(generation, self.settings.signal.number()),
                Action::KillAll => self.kill_all(generation),
            }
        }
    }

    fn tell_active(&mut self, generation: Generation) {
        if let Some(scopes) = self.scopes.clone() {
            while self.calls.try_join_next().is_some() {}
            // What serves by now takes the place of what was left.
            self.calls.spawn(async move { scopes.stop_left().await });
        }
        let main = self.generations.get(&generation).and_then(|running| running.main.as_ref());
        let main_pid = main.map(|main| main.pid);
        self.reports.push_back(Report::Active { generation, main_pid });
    }

    fn hear(&mut self, generation: Generation, heard: Heard) {
        if matches!(heard, Heard::ScopeGone) {
            return self.tell(Event::Gone(generation));
        }
        let Some(running) = self.generations.get_mut(&generation) else { return };
        match heard {
            Heard::Placed(placed) => {
                running.home = Home::Group(placed.group);
                self.listed.insert(generation);
                self.reports.push_back(Report::Invoked(generation, placed.invocation));
            }
            Heard::NotPlaced(why) => {
                self.generations.remove(&generation);
                match why {
                    NotPlaced::Taken => self.tell(Event::Taken(generation)),
                    NotPlaced::Refused(fatal) => self.refuse(generation, &fatal),
                }
            }
            Heard::Keeper(Word::Held { .. }, _) | Heard::ScopeGone => {}
            Heard::Keeper(Word::Executed { .. }, main) => {
                running.main = main;
                let early = std::mem::take(&mut running.early);
                self.handle(generation, life::Event::Executed);
                early.into_iter().for_each(|(message, main)| self.notified(generation, message, main));
            }
            Heard::Keeper(Word::NotExecuted { step, error }, _) => {
                self.generations.remove(&generation);
                let refusal = command::refusal(&self.settings, self.directory.as_deref(), step, error);
                self.tell(Event::Refused(generation, refusal));
            }
            Heard::Keeper(Word::Exited { pid, status }, _) => self.ended(generation, pid, Death::Exited(status)),
            Heard::Keeper(Word::Killed { pid, signal }, _) => self.ended(generation, pid, Death::Killed(signal)),
            Heard::Keeper(Word::Empty, _) => running.keeper.is_done = true,
            Heard::KeeperGone if running.keeper.is_done => self.handle(generation, life::Event::Empty),
            Heard::KeeperGone => {
                running.keeper.is_lost = true;
                tracing::warn!("the keeper of generation {generation} was killed, so all of it is");
                self.handle(generation, life::Event::Kill);
            }
            Heard::MainGone(pid) if running.main.as_ref().is_some_and(|main| main.pid == pid) => {
                self.ended(generation, pid, Death::Failed("unknown".to_owned()));
            }
            Heard::MainGone(_) => {}
            Heard::Notified(message, main) if running.life.is_executing() => running.early.push((message, main)),
            Heard::Notified(message, main) => self.notified(generation, message, main),
        }
    }

    fn notified(&mut self, generation: Generation, message: Notification, main: Option<Process>) {
        if let Some(main) = main {
            self.has_main(generation, main);
        }
        if let Some(duration) = message.extend {
            self.handle(generation, life::Event::Extend(duration));
        }
        if let Some(status) = message.status {
            self.reports.push_back(Report::Status(generation, status));
        }
        if message.ready {
            self.handle(generation, life::Event::Ready);
        }
        if message.stopping {
            self.handle(generation, life::Event::Stopping);
        }
    }

    /// The generation says that this is its main process.
    fn has_main(&mut self, generation: Generation, main: Process) {
        let Some(running) = self.generations.get_mut(&generation) else { return };
        let is_new = running.main.as_ref().is_none_or(|before| before.pid != main.pid);
        if is_new && let Some(handle) = Pidfd::open(main.pid) {
            let watch = running.tasks.spawn(running.ears.clone().watch(main.pid, handle));
            if let Some(before) = running.watch.replace(watch) {
                before.abort();
            }
            while running.tasks.try_join_next().is_some() {}
            running.main = Some(main);
            if running.life.is_active() {
                self.tell_active(generation);
            }
        }
    }

    /// A process of the generation has ended.
    fn ended(&mut self, generation: Generation, pid: u32, death: Death) {
        let Some(running) = self.generations.get_mut(&generation) else { return };
        let event = match running.main.take_if(|main| main.pid == pid) {
            Some(_) => life::Event::MainEnded(death),
            None => life::Event::OtherEnded,
        };
        self.handle(generation, event);
    }

    fn handle_timeouts(&mut self) {
        let now = now();
        let generations: Vec<_> = self.generations.keys().copied().collect();
        for generation in generations {
            let Some(running) = self.generations.get_mut(&generation) else { continue };
            let actions = running.life.handle_timeout(now);
            self.act(generation, actions);
        }
    }

    /// Waits for something to happen.
    async fn wait(&mut self) {
        let until = self.generations.values().filter_map(|running| running.life.next_timeout()).min();
        // We hold a sender ourselves, so there is always a next word.
        let heard = match until {
            Some(until) => timeout_at(Instant::from_std(until), self.heard.recv()).await.ok().flatten(),
            None => self.heard.recv().await,
        };
        match heard {
            Some((generation, heard)) => self.hear(generation, heard),
            None => self.handle_timeouts(),
        }
    }
}

impl Backend for DirectBackend {
    fn start(&mut self, generation: Generation) {
        match self.settings.strategy {
            Strategy::Overlap => self.proceed(generation),
            Strategy::Handover => self.prepare(generation),
        }
    }

    fn proceed(&mut self, generation: Generation) {
        self.prepared.remove(&generation);
        match self.begin(generation) {
            Ok(running) => drop(self.generations.insert(generation, running)),
            Err(fatal) => self.refuse(generation, &fatal),
        }
    }

    /// The settings are those of the command line, which never change.
    fn again(&mut self, generation: Generation, _: Generation) {
        self.prepare(generation);
    }

    fn stop(&mut self, generation: Generation) {
        if self.prepared.remove(&generation) {
            return self.tell(Event::Dead { generation, death: Death::Stopped, was_active: false });
        }
        self.handle(generation, life::Event::Stop);
    }

    fn kill(&mut self, generation: Generation) {
        self.handle(generation, life::Event::Kill);
    }

    fn pass_on(&mut self, generation: Generation, signal: i32) {
        self.signal_main(generation, signal);
    }

    fn forget(&mut self, generation: Generation) {
        // A dead one has left nothing but, for a moment, its scope.
        match self.scopes.clone().filter(|_| self.listed.remove(&generation)) {
            None => self.tell(Event::Gone(generation)),
            Some(scopes) => {
                let sender = self.sender.clone();
                while self.calls.try_join_next().is_some() {}
                self.calls.spawn(async move {
                    scopes.gone(generation).await;
                    // Nobody listens only when procroll is about to end.
                    let _ = sender.send((generation, Heard::ScopeGone));
                });
            }
        }
    }

    fn rest(&mut self) {}

    fn is_in_touch(&self) -> bool {
        true
    }

    fn has_ended(&mut self, generation: Generation) -> bool {
        let main = self.generations.get(&generation).and_then(|running| running.main.as_ref());
        main.is_some_and(|main| main.handle.has_ended())
    }

    fn nothing_is_left(&self) -> bool {
        self.generations.is_empty()
    }

    /// After a death procroll ends at once, and what still drains would have nobody who counts its stop timeout.
    async fn end(&mut self) {
        let generations: Vec<_> = self.generations.keys().copied().collect();
        for generation in generations {
            self.kill(generation);
        }
        let all = async {
            while !self.generations.is_empty() {
                self.wait().await;
            }
        };
        if timeout(LAST_WAIT, all).await.is_err() {
            tracing::warn!("processes that were killed have not ended");
        }
        if let Some(scopes) = &self.scopes {
            for generation in std::mem::take(&mut self.listed) {
                scopes.gone(generation).await;
            }
            let calls = async { while self.calls.join_next().await.is_some() {} };
            if timeout(LAST_WAIT, calls).await.is_err() {
                tracing::warn!("systemd has not done yet what it was asked to");
            }
        }
    }

    fn hint(&self, generation: Generation, _: When) -> String {
        if let Some(scopes) = &self.scopes {
            return scopes.hint(generation, self.generations.contains_key(&generation));
        }
        match place::likely_own_service() {
            Some(unit) => format!("See {}", place::Place::find(false).journalctl(&unit)),
            None => "See what it has said itself".to_owned(),
        }
    }

    fn unit(&self, generation: Generation) -> Option<String> {
        self.scopes.as_ref().map(|scopes| scopes.unit(generation))
    }

    fn name(&self, generation: Generation) -> String {
        self.unit(generation).unwrap_or_else(|| format!("generation {generation}"))
    }

    async fn report(&mut self) -> Report {
        loop {
            match self.reports.pop_front() {
                Some(report) => return report,
                None => self.wait().await,
            }
        }
    }
}

/// Reaps all children that have ended.
fn reap() {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    while matches!(waitid(WaitId::All, ended), Ok(Some(_)) | Err(rustix::io::Errno::INTR)) {}
}

/// tokio's clock, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
