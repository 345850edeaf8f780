//! A command line of a unit file, taken apart the way systemd does it: the prefixes, and the words.
//!
//! See systemd.service(5), "Command lines", and systemd.syntax(7), "Quoting". `%` and `$` stay as they are.

/// A command line, as written and as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine<'a> {
    /// What stands in front of the program's name, of `@-:+!|`.
    pub prefixes: &'a str,
    /// The rest as written.
    pub text: &'a str,
    /// The program and its arguments, unquoted. With the prefix `@` the second one is not an argument but `argv[0]`.
    pub words: Vec<String>,
}

/// The command line is not one that systemd takes, or is several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// systemd refuses it as well.
    #[error("has a quote that is not closed")]
    Unclosed,
    /// systemd reads prefixes behind a quote as well, but what they belong to can't be cut out.
    #[error("has its prefix within quotes")]
    QuotedPrefix,
    /// A lone semicolon.
    #[error("is several commands, with a ; between them")]
    Several,
    /// Nothing but prefixes.
    #[error("names no program")]
    Empty,
}

const PREFIXES: &[char] = &['@', '-', ':', '+', '!', '|'];
const WHITESPACE: &[char] = &[' ', '\t', '\n', '\r'];

impl<'a> CommandLine<'a> {
    /// Takes the value of an `ExecStart=` apart.
    pub fn parse(value: &'a str) -> Result<Self, BadCommand> {
        let text = value.trim_start_matches(PREFIXES);
        let prefixes = &value[..value.len() - text.len()];
        let mut words = Vec::new();
        let mut rest = text;
        while let Some((word, raw, after)) = next_word(rest)? {
            match raw {
                ";" => return Err(BadCommand::Several),
                "\\;" => words.push(";".to_owned()),
                _ => words.push(word),
            }
            rest = after;
        }
        match words.first() {
            None => Err(BadCommand::Empty),
            Some(first) if first.is_empty() => Err(BadCommand::Empty),
            Some(first) if first.starts_with(PREFIXES) => Err(BadCommand::QuotedPrefix),
            Some(_) => Ok(Self { prefixes, text, words }),
        }
    }

    /// Whether it has this prefix.
    pub fn has(&self, prefix: char) -> bool {
        self.prefixes.contains(prefix)
    }

    /// The program's file name.
    pub fn program(&self) -> &str {
        self.words.first().map_or("", |path| file_name(path))
    }

    /// The text behind the first word.
    pub fn text_behind_first(&self) -> &'a str {
        next_word(self.text).ok().flatten().map_or("", |(.., rest)| rest.trim_start_matches(WHITESPACE))
    }
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The next word, unquoted and as written, and what follows it.
fn next_word(text: &str) -> Result<Option<(String, &str, &str)>, BadCommand> {
    let text = text.trim_start_matches(WHITESPACE);
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((index, char)) = chars.next() {
        match (char, quote) {
            ('\\', _) => {
                let behind = &text[index + 1..];
                let (meaning, length) = unescape(behind);
                word.push_str(&meaning);
                for _ in behind[..length].chars() {
                    chars.next();
                }
            }
            ('"' | '\'', None) => quote = Some(char),
            (_, Some(open)) if char == open => quote = None,
            (_, None) if WHITESPACE.contains(&char) => {
                end = index;
                break;
            }
            _ => word.push(char),
        }
    }
    match quote {
        Some(_) => Err(BadCommand::Unclosed),
        None if text.is_empty() => Ok(None),
        None => Ok(Some((word, &text[..end], &text[end..]))),
    }
}

/// What the text behind a backslash stands for, and how many bytes of it are meant. What is no escape stays, with its
/// backslash.
fn unescape(text: &str) -> (String, usize) {
    let numeric = |digits: usize, skip: usize, radix: u32| {
        let digits = text.get(skip..skip + digits).filter(|digits| digits.chars().all(|char| char.is_digit(radix)))?;
        let char = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).filter(|char| *char != '\0')?;
        Some((char.to_string(), skip + digits.len()))
    };
    let simple = |char: char| Some((char.to_string(), 1));
    let meant = match text.chars().next() {
        Some('a') => simple('\x07'),
        Some('b') => simple('\x08'),
        Some('f') => simple('\x0c'),
        Some('n') => simple('\n'),
        Some('r') => simple('\r'),
        Some('t') => simple('\t'),
        Some('v') => simple('\x0b'),
        Some('s') => simple(' '),
        Some(char @ ('\\' | '"' | '\'')) => simple(char),
        Some('x') => numeric(2, 1, 16),
        Some('u') => numeric(4, 1, 16),
        Some('U') => numeric(8, 1, 16),
        Some('0'..='7') => numeric(3, 0, 8),
        _ => None,
    };
    meant.unwrap_or(("\\".to_owned(), 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unit::quote;

    fn words(value: &str) -> Vec<String> {
        CommandLine::parse(value).expect(value).words
    }

    #[test]
    fn words_are_unquoted_as_systemd_does_it() {
        for (value, expected) in [
            ("/bin/a b  c", &["/bin/a", "b", "c"][..]),
            ("/bin/a \"b c\" 'd \"e'", &["/bin/a", "b c", "d \"e"]),
            ("/bin/a b\"c d\"e", &["/bin/a", "bc de"]),
            (r"/bin/a \x41\102\u00fc \n\s \q \\", &["/bin/a", "ABü", "\n ", "\\q", "\\"]),
            ("/bin/a \"\" $X ${Y} %i", &["/bin/a", "", "$X", "${Y}", "%i"]),
            (r"/bin/a \; b;c", &["/bin/a", ";", "b;c"]),
        ] {
            assert_eq!(words(value), expected, "{value}");
        }
    }

    #[test]
    fn prefixes_are_told_from_the_command() {
        let line = CommandLine::parse("@-/usr/bin/a  b -c").expect("a command");
        assert_eq!((line.prefixes, line.text, line.program()), ("@-", "/usr/bin/a  b -c", "a"));
        assert_eq!(line.text_behind_first(), "b -c");
    }

    #[test]
    fn what_is_no_single_command_is_refused() {
        for (value, expected) in [
            ("/bin/a ; /bin/b", BadCommand::Several),
            ("/bin/a \"b", BadCommand::Unclosed),
            ("\"+/bin/a\" b", BadCommand::QuotedPrefix),
            ("-", BadCommand::Empty),
            ("\"\" a", BadCommand::Empty),
        ] {
            assert_eq!(CommandLine::parse(value), Err(expected), "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back_the_same(arguments in proptest::collection::vec("[^\\x00%]{0,8}", 0..5)) {
            let all = ["/bin/a".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>();
            if let Ok(quoted) = all.iter().map(|word| quote::word(word)).collect::<Result<Vec<_>, _>>() {
                prop_assert_eq!(words(&quoted.join(" ")), all);
            }
        }

        #[test]
        fn any_text_is_taken_apart_or_refused(text in ".{0,40}") {
            let _ = CommandLine::parse(&text);
        }
    }
}
