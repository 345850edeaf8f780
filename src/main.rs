//! The procroll command.

use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;

use procroll::cli::{self, Caller, Parsed, Run};
use procroll::exit::{ExitStatus, Fatal, OrExit};
use procroll::log::{self, Verbosity};
use procroll::manager::{Signals, status};
use procroll::roll::{Death, Exit, Failure};
use procroll::run;
use procroll::systemd::Place;

fn main() -> ExitCode {
    let caller = take_environment();
    close_inherited();
    let run = match cli::parse(std::env::args_os()) {
        Ok(Parsed::Run(run)) => run,
        Ok(Parsed::Show(text)) => return show(&text),
        Err(fatal) => return fail(&caller, &fatal),
    };
    let place = Place::find(run.user);
    // SAFETY: there is no other thread yet.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("NOTIFY_SOCKET", &place.notify_socket);
    }
    let verbosity = match (run.quiet, run.debug) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Debug,
        _ => Verbosity::Normal,
    };
    log::init(verbosity, journal_stream(&caller));
    match serve(&run, &caller, place) {
        Ok(exit) => end(&exit),
        Err(fatal) => {
            log::tell_refused(&fatal);
            fatal.exit.into()
        }
    }
}

fn serve(run: &Run, caller: &Caller, place: Place) -> Result<Exit, Fatal> {
    // One thread: there is little to do, and a host may run a thousand of these.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().or_exit(ExitStatus::Internal)?;
    runtime.block_on(async {
        let signals = Signals::new().or_exit(ExitStatus::Internal)?;
        run::run(run, caller, place, signals).await
    })
}

/// Takes the environment away before anything can read it: in a wrapper unit it is the application's, and procroll is
/// root.
fn take_environment() -> Caller {
    let environment: Vec<_> = std::env::vars_os().collect();
    // SAFETY: this is the first thing that main does, and there is no other thread yet.
    #[allow(unsafe_code)]
    unsafe {
        // It can't fail with the C library that this is linked with.
        let _ = nix::env::clearenv();
    }
    Caller { environment, directory: std::env::current_dir().ok() }
}

/// Closes the descriptors that the caller left open. Sockets of the wrapper's socket units are among them: systemd keeps
/// those itself, and with a listener of ours beside it a client would wait for ever where it ought to be refused.
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The listing had a descriptor itself, which is closed by now.
    let still_open = |number: &i32| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
    for number in numbers.into_iter().filter(|number| *number > 2).filter(still_open) {
        // SAFETY: nothing in this process owns a descriptor yet, other than the first three.
        #[allow(unsafe_code)]
        let inherited = unsafe { OwnedFd::from_raw_fd(number) };
        drop(inherited);
    }
}

fn journal_stream(caller: &Caller) -> Option<&std::ffi::OsStr> {
    caller.environment.iter().find(|(name, _)| name == "JOURNAL_STREAM").map(|(_, value)| value.as_os_str())
}

fn show(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitStatus::Success.into(),
        Err(_) => ExitStatus::Internal.into(),
    }
}

/// An error from before messages were set up.
fn fail(caller: &Caller, fatal: &Fatal) -> ExitCode {
    log::init(Verbosity::Normal, journal_stream(caller));
    log::tell_refused(fatal);
    fatal.exit.into()
}

/// Ends as the generation did, so that the wrapper's Restart= can decide.
fn end(exit: &Exit) -> ExitCode {
    let death = match exit {
        Exit::Stopped => return ExitStatus::Success.into(),
        Exit::Failed(failed) => match &failed.failure {
            Failure::Refused(refusal) => return refusal.exit.into(),
            Failure::Died(death) => death,
        },
        Exit::Died(_, death) => death,
    };
    tracing::debug!("ending as the generation: {}", status::ended(death));
    match death {
        Death::Exited(status) => ExitCode::from(*status),
        Death::Killed(signal) => die_by(*signal),
        Death::Stopped => ExitStatus::Success.into(),
        Death::Failed(_) => ExitStatus::Failure.into(),
    }
}

fn die_by(signal: i32) -> ExitCode {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    // The core to look at is the generation's.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    // Only a signal that ends nothing gets here.
    ExitStatus::Failure.into()
}
