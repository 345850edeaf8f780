//! The text of a unit file as data: sections, keys and values, cut the way systemd's own parser cuts them.
//!
//! This room decides what root's unit will say, so it works on [`Assignment`]s and never on strings. It follows
//! systemd.syntax(7) and, where that is silent, what systemd's parser was seen to do: which characters end a line,
//! that a comment inside a continued line is skipped, that an invalid section header ends the reading.

use std::fmt;

use super::quote;

/// A section that matters for a service. Others are not systemd's business, or only `systemctl enable`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// `[Unit]`
    Unit,
    /// `[Service]`
    Service,
    /// `[Scope]`, of which no file of a wrapper's has one.
    Scope,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "Unit",
            Self::Service => "Service",
            Self::Scope => "Scope",
        })
    }
}

/// One `Key=value`, with continuation lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The section it stands in.
    pub section: Section,
    /// Letters, digits and dashes.
    pub key: String,
    /// What follows the `=`, without the spaces around it.
    pub value: String,
    /// The line it ends on, counted from 1.
    pub line: usize,
}

impl Assignment {
    /// An assignment that procroll makes itself.
    pub fn own(section: Section, key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { section, key: key.into(), value: value.into(), line: 0 }
    }
}

/// The text is not one that can be copied faithfully.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// systemd stops reading the file here.
    #[error("line {0} is not UTF-8, or has a character that systemd takes for invalid")]
    NotUtf8(usize),
    /// systemd stops reading the file here.
    #[error("line {0} is longer than 1 MiB, the most systemd reads of a line")]
    TooLong(usize),
    /// systemd stops reading the file here.
    #[error("line {0} is not a section header: {1}")]
    Header(usize, String),
}

/// Cuts a unit file into the assignments of `[Unit]` and `[Service]`, in their order. Lines that systemd ignores with
/// a warning (no `=`, no section, a key that is no word) are left out.
pub fn parse(text: &[u8]) -> Result<Vec<Assignment>, Unreadable> {
    let mut assignments = Vec::new();
    let mut section = None;
    let mut continued: Option<Vec<u8>> = None;
    let mut number = 0;
    let mut byte_order_mark = Some(b"\xef\xbb\xbf");
    for mut line in physical_lines(text) {
        number += 1;
        if line.len() >= LONGEST_LINE {
            return Err(Unreadable::TooLong(number));
        }
        let is_space = |byte: &&u8| WHITESPACE.contains(&char::from(**byte));
        if matches!(line.iter().find(|byte| !is_space(byte)), Some(b'#' | b';')) {
            continue;
        }
        if let Some(rest) = byte_order_mark.and_then(|mark| line.strip_prefix(mark)) {
            byte_order_mark = None;
            line = rest;
        }
        let mut joined = continued.take().unwrap_or_default();
        joined.extend_from_slice(line);
        if joined.len() >= LONGEST_LINE {
            return Err(Unreadable::TooLong(number));
        }
        if ends_in_escape(&joined) {
            if let Some(backslash) = joined.last_mut() {
                *backslash = b' ';
            }
            continued = Some(joined);
            continue;
        }
        parse_line(&joined, number, &mut section, &mut assignments)?;
    }
    if let Some(rest) = continued {
        parse_line(&rest, number, &mut section, &mut assignments)?;
    }
    Ok(assignments)
}

fn parse_line(
    line: &[u8],
    number: usize,
    section: &mut Option<Section>,
    assignments: &mut Vec<Assignment>,
) -> Result<(), Unreadable> {
    let line = std::str::from_utf8(line).map_err(|_| Unreadable::NotUtf8(number))?;
    if line.chars().any(|char| quote::accepted(char).is_err()) {
        return Err(Unreadable::NotUtf8(number));
    }
    let line = line.trim_matches(WHITESPACE);
    if let Some(header) = line.strip_prefix('[') {
        let unsafe_here = |char: char| char.is_control() || matches!(char, '"' | '\'' | '\\');
        let name = header.strip_suffix(']').filter(|name| !name.is_empty() && !name.contains(unsafe_here));
        *section = match name {
            Some("Unit") => Some(Section::Unit),
            Some("Service") => Some(Section::Service),
            Some(_) => None,
            None => return Err(Unreadable::Header(number, line.to_owned())),
        };
        return Ok(());
    }
    if let (Some(section), Some((key, value))) = (*section, line.split_once('=')) {
        let (key, value) = (key.trim_matches(WHITESPACE), value.trim_matches(WHITESPACE));
        if is_key(key) {
            assignments.push(Assignment { section, key: key.to_owned(), value: value.to_owned(), line: number });
        }
    }
    Ok(())
}

/// systemd reads no line of 1 MiB or more (`LONG_LINE_MAX` in its sources), joined lines included.
pub const LONGEST_LINE: usize = 1 << 20;

/// systemd's idea of white space (`WHITESPACE` in its sources); Rust's is wider.
pub(super) const WHITESPACE: &[char] = &[' ', '\t', '\n', '\r'];

/// Whether this can be a key of a unit file.
pub fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether the last character is a backslash that is not itself escaped.
fn ends_in_escape(line: &[u8]) -> bool {
    line.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Cuts at `\n`, `\r` and NUL, where a run of different ones (such as `\r\n`) is a single end of line, and nothing
/// follows a NUL within a run.
fn physical_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(is_end).unwrap_or(rest.len());
        let line = &rest[..end];
        let mut seen = Vec::with_capacity(3);
        while let Some(byte) = rest.get(end + seen.len()).filter(|byte| is_end(byte)) {
            if seen.contains(byte) || seen.last() == Some(&0) {
                break;
            }
            seen.push(*byte);
        }
        rest = &rest[end + seen.len()..];
        Some(line)
    })
}

/// Writes assignments out, so that [`parse`] gives the same ones back.
pub fn render(assignments: &[Assignment]) -> String {
    let mut text = String::new();
    let mut section = None;
    for assignment in assignments {
        if section != Some(assignment.section) {
            section = Some(assignment.section);
            text.push_str(&format!("[{}]\n", assignment.section));
        }
        // A value may end in a lone backslash, if a space stood behind it: alone it would swallow the next line.
        let space = if ends_in_escape(assignment.value.as_bytes()) { " " } else { "" };
        text.push_str(&format!("{}={}{space}\n", assignment.key, assignment.value));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{OF_UNITS, text_of};

    fn keys_and_values(text: &[u8]) -> Vec<(String, String)> {
        parse(text).expect("readable").into_iter().map(|one| (one.key, one.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn keeps_unit_and_service_in_order_and_leaves_out_the_rest() {
        let text = b"# comment\n[Unit]\nDescription = A b \n\n[Install]\nWantedBy=x\n[X-Mine]\nA=1\n[Service]\nUser=app\nno assignment\n=empty\n";
        assert_eq!(keys_and_values(text), [pair("Description", "A b"), pair("User", "app")]);
    }

    #[test]
    fn joins_continuation_lines_and_skips_comments_inside_them() {
        let text = b"[Service]\nExecStart=/bin/a \\\n# not me\n  ; nor me\n  b\\\nUser=c\nGroup=d\n";
        assert_eq!(keys_and_values(text), [pair("ExecStart", "/bin/a    b User=c"), pair("Group", "d")]);
    }

    #[test]
    fn only_what_systemd_takes_for_space_stands_before_a_comment() {
        // To systemd the second line is no comment: it is the end of the first, and NoNewPrivileges= an assignment.
        assert_eq!(
            keys_and_values(b"[Service]\nA=x \\\n\x0c# y\nNoNewPrivileges=yes\n"),
            [pair("A", "x  \u{c}# y"), pair("NoNewPrivileges", "yes")]
        );
    }

    #[test]
    fn an_escaped_backslash_does_not_continue_a_line() {
        assert_eq!(keys_and_values(b"[Service]\nA=x\\\\\nB=y\n"), [pair("A", "x\\\\"), pair("B", "y")]);
    }

    #[test]
    fn a_continuation_at_the_end_of_the_file_ends_there() {
        assert_eq!(keys_and_values(b"[Service]\nA=x \\"), [pair("A", "x")]);
    }

    #[test]
    fn an_empty_line_ends_a_continuation() {
        assert_eq!(keys_and_values(b"[Service]\nA=x \\\n\nB=y"), [pair("A", "x"), pair("B", "y")]);
    }

    #[test]
    fn carriage_return_and_nul_end_lines_as_systemd_ends_them() {
        assert_eq!(
            keys_and_values(b"[Service]\r\nA=x \\\r\ny\r\nB=1\rC=2\0D=3\n"),
            [pair("A", "x  y"), pair("B", "1"), pair("C", "2"), pair("D", "3")]
        );
    }

    #[test]
    fn a_value_that_ends_in_a_backslash_does_not_swallow_the_next_line() {
        let parsed = parse(b"[Service]\nA=x\\ \nUser=app\n").expect("readable");
        assert_eq!(parsed[0].value, "x\\");
        assert_eq!(parse(render(&parsed).as_bytes()).expect("readable").len(), 2);
    }

    #[test]
    fn refuses_what_systemd_stops_at() {
        assert_eq!(parse(b"[Service]\n[Serv\nUser=root\n"), Err(Unreadable::Header(2, "[Serv".to_owned())));
        assert_eq!(parse(b"[Service]\nA=\xff\n"), Err(Unreadable::NotUtf8(2)));
        assert_eq!(parse("[Service]\n\nA=\u{fdd0}\n".as_bytes()), Err(Unreadable::NotUtf8(3)));
        let long = "x".repeat(LONGEST_LINE / 2);
        assert_eq!(parse(format!("#{long}{long}\n").as_bytes()), Err(Unreadable::TooLong(1)));
        assert_eq!(parse(format!("[Service]\nA={long}\\\n{long}\n").as_bytes()), Err(Unreadable::TooLong(3)));
    }

    #[test]
    fn knows_the_line_an_assignment_ends_on() {
        let parsed = parse(b"[Service]\nA=x\\\ny\n\nB=z\n").expect("readable");
        assert_eq!([parsed[0].line, parsed[1].line], [3, 5]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(text in "(\\[Service\\]|\\[Unit\\]|[A-Z]{1,3} ?= ?[a-z \\\\#;%\"'=\\[]{0,12}|#.{0,5}|[\\\\\r\n\t ])*") {
            if let Ok(parsed) = parse(text.as_bytes()) {
                let again = parse(render(&parsed).as_bytes()).expect("what we write is readable");
                let strip = |all: &[Assignment]| all.iter().map(|a| (a.section, a.key.clone(), a.value.clone())).collect::<Vec<_>>();
                prop_assert_eq!(strip(&again), strip(&parsed));
            }
        }

        /// Whatever is read of a file does not depend on what another one says before it.
        #[test]
        fn a_blank_line_and_a_header_begin_anew(before in text_of(OF_UNITS), after in text_of(OF_UNITS)) {
            let strip = |all: Vec<Assignment>| all.into_iter().map(|one| Assignment { line: 0, ..one }).collect::<Vec<_>>();
            let after = format!("[Service]\n{after}");
            if let (Ok(mut apart), Ok(rest)) = (parse(before.as_bytes()), parse(after.as_bytes())) {
                let together = parse(format!("{before}\n\n\n{after}").as_bytes()).expect("both are readable");
                apart.extend(rest);
                prop_assert_eq!(strip(together), strip(apart));
            }
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
