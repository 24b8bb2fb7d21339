//! Durations as people write them: `"90d"`, `"1h30m"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

const UNITS: [(char, u64); 5] = [('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a duration is whole numbers with the units w, d, h, m and s, largest first, as in 90d or 1h30m")]
pub struct DurationError;

/// The duration that `text` says: whole seconds.
///
/// # Errors
/// When it is not whole numbers, each with its unit, largest unit first; or when it overflows.
///
/// ```
/// use rescind::config::parse_duration;
/// assert_eq!(parse_duration("1h30m")?.as_secs(), 5400);
/// # Ok::<(), rescind::config::DurationError>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let mut units = UNITS.iter();
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError)?;
        let count: u64 = rest[..digits].parse().map_err(|_| DurationError)?;
        let unit = rest[digits..].chars().next().ok_or(DurationError)?;
        let (_, length) = units.find(|(name, _)| *name == unit).ok_or(DurationError)?;
        seconds = count.checked_mul(*length).and_then(|part| seconds.checked_add(part)).ok_or(DurationError)?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    if text.is_empty() { Err(DurationError) } else { Ok(Duration::from_secs(seconds)) }
}

/// The shortest text that [`parse_duration`] reads back as `duration`, without its fraction of a second.
#[must_use]
pub fn render_duration(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, length) in UNITS {
        if seconds >= length {
            text += &format!("{}{unit}", seconds / length);
            seconds %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A configured duration of `MIN` to `MAX` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<const MIN: u64, const MAX: u64>(pub(super) Duration);

/// Why a text is not a duration that fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// It is no duration.
    #[error(transparent)]
    Malformed(#[from] DurationError),
    /// It is too short or too long.
    #[error("expected {} to {}, {given} given", render_duration(*min), render_duration(*max))]
    OutOfRange {
        /// What was given.
        given: String,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
}

impl<const MIN: u64, const MAX: u64> FromStr for Span<MIN, MAX> {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = parse_duration(text)?;
        if (MIN..=MAX).contains(&duration.as_secs()) {
            return Ok(Self(duration));
        }
        let [min, max] = [MIN, MAX].map(Duration::from_secs);
        Err(SpanError::OutOfRange { given: text.to_owned(), min, max })
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Text<MIN, MAX> {
            type Value = Span<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"90d\" or \"1h30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_render() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("1h30m", 5400), ("7d", 604_800), ("1w1s", 604_801)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(parse_duration(&render_duration(Duration::from_secs(seconds))).unwrap().as_secs(), seconds);
        }
        assert_eq!(render_duration(Duration::from_secs(90 * 86_400)), "12w6d");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "5",
            "d",
            "1x",
            "1m1h",
            "1h1h",
            "-1s",
            "1.5h",
            "1 h",
            "99999999999999999999s",
            "18446744073709551615w",
            "1é",
        ] {
            assert_eq!(parse_duration(text), Err(DurationError), "{text}");
        }
    }
}
