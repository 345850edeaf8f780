//! The command of a unit: how procroll gets in front of it, and whether it has been there all along.

use super::command::{BadCommand, CommandLine, file_name};
use super::{Host, Judge, Level};
use crate::cli;
use crate::settings::{Settings, template};
use crate::unit::text::{Assignment, Section};
use crate::unit::{Placed, quote};

/// A unit's one command.
pub(super) struct Start<'a> {
    pub placed: Placed<'a>,
    pub line: CommandLine<'a>,
    /// Whether it is procroll.
    pub is_wrapper: bool,
    /// What procroll's command line says, in a wrapper.
    pub settings: Option<Settings>,
    /// Whether procroll has to be given the `+` that it lacks.
    pub needs_plus: bool,
}

/// Programs that run another one.
const RUNNERS: &[&str] = &["bash", "chrt", "dash", "env", "ionice", "nice", "nohup", "setpriv", "sh", "su", "sudo"];

/// What to do about one of them.
pub const RUN_ITSELF: &str = "Let ExecStart= begin with procroll; variables and directories are what Environment= and \
                              WorkingDirectory= are for";

/// Why a command that runs procroll by another program, such as a shell, won't do; none if it is another command.
pub fn runs_through(words: &[String], is_procroll: impl Fn(&str) -> bool) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let mut inner = arguments.iter().flat_map(|word| word.split_whitespace());
    let runner = file_name(program);
    (RUNNERS.contains(&runner) && inner.any(is_procroll))
        .then(|| format!("runs procroll through {runner}, so systemd takes that for the service"))
}

/// Takes the command apart, or says why it can't be.
pub(super) fn read(judge: &mut Judge<'_>) {
    let commands = judge.facts.sources.list(Section::Service, "ExecStart");
    let &[placed] = commands.as_slice() else {
        let (why, todo) = match commands.len() {
            0 => ("has no ExecStart=, so there is nothing to run".to_owned(), ""),
            count => (
                format!("has {count} ExecStart= commands where procroll runs one"),
                "Make all but the last one ExecStartPre=",
            ),
        };
        return judge.find(Level::No, "ExecStart=", commands.last().copied(), why, todo);
    };
    let line = match CommandLine::parse(&placed.1.value) {
        Ok(line) => line,
        Err(error) => {
            let todo = match error {
                BadCommand::Several => "Make all but the last one ExecStartPre=",
                BadCommand::QuotedPrefix => "Write it in front of the quote",
                BadCommand::Unclosed | BadCommand::Empty => "",
            };
            return judge.find(Level::No, "ExecStart=", Some(placed), format!("has an ExecStart= that {error}"), todo);
        }
    };
    let is_wrapper = judge.host.is_procroll(line.program());
    if let Some(why) = runs_through(&line.words, |word| judge.host.is_procroll(word)) {
        return judge.find(Level::No, "ExecStart=", Some(placed), why, RUN_ITSELF);
    }
    let mut start = Start { placed, line, is_wrapper, settings: None, needs_plus: false };
    if is_wrapper {
        wrapper(judge, &mut start)
    } else {
        plain(judge, &start)
    }
    judge.start = Some(start);
}

/// procroll's own command line.
fn wrapper(judge: &mut Judge<'_>, start: &mut Start<'_>) {
    let arguments = judge.facts.arguments.as_ref().unwrap_or(&start.line.words);
    match cli::in_unit(arguments, !start.line.has(':')) {
        Ok(settings) => start.settings = Some(settings),
        Err(fatal) => {
            let why = format!("has a command line that procroll refuses: {fatal}");
            judge.find(Level::No, "ExecStart=", Some(start.placed), why, "");
        }
    }
    if !judge.host.user && !judge.runs_as_root() && !start.line.has('+') {
        start.needs_plus = true;
        let why = "runs procroll as another user, who may not start generations";
        let todo = "Put a + in front of its command: ExecStart=+/usr/bin/procroll …";
        judge.find(Level::Change, "ExecStart=", Some(start.placed), why, todo);
    }
}

/// A command that procroll is to run.
fn plain(judge: &mut Judge<'_>, start: &Start<'_>) {
    let line = &start.line;
    let users = [judge.service("User"), judge.service("Group")].into_iter().flatten().next();
    let user = users.or(judge.service("DynamicUser").filter(|_| judge.facts.sources.flag("DynamicUser")));
    let mut find = |level, why: &str, todo: &str| judge.find(level, "ExecStart=", Some(start.placed), why, todo);
    if line.has('+') {
        let why = "has a + in front of its command, which exempts it from User= and from sandboxing, and procroll has no \
                   such exemption to give";
        find(Level::No, why, "Do without the + and what it exempts the command from");
    }
    if line.has('|') {
        find(
            Level::No,
            "has a | in front of its command, and procroll runs none through a login shell",
            "Do without it",
        );
    }
    match line.prefixes.matches('!').count() {
        1 if user.is_some() => {
            let why = "has a ! in front of its command, which then changes to its User= by itself, and procroll has no \
                       such exemption to give";
            find(Level::No, why, "Do without the !, or without User=, Group= and DynamicUser=");
        }
        0 => {}
        _ => find(Level::Note, "loses the ! in front of its command, which has no effect here", ""),
    }
    if line.has('-') {
        let why = "loses the - in front of its command, so if that fails, the unit has failed";
        find(Level::Caution, why, "Name exit statuses that are fine in SuccessExitStatus=");
    }
    if line.has('@') {
        let named = line.words.get(1).map_or("", |name| file_name(name).trim_start_matches(['@', '-']));
        if named != line.program() {
            let why = "has an @ in front of its command, which gives it another name than its file's, and procroll has \
                       none to give";
            find(Level::No, why, "Do without the @, if the program doesn't go by its name");
        } else {
            find(Level::Note, "loses the @ in front of its command: it goes by the path of its file", "");
        }
    }
    if line.program().contains(['"', '\'', '\\']) || command(line).is_none() {
        let why = "has a command that can't be written behind procroll's --";
        find(Level::No, why, "Write it without quotes in the program's name, and without braces that come in twos");
    }
}

impl Start<'_> {
    /// What the drop-in says of the command, if it has to say anything of it.
    pub fn lines(&self, host: &Host, options: &[String]) -> Option<[Assignment; 2]> {
        let start = match self.is_wrapper {
            true if !self.needs_plus => return None,
            true => format!("{}+{}", self.line.prefixes, self.line.text),
            false => {
                let kept = if self.line.has(':') { ":" } else { "" };
                let plus = if host.user { "" } else { "+" };
                let options = options.iter().map(|option| format!(" {option}")).collect::<String>();
                format!("{kept}{plus}{} --systemd-run{options} -- {}", host.procroll, command(&self.line)?)
            }
        };
        Some(
            [("ExecStart", ""), ("ExecStart", &start)]
                .map(|(key, value)| Assignment::own(Section::Service, key, value)),
        )
    }
}

/// The command as written, without its prefixes, and with braces that mean nothing to procroll; none if procroll would
/// not read the same words.
fn command(line: &CommandLine<'_>) -> Option<String> {
    let (text, words) = match line.has('@') {
        true => {
            // The second word is the name, and goes.
            let behind = line.text_behind_first();
            let first = &line.text[..line.text.len() - behind.len()];
            let rest = CommandLine::parse(behind).ok()?;
            let words = line.words.iter().take(1).chain(line.words.iter().skip(2)).cloned().collect();
            (format!("{} {}", first.trim_end(), rest.text_behind_first()).trim_end().to_owned(), words)
        }
        false => (line.text.to_owned(), line.words.clone()),
    };
    let text = text.replace("{{", "{{`{{`}}");
    let whole = format!("procroll --systemd-run -- {text}");
    let settings = cli::in_unit(&CommandLine::parse(&whole).ok()?.words, true).ok()?;
    let values = template::Values { pid: 0, generation: crate::roll::Generation::new(1), notify_socket: "", unit: "" };
    let filled =
        settings.command.iter().map(|word| template::fill(word, &values)).collect::<Result<Vec<_>, _>>().ok()?;
    (filled == words).then_some(text)
}

/// A word for procroll's options, quoted where that has to be. Variables are not for options.
pub(super) fn word(text: &str) -> Option<String> {
    let plain = |char: char| char.is_ascii_alphanumeric() || ":_./-@,%+=".contains(char);
    if text.chars().all(plain) {
        return Some(text.to_owned());
    }
    // `%` means here what it means in the value.
    let quoted = quote::word(text).ok()?.replace("%%", "%");
    (!text.contains('$')).then_some(quoted)
}
