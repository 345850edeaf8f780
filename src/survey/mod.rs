//! `procroll check`: looks at units, lets the pure room [`check`](crate::check) judge, and writes drop-ins if it is told to.
//!
//! What is looked at is in [`unit`] (what systemd knows), [`file`] (a file that it needn't know) and [`held`] (what processes
//! have open). Nothing is started, stopped or changed, but for what [`install`] writes.

mod file;
mod held;
mod install;
mod unit;

use anyhow::anyhow;

use crate::check::{self, DropIn, Facts, Host, Report, Unfit, Verdict, json, text};
use crate::cli::{Caller, Check};
use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::run::own_unit;
use crate::systemd::{Bus, Link, Place};

pub use unit::host;

/// What was seen of a unit.
struct Seen {
    /// Its name.
    name: String,
    /// Where its drop-ins belong.
    folder: String,
    /// What is known of it.
    facts: Result<Facts, Unfit>,
    /// Whether it runs.
    runs: bool,
    /// Whether its drop-in has been written.
    written: bool,
}

impl Seen {
    /// What to type when the drop-in has been written.
    fn next(&self, host: &Host) -> String {
        let unit = self.name.trim_end_matches(".service");
        let (start, noticed) = match self.runs {
            true => (host.systemctl(format!("restart {unit}")), ", the last time that anybody notices"),
            false => (host.systemctl(format!("start {unit}")), ""),
        };
        format!("Type {start}{noticed}. From then on {} rolls it", host.systemctl(format!("reload {unit}")))
    }

    fn report(&self, host: &Host) -> Report {
        match &self.facts {
            Ok(facts) => check::judge(facts, host),
            Err(why) => check::unfit(&self.name, why, host),
        }
    }
}

/// Says of each unit whether it can roll: what to print, and what to exit with.
///
/// # Errors
/// If systemd can't be asked, or a drop-in can't be written.
pub async fn check(check: &Check, caller: &Caller) -> Result<(String, ExitStatus), Fatal> {
    if check.write {
        own_unit::heed().await?;
    }
    let files = check.units.iter().any(|word| word.contains('/'));
    if check.write && files {
        return Err(Fatal::usage("--write is for units that systemd knows, and a word with a / in it is a file"));
    }
    let uid = rustix::process::geteuid().as_raw();
    let place = if check.user { Place::user(uid) } else { Place::system() };
    let bus = Bus::new(place);
    let link = match bus.connect().await {
        Ok(link) => Some(link),
        // Files can be judged without.
        Err(_) if check.units.iter().all(|word| word.contains('/')) => None,
        Err(error) => return Err(error.into()),
    };
    let host = host(link.as_ref(), check.user).await?;
    let config = install::config_folder(&bus.place, caller)?;

    let mut seen = Vec::new();
    for word in &check.units {
        seen.push(look(word, link.as_ref(), &host, &config).await?);
    }
    let mut reports: Vec<Report> = seen.iter().map(|seen| seen.report(&host)).collect();
    if let Some(link) = link.filter(|_| check.write) {
        write(&link, &seen, &reports).await?;
        for ((word, seen), report) in check.units.iter().zip(&mut seen).zip(&mut reports) {
            if let Some(drop_in) = report.drop_in.take() {
                // What has been written is judged as anybody else's.
                let mut again = look(word, Some(&link), &host, &config).await?;
                if let Ok(facts) = &mut again.facts {
                    // That is what comes next.
                    facts.restart_due = false;
                }
                let again = again.report(&host);
                seen.written = again.verdict == Verdict::AsItIs;
                let findings = again.with_what_changes(report);
                *report = Report { findings, drop_in: again.drop_in.or(Some(drop_in)), ..again };
            }
        }
    }
    let exit = match reports.iter().any(|report| report.verdict == Verdict::No) {
        true => ExitStatus::UnitRefused,
        false => ExitStatus::Success,
    };
    let both = seen.iter().zip(&reports);
    let output = if check.json {
        let units = both.map(|(seen, report)| json::Entry::new(report, &seen.folder, seen.written)).collect();
        serde_json::to_string_pretty(&json::Document { units }).or_exit(ExitStatus::Internal)? + "\n"
    } else {
        let each = both.map(|(seen, report)| {
            let next = seen.written.then(|| seen.next(&host));
            text::render(report, &seen.folder, next.as_deref())
        });
        each.collect::<Vec<_>>().join("\n")
    };
    Ok((output, exit))
}

/// Writes the drop-ins, and has systemd read them: also those before one that can't be written.
async fn write(link: &Link, seen: &[Seen], reports: &[Report]) -> Result<(), Fatal> {
    let drop_ins = seen.iter().zip(reports).filter_map(|(seen, report)| Some((&seen.folder, report.drop_in.as_ref()?)));
    let mut count = 0;
    let installed = drop_ins.map(|(folder, drop_in)| install(folder, drop_in)).try_for_each(|one| {
        count += usize::from(one.is_ok());
        one
    });
    if count > 0 {
        link.manager().await.or_exit(ExitStatus::Internal)?.reload().await.or_exit(ExitStatus::Internal)?;
    }
    installed
}

async fn look(word: &str, link: Option<&Link>, host: &Host, config: &str) -> Result<Seen, Fatal> {
    match link.filter(|_| !word.contains('/')) {
        Some(link) => unit::look(link, host, word, config).await.map_err(|error| {
            let exit = error.exit();
            Fatal { exit, error: anyhow!(error).context(format!("can't look at {word}")) }
        }),
        None => Ok(file::look(word)),
    }
}

fn install(folder: &str, drop_in: &DropIn) -> Result<(), Fatal> {
    install::write(folder, drop_in).map_err(|error| {
        let path = format!("{folder}/{}", drop_in.name);
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Fatal {
                exit: ExitStatus::NotAllowed,
                error: anyhow!("not allowed to write {path}. Try it with sudo, or with --user"),
            },
            std::io::ErrorKind::AlreadyExists => Fatal {
                exit: ExitStatus::NameTaken,
                error: anyhow!("{path} is not procroll's. Look at it, and move it out of the way"),
            },
            _ => Fatal { exit: ExitStatus::Internal, error: anyhow!(error).context(format!("can't write {path}")) },
        }
    })
}
