//! Whether a unit can roll, and what it takes. Pure: what is known of a unit goes in, a report comes out.
//!
//! [`survey`](crate::survey) finds out the facts. [`rules`] are what a wrapper unit needs, one rule a function; procroll
//! says at its start what they say of its own unit. [`start`] is the `ExecStart=` of a unit that isn't one yet,
//! [`held`] what its processes have for themselves alone, and [`text`] and [`json`] are how a report is
//! printed.

pub mod command;
mod held;
pub mod json;
mod rules;
mod start;
pub mod text;

use serde::Serialize;

use crate::settings::Strategy;
use crate::unit::text::{Assignment, Section, render};
use crate::unit::{Placed, Sources};

pub use held::{Held, Port};
pub use rules::{DIRECT, taken_by_template};
pub use start::{RUN_ITSELF, runs_through};

/// What the drop-in begins with, by which procroll knows it for its own.
pub const MARK: &str = "# Written by \"procroll check --write\".\n";

/// What procroll calls its drop-in: the second one if something of the first would be undone by another drop-in.
pub const DROP_IN_NAMES: [&str; 2] = ["50-procroll.conf", "zz-procroll.conf"];

/// The option that lets roll what two of can't live at once.
const HANDOVER: &str = "--strategy=handover";

/// The service manager, as far as it matters.
#[derive(Clone, Debug)]
pub struct Host {
    /// The version of systemd; none if there is nobody to ask.
    pub version: Option<u32>,
    /// Whether it is a user's.
    pub user: bool,
    /// The path of procroll.
    pub procroll: String,
}

impl Host {
    /// Whether it is at least this version. One that can't be asked is taken to be young.
    pub fn since(&self, version: u32) -> bool {
        self.version.is_none_or(|own| own >= version)
    }

    /// Whether this is the path or the name of procroll.
    pub fn is_procroll(&self, program: &str) -> bool {
        let name = command::file_name(program);
        name == "procroll" || name == command::file_name(&self.procroll)
    }

    /// A command to type: systemctl with these arguments.
    pub fn systemctl(&self, arguments: impl std::fmt::Display) -> String {
        let manager = if self.user { " --user" } else { "" };
        format!("\"systemctl{manager} {arguments}\"")
    }
}

/// All that is known of a unit.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// Its files.
    pub sources: Sources,
    /// Its command line as systemd has it, `%` resolved; none if systemd wasn't asked.
    pub arguments: Option<Vec<String>>,
    /// Socket units that pass it sockets.
    pub sockets: Vec<String>,
    /// A socket unit of its name that systemd had not loaded when it loaded the unit.
    pub missed_socket: Option<String>,
    /// Whether there is a template of which its generations would be instances.
    pub template: bool,
    /// Drop-ins of [`DROP_IN_NAMES`] that are there and procroll's.
    pub written: Vec<DropIn>,
    /// Whether it was started before it became a wrapper.
    pub restart_due: bool,
    /// What its processes hold.
    pub held: Held,
}

/// A unit that there is nothing to know of, or of which systemd says that it is unfit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// `LoadState=`, if it isn't `loaded`.
    Load(String),
    /// Its files are not what systemd has read.
    Stale,
    /// procroll runs it as a generation of this unit.
    Generation(String),
    /// Somebody has made it over the bus, without a file.
    Transient,
    /// `app@.service`
    Template,
    /// Another kind of unit.
    NotAService,
    /// A file can't be read, or not as a unit's.
    Unreadable(String),
    /// systemd doesn't take the name for one.
    BadName(String),
}

/// Whether a unit can roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It rolls.
    AsItIs,
    /// It will, with the drop-in.
    WithDropIn,
    /// It can't.
    No,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// With this it can't roll.
    No,
    /// The drop-in mends it.
    Change,
    /// It rolls, but one of procroll's promises does not hold.
    Caution,
    /// Something is different from before, or good to know.
    Note,
}

/// One thing about a unit that matters for rolls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What it is about: a key, or one of `name`, `load`, `port`, `socket`, `lock`.
    pub subject: String,
    /// Where that is said.
    pub at: Option<Location>,
    /// What is the matter, as the rest of a sentence that begins with the unit.
    pub why: String,
    /// What to do about it: whole sentences, or nothing.
    pub todo: String,
}

/// A line of a unit file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The file.
    pub path: String,
    /// The line, counted from 1; the last one, if it is continued.
    pub line: usize,
}

/// A drop-in for the unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DropIn {
    /// Its file name.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// What is to be said of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its name.
    pub unit: String,
    /// Whether procroll runs its command already.
    pub wrapper: bool,
    /// Whether it can roll.
    pub verdict: Verdict,
    /// Why, what would change, and what to mind; the worst first.
    pub findings: Vec<Finding>,
    /// The drop-in that it takes.
    pub drop_in: Option<DropIn>,
}

impl Report {
    /// What is to be said of a unit that has just got its drop-in: also what is different `before` and with it.
    pub fn with_what_changes(&self, before: &Self) -> Vec<Finding> {
        let known =
            |one: &Finding| self.findings.iter().any(|other| (&other.subject, &other.why) == (&one.subject, &one.why));
        let changes = before.findings.iter().filter(|one| one.level > Level::Change && !known(one));
        let mut all: Vec<_> = self.findings.iter().chain(changes).cloned().collect();
        all.sort_by_key(|finding| finding.level);
        all
    }
}

/// Judges a unit.
pub fn judge(facts: &Facts, host: &Host) -> Report {
    let mut judge = Judge::new(facts, host);
    rules::apply(&mut judge);
    judge.report()
}

/// What is to be said of a unit that can't be judged by its text.
pub fn unfit(name: &str, why: &Unfit, host: &Host) -> Report {
    let (subject, why, todo) = match why {
        Unfit::Load(state) if state == "not-found" => {
            ("load", "is not-found".to_owned(), "There is no unit file of this name".to_owned())
        }
        Unfit::Load(state) => {
            ("load", format!("is {state}"), format!("See {}", host.systemctl(format!("status {name}"))))
        }
        Unfit::Stale => (
            "load",
            "has changed on disk since systemd read it".to_owned(),
            format!("Type {} and try again", host.systemctl("daemon-reload")),
        ),
        Unfit::Generation(owner) => {
            ("load", format!("is a generation of {owner}"), format!("Check {owner} in its place"))
        }
        Unfit::Transient => ("load", "is transient, so it has no file to add to".to_owned(), String::new()),
        Unfit::Template => (
            "name",
            "is a template".to_owned(),
            format!("Name an instance of it, such as {}", name.replacen("@.", "@NAME.", 1)),
        ),
        Unfit::NotAService => ("name", "is not a service".to_owned(), String::new()),
        Unfit::Unreadable(why) => ("load", format!("can't be read: {why}"), String::new()),
        Unfit::BadName(why) => ("name", format!("can't be looked up: {why}"), String::new()),
    };
    let finding = Finding { level: Level::No, subject: subject.to_owned(), at: None, why, todo };
    Report { unit: name.to_owned(), wrapper: false, verdict: Verdict::No, findings: vec![finding], drop_in: None }
}

/// A report in the making.
struct Judge<'a> {
    facts: &'a Facts,
    host: &'a Host,
    /// Its command, if it is one.
    start: Option<start::Start<'a>>,
    findings: Vec<Finding>,
    /// What the drop-in says, but for the command.
    lines: Vec<Assignment>,
    /// Options for procroll, as words of a unit file.
    options: Vec<String>,
}

impl<'a> Judge<'a> {
    fn new(facts: &'a Facts, host: &'a Host) -> Self {
        Self { facts, host, start: None, findings: Vec::new(), lines: Vec::new(), options: Vec::new() }
    }

    /// Whether procroll runs its command already.
    fn is_wrapper(&self) -> bool {
        self.start.as_ref().is_some_and(|start| start.is_wrapper)
    }

    /// Whether the old generation is gone before the new one starts.
    fn hands_over(&self) -> bool {
        let settings = self.start.as_ref().and_then(|start| start.settings.as_ref());
        settings.is_some_and(|settings| settings.strategy == Strategy::Handover)
            || self.options.iter().any(|option| option == HANDOVER)
    }

    fn service(&self, key: &str) -> Option<Placed<'a>> {
        self.facts.sources.get(Section::Service, key)
    }

    /// A scalar of `[Service]`, or what it is without being set.
    fn value(&self, key: &str, default: &'a str) -> &'a str {
        self.service(key).map_or(default, |(_, one)| one.value.as_str())
    }

    /// Whether its commands run as root, where it doesn't say otherwise of one.
    fn runs_as_root(&self) -> bool {
        ["root", "0"].contains(&self.value("User", "root")) && !self.facts.sources.flag("DynamicUser")
    }

    fn find(
        &mut self,
        level: Level,
        subject: &str,
        at: Option<Placed<'_>>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) {
        let at = at.map(|(source, one)| Location { path: source.path.clone(), line: one.line });
        self.findings.push(Finding { level, subject: subject.to_owned(), at, why: why.into(), todo: todo.into() });
    }

    /// The same about a key of `[Service]`, with its place.
    fn find_key(&mut self, level: Level, key: &str, why: impl Into<String>, todo: impl Into<String>) {
        self.find(level, &format!("{key}="), self.service(key), why, todo);
    }

    fn line(&mut self, key: &str, value: &str) {
        self.lines.push(Assignment::own(Section::Service, key, value));
    }

    fn report(mut self) -> Report {
        let wrapper = self.is_wrapper();
        let refused = self.findings.iter().any(|finding| finding.level == Level::No);
        let start = self.start.take().filter(|_| !refused);
        let command = start.and_then(|start| start.lines(self.host, &self.options));
        self.lines.extend(command.into_iter().flatten());
        self.findings.sort_by_key(|finding| finding.level);
        let verdict = match (refused, self.lines.is_empty()) {
            (true, _) => Verdict::No,
            (false, true) => Verdict::AsItIs,
            (false, false) => Verdict::WithDropIn,
        };
        let drop_in = (verdict == Verdict::WithDropIn).then(|| self.drop_in());
        Report { unit: self.facts.name.clone(), wrapper, verdict, findings: self.findings, drop_in }
    }

    fn drop_in(&self) -> DropIn {
        let (name, lines) = (self.name(), render(&self.lines));
        match self.facts.written.iter().find(|written| written.name == name) {
            // Somebody may have changed it since, so it only grows.
            Some(written) => {
                DropIn { name: written.name.clone(), text: format!("{}\n{lines}", written.text.trim_end()) }
            }
            None => DropIn { name: name.to_owned(), text: format!("{MARK}{lines}") },
        }
    }

    /// What to call the drop-in: so that it comes after all that would undo it.
    fn name(&self) -> &'static str {
        let [usual, last] = DROP_IN_NAMES;
        let undone = self.facts.sources.0.iter().skip(1).any(|source| {
            let says = |line: &Assignment| source.assignments.iter().any(|one| one.key == line.key);
            command::file_name(&source.path) > usual && self.lines.iter().any(says)
        });
        if undone { last } else { usual }
    }
}

#[cfg(test)]
mod tests;
