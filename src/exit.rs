//! What procroll exits with: one enum, and the failure that carries one up to `main`.

use std::fmt::{self, Write as _};
use std::process::ExitCode;

/// procroll's own exit codes. A generation's exit status is passed on as it is (0 to 255, or the same signal), so
/// procroll's own errors lie where payloads have none: 170 to 176, in the part that LSB leaves to applications,
/// between those of sysexits.h (64 to 78) and those that systemd.exec(5) lists (from 200).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// All was stopped as asked, or somebody stopped the generation that served.
    Success = 0,
    /// A generation ended otherwise than by an exit status or a signal: a timeout, a watchdog, the OOM killer. Or a handover
    /// failed, and so did what ran before it. Of `procroll reload`: the roll failed.
    Failure = 1,
    /// The command line can't be understood: an option, a value, or no command.
    Usage = 170,
    /// The command does not exist or is not executable. A start that follows may find it.
    CommandNotFound = 171,
    /// There is no systemd to talk to.
    NoManager = 172,
    /// systemd or the kernel does not let this user do it.
    NotAllowed = 173,
    /// The unit can't be rolled as it is.
    UnitRefused = 174,
    /// The unit name belongs to somebody else.
    NameTaken = 175,
    /// Anything else that went wrong, inside procroll or around it. It may have passed by the next start.
    Internal = 176,
}

impl ExitStatus {
    /// All of them, for the documentation.
    pub const ALL: [Self; 9] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::CommandNotFound,
        Self::NoManager,
        Self::NotAllowed,
        Self::UnitRefused,
        Self::NameTaken,
        Self::Internal,
    ];

    /// What it means, for `--help`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "stopped, by a signal to procroll or by a stop of the generation",
            Self::Failure => {
                "a generation timed out, or was ended by a watchdog or the OOM killer; a handover failed, and what ran before \
                 as well; of reload: the roll failed"
            }
            Self::Usage => "the command line is wrong",
            Self::CommandNotFound => "the command does not exist or is not executable",
            Self::NoManager => "no systemd to talk to",
            Self::NotAllowed => "not allowed",
            Self::UnitRefused => "the unit can't be rolled as it is",
            Self::NameTaken => "the unit name belongs to somebody else",
            Self::Internal => "an internal error, or what may have passed by the next start",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status as u8)
    }
}

/// An error that ends procroll, or refuses a roll: what to tell, and what to exit with.
#[derive(Debug)]
pub struct Fatal {
    /// What to exit with.
    pub exit: ExitStatus,
    /// What to tell, the outermost context first.
    pub error: anyhow::Error,
}

impl Fatal {
    /// An error about the command line, with the next command to type.
    pub fn usage(what: impl fmt::Display) -> Self {
        Self { exit: ExitStatus::Usage, error: anyhow::anyhow!("{what}. See \"procroll --help\"") }
    }

    /// The same with where to see more about what somebody has written, if it is due to that.
    #[must_use]
    pub fn see(self, at: impl fmt::Display) -> Self {
        match self.exit {
            ExitStatus::Usage => Self { error: anyhow::anyhow!("{:#}. See {at}", self.error), ..self },
            _ => self,
        }
    }
}

/// One line, whatever it quotes: what somebody has written into an argument does not begin another.
impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:#}", self.error);
        text.chars().try_for_each(|char| match char.is_control() {
            true => write!(f, "{}", char.escape_default()),
            false => f.write_char(char),
        })
    }
}

/// Gives an error the exit status that it is to end in.
pub trait OrExit<T> {
    /// The value, or the error with `exit`.
    fn or_exit(self, exit: ExitStatus) -> Result<T, Fatal>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: ExitStatus) -> Result<T, Fatal> {
        self.map_err(|error| Fatal { exit, error: error.into() })
    }
}
