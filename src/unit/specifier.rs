//! `%` specifiers that name the unit itself, resolved as the wrapper's before the text goes to a generation.
//!
//! `%n` in `web.service` means `web.service`, also in `web@3.service`; `%i` in `app@blue.service` means `blue`, also in
//! `app:blue@3.service`. Specifiers about the host, the manager or its
//! directories (`%H`, `%t`, …) mean the same in both and stay, as does `%d`, since credentials are each generation's
//! own. See systemd.unit(5), "Specifiers".

use super::text::{Assignment, WHITESPACE};
use crate::settings::WrapperName;

/// Keys whose values systemd takes without specifiers, so that `%n` in them is just that.
const WITHOUT_SPECIFIERS: &[&str] = &[
    "DelegateSubgroup",
    "LogFilterPatterns",
    "OOMRules",
    "OpenFile",
    "RestrictFileSystems",
    "RootHash",
    "RootHashSignature",
    "SetCredential",
    "SetCredentialEncrypted",
    "StandardInputData",
];

/// Whether systemd looks for specifiers in the values of this key.
pub fn has_specifiers(key: &str) -> bool {
    !WITHOUT_SPECIFIERS.contains(&key)
}

/// Keys whose values systemd takes apart at colons before it looks for specifiers.
const APART_AT_COLONS: &[&str] = &[
    "BPFProgram",
    "BindPaths",
    "BindReadOnlyPaths",
    "CacheDirectory",
    "ConfigurationDirectory",
    "ExecSearchPath",
    "ExtensionDirectories",
    "ExtensionImages",
    "ImportCredential",
    "LoadCredential",
    "LoadCredentialEncrypted",
    "LogsDirectory",
    "MountImages",
    "RootImageOptions",
    "RuntimeDirectory",
    "StateDirectory",
    "TemporaryFileSystem",
];

/// The value can't be carried faithfully.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// What the specifier stands for has characters that would mean something else where they are written out.
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
    /// Nothing is left of the value, or of its beginning: systemd would take it for one that empties a list, or cut off what
    /// it otherwise would not. Or of the beginning of an argument.
    #[error("a specifier in it stands for nothing here. Leave that out")]
    Nothing,
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
        if !has_specifiers(&assignment.key) || !value.contains('%') && !value.contains('\\') {
            return Ok(value.clone());
        }
        if ["\\%", "\\x25", "\\045", "\\u0025", "\\U00000025"].iter().any(|hidden| value.contains(hidden)) {
            return Err(Unresolved::Hidden);
        }
        let is_command = assignment.key.starts_with("Exec");
        let begins_word = |before: &str| before.is_empty() || before.ends_with(WHITESPACE);
        let mut resolved = String::with_capacity(value.len());
        let mut chars = value.chars();
        while let Some(char) = chars.next() {
            match (char, chars.clone().next()) {
                ('%', Some('"' | '\'' | '\\')) => return Err(Unresolved::Hidden),
                ('%', Some(letter)) => {
                    chars.next();
                    match self.meaning(letter) {
                        // Without it the word may be gone, which systemd would have kept, or a lone ; be left.
                        Some(meaning) if meaning.is_empty() && is_command && begins_word(&resolved) => {
                            return Err(Unresolved::Nothing);
                        }
                        Some(meaning) => resolved.push_str(&plain(&assignment.key, letter, meaning)?),
                        None => resolved.extend(['%', letter]),
                    }
                }
                (char, _) => resolved.push(char),
            }
        }
        if resolved.is_empty() || resolved.starts_with(WHITESPACE) {
            return Err(Unresolved::Nothing);
        }
        Ok(resolved)
    }

    fn meaning(&self, letter: char) -> Option<String> {
        let (prefix, instance) = (self.name.prefix(), self.name.instance());
        let last = prefix.rsplit('-').next().unwrap_or(prefix);
        Some(match letter {
            'n' => self.name.to_string(),
            'N' => self.name.stem(),
            'p' => prefix.to_owned(),
            'P' => unescape(prefix),
            'i' => instance.unwrap_or_default().to_owned(),
            'I' => unescape(instance.unwrap_or_default()),
            'j' => last.to_owned(),
            'J' => unescape(last),
            'f' => unescape_path(instance.unwrap_or(prefix)),
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

/// A lone dash is the root directory.
fn unescape_path(name: &str) -> String {
    if name == "-" { "/".to_owned() } else { format!("/{}", unescape(name)) }
}

/// Text that means the same within quotes, outside of them, to the specifier parser and to what reads the key's value.
fn plain(key: &str, specifier: char, value: String) -> Result<String, Unresolved> {
    let is_plain = |char: char| match char {
        ':' => !APART_AT_COLONS.contains(&key),
        char => char.is_ascii_alphanumeric() || "_./-@".contains(char),
    };
    let bad_path = specifier == 'f' && !is_normal(&value);
    if value.chars().all(is_plain) && !bad_path { Ok(value) } else { Err(Unresolved::Value { specifier, value }) }
}

/// systemd takes no other path out of a name.
fn is_normal(path: &str) -> bool {
    path == "/" || path.split('/').skip(1).all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{OF_UNITS, text_of};
    use crate::check::command::CommandLine;
    use crate::unit::text::Section;

    proptest! {
        /// systemd takes a command line apart first, and looks for specifiers in each word: what it makes of ours is
        /// what it makes of the wrapper's.
        #[test]
        fn words_mean_the_same_as_in_the_wrapper(
            name in proptest::sample::select(vec!["my-web.service", "app@blue.service", "app@a-b.service", "app@a:b.service"]),
            value in text_of(OF_UNITS),
        ) {
            let wrapper: WrapperName = name.parse().expect("a name");
            let specifiers = Specifiers { name: &wrapper, fragment: "/etc/systemd/system/my-web.service" };
            let value = format!("/bin/a {}", value.trim_matches(WHITESPACE));
            let resolved = specifiers.resolve(&Assignment::own(Section::Service, "ExecStop", &value));
            if let (Ok(resolved), Ok(meant)) = (resolved, CommandLine::parse(&value)) {
                let ours = CommandLine::parse(&resolved).expect("a command as well").words;
                let expand = |word: &String| {
                    let mut expanded = String::new();
                    let mut chars = word.chars();
                    while let Some(char) = chars.next() {
                        match (char, chars.clone().next()) {
                            ('%', Some(letter)) => {
                                chars.next();
                                expanded += &specifiers.meaning(letter).unwrap_or(format!("%{letter}"));
                            }
                            _ => expanded.push(char),
                        }
                    }
                    expanded
                };
                prop_assert_eq!(ours, meant.words.iter().map(expand).collect::<Vec<_>>(), "{} {}", value, resolved);
            }
        }
    }

    fn resolve_in(name: &str, key: &str, value: &str) -> Result<String, Unresolved> {
        let name: WrapperName = name.parse().expect("a name");
        let specifiers = Specifiers { name: &name, fragment: "/etc/systemd/system/my-web.service" };
        specifiers.resolve(&Assignment::own(Section::Service, key, value))
    }

    fn resolve(key: &str, value: &str) -> Result<String, Unresolved> {
        resolve_in("my-web.service", key, value)
    }

    #[test]
    fn those_that_name_the_unit_mean_the_wrapper() {
        let all = "%n|%N|%p|%P|%i|%I|%j|%J|%f|%y|%Y";
        let meant = "my-web.service|my-web|my-web|my/web|||web|web|/my/web|/etc/systemd/system/my-web.service|/etc/systemd/system";
        assert_eq!(resolve("Environment", all), Ok(meant.to_owned()));
    }

    #[test]
    fn those_that_name_an_instance_mean_it() {
        let all = "%n|%N|%p|%P|%i|%I|%j|%J|%f|%%i";
        for (name, meant) in [
            ("app@blue.service", "app@blue.service|app@blue|app|app|blue|blue|app|app|/blue|%%i"),
            ("my-app@a-b.service", "my-app@a-b.service|my-app@a-b|my-app|my/app|a-b|a/b|app|app|/a/b|%%i"),
            ("app@-.service", "app@-.service|app@-|app|app|-|/|app|app|/|%%i"),
            ("app@a@b.service", "app@a@b.service|app@a@b|app|app|a@b|a@b|app|app|/a@b|%%i"),
        ] {
            assert_eq!(resolve_in(name, "Environment", all), Ok(meant.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_path_that_systemd_takes_out_of_no_name_is_refused() {
        for name in ["app@a-.service", "app@-a.service", "app@a--b.service", "app@...service", "app@a-..-b.service"] {
            let result = resolve_in(name, "Environment", "A=%f");
            assert!(matches!(result, Err(Unresolved::Value { specifier: 'f', .. })), "{name}: {result:?}");
        }
    }

    #[test]
    fn a_colon_stays_only_where_it_means_nothing() {
        assert_eq!(resolve_in("app@a:b.service", "Environment", "A=%i"), Ok("A=a:b".to_owned()));
        let result = resolve_in("app@a:b.service", "BindPaths", "/srv/%i:/data");
        assert!(matches!(result, Err(Unresolved::Value { specifier: 'i', .. })), "{result:?}");
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
    fn a_value_of_which_nothing_is_left_is_refused() {
        // To systemd the first is a list with an empty word; what we would write empties the list.
        for (key, value) in [("InaccessiblePaths", "%i"), ("SystemCallFilter", "%I%i"), ("RootDirectory", "%i /srv")] {
            assert_eq!(resolve(key, value), Err(Unresolved::Nothing), "{key}={value}");
            assert!(resolve_in("app@blue.service", key, value).is_ok(), "{key}={value}");
        }
        assert_eq!(resolve("Description", "Web %i"), Ok("Web ".to_owned()));
        // The argument would be gone, or be the end of the command.
        for command in ["/bin/a %i", "/bin/a %i; /bin/b", "/bin/a %i%I b"] {
            assert_eq!(resolve("ExecStop", command), Err(Unresolved::Nothing), "{command}");
        }
        assert_eq!(resolve("ExecStop", "/bin/a --name=%i"), Ok("/bin/a --name=".to_owned()));
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
