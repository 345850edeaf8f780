//! Whether generations can have a name, whatever kind of unit they are.

use anyhow::anyhow;

use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::systemd::{Link, Place, folder};

/// The units that are generations of `owner`, of those of this pattern whose name `is_a_generations`. Those of which nobody says
/// whose they are don't count: their numbers are skipped.
///
/// # Errors
/// There are generations of somebody else's, or systemd can't be asked.
pub async fn claim(
    link: &Link,
    pattern: &str,
    is_a_generations: impl Fn(&str) -> bool,
    owner: &str,
) -> Result<Vec<String>, Fatal> {
    let (place, mut ours) = (link.place(), Vec::new());
    let manager = link.manager().await.or_exit(ExitStatus::Internal)?;
    let listed = manager.list_units_by_patterns(&[], &[pattern]).await.or_exit(ExitStatus::Internal)?;
    for (unit, ..) in listed.into_iter().filter(|(unit, ..)| is_a_generations(unit)) {
        match folder::owner(place, &unit) {
            Some(other) if other != owner => {
                let why = format!("{unit} is a generation of {other}");
                return Err(taken(place, &why, &format!("status {unit}")));
            }
            Some(_) => ours.push(unit),
            None => {}
        }
    }
    Ok(ours)
}

/// What is said to somebody whose generations can't have their name, with what to `see`.
pub fn taken(place: &Place, why: &str, see: &str) -> Fatal {
    let see = place.systemctl(see);
    let error = anyhow!("{why}. Choose another name for the generations with --unit=NAME. See {see}");
    Fatal { exit: ExitStatus::NameTaken, error }
}
