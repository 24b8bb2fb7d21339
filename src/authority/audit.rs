//! What lies in a data directory or a backup, proved sound without changing it.

use std::path::{Path, PathBuf};

use super::backup::{Manifest, ManifestError};
use super::snapshot::{self, SnapshotFileError, SnapshotReader};
use crate::journal::{AuditError, Audited, Identity, JournalFile};
use crate::revocation::ports::AuditHead;
use crate::revocation::{Epoch, Revision};

/// A journal and its snapshots, which agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// The journal's epoch.
    pub epoch: Epoch,
    /// What the journal says of itself.
    pub journal: Audited,
    /// The revisions of the snapshots beside it, newest first.
    pub snapshots: Vec<Revision>,
}

/// Why a directory does not pass.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file of the backup is not the one that was backed up.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The journal does not pass.
    #[error(transparent)]
    Journal(#[from] AuditError),
    /// A snapshot is damaged, or cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotFileError),
    /// A snapshot is whole, and not of this journal.
    #[error("snapshot {}: {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How it differs.
        what: &'static str,
    },
    /// The folder of snapshots cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Proves the journal in `dir`, and the snapshots beside it: each record, each row, and that they are of one history. With
/// `expected`, a head that was noted earlier, also that nothing up to there was changed or cut off since.
///
/// A server may run in `dir` meanwhile.
///
/// # Errors
/// Names the first thing that is not as it was written.
pub fn verify(dir: &Path, expected: Option<AuditHead>) -> Result<Sound, VerifyError> {
    let manifest = Manifest::read(dir)?;
    if let Some(manifest) = &manifest {
        manifest.verify(dir)?;
    }
    // Before the journal: whatever a snapshot holds is in it by then.
    let snapshots = snapshots(&dir.join("snapshots"))?;
    let at: Vec<Revision> = snapshots.iter().map(|(_, revision)| *revision).collect();
    let file = JournalFile::open(dir, manifest.is_some()).map_err(AuditError::from)?;
    let journal = file.audit(expected, &at)?;
    let mut sound = Sound { epoch: file.identity().epoch, journal, snapshots: Vec::new() };
    for (path, _) in snapshots {
        sound.snapshots.extend(proved(&path, file.identity(), &sound.journal)?);
    }
    Ok(sound)
}

fn snapshots(folder: &Path) -> Result<Vec<(PathBuf, Revision)>, VerifyError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let listed = snapshot::list(folder).map_err(|source| VerifyError::Io { path: folder.to_owned(), source })?;
    let mut all = Vec::new();
    for path in listed {
        match SnapshotReader::open(&path) {
            Ok(reader) => all.push((path, reader.header().revision)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// The snapshot's revision; `None` when the server put a newer one in its place meanwhile.
fn proved(path: &Path, identity: &Identity, journal: &Audited) -> Result<Option<Revision>, VerifyError> {
    let header = match snapshot::load(path, &identity.set_key) {
        Ok(loaded) => loaded.header,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let foreign = |what| VerifyError::Foreign { path: path.to_owned(), what };
    if !identity.takes_over(header.epoch, header.revision) {
        return Err(foreign("it is of another history"));
    }
    if header.revision > journal.head.revision {
        return Err(foreign("it is ahead of the journal, whose last records are missing"));
    }
    let chain = journal.chains.iter().find(|(revision, _)| *revision == header.revision);
    if chain.is_some_and(|(_, chain)| *chain != header.chain) {
        return Err(foreign("it does not follow from the journal's records"));
    }
    Ok(Some(header.revision))
}

fn is_gone(error: &SnapshotFileError) -> bool {
    matches!(error, SnapshotFileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}
