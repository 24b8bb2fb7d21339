//! How often something worth knowing happened.
//!
//! Plain misses are not counted here: one shared counter would cost them more than the check itself. Count requests
//! where they are handled.

use std::sync::atomic::{AtomicU64, Ordering};

use super::upstream::UpstreamError;
use crate::replication::follower::DisconnectReason;

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
    breaks: [AtomicU64; Break::ALL.len()],
}

/// Why a connection to a server was given up, or lost, or never made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It cannot be reached, or the connection broke.
    Unreachable,
    /// It refused, or was refused for what its Welcome said.
    Refused,
    /// What it sent is no frame.
    Malformed,
    /// A frame came out of turn.
    Unexpected,
    /// Too many deltas that the authority did not sign for.
    Unsigned,
    /// What it sent contradicts the set.
    Diverged,
    /// Its snapshot could not be used.
    ResyncFailed,
    /// Another attempt at a snapshot was due.
    Resync,
    /// A newer snapshot was wanted.
    Refresh,
    /// Its set is larger than may be held.
    OverLimit,
    /// It said GoAway.
    GoAway,
    /// Another server has heard the authority later.
    Moved,
    /// It did not answer Hello.
    NoWelcome,
    /// The authority was not heard through it.
    Silent,
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
    /// Connections given up, lost or not made, in the order of [`Break::ALL`].
    pub breaks: [u64; Break::ALL.len()],
}

impl Break {
    /// All of them, each at the place of its discriminant.
    pub const ALL: [Self; 14] = [
        Self::Unreachable,
        Self::Refused,
        Self::Malformed,
        Self::Unexpected,
        Self::Unsigned,
        Self::Diverged,
        Self::ResyncFailed,
        Self::Resync,
        Self::Refresh,
        Self::OverLimit,
        Self::GoAway,
        Self::Moved,
        Self::NoWelcome,
        Self::Silent,
    ];

    /// The name used in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unexpected => "unexpected",
            Self::Unsigned => "unsigned",
            Self::Diverged => "diverged",
            Self::ResyncFailed => "resync_failed",
            Self::Resync => "resync",
            Self::Refresh => "refresh",
            Self::OverLimit => "over_limit",
            Self::GoAway => "go_away",
            Self::Moved => "moved",
            Self::NoWelcome => "no_welcome",
            Self::Silent => "silent",
        }
    }
}

impl From<&DisconnectReason> for Break {
    fn from(reason: &DisconnectReason) -> Self {
        match reason {
            DisconnectReason::Diverged(_) => Self::Diverged,
            DisconnectReason::ResyncFailed(_) => Self::ResyncFailed,
            DisconnectReason::Resync => Self::Resync,
            DisconnectReason::Refresh => Self::Refresh,
            DisconnectReason::Malformed { .. } => Self::Malformed,
            DisconnectReason::Unexpected { .. } => Self::Unexpected,
            DisconnectReason::Unsigned => Self::Unsigned,
            DisconnectReason::Refused(_) => Self::Refused,
            DisconnectReason::OverLimit => Self::OverLimit,
            DisconnectReason::GoAway(_) => Self::GoAway,
            DisconnectReason::Moved => Self::Moved,
            DisconnectReason::NoWelcome { .. } => Self::NoWelcome,
            DisconnectReason::Silent { .. } => Self::Silent,
        }
    }
}

impl From<&UpstreamError> for Break {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Unreachable(_) => Self::Unreachable,
            UpstreamError::Refused(_) => Self::Refused,
            UpstreamError::Malformed(_) => Self::Malformed,
        }
    }
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
            breaks: std::array::from_fn(|index| read(&self.breaks[index])),
        }
    }

    pub(super) fn count_break(&self, why: Break) {
        count(&self.breaks[why as usize]);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
