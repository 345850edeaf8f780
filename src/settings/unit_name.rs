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
    /// systemd refuses `app@blue@1.service`.
    #[error("it is a template or an instance of one, which can't have instances of its own")]
    Instance,
    /// A character that no unit name has, or one that quoting in a unit file would change.
    #[error("it has the character {0:?}; use letters, digits, colons, dashes, underscores and dots")]
    Character(char),
    /// Longer than systemd allows.
    #[error("it is longer than {LONGEST_BASE} characters")]
    TooLong,
}

impl BaseName {
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

    /// Which generation `unit` is, if it is one of these.
    pub fn number(&self, unit: &str) -> Option<Generation> {
        let number = unit.strip_prefix(&self.0)?.strip_prefix('@')?.strip_suffix(".service")?;
        // Only as we write them: no sign, no leading zero.
        number.parse().ok().filter(|parsed: &u32| *parsed > 0 && parsed.to_string() == number).map(Generation::new)
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseName {
    type Err = BadName;

    /// Takes `web` and `web.service`, as `systemd-run --unit=` does.
    fn from_str(name: &str) -> Result<Self, BadName> {
        let base = name.strip_suffix(".service").unwrap_or(name);
        let other = ["socket", "target", "slice", "scope", "timer", "mount", "automount", "path", "swap", "device"];
        if base.rsplit_once('.').is_some_and(|(_, suffix)| other.contains(&suffix)) {
            return Err(BadName::NotAService);
        }
        if base.is_empty() {
            return Err(BadName::Empty);
        }
        if base.contains('@') {
            return Err(BadName::Instance);
        }
        if let Some(char) = base.chars().find(|char| !char.is_ascii_alphanumeric() && !":-_.".contains(*char)) {
            return Err(BadName::Character(char));
        }
        if base.len() > LONGEST_BASE {
            return Err(BadName::TooLong);
        }
        Ok(Self(base.to_owned()))
    }
}

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a wrapper unit: `web.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrapperName(BaseName);

impl WrapperName {
    /// What its generations are named after, unless `--unit=` says otherwise.
    pub fn base(&self) -> &BaseName {
        &self.0
    }

    /// The name without `.service`, which is what systemd calls the prefix (`%p`) of a unit that is no instance.
    pub fn prefix(&self) -> &str {
        &self.0.0
    }
}

impl FromStr for WrapperName {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        if !name.ends_with(".service") {
            return Err(BadName::NotAService);
        }
        name.parse().map(Self)
    }
}

impl fmt::Display for WrapperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.service", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_named_and_recognised() {
        let base: BaseName = "web.service".parse().expect("a name");
        assert_eq!(base.generation(Generation::new(12)), "web@12.service");
        assert_eq!(base.number("web@12.service"), Some(Generation::new(12)));
        for other in ["web@012.service", "web@+1.service", "web@.service", "web@0.service", "web2@1.service", "web@1"] {
            assert_eq!(base.number(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_have_generations_is_refused() {
        let refused = |name: &str| name.parse::<BaseName>().expect_err(name);
        assert_eq!(refused(""), BadName::Empty);
        assert_eq!(refused(".service"), BadName::Empty);
        assert_eq!(refused("web.socket"), BadName::NotAService);
        assert_eq!(refused("app@blue.service"), BadName::Instance);
        assert_eq!(refused("a\\x2db"), BadName::Character('\\'));
        assert_eq!(refused("a b"), BadName::Character(' '));
        assert_eq!(refused(&"x".repeat(300)), BadName::TooLong);
    }

    #[test]
    fn dots_and_dashes_are_part_of_a_name() {
        assert_eq!("my-app.v2".parse::<BaseName>().map(|name| name.to_string()), Ok("my-app.v2".to_owned()));
    }
}
