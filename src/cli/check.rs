//! Turns what the command line said into [`Settings`], or says what is wrong with it.

use super::Run;
use super::overrides::{self, Caller};
use crate::exit::Fatal;
use crate::settings::{BadName, Settings, Span, template};

impl Run {
    /// Checks what the command line said. There is no `caller` in a wrapper unit.
    ///
    /// # Errors
    /// One line that names the option and why its value is none.
    pub fn check(&self, caller: Option<&Caller>) -> Result<Settings, Fatal> {
        if !self.systemd_run {
            return Err(Fatal::usage("--systemd-run is missing: it is the one way to run generations"));
        }
        let unit = self.unit.as_deref().map(|name| {
            name.parse().map_err(|error: BadName| Fatal::usage(format!("--unit={name} can't be used: {error}")))
        });
        let settle = match self.settle {
            Span::Of(duration) => duration,
            Span::Infinite => return Err(Fatal::usage("--settle=infinity would let no roll ever end")),
        };
        Ok(Settings {
            unit: unit.transpose()?,
            service_type: self.service_type,
            settle,
            overrides: overrides::overrides(self, caller)?,
            command: check_command(&self.command)?,
        })
    }
}

fn check_command(command: &[String]) -> Result<Vec<String>, Fatal> {
    let Some(program) = command.first() else {
        return Err(Fatal::usage("no command given. Put it behind --"));
    };
    if program.is_empty() {
        return Err(Fatal::usage("the command is empty"));
    }
    // systemd.service(5) gives these a meaning at the beginning of a command line, some of them root's.
    if let Some(prefix) = program.chars().next().filter(|char| "@-:+!|".contains(*char)) {
        return Err(Fatal::usage(format!(
            "the command {program:?} begins with {prefix:?}, which procroll does not pass on. Name the program by its path"
        )));
    }
    if let Some(char) = program.chars().find(|char| char.is_control() || "\"'\\".contains(*char)) {
        return Err(Fatal::usage(format!(
            "the command {program:?} has the character {char:?}, which systemd allows in no program's name"
        )));
    }
    if program == ";" {
        return Err(Fatal::usage("the command is \";\", which ends a command line for systemd"));
    }
    if template::fill_would_change(program) {
        return Err(Fatal::usage(format!("the command {program:?} is a template, which only arguments can be")));
    }
    for argument in command {
        template::check(argument).map_err(Fatal::usage)?;
    }
    Ok(command.to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::{Parsed, parse};

    pub fn check(words: &[&str], caller: Option<&Caller>) -> Result<Settings, String> {
        let words = ["procroll", "--systemd-run"].iter().chain(words).map(std::ffi::OsString::from);
        match parse(words) {
            Ok(Parsed::Run(run)) => run.check(caller).map_err(|fatal| fatal.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn refused(words: &[&str]) -> String {
        check(words, None).expect_err("refused")
    }

    #[test]
    fn a_command_is_needed_and_can_be_no_prefix() {
        assert_eq!(refused(&[]), "no command given. Put it behind --. See \"procroll --help\"");
        assert!(refused(&["--", ""]).starts_with("the command is empty"));
        for sneaky in ["+/bin/sh", "-/bin/sh", "@/bin/sh", ":/bin/sh", "!/bin/sh", "|sh"] {
            assert!(refused(&["--", sneaky]).contains("which procroll does not pass on"), "{sneaky}");
        }
        assert!(refused(&["--", ";", "+/bin/sh"]).starts_with("the command is \";\""));
        assert!(refused(&["--", "/bin/a\nb"]).contains("has the character '\\n'"));
    }

    #[test]
    fn templates_are_checked_before_anything_starts() {
        assert!(refused(&["--", "/bin/x", "{{.Nope}}"]).starts_with("{{.Nope}} is none of {{.PID}}"));
        assert!(refused(&["--", "{{.Unit}}"]).contains("is a template"));
        let settings = check(&["--", "/bin/x", "{{.Generation}}"], None);
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
