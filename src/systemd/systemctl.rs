//! systemctl, for what has to work without a bus: it has a way of its own to the manager, which is for that one's owner.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

use super::Place;
use super::guard::{self, Seen};
use crate::settings::Span;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs systemctl with these arguments, and gives what it printed.
///
/// # Errors
/// What it said, if it failed.
pub async fn run(place: &Place, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("/usr/bin/systemctl");
    command.env_clear();
    if let Some(uid) = place.user {
        command.arg("--user").env("XDG_RUNTIME_DIR", Place::runtime_directory(uid));
    }
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.context("systemctl did not end in time")?;
    let output = output.context("can't run systemctl")?;
    if !output.status.success() {
        bail!("systemctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What systemd says of a wrapper unit whose guard is being stopped.
pub async fn look(place: &Place, wrapper: &str, guard: &str) -> Result<Seen> {
    let exit = "--property=ActiveExitTimestampMonotonic";
    let mut other = run(place, &["show", "--property=UnitsLoadTimestampMonotonic"]).await?;
    other.push_str(&run(place, &["show", exit, guard]).await?);
    let properties = "--property=ActiveState,SubState,Job,NRestarts,ExecMainStartTimestampMonotonic,StatusText,\
         RestartUSec,RestartMode";
    let shown = run(place, &["show", properties, exit, wrapper]).await?;
    let jobs = run(place, &["list-jobs", "--full", "--plain", "--no-legend"]).await?;
    read(wrapper, &shown, &jobs, &other)
}

/// Reads what `systemctl show` prints of a unit, `systemctl list-jobs`, and `systemctl show` of the manager and the guard.
fn read(unit: &str, shown: &str, jobs: &str, other: &str) -> Result<Seen> {
    let job = jobs.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some(unit)).then(|| words.next().unwrap_or_default().to_owned())
    });
    // One that is over since it was shown: what comes of it will be seen.
    let job = job.or_else(|| property(shown, "Job").is_ok_and(|job| !job.is_empty()).then(String::new));
    let restart_usec = match property(shown, "RestartUSec")?.parse()? {
        Span::Of(pause) => u64::try_from(pause.as_micros())?,
        Span::Infinite => u64::MAX,
    };
    Ok(Seen {
        active_state: property(shown, "ActiveState")?.to_owned(),
        sub_state: property(shown, "SubState")?.to_owned(),
        job,
        active_exit: property(shown, "ActiveExitTimestampMonotonic")?.parse()?,
        main_start: property(shown, "ExecMainStartTimestampMonotonic")?.parse()?,
        has_spoken: property(shown, "StatusText").is_ok_and(|text| !text.is_empty()),
        now: guard::now(),
        units_load: property(other, "UnitsLoadTimestampMonotonic")?.parse()?,
        restart_usec,
        // systemd 254 or later.
        direct: property(shown, "RestartMode").is_ok_and(|mode| mode == "direct"),
        restarts: [property(shown, "NRestarts")?.parse()?; 2],
        guard_exit: property(other, "ActiveExitTimestampMonotonic")?.parse()?,
    })
}

fn property<'a>(shown: &'a str, name: &str) -> Result<&'a str> {
    let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.with_context(|| format!("systemctl shows no {name}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    /// What systemctl prints, and the beginnings and ends of it.
    const PRINTED: &[&str] = &[
        "NRestarts=3\n",
        "UnitsLoadTimestampMonotonic=7\n",
        "Job=612\n",
        "StatusText=web@1.service serves\n",
        "NRestarts=",
        "4294967296\n",
        "RestartUSec=1min 100ms\n",
        "RestartUSec=infinity\n",
        "RestartUSec=",
        "RestartMode=direct\n",
        "ExecMainStartTimestampMonotonic=7\n",
        "ActiveState=active\n",
        "ActiveState=",
        "SubState=running\n",
        "ActiveExitTimestampMonotonic=9\n",
        "612 web.service start waiting\n",
        "web.service",
        " ",
        "\n",
        "=",
    ];

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(shown in text_of(PRINTED), jobs in text_of(PRINTED), guard in text_of(PRINTED)) {
            if let Ok(seen) = read("web.service", &shown, &jobs, &guard) {
                let shows_state = |line: &str| line.strip_prefix("ActiveState=") == Some(seen.active_state.as_str());
                prop_assert!(shown.lines().any(shows_state));
                prop_assert!(seen.job.is_none_or(|job| job.is_empty() || jobs.lines().any(|line| line.contains("web.service") && line.contains(&job))));
            }
        }
    }

    #[test]
    fn what_it_prints_is_read() {
        let shown = "NRestarts=3\nRestartUSec=1min 100ms\nExecMainStartTimestampMonotonic=7\nActiveState=deactivating\n\
                     SubState=stop-sigterm\nActiveExitTimestampMonotonic=9\n";
        let guard = "UnitsLoadTimestampMonotonic=6\nActiveExitTimestampMonotonic=10\n";
        let jobs = "612 webb.service start waiting\n613 web.service stop running\n";
        let seen = read("web.service", shown, jobs, guard).expect("what systemctl prints");
        assert_eq!((seen.active_state.as_str(), seen.sub_state.as_str()), ("deactivating", "stop-sigterm"));
        assert_eq!(seen.job.as_deref(), Some("stop"));
        let times = (seen.active_exit, seen.main_start, seen.guard_exit, seen.units_load, seen.restart_usec);
        assert_eq!(times, (9, 7, 10, 6, 60_100_000));
        assert!(!seen.has_spoken && !seen.direct);
        let said = format!("{shown}RestartMode=direct\nStatusText=Looks for generations\nJob=613\n");
        let seen = read("web.service", &said, "", guard).expect("a job that is over");
        assert!(seen.has_spoken && seen.direct && seen.job.as_deref() == Some("") && !seen.stays_down());
        assert!(read("web.service", "", "", guard).is_err());
    }
}
