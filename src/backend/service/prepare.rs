//! Everything before the start: reads what a generation is to be, and refuses what is in doubt.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};

use super::Context;
use super::origin::Origin;
use crate::cli::{self, Parsed};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::roll::Generation;
use crate::settings::{Override, Settings, template};
use crate::systemd::{Link, Place, folder, program, verify, wrapper};
use crate::unit::text::{Assignment, Section};
use crate::unit::{self, Command, DropIn, Recipe, compose};

/// Why a generation was not started.
pub(super) enum NotStarted {
    /// Its name is somebody else's.
    Taken,
    /// Anything else.
    Refused(Fatal),
}

impl From<Fatal> for NotStarted {
    fn from(fatal: Fatal) -> Self {
        Self::Refused(fatal)
    }
}

/// A generation that can be started.
pub(super) struct Prepared {
    /// The files beside its unit.
    pub drop_ins: Vec<DropIn>,
    /// How long it has to stay active.
    pub settle: Duration,
}

/// Reads, checks and composes all that `generation` is to be.
pub(super) async fn prepare(context: &Context, link: &Link, generation: Generation) -> Result<Prepared, NotStarted> {
    let unit = context.unit(generation);
    let now = match &context.origin {
        Origin::Wrapper { name, .. } => Some(wrapper::read(link, name).await.or_exit(ExitStatus::UnitRefused)?),
        Origin::Terminal { .. } => None,
    };
    let settings = match (&context.origin, &now) {
        (Origin::Wrapper { program, .. }, Some(now)) => {
            same_program(&context.bus.place, program, now)?;
            let settings = wrapper_settings(now)?;
            same_base(&context.bus.place, &context.origin, &settings)?;
            settings
        }
        (origin, _) => origin.settings().clone(),
    };
    if let Some(now) = &now {
        check_sockets(context, now)?;
    }
    let overrides = verified(context, &settings).await?;
    check_command(now.as_ref(), &overrides, &settings.command)
        .map_err(|error| see(context, error))
        .or_exit(ExitStatus::CommandNotFound)?;
    let fresh = async {
        match &now {
            Some(now) => Ok(now.check_fresh(link).await.or_exit(ExitStatus::UnitRefused)?),
            None => Ok(()),
        }
    };
    let (foreign, ()) = tokio::try_join!(foreign(context, link, &unit, generation), fresh)?;

    let filling = template::Values {
        pid: std::process::id(),
        generation,
        notify_socket: &context.bus.place.notify_socket,
        unit: &unit,
    };
    let words = settings.command.iter().map(|word| template::fill(word, &filling)).collect::<Result<Vec<_>, _>>();
    let words = words.map_err(Fatal::usage)?;
    let overrides = described(&context.origin, overrides, &words);
    let command = Command { words, expand_variables: now.as_ref().is_some_and(|now| now.expands_variables) };
    let drop_ins = compose(&Recipe {
        wrapper: now.as_ref().map(|now| &now.unit),
        owner: &context.origin.owner(),
        generation,
        service_type: &settings.service_type.to_string(),
        command: &command,
        settings: &overrides,
        foreign: &foreign,
    });
    let drop_ins = drop_ins.map_err(|error| see(context, error.into())).or_exit(ExitStatus::UnitRefused)?;
    Ok(Prepared { drop_ins, settle: settings.settle })
}

/// What the wrapper's `ExecStart=` asks for. Its arguments are as systemd has them: what `%` stands for is in, what `$`
/// stands for is not.
///
/// procroll's own arguments would not do: with an `$OPTS` among them, what an application wrote into its
/// EnvironmentFile= would become options of a process that runs as root.
pub fn wrapper_settings(now: &wrapper::Now) -> Result<Settings, Fatal> {
    let (arguments, start) = (&now.arguments, now.unit.naming("ExecStart"));
    let options = arguments.iter().take_while(|argument| *argument != "--");
    if let Some(variable) = options.skip(1).find(|argument| now.expands_variables && argument.contains('$')) {
        return Err(Fatal {
            exit: ExitStatus::UnitRefused,
            error: anyhow!(
                "{start} has a variable among procroll's options: {variable}. \
                 They may come from the application's environment, so write them out"
            ),
        });
    }
    let in_unit = |fatal: Fatal| Fatal { error: fatal.error.context(start.clone()), ..fatal };
    match cli::parse(arguments.iter().map(Into::into)).map_err(in_unit)? {
        Parsed::Run(run) => run.check(None).map_err(in_unit),
        Parsed::Show(_) => Err(in_unit(Fatal::usage("it asks for help instead of running a command"))),
    }
}

/// A socket unit that is not active gives nothing to a new generation. If a running generation has its sockets, a roll
/// would lose them, and is refused. If none has, a plain unit would go without them, too: a warning.
fn check_sockets(context: &Context, now: &wrapper::Now) -> Result<(), Fatal> {
    let base = context.origin.base();
    let place = &context.bus.place;
    let generations = folder::all(place).filter(|unit| base.number(unit).is_some());
    let running: Vec<_> = generations.filter_map(|unit| folder::read_own(place, &unit)).collect();
    for socket in &now.dead_sockets {
        if running.iter().any(|text| unit::sockets(text).any(|one| one == socket)) {
            let error = anyhow!(
                "{socket} is not active, so a new generation would not get its sockets. \
                 Type {} and {}",
                place.systemctl(format!("stop {}", now.unit.name)),
                place.systemctl(format!("start {socket} {}", now.unit.name))
            );
            return Err(Fatal { exit: ExitStatus::UnitRefused, error });
        }
        tracing::warn!("{socket} is not active; {} goes without its sockets", now.unit.name);
    }
    Ok(())
}

/// A unit that runs something else by now is not rolled by guessing. An upgrade may move procroll, but not rename it.
fn same_program(place: &Place, before: &str, now: &wrapper::Now) -> Result<(), Fatal> {
    let file = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
    if file(before) == file(&now.program) {
        return Ok(());
    }
    Err(Fatal {
        exit: ExitStatus::UnitRefused,
        error: anyhow!(
            "{start} no longer runs {before} but {program}, which takes a restart. Type {restart}",
            start = now.unit.naming("ExecStart"),
            program = now.program,
            restart = place.systemctl(format!("restart {}", now.unit.name))
        ),
    })
}

/// The generations of one procroll all have one name.
fn same_base(place: &Place, origin: &Origin, settings: &Settings) -> Result<(), Fatal> {
    let Origin::Wrapper { name, .. } = origin else { return Ok(()) };
    let now = settings.unit.as_ref().unwrap_or(name.base());
    if now == origin.base() {
        return Ok(());
    }
    Err(Fatal {
        exit: ExitStatus::UnitRefused,
        error: anyhow!(
            "--unit= has changed from {} to {now}, which takes a restart. Type {}",
            origin.base(),
            place.systemctl(format!("restart {name}"))
        ),
    })
}

/// The lines that the options add, each in its section.
///
/// # Errors
/// What systemd would not take, in its own words.
pub(super) async fn verified(context: &Context, settings: &Settings) -> Result<Vec<Assignment>, Fatal> {
    let unit = context.unit(Generation::new(1));
    let verified = context.verified.get(context, &unit, &settings.overrides).await;
    verified.map_err(|error| see(context, error)).or_exit(ExitStatus::Usage)
}

/// An error about what a unit file says, with where to see that.
fn see(context: &Context, error: anyhow::Error) -> anyhow::Error {
    match &context.origin {
        Origin::Wrapper { name, .. } => {
            anyhow!("{error:#}. See {}", context.bus.place.systemctl(format!("cat {name}")))
        }
        Origin::Terminal { .. } => anyhow!("{error:#}. See \"man systemd.directives\""),
    }
}

/// A command from a terminal describes itself.
fn described(origin: &Origin, mut lines: Vec<Assignment>, words: &[String]) -> Vec<Assignment> {
    if matches!(origin, Origin::Terminal { .. }) && lines.iter().all(|line| line.key != "Description") {
        let command = words.join(" ").replace(char::is_control, "?");
        if let Ok(description) = unit::quote::value(&command) {
            lines.insert(0, Assignment::own(Section::Unit, "Description", description));
        }
    }
    lines
}

/// With these a generation sees other files than procroll does.
const OTHER_FILES: &[&str] = &[
    "BindPaths",
    "BindReadOnlyPaths",
    "ExecSearchPath",
    "ExtensionDirectories",
    "ExtensionImages",
    "MountImages",
    "RootDirectory",
    "RootImage",
    "RootMStack",
    "TemporaryFileSystem",
];

fn check_command(now: Option<&wrapper::Now>, overrides: &[Assignment], command: &[String]) -> anyhow::Result<()> {
    let elsewhere = now.is_some_and(|now| now.unit.sets_any(OTHER_FILES))
        || overrides.iter().any(|line| OTHER_FILES.contains(&line.key.as_str()));
    match command.first() {
        Some(program) if program.contains('/') && !program.starts_with('/') => {
            bail!("the command {program} is a relative path, which means nothing in a unit")
        }
        Some(program) if !elsewhere && !program.contains('$') => {
            program::find(program, program::SYSTEMD_FOLDERS.map(Into::into)).map(drop)
        }
        _ => Ok(()),
    }
}

/// The names of drop-ins to hide. A name that somebody has made settings for, or that is loaded, is taken.
async fn foreign(
    context: &Context,
    link: &Link,
    unit: &str,
    generation: Generation,
) -> Result<Vec<String>, NotStarted> {
    let manager = link.manager().await.or_exit(ExitStatus::Internal)?;
    let (loaded, unit_path) = tokio::join!(link.is_loaded(unit), manager.unit_path());
    if loaded.map_err(|error| Fatal { exit: error.exit(), error: error.into() })? {
        return Err(NotStarted::Taken);
    }
    let unit_path = unit_path.context("can't ask for systemd's folders").or_exit(ExitStatus::Internal)?;
    let base = context.origin.base();
    let found = folder::foreign(&context.bus.place, &unit_path, base.as_str(), &generation.to_string());
    if let Some(folder) = found.stronger {
        let error = anyhow!(
            "what is in {folder} would apply to {unit} as well, since systemd gives that folder precedence. \
             Move it to a folder of the same name in /etc/systemd/system",
            folder = folder.display()
        );
        return Err(Fatal { exit: ExitStatus::UnitRefused, error }.into());
    }
    match found.exact {
        None => Ok(found.shared),
        Some(path) => {
            tracing::info!("skipping the name {unit}: there is {}", path.display());
            Err(NotStarted::Taken)
        }
    }
}

/// Options that systemd has accepted, so that it needn't be asked at each roll.
#[derive(Debug, Default)]
pub(super) struct Verified(tokio::sync::Mutex<Option<(Vec<Override>, Vec<Assignment>)>>);

impl Verified {
    async fn get(&self, context: &Context, unit: &str, overrides: &[Override]) -> anyhow::Result<Vec<Assignment>> {
        let mut last = self.0.lock().await;
        match &*last {
            Some((known, lines)) if known == overrides => Ok(lines.clone()),
            _ => {
                let lines = verify::verify(&context.bus.place, &context.origin.owner(), unit, overrides).await?;
                ensure!(lines.len() == overrides.len(), "systemd-analyze verify was misread");
                *last = Some((overrides.to_vec(), lines.clone()));
                Ok(lines)
            }
        }
    }
}
