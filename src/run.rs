//! `procroll run`: finds out where it runs, and puts the parts together.

pub mod direct;
pub mod own_unit;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use tokio::time::{sleep, timeout};

use crate::backend::service::{Origin, ServiceBackend, active_base, clear_away, refuse_taken, wrapper_settings};
use crate::check::{self, Facts, Held, Level, Report};
use crate::cli::{Caller, Run};
use crate::control::{self, Control};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::guard;
use crate::log::{self, About};
use crate::manager::{Manager, Signals, status};
use crate::notify::upstream::{Nobody, Systemd};
use crate::notify::{self, Word};
use crate::privileges;
use crate::reexec::{self, Reexec};
use crate::roll::{Exit, Inherited};
use crate::settings::{BaseName, Settings, WrapperName};
use crate::survey;
use crate::systemd::error::is_about_the_connection;
use crate::systemd::wrapper::{self, Interrupted, Now, Own, Seen};
use crate::systemd::{self, Bus, Link, Place, folder, place, program};
use crate::unit;

/// Runs and rolls generations until it is told to stop or none serves any more. `run` is what the command line says, or why
/// it can't be understood.
///
/// # Errors
/// Whatever keeps it from starting the first generation.
pub async fn run(
    run: Result<Box<Run>, Fatal>,
    caller: &Caller,
    place: Place,
    mut signals: Signals,
) -> Result<Exit, Fatal> {
    privileges::step_back()?;
    let bus = Arc::new(Bus::new(place));
    let anew = reexec::was_executed_anew();
    reexec::hear_stops();
    let patience = Patience::new(&bus);
    let found = patience.insist(&mut signals, async || {
        let link = bus.connect().await?;
        Ok((wrapper::own(&link).await?, link))
    });
    let Some((own, link)) = found.await? else { return Ok(Exit::Stopped) };
    // In a wrapper the arguments hold what the application's environment made of them: it is the unit that counts.
    let Some(own) = own else {
        let run = run?;
        let settings = run.check(Some(caller))?;
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
        let signals = signals.passing_on().or_exit(ExitStatus::Internal)?;
        let manager = Manager::new(backend, Nobody::default(), None);
        return Ok(manager.run(Vec::new(), signals, Control::none()).await);
    };
    let own = Own { program: reexec::own_program(&own.program), ..own };
    let mut signals = signals.of_unit(&own.kill_signals, own.reload_signal).or_exit(ExitStatus::Internal)?;
    // Those that came while procroll was executed anew.
    reexec::hear();
    if !anew {
        // A guard waits for this: from now on no signal ends it unheard.
        notify::tell(&[Word::Status("Looks for generations".to_owned())]);
    }
    let mut found = Some(link);
    let prepared = patience.insist(&mut signals, async || {
        // If systemd is no longer at the other end of it, it may be at that of a new one.
        let link = match found.take() {
            Some(link) => link,
            None => bus.connect().await?,
        };
        prepare(&bus, &link, &own).await
    });
    let prepared = prepared.await;
    let prepared = prepared.inspect_err(|fatal| {
        notify::tell(&[Word::Status(status::one_line(&fatal.to_string()))]);
    });
    let Some((origin, watchdog)) = prepared? else { return Ok(Exit::Stopped) };
    let reexec = Reexec::new(caller, &own.program).or_exit(ExitStatus::Internal)?;
    let mut backend = ServiceBackend::new(Arc::clone(&bus), origin);
    let left = patience.insist(&mut signals, async || Ok(backend.survey().await?)).await?;
    let Some(left) = left else { return Ok(Exit::Stopped) };
    let interrupted = interrupted(&backend, &left).await;
    // With Type=notify-reload systemd asks by a signal, and hears what came of it.
    let control = match own.reload_signal {
        Some(_) => Control::none(),
        None => listen(&bus.place, &own.id, !left.is_empty())?,
    };
    let manager = Manager::new(backend, Systemd::new(bus, &own, interrupted), watchdog).with_reexec(reexec, anew);
    Ok(manager.run(left, signals, control).await)
}

/// What the marks of what was `left` say of reloads under way.
async fn interrupted(backend: &ServiceBackend, left: &[Inherited]) -> Interrupted {
    let present = backend.digest().await;
    let mark = |one: &Inherited| Some((one.generation, backend.mark(one.generation)?));
    let marks: Vec<_> = left.iter().filter_map(mark).collect();
    // A candidate that has not settled may be of a roll that nobody waits for.
    let (serving, _) = Inherited::who_serves(left);
    let serves = |text: &str| unit::digest(text) == present;
    Interrupted {
        jobs: marks.iter().filter_map(|(_, text)| unit::job(text)).collect(),
        in_vain: marks
            .iter()
            .filter(|(_, text)| unit::is_again(text))
            .filter_map(|(_, text)| unit::job(text))
            .collect(),
        in_doubt: backend.is_reload_noted(left)
            || !marks.iter().any(|(generation, text)| Some(*generation) == serving && serves(text)),
    }
}

/// Listens for whoever asks for rolls. What runs already is worth more than that.
fn listen(place: &Arc<Place>, unit: &str, takes_over: bool) -> Result<Control, Fatal> {
    let fatal = match Control::listen(place, unit) {
        Ok(control) => return Ok(control),
        Err(error) => anyhow!(error).context(format!("can't listen in {}", place.control.display())),
    };
    if !takes_over {
        return Err(Fatal { exit: ExitStatus::Internal, error: fatal });
    }
    log::warn(About::NotDone, format_args!("{fatal:#}. It is tried again, and until then a reload fails"));
    Ok(Control::listen_later(Arc::clone(place), unit.to_owned()))
}

/// How much longer the unit's manager is told to wait while nothing can be decided, and how often.
const EXTEND_BY: Duration = Duration::from_secs(30);
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// How long clearing away what has stopped may take.
const CLEARED_WITHIN: Duration = Duration::from_secs(10);
/// How soon those are asked to stop again that do not.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What procroll does while systemd can't be reached and nothing can be decided.
struct Patience {
    bus: Arc<Bus>,
    /// What a manager has started this process in. If it ended, what serves would be stopped, at last.
    unit: Option<String>,
    /// An earlier procroll has left something. What is not there can't be lost: systemd's own timeout holds for a first start.
    takes_over: bool,
}

impl Patience {
    fn new(bus: &Arc<Bus>) -> Self {
        let (unit, place) = (place::likely_own_service(), &bus.place);
        let owned = |unit: &str| folder::all(place).any(|one| folder::owner(place, &one).as_deref() == Some(unit));
        let takes_over = unit.as_deref().is_some_and(owned);
        Self { bus: Arc::clone(bus), unit, takes_over }
    }

    /// Does what needs systemd, again and again in a unit while it can't be reached. None if somebody has asked for a stop
    /// meanwhile.
    async fn insist<T>(
        &self,
        signals: &mut Signals,
        mut what: impl AsyncFnMut() -> Result<T, Fatal>,
    ) -> Result<Option<T>, Fatal> {
        let mut pause = Duration::from_millis(50);
        let mut told = false;
        loop {
            let done = {
                let mut attempt = pin!(what());
                loop {
                    self.say_alive();
                    match signals.unless_stopped(timeout(ALIVE_EVERY, attempt.as_mut())).await {
                        None => break None,
                        Some(Ok(done)) => break Some(done),
                        Some(Err(_)) => {}
                    }
                }
            };
            // Only now: what was left half done may have kept the bus to itself.
            let Some(done) = done else { return Ok(self.leave().await) };
            let fatal = match done {
                Err(fatal) if self.unit.is_some() && is_about_the_connection(&fatal.error) => fatal,
                done => return done.map(Some),
            };
            if !told {
                tracing::warn!("{fatal}. It is tried again for as long as it takes");
                notify::tell(&[Word::Status(status::one_line(&format!("Waiting: {fatal}")))]);
                told = true;
            }
            if signals.unless_stopped(sleep(pause)).await.is_none() {
                return Ok(self.leave().await);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tells the unit's manager to wait, where that keeps what serves.
    fn say_alive(&self) {
        if self.takes_over {
            notify::tell(&[Word::Watchdog, Word::Extend(EXTEND_BY)]);
        }
    }

    /// Somebody has asked for a stop. A guard that has seen the unit start again no longer looks after that.
    async fn leave<T>(&self) -> Option<T> {
        if let Some(unit) = &self.unit {
            // Whoever waits for the stop is not told that it is over before it is.
            let mut stopped = pin!(self.stop_generations(unit));
            loop {
                self.say_alive();
                if timeout(ALIVE_EVERY, stopped.as_mut()).await.is_ok() {
                    break;
                }
            }
            control::clear(&self.bus.place, unit);
            if let Err(error) = folder::remove_scratch(&self.bus.place, unit) {
                tracing::warn!("can't remove what was left of a start: {error}");
            }
        }
        None
    }

    /// Returns when all generations of the unit have stopped.
    async fn stop_generations(&self, unit: &str) {
        let generations = loop {
            let generations = guard::stop_generations(&self.bus, unit).await;
            match guard::have_stopped(&self.bus, &generations).await {
                Ok(true) => break generations,
                Ok(false) => sleep(ASK_AGAIN).await,
                Err(error) => {
                    return tracing::warn!("can't tell when {} have stopped: {error}", generations.join(", "));
                }
            }
        };
        // A unit that is still listed is not worth keeping anybody waiting.
        let _ = timeout(CLEARED_WITHIN, self.clear_away(unit, &generations)).await;
    }

    async fn clear_away(&self, unit: &str, generations: &[String]) -> Result<(), systemd::Error> {
        let link = self.bus.connect().await?;
        for generation in generations {
            if let Err(error) = clear_away(&link, generation, unit).await {
                tracing::debug!("can't clear {generation} away: {error}");
            }
        }
        Ok(())
    }
}

/// What the wrapper unit `own` asks for, and how long its watchdog waits.
async fn prepare(bus: &Bus, link: &Link, own: &Own) -> Result<(Origin, Option<Duration>), Fatal> {
    need_root(&bus.place, Some(own))?;
    let origin = wrapper_origin(&bus.place, link, own).await?;
    let watchdog = wrapper::watchdog_usec(link, &own.id).await.or_exit(ExitStatus::Internal)?;
    Ok((origin, Some(watchdog).filter(|usec| *usec != 0).map(Duration::from_micros)))
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

/// Has a guard look after the generations where a stop of the wrapper could reach them only together with a crash of
/// procroll. What it had to decide has been decided.
async fn guarded(link: &Link, name: &WrapperName, program: &str) -> Result<bool, Fatal> {
    if survey::host(Some(link), link.place().user.is_some()).await?.since(check::DIRECT) {
        return Ok(false);
    }
    match systemd::guard::arm(link, name, program).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_about_the_connection() => Err(error.into()),
        Err(error) => {
            let why = format_args!(
                "{name} gets no {}, so a crash of procroll stops what serves: {error}. When that name is free, type {}, \
                 and have it reloaded",
                systemd::guard::name(name),
                link.place().systemctl(format!("kill --kill-whom=main --signal=RTMIN+25 {name}"))
            );
            log::warn(About::Lacks, why);
            Ok(false)
        }
    }
}

/// What the wrapper unit itself asks for.
async fn wrapper_origin(place: &Place, link: &Link, own: &Own) -> Result<Origin, Fatal> {
    let refuse = |why: String| Err(Fatal { exit: ExitStatus::UnitRefused, error: anyhow!(why) });
    let id = &own.id;
    let name: WrapperName = match id.parse() {
        Ok(name) => name,
        Err(error) => return refuse(format!("{id} can't be rolled: its name can't be used for generations: {error}")),
    };
    let guarded = guarded(link, &name, &own.program).await?;
    let left = active_base(place, link, id).await.or_exit(ExitStatus::Internal)?;
    let asked = what_it_asks_for(place, link, &name).await;
    let Some(base) = left else {
        let (now, settings) = asked?;
        return Ok(Origin::Wrapper { name, guarded, seen: now.seen(), program: now.program, settings });
    };
    match asked {
        Ok((now, mut settings)) => {
            if base != *settings.unit.as_ref().unwrap_or(name.base()) {
                let names = base.pattern();
                let why = format_args!("{id} has generations named {names} already, so its --unit= takes a restart");
                log::warn(About::Lacks, why);
                settings.unit = Some(base);
            }
            Ok(Origin::Wrapper { name, guarded, seen: now.seen(), program: now.program, settings })
        }
        Err(fatal) if is_about_the_connection(&fatal.error) => Err(fatal),
        // What serves needs nothing of the unit. A roll is refused for as long as this is so.
        Err(fatal) => {
            log::warn(About::Lacks, format_args!("{fatal}. What runs of {} is kept as it is", base.pattern()));
            let (program, settings) = (own.program.clone(), Settings::unknown(base));
            Ok(Origin::Wrapper { name, guarded, seen: Seen::default(), program, settings })
        }
    }
}

/// Reads the wrapper unit, and refuses one that can't roll.
async fn what_it_asks_for(place: &Place, link: &Link, name: &WrapperName) -> Result<(Now, Settings), Fatal> {
    let now = wrapper::read(link, name).await?;
    let settings = wrapper_settings(&now)?;
    heed(&check::judge(&facts(link, &now).await?, &survey::host(Some(link), place.user.is_some()).await?))?;
    Ok((now, settings))
}

/// What "procroll check" would go by, had it been asked about this wrapper. Whether its name is taken is asked apart.
async fn facts(link: &Link, now: &wrapper::Now) -> Result<Facts, Fatal> {
    let (unit, sockets) = (&now.unit, [now.unit.sockets.as_slice(), &now.dead_sockets].concat());
    let socket = unit.name.socket();
    let exists = link.manager().await.or_exit(ExitStatus::Internal)?.get_unit_file_state(&socket).await.is_ok();
    Ok(Facts {
        name: unit.name.to_string(),
        sources: unit.sources.clone(),
        arguments: Some(now.arguments.clone()),
        missed_socket: (exists && !sockets.contains(&socket)).then_some(socket),
        sockets,
        template: false,
        written: Vec::new(),
        restart_due: false,
        held: Held::NotAsked,
    })
}

/// Says what the wrapper lacks for all of procroll's guarantees to hold, and refuses one that can't roll.
fn heed(report: &Report) -> Result<(), Fatal> {
    let (id, findings) = (&report.unit, &report.findings);
    if let Some(finding) = findings.iter().find(|finding| finding.level == Level::No) {
        let error = anyhow!("{id} can't be rolled: it {}", check::text::sentence(finding));
        return Err(Fatal { exit: ExitStatus::UnitRefused, error });
    }
    for finding in findings.iter().filter(|finding| finding.level < Level::Note) {
        log::warn(About::Lacks, format_args!("{id} {}", check::text::sentence(finding)));
    }
    Ok(())
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
