//! A reload job, as `systemctl reload` queues one and waits for it.

use std::time::Duration;

use tokio::time::timeout;
use zbus::{Message, ObjectPath, OwnedObjectPath};

use super::error::if_there;
use super::words::Words;
use super::{Error, Link};

const MANAGER: ObjectPath<'static> = ObjectPath::from_static_str_unchecked("/org/freedesktop/systemd1");

/// Reloads the unit and gives the job's result: `done`, or another word of systemd's.
///
/// # Errors
/// [`Error::Lost`] if the result went unheard, because systemd was off the bus, or the caller.
pub async fn reload(link: &Link, unit: &str) -> Result<String, Error> {
    // Before the call: the job may be over before its answer comes.
    let id = link.unit(unit).await?.id().await?;
    let jobs = "org.freedesktop.systemd1.Manager";
    let mut words = Words::about(link, MANAGER, jobs, "JobRemoved", Some(&id)).await?;
    let job = link.manager().await?.reload_unit(unit, "replace").await?;
    loop {
        while let Some(signal) = words.next().await {
            if let Some(result) = result(&signal, &job) {
                return Ok(result);
            }
        }
        // systemd is back, or there is nobody to ask; of a job that is there, it will say more.
        if if_there(link.job(job.clone()).await?.state().await)?.is_some() {
            continue;
        }
        // What it has said since then came before its answer.
        while let Ok(Some(signal)) = timeout(Duration::ZERO, words.next()).await {
            if let Some(result) = result(&signal, &job) {
                return Ok(result);
            }
        }
        return Err(Error::Lost(format!("what became of the reload of {unit} went unheard")));
    }
}

/// The result of this job, if that is what systemd says.
fn result(removed: &Message, job: &OwnedObjectPath) -> Option<String> {
    let body = removed.body();
    let (_, path, _, result) = body.deserialize::<(u32, OwnedObjectPath, &str, &str)>().ok()?;
    (path == *job).then(|| result.to_owned())
}
