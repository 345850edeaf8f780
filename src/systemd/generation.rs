//! The unit of one generation, as systemd sees it: what it does now, each change of that, how it ended.

use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use tokio::sync::watch;
use tokio::task::JoinSet;
use zbus::{DeserializeDict, Message, OwnedObjectPath, Type};

use super::bus::SYSTEMD;
use super::group::{self, Group};
use super::manager::unit_path;
use super::pidfd::Pidfd;
use super::words::Words;
use super::{Error, Link};
use crate::roll::{Death, Standing};

/// What systemd says of a unit: of its own interface all but the last, in one message; of its service the last, in the
/// message before.
#[derive(Debug, Default, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
struct Properties {
    active_state: Option<String>,
    sub_state: Option<String>,
    job: Option<(u32, OwnedObjectPath)>,
    condition_result: Option<bool>,
    condition_timestamp: Option<u64>,
    active_enter_timestamp: Option<u64>,
    #[zbus(rename = "InvocationID")]
    invocation_id: Option<Vec<u8>>,
    #[zbus(rename = "MainPID")]
    main_pid: Option<u32>,
}

/// What a generation does, and what it takes to tell how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What it does.
    pub standing: Standing,
    /// The id of its main process; 0 for none.
    pub main_pid: u32,
    /// Its invocation id; all zeroes for none.
    pub invocation: [u8; 16],
    /// Nothing of it runs, but systemd keeps it as `active (exited)`.
    pub exited: bool,
    /// It has been active since it was started, also if that went by unseen.
    pub was_active: bool,
    /// A `Condition…=` of its unit did not hold, so it was never started.
    condition_failed: bool,
    /// It is in state `failed`.
    failed: bool,
}

impl State {
    /// Nothing of it runs, and systemd keeps it for nobody but those who refer to it.
    pub fn is_over(&self) -> bool {
        self.standing == Standing::Dead && !self.exited
    }
}

impl Properties {
    /// The state of the unit, if this is about the unit and not only about its service.
    fn state(&self, main_pid: u32) -> Option<State> {
        let (active, sub) = (self.active_state.as_deref()?, self.sub_state.as_deref()?);
        let idle = self.job.as_ref()?.0 == 0;
        let exited = active == "active" && sub == "exited";
        let standing = match active {
            // RemainAfterExit=yes keeps it so when its main process has ended. With a job it is about to change.
            "active" if exited && idle => Standing::Dead,
            "active" if exited => Standing::Deactivating,
            "active" | "reloading" | "refreshing" => Standing::Active,
            "deactivating" => Standing::Deactivating,
            // The first word about a start says inactive, with a job.
            "inactive" | "failed" if idle => Standing::Dead,
            _ => Standing::Starting,
        };
        Some(State {
            standing,
            main_pid,
            invocation: self.invocation_id.as_deref().and_then(|id| id.try_into().ok()).unwrap_or_default(),
            exited,
            was_active: self.active_enter_timestamp? != 0,
            condition_failed: self.condition_timestamp? != 0 && !self.condition_result?,
            failed: active == "failed",
        })
    }
}

/// What a generation lives and ends with, and what tells that end without a connection.
#[derive(Debug)]
pub enum Life {
    /// Its main process, of this id.
    Main(u32, Pidfd),
    /// All its processes: with `ExitType=cgroup` the main one may have ended.
    All(Group),
}

impl Life {
    /// The id of its main process.
    pub fn main_pid(&self) -> Option<u32> {
        match self {
            Self::Main(pid, _) => Some(*pid),
            Self::All(_) => None,
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Main(_, pidfd) => pidfd.has_ended(),
            Self::All(group) => group.has_emptied(),
        }
    }

    /// Returns when it has ended. Costs nothing until then.
    pub async fn ended(self) -> std::io::Result<()> {
        match self {
            Self::Main(_, pidfd) => pidfd.ended().await,
            Self::All(group) => group.emptied().await,
        }
    }
}

/// A generation's unit, over a connection that lasts as long as this.
#[derive(Debug)]
pub struct Watched {
    link: Link,
    name: String,
    state: watch::Receiver<Option<State>>,
    /// Reads the signals of the bus; ends with this or with the connection.
    _reader: JoinSet<()>,
}

impl Watched {
    /// Watches the unit of this name, which is about to be started, with a reference: the first state is the one after
    /// that.
    pub async fn before_start(link: Link, name: &str) -> Result<Self, Error> {
        let words = changes(&link, name).await?;
        Ok(Self::reading(link, name, words, None))
    }

    /// Watches the unit of this name: the first state is the present one.
    pub async fn now(link: Link, name: &str) -> Result<Self, Error> {
        // systemd would try to load a unit that is only looked at, and complain that its file is gone.
        if !link.is_loaded(name).await? {
            return Ok(Self::gone(link, name));
        }
        // What changes while the questions are on their way is in the signals. systemd sends those to whoever holds a
        // reference to the unit, which also keeps it until it is known how it ended.
        let words = changes(&link, name).await?;
        let manager = link.manager().await?;
        match manager.ref_unit(name).await.map_err(Error::from) {
            Ok(()) => {}
            Err(error) if error.is_about_the_connection() => return Err(error),
            Err(Error::NoSuchUnit(_)) if !link.is_loaded(name).await? => return Ok(Self::gone(link, name)),
            // There is none to a unit that runs and has been masked since, or whose file is gone. Whoever subscribes hears of all.
            Err(error) => {
                tracing::debug!("no reference to {name}: {error}");
                link.subscribe().await?;
            }
        }
        let main_pid = match name.ends_with(".service") {
            true => link.service(name).await?.main_pid().await?,
            false => 0,
        };
        let interface = Some("org.freedesktop.DBus.Properties");
        let unit = &("org.freedesktop.systemd1.Unit");
        let reply = link.connection().call_method(Some(SYSTEMD), unit_path(name), interface, "GetAll", unit).await?;
        if present(&reply, main_pid).is_none() {
            return Err(Error::Other(format!("an odd answer of systemd's about {name}")));
        }
        Ok(Self::reading(link, name, words, Some((main_pid, reply))))
    }

    fn gone(link: Link, name: &str) -> Self {
        let state = State {
            standing: Standing::Dead,
            main_pid: 0,
            invocation: [0; 16],
            exited: false,
            was_active: false,
            condition_failed: false,
            failed: false,
        };
        let (sender, mut receiver) = watch::channel(Some(state));
        receiver.mark_changed();
        drop(sender);
        Self { link, name: name.to_owned(), state: receiver, _reader: JoinSet::new() }
    }

    fn reading(link: Link, name: &str, mut words: Words, present: Option<(u32, Message)>) -> Self {
        let mut main_pid = present.as_ref().map_or(0, |(pid, _)| *pid);
        let reply = present.map(|(_, reply)| reply);
        let (sender, mut state) = watch::channel(reply.as_ref().and_then(|reply| self::present(reply, main_pid)));
        state.mark_changed();
        let mut reader = JoinSet::new();
        // A task of its own, since a stream that nobody reads blocks the whole connection.
        reader.spawn(async move {
            while let Some(signal) = words.next().await {
                let changed = match signal.body().deserialize::<(String, Properties, Vec<String>)>() {
                    Ok((_, changed, _)) => changed,
                    Err(error) => {
                        tracing::debug!("an odd signal of systemd's: {error}");
                        continue;
                    }
                };
                main_pid = changed.main_pid.unwrap_or(main_pid);
                let older = reply.as_ref().is_some_and(|reply| signal.recv_position() < reply.recv_position());
                let new = changed.state(main_pid).filter(|_| !older);
                sender.send_if_modified(|state| {
                    let new = new.or(state.map(|state| State { main_pid, ..state }));
                    std::mem::replace(state, new) != new
                });
            }
        });
        Self { link, name: name.to_owned(), state, _reader: reader }
    }

    /// What the unit does, whenever that has changed. Changes in quick succession count as one.
    ///
    /// # Errors
    /// [`Error::Lost`] if the connection broke, or systemd's own: what it said meanwhile nobody has heard.
    pub async fn next(&mut self) -> Result<State, Error> {
        loop {
            self.state.changed().await.map_err(|_| Error::Lost("the bus or systemd closed it".to_owned()))?;
            if let Some(state) = *self.state.borrow_and_update() {
                return Ok(state);
            }
        }
    }

    /// Whether the unit has done anything else by the time of systemd's last answer.
    pub async fn has_changed(&self) -> bool {
        // What it said before that has come, but may not have been read.
        tokio::task::yield_now().await;
        self.state.has_changed().unwrap_or(false)
    }

    /// Waits until the unit is in a state like this.
    pub async fn until(&mut self, like: impl Fn(&State) -> bool) -> Result<State, Error> {
        loop {
            let state = self.next().await?;
            if like(&state) {
                return Ok(state);
            }
        }
    }

    /// The life with the main process of this id (0 for none), held by a handle that is surely its own; none if that is no
    /// longer the main process, or if it has ended without systemd knowing it yet.
    pub async fn life(&self, pid: u32) -> Result<Option<Life>, Error> {
        if pid == 0 {
            let service = self.link.service(&self.name).await?;
            // Otherwise it is about to end, which must be heard of.
            let outlives_main = service.exit_type().await? == "cgroup";
            let group = service.control_group().await?;
            return Ok(outlives_main.then(|| Group::open(&group)).flatten().map(Life::All));
        }
        let Some(pidfd) = Pidfd::open(pid) else { return Ok(None) };
        // systemd reaps its main processes, so an id that it still names after the handle was opened was not reused.
        let same = self.link.service(&self.name).await?.main_pid().await? == pid;
        Ok((same && !pidfd.has_ended()).then_some(Life::Main(pid, pidfd)))
    }

    /// Waits until the start is over, well or badly. [`Watched::next`] gives the state of then once more.
    pub async fn started(&mut self) -> Result<(), Error> {
        self.until(|state| state.standing != Standing::Starting).await?;
        self.tell_again();
        Ok(())
    }

    /// Has [`Watched::next`] give the last state once more.
    pub fn tell_again(&mut self) {
        self.state.mark_changed();
    }

    /// How the unit ended, in `state`.
    pub async fn death(&self, state: &State) -> Result<Death, Error> {
        if state.condition_failed {
            return Ok(Death::Failed("condition".to_owned()));
        }
        if !state.exited && !state.failed {
            return Ok(Death::Stopped);
        }
        let service = self.link.service(&self.name).await?;
        let (result, code, status) =
            tokio::try_join!(service.result(), service.exec_main_code(), service.exec_main_status())?;
        Ok(death(&result, code, status))
    }

    /// Whether any process of the unit runs.
    pub async fn is_populated(&self) -> Result<bool, Error> {
        let group = self.link.service(&self.name).await?.control_group().await?;
        Ok(group::is_populated(&group))
    }

    /// The connection, for calls about this unit.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

/// An invocation id, as `INVOCATION_ID=` has it.
pub fn invocation_id(id: [u8; 16]) -> String {
    id.iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}"))
}

async fn changes(link: &Link, name: &str) -> Result<Words, Error> {
    Words::about(link, unit_path(name), "org.freedesktop.DBus.Properties", "PropertiesChanged", None).await
}

/// The state that an answer to a question for it tells.
fn present(reply: &Message, main_pid: u32) -> Option<State> {
    reply.body().deserialize::<Properties>().ok()?.state(main_pid)
}

/// Reads `Result`, `ExecMainCode` (as waitid(2) has it) and `ExecMainStatus`.
fn death(result: &str, code: i32, status: i32) -> Death {
    const CLD_EXITED: i32 = 1;
    const CLD_KILLED: i32 = 2;
    const CLD_DUMPED: i32 = 3;
    // With a clean end of the main process a Result= that isn't one is that of another command, ExecStartPost= for one.
    let clean = |signal| [SIGHUP, SIGINT, SIGTERM, SIGPIPE].map(|clean| clean as i32).contains(&signal);
    match (result, code) {
        ("exit-code", CLD_EXITED) if status == 0 => Death::Failed(result.to_owned()),
        ("signal", CLD_KILLED) if clean(status) => Death::Failed(result.to_owned()),
        ("success" | "exit-code", CLD_EXITED) => {
            u8::try_from(status).map_or(Death::Failed(result.to_owned()), Death::Exited)
        }
        ("success" | "signal" | "core-dump", CLD_KILLED | CLD_DUMPED) => Death::Killed(status),
        _ => Death::Failed(result.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(active_state: &str, sub_state: &str, job: u32) -> Standing {
        let properties = Properties {
            active_state: Some(active_state.to_owned()),
            sub_state: Some(sub_state.to_owned()),
            job: Some((job, OwnedObjectPath::default())),
            condition_result: Some(true),
            condition_timestamp: Some(1),
            active_enter_timestamp: Some(1),
            invocation_id: None,
            main_pid: None,
        };
        properties.state(0).expect("a state").standing
    }

    #[test]
    fn inactive_with_a_job_is_not_dead() {
        assert_eq!(standing("inactive", "dead", 7), Standing::Starting);
        assert_eq!(standing("inactive", "dead", 0), Standing::Dead);
        assert_eq!(standing("failed", "failed", 7), Standing::Starting);
        assert_eq!(standing("failed", "failed", 0), Standing::Dead);
    }

    #[test]
    fn serving_is_active_and_running() {
        assert_eq!(standing("active", "running", 0), Standing::Active);
        assert_eq!(standing("reloading", "reload", 3), Standing::Active);
        assert_eq!(standing("active", "exited", 0), Standing::Dead);
        assert_eq!(standing("activating", "start", 3), Standing::Starting);
        assert_eq!(standing("deactivating", "stop-sigterm", 0), Standing::Deactivating);
    }

    #[test]
    fn deaths_are_told_apart() {
        assert_eq!(death("success", 1, 0), Death::Exited(0));
        assert_eq!(death("exit-code", 1, 3), Death::Exited(3));
        assert_eq!(death("signal", 2, 9), Death::Killed(9));
        assert_eq!(death("core-dump", 3, 11), Death::Killed(11));
        assert_eq!(death("success", 2, 15), Death::Killed(15));
        assert_eq!(death("timeout", 2, 9), Death::Failed("timeout".to_owned()));
        assert_eq!(death("exit-code", 0, 0), Death::Failed("exit-code".to_owned()));
        assert_eq!(death("exit-code", 1, 0), Death::Failed("exit-code".to_owned()));
        assert_eq!(death("exit-code", 2, 15), Death::Failed("exit-code".to_owned()));
        assert_eq!(death("signal", 2, 15), Death::Failed("signal".to_owned()));
    }
}
