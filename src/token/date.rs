//! NumericDate (RFC 7519 §2): a JSON number of seconds since 1970, floored to whole seconds.

use crate::revocation::UnixSeconds;

/// What a JSON number means as a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumericDate {
    /// Before 1970.
    BeforeEpoch,
    /// This second or a fraction after it.
    At(UnixSeconds),
    /// More seconds than 64 bits hold.
    BeyondRange,
}

impl NumericDate {
    /// The time that `number` states; it must be a valid JSON number. Exact for any digits and exponents.
    pub(super) fn parse(number: &str) -> Self {
        match number.strip_prefix('-') {
            None => floor(number).map_or(Self::BeyondRange, |seconds| Self::At(UnixSeconds(seconds))),
            Some(zero) if is_zero(zero) => Self::At(UnixSeconds(0)),
            Some(_) => Self::BeforeEpoch,
        }
    }

    /// As a time of issue (`iat`, `auth_time`): 0 before 1970, since every cutoff reaches that; missing beyond the
    /// range, like any time in the future.
    pub(super) fn issued(self) -> Option<UnixSeconds> {
        match self {
            Self::BeforeEpoch => Some(UnixSeconds(0)),
            Self::At(time) => Some(time),
            Self::BeyondRange => None,
        }
    }

    /// As a time of expiry (`exp`): missing before 1970, so that no revocation is skipped or forgotten because of it;
    /// the last second there is beyond the range.
    pub(super) fn expiry(self) -> Option<UnixSeconds> {
        match self {
            Self::BeforeEpoch => None,
            Self::At(time) => Some(time),
            Self::BeyondRange => Some(UnixSeconds(u64::MAX)),
        }
    }
}

/// The whole part of an unsigned JSON number; `None` over 64 bits.
fn floor(number: &str) -> Option<u64> {
    if let Ok(whole) = number.parse() {
        return Some(whole);
    }
    let (mantissa, exponent) = split_exponent(number);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // The value is 0.d1d2d3… × 10^point.
    let point = exponent.saturating_add(whole.len() as i64);
    let (mut value, mut places) = (0u64, 0i64);
    for digit in whole.bytes().chain(fraction.bytes()) {
        if places == point.max(0) {
            return Some(value);
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        places += 1;
    }
    while value != 0 && places < point {
        value = value.checked_mul(10)?;
        places += 1;
    }
    Some(value)
}

fn is_zero(number: &str) -> bool {
    split_exponent(number).0.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

/// Mantissa and exponent. An exponent over 64 bits becomes the largest of its sign, which means the same.
fn split_exponent(number: &str) -> (&str, i64) {
    match number.split_once(['e', 'E']) {
        None => (number, 0),
        Some((mantissa, exponent)) => {
            let clamp = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
            (mantissa, exponent.parse().unwrap_or(clamp))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_exponents_are_floored() {
        for (number, seconds) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e5", 0),
            ("1700000000", 1_700_000_000),
            ("1700000000.999999999999", 1_700_000_000),
            ("1.7e9", 1_700_000_000),
            ("17E+8", 1_700_000_000),
            ("17000000005e-1", 1_700_000_000),
            ("0.9", 0),
            ("5e-1", 0),
            ("123e-99999999999999999999", 0),
            ("0e99999999999999999999", 0),
            ("0.0017e12", 1_700_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(NumericDate::parse(number), NumericDate::At(UnixSeconds(seconds)), "{number}");
        }
    }

    #[test]
    fn times_outside_the_range_take_the_reading_that_revokes_more() {
        for number in ["-1", "-0.5", "-1e-9", "-1e99"] {
            assert_eq!(NumericDate::parse(number), NumericDate::BeforeEpoch, "{number}");
        }
        for number in ["18446744073709551616", "1e20", "1e99999999999999999999", "0.1e99"] {
            assert_eq!(NumericDate::parse(number), NumericDate::BeyondRange, "{number}");
        }
        assert_eq!(NumericDate::BeforeEpoch.issued(), Some(UnixSeconds(0)));
        assert_eq!(NumericDate::BeyondRange.issued(), None);
        assert_eq!(NumericDate::BeforeEpoch.expiry(), None);
        assert_eq!(NumericDate::BeyondRange.expiry(), Some(UnixSeconds(u64::MAX)));
    }
}
