//! A set that follows a log: its writer, its chain, and the recent past against which frames are compared.

use std::collections::VecDeque;
use std::fmt;

use super::fault::Divergence;
use super::kept::KeptDelta;
use crate::replication::frames::{DeltaFrame, Heartbeat, Held};
use crate::replication::log::LogPoint;
use crate::revocation::{Applied, Chain, Delta, Digest, Epoch, Revision, SetWriter, StageError};

/// How many past revisions can be compared with what comes: 64 KiB of digests.
const RING: usize = 4096;

/// A set and where it stands.
pub(super) struct Replicated {
    epoch: Epoch,
    writer: SetWriter,
    chain: Chain,
    /// The digests of the last revisions; the last one is that of `revision`.
    ring: VecDeque<Digest>,
    /// The last revision verified. The writer may hold more, of a union.
    revision: Revision,
    /// The last revision that the authority signed for.
    proven: Revision,
}

/// What a delta did.
pub(super) enum Step {
    /// It was applied.
    Applied(Applied),
    /// It was applied before.
    Known,
}

impl Replicated {
    /// A set that was just built from a snapshot which the authority signed.
    pub(super) fn new(epoch: Epoch, writer: SetWriter, chain: Chain) -> Self {
        let (revision, ring) = (writer.revision(), VecDeque::from([writer.digest()]));
        Self { epoch, writer, chain, ring, revision, proven: revision }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn writer(&self) -> &SetWriter {
        &self.writer
    }

    /// The last revision verified, and its digest.
    pub(super) fn verified(&self) -> (Revision, Digest) {
        (self.revision, self.ring.back().copied().unwrap_or_default())
    }

    pub(super) fn held(&self) -> Held {
        let (revision, digest) = self.verified();
        Held { epoch: self.epoch, revision, digest }
    }

    pub(super) fn proven(&self) -> Revision {
        self.proven
    }

    /// The digest at a recent revision.
    pub(super) fn digest_at(&self, revision: Revision) -> Option<Digest> {
        let back = usize::try_from(self.revision.0.checked_sub(revision.0)?).ok()?;
        self.ring.len().checked_sub(back + 1).and_then(|index| self.ring.get(index)).copied()
    }

    /// Applies the next revision; `canonical` are the bytes that `delta` was decoded from.
    pub(super) fn apply(&mut self, delta: &Delta, canonical: &[u8]) -> Result<Step, Divergence> {
        if delta.revision <= self.revision {
            return match self.digest_at(delta.revision) {
                Some(digest) if digest != delta.digest_after => {
                    Err(Divergence::Contradiction { revision: delta.revision })
                }
                _ => Ok(Step::Known),
            };
        }
        if delta.revision != self.revision.next() {
            return Err(Divergence::Gap { expected: self.revision.next(), given: delta.revision });
        }
        let applied = self.writer.apply(delta)?;
        self.chain = self.chain.next(canonical);
        self.revision = delta.revision;
        self.ring.push_back(delta.digest_after);
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
        Ok(Step::Applied(applied))
    }

    /// The delta that was just applied, as it is kept.
    pub(super) fn kept(&self, delta: &Delta, frame: &DeltaFrame) -> KeptDelta {
        let (revision, digest) = self.verified();
        let point = LogPoint { revision, digest, chain: self.chain, floor: self.writer.floor() };
        KeptDelta {
            canonical: frame.canonical.clone(),
            source_time: delta.source_time,
            point,
            policy: *self.writer.policy(),
            ack_now: frame.ack_now,
        }
    }

    /// Takes over what a delta revokes; nothing that is verified moves.
    pub(super) fn merge(&mut self, delta: &Delta) -> Result<Applied, StageError> {
        self.writer.merge_union(delta)
    }

    /// Compares a signed heartbeat. Whether it is about exactly the state held, which it then proves.
    pub(super) fn prove(&mut self, heartbeat: &Heartbeat) -> Result<bool, Divergence> {
        let revision = heartbeat.revision;
        if revision > self.revision {
            return Err(Divergence::Gap { expected: self.revision.next(), given: revision });
        }
        if self.digest_at(revision).is_some_and(|digest| digest != heartbeat.digest) {
            return Err(Divergence::OtherState { what: "digest", revision });
        }
        if revision < self.revision {
            return Ok(false);
        }
        if heartbeat.chain != self.chain {
            return Err(Divergence::OtherState { what: "chain", revision });
        }
        if heartbeat.floor != self.writer.floor() {
            return Err(Divergence::OtherState { what: "expiry floor", revision });
        }
        self.proven = revision;
        Ok(true)
    }

    /// Gives back the memory of some expired entries.
    pub(super) fn sweep(&mut self, entries_max: usize) {
        self.writer.sweep(entries_max);
    }
}

impl fmt::Debug for Replicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicated").field("held", &self.held()).field("proven", &self.proven).finish_non_exhaustive()
    }
}
