//! The file tree that procroll sees: it has to be systemd's own.
//!
//! `BindPaths=`, `RootDirectory=` and their like in the wrapper unit are for the application, and hold for procroll as
//! well, the `+` in `ExecStart=+…` notwithstanding. In such a tree the application may own what lies at the path of a
//! unit file, or of the bus.

use std::fs::File;
use std::io::{self, Read};

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, NSFS_MAGIC, PROC_SUPER_MAGIC, fstatfs};

/// Leaves whatever file tree systemd gave this process for its own, if systemd started it. Whoever calls procroll from a
/// terminal has chosen the tree.
///
/// To be called while there is one thread.
///
/// # Errors
/// If that isn't allowed, or where `/proc` isn't what it should be.
pub fn enter_systemds() -> io::Result<()> {
    const SYSTEMD: u32 = 1;
    if std::process::id() == 1 {
        return Err(io::Error::other("it has a process namespace of its own"));
    }
    if std::os::unix::process::parent_id() != SYSTEMD {
        return Ok(());
    }
    let ours = root_mount("/proc/self/mountinfo")?;
    if ours.is_some() && ours == root_mount("/proc/1/mountinfo")? {
        // The usual case, for which it takes no privilege, not even to look.
        return Ok(());
    }
    let systemds = namespace("/proc/1/ns/mnt")?;
    Ok(setns(systemds, CloneFlags::CLONE_NEWNS)?)
}

/// A namespace's file.
fn namespace(path: &str) -> io::Result<File> {
    open(path, NSFS_MAGIC)
}

/// Which mount is at the root of the process that this file of /proc is about, and which of its folders; none if it is in
/// the middle of one. A mount is in one namespace only.
fn root_mount(path: &str) -> io::Result<Option<(String, String)>> {
    let mut mounts = Vec::new();
    open(path, PROC_SUPER_MAGIC)?.read_to_end(&mut mounts)?;
    Ok(at_root(&mounts))
}

/// See proc_pid_mountinfo(5). What was mounted last is what is seen. Folders may have any name, also one that is not
/// UTF-8, and users may mount there.
fn at_root(mounts: &[u8]) -> Option<(String, String)> {
    let mounts = String::from_utf8_lossy(mounts);
    let fields = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut at_root = fields.filter_map(|fields| match fields.as_slice() {
        [id, _, _, root, "/", ..] => Some(((*id).to_owned(), (*root).to_owned())),
        _ => None,
    });
    at_root.next()
}

/// Opens a file of the kernel's, which nobody can counterfeit.
fn open(path: &str, kind: FsType) -> io::Result<File> {
    let file = File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    if fstatfs(&file)?.filesystem_type() != kind {
        return Err(io::Error::other(format!("{path} is not the kernel's, so this is no /proc")));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_mounted_last_at_the_root_is_found_among_any_names(
            before in proptest::collection::vec(any::<u8>(), 0..60),
            names in proptest::collection::vec("[^ \n]{1,8}", 0..4),
            id in any::<u32>(),
            after in proptest::collection::vec(any::<u8>().prop_filter("a name has no raw space and no newline", |byte| !b" \n\r".contains(byte)), 1..9),
        ) {
            let _ = at_root(&before);
            let mut mounts = before;
            mounts.push(b'\n');
            mounts.extend(names.iter().flat_map(|name| format!("1 2 0:3 / /{name} rw - tmpfs x rw\n").into_bytes()));
            mounts.extend(format!("{id} 1 8:1 /root / rw shared:1 - ext4 /dev/a rw\n").into_bytes());
            mounts.extend([b"7 1 0:3 / /".as_slice(), &after, b" rw - fuse x rw\n"].concat());
            prop_assert_eq!(at_root(&mounts), Some((id.to_string(), "/root".to_owned())));
        }
    }
}
