//! The procroll command.

use std::io::Write;
use std::process::ExitCode;

use procroll::cli::{self, Caller, Check, Guard, Parsed, Reload, Run};
use procroll::exit::{ExitStatus, Fatal, OrExit};
use procroll::log::{self, Verbosity};
use procroll::manager::{Signals, status};
use procroll::roll::{Death, Exit, Failure};
use procroll::systemd::Place;
use procroll::{descriptors, guard, privileges, reload, run, survey};

fn main() -> ExitCode {
    privileges::hide();
    let caller = take_environment();
    let parsed = cli::parse(std::env::args_os());
    if let Ok(Parsed::Direct(run)) = &parsed {
        return roll_children(run, &caller);
    }
    // Sockets of the wrapper's socket units are among them: systemd keeps those itself, and with a listener of ours beside it
    // a client would wait for ever where it ought to be refused.
    descriptors::close_all_but(&[]);
    let run = match parsed {
        Ok(Parsed::Run(run) | Parsed::Direct(run)) => Ok(run),
        Ok(Parsed::Reload(reload)) => return roll(&reload, &caller),
        Ok(Parsed::Check(check)) => return survey(&check, &caller),
        Ok(Parsed::Guard(guard)) => return decide(&guard, &caller),
        Ok(Parsed::Show(text)) => return show(&text, ExitStatus::Success),
        Err(fatal) if Place::of_parent().is_none() => return fail(&caller, &fatal),
        // In a wrapper it is the unit that counts, and what runs already needs no arguments.
        Err(fatal) => Err(fatal),
    };
    let (user, quiet, debug) = run.as_ref().map_or_else(|_| Default::default(), |run| (run.user, run.quiet, run.debug));
    let place = Place::find(user);
    // SAFETY: there is no other thread yet.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("NOTIFY_SOCKET", &place.notify_socket);
    }
    log::init(verbosity(quiet, debug), journal_stream(&caller));
    match serve(run, &caller, place) {
        Ok(exit) => end(&exit),
        Err(fatal) => {
            log::tell_refused(&fatal);
            fatal.exit.into()
        }
    }
}

const fn verbosity(quiet: bool, debug: bool) -> Verbosity {
    match (quiet, debug) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Debug,
        _ => Verbosity::Normal,
    }
}

/// Generations that are procroll's own processes: they get all that the caller has left open, and it is told how they are.
fn roll_children(run: &Run, caller: &Caller) -> ExitCode {
    const HEARD: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
    for (name, value) in caller.environment.iter().filter(|(name, _)| HEARD.iter().any(|heard| name == heard)) {
        // SAFETY: there is no other thread yet.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    log::init(verbosity(run.quiet, run.debug), journal_stream(caller));
    let served = block_on(async {
        let signals = Signals::new().or_exit(ExitStatus::Internal)?;
        run::direct::run(run, caller, signals).await
    });
    match served {
        Ok(exit) => end(&exit),
        Err(fatal) => {
            log::tell_refused(&fatal);
            fatal.exit.into()
        }
    }
}

fn serve(run: Result<Box<Run>, Fatal>, caller: &Caller, place: Place) -> Result<Exit, Fatal> {
    block_on(async {
        let signals = Signals::new().or_exit(ExitStatus::Internal)?;
        run::run(run, caller, place, signals).await
    })
}

fn roll(reload: &Reload, caller: &Caller) -> ExitCode {
    log::init(Verbosity::Normal, journal_stream(caller));
    match block_on(reload::reload(reload, Place::find(reload.user))) {
        Ok(exit) => exit.into(),
        Err(fatal) => {
            tracing::error!("{fatal}");
            fatal.exit.into()
        }
    }
}

fn decide(guard: &Guard, caller: &Caller) -> ExitCode {
    // systemd.exec(5). Somebody may have killed it, or the OOM killer.
    let mut result = caller.environment.iter().filter(|(name, _)| name == "SERVICE_RESULT");
    if guard.if_it_failed && result.any(|(_, result)| result == "success") {
        return ExitStatus::Success.into();
    }
    log::init(Verbosity::Normal, journal_stream(caller));
    match block_on(guard::guard(&guard.unit, Place::find(false))) {
        Ok(()) => ExitStatus::Success.into(),
        Err(fatal) => {
            tracing::error!("{fatal}");
            fatal.exit.into()
        }
    }
}

/// One thread: there is little to do, and a host may run a thousand of these.
fn block_on<T>(work: impl Future<Output = Result<T, Fatal>>) -> Result<T, Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().or_exit(ExitStatus::Internal)?;
    runtime.block_on(work)
}

fn survey(check: &Check, caller: &Caller) -> ExitCode {
    match block_on(survey::check(check, caller)) {
        Ok((text, exit)) => show(&text, exit),
        Err(fatal) => fail(caller, &fatal),
    }
}

/// Takes the environment away before anything can read it: in a wrapper unit it is the application's, and procroll is
/// root.
fn take_environment() -> Caller {
    let environment: Vec<_> = std::env::vars_os().collect();
    // SAFETY: there is no other thread yet.
    #[allow(unsafe_code)]
    unsafe {
        // It can't fail with the C library that this is linked with.
        let _ = nix::env::clearenv();
    }
    Caller { environment, directory: std::env::current_dir().ok() }
}

fn journal_stream(caller: &Caller) -> Option<&std::ffi::OsStr> {
    caller.environment.iter().find(|(name, _)| name == "JOURNAL_STREAM").map(|(_, value)| value.as_os_str())
}

fn show(text: &str, exit: ExitStatus) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => exit.into(),
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
        // However what was there before has ended this time: the unit has failed.
        Exit::Neither { .. } => return ExitStatus::Failure.into(),
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
    if std::process::id() == 1 {
        // No signal ends that. As shells say it, and containers.
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    // Only a signal that ends nothing gets here.
    ExitStatus::Failure.into()
}
