//! What goes to subscribers, as its author hands it over.

use bytes::Bytes;

use crate::replication::LogPoint;
use crate::revocation::{Chain, Digest, Minute, Policy, Revision, SnapshotChunk, SnapshotHeader, UnixMillis};

/// A revision that is in force.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which.
    pub revision: Revision,
    /// The time it stated.
    pub source_time: UnixMillis,
    /// The expiry floor after it.
    pub floor: Minute,
    /// The logged policy after it.
    pub policy: Policy,
    /// Whether a verification policy is part of the state after it.
    pub has_verification: bool,
    /// Its canonical delta.
    pub canonical: Bytes,
    /// The digest after it.
    pub digest: Digest,
    /// The chain after it.
    pub chain: Chain,
}

impl Published {
    /// Where the state stands after it.
    #[must_use]
    pub fn point(&self) -> LogPoint {
        let Self { revision, digest, chain, floor, .. } = *self;
        LogPoint { revision, digest, chain, floor }
    }
}

/// A revision as the history holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Which.
    pub revision: Revision,
    /// Its canonical delta.
    pub canonical: Bytes,
    /// The chain after it.
    pub chain: Chain,
}

/// A snapshot as joiners receive it, made once for all of them.
#[derive(Clone, Debug)]
pub struct Image {
    /// What it says of itself.
    pub header: SnapshotHeader,
    /// Its entries.
    pub chunks: Vec<SnapshotChunk>,
    /// The hash over header and chunks.
    pub sha256: [u8; 32],
    /// The chain at its revision.
    pub chain: Chain,
    /// The time that its revision stated.
    pub source_time: UnixMillis,
}
