//! Making the next snapshot out of the last one and the journal since, in one pass over both.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{CHUNK_BYTES_MAX, SnapshotChunk, SnapshotEntry, SnapshotError, SnapshotHeader, SnapshotState};
use crate::revocation::delta::Delta;
use crate::revocation::digest::Digest;
use crate::revocation::entry::{Exception, PackedEntry};
use crate::revocation::fingerprint::{Fingerprint, SetKey};
use crate::revocation::position::Revision;
use crate::revocation::selector::Shape;

/// What the journal changed since a snapshot: for each fingerprint named, the last word on it.
///
/// It holds one change per fingerprint named since; cut a snapshot before that is too much.
#[derive(Clone, Debug)]
pub struct SnapshotChanges {
    state: SnapshotState,
    changes: BTreeMap<Fingerprint, Option<(PackedEntry, Vec<Exception>)>>,
}

/// Turns sorted entries into chunks as they come.
pub struct SnapshotBuilder {
    key: SetKey,
    state: SnapshotState,
    entries: u64,
    chunks: u32,
    digest: Digest,
    hash: Sha256,
    last: Option<Fingerprint>,
    /// The chunk being filled.
    bytes: Vec<u8>,
}

/// The end of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The last chunk; none if the snapshot has no entries.
    pub last: Option<SnapshotChunk>,
    /// The header, now that everything in it is known.
    pub header: SnapshotHeader,
    /// The hash over header and chunks.
    pub sha256: [u8; 32],
}

impl SnapshotChanges {
    /// No changes to `state` yet.
    #[must_use]
    pub fn after(state: SnapshotState) -> Self {
        Self { state, changes: BTreeMap::new() }
    }

    /// Takes the next revision in.
    ///
    /// # Errors
    /// [`SnapshotError::Gap`], and nothing is taken in.
    pub fn absorb(&mut self, delta: &Delta) -> Result<(), SnapshotError> {
        if delta.revision != self.state.revision.next() {
            return Err(SnapshotError::Gap { current: self.state.revision, given: delta.revision });
        }
        self.state.revision = delta.revision;
        self.state.floor = delta.floor;
        self.state.policy = delta.policy.unwrap_or(self.state.policy);
        if let Some(verification) = &delta.verification {
            self.state.verification = Some(Arc::clone(verification));
        }
        self.state.shapes.retain(|shape| !delta.shapes_retired.contains(shape));
        self.state.shapes.extend_from_slice(&delta.shapes_added);
        self.state.shapes.sort_unstable();
        let mut extended = delta.extended.iter();
        for (fingerprint, entry) in &delta.upserts {
            let exceptions = if entry.has_exceptions() { extended.next().cloned().unwrap_or_default() } else { vec![] };
            self.changes.insert(*fingerprint, Some((*entry, exceptions)));
        }
        self.changes.extend(delta.removals.iter().map(|fingerprint| (*fingerprint, None)));
        Ok(())
    }

    /// The revision of the last delta taken in.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// How many fingerprints have changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The shapes after the changes.
    #[must_use]
    pub fn shapes(&self) -> &[Shape] {
        &self.state.shapes
    }

    /// The builder of the next snapshot, and its entries: `old`, the sorted entries of the last one, with the changes
    /// made. What has expired is still among them; the builder drops it.
    pub fn merge<E, O: Iterator<Item = Result<SnapshotEntry, E>>>(
        self,
        key: &SetKey,
        old: O,
    ) -> (SnapshotBuilder, impl Iterator<Item = Result<SnapshotEntry, E>> + use<E, O>) {
        let builder = SnapshotBuilder::new(key, self.state);
        (builder, Merge { old: old.peekable(), changes: self.changes.into_iter().peekable() })
    }
}

/// Two sorted sequences as one; where both name a fingerprint, the change has the last word.
struct Merge<O: Iterator, C: Iterator> {
    old: Peekable<O>,
    changes: Peekable<C>,
}

impl<E, O, C> Iterator for Merge<O, C>
where
    O: Iterator<Item = Result<SnapshotEntry, E>>,
    C: Iterator<Item = (Fingerprint, Option<(PackedEntry, Vec<Exception>)>)>,
{
    type Item = Result<SnapshotEntry, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let old = match self.old.peek() {
                Some(Ok(old)) => Some(old.fingerprint),
                Some(Err(_)) => return self.old.next(),
                None => None,
            };
            let changed = self.changes.peek().map(|(fingerprint, _)| *fingerprint);
            let Some(changed) = changed.filter(|changed| old.is_none_or(|old| *changed <= old)) else {
                return self.old.next();
            };
            if old == Some(changed) {
                self.old.next();
            }
            if let Some((fingerprint, Some((entry, exceptions)))) = self.changes.next() {
                return Some(Ok(SnapshotEntry { fingerprint, entry, exceptions }));
            }
        }
    }
}

impl SnapshotBuilder {
    /// Begins a snapshot of `state`, whose entries are to follow.
    #[must_use]
    pub fn new(key: &SetKey, state: SnapshotState) -> Self {
        let shapes = state.shapes.iter().fold(Digest::default(), |sum, shape| sum.plus(Digest::of_shape(key, shape)));
        let digest = shapes.plus(Digest::of_floor(key, state.floor)).plus(Digest::of_policy(key, &state.policy));
        let digest = digest.plus(Digest::of_verification(key, state.verification.as_deref()));
        Self {
            key: key.clone(),
            state,
            entries: 0,
            chunks: 0,
            digest,
            hash: Sha256::new(),
            last: None,
            bytes: Vec::new(),
        }
    }

    /// Adds the next entry, unless it has expired; hands over a chunk whenever one is full.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`].
    pub fn push(&mut self, entry: &SnapshotEntry) -> Result<Option<SnapshotChunk>, SnapshotError> {
        if self.last.is_some_and(|last| last >= entry.fingerprint) {
            return Err(SnapshotError::OutOfOrder);
        }
        self.last = Some(entry.fingerprint);
        if entry.entry.expiry() <= self.state.floor {
            return Ok(None);
        }
        let filled = self.bytes.len();
        entry.write(&mut self.bytes);
        let full = if self.bytes.len() > CHUNK_BYTES_MAX {
            let overflow = self.bytes.split_off(filled);
            let full = self.take_chunk();
            self.bytes = overflow;
            full
        } else {
            None
        };
        self.entries += 1;
        self.digest = self.digest.plus(Digest::of_entry(&self.key, entry.fingerprint, entry.entry, &entry.exceptions));
        Ok(full)
    }

    /// Ends the snapshot. Compare the header's digest with the one that the journal states for its revision.
    #[must_use]
    pub fn finish(mut self) -> Built {
        let last = self.take_chunk();
        let Self { state, entries, chunks, digest, hash, .. } = self;
        let header = SnapshotHeader { state, entries, chunks, digest };
        let sha256 = header.sha256(hash);
        Built { last, header, sha256 }
    }

    fn take_chunk(&mut self) -> Option<SnapshotChunk> {
        if self.bytes.is_empty() {
            return None;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        self.hash.update(&bytes);
        let chunk = SnapshotChunk::new(self.chunks, bytes);
        self.chunks += 1;
        Some(chunk)
    }
}
