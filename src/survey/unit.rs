//! What systemd knows of a unit, loaded or not.

use super::{Seen, held};
use crate::check::{self, DropIn, Facts, Held, Host, Unfit};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::systemd::{Error, Link, folder, wrapper};

/// What there is to know of the service manager.
///
/// # Errors
/// If it doesn't say, or if procroll can't find itself.
pub async fn host(link: Option<&Link>, user: bool) -> Result<Host, Fatal> {
    let version = match link {
        Some(link) => {
            let version = link.manager().await.or_exit(ExitStatus::Internal)?.version().await;
            parse_version(&version.or_exit(ExitStatus::Internal)?)
        }
        None => None,
    };
    let own = std::env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    let plain = |path: &String| path.chars().all(|char| char.is_ascii_alphanumeric() || "/._-+".contains(char));
    Ok(Host { version, user, procroll: own.filter(plain).unwrap_or_else(|| "/usr/bin/procroll".to_owned()) })
}

/// The number in "257.9-1~deb13u1".
fn parse_version(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(|char: char| !char.is_ascii_digit());
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Endings of unit names that are no services.
const OTHERS: &[&str] =
    &[".automount", ".device", ".mount", ".path", ".scope", ".slice", ".socket", ".swap", ".target", ".timer"];

/// Looks at the unit that systemctl would take `word` for.
pub(super) async fn look(link: &Link, host: &Host, word: &str, config: &str) -> Result<Seen, Error> {
    let name = match word {
        _ if word.ends_with(".service") || OTHERS.iter().any(|other| word.ends_with(other)) => word.to_owned(),
        _ => format!("{word}.service"),
    };
    let seen = |name: String, facts| {
        let folder = format!("{config}/{name}.d");
        Ok(Seen { name, folder, facts, runs: false, written: false })
    };
    if !name.ends_with(".service") {
        return seen(name, Err(Unfit::NotAService));
    }
    if name.ends_with("@.service") {
        return seen(name, Err(Unfit::Template));
    }
    let manager = link.manager().await?;
    let path = match manager.load_unit(&name).await.map_err(Error::from) {
        Ok(path) => path,
        Err(error) if error.is_about_the_connection() => return Err(error),
        Err(error) => return seen(name, Err(Unfit::BadName(error.to_string()))),
    };
    let unit = link.unit_at(path).await?;
    let name = unit.id().await?;
    let place = link.place();
    let (load, stale, transient, fragment, drop_ins, triggers, active) = tokio::try_join!(
        unit.load_state(),
        unit.need_daemon_reload(),
        unit.transient(),
        unit.fragment_path(),
        unit.drop_in_paths(),
        unit.triggered_by(),
        unit.active_state(),
    )?;
    if let Some(owner) = folder::owner(place, &name) {
        return seen(name, Err(Unfit::Generation(owner)));
    }
    if load != "loaded" {
        return seen(name, Err(Unfit::Load(load)));
    }
    if transient {
        return seen(name, Err(Unfit::Transient));
    }
    if stale {
        return seen(name, Err(Unfit::Stale));
    }
    let sources = match wrapper::read_sources(&fragment, &drop_ins) {
        Ok(sources) => sources,
        Err(error) => return seen(name, Err(Unfit::Unreadable(format!("{error:#}")))),
    };
    let service = link.service(&name).await?;
    let commands = service.exec_start_ex().await?;
    let arguments = match commands.as_slice() {
        [(_, arguments, ..)] => Some(arguments.clone()),
        _ => None,
    };
    let stem = name.trim_end_matches(".service");
    let (base, socket) = (stem.replace('@', ":"), format!("{stem}.socket"));
    let sockets: Vec<_> = triggers.into_iter().filter(|trigger| trigger.ends_with(".socket")).collect();
    let missed = !sockets.contains(&socket) && manager.get_unit_file_state(&socket).await.is_ok();
    let template = manager.get_unit_file_state(&format!("{base}@.service")).await.is_ok();
    let runs = active == "active" || active == "reloading";
    let main_pid = service.main_pid().await?;
    let is_wrapper = commands.first().is_some_and(|(program, ..)| host.is_procroll(program));
    let held = match (is_wrapper, runs) {
        (true, _) => Held::NotAsked,
        (_, false) => Held::NotSeen("it doesn't run".to_owned()),
        _ => held::look(&service.control_group().await?, main_pid),
    };
    let own = std::fs::read_to_string(format!("/proc/{main_pid}/comm"));
    let restart_due = is_wrapper && runs && own.is_ok_and(|own| !host.is_procroll(own.trim_end()));
    let folder = format!("{config}/{name}.d");
    let facts = Facts {
        name: name.clone(),
        sources,
        arguments,
        sockets,
        missed_socket: missed.then_some(socket),
        template,
        written: written(&folder),
        restart_due,
        held,
    };
    Ok(Seen { name, folder, facts: Ok(facts), runs, written: false })
}

/// Drop-ins there that procroll wrote.
fn written(folder: &str) -> Vec<DropIn> {
    let texts = check::DROP_IN_NAMES.map(|name| (name, std::fs::read_to_string(format!("{folder}/{name}"))));
    let own = texts.into_iter().filter_map(|(name, text)| Some((name, text.ok()?)));
    own.filter(|(_, text)| text.starts_with(check::MARK))
        .map(|(name, text)| DropIn { name: name.to_owned(), text })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (text, version) in [("252.39-1~deb12u1", 252), ("v257", 257), ("systemd 262~rc1", 262)] {
            assert_eq!(parse_version(text), Some(version));
        }
        assert_eq!(parse_version("?"), None);
    }
}
