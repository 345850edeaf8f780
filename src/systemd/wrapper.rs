//! The wrapper unit that procroll runs in: whether there is one, what it says now, and its reload job.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use tokio::sync::Mutex;
use zbus::OwnedObjectPath;

use super::error::if_there;
use super::{Error, Link, Place};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::settings::WrapperName;
use crate::unit::{Source, Sources, Wrapper};

/// The wrapper as it was when procroll began.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its unit name, as systemd has it.
    pub id: String,
    /// The program that its `ExecStart=` runs, as written there.
    pub program: String,
    /// What follows there, the program's name first, before `$` is resolved.
    pub arguments: Vec<String>,
    /// Whether `$` will be.
    pub expands_variables: bool,
    /// `KillSignal=` and `RestartKillSignal=`, by number.
    pub kill_signals: [i32; 2],
    /// `ReloadSignal=`, by number, with a type that has one.
    pub reload_signal: Option<i32>,
}

/// The wrapper as it is now.
#[derive(Debug)]
pub struct Now {
    /// Its text.
    pub unit: Wrapper,
    /// The program that it runs, as written: procroll.
    pub program: String,
    /// procroll's command line: arguments after `%` and before `$` are resolved.
    pub arguments: Vec<String>,
    /// Whether systemd expands `$VAR` in it.
    pub expands_variables: bool,
    /// The number of its job: that of the reload, in one. 0 for none.
    pub job: u32,
    /// Socket units of it that are not active.
    pub dead_sockets: Vec<String>,
    /// When systemd last read its units, in µs since boot.
    read_at: u64,
    /// What systemd has loaded as `User=`, `Group=` and `DynamicUser=`.
    identity: (String, String, bool),
}

/// The service this process is the main process of, if it is one. systemd is asked, not the environment: that is the
/// application's to set.
pub async fn own(link: &Link) -> Result<Option<Own>, Error> {
    let pid = std::process::id();
    let path = match link.manager().await?.get_unit_by_pid(pid).await.map_err(Error::from) {
        Ok(path) => path,
        Err(Error::NoSuchUnit(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let id = link.unit_at(path).await?.id().await?;
    if !id.ends_with(".service") {
        return Ok(None);
    }
    let service = link.service(&id).await?;
    if service.main_pid().await? != pid {
        return Ok(None);
    }
    let (service_type, kill_signal, restart_kill_signal, commands) = tokio::try_join!(
        service.service_type(),
        service.kill_signal(),
        service.restart_kill_signal(),
        service.exec_start_ex()
    )?;
    let reload_signal = if_there(service.reload_signal().await)?;
    let command = commands.into_iter().next().map(|(program, arguments, flags, ..)| (program, arguments, flags));
    let (program, arguments, flags) = command.unwrap_or_default();
    Ok(Some(Own {
        id,
        program,
        arguments,
        expands_variables: expands_variables(&flags),
        kill_signals: [kill_signal, restart_kill_signal],
        reload_signal: reload_signal.filter(|_| service_type == "notify-reload"),
    }))
}

/// How often the wrapper wants to hear `WATCHDOG=1`, in µs; 0 for never.
pub async fn watchdog_usec(link: &Link, id: &str) -> Result<u64, Error> {
    // systemd says infinity for a watchdog that was switched off.
    let usec = link.service(id).await?.watchdog_usec().await?;
    Ok(if usec == u64::MAX { 0 } else { usec })
}

/// How often to read anew because systemd did. Each time takes as long as a daemon-reload, for which it answers nobody.
const ATTEMPTS: usize = 50;

/// Reads the wrapper's unit: what systemd has loaded, and the same text from the same files.
///
/// # Errors
/// If there is doubt that the files say what systemd has loaded, with the next command to type.
pub async fn read(link: &Link, name: &WrapperName) -> Result<Now, Fatal> {
    for _ in 0..ATTEMPTS {
        let now = read_once(link, name).await.map_err(refusal)?;
        if now.is_of_one_reading(link).await.map_err(refusal)? {
            return Ok(now);
        }
    }
    Err(Stale(format!("systemd reads {name} anew all the time. Try again"))).or_exit(ExitStatus::Internal)
}

/// What systemd says of the unit is not what its files say.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stale(String);

/// Another start may find the files as they should be; of the rest it would say the same.
fn refusal(error: anyhow::Error) -> Fatal {
    let passes = error.chain().any(|cause| cause.is::<Stale>() || cause.is::<io::Error>());
    Fatal { exit: if passes { ExitStatus::Internal } else { ExitStatus::UnitRefused }, error }
}

async fn read_once(link: &Link, name: &WrapperName) -> Result<Now> {
    let id = name.to_string();
    let (unit, service) = (link.unit(&id).await?, link.service(&id).await?);
    // All at once: each way there and back is time that somebody waits for.
    let manager = link.manager().await?;
    let (read_at, load_state, fragment, drop_ins, triggers, job, commands, slice, user, group, dynamic) = tokio::try_join!(
        manager.units_load_timestamp_monotonic(),
        unit.load_state(),
        unit.fragment_path(),
        unit.drop_in_paths(),
        unit.triggered_by(),
        unit.job(),
        service.exec_start_ex(),
        service.slice(),
        service.user(),
        service.group(),
        service.dynamic_user()
    )?;
    ensure!(load_state == "loaded", "{id} is {load_state}. See {}", link.place().systemctl(format!("status {id}")));
    ensure!(!fragment.is_empty(), "{id} has no unit file");
    let [(program, arguments, flags, ..)] = commands.as_slice() else {
        bail!("{id} has {} ExecStart= commands where procroll needs to be the only one", commands.len());
    };

    let job = reload_job(link, job).await?;
    let sources = match read_sources(&fragment, &drop_ins) {
        // One that is just being written may be empty, or end anywhere.
        Err(_) if unit.need_daemon_reload().await? => return Err(changed(link.place(), name)),
        sources => sources?,
    };
    let sockets: Vec<_> = triggers.into_iter().filter(|trigger| trigger.ends_with(".socket")).collect();
    let mut wrapper = Wrapper { name: name.clone(), sources, sockets, slice, dynamic_user: None };
    if dynamic && !wrapper.sources.sets_any(&["User"]) {
        wrapper.dynamic_user = Some(user.clone());
    }
    let mut dead_sockets = Vec::new();
    let mut live_sockets = Vec::new();
    for socket in std::mem::take(&mut wrapper.sockets) {
        ensure!(
            name.instance().is_none() || !link.socket(&socket).await?.accept().await?,
            "{id} can't be rolled: it serves a single connection, since {socket} has Accept=yes. Make that Accept=no, \
             for a service that is no instance"
        );
        let state = link.unit(&socket).await?.active_state().await?;
        if state == "active" { live_sockets.push(socket) } else { dead_sockets.push(socket) }
    }
    wrapper.sockets = live_sockets;
    Ok(Now {
        unit: wrapper,
        program: program.clone(),
        arguments: arguments.clone(),
        expands_variables: expands_variables(flags),
        job,
        dead_sockets,
        read_at,
        identity: (user, group, dynamic),
    })
}

fn expands_variables(flags: &[String]) -> bool {
    !flags.iter().any(|flag| flag == "no-env-expand")
}

impl Now {
    /// This, to compare what the files say later with.
    pub fn seen(&self) -> Seen {
        Seen(Mutex::new((self.read_at, self.unit.sources.clone())))
    }

    /// Whether no daemon-reload came between what systemd was asked and what the files were.
    ///
    /// # Errors
    /// If the files are not those that systemd has read.
    async fn is_of_one_reading(&self, link: &Link) -> Result<bool> {
        let (id, manager) = (self.unit.name.to_string(), link.manager().await?);
        let unit = link.unit(&id).await?;
        let (stale, read_at) = tokio::try_join!(unit.need_daemon_reload(), manager.units_load_timestamp_monotonic())?;
        if read_at != self.read_at {
            return Ok(false);
        }
        if stale {
            return Err(changed(link.place(), &self.unit.name));
        }
        let (user, group, dynamic) = &self.identity;
        same_identity(link.place(), &self.unit, user, group, *dynamic).map(|()| true)
    }
}

/// What the wrapper's files said, as far as procroll has seen, when systemd last read them.
#[derive(Debug, Default)]
pub struct Seen(Mutex<(u64, Sources)>);

impl Seen {
    /// The digest of what the files said when procroll began.
    pub async fn digest(&self) -> u64 {
        self.0.lock().await.1.digest()
    }

    /// To be asked after [`read`], which can't notice a file that was replaced by one with an older date: where
    /// systemd has read nothing anew, the files say what they said.
    pub async fn check(&self, now: &Now, place: &Place) -> Result<(), Fatal> {
        let mut seen = self.0.lock().await;
        let (read_at, sources) = &mut *seen;
        // It reads what it writes itself, for `systemctl set-property`, at once.
        let its_own = ["/system.control/", "/user.control/"];
        let others = |source: &&Source| !its_own.iter().any(|folder| source.path.contains(folder));
        let same = now.unit.sources.0.iter().filter(others).eq(sources.0.iter().filter(others));
        if *read_at == now.read_at && !same {
            return Err(refusal(changed(place, &now.unit.name)));
        }
        *seen = (now.read_at, now.unit.sources.clone());
        Ok(())
    }
}

fn changed(place: &Place, id: &WrapperName) -> anyhow::Error {
    let reload = place.systemctl("daemon-reload");
    Stale(format!("{id} has changed on disk since systemd read it. Type {reload} and try again")).into()
}

/// Reads a unit's files.
///
/// # Errors
/// A file that can't be read as systemd has read it, by its name.
pub fn read_sources(fragment: &str, drop_ins: &[String]) -> Result<Sources> {
    let mut sources = vec![read_source(fragment, Mask::Refused)?];
    for drop_in in drop_ins {
        sources.push(read_source(drop_in, Mask::Empty)?);
    }
    Ok(Sources(sources))
}

/// What to make of a file that is empty or a link to /dev/null, which is how systemd's files are masked.
enum Mask {
    /// A masked unit file would make a generation of root's without any sandbox.
    Refused,
    /// A masked drop-in says nothing.
    Empty,
}

/// Reads one file of the wrapper's unit.
fn read_source(path: &str, mask: Mask) -> Result<Source> {
    let real = fs::canonicalize(path).with_context(|| format!("can't read {path}"))?;
    let metadata = fs::metadata(&real).with_context(|| format!("can't read {path}"))?;
    if real == Path::new("/dev/null") || metadata.len() == 0 {
        return match mask {
            Mask::Refused => bail!("{path} is empty or masked"),
            Mask::Empty => Ok(Source::parse(path, b"")?),
        };
    }
    let bytes = read_file(&real).with_context(|| format!("can't read {path}"))?;
    let real = real.to_str().with_context(|| format!("the path of {path} is not UTF-8"))?;
    Ok(Source::parse(real, &bytes)?)
}

/// The longest unit file that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// Reads what may be a unit file, and nothing that never ends: a pipe, a device.
///
/// # Errors
/// If it can't be read, or is nothing of the kind.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Without the flag an open of a pipe waits for somebody who writes to it.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 16 MiB, which no unit file is"));
    }
    Ok(bytes)
}

/// A file may have been replaced by one with an older date before procroll saw it first. Who a generation would run as is
/// compared with what systemd has loaded.
fn same_identity(place: &Place, wrapper: &Wrapper, user: &str, group: &str, dynamic: bool) -> Result<()> {
    let (id, reload) = (&wrapper.name, place.systemctl("daemon-reload"));
    for (key, loaded) in [("User", user), ("Group", group)] {
        let written = wrapper.sources.service(key).map(|one| wrapper.specifiers().resolve(one)).transpose()?;
        let written = written.unwrap_or_default();
        // What a remaining specifier stands for is systemd's to know, and a dynamic user's name its to choose.
        let systemds = written.contains('%') || dynamic && written.is_empty();
        if written != loaded && !systemds {
            let differs = format!("the files of {id} say {key}={written}, but systemd has loaded {key}={loaded}");
            return Err(Stale(format!("{differs}. Type {reload} and try again")).into());
        }
    }
    if wrapper.sources.flag("DynamicUser") != dynamic {
        let differs = format!("the files of {id} and what systemd has loaded differ in DynamicUser=");
        return Err(Stale(format!("{differs}. Type {reload} and try again")).into());
    }
    Ok(())
}

/// Makes the `systemctl reload` that waits for this wrapper fail, if it is that `job`. There is no notification for that; but a
/// service may cancel its own job.
///
/// A job that is waiting is another reload that was asked for meanwhile: it gets a roll of its own, and stays.
pub async fn cancel_reload_job(link: &Link, id: &str, job: Option<u32>) -> Result<(), Error> {
    let is_that = |one| job.is_none_or(|job| job == one);
    cancel_job(link, id, |one, job_type, state| job_type == "reload" && state == "running" && is_that(one)).await
}

/// The same when there will be no roll any more.
pub async fn cancel_last_reload_job(link: &Link, id: &str) -> Result<(), Error> {
    cancel_job(link, id, |_, job_type, _| job_type == "reload").await
}

/// What an earlier procroll has left of reloads that it did not live to answer.
#[derive(Clone, Debug, Default)]
pub struct Interrupted {
    /// Jobs for which it has begun rolls.
    pub jobs: BTreeSet<u32>,
    /// Those of them whose rolls had failed by then.
    pub in_vain: BTreeSet<u32>,
    /// A roll may have been asked for before one was begun: a reload was under way, or the unit has changed since what serves
    /// was started.
    pub in_doubt: bool,
}

/// The same for one that an earlier procroll did not live to answer, by its number. With RestartMode=direct systemd goes on
/// with that job, by then of type start, and whoever waits for it would be told that all is well.
///
/// Not while units that require this one are about to start: that would fail as well. Up to systemd 256 it restarts them with this
/// one, and they would stay down.
pub async fn cancel_interrupted_job(link: &Link, id: &str, jobs: &BTreeSet<u32>, in_doubt: bool) -> Result<(), Error> {
    let restart_mode = if_there(link.service(id).await?.restart_mode().await)?;
    let in_doubt = in_doubt && restart_mode.is_some_and(|mode| mode == "direct");
    let unit = link.unit(id).await?;
    let (job, _) = unit.job().await?;
    if job == 0 || !(in_doubt || jobs.contains(&job)) {
        return Ok(());
    }
    for other in [unit.required_by().await?, unit.requisite_of().await?, unit.bound_by().await?].concat() {
        let (job, path) = link.unit(&other).await?.job().await?;
        let job_type = if job == 0 { None } else { if_there(link.job(path).await?.job_type().await)? };
        if job_type.is_some_and(|job_type| ["start", "restart", "try-restart", "verify-active"].contains(&&*job_type)) {
            return Err(Error::Other(format!("the start of {other} would fail with it")));
        }
    }
    cancel_job(link, id, |one, job_type, _| one == job && job_type == "start").await
}

/// The number of the reload that a unit has under way; 0 for none.
///
/// # Errors
/// If systemd can't be asked.
pub async fn job(link: &Link, id: &str) -> Result<u32, Error> {
    reload_job(link, link.unit(id).await?.job().await?).await
}

/// The number of this job if it is a reload; otherwise 0, as for none. Whoever waits for a start is to hear that all is well.
async fn reload_job(link: &Link, (job, path): (u32, OwnedObjectPath)) -> Result<u32, Error> {
    if job == 0 {
        return Ok(0);
    }
    let job_type = if_there(link.job(path).await?.job_type().await)?;
    Ok(if job_type.is_some_and(|job_type| job_type == "reload") { job } else { 0 })
}

async fn cancel_job(link: &Link, id: &str, which: impl Fn(u32, &str, &str) -> bool) -> Result<(), Error> {
    let (job, path) = link.unit(id).await?.job().await?;
    if job == 0 {
        return Ok(());
    }
    let proxy = link.job(path).await?;
    // It may be over by now, and then there is nobody to tell.
    let found = if_there(tokio::try_join!(proxy.job_type(), proxy.state()))?;
    if found.is_some_and(|(job_type, state)| which(job, &job_type, &state)) {
        if_there(link.manager().await?.cancel_job(job).await)?;
    }
    Ok(())
}
