//! Reading a cache: lengths and checksums. Whether it is to be believed is the follower's to say.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::file::{
    DELTAS_HEAD, FORMAT, FRAME, KIND_DELTA, KIND_DOUBT, KIND_SIGNED_DELTA, KIND_WORD, RECORD_BYTES_MAX, SNAPSHOT_MAGIC,
    decode_descent, decode_end, decode_signed_delta, decode_word, deltas_head, deltas_name,
};
use crate::replication::follower::{CachedDelta, Descent, Kept, SignedSnapshot};
use crate::replication::frames::{CHUNKS_MAX, HEADER_BYTES_MAX, Heartbeat};
use crate::revocation::{CHUNK_BYTES_MAX, DecodeError, Revision, SnapshotChunk, SnapshotHeader};

/// The longest descent or end of a snapshot.
const FIELDS_BYTES_MAX: usize = 1024;
/// No file of deltas is read or written beyond this many times the bytes at which a newer snapshot is wanted.
pub(super) const DELTAS_FACTOR_MAX: u64 = 8;
/// Fewer bytes of deltas never make a newer snapshot wanted.
const REFRESH_BYTES_MIN: u64 = 64 << 20;
/// One read of a file.
const READ_BYTES: usize = 256 << 10;

/// Where a file of deltas is gone on with.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(super) path: PathBuf,
    /// What it begins with.
    head: Vec<u8>,
    /// Its sound length.
    pub(super) bytes: u64,
    pub(super) snapshot_bytes: u64,
    /// The revision of the last word in it.
    pub(super) word: Revision,
    /// The revision of the last delta in it, or of the snapshot.
    pub(super) revision: Revision,
}

/// Why a file is passed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("malformed {0}: {1}")]
    Malformed(&'static str, DecodeError),
    #[error("{0}")]
    Damaged(&'static str),
    #[error("format {0} is not this build's")]
    OtherFormat(u32),
    #[error("it holds {entries} entries, at most {limit} may be held here")]
    OverLimit { entries: u64, limit: u64 },
}

/// What follows a snapshot, as far as it is signed for.
pub(super) struct Deltas {
    deltas: Vec<CachedDelta>,
    word: Option<Heartbeat>,
    /// The set was found to differ from the authority's.
    pub(super) doubt: bool,
    bytes: u64,
}

/// Where a file was signed for the last time.
struct Signed {
    deltas: usize,
    bytes: u64,
}

/// How many bytes of deltas make a newer snapshot wanted.
pub(super) fn refresh_bytes(snapshot_bytes: u64) -> u64 {
    REFRESH_BYTES_MIN.max(snapshot_bytes)
}

/// The set that was served last; what is wrong is logged.
pub(crate) fn main(dir: &Path, entries_max: u64) -> Option<(Kept, Tail)> {
    let path = dir.join("snapshot");
    let read = match snapshot(&path, entries_max) {
        Ok(read) => read,
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the cache is not used: starting without");
            return None;
        }
    };
    let (descent, snapshot, snapshot_bytes) = read;
    let path = dir.join(deltas_name(&snapshot.end.signature));
    let Deltas { deltas, word, doubt, bytes } = deltas(&path, &snapshot, snapshot_bytes);
    if doubt {
        tracing::warn!(path = %path.display(), "the cache is not used: its set differed from the authority's");
        return None;
    }
    let head = deltas_head(&snapshot.end.signature);
    let revision = Revision(snapshot.end.revision.0.saturating_add(deltas.len() as u64));
    let word_revision = word.as_ref().map_or(Revision(0), |word| word.revision);
    let tail = Tail { path, head, bytes, snapshot_bytes, word: word_revision, revision };
    Some((Kept { descent, snapshot: Arc::new(snapshot), deltas, word }, tail))
}

/// A pair of files; the second may be missing.
pub(super) fn pair(snapshot_path: &Path, deltas_path: &Path, entries_max: u64) -> Result<(Kept, bool), ReadError> {
    let (descent, snapshot, snapshot_bytes) = snapshot(snapshot_path, entries_max)?;
    let Deltas { deltas, word, doubt, .. } = deltas(deltas_path, &snapshot, snapshot_bytes);
    Ok((Kept { descent, snapshot: Arc::new(snapshot), deltas, word }, doubt))
}

fn snapshot(path: &Path, entries_max: u64) -> Result<(Descent, SignedSnapshot, u64), ReadError> {
    let mut file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    if array::<16>(&mut file)? != *SNAPSHOT_MAGIC {
        return Err(ReadError::Damaged("it does not begin like a cache"));
    }
    match u32::from_le_bytes(array(&mut file)?) {
        FORMAT => {}
        other => return Err(ReadError::OtherFormat(other)),
    }
    let malformed = |what| move |error| ReadError::Malformed(what, error);
    let descent = decode_descent(&checked(&mut file, FIELDS_BYTES_MAX)?).map_err(malformed("descent"))?;
    let header = SnapshotHeader::decode(&checked(&mut file, HEADER_BYTES_MAX)?).map_err(malformed("header"))?;
    if header.entries > entries_max {
        return Err(ReadError::OverLimit { entries: header.entries, limit: entries_max });
    }
    // No chunk is empty: more of them than entries would be room asked for nothing.
    if header.chunks > CHUNKS_MAX || u64::from(header.chunks) > header.entries {
        return Err(ReadError::Damaged("too many chunks"));
    }
    let mut chunks = Vec::with_capacity(header.chunks as usize);
    for index in 0..header.chunks {
        // Its checksum is compared when it is loaded.
        let (bytes, crc32c) = section(&mut file, CHUNK_BYTES_MAX)?;
        chunks.push(SnapshotChunk { index, crc32c, bytes: bytes.into() });
    }
    let end = decode_end(&checked(&mut file, FIELDS_BYTES_MAX)?).map_err(malformed("end"))?;
    if file.read(&mut [0])? != 0 {
        return Err(ReadError::Damaged("it goes on behind its end"));
    }
    let bytes = file.stream_position()?;
    Ok((descent, SignedSnapshot { header, chunks, end }, bytes))
}

/// Reads as far as the file is sound. A torn end is what a crash leaves; anything else is said loudly.
fn deltas(path: &Path, snapshot: &SignedSnapshot, snapshot_bytes: u64) -> Deltas {
    let mut read = Deltas { deltas: Vec::new(), word: None, doubt: false, bytes: 0 };
    let mut signed = Signed { deltas: 0, bytes: 0 };
    let cut = read_deltas(path, snapshot, snapshot_bytes, &mut read, &mut signed);
    // What nobody signed for was written by a process that was killed before the signature came.
    read.deltas.truncate(signed.deltas);
    read.bytes = signed.bytes;
    let at = read.bytes;
    let Err(cut) = cut else { return read };
    match cut {
        ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => {}
        ReadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::info!(path = %path.display(), at, "the end of the cache was not written whole: cut");
        }
        error => tracing::warn!(path = %path.display(), at, %error, "the cache is not used from here on"),
    }
    read
}

fn read_deltas(
    path: &Path,
    snapshot: &SignedSnapshot,
    snapshot_bytes: u64,
    read: &mut Deltas,
    signed: &mut Signed,
) -> Result<(), ReadError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    // The last record may have gone past the limit.
    if length > refresh_bytes(snapshot_bytes).saturating_mul(DELTAS_FACTOR_MAX) + (2 * RECORD_BYTES_MAX) as u64 {
        return Err(ReadError::Damaged("it is too long"));
    }
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    if array::<DELTAS_HEAD>(&mut file)? != *deltas_head(&snapshot.end.signature) {
        return Err(ReadError::Damaged("it does not belong to its snapshot"));
    }
    read.bytes = DELTAS_HEAD as u64;
    // Up to here the snapshot's signature counts.
    signed.bytes = read.bytes;
    while read.bytes < length {
        let (bytes, crc) = section_within(&mut file, RECORD_BYTES_MAX, length - read.bytes)?;
        let size = (FRAME + bytes.len()) as u64;
        if crc32c::crc32c(&bytes) != crc {
            // Space that was allotted but not written before a crash looks like this as well.
            let is_last = read.bytes + size == length;
            return Err(if is_last { io::Error::from(io::ErrorKind::UnexpectedEof).into() } else { BAD_CHECKSUM });
        }
        let mut bytes = Bytes::from(bytes);
        let kind = bytes.split_to(bytes.len().min(1)).first().copied();
        match kind {
            Some(KIND_DELTA) => read.deltas.push(CachedDelta { canonical: bytes, signature: None }),
            Some(KIND_SIGNED_DELTA) => {
                let delta = decode_signed_delta(bytes).map_err(|error| ReadError::Malformed("delta", error))?;
                read.deltas.push(delta);
            }
            Some(KIND_WORD) => {
                read.word = Some(decode_word(&bytes).map_err(|error| ReadError::Malformed("word", error))?);
            }
            Some(KIND_DOUBT) => read.doubt = true,
            _ => return Err(ReadError::Damaged("a record of no known kind")),
        }
        read.bytes += size;
        if matches!(kind, Some(KIND_SIGNED_DELTA | KIND_WORD)) {
            *signed = Signed { deltas: read.deltas.len(), bytes: read.bytes };
        }
    }
    Ok(())
}

const BAD_CHECKSUM: ReadError = ReadError::Damaged("a checksum differs");

fn checked(file: &mut impl Read, limit: usize) -> Result<Vec<u8>, ReadError> {
    let (bytes, crc) = section(file, limit)?;
    if crc32c::crc32c(&bytes) == crc { Ok(bytes) } else { Err(BAD_CHECKSUM) }
}

fn section(file: &mut impl Read, limit: usize) -> Result<(Vec<u8>, u32), ReadError> {
    section_within(file, limit, u64::MAX)
}

fn section_within(file: &mut impl Read, limit: usize, rest: u64) -> Result<(Vec<u8>, u32), ReadError> {
    let length = u32::from_le_bytes(array(file)?) as usize;
    let crc = u32::from_le_bytes(array(file)?);
    if length > limit {
        return Err(ReadError::Damaged("a length is beyond its limit"));
    }
    if (FRAME + length) as u64 > rest {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok((bytes, crc))
}

fn array<const N: usize>(file: &mut impl Read) -> Result<[u8; N], ReadError> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Cuts a file of deltas to its sound length and goes on behind it.
pub(super) fn reopen(tail: &Tail) -> io::Result<File> {
    let mut file = super::file::create(&tail.path)?;
    file.set_len(tail.bytes)?;
    file.seek(SeekFrom::End(0))?;
    if tail.bytes == 0 {
        file.write_all(&tail.head)?;
    }
    Ok(file)
}
