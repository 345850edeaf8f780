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
        if char.is_control() {
            return Err(BadCharacter(char));
        }
        written.push(accepted(char)?);
        if char == '%' && chars.peek().is_some_and(|next| next.is_ascii_alphabetic() || *next == '%') {
            written.push('%');
        }
    }
    Ok(written)
}

/// systemd takes Unicode's noncharacters for invalid UTF-8, and an invalid line ends the reading of its file.
pub(super) fn accepted(char: char) -> Result<char, BadCharacter> {
    let code = char as u32;
    if code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code) { Err(BadCharacter(char)) } else { Ok(char) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
