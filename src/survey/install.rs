//! Writes a drop-in where `systemctl edit` would.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::check::{DropIn, MARK};
use crate::cli::Caller;
use crate::exit::Fatal;
use crate::systemd::Place;

/// Where units are that somebody has made for this manager.
///
/// # Errors
/// If a user has no home.
pub fn config_folder(place: &Place, caller: &Caller) -> Result<String, Fatal> {
    if place.user.is_none() {
        return Ok("/etc/systemd/system".to_owned());
    }
    let variable = |name: &str| {
        let found = caller.environment.iter().find(|(key, value)| key == name && !value.is_empty());
        found.and_then(|(_, value)| value.to_str()).map(str::to_owned)
    };
    let config = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| format!("{home}/.config")));
    let config = config.ok_or_else(|| Fatal::usage("--user: neither $XDG_CONFIG_HOME nor $HOME is set"))?;
    Ok(format!("{config}/systemd/user"))
}

/// Writes the drop-in, all of it or nothing.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is one of this name that isn't procroll's.
pub fn write(folder: &str, drop_in: &DropIn) -> io::Result<()> {
    let folder = Path::new(folder);
    let path = folder.join(&drop_in.name);
    match fs::read_to_string(&path) {
        Ok(text) if !text.starts_with(MARK) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    // systemd takes no file of such a name for a drop-in.
    let new = folder.join(format!(".{}.{}", drop_in.name, std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    let written = file.write_all(drop_in.text.as_bytes()).and_then(|()| file.sync_all());
    let written = written.and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
