//! Where messages go: the journal, with priorities and fields, when standard error is the journal's; else standard
//! error, as plain lines. Standard output is left to data.

use std::ffi::OsStr;
use std::fmt;
use std::os::linux::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

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

/// Sets up messages for the whole process. `journal_stream` is `$JOURNAL_STREAM`.
pub fn init(verbosity: Verbosity, journal_stream: Option<&OsStr>) {
    let level = match verbosity {
        Verbosity::Quiet => LevelFilter::ERROR,
        Verbosity::Normal => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
    };
    let registry = tracing_subscriber::registry().with(level);
    let journal = is_journal(journal_stream).then(|| tracing_journald::layer().ok()).flatten();
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let lines = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(std::io::stderr);
            registry.with(lines).init();
        }
    }
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
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str(match *event.metadata().level() {
            Level::WARN => "procroll: warning: ",
            _ => "procroll: ",
        })?;
        context.format_fields(writer.by_ref(), event)?;
        writer.write_char('\n')
    }
}
