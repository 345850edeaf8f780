//! Where a program has been started from a login session, its successors get transient scopes of their own. See
//! systemd.scope(5).
//!
//! A successor stays its predecessor's child, with all that it has inherited: its unit is all that changes.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use zbus::Variant;

use super::handshake::Deadline;
use crate::roll::Standing;
use crate::systemd::generation::Watched;
use crate::systemd::{Bus, Error, Place, group};

/// Whether a successor of this process is to be in a scope of its own: this one is in a login session's, or in one that it got
/// for that reason. Any other unit has been made for it, with limits, say, and outlives it with the successor in it. One that
/// is not root can have units of its own manager only, which ends when its user logs out.
pub fn is_due(program: &Path) -> bool {
    let pid = std::process::id();
    let is_due = || {
        group::of_process_in(&unit(program, pid), pid)
            .or_else(|| group::of_process(pid).filter(|group| is_session(group)))
            .is_some()
    };
    sd_notify::booted().unwrap_or(false) && rustix::process::geteuid().is_root() && is_due()
}

/// Whether this is the control group of a login session. See pam_systemd(8).
fn is_session(group: &str) -> bool {
    let mut parts = group.rsplit('/');
    let unit = parts.find(|part| part.ends_with(".scope") || part.ends_with(".service"));
    unit.is_some_and(|unit| unit.starts_with("session-") && unit.ends_with(".scope"))
}

/// How long a systemd is asked again that can't be reached: it may be about to execute itself anew, or the bus to start.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Has systemd put the successor with this process id, which waits, into a scope that is named after its program.
///
/// # Errors
/// It is where it was, or will be in one soon.
pub fn place(program: &Path, pid: u32, deadline: Deadline) -> io::Result<()> {
    let placed = async {
        let left = deadline.left().unwrap_or(Duration::MAX);
        match tokio::time::timeout(left, insist(program, pid)).await {
            Ok(placed) => placed.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "systemd does not answer")),
        }
    };
    // The program may have a runtime of its own, within which there can't be another.
    thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(placed);
        let placing = thread::Builder::new().name("rollover".to_owned()).spawn_scoped(scope, run)?;
        placing.join().unwrap_or_else(|_| Err(io::Error::other("an internal error")))
    })
}

async fn insist(program: &Path, pid: u32) -> Result<(), Error> {
    let (unit, began) = (unit(program, pid), Instant::now());
    loop {
        match ask(program, &unit, pid).await {
            // What was asked for before the connection broke has been heard.
            Err(_) if group::of_process_in(&unit, pid).is_some() => return Ok(()),
            Err(error) if error.is_about_the_connection() && began.elapsed() < PATIENCE => {}
            placed => return placed,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(program: &Path, unit: &str, pid: u32) -> Result<(), Error> {
    let link = Bus::new(Place::system()).connect().await?;
    // In a namespace of its own systemd would take the number for another process's.
    if !link.shares_process_ids().await? {
        return Ok(());
    }
    let mut watched = Watched::before_start(link.clone(), unit).await?;
    let properties = [
        ("PIDs", Variant::from(vec![pid])),
        ("Description", Variant::from(program.display().to_string())),
        // One whose last process was killed is of no use to anybody.
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("AddRef", Variant::from(true)),
    ];
    link.manager().await?.start_transient_unit(unit, "fail", &properties, &[]).await?;
    watched.until(|state| state.standing != Standing::Starting).await?;
    match group::of_process_in(unit, pid) {
        Some(_) => Ok(()),
        None => Err(Error::Other(format!("systemd did not put process {pid} into {unit}"))),
    }
}

/// A name that no other has as long as the process runs: that of the program, as far as a unit can have it, and the process id.
fn unit(program: &Path, pid: u32) -> String {
    let name = program.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let fit = |char: char| if char.is_ascii_alphanumeric() || ":-_.".contains(char) { char } else { '_' };
    format!("{}-{pid}.scope", name.chars().take(200).map(fit).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_session_is_one() {
        for group in ["/user.slice/user-0.slice/session-1.scope", "/user.slice/user-0.slice/session-c2.scope/sub"] {
            assert!(is_session(group), "{group}");
        }
        for group in
            ["/", "/system.slice/agent-7.scope", "/system.slice/session-1.service", "/session-1.slice/a.service", "/a"]
        {
            assert!(!is_session(group), "{group}");
        }
    }

    #[test]
    fn a_unit_has_the_name_of_the_program() {
        assert_eq!(unit(Path::new("/usr/bin/agent"), 7), "agent-7.scope");
        assert_eq!(unit(Path::new("/opt/my agent@é/a/ b@c"), 7), "_b_c-7.scope");
        assert!(unit(Path::new(&"x".repeat(255)), 4_194_304).len() < 256);
    }
}
