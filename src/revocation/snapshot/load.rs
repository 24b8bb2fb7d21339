//! Loading a set from a snapshot, beside the one that is served.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{SnapshotChunk, SnapshotError, SnapshotHeader, SnapshotState};
use crate::revocation::codec::DecodeError;
use crate::revocation::fingerprint::{Fingerprint, SetKey};
use crate::revocation::set::{RevocationSet, SetWriter};

/// A set in the making. Call [`SetBuilder::load`] with each chunk in order, then [`SetBuilder::finish`]. After an error
/// drop it: what it holds is not to be believed.
pub struct SetBuilder {
    header: SnapshotHeader,
    writer: SetWriter,
    hash: Sha256,
    chunks: u32,
    last: Option<Fingerprint>,
}

/// Room for so many entries is made at once (some 50 MiB), for more as they come.
const ROOM_FIRST: u64 = 1 << 20;

impl SetBuilder {
    /// Begins to load; `entries_max` is the most that this process may hold.
    ///
    /// # Errors
    /// [`SnapshotError::TooManyEntries`], or [`SnapshotError::Malformed`].
    pub fn begin(key: SetKey, header: SnapshotHeader, entries_max: u64) -> Result<Self, SnapshotError> {
        header.validate()?;
        if header.entries > entries_max {
            return Err(SnapshotError::TooManyEntries { limit: entries_max, given: header.entries });
        }
        // How many will come is the sender's word, not signed yet.
        let room = header.entries.min(ROOM_FIRST) as usize;
        let writer = SetWriter::with_capacity(key, header.state.policy, header.state.floor, room);
        Ok(Self { header, writer, hash: Sha256::new(), chunks: 0, last: None })
    }

    /// Loads the next chunk.
    ///
    /// # Errors
    /// When it is damaged, out of order, or says more than the header.
    pub fn load(&mut self, chunk: &SnapshotChunk) -> Result<(), SnapshotError> {
        if chunk.index != self.chunks {
            return Err(SnapshotError::ChunkOutOfOrder { expected: self.chunks, given: chunk.index });
        }
        if self.chunks == self.header.chunks {
            return Err(self.mismatch("chunks", self.header.chunks.into(), u64::from(self.chunks) + 1));
        }
        // Otherwise there could be chunks for ever, with nothing in them.
        if chunk.bytes.is_empty() {
            return Err(DecodeError::Invalid("a chunk without entries").into());
        }
        for entry in chunk.entries()? {
            let entry = entry?;
            if self.last.is_some_and(|last| last >= entry.fingerprint) {
                return Err(SnapshotError::OutOfOrder);
            }
            if entry.entry.expiry() <= self.header.state.floor {
                return Err(SnapshotError::Expired);
            }
            if self.writer.entries() == self.header.entries {
                return Err(self.mismatch("entries", self.header.entries, self.header.entries + 1));
            }
            self.last = Some(entry.fingerprint);
            self.writer.load(entry.fingerprint, entry.entry, &entry.exceptions);
        }
        self.hash.update(&chunk.bytes);
        self.chunks += 1;
        Ok(())
    }

    /// How many entries are loaded.
    #[must_use]
    pub fn loaded(&self) -> u64 {
        self.writer.entries()
    }

    /// What is being loaded.
    #[must_use]
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// Ends the loading. `sha256` is the hash that the author signed.
    ///
    /// # Errors
    /// When count, digest or hash differ from what is stated.
    pub fn finish(mut self, sha256: [u8; 32]) -> Result<(SetWriter, Arc<RevocationSet>), SnapshotError> {
        if self.chunks != self.header.chunks {
            return Err(self.mismatch("chunks", self.header.chunks.into(), self.chunks.into()));
        }
        if self.writer.entries() != self.header.entries {
            return Err(self.mismatch("entries", self.header.entries, self.writer.entries()));
        }
        if self.header.sha256(self.hash) != sha256 {
            return Err(SnapshotError::HashMismatch);
        }
        let SnapshotState { revision, shapes, verification, .. } = self.header.state;
        self.writer.finish_load(revision, shapes, verification);
        if self.writer.digest() != self.header.digest {
            return Err(SnapshotError::DigestMismatch);
        }
        let set = Arc::clone(self.writer.set());
        Ok((self.writer, set))
    }

    fn mismatch(&self, what: &'static str, stated: u64, found: u64) -> SnapshotError {
        SnapshotError::CountMismatch { what, stated, found }
    }
}
