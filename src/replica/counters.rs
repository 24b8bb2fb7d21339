//! How often something worth knowing happened.
//!
//! Plain misses are not counted here: one shared counter would cost them more than the check itself. Count requests
//! where they are handled.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the replica began; they never go back.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) revoked: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) served_stale: AtomicU64,
    pub(super) beyond_horizon: AtomicU64,
    pub(super) untimed: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) connection_failures: AtomicU64,
    pub(super) revisions: AtomicU64,
    pub(super) snapshots: AtomicU64,
    pub(super) divergences: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Checks that said revoked.
    pub revoked: u64,
    /// Checks that could not tell.
    pub unknown: u64,
    /// Checks that said "not revoked" from a set staler than accepted, because policy serves it.
    pub served_stale: u64,
    /// Checks of tokens that may have outlived the entry that revoked them.
    pub beyond_horizon: u64,
    /// Checks that said revoked because the token's time is missing, or lies in the future.
    pub untimed: u64,
    /// Connections made.
    pub connections: u64,
    /// Connections that failed or were lost.
    pub connection_failures: u64,
    /// Revisions applied one by one.
    pub revisions: u64,
    /// Sets swapped in.
    pub snapshots: u64,
    /// Times the set was found to differ from the authority's.
    pub divergences: u64,
}

impl Counters {
    /// What they say now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            revoked: read(&self.revoked),
            unknown: read(&self.unknown),
            served_stale: read(&self.served_stale),
            beyond_horizon: read(&self.beyond_horizon),
            untimed: read(&self.untimed),
            connections: read(&self.connections),
            connection_failures: read(&self.connection_failures),
            revisions: read(&self.revisions),
            snapshots: read(&self.snapshots),
            divergences: read(&self.divergences),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
