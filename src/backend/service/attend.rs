//! Looks after one generation over a connection, and tells what becomes of it.

use std::sync::Arc;

use super::Context;
use super::clear::insist_on_stop;
use crate::roll::{Death, Event, Generation, Standing};
use crate::systemd::Error;
use crate::systemd::generation::{State, Watched};
use crate::systemd::pidfd::Pidfd;

/// Tells each change of what the generation does, until nothing of it runs. A connection that breaks is made anew.
pub(super) async fn attend(context: Arc<Context>, generation: Generation, watched: Option<Watched>) {
    let mut last = Told { standing: Standing::Starting, pid: None, invocation: [0; 16] };
    let mut watched = match watched {
        Some(watched) => watched,
        None => watch(&context, generation).await,
    };
    loop {
        match follow(&context, generation, &mut watched, &mut last).await {
            Ok(()) => return,
            Err(error) => tracing::debug!("watching {} anew: {error}", context.unit(generation)),
        }
        if std::mem::replace(&mut last.standing, Standing::Starting) == Standing::Active {
            // What becomes of it now is not heard, so it does not settle meanwhile.
            context.tell(Event::Deactivating(generation));
        }
        context.bus.pause().await;
        // Until then the one before is there: while a connection lasts, so does what it refers to.
        watched = watch(&context, generation).await;
    }
}

async fn watch(context: &Context, generation: Generation) -> Watched {
    let unit = context.unit(generation);
    loop {
        match Watched::now(context.bus.insist().await, &unit).await {
            Ok(watched) => return watched,
            Err(error) => tracing::debug!("can't watch {unit} yet: {error}"),
        }
        context.bus.pause().await;
    }
}

/// What was told last.
struct Told {
    standing: Standing,
    /// 0 for none.
    pid: Option<u32>,
    invocation: [u8; 16],
}

async fn follow(
    context: &Context,
    generation: Generation,
    watched: &mut Watched,
    last: &mut Told,
) -> Result<(), Error> {
    loop {
        let state = watched.next().await?;
        if state.invocation != last.invocation {
            last.invocation = state.invocation;
            context.tell_invoked(generation, state.invocation);
            if last.standing == Standing::Active {
                // Somebody has started it anew, too quickly for anything in between to be seen.
                last.standing = Standing::Starting;
                context.tell(Event::Deactivating(generation));
            }
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
                let is_new = last.pid != Some(pid);
                // What shows its end without systemd comes first: that may be busy for longer than it takes to settle.
                let life = if is_new { watched.life(pid).await? } else { None };
                if is_new && life.is_none() && watched.has_changed().await {
                    // It is no longer the main process, or no longer active.
                    last.standing = before;
                    continue;
                }
                if is_new && life.is_none() && pid != 0 {
                    // It has ended, or is another one by now, and systemd has not said so yet.
                    last.standing = before;
                    if Pidfd::open(pid).is_none_or(|pidfd| pidfd.has_ended()) {
                        // If it answers once more that this is the main process, it never will.
                        last.pid = Some(pid);
                    }
                    return Err(Error::Lost(format!("process {pid} has ended unheard")));
                }
                if before != Standing::Active || is_new {
                    context.tell_active(generation, pid);
                }
                if let Some(life) = life {
                    last.pid = Some(pid);
                    context.tell_life(generation, life);
                }
            }
            Standing::Dead => {
                let death = watched.death(&state).await?;
                if watched.has_changed().await {
                    // Somebody has started it anew, and how it had ended nobody knows any more.
                    last.standing = before;
                    continue;
                }
                // What has stopped, and not failed, systemd forgets as soon as nobody watches it any more.
                let mut listed = death != Death::Stopped;
                if state.exited && watched.is_populated().await? {
                    listed = false;
                    // Its main process has ended and others live on, also beyond what systemd would clear away: they
                    // are stopped, and the unit goes with them. It does not settle meanwhile.
                    if before == Standing::Active {
                        context.tell(Event::Deactivating(generation));
                    }
                    insist_on_stop(watched.link(), &context.unit(generation)).await?;
                    let over = |state: &State| match state.standing {
                        Standing::Dead => !state.exited,
                        standing => standing == Standing::Active,
                    };
                    if watched.until(over).await?.standing == Standing::Active {
                        // Somebody's restart has taken the place of the stop.
                        watched.tell_again();
                        last.standing = Standing::Deactivating;
                        continue;
                    }
                }
                if !listed {
                    context.tell_unlisted(generation);
                }
                context.tell(Event::Dead { generation, death, was_active: state.was_active });
                return Ok(());
            }
        }
    }
}
