//! Programs: whether one can be executed, and where a bare name is found.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// Where systemd looks for programs that are named without a path (systemd.exec(5), `ExecSearchPath=`).
pub const SYSTEMD_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program's path: as given, or in one of the folders if it is a bare name.
///
/// # Errors
/// Says why it can't be executed.
pub fn find(program: &str, folders: impl IntoIterator<Item = PathBuf>) -> Result<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return executable(&path).map(|()| path);
    }
    let mut found = folders.into_iter().map(|folder| folder.join(program));
    match found.find(|path| executable(path).is_ok()) {
        Some(path) => Ok(path),
        None => bail!("the command {program} is in none of the folders where programs are looked for"),
    }
}

fn executable(path: &Path) -> Result<()> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).with_context(|| format!("the command {shown} can't be executed"))?;
    ensure!(metadata.is_file(), "the command {shown} is not a file");
    ensure!(metadata.permissions().mode() & 0o111 != 0, "the command {shown} is not executable");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> impl Iterator<Item = PathBuf> {
        SYSTEMD_FOLDERS.into_iter().map(PathBuf::from)
    }

    #[test]
    fn a_path_is_taken_as_given_and_a_bare_name_is_looked_for() {
        assert_eq!(find("/bin/sh", folders()).ok(), Some("/bin/sh".into()));
        assert!(find("sh", folders()).is_ok_and(|path| path.ends_with("bin/sh")));
    }

    #[test]
    fn says_why_a_program_cannot_be_executed() {
        let refused = |program: &str| format!("{:#}", find(program, folders()).expect_err(program));
        assert!(refused("/no/such").starts_with("the command /no/such can't be executed: No such file"));
        assert_eq!(refused("/etc"), "the command /etc is not a file");
        assert_eq!(refused("/etc/passwd"), "the command /etc/passwd is not executable");
        assert!(refused("no-such").contains("no-such is in none"));
    }
}
