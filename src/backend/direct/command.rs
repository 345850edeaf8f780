//! What a generation executes: the command with its program found, its templates filled in and its environment.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::keeper::Program;
use super::wire::Step;
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::roll::{Generation, Refusal};
use crate::settings::direct::Direct;
use crate::settings::template;
use crate::systemd::program;

/// Where programs are looked for if there is no `PATH`.
const FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// What a generation goes by.
#[derive(Debug)]
pub struct Names<'a> {
    /// Its number.
    pub generation: Generation,
    /// Where its notify socket is.
    pub socket: &'a Path,
    /// Its scope; empty if it has none.
    pub unit: &'a str,
}

/// The program of a generation. Everything is looked for anew.
///
/// # Errors
/// Why there is none.
pub fn program(settings: &Direct, directory: Option<&Path>, names: &Names<'_>) -> Result<Program, Fatal> {
    let &Names { generation, unit, .. } = names;
    let socket =
        names.socket.to_str().context("the path of the notify socket is not UTF-8").or_exit(ExitStatus::Usage)?;
    let values = template::Values { pid: std::process::id(), generation, notify_socket: socket, unit };
    let filled: Result<Vec<_>, _> = settings.command.iter().map(|word| template::fill(word, &values)).collect();
    let arguments = filled.map_err(Fatal::usage)?;
    let name = arguments.first().map_or("", String::as_str);
    let path = match name.contains('/') {
        // As it is: the kernel finds it from the directory that it is to run in.
        true => name.into(),
        false => program::find(name, folders(settings)).or_exit(ExitStatus::CommandNotFound)?,
    };
    let variables = settings.environment.iter().cloned().chain([("NOTIFY_SOCKET".into(), socket.into())]);
    let environment = variables.map(|(mut assignment, value)| {
        assignment.push("=");
        assignment.push(value);
        word(assignment)
    });
    Ok(Program {
        path: word(path.into())?,
        arguments: arguments.into_iter().map(|argument| word(argument.into())).collect::<Result<_, _>>()?,
        environment: environment.collect::<Result<_, _>>()?,
        listens: settings.listens,
        directory: directory.map(|path| word(path.into())).transpose()?,
        scoped: settings.scope.is_some(),
    })
}

fn folders(settings: &Direct) -> Vec<PathBuf> {
    let path = settings.environment.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path);
    match path {
        Some(path) => std::env::split_paths(path).collect(),
        None => FOLDERS.map(PathBuf::from).to_vec(),
    }
}

fn word(text: OsString) -> Result<CString, Fatal> {
    CString::new(text.into_vec()).context("a NUL among the arguments").or_exit(ExitStatus::Usage)
}

/// The directory that generations run in; none for procroll's own. Where the caller has come to that over a link to the
/// current release, the next generation runs in the next release.
pub fn directory(settings: &Direct) -> Option<PathBuf> {
    let is_current = |path: &PathBuf| {
        let place = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        place(path).is_some_and(|named| Some(named) == place(Path::new(".")))
    };
    settings.directory.clone().or_else(|| settings.current.clone().filter(is_current))
}

/// Refuses a program that is plainly not there, or not to be executed, before anything is stopped for it.
///
/// # Errors
/// What would be said had it been tried, as far as that shows.
pub fn look(settings: &Direct, directory: Option<&Path>, program: &Program) -> Result<(), Refusal> {
    let refused = |step, error: Errno| refusal(settings, directory, step, error as i32);
    let path = Path::new(OsStr::from_bytes(program.path.to_bytes()));
    let file = directory.unwrap_or(Path::new("")).join(path);
    if let Some(directory) = directory {
        access(directory, AccessFlags::X_OK).map_err(|error| refused(Step::Directory, error))?;
    }
    let found = access(&file, AccessFlags::X_OK);
    let found = found.and_then(|()| if file.is_dir() { Err(Errno::EACCES) } else { Ok(()) });
    found.map_err(|error| refused(Step::Execute, error))
}

/// Why a program was not executed.
pub fn refusal(settings: &Direct, directory: Option<&Path>, step: Step, error: i32) -> Refusal {
    let error = std::io::Error::from(Errno::from_raw(error));
    let program = settings.command.first().map_or("", String::as_str);
    let directory = directory.map_or(OsStr::new("."), Path::as_os_str).display();
    let (reason, exit) = match step {
        Step::Fork => (format!("no process can be made for it: {error}"), ExitStatus::Internal),
        Step::Directory => (format!("its directory {directory} can't be entered: {error}"), ExitStatus::Usage),
        Step::Execute => (format!("the command {program} can't be executed: {error}"), ExitStatus::CommandNotFound),
    };
    Refusal { reason, exit }
}
