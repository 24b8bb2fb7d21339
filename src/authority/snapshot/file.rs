//! The authority's snapshot on disk: everything a restart needs to go on from one revision.
//!
//! Blocks of u32le length ‖ u32le CRC-32C ‖ bytes: the header, rows sorted by fingerprint, an empty block, remembered
//! requests, an empty block, credentials by id, an empty block, verification policies by version, an empty block, the footer. The footer holds the counts and the SHA-256 of
//! all bytes before it, so a file that was not written to its end is none. Written beside, synced, then renamed.
//!
//! Format 1 knew of no credentials, and has neither their section nor their count; it is read as holding none. So is
//! format 2 of verification policies.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::rows::LiveRow;
use crate::authority::credentials::Kept;
use crate::authority::requests::{Remembered, RequestKey};
use crate::journal::{encode_applied, encode_credential, read_applied, read_credential};
use crate::revocation::ports::{AppliedPolicy, Credential, POLICY_VERSIONS_KEPT};
use crate::revocation::{
    Chain, DecodeError, Digest, Epoch, Fingerprint, Minute, Policy, Reader, Revision, SHAPES_MAX, Shape, UnixMillis,
    VersionedPolicy,
};

const MAGIC: &[u8; 16] = b"rescind-snapshot";
/// The format that this build writes, and the newest it reads.
pub const FORMAT: u32 = 3;
/// The last format without credentials.
const FORMAT_1: u32 = 1;
/// The last format without verification policies.
const FORMAT_2: u32 = 2;
/// Blocks are begun anew past this many bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// The largest row: as many revocations as a stack holds, each with four exceptions of eight long names, about 4.3 MiB.
const ROW_BYTES_MAX: usize = 8 << 20;
/// No block is larger: one block and the largest row.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + ROW_BYTES_MAX;

/// What is true of the state at a snapshot's revision, beside its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The epoch.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    /// The chain there.
    pub chain: Chain,
    /// The digest there.
    pub digest: Digest,
    /// The expiry floor there.
    pub floor: Minute,
    /// The latest time any record stated.
    pub highest_time: UnixMillis,
    /// The time the last record stated.
    pub source_time: UnixMillis,
    /// The logged policy.
    pub policy: Policy,
    /// The active shapes, sorted.
    pub shapes: Vec<Shape>,
    /// The verification policy; `None`: there is none.
    pub verification: Option<Arc<VersionedPolicy>>,
}

/// Why a file is not a snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// Reading or writing failed.
    #[error("cannot use snapshot {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// A newer build wrote it.
    #[error("snapshot {path} has format {found}, this build reads up to {FORMAT}")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is damaged.
    #[error("snapshot {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: String,
    },
}

/// Writes a snapshot: header, rows in order, requests, and the end.
pub struct SnapshotWriter {
    path: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    hash: Sha256,
    shapes: Vec<Shape>,
    block: Vec<u8>,
    rows: u64,
    requests: u64,
}

impl SnapshotWriter {
    /// Begins the file that will be `path` once it is whole.
    ///
    /// # Errors
    /// When the file beside it cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, SnapshotFileError> {
        let partial = path.with_file_name("snapshot.partial");
        let file = private_file(&partial).map_err(|source| SnapshotFileError::Io { path: partial.clone(), source })?;
        let mut writer = Self {
            path: path.to_owned(),
            partial,
            out: BufWriter::with_capacity(BLOCK_BYTES, file),
            hash: Sha256::new(),
            shapes: header.shapes.clone(),
            block: Vec::with_capacity(2 * BLOCK_BYTES),
            rows: 0,
            requests: 0,
        };
        writer.write(MAGIC)?;
        writer.write(&FORMAT.to_le_bytes())?;
        writer.block = header.encode();
        writer.end_block()?;
        Ok(writer)
    }

    /// Adds a row; they come sorted by fingerprint.
    ///
    /// # Errors
    /// When writing fails.
    pub fn row(&mut self, row: &LiveRow) -> Result<(), SnapshotFileError> {
        row.encode(&self.shapes, &mut self.block);
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Adds the remembered requests, oldest first; after the last row.
    ///
    /// # Errors
    /// When writing fails.
    pub fn requests(
        &mut self,
        requests: impl Iterator<Item = (UnixMillis, RequestKey, Remembered)>,
    ) -> Result<(), SnapshotFileError> {
        self.end_section()?;
        for (time, key, request) in requests {
            self.block.extend_from_slice(&time.0.to_le_bytes());
            self.block.extend_from_slice(&key.0);
            self.block.extend_from_slice(&request.body_hash);
            self.block.extend_from_slice(&request.revision.0.to_le_bytes());
            self.block.extend_from_slice(&request.ordinal.to_le_bytes());
            self.requests += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.end_block()?;
            }
        }
        self.end_section()
    }

    /// Adds the credentials and the verification policies, the oldest first, and makes the file durable under its name.
    ///
    /// # Errors
    /// When writing, syncing or renaming fails; the file beside is then left to be overwritten.
    pub fn finish(mut self, credentials: &Kept, policies: &[Arc<AppliedPolicy>]) -> Result<(), SnapshotFileError> {
        let mut sorted: Vec<_> = credentials.values().collect();
        sorted.sort_unstable_by_key(|credential| credential.id);
        for credential in sorted {
            let encoded = encode_credential(credential, &mut self.block);
            encoded.map_err(|error| SnapshotFileError::Damaged { path: self.path.clone(), what: error.to_string() })?;
            if self.block.len() >= BLOCK_BYTES {
                self.end_block()?;
            }
        }
        self.end_section()?;
        for applied in policies {
            let encoded = encode_applied(applied, &mut self.block);
            encoded.map_err(|error| SnapshotFileError::Damaged { path: self.path.clone(), what: error.to_string() })?;
            if self.block.len() >= BLOCK_BYTES {
                self.end_block()?;
            }
        }
        self.end_section()?;
        let mut footer = Vec::with_capacity(64);
        footer.extend_from_slice(&self.rows.to_le_bytes());
        footer.extend_from_slice(&self.requests.to_le_bytes());
        footer.extend_from_slice(&(credentials.len() as u64).to_le_bytes());
        footer.extend_from_slice(&(policies.len() as u64).to_le_bytes());
        footer.extend_from_slice(&self.hash.clone().finalize());
        self.write(&footer)?;
        let Self { path, partial, out, .. } = self;
        publish(out, &partial, &path).map_err(|source| SnapshotFileError::Io { path, source })
    }

    fn end_section(&mut self) -> Result<(), SnapshotFileError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.end_block()
    }

    fn end_block(&mut self) -> Result<(), SnapshotFileError> {
        let block = std::mem::take(&mut self.block);
        self.write(&(block.len() as u32).to_le_bytes())?;
        self.write(&crc32c::crc32c(&block).to_le_bytes())?;
        self.write(&block)?;
        self.block = block;
        self.block.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotFileError> {
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(|source| SnapshotFileError::Io { path: self.partial.clone(), source })
    }
}

/// Reads a snapshot: header, rows in order, then requests. Nothing may be relied on before the end was reached.
pub struct SnapshotReader {
    path: PathBuf,
    input: BufReader<File>,
    hash: Sha256,
    header: Header,
    block: Vec<u8>,
    at: usize,
    last: Option<Fingerprint>,
    rows: u64,
    format: u32,
}

/// What a snapshot holds behind its rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The remembered requests, oldest first.
    pub requests: Vec<(UnixMillis, RequestKey, Remembered)>,
    /// The credentials, by id.
    pub credentials: Vec<Credential>,
    /// The last verification policies, the oldest first.
    pub policies: Vec<AppliedPolicy>,
}

impl SnapshotReader {
    /// Opens a snapshot and reads its header.
    ///
    /// # Errors
    /// When the file cannot be read, is newer, or its header is damaged.
    pub fn open(path: &Path) -> Result<Self, SnapshotFileError> {
        let io = |source| SnapshotFileError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let mut reader = Self {
            path: path.to_owned(),
            input: BufReader::with_capacity(BLOCK_BYTES, file),
            hash: Sha256::new(),
            header: Header::nothing(),
            block: Vec::new(),
            at: 0,
            last: None,
            rows: 0,
            format: FORMAT,
        };
        if reader.array::<16>()? != *MAGIC {
            return Err(reader.damaged("it does not begin like one"));
        }
        let format = u32::from_le_bytes(reader.array()?);
        if format > FORMAT {
            return Err(SnapshotFileError::NewerFormat { path: path.to_owned(), found: format });
        }
        reader.format = format;
        reader.next_block()?;
        reader.header = Header::decode(&reader.block).map_err(|error| reader.damaged(error))?;
        reader.at = reader.block.len();
        Ok(reader)
    }

    /// What is true of the state, beside its rows.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next row, or `None` after the last.
    ///
    /// # Errors
    /// When the file is damaged, or rows are out of order.
    pub fn row(&mut self) -> Result<Option<LiveRow>, SnapshotFileError> {
        if self.at == self.block.len() && !self.next_block()? {
            return Ok(None);
        }
        let mut reader = Reader::new(&self.block[self.at..]);
        let row = LiveRow::decode(&mut reader, &self.header.shapes).map_err(|error| self.damaged(error))?;
        self.at = self.block.len() - reader.remaining();
        if self.last.is_some_and(|last| last >= row.fingerprint) {
            return Err(self.damaged("rows are out of order"));
        }
        self.last = Some(row.fingerprint);
        self.rows += 1;
        Ok(Some(row))
    }

    /// After the last row: what is behind, once the whole file has proved sound.
    ///
    /// # Errors
    /// When the file is damaged or was not written to its end.
    pub fn finish(mut self) -> Result<Tail, SnapshotFileError> {
        let mut requests = Vec::new();
        while self.next_block()? {
            let mut reader = Reader::new(&self.block);
            while reader.remaining() > 0 {
                requests.push(read_request(&mut reader).map_err(|error| self.damaged(error))?);
            }
        }
        let has_credentials = self.format > FORMAT_1;
        let mut credentials: Vec<Credential> = Vec::new();
        while has_credentials && self.next_block()? {
            let mut reader = Reader::new(&self.block);
            while reader.remaining() > 0 {
                let credential = read_credential(&mut reader).map_err(|error| self.damaged(error))?;
                if credentials.last().is_some_and(|last| last.id >= credential.id) {
                    return Err(self.damaged("credentials are out of order"));
                }
                credentials.push(credential);
            }
        }
        let has_policies = self.format > FORMAT_2;
        let policies = if has_policies { self.policies()? } else { Vec::new() };
        if policies.last().map(|last| &last.policy) != self.header.verification.as_ref() {
            return Err(self.damaged("its verification policy is not the last one applied"));
        }
        let expected: [u8; 32] = self.hash.clone().finalize().into();
        let mut count = || self.array().map(u64::from_le_bytes);
        let counts =
            [count()?, count()?, if has_credentials { count()? } else { 0 }, if has_policies { count()? } else { 0 }];
        let hash = self.array::<32>()?;
        if counts != [self.rows, requests.len() as u64, credentials.len() as u64, policies.len() as u64] {
            return Err(self.damaged("it holds another number of rows, requests, credentials or policies than it says"));
        }
        if hash != expected {
            return Err(self.damaged("its SHA-256 differs"));
        }
        Ok(Tail { requests, credentials, policies })
    }

    /// The section of verification policies, the oldest first.
    fn policies(&mut self) -> Result<Vec<AppliedPolicy>, SnapshotFileError> {
        let mut policies: Vec<AppliedPolicy> = Vec::new();
        while self.next_block()? {
            let mut reader = Reader::new(&self.block);
            while reader.remaining() > 0 {
                let applied = read_applied(&mut reader).map_err(|error| self.damaged(error))?;
                if policies
                    .last()
                    .is_some_and(|last| last.policy.version.checked_add(1) != Some(applied.policy.version))
                {
                    return Err(self.damaged("verification policies are out of order"));
                }
                if policies.len() == POLICY_VERSIONS_KEPT {
                    return Err(self.damaged("it holds too many verification policies"));
                }
                policies.push(applied);
            }
        }
        Ok(policies)
    }

    /// Reads the next block; false when it is the empty one that ends a section.
    fn next_block(&mut self) -> Result<bool, SnapshotFileError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let crc = u32::from_le_bytes(self.array()?);
        if length > BLOCK_BYTES_MAX {
            return Err(self.damaged("a block is too long"));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(length, 0);
        self.fill(&mut block)?;
        if crc32c::crc32c(&block) != crc {
            return Err(self.damaged("a block's checksum differs"));
        }
        (self.block, self.at) = (block, 0);
        Ok(length > 0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotFileError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotFileError> {
        self.input.read_exact(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends early"),
            _ => SnapshotFileError::Io { path: self.path.clone(), source },
        })?;
        self.hash.update(&*bytes);
        Ok(())
    }

    fn damaged(&self, what: impl ToString) -> SnapshotFileError {
        SnapshotFileError::Damaged { path: self.path.clone(), what: what.to_string() }
    }
}

impl Header {
    fn nothing() -> Self {
        Self {
            epoch: Epoch { generation: 0, id: [0; 16] },
            revision: Revision(0),
            chain: Chain::default(),
            digest: Digest::default(),
            floor: Minute::default(),
            highest_time: UnixMillis(0),
            source_time: UnixMillis(0),
            policy: Policy::default(),
            shapes: Vec::new(),
            verification: None,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&self.epoch.generation.to_le_bytes());
        out.extend_from_slice(&self.epoch.id);
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(&self.digest.to_bytes());
        out.extend_from_slice(&self.floor.bits().to_le_bytes());
        out.extend_from_slice(&self.highest_time.0.to_le_bytes());
        out.extend_from_slice(&self.source_time.0.to_le_bytes());
        out.extend_from_slice(&self.policy.encode());
        out.push(self.shapes.len() as u8);
        self.shapes.iter().for_each(|shape| shape.encode(&mut out));
        if let Some(verification) = &self.verification {
            out.extend_from_slice(&verification.encode());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut header = Self {
            epoch: Epoch { generation: reader.u64()?, id: reader.array()? },
            revision: Revision(reader.u64()?),
            chain: Chain(reader.array()?),
            digest: Digest::from_bytes(reader.array()?),
            floor: reader.minute()?,
            highest_time: UnixMillis(reader.u64()?),
            source_time: UnixMillis(reader.u64()?),
            policy: Policy::read(&mut reader)?,
            shapes: Vec::new(),
            verification: None,
        };
        let shapes = usize::from(reader.u8()?);
        if shapes > SHAPES_MAX {
            return Err(DecodeError::TooMany { what: "shapes", limit: SHAPES_MAX });
        }
        header.shapes = (0..shapes).map(|_| reader.shape()).collect::<Result<_, _>>()?;
        if reader.remaining() > 0 {
            header.verification = Some(Arc::new(VersionedPolicy::read(&mut reader)?));
        }
        reader.finish()?;
        if !header.shapes.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::Invalid("shapes are not sorted and unique"));
        }
        Ok(header)
    }
}

fn read_request(reader: &mut Reader<'_>) -> Result<(UnixMillis, RequestKey, Remembered), DecodeError> {
    let time = UnixMillis(reader.u64()?);
    let key = RequestKey(reader.array()?);
    let body_hash = reader.array()?;
    Ok((time, key, Remembered { body_hash, revision: Revision(reader.u64()?), ordinal: reader.u32()? }))
}

fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn publish(out: BufWriter<File>, partial: &Path, path: &Path) -> io::Result<()> {
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(partial, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
