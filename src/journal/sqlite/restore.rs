//! A copied journal that goes on as an epoch of its own.
//!
//! ```text
//! <backup>/journal.sqlite[-wal] ─ copy ─▶ <data>/journal.sqlite.restoring ─ verify, new identity ─▶ rename
//! ```
//!
//! The backup is only read. Until the last step there is no journal in the new directory, and no server starts there.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::reader::Reader;
use super::{fault, reader, schema, settle, verify};
use crate::journal::JournalReader;
use crate::journal::error::{OpenError, ReadError};
use crate::journal::folder::create_private_folder;
use crate::journal::identity::{DescendError, Identity};
use crate::revocation::Revision;

/// What a journal is called until it is restored.
pub(super) const RESTORING: &str = ".restoring";

/// Why a journal cannot be restored. The backup is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The new data directory holds something.
    #[error("{} is not empty; restore into a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// There is no journal in the backup.
    #[error("{} holds no journal", path.display())]
    NoJournal {
        /// The backup.
        path: PathBuf,
    },
    /// What is restored is no sound journal.
    #[error("the backup cannot be restored")]
    Unsound(#[from] OpenError),
    /// No epoch can descend from it.
    #[error(transparent)]
    Descend(#[from] DescendError),
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What becomes of the credentials that a backup holds. Those that were revoked after it are accepted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldCredentials {
    /// They stay.
    Keep,
    /// The first start revokes all of them, before it serves.
    Drop,
}

/// A journal that is copied and verified, and not yet where a server finds it. Dropped unfinished, it is removed again.
#[derive(Debug)]
pub struct Restoring {
    dir: PathBuf,
    work: PathBuf,
    identity: Identity,
    head: Revision,
    oldest: Revision,
    finished: bool,
    /// A data directory that is copied stays unused meanwhile.
    _backup_lock: Option<File>,
}

impl Restoring {
    /// Copies the journal in `backup` into `dir`, which is created or empty, verifies every record, and makes it an epoch
    /// that descends from the one it was.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn begin(backup: &Path, dir: &Path, credentials: HeldCredentials) -> Result<Self, RestoreError> {
        let source = backup.join("journal.sqlite");
        if !source.is_file() {
            return Err(RestoreError::NoJournal { path: backup.to_owned() });
        }
        let backup_lock = lock_backup(backup)?;
        make_empty(dir)?;
        let work = schema::suffixed(&dir.join("journal.sqlite"), RESTORING);
        let mut restoring = Self {
            dir: dir.to_owned(),
            work: work.clone(),
            identity: Identity::generate(Default::default()).map_err(DescendError::Random)?,
            head: Revision(0),
            oldest: Revision(1),
            finished: false,
            _backup_lock: backup_lock,
        };
        copy_private(&source, &work)?;
        let log = schema::suffixed(&source, "-wal");
        if log.is_file() {
            copy_private(&log, &schema::suffixed(&work, "-wal"))?;
        }
        sync(dir)?;
        restoring.descend(credentials)?;
        File::open(&work).and_then(|file| file.sync_all()).map_err(|source| io_error(&work, source))?;
        Ok(restoring)
    }

    /// Who the restored journal is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last revision taken over.
    #[must_use]
    pub fn head(&self) -> Revision {
        self.head
    }

    /// The oldest revision whose record is there; head + 1 when there is none.
    #[must_use]
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// Its records.
    ///
    /// # Errors
    /// When it cannot be opened once more.
    pub fn reader(&self) -> Result<Arc<dyn JournalReader>, ReadError> {
        Ok(Arc::new(Reader::open(&self.work)?))
    }

    /// Puts the journal where a server finds it. To be called after everything else is durable in the directory.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn finish(mut self) -> Result<Identity, RestoreError> {
        let path = self.dir.join("journal.sqlite");
        fs::rename(&self.work, &path).map_err(|source| io_error(&path, source))?;
        self.finished = true;
        sync(&self.dir)?;
        Ok(self.identity.clone())
    }

    fn descend(&mut self, credentials: HeldCredentials) -> Result<(), RestoreError> {
        let path = self.work.clone();
        let told = |error| fault::open_fault(error, &path);
        let mut connection = schema::open_writer(&path)?;
        settle(&connection).map_err(told)?;
        let identity = schema::load_identity(&connection, &path)?;
        verify(&connection, Revision(0)).map_err(|error| fault::verify_fault(error, &path))?;
        let bounds = reader::bounds(&connection).map_err(|error| fault::verify_fault(error, &path))?;
        (self.head, self.oldest) = (bounds.head, bounds.anchor.through.next());
        self.identity = identity.descend(bounds.head)?;
        let credentials_end = (credentials == HeldCredentials::Drop).then_some(bounds.head);
        rewrite(&mut connection, &self.identity, credentials_end).map_err(told)?;
        connection.close().map_err(|(_, error)| told(error))?;
        Ok(())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if !self.finished {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                // What cannot be removed keeps servers from starting there, which is right.
                let _ = fs::remove_file(schema::suffixed(&self.work, suffix));
            }
        }
    }
}

/// Without a write-ahead log at the end: the file is renamed, and is whole by itself.
fn rewrite(
    connection: &mut Connection,
    identity: &Identity,
    credentials_end: Option<Revision>,
) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    schema::store_identity(&transaction, identity)?;
    schema::upgrade(&transaction)?;
    if let Some(end) = credentials_end {
        schema::store_credentials_end(&transaction, end)?;
    }
    transaction.commit()?;
    connection.pragma_update(None, "journal_mode", "DELETE")
}

/// A data directory may be restored from like a backup, as long as no server runs in it.
fn lock_backup(backup: &Path) -> Result<Option<File>, RestoreError> {
    let path = backup.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, source)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: backup.to_owned() }.into()),
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

fn make_empty(dir: &Path) -> Result<(), RestoreError> {
    let told = |source| io_error(dir, source);
    create_private_folder(dir).map_err(told)?;
    // One that was there already may be open to others.
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(told)?;
    match fs::read_dir(dir).map_err(told)?.next() {
        None => Ok(()),
        Some(_) => Err(RestoreError::NotEmpty { path: dir.to_owned() }),
    }
}

/// Copies a file, durably, to one that only its owner can read.
///
/// # Errors
/// When `to` exists or the file system refuses.
pub fn copy_private(from: &Path, to: &Path) -> Result<(), RestoreError> {
    let mut input = File::open(from).map_err(|source| io_error(from, source))?;
    let output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut output = output.map_err(|source| io_error(to, source))?;
    io::copy(&mut input, &mut output).and_then(|_| output.sync_all()).map_err(|source| io_error(to, source))
}

/// Makes the names in `dir` durable.
fn sync(dir: &Path) -> Result<(), RestoreError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(|source| io_error(dir, source))
}

fn io_error(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Io { path: path.to_owned(), source }
}
