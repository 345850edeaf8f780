//! Control groups, as the kernel shows them: whether any process runs in one, a handle that tells when none does, and which
//! of them there are where systemd can't be asked. See cgroups(7).

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where they are, as a rule.
const ROOT: &str = "/sys/fs/cgroup";
/// And where they may be.
const MOUNTS: [&str; 2] = [ROOT, "/sys/fs/cgroup/unified"];

/// A handle of one control group, in which processes run.
#[derive(Debug)]
pub struct Group(File);

impl Group {
    /// The group that systemd names so; none if no process runs in it.
    pub fn open(name: &str) -> Option<Self> {
        let events = events(name)?.ok()?;
        populated(&events).then_some(Self(events))
    }

    /// Whether no process runs in it any more.
    pub fn has_emptied(&self) -> bool {
        !populated(&self.0)
    }

    /// Returns when no process runs in it. Costs nothing until then.
    pub async fn emptied(self) -> io::Result<()> {
        // SAFETY: a `File` is open for as long as it lives, always the same, and the `AsyncFd` owns it.
        #[allow(unsafe_code)]
        let watch = unsafe { AsyncFd::register_with_interest(self.0, Interest::PRIORITY) }?;
        // To read it is to ask to be told of the next change.
        while populated(watch.get_ref()) {
            watch.ready(Interest::PRIORITY).await?.clear_ready();
        }
        Ok(())
    }
}

/// The group that a process is in, as systemd names it; none if there is no such process.
pub fn of_process(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The group that a process is in, if that is the one of this unit.
pub fn of_process_in(unit: &str, pid: u32) -> Option<String> {
    of_process(pid).filter(|group| is_of(unit, group))
}

/// systemd puts an underscore before what the kernel might take for a file of its own, and before another underscore.
fn is_of(unit: &str, group: &str) -> bool {
    let name = group.rsplit('/').next();
    name.is_some_and(|name| name == unit || name.strip_prefix('_') == Some(unit))
}

/// Kills all processes of a group at once, also those that are forking. False where that can't be done: before Linux 5.14.
pub fn kill(name: &str) -> bool {
    let mut mounts = MOUNTS.iter().filter(|_| !name.is_empty());
    mounts.any(|mount| fs::write(format!("{mount}{name}/cgroup.kill"), "1").is_ok())
}

/// Whether any process runs in this control group. One that is gone holds none, and one that can't be read may hold some.
pub fn is_populated(name: &str) -> bool {
    match events(name) {
        Some(Ok(events)) => populated(&events),
        Some(Err(_)) => true,
        None => false,
    }
}

fn events(name: &str) -> Option<io::Result<File>> {
    // That of the root would be the whole machine's.
    let mounts = MOUNTS.iter().filter(|_| !name.is_empty());
    let mut opened = mounts.map(|mount| File::open(format!("{mount}{name}/cgroup.events")));
    opened.find(|opened| !matches!(opened, Err(error) if error.kind() == io::ErrorKind::NotFound))
}

/// A group that has been removed can't be read any more.
fn populated(mut events: &File) -> bool {
    let mut text = String::new();
    let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
    match read {
        Ok(_) => text.lines().any(|line| line == "populated 1"),
        Err(error) => error.raw_os_error() != Some(nix::errno::Errno::ENODEV as i32),
    }
}

/// Whether systemd has cleared away the control groups of all these `units`, as it does when nothing of a unit runs and its
/// end is over. Not sure where the group of `own`, which runs this, can't be seen either.
pub fn are_gone(own: &str, units: &[String]) -> bool {
    let mut sees_own = false;
    let found = find(Path::new(ROOT), &mut |name| {
        // systemd puts an underscore before what the kernel might take for a file of its own.
        let name = name.strip_prefix('_').unwrap_or(name);
        sees_own |= name == own;
        units.iter().any(|unit| unit == name)
    });
    sees_own && !found
}

/// Whether there is one of such a name.
fn find(folder: &Path, is_wanted: &mut impl FnMut(&str) -> bool) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.any(|group| group.file_name().to_str().is_some_and(&mut *is_wanted) || find(&group.path(), is_wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_its_units_also_where_systemd_escapes_it() {
        let yes = [
            ("web-1.scope", "/a/web-1.scope"),
            ("_b-7.scope", "/a/__b-7.scope"),
            ("cpu.a-7.scope", "/a/_cpu.a-7.scope"),
        ];
        assert!(yes.iter().all(|(unit, group)| is_of(unit, group)));
        for (unit, group) in [("b-7.scope", "/a/__b-7.scope"), ("a", "/a/b"), ("web-1.scope", "/a/web-1.scope/sub")] {
            assert!(!is_of(unit, group), "{unit} {group}");
        }
    }

    #[test]
    fn groups_are_found_wherever_they_are() {
        let root = std::env::temp_dir().join(format!("procroll-groups-{}", std::process::id()));
        fs::create_dir_all(root.join("system.slice/system-web.slice/web@2.service")).expect("folders");
        for (name, found) in [("web@2.service", true), ("system-web.slice", true), ("web@1.service", false)] {
            assert_eq!(find(&root, &mut |one| one == name), found, "{name}");
        }
        fs::remove_dir_all(root).expect("no folders");
        assert!(!are_gone("no-such-unit.service", &[]), "whoever sees not even itself can't tell");
    }
}
