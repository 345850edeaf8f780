//! The text of a generation's scope, which copies nothing from a wrapper: its processes have all that from procroll.

use super::compose::{DropIn, OWN_DROP_IN};
use super::quote;
use super::text::{self, Assignment, Section};
use crate::settings::direct::Direct;

/// What all scopes of these settings say, with `more` lines on top, which win. `wrapper` is the service that procroll runs in.
pub fn lines(settings: &Direct, wrapper: Option<&str>, more: Vec<Assignment>) -> Vec<Assignment> {
    let unit = |key: &str, value: &str| Assignment::own(Section::Unit, key, value);
    // procroll has seen how it ended, and tells.
    let mut lines = vec![unit("CollectMode", "inactive-or-failed")];
    if let Some(wrapper) = wrapper {
        // A stop of the wrapper, or a crash, reaches what procroll could not stop itself; and only then.
        lines.extend([unit("StopPropagatedFrom", wrapper), unit("Before", wrapper)]);
    }
    let (more_of_unit, more): (Vec<_>, Vec<_>) = more.into_iter().partition(|one| one.section == Section::Unit);
    lines.extend(more_of_unit);
    // As procroll stops it, for whoever else does.
    lines.extend([
        Assignment::own(Section::Scope, "TimeoutStopSec", settings.shutdown_timeout.to_string()),
        Assignment::own(Section::Scope, "KillSignal", settings.signal.to_string()),
    ]);
    lines.extend(more);
    lines
}

/// The drop-in of the scope `unit`, with the mark of its `owner`, and with its `command` for a description if it has none.
pub fn drop_in(owner: &str, unit: &str, command: &str, lines: &[Assignment]) -> DropIn {
    let mark = format!("[X-Procroll]\nOwner={owner}\nUnit={unit}\n");
    let described = quote::value(&command.replace(char::is_control, "?")).ok();
    let described = described.map(|command| Assignment::own(Section::Unit, "Description", command));
    let lines: Vec<_> = described.into_iter().chain(lines.iter().cloned()).collect();
    DropIn { name: OWN_DROP_IN.to_owned(), text: mark + &text::render(&lines) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::owner;

    #[test]
    fn options_win_and_the_mark_is_read_back() {
        let more = [(Section::Unit, "Description", "Web"), (Section::Scope, "TimeoutStopSec", "3")];
        let more = more.map(|(section, key, value)| Assignment::own(section, key, value));
        let drop_in = drop_in("web.service", "web-1.scope", "/bin/web %n\n1", &more);
        let text = "[X-Procroll]\nOwner=web.service\nUnit=web-1.scope\n\
                    [Unit]\nDescription=/bin/web %%n?1\nDescription=Web\n[Scope]\nTimeoutStopSec=3\n";
        assert_eq!(drop_in.text, text);
        assert_eq!(owner(&drop_in.text, "web-1.scope"), Some("web.service"));
    }
}
