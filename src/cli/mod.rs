//! What the command line can say, how it becomes [`settings`](crate::settings), and how it is told that it can't say
//! that. Pure: the environment and the current directory are handed in, nothing is looked up.

mod check;
mod direct;
mod guard;
mod overrides;
mod reload;
mod run;
mod settings;

use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

pub use check::Check;
pub use guard::Guard;
pub use overrides::Caller;
pub use reload::Reload;
pub use run::Run;
pub use settings::{in_unit, refuse_variables};

use crate::exit::Fatal;

const RUN: &str = "procroll run [--systemd-run] [--scope] [OPTIONS] -- COMMAND [ARGUMENT]...";

/// The command line as a whole.
#[derive(Debug, Parser)]
#[command(
    name = "procroll",
    version,
    about = "Rolling restarts of systemd services: the new generation is up before the old one goes",
    override_usage = "procroll --systemd-run [OPTIONS] -- COMMAND [ARGUMENT]...\n       procroll run [--systemd-run] [OPTIONS] -- COMMAND [ARGUMENT]...\n       procroll reload [--user] UNIT\n       procroll check [OPTIONS] UNIT|FILE...",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_long_help = run::after_long_help()
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a command and roll it, without systemd unless --systemd-run is given
    #[command(override_usage = RUN)]
    Run(Box<Run>),
    /// Roll a wrapper unit and say what came of it
    #[command(long_about = reload::ABOUT)]
    Reload(Reload),
    /// Say of service units whether they can roll, and what is to be done for it
    #[command(long_about = check::ABOUT)]
    Check(Check),
    /// What a guard does when systemd stops it
    #[command(hide = true)]
    Guard(Guard),
}

/// What a command line comes to.
#[derive(Debug)]
pub enum Parsed {
    /// Run and roll a command.
    Run(Box<Run>),
    /// Run and roll a command as procroll's own processes.
    Direct(Box<Run>),
    /// Have somebody else's command rolled.
    Reload(Reload),
    /// It asks about units.
    Check(Check),
    /// It is a guard's `ExecStop=` or `ExecStopPost=`.
    Guard(Guard),
    /// It asks for help or the version: the text for standard output.
    Show(String),
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// One line that names the argument and why it isn't understood.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, Fatal> {
    let words = words.into_iter().enumerate().map(|(number, word)| {
        word.into_string().map_err(|word| Fatal::usage(format!("argument {number} ({word:?}) is not UTF-8")))
    });
    let words = words.collect::<Result<Vec<_>, _>>()?;
    match Cli::try_parse_from(words) {
        Ok(cli) => Ok(match cli.command {
            Some(Command::Run(run)) if !run.scope && !run.systemd_run => Parsed::Direct(as_in_go(run)),
            Some(Command::Run(run)) if run.scope => Parsed::Direct(behind_dashes(run)?),
            Some(Command::Run(run)) => Parsed::Run(behind_dashes(run)?),
            Some(Command::Reload(reload)) => Parsed::Reload(reload),
            Some(Command::Check(check)) => Parsed::Check(check),
            Some(Command::Guard(guard)) => Parsed::Guard(guard),
            None if cli.run.scope && cli.run.systemd_run => Parsed::Direct(behind_dashes(Box::new(cli.run))?),
            None => Parsed::Run(behind_dashes(Box::new(cli.run))?),
        }),
        Err(error) if !error.use_stderr() => Ok(Parsed::Show(error.render().to_string())),
        Err(error) => {
            let stray = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(argument)) if !argument.starts_with('-') => Some(argument),
                _ => None,
            };
            if let (ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand, Some(stray)) = (error.kind(), stray) {
                return Err(no_option(stray));
            }
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            // clap explains at length; one line says what is wrong, and the help says the rest.
            let mut line = text.split("\n\n").next().unwrap_or(text).split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(tip) = text.lines().find_map(|line| line.trim().strip_prefix("tip: ")) {
                line = format!("{line} ({tip})");
            }
            Err(Fatal::usage(line))
        }
    }
}

/// The Go procroll's usage is `run PROGRAM [-- ARGUMENTS]`, and what is all behind the `--` comes to the same.
fn as_in_go(mut run: Box<Run>) -> Box<Run> {
    let arguments = std::mem::take(&mut run.command);
    run.command = std::mem::take(&mut run.program);
    run.command.extend(arguments);
    run
}

fn behind_dashes(run: Box<Run>) -> Result<Box<Run>, Fatal> {
    match run.program.first() {
        Some(stray) => Err(no_option(stray)),
        None => Ok(run),
    }
}

fn no_option(stray: &str) -> Fatal {
    Fatal::usage(format!("{stray:?} is no option. Put the command behind --"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        match parse(["procroll"].iter().chain(words).map(OsString::from)) {
            Err(fatal) => fatal.to_string(),
            Ok(parsed) => panic!("{parsed:?}"),
        }
    }

    fn run(words: &[&str]) -> Run {
        match parse(["procroll"].iter().chain(words).map(OsString::from)) {
            Ok(Parsed::Run(run)) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn both_forms_mean_the_same() {
        let options = ["--systemd-run", "--settle=2s", "--", "/bin/web", "--port", "80"];
        let with = [&["run"], &options[..]].concat();
        assert_eq!(run(&options), run(&with));
        assert_eq!(run(&options).command, ["/bin/web", "--port", "80"]);
    }

    #[test]
    fn without_systemd_run_it_takes_the_word_run() {
        let parsed = |words: &[&str]| parse(["procroll"].iter().chain(words).map(OsString::from));
        for words in [
            &["run", "--settle=2s", "--", "/bin/web", "-d"][..],
            &["run", "/bin/web", "--settle=2s", "--", "-d"],
            &["run", "--settle=2s", "/bin/web", "--", "-d"],
        ] {
            let Ok(Parsed::Direct(run)) = parsed(words) else { panic!("{words:?}") };
            assert_eq!((run.command, run.same_dir), (vec!["/bin/web".to_owned(), "-d".to_owned()], false));
        }
        assert!(
            run(&["--", "/bin/web"]).check(None).is_err_and(|fatal| fatal.to_string().contains("say procroll run"))
        );
        let unit = super::in_unit(&["procroll", "run", "--", "/bin/web"].map(str::to_owned), true);
        assert!(unit.is_err_and(|fatal| fatal.to_string().starts_with("it has no --systemd-run")));
        let scoped = ["procroll", "--systemd-run", "--scope", "--", "/bin/web"].map(str::to_owned);
        assert!(matches!(parsed(&["--systemd-run", "--scope", "--", "/bin/web"]), Ok(Parsed::Direct(_))));
        assert!(super::in_unit(&scoped, true).is_err_and(|fatal| fatal.to_string().starts_with("it has --scope")));
        let tempdir = run(&["--systemd-run", "--tempdir=/x", "--", "/bin/web"]).check(None);
        assert!(
            tempdir.is_err_and(|fatal| fatal.to_string().starts_with("--tempdir means nothing with --systemd-run"))
        );
    }

    #[test]
    fn errors_are_one_line_that_names_the_argument() {
        for (words, part) in [
            (&["--nope", "--", "x"][..], "'--nope'"),
            (&["--systemd-run", "--settle=x", "--", "x"], "'--settle <SPAN>': not a time span"),
            (&["--systemd-run", "--signal=FOO", "--", "x"], "not a signal"),
            (&["--systemd-run", "--service-type=oneshot", "--", "x"], "'oneshot'"),
            (&["run", "--systemd-run", "stray", "--", "x"], "\"stray\" is no option. Put the command behind --"),
            (&["run", "--scope", "stray", "--", "x"], "\"stray\" is no option"),
            (&["--systemd-run", "stray"], "\"stray\" is no option. Put the command behind --"),
            (&["rnu", "--", "x"], "\"rnu\" is no option"),
            (&["--systemd-run", "--setle=3", "--", "x"], "'--settle'"),
        ] {
            let error = error(words);
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
            assert!(error.ends_with(". See \"procroll --help\""), "{error}");
        }
    }

    #[test]
    fn an_argument_that_is_not_utf8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let words = ["procroll", "--systemd-run", "--", "x"].map(OsString::from).into_iter();
        let error = parse(words.chain([OsString::from_vec(vec![b'a', 0xff])])).expect_err("not UTF-8").to_string();
        assert_eq!(error, "argument 4 (\"a\\xFF\") is not UTF-8. See \"procroll --help\"");
    }

    #[test]
    fn help_goes_to_standard_output() {
        assert!(matches!(parse(["procroll", "--version"].map(OsString::from)), Ok(Parsed::Show(_))));
        for words in [vec![], vec!["run"], vec!["reload"], vec!["check"]] {
            for help in ["-h", "--help"] {
                let words = [&["procroll"], words.as_slice(), &[help]].concat();
                let Ok(Parsed::Show(text)) = parse(words.iter().map(OsString::from)) else { panic!("{words:?}") };
                assert!(text.contains("Usage: procroll "), "{words:?}: {text}");
            }
        }
    }
}
