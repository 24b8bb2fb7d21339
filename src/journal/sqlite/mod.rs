//! The embedded store.

use std::path::Path;
use std::sync::Arc;

use super::error::{AppendError, OpenError, PruneError, ReadError};
use super::identity::Identity;
use super::record::Record;
use super::{Durable, Journal, JournalReader, LiveExpiry, PruneLimits, Pruned};
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
pub struct EmbeddedJournal(());

impl EmbeddedJournal {
    /// Opens the journal in `dir`, or creates both, and verifies what [`Options::verify_after`] asks for.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is repaired.
    pub fn open(_dir: &Path, _options: &Options) -> Result<Opened, OpenError> {
        unreachable!()
    }

    /// Verifies every record: contiguous, unchanged, decodable.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] with the first revision that is not what was written.
    pub fn verify_all(&self) -> Result<(), ReadError> {
        unreachable!()
    }
}

impl Journal for EmbeddedJournal {
    fn identity(&self) -> &Identity {
        unreachable!()
    }

    fn head(&self) -> Revision {
        unreachable!()
    }

    fn append(&mut self, _record: &Record) -> Result<Durable<Position>, AppendError> {
        unreachable!()
    }

    fn reader(&self) -> Result<Arc<dyn JournalReader>, ReadError> {
        unreachable!()
    }

    fn prune(&mut self, _limits: &PruneLimits, _live: &LiveExpiry<'_>) -> Result<Pruned, PruneError> {
        unreachable!()
    }
}
