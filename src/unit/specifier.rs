//! `%` specifiers that name the unit itself, resolved as the wrapper's before the text goes to a generation.
//!
//! `%n` in `web.service` means `web.service`, also in `web@3.service`. Specifiers about the host, the manager or its
//! directories (`%H`, `%t`, …) mean the same in both and stay, as does `%d`, since credentials are each generation's
//! own. See systemd.unit(5), "Specifiers".

use super::text::Assignment;
use crate::settings::WrapperName;

/// Keys whose values systemd takes without specifiers, so that `%n` in them is just that.
const WITHOUT_SPECIFIERS: &[&str] =
    &["LogFilterPatterns", "OpenFile", "SetCredential", "SetCredentialEncrypted", "StandardInputData"];

/// The value can't be carried faithfully.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// What the specifier stands for has characters that quoting would change.
    #[error("%{specifier} stands for {value:?} here, which can't be written out. Write it plainly")]
    Value {
        /// The specifier's letter.
        specifier: char,
        /// What it stands for.
        value: String,
    },
    /// A `%`, or the letter behind it, that only appears when systemd has unquoted the value.
    #[error("it hides a specifier behind a quote or a backslash. Write it plainly, and a percent sign as %%")]
    Hidden,
}

/// What the specifiers of one wrapper stand for.
#[derive(Debug)]
pub struct Specifiers<'a> {
    /// The wrapper's name.
    pub name: &'a WrapperName,
    /// The path of the wrapper's fragment, links resolved.
    pub fragment: &'a str,
}

impl Specifiers<'_> {
    /// The assignment's value, with the specifiers that name the unit resolved.
    pub fn resolve(&self, assignment: &Assignment) -> Result<String, Unresolved> {
        let value = &assignment.value;
        if WITHOUT_SPECIFIERS.contains(&assignment.key.as_str()) || !value.contains('%') && !value.contains('\\') {
            return Ok(value.clone());
        }
        if ["\\%", "\\x25", "\\045", "\\u0025", "\\U00000025"].iter().any(|hidden| value.contains(hidden)) {
            return Err(Unresolved::Hidden);
        }
        let mut resolved = String::with_capacity(value.len());
        let mut chars = value.chars();
        while let Some(char) = chars.next() {
            match (char, chars.clone().next()) {
                ('%', Some('"' | '\'' | '\\')) => return Err(Unresolved::Hidden),
                ('%', Some(letter)) => {
                    chars.next();
                    match self.meaning(letter) {
                        Some(meaning) => resolved.push_str(&plain(letter, meaning)?),
                        None => resolved.extend(['%', letter]),
                    }
                }
                (char, _) => resolved.push(char),
            }
        }
        Ok(resolved)
    }

    fn meaning(&self, letter: char) -> Option<String> {
        let prefix = self.name.prefix();
        let last = prefix.rsplit('-').next().unwrap_or(prefix);
        Some(match letter {
            'n' => self.name.to_string(),
            'N' | 'p' => prefix.to_owned(),
            'P' => unescape(prefix),
            'i' | 'I' => String::new(),
            'j' => last.to_owned(),
            'J' => unescape(last),
            'f' => format!("/{}", unescape(prefix)),
            'y' => self.fragment.to_owned(),
            'Y' => self.fragment.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned(),
            _ => return None,
        })
    }
}

/// Names with backslashes are refused earlier, so a dash is all there is to unescape.
fn unescape(name: &str) -> String {
    name.replace('-', "/")
}

/// Text that means the same within quotes, outside of them, and to the specifier parser.
fn plain(specifier: char, value: String) -> Result<String, Unresolved> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || ":_./-@".contains(char);
    let bad_path = specifier == 'f' && (value.ends_with('/') || value.contains("//"));
    if value.chars().all(is_plain) && !bad_path { Ok(value) } else { Err(Unresolved::Value { specifier, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::text::Section;

    fn resolve(key: &str, value: &str) -> Result<String, Unresolved> {
        let name: WrapperName = "my-web.service".parse().expect("a name");
        let specifiers = Specifiers { name: &name, fragment: "/etc/systemd/system/my-web.service" };
        specifiers.resolve(&Assignment::own(Section::Service, key, value))
    }

    #[test]
    fn those_that_name_the_unit_mean_the_wrapper() {
        let all = "%n|%N|%p|%P|%i|%I|%j|%J|%f|%y|%Y";
        let meant = "my-web.service|my-web|my-web|my/web|||web|web|/my/web|/etc/systemd/system/my-web.service|/etc/systemd/system";
        assert_eq!(resolve("Environment", all), Ok(meant.to_owned()));
    }

    #[test]
    fn those_of_the_host_and_the_escaped_percent_stay() {
        for same in ["%t/x %H %d", "%%n", "100%", "%%%%i", "50% n"] {
            assert_eq!(resolve("Environment", same), Ok(same.to_owned()));
        }
    }

    #[test]
    fn keys_without_specifiers_are_left_alone() {
        assert_eq!(resolve("LogFilterPatterns", "100%name"), Ok("100%name".to_owned()));
    }

    #[test]
    fn a_specifier_that_only_unquoting_shows_is_refused() {
        for hidden in ["\"\\x25n\"", "\\%n", "a\\045i", "A=%\"\"n", "A=%''n", "A=%\\x6e", "\"A=100%\""] {
            assert_eq!(resolve("Environment", hidden), Err(Unresolved::Hidden), "{hidden}");
        }
        assert_eq!(resolve("Environment", "\"A=100%%\""), Ok("\"A=100%%\"".to_owned()));
    }

    #[test]
    fn a_path_that_quoting_would_change_is_refused() {
        let name: WrapperName = "web.service".parse().expect("a name");
        let specifiers = Specifiers { name: &name, fragment: "/etc/my units/web.service" };
        let result = specifiers.resolve(&Assignment::own(Section::Service, "Environment", "A=%Y"));
        assert!(matches!(result, Err(Unresolved::Value { specifier: 'Y', .. })), "{result:?}");
    }
}
