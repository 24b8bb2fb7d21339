//! The window of remembered requests: a repeat gets its first outcome, not a second one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::revocation::{Revision, UnixMillis};

/// How long, in log time, a request is remembered.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);
/// How many requests are remembered at most; past that the oldest is forgotten first. About 100 B each.
pub const REMEMBERED_MAX: usize = 1_000_000;

/// A hash of principal and request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey(pub [u8; 16]);

impl RequestKey {
    /// The key of this principal's request with this id.
    #[must_use]
    pub fn new(principal: &str, request_id: &str) -> Self {
        let length = (principal.len() as u64).to_le_bytes();
        let hash = Sha256::new().chain_update(length).chain_update(principal).chain_update(request_id).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }
}

/// A request that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The hash of all that makes two requests the same.
    pub body_hash: [u8; 32],
    /// The revision that accepted it.
    pub revision: Revision,
    /// Its place among the requests of that revision.
    pub ordinal: u32,
}

/// The requests of the last 24 h of log time.
#[derive(Clone, Debug, Default)]
pub struct RequestWindow {
    by_key: HashMap<RequestKey, Remembered>,
    oldest_first: VecDeque<(UnixMillis, RequestKey)>,
}

impl RequestWindow {
    /// The request with this key, if it is remembered.
    #[must_use]
    pub fn find(&self, key: &RequestKey) -> Option<&Remembered> {
        self.by_key.get(key)
    }

    /// Remembers a request accepted at `time` and forgets what is too old by then. A key is never remembered twice.
    pub fn remember(&mut self, key: RequestKey, request: Remembered, time: UnixMillis) {
        self.forget_before(time);
        while self.oldest_first.len() >= REMEMBERED_MAX {
            self.forget_oldest();
        }
        if self.by_key.insert(key, request).is_none() {
            self.oldest_first.push_back((time, key));
        }
    }

    /// All remembered requests, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (UnixMillis, RequestKey, Remembered)> + '_ {
        self.oldest_first.iter().map(|(time, key)| (*time, *key, self.by_key[key]))
    }

    fn forget_before(&mut self, now: UnixMillis) {
        let limit = now.0.saturating_sub(REMEMBERED_FOR.as_millis() as u64);
        while self.oldest_first.front().is_some_and(|(time, _)| time.0 < limit) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.oldest_first.pop_front() {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(revision: u64) -> Remembered {
        Remembered { body_hash: [7; 32], revision: Revision(revision), ordinal: 0 }
    }

    #[test]
    fn a_request_is_remembered_for_a_day_of_log_time() {
        let mut window = RequestWindow::default();
        let (first, second) = (RequestKey::new("alice", "1"), RequestKey::new("bob", "1"));
        assert_ne!(first, second, "ids are each principal's own");
        window.remember(first, remembered(1), UnixMillis(0));
        window.remember(second, remembered(2), UnixMillis(86_400_000));
        assert_eq!(window.find(&first), Some(&remembered(1)));
        window.remember(RequestKey::new("bob", "2"), remembered(3), UnixMillis(86_400_001));
        assert_eq!(window.find(&first), None);
        assert_eq!(window.iter().len(), 2);
    }

    #[test]
    fn the_window_is_bounded() {
        let mut window = RequestWindow::default();
        for i in 0..=REMEMBERED_MAX as u64 {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&i.to_le_bytes());
            window.remember(RequestKey(key), remembered(i), UnixMillis(5));
        }
        assert_eq!(window.iter().len(), REMEMBERED_MAX);
        assert_eq!(window.find(&RequestKey([0; 16])), None);
    }
}
