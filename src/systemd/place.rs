//! Where a service manager keeps what procroll needs of it, and which one that is.

use std::fmt::Display;
use std::path::PathBuf;

/// The addresses and folders of one manager. They are fixed and never taken from the environment, which in a wrapper
/// unit is the application's to set.
#[derive(Clone, Debug)]
pub struct Place {
    /// The D-Bus address it is reached at.
    pub bus_address: String,
    /// Where it takes notifications, see sd_notify(3).
    pub notify_socket: String,
    /// Where it keeps transient units, and their drop-ins.
    pub transient: PathBuf,
    /// The folder whose modification time tells it to look for drop-ins anew.
    pub watched: PathBuf,
    /// The user whose manager it is; none for the system's.
    pub user: Option<u32>,
}

impl Place {
    /// The system manager, PID 1.
    pub fn system() -> Self {
        Self {
            bus_address: "unix:path=/run/dbus/system_bus_socket".to_owned(),
            notify_socket: "/run/systemd/notify".to_owned(),
            transient: "/run/systemd/transient".into(),
            watched: "/run/systemd/system".into(),
            user: None,
        }
    }

    /// The manager of the user with this id: user@.service(5).
    pub fn user(uid: u32) -> Self {
        let runtime = Self::runtime_directory(uid);
        Self {
            bus_address: format!("unix:path={runtime}/bus"),
            notify_socket: format!("{runtime}/systemd/notify"),
            transient: format!("{runtime}/systemd/transient").into(),
            watched: format!("{runtime}/systemd/user").into(),
            user: Some(uid),
        }
    }

    /// The user's manager if that started this process, or if it is `wanted`; else the system's. What PID 1 started is
    /// PID 1's, whatever is wanted: the option may have come from the application's environment.
    pub fn find(wanted: bool) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let parent = std::os::unix::process::parent_id();
        if parent == 1 {
            return Self::system();
        }
        let group = std::fs::read_to_string(format!("/proc/{parent}/cgroup")).unwrap_or_default();
        let by_user_manager = group.lines().any(|line| line.ends_with(&format!("/user@{uid}.service/init.scope")));
        if wanted || by_user_manager { Self::user(uid) } else { Self::system() }
    }

    /// `$XDG_RUNTIME_DIR` of a user, as systemd-logind has it.
    pub fn runtime_directory(uid: u32) -> String {
        format!("/run/user/{uid}")
    }

    /// A command to type: systemctl with these arguments, for this manager.
    pub fn systemctl(&self, arguments: impl Display) -> String {
        let manager = if self.user.is_some() { " --user" } else { "" };
        format!("\"systemctl{manager} {arguments}\"")
    }

    /// A command to type: journalctl for this unit of this manager.
    pub fn journalctl(&self, unit: &str) -> String {
        match self.user {
            Some(_) => format!("\"journalctl -xe --user-unit={unit}\""),
            None => format!("\"journalctl -xeu {unit}\""),
        }
    }
}
