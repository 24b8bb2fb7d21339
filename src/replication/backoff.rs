//! When to connect again: full jitter, so that many subscribers never come back together.

use std::time::Duration;

/// The first window.
const WINDOW_MIN: Duration = Duration::from_millis(200);
/// The widest window: a server that comes back is found within it.
const WINDOW_MAX: Duration = Duration::from_secs(10);
/// The longest window a server may ask for: it delays reconnecting, and nobody should be able to delay it for good.
const ASKED_WINDOW_MAX: Duration = Duration::from_secs(120);

/// A small deterministic generator (SplitMix64). For spreading load, not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration below `window`, in whole microseconds; zero for an empty one.
    pub fn within(&mut self, window: Duration) -> Duration {
        let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next_u64().checked_rem(micros).unwrap_or(0))
    }
}

/// How long to wait before the next attempt: a random part of a window that doubles with each failure.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: Random,
}

impl Backoff {
    /// Nothing has failed yet. Each process passes a seed of its own.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: Random::new(seed) }
    }

    /// Something failed: how long to wait.
    pub fn handle_failure(&mut self) -> Duration {
        let window = WINDOW_MIN.saturating_mul(1 << self.failures.min(16)).min(WINDOW_MAX);
        self.failures = self.failures.saturating_add(1);
        self.random.within(window)
    }

    /// The server named a window: how long to wait. Counts as a failure too, so that an empty window is no invitation.
    pub fn handle_asked(&mut self, window: Duration) -> Duration {
        let own = self.handle_failure();
        if window.is_zero() { own } else { self.random.within(window.min(ASKED_WINDOW_MAX)) }
    }

    /// It went well for long enough: the next failure is the first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_double_to_a_limit_and_waits_fill_them() {
        let mut longest = [Duration::ZERO; 12];
        for seed in 0..500 {
            let mut backoff = Backoff::new(seed);
            for longest in &mut longest {
                *longest = backoff.handle_failure().max(*longest);
            }
        }
        for (failures, longest) in longest.iter().enumerate() {
            let window = (WINDOW_MIN * (1 << failures)).min(WINDOW_MAX);
            assert!(*longest < window, "after {failures} failures: {longest:?} of {window:?}");
            assert!(*longest > window / 2, "after {failures} failures: {longest:?} of {window:?}");
        }
    }

    #[test]
    fn a_reset_starts_over_and_an_asked_window_is_bounded() {
        let mut backoff = Backoff::new(7);
        for _ in 0..20 {
            backoff.handle_failure();
        }
        backoff.reset();
        assert!(backoff.handle_failure() < WINDOW_MIN);
        assert!(backoff.handle_asked(Duration::MAX) < ASKED_WINDOW_MAX);
        assert!(backoff.handle_asked(Duration::ZERO) < WINDOW_MAX);
    }
}
