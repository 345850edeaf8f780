//! The guard of a wrapper unit: a transient unit without a process, which goes down whenever the wrapper does, and whose
//! `ExecStop=` then decides about the generations. Why there is one is told where that is, in
//! [`guard`](crate::guard).

use std::fs;
use std::time::Duration;

use zbus::{DeserializeDict, OwnedObjectPath, Type, Variant};

use super::bus::SYSTEMD;
use super::error::if_there;
use super::generation::{State, Watched};
use super::manager::{Property, unit_path};
use super::words::Words;
use super::{Error, Link};
use crate::roll::Standing;
use crate::settings::WrapperName;

/// How often to look whether what was left of a guard has been unloaded, and how long to wait before the next time.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// How long a procroll takes at the most until it hears signals, in µs.
const DEAF: u64 = 3_000_000;

/// What systemd says of a wrapper unit, and of its guard, which it has told to stop. Times are those of CLOCK_MONOTONIC in µs, 0 for
/// never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its `ActiveState`.
    pub active_state: String,
    /// Its `SubState`.
    pub sub_state: String,
    /// The type of its job, if it has one.
    pub job: Option<String>,
    /// When it ceased to be active: `ActiveExitTimestampMonotonic`.
    pub active_exit: u64,
    /// When its main process was started: `ExecMainStartTimestampMonotonic`.
    pub main_start: u64,
    /// Whether it has said something since it was started: `StatusText`.
    pub has_spoken: bool,
    /// When this was seen.
    pub now: u64,
    /// When systemd last read its units: `UnitsLoadTimestampMonotonic`.
    pub units_load: u64,
    /// How long systemd waits before it starts it again: `RestartUSec`.
    pub restart_usec: u64,
    /// It doesn't pass through being down then: `RestartMode=direct`.
    pub direct: bool,
    /// When the guard ceased to be active.
    pub guard_exit: u64,
    /// Its `NRestarts`, asked before all that, and after.
    pub restarts: [u32; 2],
}

impl Seen {
    /// It has a main process that may still have to do with generations.
    pub fn is_up(&self) -> bool {
        matches!(self.active_state.as_str(), "active" | "reloading" | "refreshing" | "deactivating")
    }

    /// Its main process is there, and hears what stops it. One that has just been started is ended by the signal, and would stop
    /// no generations. An older procroll, or whoever may not speak, is given [`DEAF`].
    pub fn hears(&self) -> bool {
        let is_there = match self.active_state.as_str() {
            "active" | "reloading" | "refreshing" => true,
            "activating" => !self.sub_state.starts_with("auto-restart") && self.main_start > self.active_exit,
            _ => false,
        };
        is_there && (self.has_spoken || self.now.saturating_sub(self.main_start) > DEAF)
    }

    /// It is down, whether or not it starts again.
    pub fn is_down(&self) -> bool {
        matches!(self.active_state.as_str(), "inactive" | "failed")
    }

    /// It is down, and stays so: a reload that waits comes to nothing.
    pub fn stays_down(&self) -> bool {
        self.is_down() && self.job.as_deref().is_none_or(|job| job == "reload")
    }
}

/// The name of the guard: `procroll@web.service`; that of an instance as systemd-escape(1) has it,
/// `procroll@app\x40blue.service`.
pub fn name(wrapper: &WrapperName) -> String {
    format!("procroll@{}", wrapper.to_string().replace('@', "\\x40"))
}

/// Sees to it that the guard of this wrapper is in place, after what it has to decide. `program` is the path of procroll.
///
/// # Errors
/// [`Error::UnitExists`] if its name is somebody else's.
pub async fn arm(link: &Link, wrapper: &WrapperName, program: &str) -> Result<(), Error> {
    let (name, manager) = (name(wrapper), link.manager().await?);
    for _ in 0..ATTEMPTS {
        if !link.is_loaded(&name).await? {
            // A file that systemd has left of one would be taken for somebody's unit.
            let _ = fs::remove_file(link.place().transient.join(&name));
            start(link, &name, &wrapper.to_string(), program).await?;
        }
        let mut watched = Watched::now(link.clone(), &name).await?;
        let settled = |state: &State| matches!(state.standing, Standing::Dead | Standing::Active);
        let state = watched.until(settled).await?;
        // As long as it is watched it stays loaded.
        let _ = manager.unref_unit(&name).await;
        if state.exited && link.unit(&name).await?.transient().await? {
            return Ok(());
        }
        if !state.is_over() {
            break;
        }
        let _ = manager.reset_failed_unit(&name).await;
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::UnitExists(format!("{name} is no guard, or systemd does not unload it")))
}

/// Has the guard of a wrapper go that ends. systemd does that by itself, but not while a job of
/// the wrapper waits, as a reload does for a unit that the wrapper comes after.
pub async fn dismiss(link: &Link, wrapper: &WrapperName) -> Result<(), Error> {
    let name = name(wrapper);
    if link.is_loaded(&name).await? { link.stop_unit(&name).await } else { Ok(()) }
}

async fn start(link: &Link, name: &str, wrapper: &str, program: &str) -> Result<(), Error> {
    let stop = (program, vec![program, "guard", wrapper], false);
    let once_more = (program, vec![program, "guard", "--if-it-failed", wrapper], false);
    let properties: [Property<'_>; 14] = [
        ("Description", Variant::from(format!("Stops the generations of {wrapper} with it"))),
        ("Type", Variant::from("oneshot")),
        ("RemainAfterExit", Variant::from(true)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("StopPropagatedFrom", Variant::from(vec![wrapper])),
        // On systemd 252 a restart doesn't come by the above.
        ("PartOf", Variant::from(vec![wrapper])),
        // The wrapper may belong to an early part of the boot.
        ("DefaultDependencies", Variant::from(false)),
        ("Conflicts", Variant::from(vec!["shutdown.target"])),
        ("Before", Variant::from(vec!["shutdown.target"])),
        // What becomes of the wrapper then is what counts.
        ("IgnoreOnIsolate", Variant::from(true)),
        // A wrapper may take long to start again.
        ("TimeoutStopUSec", Variant::from(u64::MAX)),
        ("StandardOutput", Variant::from("journal")),
        ("ExecStop", Variant::from(vec![stop])),
        ("ExecStopPost", Variant::from(vec![once_more])),
    ];
    link.manager().await?.start_transient_unit(name, "fail", &properties, &[]).await?;
    Ok(())
}

/// Starts the guard that is being stopped, as soon as it has been.
pub async fn restart(link: &Link, name: &str) -> Result<(), Error> {
    link.manager().await?.restart_unit(name, "replace").await?;
    Ok(())
}

/// What there is to know of a unit, in one message.
#[derive(Debug, Default, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
struct Properties {
    active_state: Option<String>,
    sub_state: Option<String>,
    job: Option<(u32, OwnedObjectPath)>,
    active_exit_timestamp_monotonic: Option<u64>,
}

/// What systemd says of a wrapper unit whose guard is being stopped.
pub async fn look(link: &Link, wrapper: &WrapperName) -> Result<Seen, Error> {
    let unit = wrapper.to_string();
    let service = link.service(&unit).await?;
    let before = service.n_restarts().await?;
    let guard_exit = properties(link, &name(wrapper)).await?.active_exit_timestamp_monotonic;
    let seen = properties(link, &unit).await?;
    let job = match seen.job {
        Some((number, path)) if number != 0 => match link.job(path).await?.job_type().await {
            Ok(job_type) => Some(job_type),
            // It is over by now, and what comes of it will be seen.
            Err(_) => Some(String::new()),
        },
        _ => None,
    };
    let (main_start, restart_usec, after) =
        tokio::try_join!(service.exec_main_start_timestamp_monotonic(), service.restart_usec(), service.n_restarts())?;
    let direct = if_there(service.restart_mode().await)?.is_some_and(|mode| mode == "direct");
    let units_load = link.manager().await?.units_load_timestamp_monotonic().await?;
    let has_spoken = !service.status_text().await?.is_empty();
    Ok(Seen {
        active_state: seen.active_state.unwrap_or_default(),
        sub_state: seen.sub_state.unwrap_or_default(),
        job,
        active_exit: seen.active_exit_timestamp_monotonic.unwrap_or_default(),
        main_start,
        has_spoken,
        now: now(),
        units_load,
        restart_usec,
        direct,
        guard_exit: guard_exit.unwrap_or_default(),
        restarts: [before, after],
    })
}

/// The time as systemd's monotonic timestamps have it.
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000 + u64::try_from(now.tv_nsec / 1000).unwrap_or_default()
}

/// What changes about a wrapper unit.
pub async fn changes(link: &Link, wrapper: &WrapperName) -> Result<Words, Error> {
    let unit = wrapper.to_string();
    let words =
        Words::about(link, unit_path(&unit), "org.freedesktop.DBus.Properties", "PropertiesChanged", None).await?;
    // systemd tells whoever holds a reference, which there is not to each unit, or subscribes to all.
    if link.manager().await?.ref_unit(&unit).await.is_err() {
        link.subscribe().await?;
    }
    Ok(words)
}

async fn properties(link: &Link, unit: &str) -> Result<Properties, Error> {
    let (systemd, interface) = (Some(SYSTEMD), Some("org.freedesktop.DBus.Properties"));
    let of = &("org.freedesktop.systemd1.Unit");
    let reply = link.connection().call_method(systemd, unit_path(unit), interface, "GetAll", of).await?;
    Ok(reply.body().deserialize()?)
}
