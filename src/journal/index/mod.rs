//! The search index: a second database that follows the journal and can always be rebuilt from it.

mod query;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use query::{PAGE_ROWS_MAX, Page, Query, QueryError, Reinstated, Row};

use super::JournalReader;
use super::error::Cause;
use super::identity::Identity;
use crate::revocation::{Revision, RevocationId};

/// The running index. Dropping it stops and joins its thread.
#[derive(Debug)]
pub struct Index(());

/// An index, opened.
#[derive(Debug)]
pub struct OpenedIndex {
    /// The running index.
    pub index: Index,
    /// Why an existing one was thrown away and is being rebuilt; worth a log line.
    pub rebuilding: Option<String>,
}

/// Why the index cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the search index in {dir} cannot be opened")]
pub struct IndexError {
    /// The data directory.
    pub dir: String,
    /// What the system said.
    #[source]
    pub cause: Cause,
}

impl Index {
    /// Opens `<dir>/index.sqlite` and starts to follow `journal`.
    ///
    /// # Errors
    /// When the file can neither be opened nor be replaced, or no thread can be started.
    pub fn open(
        _dir: &Path,
        _identity: &Identity,
        _journal: Arc<dyn JournalReader>,
    ) -> Result<OpenedIndex, IndexError> {
        unreachable!()
    }

    /// Says that the journal has grown or was pruned. Never blocks; many calls are one.
    pub fn notify(&self) {
        unreachable!()
    }

    /// The last revision in the index.
    #[must_use]
    pub fn indexed_through(&self) -> Revision {
        unreachable!()
    }

    /// What stopped the index from following, if anything did: it retries at each notification.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        unreachable!()
    }

    /// Blocks until the index holds `revision`, for `timeout` at most, and says whether it does.
    #[must_use]
    pub fn wait_through(&self, _revision: Revision, _timeout: Duration) -> bool {
        unreachable!()
    }

    /// Lists revocations, newest first. Blocks on the disk.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn query(&self, _query: &Query) -> Result<Page, QueryError> {
        unreachable!()
    }

    /// One revocation; `None` when there is none of this id, or no longer.
    ///
    /// # Errors
    /// [`QueryError::Store`].
    pub fn revocation(&self, _id: RevocationId) -> Result<Option<Row>, QueryError> {
        unreachable!()
    }
}
