//! What has been checked: the command line turned into values that can't be wrong any more.
//!
//! Pure: the environment and the current directory are handed in, nothing is looked up.

pub mod property;
mod service_type;
mod signal;
mod span;
pub mod template;
mod unit_name;

use std::time::Duration;

pub use property::{Override, Surroundings};
pub use service_type::ServiceType;
pub use signal::SignalName;
pub use span::Span;
pub use unit_name::{BadName, BaseName, WrapperName};

use crate::cli::{self, Run};
use crate::exit::Fatal;

/// What a service is to be run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What to name the generations after, if the user says so.
    pub unit: Option<BaseName>,
    /// `Type=` of the generations.
    pub service_type: ServiceType,
    /// How long a new generation has to stay active.
    pub settle: Duration,
    /// Lines for the generations' unit, in the order given; they win over the wrapper's.
    pub overrides: Vec<Override>,
    /// The command and its arguments, with valid templates.
    pub command: Vec<String>,
    /// Say nothing but errors.
    pub quiet: bool,
    /// Say more.
    pub debug: bool,
}

impl Settings {
    /// Checks what the command line said.
    ///
    /// # Errors
    /// One line that names the option and why its value is none.
    pub fn check(run: &Run, surroundings: &Surroundings<'_>) -> Result<Self, Fatal> {
        if !run.systemd_run {
            return Err(cli::usage("--systemd-run is missing: it is the one way to run generations"));
        }
        let unit = run.unit.as_deref().map(|name| {
            name.parse().map_err(|error: BadName| cli::usage(format!("--unit={name} can't be used: {error}")))
        });
        let settle = match run.settle {
            Span::Of(duration) => duration,
            Span::Infinite => return Err(cli::usage("--settle=infinity would let no roll ever end")),
        };
        Ok(Self {
            unit: unit.transpose()?,
            service_type: run.service_type,
            settle,
            overrides: property::overrides(run, surroundings)?,
            command: check_command(&run.command)?,
            quiet: run.quiet,
            debug: run.debug,
        })
    }
}

fn check_command(command: &[String]) -> Result<Vec<String>, Fatal> {
    let Some(program) = command.first() else {
        return Err(cli::usage("no command given. Put it behind --"));
    };
    if program.is_empty() {
        return Err(cli::usage("the command is empty"));
    }
    // systemd.service(5) gives these a meaning at the beginning of a command line, some of them root's.
    if let Some(prefix) = program.chars().next().filter(|char| "@-:+!|".contains(*char)) {
        return Err(cli::usage(format!(
            "the command {program:?} begins with {prefix:?}, which procroll does not pass on. Name the program by its path"
        )));
    }
    if let Some(char) = program.chars().find(|char| char.is_control() || "\"'\\".contains(*char)) {
        return Err(cli::usage(format!(
            "the command {program:?} has the character {char:?}, which systemd takes in no program's name"
        )));
    }
    if template::fill_would_change(program) {
        return Err(cli::usage(format!("the command {program:?} is a template, which only arguments can be")));
    }
    for argument in command {
        template::check(argument).map_err(cli::usage)?;
    }
    Ok(command.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn check(words: &[&str], surroundings: &Surroundings<'_>) -> Result<Settings, String> {
        let words = ["procroll", "--systemd-run"].iter().chain(words).map(std::ffi::OsString::from);
        match cli::parse(words) {
            Ok(cli::Parsed::Run(run)) => Settings::check(&run, surroundings).map_err(|fatal| fatal.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn refused(words: &[&str]) -> String {
        check(words, &Surroundings::default()).expect_err("refused")
    }

    #[test]
    fn a_command_is_needed_and_can_be_no_prefix() {
        assert_eq!(refused(&[]), "no command given. Put it behind --. See \"procroll --help\"");
        assert!(refused(&["--", ""]).starts_with("the command is empty"));
        for sneaky in ["+/bin/sh", "-/bin/sh", "@/bin/sh", ":/bin/sh", "!/bin/sh", "|sh"] {
            assert!(refused(&["--", sneaky]).contains("which procroll does not pass on"), "{sneaky}");
        }
        assert!(refused(&["--", "/bin/a\nb"]).contains("has the character '\\n'"));
    }

    #[test]
    fn templates_are_checked_before_anything_starts() {
        assert!(refused(&["--", "/bin/x", "{{.Nope}}"]).starts_with("{{.Nope}} is none of {{.PID}}"));
        assert!(refused(&["--", "{{.Unit}}"]).contains("is a template"));
        let settings = check(&["--", "/bin/x", "{{.Generation}}"], &Surroundings::default());
        assert_eq!(settings.map(|settings| settings.command), Ok(vec!["/bin/x".into(), "{{.Generation}}".into()]));
    }

    #[test]
    fn a_unit_name_that_is_none_is_refused_by_name() {
        let refused = refused(&["--unit=a@b", "--", "/bin/x"]);
        assert!(refused.starts_with("--unit=a@b can't be used: it is a template or an instance"), "{refused}");
    }

    #[test]
    fn a_roll_must_be_able_to_end() {
        assert!(refused(&["--settle=infinity", "--", "/bin/x"]).starts_with("--settle=infinity"));
    }
}
