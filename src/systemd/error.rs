//! How a call to systemd can fail, told apart where callers act differently.

use crate::exit::ExitStatus;

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
                | zbus::fdo::Error::LimitsExceeded(text) => Self::Unreachable(text.clone()),
                zbus::fdo::Error::NoReply(text) | zbus::fdo::Error::Disconnected(text) => Self::Lost(text.clone()),
                zbus::fdo::Error::UnknownObject(text) => Self::NoSuchUnit(text.clone()),
                other => Self::Other(other.to_string()),
            },
            other => Self::Other(other.to_string()),
        }
    }
}
