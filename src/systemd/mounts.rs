//! The file tree that procroll sees: it has to be systemd's own.
//!
//! `BindPaths=`, `RootDirectory=` and their like in the wrapper unit are for the application, and hold for procroll as
//! well, the `+` in `ExecStart=+…` notwithstanding. In such a tree the application may own what lies at the path of a
//! unit file, or of the bus.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

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
    let (ours, systemds) = (namespace("/proc/self/ns/mnt")?, namespace("/proc/1/ns/mnt")?);
    let same = |one: &Metadata, other: &Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    // A root of its own can be had without a namespace, too.
    let same_root = same(&std::fs::metadata("/")?, &std::fs::metadata("/proc/1/root/")?);
    if same_root && same(&ours.metadata()?, &systemds.metadata()?) {
        // The usual case, in which a container without CAP_SYS_ADMIN needn't be asked for it.
        return Ok(());
    }
    Ok(setns(systemds, CloneFlags::CLONE_NEWNS)?)
}

/// A namespace's file, which nobody can counterfeit.
fn namespace(path: &str) -> io::Result<File> {
    let file = File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
        return Err(io::Error::other(format!("{path} is no namespace, so this is no /proc")));
    }
    Ok(file)
}
