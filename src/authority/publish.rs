//! What the commit thread hands on for subscribers. It never waits for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::revocation::{Chain, Digest, Minute, Policy, Revision, SnapshotChunk, SnapshotHeader, UnixMillis};

/// Takes committed revisions and snapshots on, without blocking.
pub trait Publish: Send + Sync {
    /// A revision is in force.
    fn publish(&self, published: Published);
    /// A newer snapshot can be sent to joiners.
    fn offer_snapshot(&self, image: Arc<Image>);
    /// The journal was pruned: this is the first revision that it still has.
    fn pruned(&self, oldest: Revision);
    /// What the commit of a revision took.
    fn measured(&self, commit: Commit) {
        let _ = commit;
    }
}

/// What one commit took.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// From the append to the answer of the disk.
    pub took: Duration,
    /// The requests in it.
    pub requests: usize,
    /// The size of its record's delta, in bytes.
    pub delta_bytes: usize,
}

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
    /// Its canonical delta.
    pub canonical: Bytes,
    /// The digest after it.
    pub digest: Digest,
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
