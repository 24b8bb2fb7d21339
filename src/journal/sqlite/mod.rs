//! The embedded store: SQLite, one append-only table, a sync before every answer.
//!
//! ```text
//! <data>/lock            held for as long as the process lives
//! <data>/journal.sqlite  records, carried revocations, identity (0600; -wal and -shm beside it)
//! ```
//!
//! Start: lock → create or open → copy the write-ahead log into the database and sync that → verify → ready.
//! The copy comes first because after a failed sync the system may show pages that never reached the disk: they are
//! written again before anybody is told of them.

mod audit;
mod checkpoint;
mod copy;
mod fault;
mod prune;
mod reader;
mod restore;
mod schema;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

pub use self::audit::{AuditError, Audited, JournalFile};
use self::checkpoint::Checkpoints;
pub use self::copy::{Copied, copy_journal};
use self::prune::Failure;
use self::reader::Reader;
pub use self::restore::{HeldCredentials, RestoreError, Restoring, copy_private};
use super::carried::RevocationKey;
use super::checksum::{self, Checksum};
use super::error::{AppendError, OpenError, PruneError, ReadError};
use super::folder::create_private_folder;
use super::identity::Identity;
use super::record::Record;
use super::{Durable, Journal, JournalReader, LiveExpiry, PruneLimits, Pruned, pruning};
use crate::clock::Clock;
use crate::revocation::{Position, Revision};

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where a new journal's creation time comes from.
    pub clock: Clock,
    /// Records after this revision are verified, those up to it are trusted: the last durable snapshot's. It must not lie
    /// past the head. Zero: everything is verified. Every later read verifies what it reads, whatever this says.
    pub verify_after: Revision,
}

/// A journal, opened.
#[derive(Debug)]
pub struct Opened {
    /// The writing end.
    pub journal: EmbeddedJournal,
    /// Whether it was created just now.
    pub created: bool,
}

/// The writing end of a journal in a directory of its own. One process at a time.
#[derive(Debug)]
pub struct EmbeddedJournal {
    checkpoints: Checkpoints,
    connection: Connection,
    path: PathBuf,
    lock_path: PathBuf,
    identity: Identity,
    head: Revision,
    checksum: Checksum,
    credentials_end: Option<Revision>,
    /// Why nothing is written any more.
    poisoned: Option<String>,
    /// Where the next look at carried revocations begins.
    release_after: Option<RevocationKey>,
    /// Last, so that it is let go of after everything else is closed.
    _lock: File,
}

impl EmbeddedJournal {
    /// Opens the journal in `dir`, or creates both, and verifies what [`Options::verify_after`] asks for.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is repaired.
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
        create_private_folder(dir).map_err(|error| fault::system_fault(error, dir))?;
        let lock_path = dir.join("lock");
        let lock = lock(dir, &lock_path)?;
        let path = dir.join("journal.sqlite");
        let created = ensure_exists(&path, options)?;
        let connection = schema::open_writer(&path)?;
        settle(&connection).map_err(|error| fault::open_fault(error, &path))?;
        let identity = schema::load_identity(&connection, &path)?;
        let credentials_end = schema::load_credentials_end(&connection, &path)?;
        let (head, checksum) =
            verify(&connection, options.verify_after).map_err(|error| fault::verify_fault(error, &path))?;
        schema::upgrade(&connection).map_err(|error| fault::open_fault(error, &path))?;
        let checkpoints = Checkpoints::start(&path).map_err(|error| fault::system_fault(error, &path))?;
        let (poisoned, release_after) = (None, None);
        let journal = Self {
            checkpoints,
            connection,
            path,
            lock_path,
            identity,
            head,
            checksum,
            credentials_end,
            poisoned,
            release_after,
            _lock: lock,
        };
        Ok(Opened { journal, created })
    }

    /// Verifies every record: contiguous, unchanged, decodable.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] with the first revision that is not what was written.
    pub fn verify_all(&self) -> Result<(), ReadError> {
        verify(&self.connection, Revision(0)).map(drop)
    }

    /// Refuses to write from now on.
    fn poison(&mut self, error: AppendError) -> AppendError {
        if let AppendError::Poisoned(reason) = &error {
            self.poisoned = Some(reason.clone());
            // What the write-ahead log holds is for the next start to judge; closing must not tidy it away. If even this
            // setting fails, closing copies only what was committed.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        }
        error
    }

    fn check_writable(&mut self) -> Result<(), AppendError> {
        if self.poisoned.is_none()
            && let Some(reason) = self.checkpoints.failed_sync()
        {
            let error = AppendError::Poisoned(format!("copying the write-ahead log: {reason}"));
            return Err(self.poison(error));
        }
        self.poisoned.as_ref().map_or(Ok(()), |reason| Err(AppendError::Poisoned(reason.clone())))
    }

    fn insert(&self, revision: Revision, checksum: &Checksum, bytes: &[u8]) -> Result<(), rusqlite::Error> {
        let sql = "INSERT INTO records (revision, checksum, bytes) VALUES (?1, ?2, ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        // A transaction of its own: it returns after the write-ahead log is synced.
        statement.execute(params![revision.0, checksum, bytes]).map(drop)
    }
}

impl Journal for EmbeddedJournal {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn head(&self) -> Revision {
        self.head
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }

    fn drops_credentials(&self) -> bool {
        self.credentials_end == Some(self.head)
    }

    fn append(&mut self, record: &Record) -> Result<Durable<Position>, AppendError> {
        self.check_writable()?;
        if record.revision != self.head.next() {
            return Err(AppendError::OutOfOrder { head: self.head, given: record.revision });
        }
        let bytes = record.encode()?;
        let checksum = checksum::link(&self.checksum, record.revision, &bytes);
        if let Err(error) = self.insert(record.revision, &checksum, &bytes) {
            let error = fault::write_fault(&error, &self.lock_path);
            return Err(self.poison(error));
        }
        (self.head, self.checksum) = (record.revision, checksum);
        self.checkpoints.committed(bytes.len(), &self.connection);
        Ok(Durable::new(Position { epoch: self.identity.epoch.id, revision: record.revision }))
    }

    fn reader(&self) -> Result<Arc<dyn JournalReader>, ReadError> {
        Ok(Arc::new(Reader::open(&self.path)?))
    }

    fn prune(&mut self, limits: &PruneLimits, live: &LiveExpiry<'_>) -> Result<Pruned, PruneError> {
        self.check_writable()?;
        let cut = pruning::plan(&Reader::open(&self.path)?, &self.identity, limits, live)?;
        let release = prune::plan_release(&self.connection, self.release_after, limits, live)?;
        match prune::apply(&mut self.connection, &cut, &release) {
            Ok(pruned) => {
                self.release_after = release.next;
                self.checkpoints.committed(0, &self.connection);
                Ok(pruned)
            }
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Store(error)) => {
                let error = fault::write_fault(&error, &self.lock_path);
                Err(self.poison(error).into())
            }
        }
    }
}

fn lock(dir: &Path, path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| fault::system_fault(error, path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(fault::system_fault(error, path)),
    }
}

/// Says whether the journal had to be created.
fn ensure_exists(path: &Path, options: &Options) -> Result<bool, OpenError> {
    let exists = |path: &Path| fs::exists(path).map_err(|error| fault::system_fault(error, path));
    if exists(path)? {
        return Ok(false);
    }
    if exists(&schema::suffixed(path, "-wal"))? {
        let what = "the journal's file is gone and its write-ahead log is still there".to_owned();
        return Err(OpenError::Corrupt { revision: Revision(0), what });
    }
    if exists(&schema::suffixed(path, restore::RESTORING))? {
        let what = "a restore into this directory did not end; empty the directory and restore again".to_owned();
        return Err(OpenError::Corrupt { revision: Revision(0), what });
    }
    let identity = Identity::generate(options.clock.wall())
        .map_err(|error| OpenError::Store { path: path.to_owned(), cause: error.into() })?;
    schema::create(path, &identity)?;
    Ok(true)
}

/// Writes everything that was recovered once more, and syncs it.
fn settle(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Verifies the records after `after`, the last one at least, and says the head and its checksum.
fn verify(connection: &Connection, after: Revision) -> Result<(Revision, Checksum), ReadError> {
    let transaction = connection.unchecked_transaction().map_err(|error| fault::read_fault(error, after))?;
    let bounds = reader::bounds(&transaction)?;
    if after > bounds.head {
        let what = format!("the log ends at {}, before the state that was saved", bounds.head);
        return Err(ReadError::Corrupt { revision: bounds.head.next(), what });
    }
    let first = after.next().0.min(bounds.head.0).max(bounds.anchor.through.next().0);
    let checksum = reader::walk(&transaction, Revision(first), |_, _| true)?;
    Ok((bounds.head, checksum))
}
