//! The logged policy: limits and lifetimes that are the same at the authority and at every checker.

use std::time::Duration;

use super::codec::{DecodeError, Reader};

/// What a replica does once it is staler than [`Policy::max_staleness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhenStale {
    /// Goes on answering from what it holds, loudly.
    ServeStale,
    /// Answers `Unknown{STALE}`. The stricter of the two.
    Deny,
}

/// What a miss means for a token that lives longer than entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifetimePolicy {
    /// Answers `NotRevoked`, counts it and logs once per issuer.
    Warn,
    /// Answers `Unknown{BEYOND_HORIZON}`.
    Enforce,
}

/// Limits and lifetimes, part of the replicated state. All durations are whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The most live entries; more are refused, none is ever dropped.
    pub max_entries: u64,
    /// The longest time between a token's `iat` and its `exp`.
    pub max_token_lifetime: Duration,
    /// The longest time refresh tokens keep a session going.
    pub max_session_lifetime: Duration,
    /// Added to every natural expiry: more than the laxest verifier's leeway.
    pub expiry_leeway: Duration,
    /// How far the expiry floor stays behind the log's time.
    pub expiry_grace: Duration,
    /// The staleness a checker accepts.
    pub max_staleness: Duration,
    /// The largest difference between two servers' clocks.
    pub clock_skew_max: Duration,
    /// Added to the authority's now when it sets a default cutoff.
    pub issuer_clock_skew: Duration,
    /// Beyond [`Policy::max_staleness`].
    pub when_stale: WhenStale,
    /// For tokens that outlive entries.
    pub lifetime_policy: LifetimePolicy,
    /// What epochs up to this generation revoked and later ones lack is given up; 0: nothing is. Set by an operator, not
    /// by configuration.
    pub losses_accepted: u64,
}

impl Default for Policy {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            max_entries: 20_000_000,
            max_token_lifetime: Duration::from_secs(7 * 24 * HOUR),
            max_session_lifetime: Duration::from_secs(30 * 24 * HOUR),
            expiry_leeway: Duration::from_secs(15 * 60),
            expiry_grace: Duration::from_secs(HOUR),
            max_staleness: Duration::from_secs(5 * 60),
            clock_skew_max: Duration::from_secs(30),
            issuer_clock_skew: Duration::ZERO,
            when_stale: WhenStale::ServeStale,
            lifetime_policy: LifetimePolicy::Warn,
            losses_accepted: 0,
        }
    }
}

/// The length of the encoding without `losses_accepted`, in bytes.
const BASE_BYTES: usize = 8 * 8 + 2;
/// Set in the last byte of those when `losses_accepted` follows.
const MORE: u8 = 1 << 7;

impl Policy {
    /// The canonical encoding: eight u64le (`max_entries`, then the seven durations in seconds, in the order of the
    /// fields), u8 `when_stale` (0 serve stale, 1 deny), u8 `lifetime_policy` (0 warn, 1 enforce; bit 7: more follows),
    /// and unless it is zero, u64le `losses_accepted`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BASE_BYTES + 8);
        let words = [
            self.max_entries,
            self.max_token_lifetime.as_secs(),
            self.max_session_lifetime.as_secs(),
            self.expiry_leeway.as_secs(),
            self.expiry_grace.as_secs(),
            self.max_staleness.as_secs(),
            self.clock_skew_max.as_secs(),
            self.issuer_clock_skew.as_secs(),
        ];
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.push(u8::from(self.when_stale == WhenStale::Deny));
        let more = self.losses_accepted > 0;
        bytes.push(u8::from(self.lifetime_policy == LifetimePolicy::Enforce) | if more { MORE } else { 0 });
        if more {
            bytes.extend_from_slice(&self.losses_accepted.to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`Policy::encode`]: accepts canonical bytes only.
    ///
    /// # Errors
    /// When the length is wrong or a choice is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let policy = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(policy)
    }

    /// Takes a policy off the front of what is read.
    ///
    /// # Errors
    /// As [`Policy::decode`].
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let max_entries = reader.u64()?;
        let mut seconds = || reader.u64().map(Duration::from_secs);
        let mut policy = Self {
            max_entries,
            max_token_lifetime: seconds()?,
            max_session_lifetime: seconds()?,
            expiry_leeway: seconds()?,
            expiry_grace: seconds()?,
            max_staleness: seconds()?,
            clock_skew_max: seconds()?,
            issuer_clock_skew: seconds()?,
            when_stale: WhenStale::ServeStale,
            lifetime_policy: LifetimePolicy::Warn,
            losses_accepted: 0,
        };
        policy.when_stale = match reader.u8()? {
            0 => WhenStale::ServeStale,
            1 => WhenStale::Deny,
            _ => return Err(DecodeError::Invalid("policy for a stale replica")),
        };
        let last = reader.u8()?;
        policy.lifetime_policy = match last & !MORE {
            0 => LifetimePolicy::Warn,
            1 => LifetimePolicy::Enforce,
            _ => return Err(DecodeError::Invalid("lifetime policy")),
        };
        if last & MORE != 0 {
            policy.losses_accepted = reader.u64()?;
            if policy.losses_accepted == 0 {
                return Err(DecodeError::Invalid("losses accepted"));
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_losses_follow_the_bytes_that_were_always_there() {
        let before = Policy { lifetime_policy: LifetimePolicy::Enforce, ..Policy::default() };
        let after = Policy { losses_accepted: 0x0102_0304, ..before };
        let (short, long) = (before.encode(), after.encode());
        assert_eq!((short.len(), long.len()), (66, 74));
        assert_eq!((&short[..65], short[65]), (&long[..65], 1));
        assert_eq!(long[65..], [0x81, 4, 3, 2, 1, 0, 0, 0, 0]);
        assert_eq!((Policy::decode(&short), Policy::decode(&long)), (Ok(before), Ok(after)));
    }

    #[test]
    fn only_canonical_bytes_are_a_policy() {
        let long = Policy { losses_accepted: 7, ..Policy::default() }.encode();
        for length in (0..long.len()).filter(|length| *length != 74) {
            assert!(Policy::decode(&long[..length]).is_err(), "{length}");
        }
        let mut zero = long.clone();
        zero[66] = 0;
        let mut unflagged = long.clone();
        unflagged[65] = 0;
        let mut other = long;
        other[65] = 0x82;
        for bytes in [zero, unflagged, other] {
            assert!(Policy::decode(&bytes).is_err());
        }
    }
}
