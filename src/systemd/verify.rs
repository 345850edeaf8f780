//! Asks systemd itself whether it knows a key and takes its value, by `systemd-analyze verify`.
//!
//! systemd only logs what it doesn't understand of a unit, and goes on without it. For what somebody asks for on the
//! command line that is not good enough.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use zbus::Variant;

use super::error::is_about_the_connection;
use super::manager::Property;
use super::{Link, Place, folder};
use crate::exit::{ExitStatus, Fatal};
use crate::settings::Override;
use crate::unit::text::{self, Assignment, Section};

/// How long the check may take; it takes some 30 ms.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A key that no systemd knows, on the last line: it says so when it has read all the others.
const LAST: &str = "ProcrollLastLine";

/// Gives each line its section.
///
/// # Errors
/// [`ExitStatus::Usage`] for a line that systemd doesn't know or would ignore, in systemd's own words;
/// [`ExitStatus::NoManager`] or [`ExitStatus::Internal`] if the check can't be made.
pub async fn verify(link: &Link, owner: &str, name: &str, overrides: &[Override]) -> Result<Vec<Assignment>, Fatal> {
    if overrides.is_empty() {
        return Ok(Vec::new());
    }
    // On systemd-analyze's command line a colon would end the path.
    let name = name.replace(':', "_");
    // Which section a key belongs to is systemd's to know: each line stands in both, and one of them fits.
    let unit = overrides.iter().map(|one| Assignment::own(Section::Unit, &one.key, &one.value));
    let service = [("Type", "notify"), ("ExecStart", "/bin/true")]
        .into_iter()
        .map(|(key, value)| Assignment::own(Section::Service, key, value))
        .chain(overrides.iter().map(|one| Assignment::own(Section::Service, &one.key, &one.value)))
        .chain([Assignment::own(Section::Service, LAST, "yes")]);
    let lines: Vec<_> = unit.chain(service).collect();

    let text = text::render(&lines);
    let (mut file, mut said) = check(link, &name, &text).await.map_err(unchecked)?;
    if !said.contains(&file) {
        tracing::debug!("a unit of this systemd's has no credentials");
        (file, said) = check_in_folder(link, owner, &name, &text).await.map_err(unchecked)?;
    }
    let mut messages = Messages::parse(&said, &file);
    // The two sections' headings are lines as well.
    let heard_to_the_end = messages.take_last(lines.len() + 2);

    let mut assignments = Vec::new();
    for (index, one) in overrides.iter().enumerate() {
        // Line 1 is [Unit]; [Service] has a line of its own, and two of ours.
        let (in_unit, in_service) = (2 + index, 2 + overrides.len() + 3 + index);
        let section = match (messages.is_unknown(in_unit), messages.is_unknown(in_service)) {
            (true, true) => {
                return refuse(anyhow!("{}: this version of systemd knows no {}=. Leave it out", one.option, one.key));
            }
            (true, false) => Section::Service,
            (false, _) => Section::Unit,
        };
        let line = if section == Section::Unit { in_unit } else { in_service };
        if let Some(message) = messages.refusal(line) {
            return refuse(anyhow!("{}: {}", one.option, message.replace(", ignoring", "")));
        }
        if let Some(message) = messages.at(line).next() {
            tracing::warn!("{}: {message}", one.option);
        }
        assignments.push(Assignment::own(section, &one.key, &one.value));
    }
    // Without a word about the last line nothing follows from there being none about the others.
    if !heard_to_the_end {
        let error = anyhow!(
            "systemd-analyze verify was not heard to the end, so it is not known what systemd makes of the options. See {}",
            link.place().journalctl("'procroll-verify-*'")
        );
        return Err(Fatal { exit: ExitStatus::Internal, error });
    }
    Ok(assignments)
}

/// Nothing follows from that for the options.
fn unchecked(error: anyhow::Error) -> Fatal {
    let exit = if is_about_the_connection(&error) { ExitStatus::NoManager } else { ExitStatus::Internal };
    Fatal { exit, error }
}

fn refuse<T>(error: anyhow::Error) -> Result<T, Fatal> {
    Err(Fatal { exit: ExitStatus::Usage, error })
}

/// The same for lines that are to be a scope's. No file is ever read as a scope, so of the keys that a service has systemd is
/// asked which a scope has as well.
///
/// # Errors
/// The same.
pub async fn verify_scope(
    link: &Link,
    owner: &str,
    name: &str,
    overrides: &[Override],
) -> Result<Vec<Assignment>, Fatal> {
    let mut assignments = verify(link, owner, name, overrides).await?;
    if assignments.iter().all(|one| one.section == Section::Unit) {
        return Ok(assignments);
    }
    let dump = ["/lib/systemd/systemd", "--dump-configuration-items"];
    let unit = unit_name();
    let known = run(link, &unit, &dump, Heard::Output, None).await.context("can't ask systemd what a scope has");
    let known = known.map_err(unchecked)?;
    for (assignment, one) in assignments.iter_mut().zip(overrides).filter(|(line, _)| line.section == Section::Service)
    {
        if !is_of_scopes(&known, &assignment.key) {
            return refuse(anyhow!(
                "{}: a scope has no {}=, since systemd does not start its processes. Leave it out, or leave --scope out",
                one.option,
                one.key
            ));
        }
        assignment.section = Section::Scope;
    }
    Ok(assignments)
}

/// Whether the section of scopes lists this key, in what systemd says of all keys.
fn is_of_scopes(known: &str, key: &str) -> bool {
    let section = known.lines().skip_while(|line| *line != "[Scope]").skip(1).take_while(|line| !line.starts_with('['));
    section.filter_map(|line| line.split_once('=')).any(|(one, _)| one == key)
}

/// What `systemd-analyze verify` says of the file of this name with this text, and the path by which it names that. It gets
/// it as a credential: systemd removes those with their unit, whatever becomes of procroll.
async fn check(link: &Link, name: &str, text: &str) -> Result<(String, String)> {
    let unit = unit_name();
    let file = link.place().credentials.join(&unit).join(name).to_string_lossy().into_owned();
    let said = analyze(link, &unit, &file, Some((name, text))).await?;
    Ok((file, said))
}

/// The same by a folder of procroll's, which goes with procroll, unless that is killed. In some containers there are no
/// credentials.
async fn check_in_folder(link: &Link, owner: &str, name: &str, text: &str) -> Result<(String, String)> {
    let scratch = Scratch::new(link.place(), owner)?;
    let file = scratch.0.join(name);
    fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))?;
    let file = file.to_string_lossy().into_owned();
    let said = analyze(link, &unit_name(), &file, None).await?;
    Ok((file, said))
}

async fn analyze(link: &Link, unit: &str, file: &str, credential: Option<(&str, &str)>) -> Result<String> {
    let mut command = vec!["/usr/bin/systemd-analyze", "verify", "--man=no", "--recursive-errors=no"];
    command.extend(link.place().user.map(|_| "--user"));
    command.push(file);
    let said = run(link, unit, &command, Heard::Errors, credential).await;
    said.context("can't check options with systemd-analyze verify")
}

/// What is listened to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Output,
    Errors,
}

/// What one of systemd's programs says. It runs in a `unit` of its own: a process that a crash of procroll left in the
/// wrapper would keep systemd from starting that again in place, and so end the generation that serves.
async fn run(
    link: &Link,
    unit: &str,
    command: &[&str],
    heard: Heard,
    credential: Option<(&str, &str)>,
) -> Result<String> {
    let (writer, mut reader) = {
        let (writer, reader) = pipe::pipe()?;
        (writer.into_blocking_fd()?, reader)
    };
    let (pipe, other) = match heard {
        Heard::Output => ("StandardOutputFileDescriptor", "StandardError"),
        Heard::Errors => ("StandardErrorFileDescriptor", "StandardOutput"),
    };
    let program = command.first().copied().unwrap_or_default();
    let credentials: Vec<_> = credential.into_iter().map(|(name, text)| (name, text.as_bytes())).collect();
    let properties: [Property<'_>; 10] = [
        ("Description", Variant::from("Checks options of procroll's")),
        ("Type", Variant::from("oneshot")),
        ("TimeoutStartUSec", Variant::from(u64::try_from(TIMEOUT.as_micros())?)),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("DefaultDependencies", Variant::from(false)),
        // The manager's may tell it to say less.
        ("Environment", Variant::from(vec!["SYSTEMD_LOG_LEVEL=info", "SYSTEMD_LOG_TARGET=console"])),
        ("SetCredential", Variant::from(credentials)),
        (other, Variant::from("null")),
        (pipe, Variant::from(zbus::Fd::from(&writer))),
        ("ExecStart", Variant::from(vec![(program, command.to_vec(), true)])),
    ];
    link.manager().await?.start_transient_unit(unit, "fail", &properties, &[]).await?;
    drop(writer);
    // systemd and what it has started hold the other end.
    let mut said = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, reader.read_to_end(&mut said)).await;
    read.with_context(|| format!("{program} did not end in time"))??;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// One that nobody else uses, now or before.
fn unit_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("procroll-verify-p{}-{}.service", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder of our own, gone with this. It lies where only the manager's owner can make one, so nothing in it is
/// anybody else's.
struct Scratch(PathBuf);

impl Scratch {
    fn new(place: &Place, owner: &str) -> Result<Self> {
        folder::make_scratch(place, owner).map(Self).context("can't make a folder to check options in")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `systemd-analyze verify` said about the lines of one file.
struct Messages<'a> {
    lines: Vec<(usize, &'a str)>,
    /// systemd would not load the unit at all, which is due to the last thing it complained about.
    fatal: bool,
}

impl<'a> Messages<'a> {
    fn parse(said: &'a str, file: &str) -> Self {
        let lines = said.lines().filter_map(|line| {
            let (number, message) = line.strip_prefix(file)?.strip_prefix(':')?.split_once(':')?;
            Some((number.parse().ok()?, message.trim()))
        });
        Self { lines: lines.collect(), fatal: said.contains("fatal error") || said.contains("bad unit file setting") }
    }

    /// Whether the last word was that about [`LAST`], on this line. It is no complaint, and gone then.
    fn take_last(&mut self, number: usize) -> bool {
        self.lines.pop_if(|(line, message)| *line == number && message.contains(LAST)).is_some()
    }

    fn at(&self, number: usize) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(line, _)| *line == number).map(|(_, message)| *message)
    }

    fn is_unknown(&self, number: usize) -> bool {
        self.at(number).any(|message| message.starts_with("Unknown key"))
    }

    /// systemd's words, if it would not take the value.
    fn refusal(&self, number: usize) -> Option<&'a str> {
        let last = self.lines.last().filter(|(line, _)| self.fatal && *line == number).map(|(_, message)| *message);
        self.at(number).find(|message| message.contains("ignor")).or(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn only_what_names_our_file_is_heeded(
            said in text_of(&["/v/web@1.service", ":", "7", "99999999999999999999999", " ", "\n", "Unknown key", "ignoring", "fatal error"]),
        ) {
            let messages = Messages::parse(&said, "/v/web@1.service");
            for line in [0, 7, 77] {
                let named = said.contains(&format!("/v/web@1.service:{line}"));
                prop_assert!(named || line == 0 || messages.at(line).next().is_none() && messages.refusal(line).is_none());
            }
        }
    }

    #[test]
    fn a_key_of_a_scope_stands_in_its_section() {
        let known = "[Service]\nNice=OTHER\nMemoryMax=LIMIT\n\n[Scope]\nMemoryMax=LIMIT\n\n[Socket]\nNice=OTHER\n";
        assert!(is_of_scopes(known, "MemoryMax") && !is_of_scopes(known, "Nice") && !is_of_scopes("", "MemoryMax"));
    }

    #[test]
    fn heeds_what_names_our_lines() {
        let said = "/v/web@1.service:2: Unknown key 'MemoryMax' in section [Unit], ignoring.\n\
                    /v/web@1.service:6: Invalid memory limit '10Q', ignoring: Invalid argument\n\
                    /v/web@1.service:7: Unit uses CPUShares=; please use CPUWeight= instead.\n\
                    other.service:6: Unknown key 'X' in section [Unit], ignoring.\n";
        let messages = Messages::parse(said, "/v/web@1.service");
        assert!(messages.is_unknown(2) && !messages.is_unknown(6));
        assert_eq!(messages.refusal(6), Some("Invalid memory limit '10Q', ignoring: Invalid argument"));
        assert_eq!(messages.refusal(7), None);
        assert_eq!(messages.at(7).count(), 1);
    }

    #[test]
    fn the_word_about_the_last_line_is_no_complaint() {
        let said = "/v/w@1.service:6: Not what was expected: relative\n\
                    /v/w@1.service:9: Unknown key 'ProcrollLastLine' in section [Service], ignoring.\n\
                    w@1.service: Unit configuration has fatal error, unit will not be started.\n";
        let mut messages = Messages::parse(said, "/v/w@1.service");
        assert!(!messages.take_last(8) && messages.take_last(9) && !messages.take_last(9));
        assert_eq!(messages.refusal(6), Some("Not what was expected: relative"));
    }

    #[test]
    fn the_last_complaint_about_a_unit_that_would_not_load_is_why() {
        let said = "/v/w@1.service:5: Special user nobody configured, this is not safe!\n\
                    /v/w@1.service:6: WorkingDirectory= path is not absolute: relative\n\
                    w@1.service: Unit configuration has fatal error, unit will not be started.\n";
        let messages = Messages::parse(said, "/v/w@1.service");
        assert_eq!(messages.refusal(6), Some("WorkingDirectory= path is not absolute: relative"));
        assert_eq!(messages.refusal(5), None);
    }
}
