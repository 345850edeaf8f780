//! What comes from a generation and its keeper, each in its own time, in the order in which it was said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::tree::{Stat, is_below};
use super::wire::{ALL, ONE, SIZE, Word};
use crate::backend::scope::{NotPlaced, Placed, Scopes};
use crate::notify::datagram::Message as Notification;
use crate::notify::socket::{Received, Socket};
use crate::roll::Generation;
use crate::systemd::pidfd::Pidfd;

/// More notifications than a socket holds that nobody has read: systemd lets a host have 512 (`net.unix.max_dgram_qlen`).
const QUEUE: usize = 1024;

/// A process, by a number and by a handle.
#[derive(Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Stays its own.
    pub handle: Pidfd,
}

impl Process {
    /// The one that has this id now; none if there is none.
    pub fn open(pid: u32) -> Option<Self> {
        Some(Self { pid, handle: Pidfd::open(pid)? })
    }
}

/// A process if it is below this one.
pub fn descendant(pid: u32, ancestor: u32) -> Option<Process> {
    // In this order: what the handle is of can't be another process any more.
    Process::open(pid).filter(|_| is_below(pid, ancestor))
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// The keeper has said this; of a program that was executed, which process it is.
    Keeper(Word, Option<Process>),
    /// The keeper says no more: it has ended.
    KeeperGone,
    /// Its process is in its scope.
    Placed(Placed),
    /// It is in none.
    NotPlaced(NotPlaced),
    /// Its scope has been cleared away.
    ScopeGone,
    /// Somebody of the generation has said this; of a new main process, which one it is.
    Notified(Notification, Option<Process>),
    /// This main process has ended. How is not known, unless the keeper has told.
    MainGone(u32),
}

/// Listens to one generation.
#[derive(Debug)]
pub struct Ears {
    generation: Generation,
    keeper: u32,
    socket: Socket,
    sender: mpsc::UnboundedSender<(Generation, Heard)>,
    scope: Option<Scope>,
    /// Nothing that it says counts any more.
    is_killed: AtomicBool,
    complained: AtomicBool,
}

/// Where its process is put, and what that will execute.
#[derive(Debug)]
pub struct Scope {
    /// By whom.
    pub scopes: Arc<Scopes>,
    /// For people.
    pub command: String,
}

impl Ears {
    /// For the generation below this keeper.
    pub fn new(
        generation: Generation,
        keeper: u32,
        socket: Socket,
        sender: mpsc::UnboundedSender<(Generation, Heard)>,
        scope: Option<Scope>,
    ) -> Arc<Self> {
        let (is_killed, complained) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { generation, keeper, socket, sender, scope, is_killed, complained })
    }

    /// It is killed: whatever ends from now on needs to be seen by nobody. One that has forked a lot would take long.
    pub fn stop_listening(&self) {
        self.is_killed.store(true, Ordering::Relaxed);
    }

    fn tell(&self, heard: Heard) {
        // Nobody listens only when procroll is about to end.
        let _ = self.sender.send((self.generation, heard));
    }

    /// Hears notifications, for as long as there is a socket.
    pub async fn hear_notifications(self: Arc<Self>) {
        while self.socket.readable().await.is_ok() {
            self.hear_one();
            // Others have their turn, whatever is said here.
            tokio::task::yield_now().await;
        }
    }

    /// Hears the keeper out, until its `end`.
    pub async fn hear_keeper(self: Arc<Self>, mut channel: UnixStream, end: Pidfd) {
        let mut bytes = [0; SIZE];
        let mut answer = ONE;
        while channel.read_exact(&mut bytes).await.is_ok() {
            let Some(word) = Word::from_bytes(bytes) else { break };
            match word {
                Word::Held { pid } => {
                    let Some(invocation) = self.place(pid).await else { return };
                    if channel.write_all(invocation.as_bytes()).await.is_err() {
                        break;
                    }
                }
                Word::Executed { pid } => self.tell(Heard::Keeper(word, Process::open(pid))),
                Word::Exited { .. } | Word::Killed { .. } => {
                    // What it has said before its end counts, and it can still be seen whose it is.
                    // Others of its generation may say more and more meanwhile.
                    for _ in 0..QUEUE {
                        if !self.hear_one() {
                            break;
                        }
                    }
                    self.tell(Heard::Keeper(word, None));
                    if answer == ALL {
                        continue;
                    }
                    answer = if self.is_killed.load(Ordering::Relaxed) { ALL } else { ONE };
                    if channel.write_all(&[answer]).await.is_err() {
                        break;
                    }
                }
                Word::NotExecuted { .. } | Word::Empty => self.tell(Heard::Keeper(word, None)),
            }
        }
        self.ended(end).await;
        super::reap();
        self.tell(Heard::KeeperGone);
    }

    /// Puts the process into its scope: the invocation id of that.
    async fn place(&self, pid: u32) -> Option<String> {
        let scope = self.scope.as_ref()?;
        let placed = scope.scopes.place(self.generation, pid, &scope.command).await;
        let invocation = placed.as_ref().ok().map(|placed| placed.invocation.clone());
        self.tell(placed.map_or_else(Heard::NotPlaced, Heard::Placed));
        invocation
    }

    async fn ended(&self, handle: Pidfd) {
        if let Err(error) = handle.ended().await {
            tracing::warn!("can't watch a process of generation {}: {error}", self.generation);
        }
    }

    /// Watches a process that may not be the keeper's child.
    pub async fn watch(self: Arc<Self>, pid: u32, handle: Pidfd) {
        self.ended(handle).await;
        // Of a child of its own the keeper tells more. If it has been reaped by now, it has.
        if Stat::of(pid).is_none_or(|stat| stat.parent != self.keeper) {
            self.tell(Heard::MainGone(pid));
        }
    }

    /// Hears one notification, if there is one by now.
    fn hear_one(&self) -> bool {
        let received = match self.socket.receive() {
            Ok(Some(received)) => received,
            Ok(None) => return false,
            Err(error) => {
                self.complain(format_args!("can't be read: {error}"));
                return false;
            }
        };
        let Received { sender, content } = received;
        match (sender, content) {
            (Some(pid), Ok(message)) if is_below(pid, self.keeper) => {
                let main = message.main_pid.and_then(|pid| self.descendant(pid));
                self.tell(Heard::Notified(message, main));
            }
            (_, Err(error)) => self.complain(format_args!("is ignored: {error}")),
            (Some(pid), Ok(_)) => self.complain(format_args!(
                "is ignored: process {pid} does not descend from generation {}, or has gone too soon to tell",
                self.generation
            )),
            (None, Ok(_)) => self.complain(format_args!("is ignored: it comes from outside")),
        }
        true
    }

    fn descendant(&self, pid: u32) -> Option<Process> {
        let process = descendant(pid, self.keeper);
        if process.is_none() {
            self.complain(format_args!("is ignored in part: its MAINPID={pid} is no process of the generation"));
        }
        process
    }

    /// Once, for people to see; whoever does that may do it all the time.
    fn complain(&self, what: std::fmt::Arguments<'_>) {
        let generation = self.generation;
        if self.complained.swap(true, Ordering::Relaxed) {
            tracing::debug!("a notification to generation {generation} {what}");
        } else {
            tracing::warn!("a notification to generation {generation} {what}");
        }
    }
}
