//! A reload job, as `systemctl reload` queues one and waits for it.

use zbus::{MatchRule, MessageStream, OwnedObjectPath};

use super::bus::{is_broadcast, next};
use super::{Error, Link};

/// Reloads the unit and gives the job's result: `done`, or another word of systemd's.
pub async fn reload(link: &Link, unit: &str) -> Result<String, Error> {
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender("org.freedesktop.systemd1")
        .path("/org/freedesktop/systemd1")
        .interface("org.freedesktop.systemd1.Manager")
        .member("JobRemoved")
        .build()?;
    // Before the call: the job may be over before its answer comes.
    let mut removed = MessageStream::for_match_rule(rule, link.connection(), None).await?;
    let job = link.manager().await?.reload_unit(unit, "replace").await?;
    while let Some(signal) = next(&mut removed).await {
        let signal = signal?;
        if !is_broadcast(&signal) {
            continue;
        }
        let body = signal.body();
        let Ok((_, path, _, result)) = body.deserialize::<(u32, OwnedObjectPath, &str, &str)>() else { continue };
        if path == job {
            return Ok(result.to_owned());
        }
    }
    Err(Error::Lost("the bus closed it".to_owned()))
}
