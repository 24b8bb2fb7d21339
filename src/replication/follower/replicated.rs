//! A set that follows a log: its writer, its chain, and the recent past against which frames are compared.

use std::collections::VecDeque;
use std::fmt;

use super::fault::Divergence;
use super::kept::KeptDelta;
use super::pending::{Overfull, Pending, Waiting, compare};
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
    /// The last revision applied, and so signed for. The writer may hold more, of a union.
    revision: Revision,
    pending: Pending,
}

/// How a delta fits what is held.
pub(super) enum Fit {
    /// It comes next.
    Next,
    /// It came before.
    Known,
}

/// The next revision, applied.
pub(super) struct Next {
    pub(super) delta: Delta,
    pub(super) applied: Applied,
    pub(super) kept: KeptDelta,
}

impl Replicated {
    /// A set that was just built from a snapshot which the authority signed.
    pub(super) fn new(epoch: Epoch, writer: SetWriter, chain: Chain) -> Self {
        let (revision, ring) = (writer.revision(), VecDeque::from([writer.digest()]));
        Self { epoch, writer, chain, ring, revision, pending: Pending::default() }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn writer(&self) -> &SetWriter {
        &self.writer
    }

    /// The last revision applied, and its digest.
    pub(super) fn verified(&self) -> (Revision, Digest) {
        (self.revision, self.ring.back().copied().unwrap_or_default())
    }

    pub(super) fn held(&self) -> Held {
        let (revision, digest) = self.verified();
        Held { epoch: self.epoch, revision, digest }
    }

    /// The digest at a recent revision.
    pub(super) fn digest_at(&self, revision: Revision) -> Option<Digest> {
        let back = usize::try_from(self.revision.0.checked_sub(revision.0)?).ok()?;
        self.ring.len().checked_sub(back + 1).and_then(|index| self.ring.get(index)).copied()
    }

    /// Whether a delta is the next one. What was applied before must be what it was then.
    pub(super) fn expects(&self, delta: &Delta) -> Result<Fit, Divergence> {
        let last = self.pending.last().map_or(self.revision, |waiting| waiting.delta.revision);
        if delta.revision == last.next() {
            return Ok(Fit::Next);
        }
        if delta.revision > last {
            return Err(Divergence::Gap { expected: last.next(), given: delta.revision });
        }
        let known = self.pending.at(delta.revision).map(Waiting::digest).or_else(|| self.digest_at(delta.revision));
        match known {
            Some(digest) if digest != delta.digest_after => Err(Divergence::Contradiction { revision: delta.revision }),
            _ => Ok(Fit::Known),
        }
    }

    /// Puts the next delta behind those that wait to be signed for.
    pub(super) fn push(&mut self, delta: Delta, frame: DeltaFrame) -> Result<(), Overfull> {
        let before = self.pending.last().map_or(self.chain, |waiting| waiting.chain);
        let chain = before.next(&frame.canonical);
        self.pending.push(Waiting { delta, frame, chain })
    }

    /// What waits to be signed for.
    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Gives up what waits.
    pub(super) fn take_pending(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.pending).into_deltas()
    }

    /// How many entries there are at most once the first of those that wait is applied.
    pub(super) fn entries_after_next(&self) -> u64 {
        let upserts = self.pending.first().map_or(0, |waiting| waiting.delta.upserts.len() as u64);
        self.writer.entries().saturating_add(upserts)
    }

    /// Compares a signed word with what is held and what waits. How many of those that wait it covers.
    pub(super) fn covered(&self, word: &Heartbeat) -> Result<usize, Divergence> {
        let revision = word.revision;
        if let Some(waiting) = self.pending.at(revision) {
            waiting.agrees(word)?;
            return Ok(usize::try_from(revision.0 - self.revision.0).unwrap_or(usize::MAX));
        }
        if revision > self.revision {
            let last = self.pending.last().map_or(self.revision, |waiting| waiting.delta.revision);
            return Err(Divergence::Gap { expected: last.next(), given: revision });
        }
        if revision == self.revision {
            compare(word, self.verified().1, self.chain, self.writer.floor())?;
        } else if self.digest_at(revision).is_some_and(|digest| digest != word.digest) {
            return Err(Divergence::OtherState { what: "digest", revision });
        }
        Ok(0)
    }

    /// Applies the first of those that wait; a signed word must cover it. `None` when none does.
    pub(super) fn apply_next(&mut self) -> Result<Option<Next>, Divergence> {
        let Some(Waiting { delta, frame, chain }) = self.pending.pop() else { return Ok(None) };
        let applied = match self.writer.apply(&delta) {
            Ok(applied) => applied,
            Err(error) => {
                self.pending.put_back(Waiting { delta, frame, chain });
                return Err(error.into());
            }
        };
        self.chain = chain;
        self.revision = delta.revision;
        self.ring.push_back(delta.digest_after);
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
        let point =
            LogPoint { revision: delta.revision, digest: delta.digest_after, chain, floor: self.writer.floor() };
        let DeltaFrame { canonical, signature, ack_now } = frame;
        let policy = *self.writer.policy();
        let has_verification = self.writer.verification().is_some();
        let source_time = delta.source_time;
        let kept = KeptDelta { canonical, signature, source_time, point, policy, has_verification, ack_now };
        Ok(Some(Next { delta, applied, kept }))
    }

    /// Takes over what a delta revokes; nothing that is verified moves.
    pub(super) fn merge(&mut self, delta: &Delta) -> Result<Applied, StageError> {
        self.writer.merge_union(delta)
    }

    /// Gives back the memory of some expired entries.
    pub(super) fn sweep(&mut self, entries_max: usize) {
        self.writer.sweep(entries_max);
    }
}

impl fmt::Debug for Replicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicated")
            .field("held", &self.held())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
