//! What a follower wants done.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{DisconnectReason, Divergence};
use super::kept::{Provenance, Verified};
use super::status::FollowerStatus;
use crate::replication::frames::{Held, Hello, ToServer};
use crate::replication::signature::PublicKey;
use crate::revocation::{Delta, Epoch, Rebuild, RevocationSet};

/// To be carried out by the driver, in order.
#[derive(Debug)]
#[must_use]
pub enum Action {
    /// Wait, then connect to a server: the next one, if there are several.
    Connect {
        /// How long to wait.
        after: Duration,
    },
    /// Send a frame.
    Send(ToServer),
    /// Drop the connection. A [`Action::Connect`] follows.
    Disconnect {
        /// Why.
        reason: DisconnectReason,
    },
    /// Ask another server with this Hello, if there is one and none is being asked, and hand its Welcome to
    /// [`super::Follower::handle_probed`].
    Probe(Box<Hello>),
    /// Answer checks from this set from now on.
    Swap(SetSwap),
    /// A revision of the set that is served is in force.
    Applied {
        /// What it changed.
        delta: Delta,
        /// The live entries after it.
        entries: u64,
    },
    /// This was verified; only with [`super::FollowerOptions::keeps`].
    Verified(Verified),
    /// Run this where some seconds of work hurt nobody.
    Rebuild(Rebuild),
    /// Publish the status to readers.
    Publish(FollowerStatus),
    /// Tell people.
    Alarm(Alarm),
}

/// A verified set that takes the place of the one served.
#[derive(Clone, Debug)]
pub struct SetSwap {
    /// The set.
    pub set: Arc<RevocationSet>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Set when the set served so far is of another epoch.
    pub epoch_change: Option<EpochChange>,
    /// What proves it; only with [`super::FollowerOptions::keeps`].
    pub provenance: Option<Box<Provenance>>,
}

/// An epoch took the place of another: a backup was restored, a log re-seeded, a key rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochChange {
    /// What was held.
    pub from: Held,
    /// The new epoch.
    pub to: Epoch,
    /// The new epoch goes on from the state held, or from one after it. Otherwise it may lack revocations that the old
    /// set has: keep that as residue, so that they stay in force.
    pub ancestor: bool,
}

/// Something that people should know about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// What is held does not equal the authority's set.
    #[error("diverged: {0}")]
    Diverged(Divergence),
    /// Resyncs go on failing.
    #[error("{attempts} resyncs failed in a row")]
    ResyncFailing {
        /// How many.
        attempts: u32,
    },
    /// A server follows an epoch that was left behind.
    #[error("a server offers epoch {offered:?}, older than {followed:?}; refused")]
    OldEpoch {
        /// The epoch followed.
        followed: Epoch,
        /// The epoch offered.
        offered: Epoch,
    },
    /// Two logs claim to be the same generation.
    #[error("a server offers epoch {offered:?} while {followed:?} is followed: two authorities; refused")]
    ForkedEpoch {
        /// The epoch followed.
        followed: Epoch,
        /// The epoch offered.
        offered: Epoch,
    },
    /// A server speaks for another authority.
    #[error("a server presents the signing key {offered} instead of the pinned {pinned}; refused")]
    OtherKey {
        /// The pinned key.
        pinned: PublicKey,
        /// The key presented.
        offered: PublicKey,
    },
    /// The set is larger than this process may hold.
    #[error("the set has {entries} entries or more, at most {limit} may be held here")]
    OverLimit {
        /// The limit.
        limit: u64,
        /// How many there are.
        entries: u64,
    },
}
