//! The files that systemd reads and that procroll writes: the drop-ins of a transient unit.
//!
//! All of them lie in the manager's own folder for transient units, which only its owner can write to. Nothing is
//! followed, and nothing removed that isn't procroll's: each file is created anew.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Place;
use crate::unit::{self, DropIn, OWN_DROP_IN};

/// Where the drop-ins of the transient unit `name` are.
pub fn path(place: &Place, name: &str) -> PathBuf {
    place.transient.join(format!("{name}.d"))
}

/// Writes the drop-ins of the unit `name` and makes systemd look for them. systemd removes them with the unit.
///
/// They appear all at once, in a folder that was not there: two that would start a unit of this name can't get into each
/// other's. What an earlier start of `owner`'s has left is replaced; anybody else's is left alone.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the folder is somebody else's.
pub fn write(place: &Place, owner: &str, name: &str, drop_ins: &[DropIn]) -> io::Result<()> {
    let new = make_scratch(place, owner)?;
    let written = drop_ins
        .iter()
        .try_for_each(|drop_in| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(new.join(&drop_in.name))?;
            file.write_all(drop_in.text.as_bytes())
        })
        .and_then(|()| {
            if self::owner(place, name).as_deref() == Some(owner) {
                remove(place, name)?;
            }
            fs::rename(&new, path(place, name)).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => io::ErrorKind::AlreadyExists.into(),
                _ => error,
            })
        });
    if written.is_err() {
        let _ = remove_scratch(place, owner);
        return written;
    }
    // systemd keeps a list of all unit folders, and makes a new one when this folder's time has changed. A user's manager
    // needn't have it yet.
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&place.watched)?;
    File::open(&place.watched)?.set_modified(SystemTime::now())
}

/// Makes an empty folder for `owner` to prepare files in. There is one at a time.
pub fn make_scratch(place: &Place, owner: &str) -> io::Result<PathBuf> {
    remove_scratch(place, owner)?;
    let folder = scratch(place, owner);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&place.transient)?;
    fs::DirBuilder::new().mode(0o755).create(&folder)?;
    Ok(folder)
}

/// Removes what a procroll that was killed has left of it.
pub fn remove_scratch(place: &Place, owner: &str) -> io::Result<()> {
    remove_folder(&scratch(place, owner))
}

/// systemd takes no file of such a name for a unit's. In a list of folders a colon would end its path.
fn scratch(place: &Place, owner: &str) -> PathBuf {
    place.transient.join(format!("{}.procroll", owner.replace(':', "=")))
}

/// Removes the drop-ins of the unit `name`, if there are any. They have to be the caller's own.
pub fn remove(place: &Place, name: &str) -> io::Result<()> {
    remove_folder(&path(place, name))
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whose generation the unit `name` is, if procroll wrote its drop-ins.
pub fn owner(place: &Place, name: &str) -> Option<String> {
    unit::owner(&read_own(place, name)?, name).map(str::to_owned)
}

/// procroll's own drop-in of the unit `name`, if it has one.
pub fn read_own(place: &Place, name: &str) -> Option<String> {
    fs::read_to_string(path(place, name).join(OWN_DROP_IN)).ok()
}

/// Flags the folder of the unit `name`, if there is one, or takes the flag away: by its sticky bit, as udev does it with those
/// files of its database that are to stay. A file would keep systemd from removing the folder with the unit.
///
/// # Errors
/// If its mode can't be changed.
pub fn flag(place: &Place, name: &str, flagged: bool) -> io::Result<()> {
    let Some(mode) = mode(place, name) else { return Ok(()) };
    let wanted = if flagged { mode | FLAG } else { mode & !FLAG };
    if wanted == mode { Ok(()) } else { fs::set_permissions(path(place, name), Permissions::from_mode(wanted)) }
}

/// Whether the folder of the unit `name` is flagged.
pub fn is_flagged(place: &Place, name: &str) -> bool {
    mode(place, name).is_some_and(|mode| mode & FLAG != 0)
}

const FLAG: u32 = 0o1000;

fn mode(place: &Place, name: &str) -> Option<u32> {
    let metadata = path(place, name).symlink_metadata().ok()?;
    metadata.is_dir().then(|| metadata.permissions().mode() & 0o7777)
}

/// All drop-ins of the unit `name` in its folder, or none if it goes meanwhile, or is gone.
///
/// # Errors
/// If they can't be read.
pub fn read(place: &Place, name: &str) -> io::Result<Option<Vec<DropIn>>> {
    let read = fs::read_dir(path(place, name)).and_then(|entries| {
        let mut drop_ins = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(".conf")
            {
                drop_ins.push(DropIn { name, text: fs::read_to_string(entry.path())? });
            }
        }
        Ok(drop_ins)
    });
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The names of the units that have a folder of drop-ins here, loaded or not.
pub fn all(place: &Place) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(&place.transient).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".d").map(str::to_owned))
}

/// Drop-ins that would apply to a unit of this name although they are not its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// File names in folders for several units: of all services, of a common prefix, of a template.
    pub shared: Vec<String>,
    /// A folder for exactly this unit, such as `systemctl set-property web@3` leaves.
    pub exact: Option<PathBuf>,
    /// A shared folder that systemd gives precedence over the unit's own, so that what it holds can't be hidden.
    pub stronger: Option<PathBuf>,
}

/// Looks through systemd's folders `unit_path` for drop-ins that would apply to `<prefix>@<instance>.service`.
pub fn foreign(place: &Place, unit_path: &[String], prefix: &str, instance: &str) -> Foreign {
    let shared: Vec<String> = shared_names(prefix, instance);
    let mut found = Foreign::default();
    let mut stronger = true;
    for folder in unit_path.iter().map(Path::new) {
        stronger &= folder != place.transient;
        let exact = folder.join(format!("{prefix}@{instance}.service.d"));
        if folder != place.transient && exact.symlink_metadata().is_ok() {
            found.exact.get_or_insert(exact);
        }
        for name in &shared {
            let entries = fs::read_dir(folder.join(name)).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let mut names = names.filter(|name| name.ends_with(".conf")).peekable();
            if stronger && names.peek().is_some() {
                found.stronger.get_or_insert(folder.join(name));
            }
            found.shared.extend(names);
        }
    }
    found.shared.sort();
    found.shared.dedup();
    found
}

/// The folders that systemd.unit(5) names, other than the unit's own: `my-web@3.service` also gets those of
/// `my-web@.service.d`, `my-@3.service.d`, `my-@.service.d`, `my-.service.d` and `service.d`.
fn shared_names(prefix: &str, instance: &str) -> Vec<String> {
    let mut names = vec![format!("{prefix}@.service.d")];
    let ends = prefix.match_indices('-').map(|(index, _)| &prefix[..=index]).filter(|&end| end != prefix && end != "-");
    for end in ends {
        names.extend([format!("{end}@{instance}.service.d"), format!("{end}@.service.d"), format!("{end}.service.d")]);
    }
    names.push("service.d".to_owned());
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("procroll-folder-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder to work in");
            Self(path)
        }

        fn place(&self) -> Place {
            let watched = self.0.join("system");
            fs::create_dir_all(&watched).expect("a folder");
            Place { transient: self.0.join("transient"), watched, ..Place::system() }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn drop_in(name: &str) -> DropIn {
        DropIn { name: name.to_owned(), text: "text".to_owned() }
    }

    fn marked(owner: &str, unit: &str) -> DropIn {
        DropIn { name: OWN_DROP_IN.to_owned(), text: format!("[X-Procroll]\nOwner={owner}\nUnit={unit}\n") }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_flagged_and_otherwise_as_it_was() {
        let scratch = Scratch::new("flag");
        let place = scratch.place();
        flag(&place, "web@1.service", true).expect("no folder, no flag");
        assert!(!is_flagged(&place, "web@1.service"));
        let folder = path(&place, "web@1.service");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).expect("a folder");
        for flagged in [true, true, false, false] {
            flag(&place, "web@1.service", flagged).expect("flagged or not");
            assert_eq!(is_flagged(&place, "web@1.service"), flagged);
            assert_eq!(fs::metadata(&folder).expect("there").permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn replaces_what_is_the_owners_and_nothing_else() {
        let scratch = Scratch::new("replace");
        let place = scratch.place();
        let folder = path(&place, "web@1.service");
        let write = |owner: &str, file: &str| {
            super::write(&place, owner, "web@1.service", &[drop_in(file), marked(owner, "web@1.service")])
                .map_err(|error| error.kind())
        };
        assert_eq!(write("web.service", "a.conf"), Ok(()));
        assert_eq!(write("web.service", "b.conf"), Ok(()));
        assert_eq!(names(&folder), [OWN_DROP_IN, "b.conf"]);
        assert_eq!(write("other.service", "c.conf"), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(names(&folder), [OWN_DROP_IN, "b.conf"]);
        assert_eq!(names(&place.transient), ["web@1.service.d"]);
    }

    #[test]
    fn follows_nothing() {
        let scratch = Scratch::new("follow");
        let place = scratch.place();
        let precious = scratch.0.join("precious");
        fs::create_dir_all(&precious).expect("a folder");
        fs::write(precious.join("file"), "kept").expect("a file");
        fs::create_dir_all(&place.transient).expect("a folder");
        symlink(&precious, path(&place, "web@1.service")).expect("a link in place of the folder");
        let error = write(&place, "web.service", "web@1.service", &[drop_in("a.conf")]).expect_err("in the way");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        write(&place, "web.service", "web@2.service", &[marked("web.service", "web@2.service")]).expect("written");
        symlink(&precious, path(&place, "web@2.service").join("planted.conf")).expect("a link in the folder");
        write(&place, "web.service", "web@2.service", &[drop_in("b.conf")]).expect("written again");
        assert_eq!(names(&path(&place, "web@2.service")), ["b.conf"]);
        assert_eq!(names(&precious), ["file"]);
    }

    #[test]
    fn makes_systemd_look_again() {
        let scratch = Scratch::new("look");
        let place = scratch.place();
        let old = SystemTime::UNIX_EPOCH;
        File::open(&place.watched).expect("a folder").set_modified(old).expect("a time");
        write(&place, "web.service", "web@1.service", &[]).expect("written");
        assert_ne!(fs::metadata(&place.watched).and_then(|metadata| metadata.modified()).ok(), Some(old));
    }

    #[test]
    fn finds_drop_ins_that_are_not_the_units_own() {
        let scratch = Scratch::new("foreign");
        let place = scratch.place();
        let system = scratch.0.join("system");
        let shared =
            ["service.d/all.conf", "my-.service.d/p.conf", "my-@3.service.d/q.conf", "my-web@.service.d/t.conf"];
        for file in shared.iter().chain(&["my-web.service.d/own.conf", "other-.service.d/x.conf", "service.d/note.txt"])
        {
            let file = system.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, "").expect("a file");
        }
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let path = [text(&place.transient), text(&system)];
        let found = foreign(&place, &path, "my-web", "3");
        assert_eq!(found.shared, ["all.conf", "p.conf", "q.conf", "t.conf"]);
        assert_eq!((found.exact, found.stronger), (None, None));
        fs::create_dir_all(system.join("my-web@3.service.d")).expect("a folder");
        assert_eq!(foreign(&place, &path, "my-web", "3").exact, Some(system.join("my-web@3.service.d")));
        let path = [text(&system), text(&place.transient)];
        assert_eq!(foreign(&place, &path, "my-web", "3").stronger, Some(system.join("my-web@.service.d")));
    }

    #[test]
    fn prefixes_are_cut_at_dashes() {
        assert_eq!(shared_names("web", "3"), ["web@.service.d", "service.d"]);
        let names = shared_names("a-b-c", "3");
        assert!(names.contains(&"a-.service.d".to_owned()) && names.contains(&"a-b-@3.service.d".to_owned()));
    }
}
