//! RFC 3339 times.

use jiff::Timestamp;

/// Where a fraction of a second goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the second before.
    Down,
    /// To the second after: a cutoff reaches the whole second that it names a part of.
    Up,
}

/// The unix second of an RFC 3339 time; `None` when it is none, or before 1970.
#[must_use]
pub fn parse_time(text: &str, rounding: Rounding) -> Option<u64> {
    let time: Timestamp = text.parse().ok()?;
    let nanoseconds = u128::try_from(time.as_nanosecond()).ok()?;
    const PER_SECOND: u128 = 1_000_000_000;
    let seconds = match rounding {
        Rounding::Down => nanoseconds / PER_SECOND,
        Rounding::Up => nanoseconds.div_ceil(PER_SECOND),
    };
    u64::try_from(seconds).ok()
}

/// A unix second in RFC 3339, UTC; the plain number for one past the year 9999, which no valid answer holds.
#[must_use]
pub fn render_time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

/// The same with milliseconds.
#[must_use]
pub fn render_millis(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| millis.to_string(), |time| format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_as_told() {
        for (text, down, up) in [
            ("2026-01-01T00:00:00Z", 1_767_225_600, 1_767_225_600),
            ("2026-01-01T00:00:00.000000001Z", 1_767_225_600, 1_767_225_601),
            ("2026-01-01T02:00:00.5+02:00", 1_767_225_600, 1_767_225_601),
        ] {
            assert_eq!(parse_time(text, Rounding::Down), Some(down), "{text}");
            assert_eq!(parse_time(text, Rounding::Up), Some(up), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_or_before_1970_is_refused() {
        for text in ["", "now", "1767225600", "2026-01-01", "2026-01-01T00:00:00", "1969-12-31T23:59:59Z"] {
            assert_eq!(parse_time(text, Rounding::Down), None, "{text}");
        }
    }

    #[test]
    fn times_are_rendered_in_utc() {
        assert_eq!(render_time(1_767_225_600), "2026-01-01T00:00:00Z");
        assert_eq!(render_millis(1_767_225_600_042), "2026-01-01T00:00:00.042Z");
        assert_eq!(render_time(u64::MAX), u64::MAX.to_string());
    }
}
