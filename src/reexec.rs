//! procroll executes itself anew, as PID 1 does on `systemctl daemon-reexec`: a new version under a service that runs.
//!
//! The process stays, and with it the unit's main process; what it knew is found again as after a crash. Signals wait
//! meanwhile.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};

use crate::cli::Caller;

/// How to execute this process anew.
#[derive(Debug)]
pub struct Reexec {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Reexec {
    /// With what is at the path of its program by then, the same arguments, and of the environment what says where
    /// messages go.
    ///
    /// # Errors
    /// None for a path and arguments that a process can have.
    pub fn new(caller: &Caller, program: &str) -> anyhow::Result<Self> {
        let word = |word: OsString| CString::new(word.into_vec()).context("a NUL among the arguments");
        let log = caller.environment.iter().find(|(name, _)| name == "JOURNAL_STREAM");
        let environment = log.map(|(name, value)| {
            let mut assignment = name.clone();
            assignment.push("=");
            assignment.push(value);
            word(assignment)
        });
        Ok(Self {
            program: word(program.into())?,
            arguments: std::env::args_os().map(word).collect::<Result<_, _>>()?,
            environment: environment.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// Executes it, once signals wait. Returns only if that can't be done, and nothing has changed.
    pub fn execute(&self) -> Errno {
        let Err(error) = nix::unistd::execve(&self.program, &self.arguments, &self.environment);
        error
    }
}

/// Has signals wait until [`hear`], also past an execution: they stay with the process. Those that have been taken over
/// and not looked at would be forgotten by it.
pub fn hold() {
    // There is no error for such a mask.
    let _ = SigSet::all().thread_block();
}

/// Whether this process was executed anew just now: signals wait then, and for no other reason. To be asked before
/// [`hear_stops`].
pub fn was_executed_anew() -> bool {
    SigSet::thread_get_mask().is_ok_and(|mask| mask.contains(Signal::SIGTERM) && mask.contains(Signal::SIGUSR1))
}

/// The path of the program that this process executes, whatever is there now: as the unit has it, which `starts` it, where that
/// may be a link to one version and later to another.
pub fn own_program(starts: &str) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.to_string_lossy();
    let program = program.trim_end_matches(" (deleted)");
    let link = fs::canonicalize(starts).is_ok_and(|file| file == Path::new(program));
    if link { starts } else { program }.to_owned()
}

/// Hears those of the signals that have waited which ask for a stop whatever the unit says. They have to be taken over.
pub fn hear_stops() {
    let stops: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    // There is no error for such a mask.
    let _ = stops.thread_unblock();
}

/// Hears the signals that have waited. All that could end this process have to be taken over.
pub fn hear() {
    // There is no error for a mask that this process made.
    let _ = SigSet::all().thread_unblock();
}
