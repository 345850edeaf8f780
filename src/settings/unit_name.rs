//! Unit names: the wrapper's, and what its generations are called.

use std::fmt;
use std::str::FromStr;

use crate::roll::Generation;

/// systemd's limit for a unit name, suffix included (`UNIT_NAME_MAX`, without its NUL).
const LONGEST: usize = 255;

/// Room for `@`, ten digits and `.service`.
const LONGEST_BASE: usize = LONGEST - 19;

/// What the generations of one service are named after: `web` in `web@3.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseName(String);

/// The name can't have generations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// There is nothing to it.
    #[error("it is empty")]
    Empty,
    /// Another kind of unit.
    #[error("it is not a service")]
    NotAService,
    /// Generations named `app@blue@1.service` would be instances of `app@.service`.
    #[error("it has an @, which in a generation's name stands before the number. Write a colon in its place")]
    At,
    /// Only instances of it can run.
    #[error("it is a template, which runs only as an instance. Give it a name between the @ and .service")]
    Template,
    /// As systemd-escape(1) makes them. Unquoting in a unit file would change it where it takes a specifier's place.
    #[error(
        "it has a backslash, as an escaped name has. Choose one that needs no escaping: letters, digits, colons, dashes, \
         underscores and dots"
    )]
    Escaped,
    /// A character that no unit name has.
    #[error("it has the character {0:?}; use letters, digits, colons, dashes, underscores and dots")]
    Character(char),
    /// Longer than systemd allows.
    #[error(
        "it is longer than {LONGEST_BASE} characters, or its slice is longer than {LONGEST}, where a dash counts as four"
    )]
    TooLong,
}

impl BaseName {
    /// What `unit` is named after, if it is named as a generation.
    pub fn of(unit: &str) -> Option<Self> {
        let base = Self::checked(unit.split_once('@')?.0).ok()?;
        base.number(unit).map(|_| base)
    }

    /// The unit name of a generation.
    pub fn generation(&self, generation: Generation) -> String {
        format!("{}@{generation}.service", self.0)
    }

    /// The unit name of the template that all generations would be instances of, if it existed.
    pub fn template(&self) -> String {
        format!("{}@.service", self.0)
    }

    /// The pattern that all generations match, for `systemctl list-units`.
    pub fn pattern(&self) -> String {
        format!("{}@*.service", self.0)
    }

    /// The unit name of a generation that is a scope, of which there are no instances.
    pub fn scope(&self, generation: Generation) -> String {
        format!("{}-{generation}.scope", self.0)
    }

    /// The pattern that all such generations match.
    pub fn scope_pattern(&self) -> String {
        format!("{}-*.scope", self.0)
    }

    /// Which generation `unit` is, if it is one of these.
    pub fn number(&self, unit: &str) -> Option<Generation> {
        number(unit.strip_prefix(&self.0)?.strip_prefix('@')?.strip_suffix(".service")?)
    }

    /// Which generation the scope `unit` is, if it is one of these.
    pub fn scope_number(&self, unit: &str) -> Option<Generation> {
        number(unit.strip_prefix(&self.0)?.strip_prefix('-')?.strip_suffix(".scope")?)
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn checked(base: &str) -> Result<Self, BadName> {
        let is_plain = |char: &char| char.is_ascii_alphanumeric() || ":-_.".contains(*char);
        match base.chars().find(|char| !is_plain(char)) {
            _ if base.is_empty() => Err(BadName::Empty),
            Some('@') => Err(BadName::At),
            Some('\\') => Err(BadName::Escaped),
            Some(char) => Err(BadName::Character(char)),
            None if base.len() > LONGEST_BASE || slice(base).len() > LONGEST => Err(BadName::TooLong),
            None => Ok(Self(base.to_owned())),
        }
    }
}

/// Only as we write them: no sign, no leading zero.
fn number(text: &str) -> Option<Generation> {
    text.parse().ok().filter(|parsed: &u32| *parsed > 0 && parsed.to_string() == text).map(Generation::new)
}

/// The slice that systemd has for the instances of this name, in which each dash takes four characters.
fn slice(base: &str) -> String {
    format!("system-{}.slice", base.replace('-', "\\x2d"))
}

impl FromStr for BaseName {
    type Err = BadName;

    /// Takes `web` and `web.service`, as `systemd-run --unit=` does.
    fn from_str(name: &str) -> Result<Self, BadName> {
        if let Some(base) = name.strip_suffix(".service") {
            return Self::checked(base);
        }
        let other = ["socket", "target", "slice", "scope", "timer", "mount", "automount", "path", "swap", "device"];
        match name.rsplit_once('.').is_some_and(|(_, suffix)| other.contains(&suffix)) {
            true => Err(BadName::NotAService),
            false => Self::checked(name),
        }
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a wrapper unit: `web.service`, or that of an instance, `app@blue.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapperName {
    prefix: String,
    instance: Option<String>,
    base: BaseName,
}

impl WrapperName {
    /// What its generations are named after, unless `--unit=` says otherwise: `web`, or `app:blue`, since instances of
    /// an instance can't be.
    pub fn base(&self) -> &BaseName {
        &self.base
    }

    /// What systemd calls the prefix (`%p`): `web`, or `app`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What systemd calls the instance (`%i`), if it is one: `blue`.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// The socket unit that systemd ties to it by name.
    pub fn socket(&self) -> String {
        format!("{}.socket", self.stem())
    }

    /// The name without `.service` (`%N`).
    pub fn stem(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}@{instance}", self.prefix),
            None => self.prefix.clone(),
        }
    }
}

impl FromStr for WrapperName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let stem = name.strip_suffix(".service").ok_or(BadName::NotAService)?;
        let (prefix, instance) = stem.split_once('@').map_or((stem, None), |(prefix, rest)| (prefix, Some(rest)));
        if prefix.is_empty() {
            return Err(BadName::Empty);
        }
        if instance == Some("") {
            return Err(BadName::Template);
        }
        // Two wrappers may come to the same. Who has such generations already keeps the name.
        let base = BaseName::checked(&stem.replace('@', ":"))?;
        Ok(Self { prefix: prefix.to_owned(), instance: instance.map(str::to_owned), base })
    }
}

impl fmt::Display for WrapperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.service", self.stem())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    const OF_NAMES: &[&str] =
        &["web", "a-b", "@", ":", ".service", ".socket", "-", "_", ".", "\\x2d", "/", "1", "xxxxxxxxxxxxxxxx"];

    proptest! {
        #[test]
        fn any_text_names_generations_that_systemd_can_have_or_none(text in text_of(OF_NAMES), number in 1..u32::MAX) {
            if let Ok(base) = text.parse::<BaseName>() {
                let unit = base.generation(Generation::new(number));
                prop_assert_eq!(base.number(&unit), Some(Generation::new(number)));
                prop_assert_eq!(BaseName::of(&unit), Some(base.clone()));
                prop_assert!(unit.len() <= LONGEST && slice(base.as_str()).len() <= LONGEST);
                prop_assert!(unit.chars().all(|char| char.is_ascii_alphanumeric() || ":-_.@".contains(char)));
                prop_assert_eq!(unit.matches('@').count(), 1);
            }
        }

        #[test]
        fn any_text_is_a_wrapper_that_reads_back_the_same_or_none(text in text_of(OF_NAMES)) {
            for text in [text.clone(), format!("{text}.service"), format!("app@{text}.service")] {
                if let Ok(wrapper) = text.parse::<WrapperName>() {
                    prop_assert_eq!(wrapper.to_string(), text);
                    let base = wrapper.base();
                    prop_assert_eq!(format!("{base}.service").parse(), Ok(base.clone()));
                }
            }
        }

        #[test]
        fn any_unit_is_a_generation_of_one_name_or_of_none(unit in text_of(OF_NAMES)) {
            if let Some(base) = BaseName::of(&unit) {
                let number = base.number(&unit).expect("it is one");
                prop_assert_eq!(base.generation(number), unit);
            }
        }
    }

    #[test]
    fn generations_are_named_and_recognised() {
        let base: BaseName = "web.service".parse().expect("a name");
        assert_eq!(base.generation(Generation::new(12)), "web@12.service");
        assert_eq!(base.number("web@12.service"), Some(Generation::new(12)));
        for other in ["web@012.service", "web@+1.service", "web@.service", "web@0.service", "web2@1.service", "web@1"] {
            assert_eq!(base.number(other), None, "{other}");
        }
        assert_eq!(BaseName::of("web@12.service"), Some(base));
        assert_eq!(BaseName::of("web@x.service"), None);
    }

    #[test]
    fn what_cannot_have_generations_is_refused() {
        let refused = |name: &str| name.parse::<BaseName>().expect_err(name);
        assert_eq!(refused(""), BadName::Empty);
        assert_eq!(refused(".service"), BadName::Empty);
        assert_eq!(refused("web.socket"), BadName::NotAService);
        assert_eq!(refused("app@blue.service"), BadName::At);
        assert_eq!(refused("app@"), BadName::At);
        assert_eq!(refused("a\\x2db"), BadName::Escaped);
        assert_eq!(refused("a b"), BadName::Character(' '));
        assert_eq!(refused(&"x".repeat(300)), BadName::TooLong);
        // system-a\x2da\x2d….slice
        assert_eq!(refused(&"a-".repeat(50)), BadName::TooLong);
        assert!("a-".repeat(48).parse::<BaseName>().is_ok());
    }

    #[test]
    fn dots_and_dashes_are_part_of_a_name() {
        assert_eq!("my-app.v2".parse::<BaseName>().map(|name| name.to_string()), Ok("my-app.v2".to_owned()));
    }

    #[test]
    fn an_instance_has_generations_with_a_colon() {
        let parts = |name: &str| {
            let name: WrapperName = name.parse().expect("a name");
            let instance = name.instance().map(str::to_owned);
            (name.to_string(), name.prefix().to_owned(), instance, name.base().to_string(), name.socket())
        };
        let all = |name: &str, prefix: &str, instance: Option<&str>, base: &str, socket: &str| {
            let [name, prefix, base, socket] = [name, prefix, base, socket].map(str::to_owned);
            (name, prefix, instance.map(str::to_owned), base, socket)
        };
        assert_eq!(parts("web.service"), all("web.service", "web", None, "web", "web.socket"));
        let blue = all("my-app@a-b.service", "my-app", Some("a-b"), "my-app:a-b", "my-app@a-b.socket");
        assert_eq!(parts("my-app@a-b.service"), blue);
        let mail = all("mail@me@host.service", "mail", Some("me@host"), "mail:me:host", "mail@me@host.socket");
        assert_eq!(parts("mail@me@host.service"), mail);
        // The part before .service is the name's own, whatever it ends in.
        assert_eq!(parts("app@x.socket.service").3, "app:x.socket");
    }

    #[test]
    fn what_cannot_be_a_wrapper_is_refused() {
        let refused = |name: &str| name.parse::<WrapperName>().expect_err(name);
        assert_eq!(refused("web"), BadName::NotAService);
        assert_eq!(refused("app@.service"), BadName::Template);
        assert_eq!(refused("@blue.service"), BadName::Empty);
        assert_eq!(refused(".service"), BadName::Empty);
        assert_eq!(refused("app@a\\x2db.service"), BadName::Escaped);
        assert_eq!(refused(&format!("app@{}.service", "x".repeat(240))), BadName::TooLong);
    }
}
