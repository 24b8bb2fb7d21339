//! The two formats, and files that only their owner reads. Integers are little-endian.
//!
//! - Snapshot: 16 B magic ‖ u32 format ‖ sections of u32 length ‖ u32 CRC-32C ‖ bytes: the descent, the header, each chunk,
//!   the end.
//! - Deltas: 16 B magic ‖ u32 format ‖ the snapshot's 64 B signature ‖ u32 CRC-32C of those ‖ records of u32 length ‖ u32
//!   CRC-32C ‖ u8 kind and body: a canonical delta, with its 64 B signature before it or without, a signed word, or the
//!   mark that the set came to be in doubt.
//!
//! The format belongs to protocol version 1: a signature of another version would not verify.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::Bytes;

use crate::replication::follower::{CachedDelta, Descent, KeptDelta};
use crate::replication::frames::{DELTA_BYTES_MAX, Heartbeat, SnapshotEnd};
use crate::replication::{Lineage, PublicKey, Signature};
use crate::revocation::{
    ANCESTORS_MAX, Ancestor, Chain, DecodeError, Digest, Epoch, Reader, Revision, SetKey, UnixMillis,
};

pub(super) const SNAPSHOT_MAGIC: &[u8; 16] = b"rescind-cache-sn";
pub(super) const DELTAS_MAGIC: &[u8; 16] = b"rescind-cache-de";
/// The format that this build writes and reads.
pub(super) const FORMAT: u32 = 1;
/// The length of what a file of deltas begins with.
pub(super) const DELTAS_HEAD: usize = 16 + 4 + 64 + 4;
/// The largest record: a delta, its signature and its kind.
pub(super) const RECORD_BYTES_MAX: usize = DELTA_BYTES_MAX + SIGNATURE + 1;
const SIGNATURE: usize = 64;
/// Length and CRC-32C, before a section or a record.
pub(super) const FRAME: usize = 8;

pub(super) const KIND_DELTA: u8 = 1;
pub(super) const KIND_WORD: u8 = 2;
pub(super) const KIND_DOUBT: u8 = 3;
pub(super) const KIND_SIGNED_DELTA: u8 = 4;

/// Makes a file, or opens it; only its owner may read it.
pub(super) fn create(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Makes a file anew.
pub(super) fn create_empty(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Makes a directory, and those above it that are missing, for its owner only and durably.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in missing.iter().rev() {
        sync_dir(made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes names durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The content of a file of exactly this length.
pub(super) fn read_small<const N: usize>(path: &Path) -> Option<[u8; N]> {
    let (mut file, mut bytes) = (File::open(path).ok()?, [0; N]);
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Writes a small file and makes it durable.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = create_empty(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Appends length, CRC-32C and bytes.
pub(super) fn write_section(out: &mut impl Write, bytes: &[u8], crc: u32) -> io::Result<()> {
    out.write_all(&(bytes.len() as u32).to_le_bytes())?;
    out.write_all(&crc.to_le_bytes())?;
    out.write_all(bytes)
}

/// A record, as it is appended.
pub(super) fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME + 1 + body.len());
    out.extend_from_slice(&(body.len() as u32 + 1).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&[kind]), body).to_le_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    out
}

/// What a file of deltas behind this snapshot begins with.
pub(super) fn deltas_head(signature: &Signature) -> Vec<u8> {
    let mut out = Vec::with_capacity(DELTAS_HEAD);
    out.extend_from_slice(DELTAS_MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&signature.0);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// The file of deltas that follow this snapshot.
pub(super) fn deltas_name(signature: &Signature) -> String {
    let id = signature.0.iter().take(8).map(|byte| format!("{byte:02x}"));
    std::iter::once("deltas-".to_owned()).chain(id).collect()
}

fn encode_epoch(epoch: Epoch, out: &mut Vec<u8>) {
    out.extend_from_slice(&epoch.generation.to_le_bytes());
    out.extend_from_slice(&epoch.id);
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<Epoch, DecodeError> {
    Ok(Epoch { generation: reader.u64()?, id: reader.array()? })
}

pub(super) fn encode_descent(descent: &Descent) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    encode_epoch(descent.epoch, &mut out);
    out.push(descent.lineage.ancestors.len() as u8);
    for ancestor in &descent.lineage.ancestors {
        encode_epoch(ancestor.epoch, &mut out);
        out.extend_from_slice(&ancestor.last.0.to_le_bytes());
    }
    out.extend_from_slice(&descent.lineage.signature.0);
    out.extend_from_slice(descent.set_key.expose());
    out.extend_from_slice(&descent.public_key.0);
    out
}

pub(super) fn decode_descent(bytes: &[u8]) -> Result<Descent, DecodeError> {
    let mut reader = Reader::new(bytes);
    let epoch = read_epoch(&mut reader)?;
    let count = usize::from(reader.u8()?);
    if count > ANCESTORS_MAX {
        return Err(DecodeError::TooMany { what: "ancestors", limit: ANCESTORS_MAX });
    }
    let mut ancestors = Vec::with_capacity(count);
    for _ in 0..count {
        ancestors.push(Ancestor { epoch: read_epoch(&mut reader)?, last: Revision(reader.u64()?) });
    }
    let lineage = Lineage { ancestors, signature: Signature(reader.array()?) };
    let (set_key, public_key) = (SetKey::new(reader.array()?), PublicKey(reader.array()?));
    reader.finish()?;
    Ok(Descent { epoch, lineage, set_key, public_key })
}

pub(super) fn encode_end(end: &SnapshotEnd) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(&end.revision.0.to_le_bytes());
    out.extend_from_slice(&end.digest.to_bytes());
    out.extend_from_slice(&end.chain.0);
    out.extend_from_slice(&end.sha256);
    out.extend_from_slice(&end.signature.0);
    out.extend_from_slice(&end.source_time.0.to_le_bytes());
    out
}

pub(super) fn decode_end(bytes: &[u8]) -> Result<SnapshotEnd, DecodeError> {
    let mut reader = Reader::new(bytes);
    let end = SnapshotEnd {
        revision: Revision(reader.u64()?),
        digest: Digest::from_bytes(reader.array()?),
        chain: Chain(reader.array()?),
        sha256: reader.array()?,
        signature: Signature(reader.array()?),
        source_time: UnixMillis(reader.u64()?),
    };
    reader.finish()?;
    Ok(end)
}

/// A delta's kind and body.
pub(super) fn encode_delta(delta: &KeptDelta) -> (u8, Bytes) {
    match &delta.signature {
        None => (KIND_DELTA, delta.canonical.clone()),
        Some(signature) => (KIND_SIGNED_DELTA, [&signature.0[..], &delta.canonical].concat().into()),
    }
}

/// The body of a [`KIND_SIGNED_DELTA`].
pub(super) fn decode_signed_delta(mut body: Bytes) -> Result<CachedDelta, DecodeError> {
    let signature = Signature(Reader::new(&body).array()?);
    let canonical = body.split_off(SIGNATURE);
    Ok(CachedDelta { canonical, signature: Some(signature) })
}

pub(super) fn encode_word(word: &Heartbeat) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(&word.revision.0.to_le_bytes());
    out.extend_from_slice(&word.source_time.0.to_le_bytes());
    out.extend_from_slice(&word.digest.to_bytes());
    out.extend_from_slice(&word.chain.0);
    out.extend_from_slice(&word.floor.bits().to_le_bytes());
    out.extend_from_slice(&word.signature.0);
    out
}

pub(super) fn decode_word(bytes: &[u8]) -> Result<Heartbeat, DecodeError> {
    let mut reader = Reader::new(bytes);
    let word = Heartbeat {
        revision: Revision(reader.u64()?),
        source_time: UnixMillis(reader.u64()?),
        digest: Digest::from_bytes(reader.array()?),
        chain: Chain(reader.array()?),
        floor: reader.minute()?,
        ack_now: false,
        signature: Signature(reader.array()?),
    };
    reader.finish()?;
    Ok(word)
}
