//! Where messages go: the journal, with priorities and fields, when standard error is the journal's; else standard
//! error, as plain lines. Standard output is left to data.
//!
//! journald finds out a message's unit from its sender's /proc entry, so that of a process that ends at once may be
//! lost. Messages therefore carry the unit themselves: for the system's manager in a field that `journalctl -u` believes
//! of root, for a user's in one that `journalctl --user-unit=` believes of that user. Others' go through standard error,
//! whose unit journald knows beforehand.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::net::sockopt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::roll::Generation;
use crate::systemd::place::{is_under_users_manager, service_of_this_process};

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
    /// The first generation failed, or the last that there was to try, so nobody serves.
    StartFailed,
    /// The generation that served has ended.
    Died,
    /// procroll can't start at all.
    Refused,
    /// The wrapper unit lacks something.
    Lacks,
    /// systemd did not do what it was asked to do about a generation.
    NotDone,
    /// systemd, or whoever waits for a reload, could not be told.
    NotTold,
    /// procroll could not execute itself anew.
    NotExecuted,
}

impl About {
    /// All of them, for the catalog.
    pub const ALL: [Self; 9] = [
        Self::Serves,
        Self::RollFailed,
        Self::StartFailed,
        Self::Died,
        Self::Refused,
        Self::Lacks,
        Self::NotDone,
        Self::NotTold,
        Self::NotExecuted,
    ];

    /// `MESSAGE_ID=`: see sd-id128(3).
    pub const fn id(self) -> &'static str {
        match self {
            Self::Serves => "2db1491d1767467aada475d8ad842d43",
            Self::RollFailed => "7c83927ddc414af3ba91399fca73c73a",
            Self::StartFailed => "7cf7657d55094f52acec07faf5c62a33",
            Self::Died => "ca87adc00eb84736930275e8bb6a55a2",
            Self::Refused => "8f2b632e40944d13969ff1bb7b40ad14",
            Self::Lacks => "3515fcfb265742d9871c72904e7c382c",
            Self::NotDone => "f39dfc6add0f4eb38470bc48ebf0b4dc",
            Self::NotTold => "fb45de133cbe43a6b055c2bf20281a72",
            Self::NotExecuted => "1d939b2b710a40a8941cffa3f66840f9",
        }
    }
}

/// Tells something about a generation. In the journal it has the fields that systemd's own messages about units have,
/// and the generation's number; `journalctl -u` finds it for the generation's unit, too, if it has one.
pub fn tell(about: About, generation: Generation, unit: Option<&str>, invocation: &str, message: &str) {
    let (id, generation) = (about.id(), generation.to_string());
    macro_rules! tell {
        ($level:expr $(, $unit:ident = $name:expr)*) => {
            tracing::event!(
                $level,
                MESSAGE_ID = id,
                GENERATION = generation,
                $($unit = $name,)*
                INVOCATION_ID = invocation,
                "{message}"
            )
        };
    }
    // A level and the names of fields have to be known when this is compiled.
    match (about == About::Serves, unit, is_of_users()) {
        (true, None, _) => tell!(Level::INFO),
        (true, Some(unit), false) => tell!(Level::INFO, UNIT = unit, OBJECT_SYSTEMD_UNIT = unit),
        (true, Some(unit), true) => tell!(Level::INFO, USER_UNIT = unit),
        (false, None, _) => tell!(Level::ERROR),
        (false, Some(unit), false) => tell!(Level::ERROR, UNIT = unit, OBJECT_SYSTEMD_UNIT = unit),
        (false, Some(unit), true) => tell!(Level::ERROR, USER_UNIT = unit),
    }
}

/// Tells why procroll can't start.
pub fn tell_refused(why: impl fmt::Display) {
    tracing::error!(MESSAGE_ID = About::Refused.id(), "{why}");
}

/// Warns about the wrapper unit, or about what could not be told to anybody else.
pub fn warn(about: About, message: impl fmt::Display) {
    tracing::warn!(MESSAGE_ID = about.id(), "{message}");
}

/// Warns about a generation's unit, which `journalctl -u` finds as well.
pub fn warn_of(about: About, unit: &str, message: impl fmt::Display) {
    match is_of_users() {
        false => tracing::warn!(MESSAGE_ID = about.id(), UNIT = unit, OBJECT_SYSTEMD_UNIT = unit, "{message}"),
        true => tracing::warn!(MESSAGE_ID = about.id(), USER_UNIT = unit, "{message}"),
    }
}

/// Units are those of a user's manager, not of the system's.
fn is_of_users() -> bool {
    static IS_OF_USERS: LazyLock<bool> = LazyLock::new(is_under_users_manager);
    *IS_OF_USERS
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
    let is_believed = rustix::process::geteuid().is_root() || is_of_users();
    let journal = (to_journal && is_believed).then(journal).flatten();
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let lines = Lines { priorities: to_journal };
            registry.with(tracing_subscriber::fmt::layer().event_format(lines).with_writer(std::io::stderr)).init();
        }
    }
}

/// Where it listens: systemd-journald.socket. It discards what is empty.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How long a message may take. systemd's own programs wait for a journal that hangs as well, and no longer than for some time
/// (log.c).
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The journal, where each message says which unit it is about, as systemd.journal-fields(7) has it.
fn journal() -> Option<tracing_journald::Layer> {
    // The layer sends one like this, and would wait for as long as it takes.
    let probe = UnixDatagram::unbound().ok()?;
    probe.set_nonblocking(true).ok()?;
    probe.send_to(&[], JOURNAL).ok()?;
    // The lowest number that is free is that of what is opened next: open(2).
    let number = File::open("/dev/null").ok()?.as_raw_fd();
    // Fields are named as they are here.
    let journal = tracing_journald::layer().ok()?.with_field_prefix(None);
    // SAFETY: it is the layer's own, which lasts as long as the process, or at worst another one that is there for the moment.
    #[allow(unsafe_code)]
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let _ = sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(JOURNAL_TIMEOUT));
    let field = if is_of_users() { "USER_UNIT" } else { "OBJECT_SYSTEMD_UNIT" };
    Some(journal.with_custom_fields(service_of_this_process().map(|unit| (field, unit))))
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
}
