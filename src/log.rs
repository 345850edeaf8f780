//! Where messages go: the journal, with priorities and fields, when standard error is the journal's; else standard
//! error, as plain lines. Standard output is left to data.
//!
//! journald finds out a message's unit from its sender's /proc entry, so that of a process that ends at once may be
//! lost. Messages therefore carry the unit themselves, which `journalctl -u` believes of root; others' go through
//! standard error, whose unit journald knows beforehand.

use std::ffi::OsStr;
use std::fmt;
use std::os::linux::fs::MetadataExt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::roll::Generation;

/// How much to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors.
    Quiet,
    /// What happens to generations.
    Normal,
    /// Every event and action.
    Debug,
}

/// What a message is about, for whoever looks for such messages, and for the catalog in `units/`, which explains them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// A generation serves.
    Serves,
    /// A roll failed.
    RollFailed,
    /// The first generation failed, so nobody serves.
    StartFailed,
    /// The generation that served has ended.
    Died,
    /// procroll can't start at all.
    Refused,
}

impl About {
    /// All of them, for the catalog.
    pub const ALL: [Self; 5] = [Self::Serves, Self::RollFailed, Self::StartFailed, Self::Died, Self::Refused];

    /// `MESSAGE_ID=`: see sd-id128(3).
    pub const fn id(self) -> &'static str {
        match self {
            Self::Serves => "2db1491d1767467aada475d8ad842d43",
            Self::RollFailed => "7c83927ddc414af3ba91399fca73c73a",
            Self::StartFailed => "7cf7657d55094f52acec07faf5c62a33",
            Self::Died => "ca87adc00eb84736930275e8bb6a55a2",
            Self::Refused => "8f2b632e40944d13969ff1bb7b40ad14",
        }
    }
}

/// Tells something about a generation. In the journal it has the fields that systemd's own messages about units have,
/// and the generation's number; `journalctl -u` finds it for the generation's unit, too.
pub fn tell(about: About, generation: Generation, unit: &str, invocation: &str, message: &str) {
    let (id, generation) = (about.id(), generation.to_string());
    macro_rules! tell {
        ($level:expr) => {
            tracing::event!(
                $level,
                MESSAGE_ID = id,
                GENERATION = generation,
                UNIT = unit,
                OBJECT_SYSTEMD_UNIT = unit,
                INVOCATION_ID = invocation,
                "{message}"
            )
        };
    }
    // A level has to be known when this is compiled.
    if about == About::Serves { tell!(Level::INFO) } else { tell!(Level::ERROR) }
}

/// Tells why procroll can't start.
pub fn tell_refused(why: impl fmt::Display) {
    tracing::error!(MESSAGE_ID = About::Refused.id(), "{why}");
}

/// Sets up messages for the whole process. `journal_stream` is `$JOURNAL_STREAM`.
pub fn init(verbosity: Verbosity, journal_stream: Option<&OsStr>) {
    let level = match verbosity {
        Verbosity::Quiet => LevelFilter::ERROR,
        Verbosity::Normal => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
    };
    let registry = tracing_subscriber::registry().with(level);
    let to_journal = is_journal(journal_stream);
    let journal = (to_journal && rustix::process::geteuid().is_root()).then(journal).flatten();
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let lines = Lines { priorities: to_journal };
            registry.with(tracing_subscriber::fmt::layer().event_format(lines).with_writer(std::io::stderr)).init();
        }
    }
}

/// The journal, where each message says which unit it is about, as systemd.journal-fields(7) has it.
fn journal() -> Option<tracing_journald::Layer> {
    // Fields are named as they are here.
    let journal = tracing_journald::layer().ok()?.with_field_prefix(None);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(journal.with_custom_fields(unit_of(&groups).map(|unit| ("OBJECT_SYSTEMD_UNIT", unit))))
}

/// The unit of the system's manager that /proc/PID/cgroup names: what comes after the slices.
fn unit_of(groups: &str) -> Option<&str> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    group.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))
}

/// Whether standard error goes to the journal, by the way that systemd.exec(5) gives for `$JOURNAL_STREAM`. In a
/// wrapper the variable may be the application's, who gains nothing by it.
pub fn is_journal(journal_stream: Option<&OsStr>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(OsStr::to_str).and_then(|value| value.split_once(':')) else {
        return false;
    };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| Ok(stderr.st_dev()) == device.parse() && Ok(stderr.st_ino()) == inode.parse())
}

/// Plain lines, as a command prints them.
struct Lines {
    /// Lines begin with their priority, for the journal to take away: sd-daemon(3).
    priorities: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (priority, start) = match *event.metadata().level() {
            Level::ERROR => ("<3>", "procroll: "),
            Level::WARN => ("<4>", "procroll: warning: "),
            Level::INFO => ("<5>", "procroll: "),
            Level::DEBUG | Level::TRACE => ("<6>", "procroll: "),
        };
        writer.write_str(if self.priorities { priority } else { start })?;
        event.record(&mut MessageOnly(writer.by_ref()));
        writer.write_char('\n')
    }
}

/// Fields are for the journal.
struct MessageOnly<'w>(Writer<'w>);

impl Visit for MessageOnly<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_explains_each_message() {
        let catalog = include_str!("../units/procroll.catalog");
        for about in About::ALL {
            assert!(catalog.contains(&format!("-- {}\nSubject: ", about.id())), "{about:?}");
        }
    }

    #[test]
    fn the_unit_comes_after_the_slices() {
        assert_eq!(unit_of("0::/system.slice/web.service\n"), Some("web.service"));
        assert_eq!(unit_of("1:cpu:/x\n0::/system.slice/system-app.slice/app.service/sub\n"), Some("app.service"));
        assert_eq!(unit_of("0::/\n"), None);
        assert_eq!(unit_of(""), None);
    }
}
