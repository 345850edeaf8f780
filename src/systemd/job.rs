//! A reload job, as `systemctl reload` queues one and waits for it.

use zbus::{ObjectPath, OwnedObjectPath};

use super::error::if_there;
use super::words::Words;
use super::{Error, Link};

const MANAGER: ObjectPath<'static> = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1");

/// Reloads the unit and gives the job's result: `done`, or another word of systemd's.
///
/// # Errors
/// [`Error::Lost`] if the result went unheard, because systemd was off the bus, or the caller.
pub async fn reload(link: &Link, unit: &str) -> Result<String, Error> {
    let removed = || Words::about(link, MANAGER, "org.freedesktop.systemd1.Manager", "JobRemoved");
    // Before the call: the job may be over before its answer comes.
    let mut words = removed().await?;
    let job = link.manager().await?.reload_unit(unit, "replace").await?;
    loop {
        while let Some(signal) = words.next().await {
            let body = signal.body();
            let Ok((_, path, _, result)) = body.deserialize::<(u32, OwnedObjectPath, &str, &str)>() else { continue };
            if path == job {
                return Ok(result.to_owned());
            }
        }
        words = removed().await?;
        if if_there(link.job(job.clone()).await?.state().await)?.is_none() {
            return Err(Error::Lost(format!("what became of the reload of {unit} went unheard")));
        }
    }
}
