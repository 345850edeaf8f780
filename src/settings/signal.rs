//! Signals as people write them: `SIGTERM`, `TERM`, `15`, `RTMIN+3`.

use nix::sys::signal::Signal;

/// A signal as systemd reads it back: a name with `SIG`, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalName(String);

/// The text names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signal. Write it like SIGTERM, TERM or 15")]
pub struct BadSignal;

/// The real-time signals that are left to programs, SIGRTMIN to SIGRTMAX, as glibc counts them.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

impl SignalName {
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
                Err(_) if !REAL_TIME.contains(&number) => Err(BadSignal),
                _ => Ok(Self::of(number)),
            };
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let full = format!("SIG{name}");
        let real_time = || {
            let (from, offset) = match name.split_at_checked(6)? {
                ("RTMIN+", offset) => (*REAL_TIME.start(), offset.parse::<u8>().ok()?.into()),
                ("RTMAX-", offset) => (*REAL_TIME.end(), -i32::from(offset.parse::<u8>().ok()?)),
                _ => return None,
            };
            Some(from + offset).filter(|number| REAL_TIME.contains(number))
        };
        if full.parse::<Signal>().is_ok() || real_time().is_some() { Ok(Self(full)) } else { Err(BadSignal) }
    }
}

impl std::fmt::Display for SignalName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_numbers() {
        let name = |text: &str| text.parse::<SignalName>().map(|signal| signal.to_string());
        for text in ["SIGTERM", "TERM", "15"] {
            assert_eq!(name(text), Ok("SIGTERM".to_owned()));
        }
        assert_eq!(name("RTMIN+3"), Ok("SIGRTMIN+3".to_owned()));
        assert_eq!(name("40"), Ok("40".to_owned()));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "SIG", "FOO", "0", "65", "-1", "term", "RTMIN+99", "RTMIN", "SIGSIGTERM"] {
            assert_eq!(text.parse::<SignalName>(), Err(BadSignal), "{text}");
        }
    }
}
