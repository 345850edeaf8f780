//! Where a service manager keeps what procroll needs of it.

use std::path::PathBuf;

/// The addresses and folders of one manager. They are fixed and never taken from the environment, which in a wrapper
/// unit is the application's to set.
#[derive(Clone, Debug)]
pub struct Place {
    /// The D-Bus address it is reached at.
    pub bus_address: String,
    /// Where it takes notifications, see sd_notify(3).
    pub notify_socket: &'static str,
    /// Where it keeps transient units, and their drop-ins.
    pub transient: PathBuf,
    /// The folder whose modification time tells it to look for drop-ins anew.
    pub watched: PathBuf,
}

impl Place {
    /// The system manager, PID 1.
    pub fn system() -> Self {
        Self {
            bus_address: "unix:path=/run/dbus/system_bus_socket".to_owned(),
            notify_socket: "/run/systemd/notify",
            transient: "/run/systemd/transient".into(),
            watched: "/run/systemd/system".into(),
        }
    }
}
