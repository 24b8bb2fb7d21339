//! Logical expiry: what leaves the digest and the count when the floor moves, known without looking at an entry.

use std::collections::BTreeMap;

use crate::revocation::digest::Digest;
use crate::revocation::time::Minute;

/// The parts of some entries, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) digest: Digest,
    pub(super) entries: u64,
}

/// One sum per expiry minute, and the sum of them all. Constant work per change; at most one bucket per minute.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    live: Sum,
    buckets: BTreeMap<Minute, Sum>,
}

impl Sum {
    fn plus(self, other: Sum) -> Self {
        Self { digest: self.digest.plus(other.digest), entries: self.entries + other.entries }
    }

    fn minus(self, other: Sum) -> Self {
        Self { digest: self.digest.minus(other.digest), entries: self.entries.saturating_sub(other.entries) }
    }

    pub(super) fn add(&mut self, part: Digest) {
        *self = self.plus(Sum { digest: part, entries: 1 });
    }

    pub(super) fn take(&mut self, part: Digest) {
        *self = self.minus(Sum { digest: part, entries: 1 });
    }
}

impl Ledger {
    /// The sum over all live entries.
    pub(super) fn live(&self) -> Sum {
        self.live
    }

    /// The sum over all live entries, were the floor at `floor`.
    pub(super) fn live_above(&self, floor: Minute) -> Sum {
        self.buckets.range(..=floor).fold(self.live, |live, (_, bucket)| live.minus(*bucket))
    }

    /// The latest expiry of a live entry; the minute 0 when there is none.
    pub(super) fn latest(&self) -> Minute {
        self.buckets.last_key_value().map_or_else(Minute::default, |(expiry, _)| *expiry)
    }

    pub(super) fn add(&mut self, expiry: Minute, part: Digest) {
        self.live.add(part);
        self.buckets.entry(expiry).or_default().add(part);
    }

    pub(super) fn take(&mut self, expiry: Minute, part: Digest) {
        self.live.take(part);
        if let Some(bucket) = self.buckets.get_mut(&expiry) {
            bucket.take(part);
            if bucket.entries == 0 {
                self.buckets.remove(&expiry);
            }
        }
    }

    /// Forgets what expires at or before `floor`.
    pub(super) fn move_floor(&mut self, floor: Minute) {
        while let Some(first) = self.buckets.first_entry().filter(|first| *first.key() <= floor) {
            self.live = self.live.minus(first.remove());
        }
    }
}
