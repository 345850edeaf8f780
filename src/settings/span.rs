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

/// A time as people read it, in systemd's notation and to the millisecond: `1min 2.5s`.
pub fn human(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return format!("{millis}ms");
    }
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min")];
    let mut parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    let decimals = format!(".{millis:03}");
    let decimals = decimals.trim_end_matches('0').trim_end_matches('.');
    if parts.is_empty() || seconds % 60 != 0 || !decimals.is_empty() {
        parts.push(format!("{}{decimals}s", seconds % 60));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn any_text_is_a_span_that_reads_back_the_same_or_none(
            text in text_of(&["0", "1", "30", "9999999999", ".", " ", "s", "min", "us", "y", "infinity", "-", "e", "+", "µs"]),
        ) {
            if let Ok(span) = text.parse::<Span>() {
                prop_assert_eq!(span.to_string().parse(), Ok(span), "{}", text);
            }
        }

        #[test]
        fn what_people_read_reads_back_the_same(millis in 0u64..100_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(human(duration).parse(), Ok(Span::Of(duration)), "{}", human(duration));
        }

        #[test]
        fn any_span_reads_back_the_same(micros in 0..u64::MAX) {
            let span = Span::Of(Duration::from_micros(micros));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }

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
    fn is_written_for_people() {
        let texts = [0, 45, 1000, 1230, 62_500, 120_000, 3_600_001].map(|ms| human(Duration::from_millis(ms)));
        assert_eq!(texts, ["0ms", "45ms", "1s", "1.23s", "1min 2.5s", "2min", "1h 0.001s"]);
    }

    #[test]
    fn writes_what_systemd_reads_back() {
        assert_eq!(Span::Of(Duration::from_millis(1500)).to_string(), "1500000us");
        assert_eq!(Span::Infinite.to_string(), "infinity");
    }
}
