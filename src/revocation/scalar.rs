//! The canonical text of a claim value: what a selector holds and what a token's claims are turned into.
//!
//! Types are erased: `42` and `"42"`, `true` and `"true"` are the same value. Strings are taken as they are
//! (no normalisation, no case folding). Only integral numbers within ±(2^53−1) have a canonical text, so a number
//! means the same in every language that reads it as a double.

/// The largest magnitude of an integral number with a canonical text: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The canonical text of a JSON number (RFC 8259 §6) given as it was written, or `None` when it has none.
///
/// `1`, `1.0`, `10e-1` and `1e0` are all `1`; `-0` is `0`; `1.5` and 2^53 have none.
/// `text` must be a valid JSON number; anything else also answers `None`.
#[must_use]
pub fn canonical_number(text: &str) -> Option<String> {
    canonical_integer(text).map(|integer| integer.to_string())
}

/// The integer whose decimal digits are [`canonical_number`]; allocates nothing.
#[must_use]
pub fn canonical_integer(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The value is 0.d1d2d3… × 10^point; digits right of the point must all be zero.
    let point = exponent.checked_add(i64::try_from(whole.len()).ok()?)?;
    let mut value: i64 = 0;
    let mut places: i64 = 0;
    for digit in digits().map(|b| i64::from(b - b'0')) {
        places += 1;
        if places > point {
            if digit != 0 {
                return None;
            }
            continue;
        }
        value = value * 10 + digit;
        if value > INTEGER_MAX as i64 {
            return None;
        }
    }
    if value == 0 {
        return Some(0);
    }
    while places < point {
        places += 1;
        value *= 10;
        if value > INTEGER_MAX as i64 {
            return None;
        }
    }
    Some(if negative { -value } else { value })
}

/// A decimal exponent; one too large to matter is clamped, which keeps zero mantissas zero and others out of range.
fn parse_exponent(text: &str) -> Option<i64> {
    const CLAMP: i64 = 1 << 40;
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse::<i64>().unwrap_or(CLAMP).min(CLAMP);
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integral_numbers_have_one_text_however_they_are_written() {
        for (text, canonical) in [
            ("1", "1"),
            ("1.0", "1"),
            ("1e0", "1"),
            ("10e-1", "1"),
            ("0.1E+1", "1"),
            ("-0", "0"),
            ("-0.0e99", "0"),
            ("0e99999999999999999999", "0"),
            ("-42", "-42"),
            ("1.5e1", "15"),
            ("9007199254740991", "9007199254740991"),
            ("-9007199254740991", "-9007199254740991"),
            ("9007199254740991.000", "9007199254740991"),
            ("9.007199254740991e15", "9007199254740991"),
        ] {
            assert_eq!(canonical_number(text).as_deref(), Some(canonical), "{text}");
        }
    }

    #[test]
    fn all_other_numbers_have_none() {
        for text in [
            "1.5",
            "0.1",
            "9007199254740992",
            "-9007199254740992",
            "9007199254740990.5",
            "1e16",
            "1e999999999999999999999",
            "1e-1",
            "10e-2",
            "",
            "-",
            "1e",
            "abc",
            "NaN",
        ] {
            assert_eq!(canonical_number(text), None, "{text}");
        }
    }
}
