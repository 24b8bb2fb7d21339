//! The logged policy: limits and lifetimes that are the same at the authority and at every checker.

use std::time::Duration;

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
        }
    }
}

/// Why bytes are not a [`Policy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a policy: {0}")]
pub struct PolicyError(&'static str);

impl Policy {
    /// The length of the canonical encoding, in bytes.
    pub const BYTES: usize = 8 * 8 + 2;

    /// The canonical encoding: eight u64le (`max_entries`, then the seven durations in seconds, in the order of the
    /// fields), u8 `when_stale` (0 serve stale, 1 deny), u8 `lifetime_policy` (0 warn, 1 enforce).
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
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
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes[64] = u8::from(self.when_stale == WhenStale::Deny);
        bytes[65] = u8::from(self.lifetime_policy == LifetimePolicy::Enforce);
        bytes
    }

    /// The inverse of [`Policy::encode`].
    ///
    /// # Errors
    /// When the length is wrong or a choice is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() != Self::BYTES {
            return Err(PolicyError("wrong length"));
        }
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let seconds = |index| Duration::from_secs(word(index));
        Ok(Self {
            max_entries: word(0),
            max_token_lifetime: seconds(1),
            max_session_lifetime: seconds(2),
            expiry_leeway: seconds(3),
            expiry_grace: seconds(4),
            max_staleness: seconds(5),
            clock_skew_max: seconds(6),
            issuer_clock_skew: seconds(7),
            when_stale: match bytes[64] {
                0 => WhenStale::ServeStale,
                1 => WhenStale::Deny,
                _ => return Err(PolicyError("unknown choice for a stale replica")),
            },
            lifetime_policy: match bytes[65] {
                0 => LifetimePolicy::Warn,
                1 => LifetimePolicy::Enforce,
                _ => return Err(PolicyError("unknown lifetime policy")),
            },
        })
    }
}
