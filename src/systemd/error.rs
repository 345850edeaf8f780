//! How a call to systemd can fail, told apart where callers act differently.

use crate::exit::{ExitStatus, Fatal};

/// A call to systemd failed. Each call of this room can end in each of these, unless it says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no bus, or no systemd on it.
    #[error("systemd can't be reached: {0}")]
    Unreachable(String),
    /// The connection broke while it was in use. Whether the call was carried out is unknown.
    #[error("the connection to systemd broke: {0}")]
    Lost(String),
    /// Not without root, or a policy forbids it.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// The unit is not loaded.
    #[error("{0}")]
    NoSuchUnit(String),
    /// A unit of this name is loaded, or has a file.
    #[error("{0}")]
    UnitExists(String),
    /// Any other answer.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// What procroll exits with if this ends it.
    pub fn exit(&self) -> ExitStatus {
        match self {
            Self::Unreachable(_) | Self::Lost(_) => ExitStatus::NoManager,
            Self::NotAllowed(_) => ExitStatus::NotAllowed,
            Self::UnitExists(_) => ExitStatus::NameTaken,
            Self::NoSuchUnit(_) | Self::Other(_) => ExitStatus::Internal,
        }
    }

    /// Whether another connection may fare better.
    pub fn is_about_the_connection(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Lost(_))
    }
}

/// An answer; none where there is no such thing, by systemd's version or by now. Of a call that was not heard that is not known.
pub fn if_there<T>(answer: zbus::Result<T>) -> Result<Option<T>, Error> {
    match answer.map_err(Error::from) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_about_the_connection() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether another connection may fare better than the one that this error came of.
pub fn is_about_the_connection(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let of_bus = cause.downcast_ref::<zbus::Error>().map(|error| Error::from(error.clone()));
        cause.downcast_ref::<Error>().or(of_bus.as_ref()).is_some_and(Error::is_about_the_connection)
    })
}

impl From<Error> for Fatal {
    fn from(error: Error) -> Self {
        let exit = error.exit();
        let error = match (&error, sd_notify::booted()) {
            (Error::Unreachable(_), Ok(false)) => {
                anyhow::anyhow!("no systemd runs here, so there is nobody to start generations")
            }
            _ => error.into(),
        };
        Self { exit, error }
    }
}

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        match &error {
            zbus::Error::InputOutput(io) => Self::Lost(io.to_string()),
            zbus::Error::MethodError(name, text, _) => {
                let text = text.clone().unwrap_or_else(|| name.to_string());
                match name.as_str() {
                    "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.systemd1.NoUnitForPID" => {
                        Self::NoSuchUnit(text)
                    }
                    "org.freedesktop.systemd1.UnitExists" => Self::UnitExists(text),
                    _ => Self::Other(text),
                }
            }
            zbus::Error::FDO(fdo) => match &**fdo {
                zbus::fdo::Error::AccessDenied(text) | zbus::fdo::Error::InteractiveAuthorizationRequired(text) => {
                    Self::NotAllowed(text.clone())
                }
                zbus::fdo::Error::ServiceUnknown(text)
                | zbus::fdo::Error::NameHasNoOwner(text)
                | zbus::fdo::Error::LimitsExceeded(text)
                // The bus itself tries to start a systemd that has not come back to it, or waits for that.
                | zbus::fdo::Error::SpawnChildExited(text)
                | zbus::fdo::Error::SpawnChildSignaled(text)
                | zbus::fdo::Error::SpawnConfigInvalid(text)
                | zbus::fdo::Error::SpawnExecFailed(text)
                | zbus::fdo::Error::SpawnFailed(text)
                | zbus::fdo::Error::SpawnFailedToSetup(text)
                | zbus::fdo::Error::SpawnFileInvalid(text)
                | zbus::fdo::Error::SpawnForkFailed(text)
                | zbus::fdo::Error::SpawnNoMemory(text)
                | zbus::fdo::Error::SpawnPermissionsInvalid(text)
                | zbus::fdo::Error::SpawnServiceNotFound(text)
                | zbus::fdo::Error::SpawnServiceNotValid(text)
                | zbus::fdo::Error::TimedOut(text)
                | zbus::fdo::Error::Timeout(text) => Self::Unreachable(text.clone()),
                zbus::fdo::Error::NoReply(text) | zbus::fdo::Error::Disconnected(text) => Self::Lost(text.clone()),
                zbus::fdo::Error::InvalidArgs(text) => Self::Other(text.clone()),
                zbus::fdo::Error::UnknownObject(text) => Self::NoSuchUnit(text.clone()),
                other => Self::Other(other.to_string()),
            },
            other => Self::Other(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_heard_is_no_answer() {
        let broken = zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(if_there::<()>(Err(broken)), Err(Error::Lost(_))));
        // dbus-daemon's word while systemd is not on the bus.
        let away = zbus::fdo::Error::TimedOut("Failed to activate service 'org.freedesktop.systemd1'".to_owned());
        assert!(if_there::<()>(Err(away.into())).is_err_and(|error| error.is_about_the_connection()));
        let unknown = zbus::fdo::Error::UnknownProperty("RestartMode".to_owned());
        assert!(matches!(if_there::<()>(Err(unknown.into())), Ok(None)));
        assert!(matches!(if_there(Ok(7)), Ok(Some(7))));
    }
}
