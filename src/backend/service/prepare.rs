//! Everything before the start: reads what a generation is to be, and refuses what is in doubt.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};

use super::Context;
use super::origin::{Origin, refuse_taken};
use crate::check;
use crate::cli;
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::log::{self, About};
use crate::roll::{Generation, Pace};
use crate::settings::{Override, Settings, Strategy, template};
use crate::systemd::{Link, Place, folder, program, verify, wrapper};
use crate::unit::text::{Assignment, Section};
use crate::unit::{self, Command, DropIn, OWN_DROP_IN, Recipe, compose};

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
    /// What its unit says of rolls.
    pub pace: Pace,
    /// Whether others may live beside it.
    pub strategy: Strategy,
}

/// Reads, checks and composes all that `generation` is to be.
pub(super) async fn prepare(context: &Context, link: &Link, generation: Generation) -> Result<Prepared, NotStarted> {
    let unit = context.unit(generation);
    let now = match &context.origin {
        Origin::Wrapper { name, .. } => Some(wrapper::read(link, name).await?),
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
    let unchanged = async {
        if let (Origin::Wrapper { seen, .. }, Some(now)) = (&context.origin, &now) {
            seen.check(now, &context.bus.place).await?;
        }
        Ok(())
    };
    let free = async { Ok(refuse_taken(&context.bus.place, link, &context.origin).await?) };
    let (foreign, (), ()) = tokio::try_join!(foreign(context, link, &unit, generation), unchanged, free)?;

    let filling = values(context, generation, &unit);
    let words = settings.command.iter().map(|word| template::fill(word, &filling)).collect::<Result<Vec<_>, _>>();
    let words = words.map_err(Fatal::usage)?;
    let overrides = described(&context.origin, overrides, &words);
    let command = Command { words, expand_variables: now.as_ref().is_some_and(|now| now.expands_variables) };
    let marks = unit::again::marks(settings.pace, &settings.command);
    let marks = marks.map_err(|error| see(context, error.into())).or_exit(ExitStatus::UnitRefused)?;
    let drop_ins = compose(&Recipe {
        wrapper: now.as_ref().map(|now| &now.unit),
        owner: &context.origin.owner(),
        tied: !matches!(context.origin, Origin::Wrapper { guarded: true, .. }),
        unit: &unit,
        job: now.as_ref().map_or(0, |now| now.job),
        marks: &marks,
        service_type: &settings.service_type.to_string(),
        command: &command,
        settings: &overrides,
        foreign: &foreign,
    });
    let drop_ins = drop_ins.map_err(|error| see(context, error.into())).or_exit(ExitStatus::UnitRefused)?;
    Ok(Prepared { drop_ins, pace: settings.pace, strategy: settings.strategy })
}

/// Composes `generation` of what is kept of another one, whatever the wrapper's unit says by now.
pub(super) async fn prepare_again(
    context: &Context,
    link: &Link,
    generation: Generation,
    of: Generation,
) -> Result<Prepared, NotStarted> {
    let (unit, of_unit) = (context.unit(generation), context.unit(of));
    let kept = context.kept(of).with_context(|| format!("nothing is known of what {of_unit} ran"));
    let kept = kept.or_exit(ExitStatus::Internal)?;
    let job = match &context.origin {
        Origin::Wrapper { name, .. } => wrapper::job(link, &name.to_string()).await.map_err(Fatal::from)?,
        Origin::Terminal { .. } => 0,
    };
    let drop_ins = unit::again(
        &kept,
        &unit::again::New {
            owner: &context.origin.owner(),
            unit: &unit,
            of: &of_unit,
            job,
            values: values(context, generation, &unit),
            foreign: &foreign(context, link, &unit, generation).await?,
        },
    );
    let drop_ins = drop_ins.or_exit(ExitStatus::Internal)?;
    let pace = drop_ins.iter().find(|file| file.name == OWN_DROP_IN).and_then(|own| unit::pace(&own.text));
    Ok(Prepared { drop_ins, pace: pace.unwrap_or(context.origin.settings().pace), strategy: Strategy::Handover })
}

fn values<'a>(context: &'a Context, generation: Generation, unit: &'a str) -> template::Values<'a> {
    let notify_socket = &context.bus.place.notify_socket;
    template::Values { pid: std::process::id(), generation, notify_socket, unit }
}

/// What the wrapper's `ExecStart=` asks for.
pub fn wrapper_settings(now: &wrapper::Now) -> Result<Settings, Fatal> {
    not_through_another(now)?;
    let start = now.unit.sources.naming("ExecStart", &now.unit.name);
    cli::in_unit(&now.arguments, now.expands_variables)
        .map_err(|fatal| Fatal { error: fatal.error.context(start), ..fatal })
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
        let why = format_args!("{socket} is not active; {} goes without its sockets", now.unit.name);
        log::warn(About::Lacks, why);
    }
    Ok(())
}

/// A unit that runs something else by now is not rolled by guessing. An upgrade may move procroll, but not rename it.
fn same_program(place: &Place, before: &str, now: &wrapper::Now) -> Result<(), Fatal> {
    let file = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
    if file(before) == file(&now.program) {
        return Ok(());
    }
    // After the restart that is advised below nothing would serve.
    not_through_another(now)?;
    Err(Fatal {
        exit: ExitStatus::UnitRefused,
        error: anyhow!(
            "{start} no longer runs {before} but {program}, which takes a restart. Type {restart}",
            start = now.unit.sources.naming("ExecStart", &now.unit.name),
            program = now.program,
            restart = place.systemctl(format!("restart {}", now.unit.name))
        ),
    })
}

/// procroll has to be what systemd starts.
fn not_through_another(now: &wrapper::Now) -> Result<(), Fatal> {
    let is_procroll = |word: &str| Path::new(word).ends_with("procroll");
    let Some(why) = check::runs_through(&now.arguments, is_procroll) else { return Ok(()) };
    let start = now.unit.sources.naming("ExecStart", &now.unit.name);
    Err(Fatal { exit: ExitStatus::UnitRefused, error: anyhow!("{start} {why}. {}", check::RUN_ITSELF) })
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
/// What systemd would not take, in its own words; or it can't be asked.
pub(super) async fn verified(context: &Context, settings: &Settings) -> Result<Vec<Assignment>, Fatal> {
    let unit = context.unit(Generation::new(1));
    let verified = context.verified.get(context, &unit, &settings.overrides).await;
    verified.map_err(|fatal| fatal.see(source(context)))
}

/// Where to see what a unit file says.
fn source(context: &Context) -> String {
    match &context.origin {
        Origin::Wrapper { name, .. } => context.bus.place.systemctl(format!("cat {name}")),
        Origin::Terminal { .. } => "\"man systemd.directives\"".to_owned(),
    }
}

/// An error about that.
fn see(context: &Context, error: anyhow::Error) -> anyhow::Error {
    anyhow!("{error:#}. See {}", source(context))
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
    let elsewhere = now.is_some_and(|now| now.unit.sources.sets_any(OTHER_FILES))
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
    if loaded.map_err(Fatal::from)? {
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
    async fn get(&self, context: &Context, unit: &str, overrides: &[Override]) -> Result<Vec<Assignment>, Fatal> {
        let mut last = self.0.lock().await;
        match &*last {
            Some((known, lines)) if known == overrides => Ok(lines.clone()),
            _ => {
                let link = context.bus.connect().await?;
                let lines = verify::verify(&link, &context.origin.owner(), unit, overrides).await?;
                *last = Some((overrides.to_vec(), lines.clone()));
                Ok(lines)
            }
        }
    }
}
