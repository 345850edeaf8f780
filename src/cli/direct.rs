//! `procroll run` without `--systemd-run`, or with `--scope`: generations that are procroll's own processes.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::overrides::{self, Caller};
use super::{Run, settings};
use crate::exit::Fatal;
use crate::settings::direct::{Direct, READY_TIMEOUT, SHUTDOWN_TIMEOUT, Scope};
use crate::settings::{ServiceType, SignalName, Span, template};

/// What the caller's environment says to procroll alone.
const OWN: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_PIDFDID"];

impl Run {
    /// Checks what the command line said, for generations that systemd does not start.
    ///
    /// # Errors
    /// One line that names the option and why it can't be.
    pub fn check_direct(&self, caller: &Caller) -> Result<Direct, Fatal> {
        match self.scope {
            true => self.refuse_options_of_services()?,
            false => self.refuse_options_of_units()?,
        }
        let command = settings::check_command(&self.command)?;
        if !self.scope && command.iter().any(|word| template::names_unit(word)) {
            return Err(Fatal::usage("{{.Unit}} means nothing without --systemd-run: there is no unit"));
        }
        let listens = variable(caller, "LISTEN_PID") == Some(OsStr::new(&std::process::id().to_string()));
        let mut environment = caller.environment.clone();
        let own = |name: &OsStr| OWN.iter().any(|own| name == *own && (listens || !own.starts_with("LISTEN_")));
        // That of the scope is another one.
        let invocation = |name: &OsStr| self.scope && name == "INVOCATION_ID";
        environment.retain(|(name, _)| !(own(name) || invocation(name)));
        for assignment in &self.setenv {
            let (name, value) = overrides::assignment(assignment, Some(caller))?;
            if !name.starts_with("WATCHDOG_") && (own(OsStr::new(name)) || invocation(OsStr::new(name))) {
                return Err(Fatal::usage(format!("--setenv={assignment}: each generation gets a {name} of its own")));
            }
            environment.retain(|(other, _)| other != name);
            environment.push((name.into(), value));
        }
        Ok(Direct {
            strategy: self.strategy,
            pace: self.pace()?,
            service_type: self.service_type,
            ready_timeout: timeout("--ready-timeout", self.ready_timeout, READY_TIMEOUT)?,
            shutdown_timeout: timeout("--shutdown-timeout", self.shutdown_timeout, SHUTDOWN_TIMEOUT)?,
            signal: self.signal.clone().unwrap_or_else(|| SignalName::of(nix::libc::SIGTERM)),
            tempdirs: self.tempdir.clone().map_or_else(|| tempdirs(caller), |path| vec![path]),
            environment,
            listens,
            directory: self.working_directory.as_ref().map(PathBuf::from),
            current: path(caller, "PWD"),
            scope: self.scope()?,
            command,
        })
    }

    fn scope(&self) -> Result<Option<Scope>, Fatal> {
        if !self.scope {
            return Ok(None);
        }
        let unit = self.base_name()?;
        Ok(Some(Scope { user: self.user, unit, overrides: overrides::of_scope(self)? }))
    }

    fn refuse_options_of_services(&self) -> Result<(), Fatal> {
        if self.service_type == ServiceType::NotifyReload {
            return Err(Fatal::usage("--service-type=notify-reload means nothing with --scope"));
        }
        let given = [("--uid", self.uid.is_some()), ("--gid", self.gid.is_some())];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Fatal::usage(format!(
                "{option} means nothing with --scope: the command runs as whoever runs procroll. \
                 Put setpriv(1) before it: --service-type=exec -- setpriv --reuid=USER --regid=GROUP --init-groups COMMAND"
            ))),
            None => Ok(()),
        }
    }

    fn refuse_options_of_units(&self) -> Result<(), Fatal> {
        let given = [
            ("--user", self.user),
            ("--unit", self.unit.is_some()),
            ("--property", !self.property.is_empty()),
            ("--uid", self.uid.is_some()),
            ("--gid", self.gid.is_some()),
            ("--slice", self.slice.is_some()),
            ("--description", self.description.is_some()),
            ("--service-type=notify-reload", self.service_type == ServiceType::NotifyReload),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Fatal::usage(format!("{option} means nothing without --systemd-run"))),
            None => Ok(()),
        }
    }
}

fn variable<'a>(caller: &'a Caller, name: &str) -> Option<&'a OsStr> {
    caller.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

fn timeout(option: &str, span: Option<Span>, default: Span) -> Result<Span, Fatal> {
    match span {
        Some(Span::Of(Duration::ZERO)) => Err(overrides::no_time(option)),
        span => Ok(span.unwrap_or(default)),
    }
}

/// As mktemp(1) has it. `$XDG_RUNTIME_DIR` would go when its user logs out.
fn tempdirs(caller: &Caller) -> Vec<PathBuf> {
    path(caller, "TMPDIR").into_iter().chain(["/tmp".into()]).collect()
}

fn path(caller: &Caller, name: &str) -> Option<PathBuf> {
    variable(caller, name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::*;
    use crate::cli::{Parsed, parse};

    fn check(words: &[&str], environment: &[(&str, &str)]) -> Result<Direct, String> {
        let words = ["procroll", "run"].iter().chain(words).chain(&["--", "/bin/x", "{{.Generation}}"]);
        let variables = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        match parse(words.map(OsString::from)).map_err(|fatal| fatal.to_string())? {
            Parsed::Direct(run) => {
                run.check_direct(&Caller { environment: variables, directory: None }).map_err(|fatal| fatal.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_first_procroll() {
        let direct = check(&[], &[]).expect("no options");
        let seconds = |seconds| Span::Of(Duration::from_secs(seconds));
        assert_eq!((direct.ready_timeout, direct.shutdown_timeout), (seconds(10), seconds(60)));
        assert_eq!(direct.signal.number(), 15);
        assert_eq!(direct.tempdirs, [Path::new("/tmp")]);
        let user = check(&[], &[("TMPDIR", "/x"), ("XDG_RUNTIME_DIR", "/run/user/7")]).expect("no options");
        assert_eq!(user.tempdirs, ["/x", "/tmp"].map(Path::new));
        assert_eq!(check(&["--tempdir=t"], &[]).map(|direct| direct.tempdirs), Ok(vec!["t".into()]));
        for form in ["SIGTERM", "TERM", "15"] {
            let direct = check(&["--debug", "--signal", form, "--shutdown-timeout=1m", "--ready-timeout", "10s"], &[]);
            assert_eq!(direct.map(|direct| direct.signal.number()), Ok(15), "{form}");
        }
    }

    #[test]
    fn what_needs_a_unit_is_refused_by_name() {
        for (words, option) in [
            (&["-p", "Nice=1"][..], "--property"),
            (&["--uid=app"], "--uid"),
            (&["--gid=app"], "--gid"),
            (&["--slice=web"], "--slice"),
            (&["--unit=web"], "--unit"),
            (&["--user"], "--user"),
            (&["--description=x"], "--description"),
            (&["--service-type=notify-reload"], "--service-type=notify-reload"),
        ] {
            let error = check(words, &[]).expect_err(option);
            assert_eq!(error, format!("{option} means nothing without --systemd-run. See \"procroll --help\""));
        }
        assert!(check(&["--ready-timeout=0"], &[]).is_err_and(|error| error.contains("say infinity")));
        assert!(check(&["--settle=infinity"], &[]).is_err_and(|error| error.contains("--settle=infinity")));
    }

    #[test]
    fn a_scope_has_what_systemd_can_set() {
        let options = ["--scope", "--user", "--unit=web", "--slice=shop", "--description=A b", "-pMemoryMax=1G"];
        let scope = check(&options, &[("INVOCATION_ID", "x"), ("A", "1")]).expect("settings");
        assert_eq!(scope.environment, [("A".into(), "1".into())], "it has an id of its own");
        let scope = scope.scope.expect("a scope");
        let lines: Vec<_> = scope.overrides.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
        assert_eq!(lines, ["Slice=shop.slice", "Description=A b", "MemoryMax=1G"]);
        assert_eq!((scope.user, scope.unit.map(|base| base.to_string())), (true, Some("web".to_owned())));
        for (word, part) in
            [("--uid=app", "setpriv"), ("--service-type=notify-reload", "with --scope"), ("-pUser", "no =")]
        {
            assert!(check(&["--scope", word], &[]).is_err_and(|error| error.contains(part)), "{word}");
        }
    }

    #[test]
    fn the_environment_is_the_callers_without_what_is_procrolls() {
        let pid = std::process::id().to_string();
        let caller = [
            ("NOTIFY_SOCKET", "/x"),
            ("WATCHDOG_USEC", "1"),
            ("WATCHDOG_PID", "1"),
            ("LISTEN_FDS", "2"),
            ("LISTEN_PID", pid.as_str()),
            ("A", "1"),
            ("B", "2"),
        ];
        let direct = check(&["-E", "A=3", "-E", "B"], &caller).expect("settings");
        let expected = [("LISTEN_FDS", "2"), ("A", "3"), ("B", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!((direct.environment, direct.listens), (expected.to_vec(), true));
        let others = check(&[], &[("LISTEN_PID", "1"), ("LISTEN_FDS", "1")]).expect("settings");
        assert_eq!((others.environment.len(), others.listens), (2, false), "they are not procroll's to pass on");
        let twice = [(&["-E", "NOTIFY_SOCKET=/x"][..], &[][..]), (&["-E", "LISTEN_PID=1"], &caller)];
        for (words, caller) in twice.into_iter().chain([(&["--scope", "-E", "INVOCATION_ID=1"][..], &[][..])]) {
            assert!(check(words, caller).is_err_and(|error| error.contains("of its own")), "{words:?}");
        }
        let none = [&["-E", "LISTEN_PID=1"], &["-E", "INVOCATION_ID=1"], &["-E", "WATCHDOG_USEC=1"]];
        assert!(none.iter().all(|words| check(*words, &[]).is_ok()), "it gets none");
    }
}
