//! Which issuers were logged already: once each is enough.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many are remembered; one that shares its slot with another is not logged, only counted.
const SLOTS: usize = 64;

/// A small lossy memory, without locks.
#[derive(Debug)]
pub(super) struct LoggedIssuers {
    hasher: RandomState,
    slots: [AtomicU64; SLOTS],
}

impl LoggedIssuers {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Whether this is the first time.
    pub(super) fn is_new(&self, issuer: &str) -> bool {
        let hash = self.hasher.hash_one(issuer) | 1;
        let slot = &self.slots[(hash >> 1) as usize % SLOTS];
        // Read first: a compare-and-swap would make every check write to a shared line.
        slot.load(Ordering::Relaxed) == 0
            && slot.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_new_once_and_many_are_not_all_lost() {
        let logged = LoggedIssuers::new();
        assert!(logged.is_new("https://issuer"));
        assert!(!logged.is_new("https://issuer"));
        let new = (0..1000).filter(|i| logged.is_new(&i.to_string())).count();
        assert!((32..SLOTS).contains(&new), "{new} of {SLOTS}");
    }
}
