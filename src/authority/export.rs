//! The records of the journal, handed out while the server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::journal::{Identity, JournalReader, Linked, ReadError};
use crate::revocation::ports::{ExportPart, ExportedRecord, OperateError};
use crate::revocation::{Position, Revision};

/// How many exports run at once: each reads the disk beside the writer.
const EXPORTS_MAX: usize = 2;
/// About how many bytes of records are in one part; a longer record comes alone.
const PART_BYTES: usize = 256 << 10;
/// The most records in one part.
const PART_RECORDS_MAX: usize = 1024;

/// Exports the journal, a few times at once.
pub struct Exports {
    reader: Arc<dyn JournalReader>,
    identity: Identity,
    running: Arc<AtomicUsize>,
}

impl Exports {
    /// Of this journal. The reading end is for exports alone: they hold it long.
    #[must_use]
    pub fn new(reader: Arc<dyn JournalReader>, identity: Identity) -> Self {
        Self { reader, identity, running: Arc::default() }
    }

    /// Begins one at `from`; zero: at the oldest record. It does nothing before its first part is asked for.
    ///
    /// # Errors
    /// While as many others are not yet dropped.
    pub fn begin(&self, from: Revision) -> Result<Parts, OperateError> {
        let turn = Turn(Arc::clone(&self.running));
        if turn.0.fetch_add(1, Ordering::AcqRel) >= EXPORTS_MAX {
            return Err(OperateError::Busy);
        }
        Ok(Parts {
            reader: Arc::clone(&self.reader),
            identity: self.identity.clone(),
            stage: Stage::Begin(from),
            _turn: turn,
        })
    }
}

/// Held by an export that runs.
#[derive(Debug)]
struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The parts of one export, in order.
pub struct Parts {
    reader: Arc<dyn JournalReader>,
    identity: Identity,
    stage: Stage,
    _turn: Turn,
}

enum Stage {
    Begin(Revision),
    Records { next: Revision, head: Revision },
    Ended,
}

impl Iterator for Parts {
    type Item = Result<ExportPart, OperateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let part = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Begin(from) => self.start(from),
            Stage::Records { next, head } if next <= head => self.records(next, head),
            Stage::Records { .. } | Stage::Ended => return None,
        };
        Some(part)
    }
}

impl Parts {
    fn start(&mut self, from: Revision) -> Result<ExportPart, OperateError> {
        let head = self.reader.head().map_err(refused)?;
        let oldest = self.reader.oldest().map_err(refused)?;
        let next = if from == Revision(0) { oldest } else { from };
        if next < oldest {
            return Err(OperateError::Pruned { oldest });
        }
        if next > head.next() {
            return Err(OperateError::PastEnd { head });
        }
        self.stage = Stage::Records { next, head };
        let Identity { epoch, ancestors, .. } = &self.identity;
        let head = Position { epoch: epoch.id, revision: head };
        Ok(ExportPart::Begin { head, generation: epoch.generation, ancestors: ancestors.clone() })
    }

    fn records(&mut self, next: Revision, head: Revision) -> Result<ExportPart, OperateError> {
        let mut exported = Vec::new();
        for Linked { checksum, record } in self.reader.linked(next, PART_BYTES, PART_RECORDS_MAX).map_err(refused)? {
            if record.revision > head {
                break;
            }
            let corrupt = |what: String| refused(ReadError::Corrupt { revision: record.revision, what });
            let bytes = record.encode().map_err(|error| corrupt(error.to_string()))?;
            exported.push(ExportedRecord { checksum, bytes });
        }
        self.stage = Stage::Records { next: Revision(next.0 + exported.len() as u64), head };
        Ok(ExportPart::Records(exported))
    }
}

fn refused(error: ReadError) -> OperateError {
    match error {
        ReadError::Pruned { oldest } => OperateError::Pruned { oldest },
        error => OperateError::Unavailable(error.to_string()),
    }
}
