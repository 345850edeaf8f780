//! `procroll run`: finds out where it runs, and puts the parts together.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};

use crate::backend::service::{Origin, ServiceBackend, active_base, refuse_taken, wrapper_settings};
use crate::cli::{Caller, Run};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::manager::{Manager, Signals, status};
use crate::notify::upstream::{Nobody, Systemd};
use crate::notify::{Upstream, Word};
use crate::privileges;
use crate::roll::Exit;
use crate::settings::{BadName, BaseName, Settings, SignalName, WrapperName};
use crate::systemd::wrapper::{self, Own};
use crate::systemd::{Bus, Error, Link, Place, mounts, program};
use crate::unit;

/// Runs and rolls generations until it is told to stop or none serves any more.
///
/// # Errors
/// Whatever keeps it from starting the first generation.
pub async fn run(run: &Run, caller: &Caller, place: Place, signals: Signals) -> Result<Exit, Fatal> {
    let settings = run.check(Some(caller))?;
    if rustix::process::geteuid().is_root() {
        mounts::enter_systemds().map_err(no_view)?;
        privileges::drop().context("can't give up privileges").or_exit(ExitStatus::Internal)?;
    }
    let bus = Arc::new(Bus::new(place));
    let link = bus.connect().await.map_err(unreachable)?;
    let own = wrapper::own(&link).await.map_err(unreachable)?;
    let Some(own) = own else {
        if run.user && bus.place.user.is_none() {
            return Err(Fatal::usage("--user: PID 1 has started this process, so it is no user's"));
        }
        need_root(&bus.place, None)?;
        let base = settings.unit.clone().map_or_else(made_up_name, Ok)?;
        let settings = Settings { command: resolve(settings.command, caller)?, ..settings };
        let origin = Origin::Terminal { base, settings };
        refuse_taken(&bus.place, &link, &origin).await?;
        let names = origin.base().pattern();
        let backend = ServiceBackend::new(bus, origin);
        backend.verify().await?;
        drop(link);
        tracing::info!("Generations are named {names}");
        return Manager::new(backend, Nobody, None).run(signals).await.or_exit(ExitStatus::Internal);
    };
    let mut upstream = Systemd::new(Arc::clone(&bus), own.id.clone());
    match prepare(&bus, &link, &own).await {
        Ok((origin, watchdog)) => {
            drop(link);
            let signals = signals.of_unit(&own.kill_signals, own.reload_signal).or_exit(ExitStatus::Internal)?;
            let backend = ServiceBackend::new(bus, origin);
            Manager::new(backend, upstream, watchdog).run(signals).await.or_exit(ExitStatus::Internal)
        }
        Err(fatal) => {
            upstream.tell(&[Word::Status(status::one_line(&fatal.to_string()))]);
            Err(fatal)
        }
    }
}

/// What the wrapper unit `own` asks for, and how long its watchdog waits.
async fn prepare(bus: &Bus, link: &Link, own: &Own) -> Result<(Origin, Option<Duration>), Fatal> {
    need_root(&bus.place, Some(own))?;
    let origin = wrapper_origin(&bus.place, link, own).await?;
    refuse_taken(&bus.place, link, &origin).await?;
    let watchdog = wrapper::watchdog_usec(link, &own.id).await.or_exit(ExitStatus::Internal)?;
    Ok((origin, Some(watchdog).filter(|usec| *usec != 0).map(Duration::from_micros)))
}

fn unreachable(error: Error) -> Fatal {
    let exit = error.exit();
    let error = match (&error, sd_notify::booted()) {
        (Error::Unreachable(_), Ok(false)) => anyhow!("no systemd runs here, so there is nobody to start generations"),
        _ => error.into(),
    };
    Fatal { exit, error }
}

fn no_view(error: io::Error) -> Fatal {
    let way_out = match error.kind() {
        io::ErrorKind::NotFound => "Give RootDirectory= or RootImage= to the generations alone: -p RootDirectory=…",
        _ => "Put a + in front of its command: ExecStart=+/usr/bin/procroll …",
    };
    let error = anyhow!("procroll can't get at the files that systemd sees: {error}. {way_out}");
    Fatal { exit: ExitStatus::NotAllowed, error }
}

/// Generations have their files in folders that only root can write to.
fn need_root(place: &Place, own: Option<&Own>) -> Result<(), Fatal> {
    if place.user.is_some() || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let error = match own {
        Some(own) => anyhow!(
            "not allowed: procroll has to be root to start generations, and {} runs it as another user. \
             Put a + in front of its command: ExecStart=+/usr/bin/procroll …",
            own.id
        ),
        None => anyhow!("not allowed: procroll has to be root to start generations. Try it with sudo, or with --user"),
    };
    Err(Fatal { exit: ExitStatus::NotAllowed, error })
}

/// What the wrapper unit itself asks for.
async fn wrapper_origin(place: &Place, link: &Link, own: &Own) -> Result<Origin, Fatal> {
    let refuse = |why: String| Err(Fatal { exit: ExitStatus::UnitRefused, error: anyhow!(why) });
    let id = &own.id;
    let name: WrapperName = match id.parse() {
        Ok(name) => name,
        Err(BadName::Instance) => {
            return refuse(format!(
                "{id} can't be rolled: it is an instance, which can't have instances of its own. \
                 Make it a unit of its own, such as {}",
                id.replace('@', "-")
            ));
        }
        Err(error) => return refuse(format!("{id} can't be rolled: its name can't be used for generations: {error}")),
    };
    if let unfit @ ("oneshot" | "forking" | "dbus") = own.service_type.as_str() {
        return refuse(format!("{id} can't be rolled: it has Type={unfit}. Make it Type=notify-reload"));
    }
    if let Some(signal) = own.reload_signal.filter(|signal| own.kill_signals.contains(signal)) {
        let signal = SignalName::of(signal);
        return refuse(format!(
            "{id} can't be rolled: {signal} is its KillSignal= and its ReloadSignal= as well. Choose another for one of them"
        ));
    }
    let now = wrapper::read(link, &name).await.or_exit(ExitStatus::UnitRefused)?;
    now.check_fresh(link).await.or_exit(ExitStatus::UnitRefused)?;
    let mut settings = wrapper_settings(&now)?;
    if let Some(base) = active_base(place, link, id).await.or_exit(ExitStatus::Internal)?
        && base != *settings.unit.as_ref().unwrap_or(name.base())
    {
        tracing::warn!("{id} has generations named {} already, so its --unit= takes a restart", base.pattern());
        settings.unit = Some(base);
    }
    advise(own, &now.unit);
    let socket = format!("{}.socket", name.base());
    let knows = now.unit.sockets.contains(&socket) || now.dead_sockets.contains(&socket);
    if !knows && link.manager().await.or_exit(ExitStatus::Internal)?.get_unit_file_state(&socket).await.is_ok() {
        tracing::warn!(
            "there is a {socket}, but systemd had not loaded it when {id} was started, so generations go without it. \
             Give {id} Requires={socket} and After={socket}"
        );
    }
    Ok(Origin::Wrapper { name, program: now.program, settings })
}

/// Says what the wrapper lacks for all of procroll's guarantees to hold.
fn advise(own: &Own, unit: &unit::Wrapper) {
    let id = &own.id;
    if own.service_type != "notify-reload" {
        tracing::warn!(
            "{id} has Type={}, with which \"systemctl reload\" can't roll it. Make it Type=notify-reload",
            own.service_type
        );
    }
    match (own.restart.as_str(), own.restart_mode.as_deref()) {
        ("no", _) => tracing::warn!(
            "{id} has no Restart=, so nothing starts it again if procroll or the command fails. \
             Give it Restart=on-failure and RestartMode=direct"
        ),
        (_, Some("direct")) => {}
        _ => tracing::warn!(
            "{id} has no RestartMode=direct, so a crash of procroll would stop the running generation as well"
        ),
    }
    if unit.sets_any(&["ExecReload"]) {
        tracing::warn!(
            "{id} has an ExecReload=, which \"systemctl reload\" runs beside the roll. Empty it: ExecReload="
        );
    }
    if unit.sets_any(&["ExecStopPost"]) {
        tracing::warn!(
            "{id} has an ExecStopPost=, with which a crash of procroll would stop the running generation as well. \
             Do without it"
        );
    }
    if !unit.preserves_runtime_directory() {
        tracing::warn!(
            "{id} has no RuntimeDirectoryPreserve=restart, so a crash of procroll would remove the running generation's \
             RuntimeDirectory=. Give it that"
        );
    }
}

/// The command with its program found where the caller would find it, as systemd-run does it.
fn resolve(mut command: Vec<String>, caller: &Caller) -> Result<Vec<String>, Fatal> {
    let Some(program) = command.first_mut() else { return Ok(command) };
    let path = caller.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let found = program::find(program, std::env::split_paths(&path.unwrap_or_default()))
        .and_then(|path| std::path::absolute(&path).context("the current directory is gone"))
        .and_then(|path| path.into_os_string().into_string().map_err(|path| anyhow!("the path {path:?} is not UTF-8")))
        .or_exit(ExitStatus::CommandNotFound)?;
    *program = found;
    Ok(command)
}

/// A name for a caller who gave none, that no other has: as systemd-run does it, from what is told apart by the kernel.
fn made_up_name() -> Result<BaseName, Fatal> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("run-p{}-i{}", std::process::id(), since.as_micros());
    name.parse().or_exit(ExitStatus::Internal)
}
