//! What a follower verified, for whoever serves it again or keeps it: with the authority's signatures, as it came.
//!
//! A snapshot can only be signed by the authority. So what proves a set is always the snapshot it began from and every
//! delta since; a relay and a cache on disk hold just that.

use std::sync::Arc;

use bytes::Bytes;

use crate::replication::frames::{Heartbeat, NodeId, PROTOCOL_SIGNED, SnapshotEnd};
use crate::replication::lineage::Lineage;
use crate::replication::log::LogPoint;
use crate::replication::signature::{PublicKey, Signature};
use crate::revocation::{Epoch, Policy, SetKey, SnapshotChunk, SnapshotHeader, UnixMillis};

/// A whole snapshot as the authority signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSnapshot {
    /// What it says of itself.
    pub header: SnapshotHeader,
    /// Its entries.
    pub chunks: Vec<SnapshotChunk>,
    /// What proves it.
    pub end: SnapshotEnd,
}

/// Which log a set is a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descent {
    /// The epoch.
    pub epoch: Epoch,
    /// Where the epoch came from.
    pub lineage: Lineage,
    /// Its secret.
    pub set_key: SetKey,
    /// The key that signs for it.
    pub public_key: PublicKey,
}

/// What proves a set: the snapshot it began from, and every delta since.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// Which log.
    pub descent: Descent,
    /// Where the set began.
    pub snapshot: Arc<SignedSnapshot>,
    /// What was applied to it since, in order.
    pub deltas: Vec<KeptDelta>,
}

/// A delta that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDelta {
    /// Its canonical bytes.
    pub canonical: Bytes,
    /// The authority's, if it came with one that was verified; what comes later covers it otherwise.
    pub signature: Option<Signature>,
    /// The time it states.
    pub source_time: UnixMillis,
    /// Where the state stands after it.
    pub point: LogPoint,
    /// The logged policy after it.
    pub policy: Policy,
    /// Whether a verification policy is part of the state after it.
    pub has_verification: bool,
    /// Somebody waited for acks when it was sent.
    pub ack_now: bool,
}

/// Something that was verified, in the order in which it took effect.
#[derive(Clone, Debug)]
pub enum Verified {
    /// A revision was applied to the set that is served.
    Delta(KeptDelta),
    /// The relays that frames come through from now on, nearest first.
    Path(Vec<NodeId>),
    /// The authority signed for exactly the state that is served.
    Word(Heartbeat),
}

impl Descent {
    /// Whether the authority said this of a state of this log.
    pub(super) fn has_signed(&self, word: &Heartbeat) -> bool {
        let statement = word.statement(PROTOCOL_SIGNED, self.epoch);
        self.public_key.verify_heartbeat(&statement, &word.signature).is_ok()
    }
}

impl SignedSnapshot {
    /// Where the state stands that it holds.
    #[must_use]
    pub fn point(&self) -> LogPoint {
        LogPoint {
            revision: self.end.revision,
            digest: self.end.digest,
            chain: self.end.chain,
            floor: self.header.state.floor,
        }
    }

    /// The size of its entries, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.len()).sum()
    }
}

impl Provenance {
    /// Where the set stands.
    #[must_use]
    pub fn point(&self) -> LogPoint {
        self.deltas.last().map_or_else(|| self.snapshot.point(), |delta| delta.point)
    }
}
