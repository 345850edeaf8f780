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
    /// Where each unit has a folder of credentials while it runs: systemd.exec(5).
    pub credentials: PathBuf,
    /// The folder whose modification time tells it to look for drop-ins anew.
    pub watched: PathBuf,
    /// The folder of the sockets by which wrappers' procrolls are asked for rolls.
    pub control: PathBuf,
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
            credentials: "/run/credentials".into(),
            watched: "/run/systemd/system".into(),
            control: "/run/systemd/procroll".into(),
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
            credentials: format!("{runtime}/credentials").into(),
            watched: format!("{runtime}/systemd/user").into(),
            control: format!("{runtime}/systemd/procroll").into(),
            user: Some(uid),
        }
    }

    /// The manager that started this process, if one did.
    pub fn of_parent() -> Option<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let parent = std::os::unix::process::parent_id();
        if parent == 1 {
            return Some(Self::system());
        }
        let groups = std::fs::read_to_string(format!("/proc/{parent}/cgroup")).unwrap_or_default();
        is_users_manager(&groups, uid).then(|| Self::user(uid))
    }

    /// The manager that started this process; else the user's if it is `wanted`, or the system's. What PID 1 started is
    /// PID 1's, whatever is wanted: the option may have come from the application's environment.
    pub fn find(wanted: bool) -> Self {
        let other = || if wanted { Self::user(rustix::process::geteuid().as_raw()) } else { Self::system() };
        Self::of_parent().unwrap_or_else(other)
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

/// The service whose manager has put this process into its control group, if one has. Only a manager can.
pub fn service_of_this_process() -> Option<String> {
    service_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The service that a manager has started this process for, as far as that shows without asking one: a process that was left
/// by others may look the same.
pub fn likely_own_service() -> Option<String> {
    Place::of_parent().and_then(|_| service_of_this_process())
}

/// Whether this process belongs to a unit of its user's manager.
pub fn is_under_users_manager() -> bool {
    let manager = format!("/user@{}.service/", rustix::process::geteuid().as_raw());
    std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|groups| groups.contains(&manager))
}

/// Whether the process of which /proc/PID/cgroup says this is the manager of the user with this id.
fn is_users_manager(groups: &str, uid: u32) -> bool {
    groups.split('\n').any(|line| line.ends_with(&format!("/user@{uid}.service/init.scope")))
}

/// The innermost service that /proc/PID/cgroup names.
fn service_of(groups: &str) -> Option<String> {
    // Not lines(): to that a carriage return belongs to the end of a line, and not to a name.
    let group = groups.split('\n').find_map(|line| line.strip_prefix("0::"))?;
    let name = group.rsplit('/').find(|part| part.ends_with(".service"))?;
    // systemd puts an underscore before what the kernel might take for a file of its own.
    Some(name.strip_prefix('_').unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn any_text_names_a_service_that_is_a_whole_part_of_a_path_or_none(
            groups in text_of(&["0::", "1:cpu:", "/", "\n", "web", ".service", "user@7", "user@77", "init.scope", "_", "\\x2d"]),
        ) {
            if let Some(service) = service_of(&groups) {
                prop_assert!(service.ends_with(".service") && !service.contains(['/', '\n']));
                prop_assert!(groups.split(['/', '\n']).any(|part| part.strip_prefix('_').unwrap_or(part).ends_with(&service)));
            }
            let named = groups.contains("/user@7.service/init.scope");
            prop_assert!(named || !is_users_manager(&groups, 7));
        }
    }

    #[test]
    fn the_innermost_service_is_meant() {
        let service = |groups: &str| service_of(groups);
        assert_eq!(service("0::/system.slice/web.service\n"), Some("web.service".to_owned()));
        assert_eq!(service("1:cpu:/x\n0::/system.slice/_cpu.service/.control\n"), Some("cpu.service".to_owned()));
        let users = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n";
        assert_eq!(service(users), Some("web.service".to_owned()));
        assert_eq!(service("0::/user.slice/session-1.scope\n"), None);
        assert_eq!(service("0::/system.slice/system-app.slice/app.service/sub\n"), Some("app.service".to_owned()));
        assert_eq!(service("0::/system.slice/web.service\r\n"), None, "that is another name");
        assert_eq!(service(""), None);
    }
}
