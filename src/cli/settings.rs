//! Turns what the command line said into [`Settings`], or says what is wrong with it.

use super::overrides::{self, Caller};
use super::{Parsed, Run, parse};
use crate::exit::{ExitStatus, Fatal};
use crate::roll::Pace;
use crate::settings::{BadName, BaseName, Settings, Span, template};

impl Run {
    /// Checks what the command line said. There is no `caller` in a wrapper unit.
    ///
    /// # Errors
    /// One line that names the option and why its value is none.
    pub fn check(&self, caller: Option<&Caller>) -> Result<Settings, Fatal> {
        if !self.systemd_run {
            return Err(Fatal::usage(
                "--systemd-run is missing. (For generations that are procroll's own processes, say procroll run)",
            ));
        }
        let unit = self.base_name()?;
        if self.tempdir.is_some() {
            return Err(Fatal::usage("--tempdir means nothing with --systemd-run: notifications go to systemd"));
        }
        Ok(Settings {
            unit,
            service_type: self.service_type,
            strategy: self.strategy,
            pace: self.pace()?,
            overrides: overrides::overrides(self, caller)?,
            command: check_command(&self.command)?,
        })
    }

    pub(super) fn base_name(&self) -> Result<Option<BaseName>, Fatal> {
        let name = self.unit.as_deref().map(|name| {
            name.parse().map_err(|error: BadName| Fatal::usage(format!("--unit={name} can't be used: {error}")))
        });
        name.transpose()
    }

    pub(super) fn pace(&self) -> Result<Pace, Fatal> {
        match self.settle {
            Span::Of(settle) => Ok(Pace { settle, most_leaving: self.max_stopping.get() }),
            Span::Infinite => Err(Fatal::usage("--settle=infinity would let no roll ever end")),
        }
    }
}

/// What the `ExecStart=` of a wrapper unit asks for. Its `arguments` are as systemd has them, the program first: what `%`
/// stands for is in, what `$` stands for is not.
///
/// procroll's own arguments would not do: with an `$OPTS` among them, what an application wrote into its
/// EnvironmentFile= would become options of a process that runs as root.
///
/// # Errors
/// One line that names the argument and why it can't be.
pub fn in_unit(arguments: &[String], expands_variables: bool) -> Result<Settings, Fatal> {
    refuse_variables(arguments, expands_variables)?;
    match parse(arguments.iter().map(Into::into))? {
        Parsed::Run(run) => run.check(None),
        Parsed::Direct(run) if run.scope => Err(Fatal {
            exit: ExitStatus::UnitRefused,
            error: anyhow::anyhow!(
                "it has --scope, so that its generations are processes of procroll's own, to which nothing of the unit \
                 applies. Leave --scope out, or restart it"
            ),
        }),
        Parsed::Direct(_) => Err(Fatal {
            exit: ExitStatus::UnitRefused,
            error: anyhow::anyhow!(
                "it has no --systemd-run, so that its generations would be processes of procroll's own and no units. \
                 Add --systemd-run, or restart it"
            ),
        }),
        _ => Err(Fatal::usage("it asks for something else than to run a command")),
    }
}

/// Refuses a command line of a unit, as [`in_unit`] has it, with a variable among procroll's own arguments.
///
/// # Errors
/// That it has one.
pub fn refuse_variables(arguments: &[String], expands_variables: bool) -> Result<(), Fatal> {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    if let Some(variable) = options.skip(1).find(|argument| expands_variables && argument.contains('$')) {
        return Err(Fatal {
            exit: ExitStatus::UnitRefused,
            error: anyhow::anyhow!(
                "it has a variable among procroll's options: {variable}. \
                 They may come from the application's environment, so write them out"
            ),
        });
    }
    Ok(())
}

pub(super) fn check_command(command: &[String]) -> Result<Vec<String>, Fatal> {
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
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::words_of;

    proptest! {
        /// Whatever a unit says behind ExecStart=: it is taken or refused in one line, and the command stays as it is.
        #[test]
        fn any_arguments_are_settings_or_refused(
            options in words_of(&[
                "--settle=", "1s", "--unit=", "web", "-p", "User=app", "PartOf=x", "-E", "A=b", "--", "-q", "--signal=",
                "HUP", "--slice=", "--uid=", "0", "$X", "%", "--max-stopping=", "--service-type=exec", "\n", "check", "run",
            ]),
            command in words_of(&["/bin/x", "{{", "}}", ".PID", "--", "-p", "\n", "$X", "%i"]),
            expands in any::<bool>(),
        ) {
            let words = ["procroll", "--systemd-run"].map(str::to_owned).into_iter().chain(options);
            let words: Vec<_> = words.chain(["--".to_owned()]).chain(command).collect();
            let behind = words.iter().skip_while(|word| *word != "--").skip(1);
            match in_unit(&words, expands) {
                Ok(settings) => prop_assert_eq!(settings.command, behind.cloned().collect::<Vec<_>>()),
                Err(refused) => prop_assert!(!refused.to_string().contains(char::is_control), "{}", refused),
            }
        }
    }

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
        assert!(refused.starts_with("--unit=a@b can't be used: it has an @"), "{refused}");
    }

    #[test]
    fn a_roll_must_be_able_to_end() {
        assert!(refused(&["--settle=infinity", "--", "/bin/x"]).starts_with("--settle=infinity"));
    }
}
