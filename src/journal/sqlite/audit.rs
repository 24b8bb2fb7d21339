//! A journal looked at without changing it, beside its server or offline.
//!
//! Takes no lock and upgrades nothing. One read transaction: nothing that is written or pruned meanwhile is seen, and the
//! write-ahead log cannot start over until it ends.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::reader::{self, Bounds, Reader};
use super::{fault, schema};
use crate::journal::carried::Carried;
use crate::journal::error::{OpenError, ReadError};
use crate::journal::identity::Identity;
use crate::journal::{JournalReader, Linked};
use crate::revocation::ports::AuditHead;
use crate::revocation::{Chain, Delta, Revision};

/// Carried revocations looked at in one query.
const CARRIED_ROWS: usize = 1000;

/// A journal's file, opened for reading.
#[derive(Debug)]
pub struct JournalFile {
    connection: Connection,
    path: PathBuf,
    identity: Identity,
    format: u32,
}

/// What a sound journal says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// The file's format.
    pub format: u32,
    /// The oldest revision whose record is there; head + 1 when there is none.
    pub oldest: Revision,
    /// The last record and its checksum. Before the first record: zero, and what that one will be bound to.
    pub head: AuditHead,
    /// How many revocations are carried.
    pub carried: u64,
    /// The delta chain after those revisions that were asked for and can be told.
    pub chains: Vec<(Revision, Chain)>,
}

/// Why a journal does not pass.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be opened, or is none.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read, or is not what was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is sound in itself, and ends before a head that was noted earlier.
    #[error("the journal ends at revision {head}, and revision {} was there once: records were cut off", expected.revision)]
    CutOff {
        /// Its last revision.
        head: Revision,
        /// The head that was noted.
        expected: AuditHead,
    },
    /// It is sound in itself, and is not the journal whose head was noted.
    #[error("the journal is not the one that {expected} was noted of: a record up to there was changed since")]
    Changed {
        /// The head that was noted.
        expected: AuditHead,
    },
    /// The record of the head that was noted is gone by now, as it may be.
    #[error("revision {} was pruned, and the journal begins at {oldest}: compare a later head", expected.revision)]
    Pruned {
        /// The oldest revision whose record is there.
        oldest: Revision,
        /// The head that was noted.
        expected: AuditHead,
    },
}

impl JournalFile {
    /// Opens the journal in `dir`. `is_still` promises that nobody writes there, as in a backup: then no file is made beside
    /// it either.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, is_still: bool) -> Result<Self, OpenError> {
        let path = dir.join("journal.sqlite");
        if !path.is_file() {
            return Err(OpenError::Store { path, cause: "there is no journal".into() });
        }
        let told = |error| fault::open_fault(error, &path);
        let connection = connect(&path, is_still).map_err(told)?;
        let format = schema::check_header(&connection, &path)?;
        let identity = schema::load_identity(&connection, &path)?;
        Ok(Self { connection, path, identity, format })
    }

    /// Who the journal is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The same for reading records.
    #[must_use]
    pub fn into_reader(self) -> Arc<dyn JournalReader> {
        Arc::new(Reader::of(self.connection))
    }

    /// Proves every record: contiguous, bound to the one before, decodable, its delta bound to the deltas before; and every
    /// carried revocation. Then compares the head that was noted earlier, if one was. Tells the chain after each of
    /// `chains_at` that is not before the oldest record.
    ///
    /// # Errors
    /// Names the first revision that is not what was written, or says how the journal differs from the head noted.
    pub fn audit(&self, expected: Option<AuditHead>, chains_at: &[Revision]) -> Result<Audited, AuditError> {
        let begun = self.connection.unchecked_transaction();
        let transaction = begun.map_err(|error| fault::read_fault(error, Revision(0)))?;
        let Bounds { anchor, head } = reader::bounds(&transaction)?;
        let oldest = anchor.through.next();
        let mut walked =
            Walked { chain: anchor.chain, expected, found: None, wrong: None, chains: Vec::new(), chains_at };
        walked.passed(anchor.through, anchor.checksum);
        let checksum = reader::walk(&transaction, oldest, |linked, _| walked.take(&linked))?;
        if let Some(wrong) = walked.wrong {
            return Err(wrong.into());
        }
        let carried = count_carried(&transaction, anchor.through)?;
        if let Some(expected) = expected {
            match walked.found {
                Some(true) => {}
                Some(false) => return Err(AuditError::Changed { expected }),
                None if expected.revision > head => return Err(AuditError::CutOff { head, expected }),
                None => return Err(AuditError::Pruned { oldest, expected }),
            }
        }
        let head = AuditHead { revision: head, checksum };
        Ok(Audited { format: self.format, oldest, head, carried, chains: walked.chains })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What is known on the way through the records.
struct Walked<'a> {
    chain: Chain,
    expected: Option<AuditHead>,
    /// Whether the expected head is the one that was come by.
    found: Option<bool>,
    wrong: Option<ReadError>,
    chains: Vec<(Revision, Chain)>,
    chains_at: &'a [Revision],
}

impl Walked<'_> {
    /// False: stop, it is wrong.
    fn take(&mut self, linked: &Linked) -> bool {
        let record = &linked.record;
        self.wrong = self.fault(linked).map(|what| ReadError::Corrupt { revision: record.revision, what });
        self.chain = record.chain_after;
        self.passed(record.revision, linked.checksum);
        self.wrong.is_none()
    }

    fn fault(&self, linked: &Linked) -> Option<String> {
        let record = &linked.record;
        if let Err(error) = Delta::decode(&record.delta) {
            return Some(format!("its delta {error}"));
        }
        let follows = self.chain.next(&record.delta) == record.chain_after;
        (!follows).then(|| "its delta is not bound to those before".to_owned())
    }

    fn passed(&mut self, revision: Revision, checksum: [u8; 32]) {
        if let Some(expected) = self.expected.filter(|expected| expected.revision == revision) {
            self.found = Some(expected.checksum == checksum);
        }
        if self.chains_at.contains(&revision) {
            self.chains.push((revision, self.chain));
        }
    }
}

/// Reads each of them, which checks it.
fn count_carried(connection: &Connection, pruned_through: Revision) -> Result<u64, ReadError> {
    let (mut count, mut after) = (0, None);
    loop {
        let rows = reader::carried(connection, after, CARRIED_ROWS)?;
        if let Some(early) = rows.iter().find(|carried| carried.id.revision > pruned_through) {
            let what = "a revocation is carried whose record was not pruned".to_owned();
            return Err(ReadError::Corrupt { revision: early.id.revision, what });
        }
        count += rows.len() as u64;
        match rows.last().map(Carried::key) {
            None => return Ok(count),
            last => after = last,
        }
    }
}

fn connect(path: &Path, is_still: bool) -> Result<Connection, rusqlite::Error> {
    if is_still {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        return Connection::open_with_flags(still_uri(path), flags);
    }
    schema::open_reader(path)
}

/// `file:` and the path, every byte that a URI gives a meaning spelt out. What is immutable has no write-ahead log.
fn still_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_part_of_the_question() {
        assert_eq!(still_uri(Path::new("/a b/c?d#e%/ü")), "file:/a%20b/c%3Fd%23e%25/%C3%BC?immutable=1");
    }
}
