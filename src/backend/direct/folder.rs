//! The private folder of the notify sockets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::roll::Generation;
use crate::settings::direct::Direct;

/// The longest path of a socket, in bytes: unix(7), without the NUL.
const LONGEST: usize = 107;
/// The last number that a generation can have.
const LAST: Generation = Generation::new(u32::MAX);

/// A folder that nobody but its owner can enter. It is gone with this, and all that is in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a new one.
    ///
    /// # Errors
    /// If it can't be made, or its path is too long for sockets.
    pub fn make(settings: &Direct) -> Result<Self, Fatal> {
        let exists = settings.tempdirs.iter().find(|path| path.is_dir());
        let place = exists.or(settings.tempdirs.first()).map_or(Path::new("/tmp"), PathBuf::as_path);
        // A generation may run elsewhere.
        let place = std::path::absolute(place).context("the current directory is gone").or_exit(ExitStatus::Usage)?;
        let shown = place.display();
        let template = place.join("procroll.XXXXXX");
        // mkdtemp(3) makes it 0700.
        let folder = nix::unistd::mkdtemp(&template)
            .with_context(|| {
                format!("can't make a folder for notify sockets in {shown}. Name another one with --tempdir=")
            })
            .map(Self)
            .or_exit(ExitStatus::Usage)?;
        let length = folder.socket(LAST).as_os_str().len();
        let fits = || {
            ensure!(
                length <= LONGEST,
                "the path {shown} is too long for notify sockets, which have {LONGEST} bytes. Name another one with --tempdir="
            );
            Ok(())
        };
        fits().or_exit(ExitStatus::Usage)?;
        Ok(folder)
    }

    /// Where the notify socket of a generation is.
    pub fn socket(&self, generation: Generation) -> PathBuf {
        self.0.join(format!("notify.{generation}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
