//! Time spans as systemd.time(7) writes them (`1min 30s`) and as the first procroll did (`1m30s`): the first notation
//! holds the second. A bare number is seconds.

use std::time::Duration;

/// A time span, or no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// So long. Whole µs, as systemd counts.
    Of(Duration),
    /// `infinity`
    Infinite,
}

/// The text is no time span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time span. Write it like 90, 1m30s or \"1min 30s\"")]
pub struct BadSpan;

impl std::str::FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        if text.trim() == "infinity" {
            return Ok(Self::Infinite);
        }
        // The parser takes a unit without a number for one of it; systemd doesn't.
        if !text.starts_with(|char: char| char.is_ascii_digit() || char == ' ') {
            return Err(BadSpan);
        }
        let parsed = fundu_systemd::parse(text, None, None).map_err(|_| BadSpan)?;
        let duration: Duration = parsed.try_into().map_err(|_| BadSpan)?;
        // The parser takes `infinity` and too large numbers for the largest duration there is.
        let micros = u64::try_from(duration.as_micros()).ok().filter(|&micros| micros < u64::MAX).ok_or(BadSpan)?;
        Ok(Self::Of(Duration::from_micros(micros)))
    }
}

impl std::fmt::Display for Span {
    /// As systemd reads it back, exactly.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Of(duration) => write!(f, "{}us", duration.as_micros()),
            Self::Infinite => f.write_str("infinity"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Result<Span, BadSpan> {
        text.parse()
    }

    #[test]
    fn reads_both_notations() {
        let of = |ms| Ok(Span::Of(Duration::from_millis(ms)));
        for text in ["90", "1m30s", "1min 30s", "1m 30", "1.5min", "90000ms", " 90s "] {
            assert_eq!(millis(text), of(90_000), "{text}");
        }
        assert_eq!(millis("0"), of(0));
        assert_eq!(millis("250ms"), of(250));
        assert_eq!(millis("infinity"), Ok(Span::Infinite));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "x", "1x", "-1", "s", "99999999999999999999y"] {
            assert_eq!(millis(text), Err(BadSpan), "{text}");
        }
    }

    #[test]
    fn writes_what_systemd_reads_back() {
        assert_eq!(Span::Of(Duration::from_millis(1500)).to_string(), "1500000us");
        assert_eq!(Span::Infinite.to_string(), "infinity");
    }
}
