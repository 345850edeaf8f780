//! `procroll run` without systemd: as pid 1 of a container, at a terminal, or in a unit that is like any other.

use std::fs::File;

use crate::backend::direct::DirectBackend;
use crate::cli::{Caller, Run};
use crate::control::Control;
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::manager::{Manager, Signals};
use crate::notify::upstream::Notifier;
use crate::roll::Exit;
use crate::run::own_unit;

/// Runs and rolls generations until it is told to stop or none serves any more. procroll has nothing that its caller has not,
/// and the generations get all of it: no privilege is given up.
///
/// # Errors
/// Whatever keeps it from starting the first generation.
pub async fn run(run: &Run, caller: &Caller, signals: Signals) -> Result<Exit, Fatal> {
    let settings = run.check_direct(caller)?;
    own_unit::heed().await?;
    // At a terminal a window that changes its size sends a signal that is for no service.
    let at_terminal = File::open("/dev/tty").is_ok();
    let signals = signals.passing_on(!at_terminal).or_exit(ExitStatus::Internal)?;
    let backend = DirectBackend::new(settings)?;
    let manager = Manager::new(backend, Notifier::new(), sd_notify::watchdog_enabled());
    Ok(manager.run(Vec::new(), signals, Control::none()).await)
}
