//! Options that become lines of the generations' unit: `-p`, `-E`, `--uid=` and their like.
//!
//! Only their form is checked here; whether systemd knows the key and takes the value is asked of systemd itself
//! (`systemd::verify`).

use std::ffi::OsString;

use super::Run;
use crate::exit::Fatal;
use crate::settings::{Override, Span};
use crate::unit::keys::{self, Class};
use crate::unit::quote;
use crate::unit::specifier;
use crate::unit::text::{self, Section};

/// Where procroll was called from. In a wrapper unit that is nowhere: its environment is the application's.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its directory; none if it is gone.
    pub directory: Option<std::path::PathBuf>,
}

/// All lines that `run` asks for, in this order.
pub(super) fn overrides(run: &Run, caller: Option<&Caller>) -> Result<Vec<Override>, Fatal> {
    let mut overrides = Vec::new();
    let working_directory = run.working_directory.as_deref().map(|path| absolute(path, caller));
    let options = [
        ("--uid", "User", &run.uid),
        ("--gid", "Group", &run.gid),
        ("--working-directory", "WorkingDirectory", &working_directory),
    ];
    for (option, key, value) in options {
        overrides.extend(value.as_deref().map(|value| line(option, key, value)).transpose()?);
    }
    overrides.extend(of_any_unit(run)?);
    if run.same_dir {
        overrides.push(line("--same-dir", "WorkingDirectory", &directory(caller)?)?);
    }
    let timeouts = [
        ("--ready-timeout", "TimeoutStartSec", run.ready_timeout),
        ("--shutdown-timeout", "TimeoutStopSec", run.shutdown_timeout),
    ];
    for (option, key, span) in timeouts {
        if let Some(span) = span {
            // systemd reads 0 as no limit in both, which nobody who writes it here means.
            if span == Span::Of(std::time::Duration::ZERO) {
                return Err(no_time(option));
            }
            overrides.push(line(option, key, &span.to_string())?);
        }
    }
    if let Some(signal) = &run.signal {
        overrides.push(line("--signal", "KillSignal", &signal.to_string())?);
    }
    for assignment in &run.setenv {
        overrides.push(environment(assignment, caller)?);
    }
    overrides.extend(properties(run)?);
    Ok(overrides)
}

/// What of that a scope can have as well: the rest is about how a process is started, which procroll does itself.
pub(super) fn of_scope(run: &Run) -> Result<Vec<Override>, Fatal> {
    Ok([of_any_unit(run)?, properties(run)?].concat())
}

fn of_any_unit(run: &Run) -> Result<Vec<Override>, Fatal> {
    let slice = |slice: &str| if slice.contains('.') { slice.to_owned() } else { format!("{slice}.slice") };
    let slice = run.slice.as_deref().map(slice);
    let options = [("--slice", "Slice", &slice), ("--description", "Description", &run.description)];
    let given = options.into_iter().filter_map(|(option, key, value)| Some((option, key, value.as_deref()?)));
    given.map(|(option, key, value)| line(option, key, value)).collect()
}

fn properties(run: &Run) -> Result<Vec<Override>, Fatal> {
    run.property.iter().map(|assignment| property(assignment)).collect()
}

fn line(option: &str, key: &str, value: &str) -> Result<Override, Fatal> {
    let written =
        quote::value(value).map_err(|error| Fatal::usage(format!("{option}={value:?} can't be used: {error}")))?;
    if written.is_empty() {
        return Err(Fatal::usage(format!("{option}= needs a value")));
    }
    Ok(Override { key: key.to_owned(), option: format!("{option}={written}"), value: written })
}

pub(super) fn no_time(option: &str) -> Fatal {
    Fatal::usage(format!("{option}=0 is no time at all. For no limit say infinity"))
}

/// A path as the caller means it. In a unit it has to be absolute, and systemd says so.
fn absolute(path: &str, caller: Option<&Caller>) -> String {
    let directory = caller.and_then(|caller| caller.directory.as_ref()).filter(|_| !path.starts_with('~'));
    let absolute = directory.and_then(|directory| directory.join(path).into_os_string().into_string().ok());
    absolute.unwrap_or_else(|| path.to_owned())
}

fn directory(caller: Option<&Caller>) -> Result<String, Fatal> {
    let Some(caller) = caller else {
        return Err(Fatal::usage("--same-dir has no meaning in a unit. Set its WorkingDirectory="));
    };
    let directory =
        caller.directory.as_ref().ok_or_else(|| Fatal::usage("--same-dir: the current directory is gone"))?;
    directory
        .to_str()
        .map(str::to_owned)
        .ok_or_else(|| Fatal::usage(format!("--same-dir: the current directory {directory:?} is not UTF-8")))
}

fn environment(assignment: &str, caller: Option<&Caller>) -> Result<Override, Fatal> {
    let (name, value) = self::assignment(assignment, caller)?;
    let value = value
        .into_string()
        .map_err(|value| Fatal::usage(format!("--setenv={name}: its value {value:?} is not UTF-8")))?;
    let value = quote::word(&format!("{name}={value}"))
        .map_err(|error| Fatal::usage(format!("--setenv={name} can't be used: {error}")))?;
    Ok(Override { key: "Environment".to_owned(), value, option: format!("--setenv={name}") })
}

/// What `--setenv=` sets: the name, and the value that is given or the caller's.
pub(super) fn assignment<'a>(assignment: &'a str, caller: Option<&Caller>) -> Result<(&'a str, OsString), Fatal> {
    let (name, value) = match assignment.split_once('=') {
        Some((name, value)) => (name, value.into()),
        None => (assignment, inherited(assignment, caller)?),
    };
    let valid = |char: char| char.is_ascii_alphanumeric() || char == '_';
    if name.is_empty() || !name.chars().all(valid) || name.starts_with(|char: char| char.is_ascii_digit()) {
        return Err(Fatal::usage(format!("--setenv={assignment}: {name:?} is no name of an environment variable")));
    }
    Ok((name, value))
}

fn inherited(name: &str, caller: Option<&Caller>) -> Result<OsString, Fatal> {
    let Some(caller) = caller else {
        return Err(Fatal::usage(format!(
            "--setenv={name} has no value, and in a unit there is no caller to take it from. Set it with PassEnvironment="
        )));
    };
    let value = caller.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    value.ok_or_else(|| Fatal::usage(format!("--setenv={name}: it is not set here")))
}

fn property(assignment: &str) -> Result<Override, Fatal> {
    let refuse = |why: &str| Err(Fatal::usage(format!("--property={assignment:?} can't be used: {why}")));
    let Some((key, value)) = assignment.split_once('=') else {
        return refuse("there is no =");
    };
    if !text::is_key(key) {
        return refuse("the name has other characters than letters and digits");
    }
    if key == "RuntimeDirectory" {
        return refuse("it would outlive the generations, or be gone with the first of them. Set it in a wrapper unit");
    }
    for section in [Section::Unit, Section::Service] {
        let (class, why) = keys::class(section, key);
        if class != Class::Carried {
            return refuse(&format!("{key}= of a generation is procroll's to set ({why})"));
        }
    }
    let written = if specifier::has_specifiers(key) { quote::value(value) } else { quote::literal(value) };
    match written {
        Ok(value) => Ok(Override { key: key.to_owned(), value, option: format!("--property={assignment}") }),
        Err(error) => refuse(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::tests::check;

    fn lines(words: &[&str]) -> Result<Vec<String>, String> {
        let caller = Caller {
            environment: vec![("HOME".into(), "/root".into()), ("MULTI".into(), "a\nb".into())],
            directory: Some("/srv/my app".into()),
        };
        let words = [words, &["--", "/bin/x"]].concat();
        let settings = check(&words, Some(&caller))?;
        Ok(settings.overrides.into_iter().map(|one| format!("{}={}", one.key, one.value)).collect())
    }

    #[test]
    fn options_become_lines() {
        let words = [
            "--uid=app",
            "--gid=www",
            "--working-directory=/srv",
            "--slice=web.slice",
            "--description=A b",
            "--ready-timeout=1m30s",
            "--shutdown-timeout=infinity",
            "--signal=QUIT",
            "-pCPUQuota=20%",
            "-p",
            "LimitNOFILE=99",
        ];
        let expected = [
            "User=app",
            "Group=www",
            "WorkingDirectory=/srv",
            "Slice=web.slice",
            "Description=A b",
            "TimeoutStartSec=90000000us",
            "TimeoutStopSec=infinity",
            "KillSignal=SIGQUIT",
            "CPUQuota=20%",
            "LimitNOFILE=99",
        ];
        assert_eq!(lines(&words), Ok(expected.map(str::to_owned).to_vec()));
        let relative = ["WorkingDirectory=/srv/my app/lib", "Slice=web.slice"].map(str::to_owned).to_vec();
        assert_eq!(lines(&["--working-directory=lib", "--slice=web"]), Ok(relative));
        assert_eq!(lines(&["--same-dir"]), Ok(vec!["WorkingDirectory=/srv/my app".to_owned()]));
    }

    #[test]
    fn environment_is_quoted_and_inherited_by_name() {
        let expected = ["\"A=%%n \\\"$X\\\"\"", "\"HOME=/root\"", "\"MULTI=a\\nb\"", "\"EMPTY=\""];
        let expected = expected.map(|value| format!("Environment={value}")).to_vec();
        assert_eq!(lines(&["-E", "A=%n \"$X\"", "-E", "HOME", "--setenv=MULTI", "-EEMPTY="]), Ok(expected));
        assert!(lines(&["-E", "NOPE"]).is_err_and(|error| error.starts_with("--setenv=NOPE: it is not set here")));
        assert!(lines(&["-E", "1A=x"]).is_err_and(|error| error.contains("\"1A\" is no name")));
    }

    #[test]
    fn a_percent_sign_is_no_specifier() {
        let words = ["-p", "SyslogIdentifier=%n", "-p", "SetCredential=a:%n", "-p", "LogFilterPatterns=~1%n"];
        let expected = ["SyslogIdentifier=%%n", "SetCredential=a:%n", "LogFilterPatterns=~1%n"];
        assert_eq!(lines(&words), Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn values_of_several_lines_are_refused() {
        for words in
            [["-p", "Nice=1\nUser=root"], ["-p", "OpenFile=/x\nUser=root"], ["--uid", "app\nExecStartPre=+/bin/sh"]]
        {
            assert!(lines(&words).is_err_and(|error| error.contains("U+000A")), "{words:?}");
        }
    }

    #[test]
    fn what_procroll_sets_itself_is_refused_with_the_reason() {
        for own in ["ExecStart=/bin/y", "Restart=always", "CollectMode=inactive-or-failed", "PartOf=x.service"] {
            assert!(lines(&["-p", own]).is_err_and(|error| error.contains("procroll's to set")), "{own}");
        }
        assert!(lines(&["-p", "RuntimeDirectory=x"]).is_err_and(|error| error.contains("in a wrapper unit")));
        for bad in ["Nice", "=1", "Ni ce=1", "[Unit]=1"] {
            assert!(lines(&["-p", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn in_a_unit_there_is_no_caller() {
        let refused = |words: &[&str]| check(&[words, &["--", "/bin/x"]].concat(), None);
        assert!(refused(&["-E", "HOME"]).is_err_and(|error| error.contains("PassEnvironment=")));
        assert!(refused(&["--same-dir"]).is_err_and(|error| error.contains("WorkingDirectory=")));
    }

    #[test]
    fn no_time_is_no_timeout() {
        assert!(lines(&["--shutdown-timeout=0"]).is_err_and(|error| error.contains("say infinity")));
    }
}
