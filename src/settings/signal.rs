//! Signals as people write them: `SIGTERM`, `TERM`, `15`, `RTMIN+3`.

use nix::sys::signal::Signal;

/// A signal as systemd reads it back: a name with `SIG`, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalName(String);

/// The text names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signal. Write it like SIGTERM, TERM or 15")]
pub struct BadSignal;

impl SignalName {
    /// The real-time signals that are left to programs, SIGRTMIN to SIGRTMAX, as glibc counts them.
    pub const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

    /// Its number.
    pub fn number(&self) -> i32 {
        let name = self.0.strip_prefix("SIG").unwrap_or(&self.0);
        let named = self.0.parse::<Signal>().ok().map(|signal| signal as i32);
        named.or_else(|| real_time(name)).or_else(|| name.parse().ok()).unwrap_or(nix::libc::SIGTERM)
    }

    /// The signal of this number, as somebody would write it.
    pub fn of(number: i32) -> Self {
        Self(Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.as_str().to_owned()))
    }
}

impl std::str::FromStr for SignalName {
    type Err = BadSignal;

    fn from_str(text: &str) -> Result<Self, BadSignal> {
        if let Ok(number) = text.parse::<i32>() {
            return match Signal::try_from(number) {
                Err(_) if !Self::REAL_TIME.contains(&number) => Err(BadSignal),
                _ => Ok(Self::of(number)),
            };
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let full = format!("SIG{name}");
        if full.parse::<Signal>().is_ok() || real_time(name).is_some() { Ok(Self(full)) } else { Err(BadSignal) }
    }
}

/// `RTMIN+3` and its like.
fn real_time(name: &str) -> Option<i32> {
    let (from, offset) = match name.split_at_checked(6)? {
        ("RTMIN+", offset) => (*SignalName::REAL_TIME.start(), offset.parse::<u8>().ok()?.into()),
        ("RTMAX-", offset) => (*SignalName::REAL_TIME.end(), -i32::from(offset.parse::<u8>().ok()?)),
        _ => return None,
    };
    Some(from + offset).filter(|number| SignalName::REAL_TIME.contains(number))
}

impl std::fmt::Display for SignalName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn any_text_is_a_signal_that_reads_back_the_same_or_none(
            text in text_of(&["SIG", "TERM", "RTMIN", "RTMAX", "+", "-", "0", "3", "15", "64", "HUP", " "]),
        ) {
            if let Ok(signal) = text.parse::<SignalName>() {
                prop_assert!((1..=64).contains(&signal.number()), "{}", text);
                prop_assert_eq!(signal.to_string().parse(), Ok(signal.clone()), "{}", text);
                prop_assert!(signal.to_string().chars().all(|char| char.is_ascii_alphanumeric() || "+-".contains(char)));
            }
        }
    }

    #[test]
    fn takes_names_and_numbers() {
        let name = |text: &str| text.parse::<SignalName>().map(|signal| signal.to_string());
        for text in ["SIGTERM", "TERM", "15"] {
            assert_eq!(name(text), Ok("SIGTERM".to_owned()));
        }
        assert_eq!(name("RTMIN+3"), Ok("SIGRTMIN+3".to_owned()));
        assert_eq!(name("40"), Ok("40".to_owned()));
        let number = |text: &str| text.parse::<SignalName>().map(|signal| signal.number());
        for (text, expected) in
            [("SIGTERM", 15), ("TERM", 15), ("15", 15), ("HUP", 1), ("RTMIN+3", 37), ("RTMAX-1", 63), ("40", 40)]
        {
            assert_eq!(number(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "SIG", "FOO", "0", "65", "-1", "term", "RTMIN+99", "RTMIN", "SIGSIGTERM"] {
            assert_eq!(text.parse::<SignalName>(), Err(BadSignal), "{text}");
        }
    }
}
