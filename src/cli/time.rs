//! Times as arguments.

use std::time::Duration;

use crate::clock::Clock;
use crate::config::parse_duration;
use crate::revocation::UnixMillis;
use crate::surface::http::{Rounding, parse_time};

const EXPECTED: &str = "expected an RFC 3339 time (2026-01-31T12:00:00Z), unix seconds, now, or now-1s";

/// A time as it was given; `now` is read when the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Unix seconds; a fraction was rounded up.
    At(u64),
    /// So long ago.
    Ago(Duration),
}

impl Time {
    /// The unix second, a fraction rounded up.
    pub(crate) fn seconds(self, now: UnixMillis) -> u64 {
        match self {
            Self::At(seconds) => seconds,
            Self::Ago(ago) => now.0.div_ceil(1000).saturating_sub(ago.as_secs()),
        }
    }
}

/// What a cutoff can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutoffTime {
    /// Tokens issued then or earlier.
    Time(Time),
    /// Every token.
    None,
}

/// Reads a time.
pub(crate) fn time(text: &str) -> Result<Time, String> {
    if let Some(after_now) = text.strip_prefix("now") {
        let ago = match after_now.strip_prefix('-') {
            Some(ago) => parse_duration(ago).map_err(|_| EXPECTED)?,
            None if after_now.is_empty() => Duration::ZERO,
            None => return Err(EXPECTED.into()),
        };
        return Ok(Time::Ago(ago));
    }
    let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    number.or_else(|| parse_time(text, Rounding::Up)).map(Time::At).ok_or_else(|| EXPECTED.into())
}

/// Reads a time or `none`.
pub(crate) fn cutoff(text: &str) -> Result<CutoffTime, String> {
    if text == "none" {
        return Ok(CutoffTime::None);
    }
    time(text).map(CutoffTime::Time).map_err(|expected| format!("{expected}; or none for every token"))
}

/// Reads a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// The wall clock.
pub(super) fn now() -> UnixMillis {
    Clock::system().wall()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_every_documented_form() {
        let now = UnixMillis(1_767_225_600_001);
        for (text, seconds) in [
            ("2026-01-01T00:00:00Z", 1_767_225_600),
            ("2026-01-01T01:00:00.2+01:00", 1_767_225_601),
            ("1767225600", 1_767_225_600),
            ("0", 0),
            ("now", 1_767_225_601),
            ("now-1s", 1_767_225_600),
            ("now-1h30m", 1_767_220_201),
        ] {
            assert_eq!(time(text).unwrap().seconds(now), seconds, "{text}");
        }
        assert_eq!(cutoff("none"), Ok(CutoffTime::None));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_expected() {
        for text in
            ["", "yesterday", "now+1s", "now-", "now-1", "-1", "1.5", "2026-01-01", "none", "99999999999999999999"]
        {
            assert!(time(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
    }
}
