//! Points in time as the log states them. Nothing here reads a clock.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, as read from a wall clock: a record's `source_time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The whole second this instant lies in.
    #[must_use]
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }
}

/// Whole seconds since 1970-01-01T00:00:00Z: a NumericDate (RFC 7519 §2) without its fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This time and `seconds` more, without wrapping.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The latest issue time a revocation reaches: whole seconds, inclusive; 34 bits.
///
/// [`Cutoff::UNBOUNDED`] reaches every token, whatever its time says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cutoff(u64);

impl Cutoff {
    /// No cutoff: every matching token is revoked.
    pub const UNBOUNDED: Self = Self((1 << 34) - 1);
    /// The latest cutoff that is a time (in the year 2514).
    pub const MAX_SECONDS: u64 = (1 << 34) - 2;

    /// The cutoff at `seconds`, or `None` past [`Cutoff::MAX_SECONDS`].
    #[must_use]
    pub fn at(seconds: UnixSeconds) -> Option<Self> {
        (seconds.0 <= Self::MAX_SECONDS).then_some(Self(seconds.0))
    }

    /// The cutoff as a time; `None` when it is unbounded.
    #[must_use]
    pub fn seconds(self) -> Option<UnixSeconds> {
        (self != Self::UNBOUNDED).then_some(UnixSeconds(self.0))
    }

    /// Whether a token whose tested time is `time` lies at or before the cutoff. A missing time always does.
    #[must_use]
    pub fn reaches(self, time: Option<UnixSeconds>) -> bool {
        self == Self::UNBOUNDED || time.is_none_or(|t| t.0 <= self.0)
    }

    /// The 34-bit form, as stored and encoded.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Cutoff::bits`]; higher bits are ignored.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & ((1 << 34) - 1))
    }
}

/// A minute since 1970-01-01T00:00:00Z, 28 bits: when an entry may be forgotten, or the expiry floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(u32);

impl Minute {
    /// Never: the entry is kept until it is reinstated.
    pub const NEVER: Self = Self((1 << 28) - 1);
    /// The latest minute that is a time (in the year 2480).
    pub const MAX: u32 = (1 << 28) - 2;

    /// The minute numbered `minutes`, or `None` past [`Minute::MAX`].
    #[must_use]
    pub fn at(minutes: u32) -> Option<Self> {
        (minutes <= Self::MAX).then_some(Self(minutes))
    }

    /// The first whole minute not before `time`; `None` past [`Minute::MAX`].
    #[must_use]
    pub fn ceil(time: UnixSeconds) -> Option<Self> {
        u32::try_from(time.0.div_ceil(60)).ok().and_then(Self::at)
    }

    /// The whole minute `time` lies in; `None` past [`Minute::MAX`].
    #[must_use]
    pub fn floor(time: UnixSeconds) -> Option<Self> {
        u32::try_from(time.0 / 60).ok().and_then(Self::at)
    }

    /// Its first second; `None` for [`Minute::NEVER`].
    #[must_use]
    pub fn seconds(self) -> Option<UnixSeconds> {
        (self != Self::NEVER).then_some(UnixSeconds(u64::from(self.0) * 60))
    }

    /// The 28-bit form, as stored and encoded.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The inverse of [`Minute::bits`]; higher bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << 28) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoff_is_inclusive_and_a_missing_time_matches() {
        let cutoff = Cutoff::at(UnixSeconds(100)).unwrap();
        assert!(cutoff.reaches(Some(UnixSeconds(100))));
        assert!(!cutoff.reaches(Some(UnixSeconds(101))));
        assert!(cutoff.reaches(None));
        assert!(Cutoff::UNBOUNDED.reaches(Some(UnixSeconds(u64::MAX))));
    }

    #[test]
    fn expiry_rounds_up_to_the_minute() {
        assert_eq!(Minute::ceil(UnixSeconds(60)).unwrap().bits(), 1);
        assert_eq!(Minute::ceil(UnixSeconds(61)).unwrap().bits(), 2);
        assert_eq!(Minute::floor(UnixSeconds(119)).unwrap().bits(), 1);
        assert_eq!(Minute::ceil(UnixSeconds(u64::MAX)), None);
    }

    #[test]
    fn never_and_unbounded_sort_last_so_that_merging_is_a_maximum() {
        assert!(Minute::NEVER > Minute::at(Minute::MAX).unwrap());
        assert!(Cutoff::UNBOUNDED > Cutoff::at(UnixSeconds(Cutoff::MAX_SECONDS)).unwrap());
    }
}
