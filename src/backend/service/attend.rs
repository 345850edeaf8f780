//! Looks after one generation over a connection, and tells what becomes of it.

use std::sync::Arc;

use super::Context;
use crate::roll::{Event, Generation, Standing};
use crate::systemd::Error;
use crate::systemd::generation::Watched;

/// Tells each change of what the generation does, until nothing of it runs. A connection that breaks is made anew.
pub(super) async fn attend(context: Arc<Context>, generation: Generation, mut watched: Option<Watched>) {
    let mut last = Told { standing: Standing::Starting, pid: 0, invocation: [0; 16] };
    loop {
        match follow(&context, generation, watched.take(), &mut last).await {
            Ok(()) => return,
            Err(error) => tracing::debug!("watching {} anew: {error}", context.unit(generation)),
        }
        if context.bus.connect().await.is_ok() {
            // The bus is there, so it is systemd that gave an odd answer. It must not be asked in a frenzy.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

/// What was told last.
struct Told {
    standing: Standing,
    pid: u32,
    invocation: [u8; 16],
}

async fn follow(
    context: &Context,
    generation: Generation,
    watched: Option<Watched>,
    last: &mut Told,
) -> Result<(), Error> {
    let unit = context.unit(generation);
    let mut watched = match watched {
        Some(watched) => watched,
        None => Watched::now(context.bus.insist().await, &unit).await?,
    };
    loop {
        let state = watched.next().await?;
        if state.invocation != last.invocation {
            last.invocation = state.invocation;
            context.tell_invoked(generation, state.invocation);
        }
        let before = std::mem::replace(&mut last.standing, state.standing);
        match state.standing {
            Standing::Starting | Standing::Deactivating => {
                if before == Standing::Active {
                    context.tell(Event::Deactivating(generation));
                }
            }
            Standing::Active => {
                let pid = state.main_pid;
                if before != Standing::Active || pid != last.pid {
                    context.tell_active(generation, pid);
                }
                if pid != last.pid
                    && let Some(main) = watched.main_process(pid).await?
                {
                    last.pid = pid;
                    context.tell_main(generation, main);
                }
            }
            Standing::Dead => {
                let death = watched.death(&state).await?;
                if state.exited && watched.is_populated().await? {
                    // Its main process has ended and others live on, also beyond what systemd would clear away: they
                    // are stopped, and the unit goes with them.
                    watched.link().stop_unit(&unit).await?;
                    watched.until(|state| state.standing == Standing::Dead && !state.exited).await?;
                }
                context.tell(Event::Dead { generation, death, was_active: state.was_active });
                return Ok(());
            }
        }
    }
}
