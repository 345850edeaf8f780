//! `procroll run` without systemd: as pid 1 of a container, at a terminal, or in a unit that is like any other. And with
//! scopes, in which systemd puts what procroll starts.

use anyhow::Context;

use super::{made_up_name, need_root};
use crate::backend::direct::DirectBackend;
use crate::backend::scope::Scopes;
use crate::cli::{Caller, Run};
use crate::control::Control;
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::manager::{Manager, Signals};
use crate::notify::upstream::Notifier;
use crate::roll::Exit;
use crate::run::own_unit;
use crate::settings::direct::{Direct, Scope};
use crate::settings::{Strategy, WrapperName};
use crate::systemd::{Bus, Place};

/// Runs and rolls generations until it is told to stop or none serves any more. procroll has nothing that its caller has not,
/// and the generations get all of it: no privilege is given up.
///
/// # Errors
/// Whatever keeps it from starting the first generation.
pub async fn run(run: &Run, caller: &Caller, signals: Signals) -> Result<Exit, Fatal> {
    let settings = run.check_direct(caller)?;
    let scopes = match &settings.scope {
        Some(scope) => Some(scopes(&settings, scope).await?),
        None => {
            own_unit::heed().await?;
            None
        }
    };
    let signals = signals.passing_on().or_exit(ExitStatus::Internal)?;
    let backend = DirectBackend::new(settings, scopes)?;
    let manager = Manager::new(backend, Notifier::new(), sd_notify::watchdog_enabled());
    Ok(manager.run(Vec::new(), signals, Control::none()).await)
}

/// The scopes that are asked for, named after the unit that procroll runs in if nothing else is said.
async fn scopes(settings: &Direct, scope: &Scope) -> Result<Scopes, Fatal> {
    let bus = Bus::new(Place::find(scope.user));
    if scope.user && bus.place.user.is_none() {
        return Err(Fatal::usage("--user: PID 1 has started this process, so it is no user's"));
    }
    need_root(&bus.place, None)?;
    let own = own_unit::find(&bus.connect().await?).await?;
    let base = match (&scope.unit, &own) {
        (Some(base), _) => base.clone(),
        (None, Some(own)) => {
            let name = own.id.parse::<WrapperName>();
            let refused = || format!("generations can't be named after {}, so name them with --unit=NAME", own.id);
            name.with_context(refused).or_exit(ExitStatus::UnitRefused)?.base().clone()
        }
        (None, None) => made_up_name()?,
    };
    let pattern = base.scope_pattern();
    let at_terminal = own.is_none();
    let scopes = Scopes::new(bus, base, own.map(|own| own.id), settings, &scope.overrides).await?;
    if at_terminal {
        tracing::info!("Generations are named {pattern}");
    }
    if settings.strategy == Strategy::Handover {
        scopes.stop_left().await;
    }
    Ok(scopes)
}
