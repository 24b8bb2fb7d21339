//! From a backup to a data directory in which a server can start, as an epoch of its own.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, ManifestError};
use crate::authority::credentials::CredentialTable;
use crate::authority::snapshot;
use crate::journal::{Body, HeldCredentials, ReadError, RestoreError, Restoring, copy_private};
use crate::revocation::{Ancestor, Epoch, Position, Revision};

/// How much of the journal is read at a time, in bytes and in records.
const READ_BYTES: usize = 1 << 20;
const READ_RECORDS: usize = 4096;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreBackupError {
    /// The directory is no complete backup.
    #[error("{} is no complete backup: it has no manifest, and is no data directory either", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
    },
    /// The backup's files are not those that were backed up.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its journal cannot be restored.
    #[error(transparent)]
    Journal(#[from] RestoreError),
    /// Its records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal was pruned, and no snapshot that is sound stands in for what is gone.
    #[error("the backup has no sound snapshot, and its journal begins at revision {oldest}")]
    NoSnapshot {
        /// The oldest revision of the journal.
        oldest: Revision,
    },
    /// The folder of snapshots cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new epoch.
    pub epoch: Epoch,
    /// The epoch it descends from, and the last revision taken over.
    pub parent: Ancestor,
    /// The snapshot that a start will begin with, if there is one.
    pub snapshot: Option<Revision>,
    /// How many credentials the backup holds.
    pub credentials: usize,
}

impl Restored {
    /// Where the new epoch begins.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.id, revision: self.parent.last }
    }
}

/// Restores `backup` into `data_dir`, which is created or empty. No server may run in either.
///
/// # Errors
/// See [`RestoreBackupError`]. What was begun in `data_dir` is removed again.
pub fn restore(backup: &Path, data_dir: &Path, held: HeldCredentials) -> Result<Restored, RestoreBackupError> {
    match Manifest::read(backup)? {
        Some(manifest) => manifest.verify(backup)?,
        None if backup.join("lock").is_file() => {}
        None => return Err(RestoreBackupError::Incomplete { path: backup.to_owned() }),
    }
    let restoring = Restoring::begin(backup, data_dir, held)?;
    let folder = data_dir.join("snapshots");
    let copied = copy_snapshots(&backup.join("snapshots"), &folder, &restoring);
    let counted = copied.and_then(|(snapshot, table)| {
        let from = snapshot.unwrap_or_default();
        Ok((snapshot, credentials_after(table, from, &restoring)?))
    });
    match counted {
        Ok((snapshot, credentials)) => {
            let identity = restoring.finish()?;
            let parent = identity.parent().expect("a restored journal has a parent");
            Ok(Restored { epoch: identity.epoch, parent, snapshot, credentials })
        }
        Err(error) => {
            // It was made just now, in a directory that was empty.
            let _ = std::fs::remove_dir_all(&folder);
            Err(error)
        }
    }
}

/// How many credentials there are at the journal's head, `table` being those at `from`.
fn credentials_after(
    mut table: CredentialTable,
    from: Revision,
    restoring: &Restoring,
) -> Result<usize, RestoreBackupError> {
    let reader = restoring.reader()?;
    let mut next = from.next();
    while next <= restoring.head() {
        let records = reader.read(next, READ_BYTES, READ_RECORDS)?;
        for record in &records {
            let change = match &record.body {
                Body::Credentials(change) => Some(change),
                _ => None,
            };
            table.apply(change, record.floor());
        }
        next = Revision(next.0 + records.len().max(1) as u64);
    }
    Ok(table.kept().len())
}

/// Copies the newest snapshot that is sound and part of the journal's history; says its revision and its credentials.
fn copy_snapshots(
    from: &Path,
    to: &Path,
    restoring: &Restoring,
) -> Result<(Option<Revision>, CredentialTable), RestoreBackupError> {
    let told = |source| RestoreBackupError::Io { path: to.to_owned(), source };
    DirBuilder::new().mode(0o700).create(to).map_err(told)?;
    let found = if from.is_dir() {
        snapshot::list(from).map_err(|source| RestoreBackupError::Io { path: from.to_owned(), source })?
    } else {
        Vec::new()
    };
    let identity = restoring.identity();
    for path in found {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        copy_private(&path, &target)?;
        match snapshot::load(&target, &identity.set_key) {
            Ok(loaded)
                if identity.takes_over(loaded.header.epoch, loaded.header.revision)
                    && loaded.header.revision.next() >= restoring.oldest() =>
            {
                std::fs::File::open(to).and_then(|folder| folder.sync_all()).map_err(told)?;
                return Ok((Some(loaded.header.revision), loaded.behind.credentials));
            }
            Ok(_) => tracing::warn!(path = %path.display(), "snapshot passed over: it is not of this history"),
            Err(error) => tracing::warn!(%error, "snapshot passed over"),
        }
        std::fs::remove_file(&target).map_err(told)?;
    }
    match restoring.oldest() {
        oldest if oldest > Revision(1) => Err(RestoreBackupError::NoSnapshot { oldest }),
        _ => Ok((None, CredentialTable::default())),
    }
}
