//! Whoever serves or stores what a replica verified: a relay, or a cache on disk.

use std::time::Duration;

use crate::replication::FollowerStatus;
use crate::replication::follower::{SetSwap, Verified};

/// Is told on the driver's task, in the order in which things take effect: keep it short, and never wait.
pub trait Keep: Send {
    /// Another set is served; what proves it comes with it. Everything verified from here on is about it.
    fn handle_swap(&mut self, swap: &SetSwap, status: &FollowerStatus);
    /// Something was verified about the set that is served; the authority's last word about it is so old by now.
    fn handle_verified(&mut self, verified: &Verified, staleness: Duration);
    /// State or freshness changed.
    fn handle_status(&mut self, status: &FollowerStatus) {
        let _ = status;
    }
    /// Of the sets of earlier epochs, only these generations stay in force from now on.
    fn handle_residues(&mut self, generations: &[u64]) {
        let _ = generations;
    }
    /// Asked at every tick: whether a newer snapshot is wanted, since there are too many deltas behind the last one.
    fn wants_refresh(&mut self) -> bool {
        false
    }
}
