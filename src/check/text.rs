//! A report for a person.

use super::{Finding, Level, Report, Verdict};

/// How wide a line may be.
const WIDTH: usize = 100;

/// How far the findings are from the margin, and the drop-in.
const MARGIN: usize = 11;

/// The report as a few lines. Drop-ins lie in this folder; if the one it takes has just been written, `next` is what to do.
pub fn render(report: &Report, folder: &str, next: Option<&str>) -> String {
    let verdict = match (report.verdict, next) {
        (_, Some(_)) => "can roll, now that it has its drop-in",
        (Verdict::AsItIs, _) => "rolls as it is",
        (Verdict::WithDropIn, _) => "can roll, with the drop-in below",
        (Verdict::No, _) => "can't roll",
    };
    let mut text = format!("{} {verdict}\n", harmless(&report.unit));
    let path =
        report.drop_in.as_ref().map(|drop_in| harmless(&format!("{folder}/{}", drop_in.name))).unwrap_or_default();
    if let Some(next) = next {
        text.push_str(&format!("{:MARGIN$}{path}\n", "  written"));
        paragraph(&mut text, "next", next);
    }
    for finding in report.findings.iter().filter(|finding| is_shown(report, finding)) {
        let label = match finding.level {
            Level::No => "no",
            Level::Change => "drop-in",
            Level::Caution => "caution",
            Level::Note => "note",
        };
        paragraph(&mut text, label, &format!("it {}", sentence(finding)));
        if let Some(at) = &finding.at {
            text.push_str(&format!("{:MARGIN$}{}:{}\n", "", harmless(&at.path), at.line));
        }
    }
    if let Some(drop_in) = report.drop_in.as_ref().filter(|_| next.is_none()) {
        text.push_str(&format!("\n    # {path}\n"));
        for line in drop_in.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            text.push_str(&format!("    {}\n", harmless(line)));
        }
    }
    text
}

/// What can be shown to whoever sits at a terminal: a unit's text and the names that its processes give to what they hold
/// are others' to choose.
fn harmless(text: &str) -> String {
    text.replace(|char: char| char.is_control() && char != '\t', "?")
}

/// What a finding says, in one line.
pub fn sentence(finding: &Finding) -> String {
    match finding.todo.is_empty() {
        true => finding.why.clone(),
        false => format!("{}. {}", finding.why, finding.todo),
    }
}

/// What the drop-in does to a unit is seen in it; what it mends of a wrapper is why there is one.
fn is_shown(report: &Report, finding: &Finding) -> bool {
    match finding.level {
        Level::Change => report.verdict == Verdict::WithDropIn && report.wrapper,
        Level::Caution | Level::Note => report.verdict != Verdict::No,
        Level::No => true,
    }
}

fn paragraph(text: &mut String, label: &str, words: &str) {
    let mut line = format!("  {label:<0$}", MARGIN - 2);
    for word in harmless(words).split(' ') {
        if line.chars().count() + word.chars().count() > WIDTH && line.len() > MARGIN {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(MARGIN);
        }
        line.push_str(word);
        line.push(' ');
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
