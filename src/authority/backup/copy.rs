//! A backup of a running authority, as a stream of parts.
//!
//! The copies exist only as open files: their names are taken away as soon as they are complete, so nothing is left
//! behind whatever happens to the stream.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use crate::authority::snapshot::{self, SnapshotReader};
use crate::journal::copy_journal;
use crate::revocation::ports::{BACKUP_CHUNK_BYTES, BackupPart, OperateError};
use crate::revocation::{Epoch, Position, Revision};

/// The copy of the journal while it is being made.
const PARTIAL: &str = "backup.partial";

/// Makes backups, one at a time.
#[derive(Debug)]
pub struct Backups {
    data_dir: PathBuf,
    epoch: Epoch,
    busy: Arc<AtomicBool>,
}

impl Backups {
    /// Of the authority in `data_dir`.
    #[must_use]
    pub fn new(data_dir: PathBuf, epoch: Epoch) -> Self {
        Self { data_dir, epoch, busy: Arc::default() }
    }

    /// Begins one. It does nothing before its first part is asked for.
    ///
    /// # Errors
    /// While another one is not yet dropped.
    pub fn begin(&self) -> Result<Parts, OperateError> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(OperateError::Busy);
        }
        let turn = Turn(Arc::clone(&self.busy));
        let (data_dir, epoch) = (self.data_dir.clone(), self.epoch);
        Ok(Parts { stage: Stage::Copy { data_dir, epoch }, files: VecDeque::new(), sent: 0, _turn: turn })
    }
}

/// Held by the one backup that is being made.
#[derive(Debug)]
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The parts of one backup, in order.
#[derive(Debug)]
pub struct Parts {
    stage: Stage,
    files: VecDeque<(String, File)>,
    sent: u32,
    _turn: Turn,
}

#[derive(Debug)]
enum Stage {
    Copy { data_dir: PathBuf, epoch: Epoch },
    Between,
    In { file: File, left: u64, hash: Sha256 },
    Ended,
}

impl Iterator for Parts {
    type Item = Result<BackupPart, OperateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Copy { data_dir, epoch } => self.copy(&data_dir, epoch),
            Stage::Between => self.next_file(),
            Stage::In { file, left, hash } => self.chunk(file, left, hash),
            Stage::Ended => return None,
        };
        Some(part.map_err(OperateError::Unavailable))
    }
}

impl Parts {
    fn copy(&mut self, data_dir: &Path, epoch: Epoch) -> Result<BackupPart, String> {
        // The snapshot first: what it holds is in every later copy of the journal. Opened, it stays even if it is replaced.
        let snapshot = newest_snapshot(&data_dir.join("snapshots"))?;
        let partial = data_dir.join(PARTIAL);
        let copied = copy_journal(data_dir, &partial).map_err(|error| told(&error));
        let file = File::open(&partial).map_err(|error| error.to_string());
        // Whole or not, it needs no name any more.
        let _ = std::fs::remove_file(&partial);
        let (copied, file) = (copied?, file?);
        let reaches = snapshot.as_ref().map_or(Revision(0), |(revision, ..)| *revision);
        if copied.oldest > reaches.next() {
            return Err("the journal was pruned meanwhile; try again".into());
        }
        self.files.push_back(("journal.sqlite".into(), file));
        self.files.extend(snapshot.map(|(_, name, file)| (name, file)));
        self.stage = Stage::Between;
        Ok(BackupPart::Position(Position { epoch: epoch.id, revision: copied.head }))
    }

    fn next_file(&mut self) -> Result<BackupPart, String> {
        let Some((name, file)) = self.files.pop_front() else { return Ok(BackupPart::End { files: self.sent }) };
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        self.sent += 1;
        self.stage = Stage::In { file, left: length, hash: Sha256::new() };
        Ok(BackupPart::File { name, length })
    }

    fn chunk(&mut self, mut file: File, left: u64, mut hash: Sha256) -> Result<BackupPart, String> {
        if left == 0 {
            self.stage = Stage::Between;
            return Ok(BackupPart::FileEnd { sha256: hash.finalize().into() });
        }
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(BACKUP_CHUNK_BYTES);
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        hash.update(&bytes);
        self.stage = Stage::In { file, left: left - size as u64, hash };
        Ok(BackupPart::Chunk(bytes))
    }
}

/// The newest snapshot whose header is sound, opened.
fn newest_snapshot(folder: &Path) -> Result<Option<(Revision, String, File)>, String> {
    for path in snapshot::list(folder).map_err(|error| error.to_string())? {
        let (Ok(file), Ok(reader)) = (File::open(&path), SnapshotReader::open(&path)) else { continue };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        return Ok(Some((reader.header().revision, format!("snapshots/{name}"), file)));
    }
    Ok(None)
}

fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
