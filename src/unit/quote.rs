//! Words as systemd.syntax(7) and systemd.service(5) want them written, so that systemd reads back what was meant.

/// The text can't stand in a unit file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it holds the character U+{:04X}, which can't stand in a unit file", *.0 as u32)]
pub struct BadCharacter(pub char);

/// A word of a command line or of `Environment=`: in double quotes, with C-style escapes, and each `%` doubled so that
/// it is no specifier. `$` stays: whether it means a variable is for the command's prefix to say.
///
/// # Errors
/// Characters that no unit file can hold, not even escaped.
pub fn word(text: &str) -> Result<String, BadCharacter> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(char);
            }
            '%' => quoted.push_str("%%"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\0' => return Err(BadCharacter(char)),
            char if char.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", char as u32)),
            char => quoted.push(accepted(char)?),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

/// A value as a whole, for a key whose syntax isn't known here. `%` is doubled where it would begin a specifier, and
/// left alone where it can't (`CPUQuota=20%`), for keys that know no specifiers know no doubling either.
///
/// # Errors
/// Control characters: a newline would begin another line, and so another key.
pub fn value(text: &str) -> Result<String, BadCharacter> {
    let mut written = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        written.push(printable(char)?);
        if char == '%' && chars.peek().is_some_and(|next| next.is_ascii_alphabetic() || *next == '%') {
            written.push('%');
        }
    }
    Ok(written)
}

/// The same for a key that surely knows no specifiers: `%` stays.
///
/// # Errors
/// As for [`value`].
pub fn literal(text: &str) -> Result<String, BadCharacter> {
    text.chars().map(printable).collect()
}

fn printable(char: char) -> Result<char, BadCharacter> {
    if char.is_control() { Err(BadCharacter(char)) } else { accepted(char) }
}

/// systemd takes Unicode's noncharacters for invalid UTF-8, and an invalid line ends the reading of its file.
pub(super) fn accepted(char: char) -> Result<char, BadCharacter> {
    let code = char as u32;
    if code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code) { Err(BadCharacter(char)) } else { Ok(char) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{OF_UNITS, text_of};
    use crate::check::command::CommandLine;

    /// As systemd does: a doubled percent sign is one, and one before anything else than a letter is itself.
    fn without_specifiers(text: &str) -> String {
        let mut read = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            read.push(char);
            if char == '%' && chars.as_str().starts_with('%') {
                chars.next();
            } else {
                assert!(
                    char != '%' || !chars.as_str().starts_with(|next: char| next.is_ascii_alphabetic()),
                    "{text:?}"
                );
            }
        }
        read
    }

    proptest! {
        #[test]
        fn a_word_reads_back_the_same(text in text_of(OF_UNITS)) {
            if let Ok(quoted) = word(&text) {
                let read = CommandLine::parse(&format!("/bin/a {quoted}")).expect("a command").words;
                prop_assert_eq!(read.len(), 2);
                prop_assert_eq!(without_specifiers(&read[1]), text);
                prop_assert!(!quoted.contains(char::is_control) || quoted.contains(|char: char| char.is_control() && !char.is_ascii()));
            }
        }

        #[test]
        fn a_value_reads_back_the_same_and_is_one_line(text in text_of(OF_UNITS)) {
            if let Ok(written) = value(&text) {
                prop_assert_eq!(without_specifiers(&written), text.as_str());
                prop_assert!(!written.contains(char::is_control));
            }
            prop_assert_eq!(literal(&text).is_ok(), value(&text).is_ok());
        }
    }

    #[test]
    fn a_word_survives_quotes_backslashes_newlines_and_percents() {
        assert_eq!(word("a b"), Ok("\"a b\"".to_owned()));
        assert_eq!(word(""), Ok("\"\"".to_owned()));
        assert_eq!(word("\"\\\n\t\x1b%n $HOME ü"), Ok(r#""\"\\\n\t\x1b%%n $HOME ü""#.to_owned()));
    }

    #[test]
    fn a_value_keeps_a_percentage_and_loses_a_specifier() {
        assert_eq!(value("20%"), Ok("20%".to_owned()));
        assert_eq!(value("50% x"), Ok("50% x".to_owned()));
        assert_eq!(value("/srv/%n/%%"), Ok("/srv/%%n/%%%".to_owned()));
    }

    #[test]
    fn a_value_of_several_lines_is_refused() {
        assert_eq!(value("x\nExecStartPre=+/bin/sh"), Err(BadCharacter('\n')));
        assert_eq!(value("x\rUser=root"), Err(BadCharacter('\r')));
        assert_eq!(value("x\u{85}y"), Err(BadCharacter('\u{85}')));
    }

    #[test]
    fn what_systemd_takes_for_invalid_is_refused() {
        assert_eq!(word("\u{fffe}"), Err(BadCharacter('\u{fffe}')));
        assert_eq!(word("\u{fdd0}"), Err(BadCharacter('\u{fdd0}')));
        assert_eq!(word("\0"), Err(BadCharacter('\0')));
    }
}
