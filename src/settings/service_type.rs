//! The `Type=` a generation can have.

use std::fmt;

/// See systemd.service(5). With each of these a generation is active for as long as it runs, and two of them can be so
/// at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Active when it sends `READY=1`.
    #[default]
    Notify,
    /// The same, and can be reloaded by a signal.
    NotifyReload,
    /// Active when its program has been executed.
    Exec,
    /// Active at once, whether it is ready or not.
    Simple,
}

/// The text names no type that a generation can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadType {
    /// A type of systemd's, with the reason why not.
    #[error("a generation can't be {0}: {1}. Use notify, notify-reload, exec or simple")]
    Unfit(&'static str, &'static str),
    /// No type at all.
    #[error("not a service type. Use notify, notify-reload, exec or simple")]
    Unknown,
}

impl std::str::FromStr for ServiceType {
    type Err = BadType;

    fn from_str(text: &str) -> Result<Self, BadType> {
        match text {
            "notify" => Ok(Self::Notify),
            "notify-reload" => Ok(Self::NotifyReload),
            "exec" => Ok(Self::Exec),
            "simple" => Ok(Self::Simple),
            "oneshot" => Err(BadType::Unfit("oneshot", "it is over when it is ready")),
            "forking" => Err(BadType::Unfit("forking", "two of them would share one PID file")),
            "dbus" => Err(BadType::Unfit("dbus", "two of them can't own one bus name")),
            "idle" => Err(BadType::Unfit("idle", "it waits for all other jobs")),
            _ => Err(BadType::Unknown),
        }
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notify => "notify",
            Self::NotifyReload => "notify-reload",
            Self::Exec => "exec",
            Self::Simple => "simple",
        })
    }
}
