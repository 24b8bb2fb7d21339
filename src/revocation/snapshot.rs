//! The snapshot codec: the whole state at exactly one revision, as replicas receive and keep it.
//!
//! A snapshot is a header and chunks of entries sorted by fingerprint. The next one is the last one merged with the
//! journal since ([`SnapshotChanges::merge`] into a [`SnapshotBuilder`]); the live set is never walked. A receiver
//! feeds the chunks to a [`SetBuilder`], beside the set that it serves meanwhile.
//!
//! Does no I/O, and does not sign: the caller signs the SHA-256.
//!
//! # Format (little-endian)
//! - Header: u64 revision ‖ u32 floor ‖ policy ‖ u8 count ‖ shapes ‖ u64 entries ‖ u32 chunks ‖ u128 digest ‖
//!   the verification policy, unless there is none.
//! - Chunk: per entry 16 B fingerprint ‖ u64 packed entry ‖ its exceptions, if its flag says so; at most
//!   [`CHUNK_BYTES_MAX`], with a CRC-32C beside it.
//! - SHA-256 over the header and the SHA-256 over all chunks.
//!
//! # Invariants
//! - N1. Fingerprints strictly increase, across chunks too, and every entry expires after the floor: one state has one
//!   encoding, but for where chunks end.
//! - N2. A set leaves [`SetBuilder::finish`] only if checksums, order, count, digest and hash all agree.

mod build;
mod load;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub use build::{Built, SnapshotBuilder, SnapshotChanges};
pub use load::SetBuilder;

use super::SHAPES_MAX;
use super::codec::{DecodeError, Reader};
use super::delta::{encode_exceptions, read_exceptions};
use super::digest::Digest;
use super::entry::{Exception, PackedEntry};
use super::fingerprint::Fingerprint;
use super::policy::Policy;
use super::position::Revision;
use super::selector::Shape;
use super::time::Minute;
use super::verification::VersionedPolicy;

/// The largest chunk, in bytes: small enough to go between deltas without delaying them, large enough that framing costs
/// nothing.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Everything of a state but its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotState {
    /// The revision it is of.
    pub revision: Revision,
    /// The expiry floor.
    pub floor: Minute,
    /// The logged policy.
    pub policy: Policy,
    /// The active shapes, sorted.
    pub shapes: Vec<Shape>,
    /// The verification policy; `None`: there is none.
    pub verification: Option<Arc<VersionedPolicy>>,
}

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Everything but the entries.
    pub state: SnapshotState,
    /// How many entries follow.
    pub entries: u64,
    /// In how many chunks.
    pub chunks: u32,
    /// The digest of the state.
    pub digest: Digest,
}

/// A run of entries, encoded once for everybody. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Its place, from 0.
    pub index: u32,
    /// The CRC-32C of `bytes`.
    pub crc32c: u32,
    /// The packed entries.
    pub bytes: Bytes,
}

/// One live entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The selector's fingerprint.
    pub fingerprint: Fingerprint,
    /// Cutoff, expiry and flags.
    pub entry: PackedEntry,
    /// What it spares; empty unless its flag says so.
    pub exceptions: Vec<Exception>,
}

/// Why a snapshot is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Header or chunk bytes are not an encoding.
    #[error("malformed snapshot: {0}")]
    Malformed(#[from] DecodeError),
    /// The receiver may not hold so many entries.
    #[error("the snapshot has {given} entries, at most {limit} may be held")]
    TooManyEntries {
        /// The receiver's limit.
        limit: u64,
        /// What the header states.
        given: u64,
    },
    /// A chunk came damaged.
    #[error("chunk {index} has a bad checksum")]
    BadChecksum {
        /// The chunk.
        index: u32,
    },
    /// A chunk is missing or came twice.
    #[error("chunk {given} came in the place of chunk {expected}")]
    ChunkOutOfOrder {
        /// The chunk that comes next.
        expected: u32,
        /// The one that came.
        given: u32,
    },
    /// Fingerprints do not strictly increase.
    #[error("entries are out of order")]
    OutOfOrder,
    /// An entry expires at or before the floor.
    #[error("an expired entry")]
    Expired,
    /// More or fewer entries or chunks than stated.
    #[error("{found} {what} instead of the {stated} stated")]
    CountMismatch {
        /// Entries or chunks.
        what: &'static str,
        /// What the header states.
        stated: u64,
        /// What came.
        found: u64,
    },
    /// The state is not the one that its author had.
    #[error("the digest differs from the one stated")]
    DigestMismatch,
    /// The bytes are not those that its author hashed.
    #[error("the SHA-256 differs from the one stated")]
    HashMismatch,
    /// A delta does not follow the state that it is absorbed into.
    #[error("revision {given} does not follow {current}")]
    Gap {
        /// The state's revision.
        current: Revision,
        /// The delta's.
        given: Revision,
    },
}

impl SnapshotHeader {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.state.revision.0.to_le_bytes());
        out.extend_from_slice(&self.state.floor.bits().to_le_bytes());
        out.extend_from_slice(&self.state.policy.encode());
        out.push(self.state.shapes.len() as u8);
        self.state.shapes.iter().for_each(|shape| shape.encode(&mut out));
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.chunks.to_le_bytes());
        out.extend_from_slice(&self.digest.to_bytes());
        if let Some(verification) = &self.state.verification {
            out.extend_from_slice(&verification.encode());
        }
        out
    }

    /// The inverse of [`SnapshotHeader::encode`]: accepts canonical bytes only.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let revision = Revision(reader.u64()?);
        let floor = reader.minute()?;
        let policy = Policy::read(&mut reader)?;
        let count = usize::from(reader.u8()?);
        if count > SHAPES_MAX {
            return Err(DecodeError::TooMany { what: "shapes", limit: SHAPES_MAX });
        }
        let shapes = (0..count).map(|_| reader.shape()).collect::<Result<Vec<_>, _>>()?;
        let mut header = Self {
            state: SnapshotState { revision, floor, policy, shapes, verification: None },
            entries: reader.u64()?,
            chunks: reader.u32()?,
            digest: Digest::from_bytes(reader.array()?),
        };
        if reader.remaining() > 0 {
            header.state.verification = Some(Arc::new(VersionedPolicy::read(&mut reader)?));
        }
        reader.finish()?;
        header.validate()?;
        Ok(header)
    }

    /// Checks what is stated on the fields. Decoding did; a header made by hand may be wrong.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), DecodeError> {
        if self.state.floor == Minute::NEVER {
            return Err(DecodeError::Invalid("floor"));
        }
        if self.state.shapes.len() > SHAPES_MAX {
            return Err(DecodeError::TooMany { what: "shapes", limit: SHAPES_MAX });
        }
        if !self.state.shapes.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::Invalid("shapes are not sorted and unique"));
        }
        if u64::from(self.chunks) > self.entries {
            return Err(DecodeError::Invalid("more chunks than entries"));
        }
        Ok(())
    }

    /// The hash to sign: of this header and of the hash over the bytes of all chunks.
    #[must_use]
    fn sha256(&self, chunks: Sha256) -> [u8; 32] {
        Sha256::new().chain_update(self.encode()).chain_update(chunks.finalize()).finalize().into()
    }
}

impl SnapshotChunk {
    /// The chunk of these bytes.
    #[must_use]
    pub fn new(index: u32, bytes: Bytes) -> Self {
        Self { index, crc32c: crc32c::crc32c(&bytes), bytes }
    }

    /// Its entries, in order. Checks the checksum, not the order.
    ///
    /// # Errors
    /// [`SnapshotError::BadChecksum`] at once, [`SnapshotError::Malformed`] on the way.
    pub fn entries(&self) -> Result<impl Iterator<Item = Result<SnapshotEntry, SnapshotError>>, SnapshotError> {
        if self.bytes.len() > CHUNK_BYTES_MAX {
            return Err(DecodeError::TooMany { what: "chunk bytes", limit: CHUNK_BYTES_MAX }.into());
        }
        if crc32c::crc32c(&self.bytes) != self.crc32c {
            return Err(SnapshotError::BadChecksum { index: self.index });
        }
        let mut reader = Some(Reader::new(&self.bytes));
        Ok(std::iter::from_fn(move || {
            let rest = reader.as_mut().filter(|rest| rest.remaining() > 0)?;
            let entry = SnapshotEntry::read(rest);
            if entry.is_err() {
                reader = None;
            }
            Some(entry.map_err(SnapshotError::from))
        }))
    }
}

impl SnapshotEntry {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint.to_bytes());
        out.extend_from_slice(&self.entry.bits().to_le_bytes());
        if self.entry.has_exceptions() {
            encode_exceptions(&self.exceptions, out);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let fingerprint = reader.fingerprint()?;
        let entry = reader.entry()?;
        let exceptions = if entry.has_exceptions() { read_exceptions(reader)? } else { Vec::new() };
        Ok(Self { fingerprint, entry, exceptions })
    }
}
