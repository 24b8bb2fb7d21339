//! Why a follower refuses.

use std::time::Duration;

use crate::replication::frames::{GoAway, GoAwayReason};
use crate::revocation::{DecodeError, Epoch, Revision, SnapshotError, StageError};

/// A proof that the set held and the authority's history differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// Revisions are missing.
    #[error("revision {given} came where {expected} was to come")]
    Gap {
        /// The one after the last applied.
        expected: Revision,
        /// The one that came.
        given: Revision,
    },
    /// A frame about a revision that was applied states another digest.
    #[error("revision {revision} was applied with another digest")]
    Contradiction {
        /// The revision.
        revision: Revision,
    },
    /// A delta does not fit the set, or leads to another digest.
    #[error("a delta does not fit: {0}")]
    Unfit(#[from] StageError),
    /// A signed word states another digest, chain or floor.
    #[error("the authority signed another {what} at revision {revision}")]
    OtherState {
        /// Digest, chain or expiry floor.
        what: &'static str,
        /// The revision.
        revision: Revision,
    },
    /// A delta or a heartbeat is not the authority's.
    #[error("a word for revision {revision} has a bad signature")]
    Signature {
        /// The revision it claims.
        revision: Revision,
    },
}

/// Why a snapshot, or what followed it before it was swapped in, was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResyncFault {
    /// Begin, header and end contradict one another.
    #[error("its frames state different {0}")]
    Inconsistent(&'static str),
    /// Damaged, or not what it says.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Not the authority's.
    #[error("bad signature")]
    Signature,
    /// What follows does not fit it.
    #[error("what follows does not fit: {0}")]
    Unfit(Divergence),
}

/// Why a connection is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// The sets differ.
    #[error("diverged: {0}")]
    Diverged(Divergence),
    /// The snapshot could not be used.
    #[error("resync failed: {0}")]
    ResyncFailed(ResyncFault),
    /// It is time to try another resync.
    #[error("another resync is due")]
    Resync,
    /// A newer snapshot is wanted.
    #[error("a newer snapshot is wanted")]
    Refresh,
    /// A frame is not an encoding of anything.
    #[error("malformed {frame}: {cause}")]
    Malformed {
        /// Which kind.
        frame: &'static str,
        /// What is wrong.
        cause: DecodeError,
    },
    /// More deltas came than may wait for the authority's signature.
    #[error("too many deltas came that the authority did not sign for")]
    Unsigned,
    /// A frame came out of turn.
    #[error("a {frame} frame came out of turn")]
    Unexpected {
        /// Which kind.
        frame: &'static str,
    },
    /// The server cannot be followed.
    #[error("the server is refused: {0}")]
    Refused(#[from] Refusal),
    /// The set is larger than this process may hold.
    #[error("the set is larger than this process may hold")]
    OverLimit,
    /// The server said so.
    #[error("the server said go away: {} {:?}", .0.reason.name(), .0.detail)]
    GoAway(GoAway),
    /// Another server is to be followed.
    #[error("another server has heard the authority later")]
    Moved,
    /// Hello was not answered.
    #[error("no welcome within {within:?}")]
    NoWelcome {
        /// The limit.
        within: Duration,
    },
    /// The authority was not heard.
    #[error("no word from the authority within {limit:?}")]
    Silent {
        /// The limit.
        limit: Duration,
    },
}

/// Why a Welcome is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A version that was not offered.
    #[error("protocol version {0} was not offered")]
    Protocol(u32),
    /// An epoch that was left behind.
    #[error("epoch {0:?} is older than the one followed")]
    OldEpoch(Epoch),
    /// Another log of the same generation.
    #[error("epoch {0:?} is another of the same generation")]
    ForkedEpoch(Epoch),
    /// Another authority's key.
    #[error("its signing key is not the pinned one")]
    OtherKey,
    /// The authority did not sign for where the epoch came from.
    #[error("where its epoch came from has a bad signature")]
    Lineage,
    /// Another set key in the same epoch.
    #[error("its set key is not the epoch's")]
    OtherSetKey,
    /// It is behind what is held.
    #[error("its head {head} lies below the applied {applied}")]
    Behind {
        /// Its head.
        head: Revision,
        /// What is held.
        applied: Revision,
    },
    /// It resumes what was not asked for.
    #[error("it resumes a state that is not held")]
    NothingToResume,
    /// It is fed by this process.
    #[error("it lies below this process")]
    Loop,
}

impl DisconnectReason {
    /// The window within which the server wants to be asked again.
    pub(super) fn asked_window(&self) -> Option<Duration> {
        match self {
            Self::GoAway(GoAway {
                reason: GoAwayReason::Shutdown | GoAwayReason::Overloaded,
                reconnect_window,
                ..
            }) => Some(*reconnect_window),
            _ => None,
        }
    }
}
