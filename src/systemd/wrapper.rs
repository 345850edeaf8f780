//! The wrapper unit that procroll runs in: whether there is one, what it says now, and its reload job.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Error, Link, Place};
use crate::settings::WrapperName;
use crate::unit::{Source, Wrapper};

/// The wrapper as it was when procroll began.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its unit name, as systemd has it.
    pub id: String,
    /// `Type=`
    pub service_type: String,
    /// `Restart=`
    pub restart: String,
    /// `RestartMode=`; none where systemd has no such thing.
    pub restart_mode: Option<String>,
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
    let (service_type, restart, kill_signal, restart_kill_signal) = tokio::try_join!(
        service.service_type(),
        service.restart(),
        service.kill_signal(),
        service.restart_kill_signal()
    )?;
    let (restart_mode, reload_signal) = tokio::join!(service.restart_mode(), service.reload_signal());
    Ok(Some(Own {
        id,
        restart,
        restart_mode: restart_mode.ok(),
        kill_signals: [kill_signal, restart_kill_signal],
        reload_signal: reload_signal.ok().filter(|_| service_type == "notify-reload"),
        service_type,
    }))
}

/// How often the wrapper wants to hear `WATCHDOG=1`, in µs; 0 for never.
pub async fn watchdog_usec(link: &Link, id: &str) -> Result<u64, Error> {
    // systemd says infinity for a watchdog that was switched off.
    let usec = link.service(id).await?.watchdog_usec().await?;
    Ok(if usec == u64::MAX { 0 } else { usec })
}

/// Reads the wrapper's unit: what systemd has loaded, and the same text from the same files. [`Now::check_fresh`] has to
/// follow.
///
/// # Errors
/// If there is doubt that the files say what systemd has loaded, with the next command to type.
pub async fn read(link: &Link, name: &WrapperName) -> Result<Now> {
    let id = name.to_string();
    let (unit, service) = (link.unit(&id).await?, link.service(&id).await?);
    // All at once: each way there and back is time that somebody waits for.
    let manager = link.manager().await?;
    let (read_at, load_state, fragment, drop_ins, triggers, commands, user, group, dynamic) = tokio::try_join!(
        manager.units_load_timestamp_monotonic(),
        unit.load_state(),
        unit.fragment_path(),
        unit.drop_in_paths(),
        unit.triggered_by(),
        service.exec_start_ex(),
        service.user(),
        service.group(),
        service.dynamic_user()
    )?;
    ensure!(load_state == "loaded", "{id} is {load_state}. See {}", link.place().systemctl(format!("status {id}")));
    ensure!(!fragment.is_empty(), "{id} has no unit file");
    let [(program, arguments, flags, ..)] = commands.as_slice() else {
        bail!("{id} has {} ExecStart= commands where procroll needs to be the only one", commands.len());
    };

    let mut sources = vec![read_source(&fragment, Mask::Refused)?];
    for drop_in in &drop_ins {
        sources.push(read_source(drop_in, Mask::Empty)?);
    }
    let sockets: Vec<_> = triggers.into_iter().filter(|trigger| trigger.ends_with(".socket")).collect();
    let mut wrapper = Wrapper { name: name.clone(), sources, sockets };
    let mut dead_sockets = Vec::new();
    let mut live_sockets = Vec::new();
    for socket in std::mem::take(&mut wrapper.sockets) {
        let state = link.unit(&socket).await?.active_state().await?;
        if state == "active" { live_sockets.push(socket) } else { dead_sockets.push(socket) }
    }
    wrapper.sockets = live_sockets;
    Ok(Now {
        unit: wrapper,
        program: program.clone(),
        arguments: arguments.clone(),
        expands_variables: !flags.iter().any(|flag| flag == "no-env-expand"),
        dead_sockets,
        read_at,
        identity: (user, group, dynamic),
    })
}

impl Now {
    /// To be asked after [`read`]: whether the files are those that systemd has read, and no daemon-reload came between
    /// what systemd was asked and what the files were.
    pub async fn check_fresh(&self, link: &Link) -> Result<()> {
        let (id, manager) = (self.unit.name.to_string(), link.manager().await?);
        let unit = link.unit(&id).await?;
        let (stale, read_at) = tokio::try_join!(unit.need_daemon_reload(), manager.units_load_timestamp_monotonic())?;
        ensure!(
            !stale,
            "{id} has changed on disk since systemd read it. Type {} and try again",
            link.place().systemctl("daemon-reload")
        );
        ensure!(read_at == self.read_at, "systemd has read {id} anew meanwhile. Try again");
        let (user, group, dynamic) = &self.identity;
        same_identity(link.place(), &self.unit, user, group, *dynamic)
    }
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
    ensure!(metadata.is_file(), "{path} is not a file");
    let bytes = fs::read(&real).with_context(|| format!("can't read {path}"))?;
    let real = real.to_str().with_context(|| format!("the path of {path} is not UTF-8"))?;
    Ok(Source::parse(real, &bytes)?)
}

/// systemd doesn't notice a file that was replaced by one with an older date. Who a generation would run as is compared
/// with what it has loaded.
fn same_identity(place: &Place, wrapper: &Wrapper, user: &str, group: &str, dynamic: bool) -> Result<()> {
    let (id, reload) = (&wrapper.name, place.systemctl("daemon-reload"));
    for (key, loaded) in [("User", user), ("Group", group)] {
        let written = wrapper.service_value(key).map(|one| wrapper.specifiers().resolve(one)).transpose()?;
        let written = written.unwrap_or_default();
        // What a remaining specifier stands for is systemd's to know, and a dynamic user's name its to choose.
        let systemds = written.contains('%') || dynamic && written.is_empty();
        ensure!(
            written == loaded || systemds,
            "the files of {id} say {key}={written}, but systemd has loaded {key}={loaded}. \
             Type {reload} and try again"
        );
    }
    ensure!(
        wrapper.service_flag("DynamicUser") == dynamic,
        "the files of {id} and what systemd has loaded differ in DynamicUser=. \
         Type {reload} and try again"
    );
    Ok(())
}

/// Makes the `systemctl reload` that waits for this wrapper fail. There is no notification for that; but a service may
/// cancel its own reload job.
///
/// A job that is waiting is another reload that was asked for meanwhile: it gets a roll of its own, and stays.
pub async fn cancel_reload_job(link: &Link, id: &str) -> Result<(), Error> {
    let (job, path) = link.unit(id).await?.job().await?;
    if job == 0 {
        return Ok(());
    }
    let proxy = link.job(path).await?;
    // It may be over by now, and then there is nobody to tell.
    let Ok((job_type, state)) = tokio::try_join!(proxy.job_type(), proxy.state()) else { return Ok(()) };
    if job_type == "reload" && state == "running" {
        let _ = link.manager().await?.cancel_job(job).await;
    }
    Ok(())
}
