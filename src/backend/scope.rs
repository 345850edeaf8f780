//! Transient scopes, for generations that are procroll's own processes ([`direct`](super::direct)): systemd puts a process that
//! is about to execute its program into a unit and a control group of its own. See systemd.scope(5).
//!
//! What goes on in one is for the direct backend to know, which has the processes for children; systemd is asked for nothing but
//! the scope, and whether it has gone.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use zbus::Variant;

use super::names;
use crate::exit::{ExitStatus, Fatal};
use crate::roll::{Generation, Standing};
use crate::settings::direct::Direct;
use crate::settings::{BaseName, Override};
use crate::systemd::error::{if_there, is_about_the_connection};
use crate::systemd::generation::{State, Watched, invocation_id};
use crate::systemd::{Bus, Error, Link, folder, group, verify};
use crate::unit::scope;
use crate::unit::text::Assignment;

/// How long a scope is asked for that systemd has not heard of yet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long systemd may take to notice that nothing is left in one.
const GOING: Duration = Duration::from_secs(5);

/// Where scopes come from, and what they are.
#[derive(Debug)]
pub struct Scopes {
    bus: Bus,
    base: BaseName,
    /// Whose they are, for their mark.
    owner: String,
    lines: Vec<Assignment>,
    /// What an earlier procroll of the same wrapper has left, which nobody looks after.
    left: Mutex<Vec<Left>>,
}

/// A scope that was left. Until it has gone nobody else has its name, by which it is stopped.
#[derive(Debug)]
struct Left {
    unit: String,
    /// Somebody sees to that.
    is_stopped: bool,
}

/// A scope with the process in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its invocation id, as `INVOCATION_ID=` has it.
    pub invocation: String,
    /// Its control group, as systemd names it.
    pub group: String,
}

/// Why there is no scope.
#[derive(Debug)]
pub enum NotPlaced {
    /// Its name is somebody else's.
    Taken,
    /// Anything else.
    Refused(Fatal),
}

impl From<Error> for NotPlaced {
    fn from(error: Error) -> Self {
        match error {
            Error::UnitExists(_) => Self::Taken,
            error => Self::Refused(error.into()),
        }
    }
}

impl Scopes {
    /// Scopes named after `base`, over `bus`, for what `settings` say. All that can be refused is refused now, for it never changes.
    ///
    /// # Errors
    /// Why there can be none.
    pub async fn new(
        bus: Bus,
        base: BaseName,
        wrapper: Option<String>,
        settings: &Direct,
        overrides: &[Override],
    ) -> Result<Self, Fatal> {
        let link = bus.connect().await?;
        if !link.shares_process_ids().await? {
            let why = "procroll runs in a PID namespace of its own, where systemd can't tell its processes";
            return Err(Fatal { exit: ExitStatus::UnitRefused, error: anyhow!(why) });
        }
        let owner = wrapper.clone().unwrap_or_else(|| format!("pid {}", std::process::id()));
        let is_one = |unit: &str| base.scope_number(unit).is_some();
        let ours = names::claim(&link, &base.scope_pattern(), is_one, &owner).await?;
        let verified = verify::verify_scope(&link, &owner, &base.generation(Generation::new(1)), overrides).await;
        let verified = verified.map_err(|fatal| fatal.see("\"man systemd.scope\""));
        let lines = scope::lines(settings, wrapper.as_deref(), verified?);
        // At a terminal another procroll may have had this process's number.
        let left = if wrapper.is_some() { ours } else { Vec::new() };
        let left = left.into_iter().map(|unit| Left { unit, is_stopped: false }).collect();
        Ok(Self { bus, base, owner, lines, left: Mutex::new(left) })
    }

    /// The unit name of a generation.
    pub fn unit(&self, generation: Generation) -> String {
        self.base.scope(generation)
    }

    /// What to type to see more about a generation. One that does not run systemd no longer lists.
    pub fn hint(&self, generation: Generation, runs: bool) -> String {
        let (unit, place) = (self.unit(generation), &self.bus.place);
        match runs {
            true => format!("See {}", place.systemctl(format!("status {unit}"))),
            false => format!("See what it has said itself, and {}", place.journalctl(&unit)),
        }
    }

    /// Puts a process into the scope of a generation, which is to execute this command.
    ///
    /// # Errors
    /// Why it is not in one. What there is of the scope then goes with the process.
    pub async fn place(&self, generation: Generation, pid: u32, command: &str) -> Result<Placed, NotPlaced> {
        let (unit, began) = (self.unit(generation), Instant::now());
        loop {
            match self.attempt(&unit, pid, command).await {
                Err(NotPlaced::Refused(fatal))
                    if is_about_the_connection(&fatal.error) && began.elapsed() < PATIENCE =>
                {
                    tracing::debug!("making {unit} anew: {fatal}");
                    self.bus.pause().await;
                }
                placed => return placed,
            }
        }
    }

    async fn attempt(&self, unit: &str, pid: u32, command: &str) -> Result<Placed, NotPlaced> {
        let link = self.bus.connect().await?;
        let mut watched = match group::of_process_in(unit, pid) {
            // What was asked for before the connection broke has been heard.
            Some(_) => Watched::now(link, unit).await?,
            None => self.ask(link, unit, pid, command).await?,
        };
        let state = watched.until(|state| state.standing != Standing::Starting).await?;
        match group::of_process_in(unit, pid) {
            Some(group) if state.standing == Standing::Active && self.is_read(watched.link(), unit).await? => {
                Ok(Placed { invocation: invocation_id(state.invocation), group })
            }
            _ => {
                let see = self.bus.place.journalctl(unit);
                let _ = folder::remove(&self.bus.place, unit);
                let error =
                    anyhow!("systemd did not put its process (PID {pid}) into {unit} as it is to be. See {see}");
                Err(NotPlaced::Refused(Fatal { exit: ExitStatus::Internal, error }))
            }
        }
    }

    async fn ask(&self, link: Link, unit: &str, pid: u32, command: &str) -> Result<Watched, NotPlaced> {
        let (place, manager) = (&self.bus.place, link.manager().await?);
        // One that was left is stopped by its name.
        if self.left().iter().any(|left| left.unit == unit) || link.is_loaded(unit).await? {
            return Err(NotPlaced::Taken);
        }
        let watched = Watched::before_start(link.clone(), unit).await?;
        let drop_in = scope::drop_in(&self.owner, unit, command, &self.lines);
        folder::write(place, &self.owner, unit, &[drop_in]).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => NotPlaced::Taken,
            _ => {
                let folder = folder::path(place, unit);
                let error = anyhow::Error::new(error).context(format!("can't write {}", folder.display()));
                NotPlaced::Refused(Fatal { exit: ExitStatus::Internal, error })
            }
        })?;
        let properties = [("PIDs", Variant::from(vec![pid])), ("AddRef", Variant::from(true))];
        let asked = async {
            // Of what is in its folders systemd makes a new list when it looks for a unit there, and it looks for no scope.
            manager.load_unit(&format!("{unit}.service")).await?;
            manager.start_transient_unit(unit, "fail", &properties, &[]).await
        };
        let asked = asked.await.map_err(Error::from);
        asked.inspect_err(|_| drop(folder::remove(place, unit)))?;
        Ok(watched)
    }

    /// Whether systemd has read what the scope is to be.
    async fn is_read(&self, link: &Link, unit: &str) -> Result<bool, Error> {
        let own = folder::path(&self.bus.place, unit);
        Ok(link.drop_in_paths(unit).await?.iter().any(|path| Path::new(path).starts_with(&own)))
    }

    /// Returns when systemd has cleared the scope of a generation away, of which nothing runs, or after a while.
    pub async fn gone(&self, generation: Generation) {
        let unit = self.unit(generation);
        let gone = async {
            loop {
                match until_gone(self.bus.insist().await, &unit).await {
                    Err(error) if error.is_about_the_connection() => self.bus.pause().await,
                    _ => return,
                }
            }
        };
        let in_time = tokio::time::timeout(GOING, gone).await;
        let place = &self.bus.place;
        if folder::owner(place, &unit).as_deref() == Some(self.owner.as_str()) {
            // systemd removes them with a unit that it has made, and had no time to make each.
            let _ = folder::remove(place, &unit);
        }
        if in_time.is_err() {
            tracing::warn!("{unit} is still listed. See {}", self.bus.place.systemctl(format!("status {unit}")));
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was left and that nobody stops yet.
    fn next_left(&self) -> Option<String> {
        let mut left = self.left();
        let next = left.iter_mut().find(|left| !left.is_stopped)?;
        next.is_stopped = true;
        Some(next.unit.clone())
    }

    /// Stops what an earlier procroll has left, and returns when that is done.
    pub async fn stop_left(&self) {
        while let Some(unit) = self.next_left() {
            tracing::info!("{unit} was left by an earlier procroll, and is stopped");
            let stopped = async {
                let link = self.bus.insist().await;
                link.stop_unit(&unit).await?;
                until_gone(link, &unit).await
            };
            match stopped.await {
                Ok(()) => self.left().retain(|left| left.unit != unit),
                Err(error) => {
                    let see = self.bus.place.systemctl(format!("stop {unit}"));
                    tracing::warn!("can't stop {unit}: {error}. Type {see}");
                }
            }
        }
    }
}

/// Returns when nothing of a scope is left, and nobody here refers to it any more: it stays listed for as long, and if the last
/// reference goes with the bus, until somebody refers to it once more.
async fn until_gone(link: Link, unit: &str) -> Result<(), Error> {
    let mut watched = Watched::now(link, unit).await?;
    watched.until(State::is_over).await?;
    let manager = watched.link().manager().await?;
    while if_there(manager.unref_unit(unit).await)?.is_some() {}
    Ok(())
}
