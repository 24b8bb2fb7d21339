//! Deltas that came and were not signed for yet. Nobody sees them: whoever holds the set key could have made them up.

use std::collections::VecDeque;

use super::fault::Divergence;
use crate::replication::frames::{DELTA_BYTES_MAX, DeltaFrame, Heartbeat};
use crate::revocation::{Chain, Delta, Digest, Minute, Revision};

/// The most that waits, in bytes: a whole read of the history behind a delta of the largest size.
const BYTES_MAX: usize = 2 * DELTA_BYTES_MAX;
/// The most deltas that wait: a whole read of the history has half as many.
const DELTAS_MAX: usize = 8192;

/// What waits, in the order of revisions, without gaps.
#[derive(Debug, Default)]
pub(super) struct Pending {
    deltas: VecDeque<Waiting>,
    bytes: usize,
}

/// A delta that waits for a signature which covers it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) delta: Delta,
    pub(super) frame: DeltaFrame,
    /// The chain after it.
    pub(super) chain: Chain,
}

/// More came unsigned than may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overfull;

impl Pending {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.deltas.len()
    }

    /// How many bytes they are of.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&Waiting> {
        self.deltas.back()
    }

    /// The one of a revision.
    pub(super) fn at(&self, revision: Revision) -> Option<&Waiting> {
        let first = self.deltas.front()?.delta.revision;
        self.deltas.get(usize::try_from(revision.0.checked_sub(first.0)?).ok()?)
    }

    /// Puts the next one behind the others.
    pub(super) fn push(&mut self, waiting: Waiting) -> Result<(), Overfull> {
        let bytes = self.bytes + waiting.frame.canonical.len();
        if bytes > BYTES_MAX || self.deltas.len() == DELTAS_MAX {
            return Err(Overfull);
        }
        self.bytes = bytes;
        self.deltas.push_back(waiting);
        Ok(())
    }

    /// Puts back what was taken: it comes first again.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        self.bytes += waiting.frame.canonical.len();
        self.deltas.push_front(waiting);
    }

    /// All of them.
    pub(super) fn into_deltas(self) -> Vec<Delta> {
        self.deltas.into_iter().map(|waiting| waiting.delta).collect()
    }

    /// The first one.
    pub(super) fn first(&self) -> Option<&Waiting> {
        self.deltas.front()
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.deltas.pop_front()?;
        self.bytes -= waiting.frame.canonical.len();
        if self.deltas.is_empty() && self.deltas.capacity() > 16 {
            self.deltas = VecDeque::new();
        }
        Some(waiting)
    }
}

impl Waiting {
    /// The digest after it, as it states.
    pub(super) fn digest(&self) -> Digest {
        self.delta.digest_after
    }

    /// What its signature says, if it has one: the same as a heartbeat about the state after it, of its time.
    pub(super) fn word(&self) -> Option<Heartbeat> {
        let signature = self.frame.signature?;
        let Delta { revision, source_time, floor, digest_after: digest, .. } = self.delta;
        let ack_now = self.frame.ack_now;
        Some(Heartbeat { revision, source_time, digest, chain: self.chain, floor, ack_now, signature })
    }

    /// Compares with what the authority signed about its revision.
    pub(super) fn agrees(&self, word: &Heartbeat) -> Result<(), Divergence> {
        compare(word, self.digest(), self.chain, self.delta.floor)
    }
}

/// Compares a signed word with a state of its revision.
pub(super) fn compare(word: &Heartbeat, digest: Digest, chain: Chain, floor: Minute) -> Result<(), Divergence> {
    let what = if word.digest != digest {
        "digest"
    } else if word.chain != chain {
        "chain"
    } else if word.floor != floor {
        "expiry floor"
    } else {
        return Ok(());
    };
    Err(Divergence::OtherState { what, revision: word.revision })
}
