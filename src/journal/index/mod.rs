//! The search index: a second database that follows the journal and can always be rebuilt from it.
//!
//! ```text
//! journal ── notify ──▶ thread ── read from the first revision it lacks ──▶ <data>/index.sqlite ──▶ query
//! ```
//!
//! Nothing waits for it: it lags behind the journal, and every answer says through which revision it speaks. It is never
//! asked what is revoked; checks and reinstatements do not read it.
//!
//! # Invariants
//! - X1. The index at revision r holds exactly what a rebuild from the journal would hold at r.
//! - X2. An index that cannot be trusted (damaged, of another format, epoch or history) is thrown away, never read.

mod apply;
mod follow;
mod query;
mod schema;
mod search;
#[cfg(test)]
mod tests;
pub(crate) mod token;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
pub use query::{PAGE_ROWS_MAX, Page, Query, QueryError, Reinstated, Row};
use rusqlite::Connection;

use self::follow::Follower;
use self::schema::State;
use super::JournalReader;
use super::error::Cause as IndexCause;
use super::identity::Identity;
use crate::revocation::{Revision, RevocationId};

/// The running index. Dropping it stops and joins its thread.
pub struct Index {
    identity: Identity,
    shared: Arc<Shared>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

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
#[error("the search index {path} cannot be opened")]
pub struct IndexError {
    /// The file.
    pub path: String,
    /// What the system said.
    #[source]
    pub cause: IndexCause,
}

/// How the index is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexStatus {
    /// The last revision in it.
    pub indexed_through: Revision,
    /// What keeps it from following, if anything does; it tries again at each notification.
    pub trouble: Option<String>,
    /// How often it was found damaged and rebuilt since the start.
    pub rebuilds: u64,
    /// Why it was the last time.
    pub rebuilt_because: Option<String>,
}

/// What the thread and the callers share.
struct Shared {
    /// Held for one query, which is bounded by the rows it looks at.
    reader: Mutex<Connection>,
    status: Mutex<IndexStatus>,
    advanced: Condvar,
    stop: AtomicBool,
    /// A query met damage.
    damaged: AtomicBool,
}

impl Index {
    /// Opens `<dir>/index.sqlite`, or builds it, and starts to follow `journal`.
    ///
    /// # Errors
    /// When the file can neither be opened nor be replaced, or no thread can be started.
    pub fn open(dir: &Path, identity: &Identity, journal: Arc<dyn JournalReader>) -> Result<OpenedIndex, IndexError> {
        let path = dir.join("index.sqlite");
        let failed = |cause| IndexError { path: path.display().to_string(), cause };
        let (connection, state, rebuilding) = open_or_create(&path, identity, &*journal).map_err(failed)?;
        let reader = schema::open_reader(&path).map_err(|error| failed(error.into()))?;
        let shared = Arc::new(Shared::new(reader, state.through));
        let (wake, woken) = sync_channel(1);
        let (identity, follower) = (
            identity.clone(),
            Follower {
                path: path.clone(),
                identity: identity.clone(),
                journal,
                connection,
                state,
                shared: shared.clone(),
            },
        );
        let thread = std::thread::Builder::new().name("journal-index".into()).spawn(move || follower.run(&woken));
        let thread = Some(thread.map_err(|error| failed(error.into()))?);
        Ok(OpenedIndex { index: Self { identity, shared, wake: Some(wake), thread }, rebuilding })
    }

    /// Says that the journal has grown or was pruned. Never blocks; many calls are one.
    pub fn notify(&self) {
        if let Some(wake) = &self.wake {
            // A full channel means that a notification is waiting already.
            let _ = wake.try_send(());
        }
    }

    /// The last revision in the index.
    #[must_use]
    pub fn indexed_through(&self) -> Revision {
        self.shared.status.lock().indexed_through
    }

    /// What keeps it from following, if anything does; it tries again at each notification.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.status.lock().trouble.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> IndexStatus {
        self.shared.status.lock().clone()
    }

    /// Blocks until the index holds `revision`, for `timeout` at most, and says whether it does.
    #[must_use]
    pub fn wait_through(&self, revision: Revision, timeout: Duration) -> bool {
        let mut status = self.shared.status.lock();
        let wait = |status: &mut IndexStatus| status.indexed_through < revision;
        !self.shared.advanced.wait_while_for(&mut status, wait, timeout).timed_out()
    }

    /// Lists revocations, newest first. Blocks on the disk.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn query(&self, query: &Query) -> Result<Page, QueryError> {
        let answer = search::list(&self.shared.reader.lock(), &self.identity, query);
        self.note_damage(answer)
    }

    /// One revocation; `None` when there is none of this id, or no longer.
    ///
    /// # Errors
    /// [`QueryError::Store`].
    pub fn revocation(&self, id: RevocationId) -> Result<Option<Row>, QueryError> {
        let answer = search::one(&self.shared.reader.lock(), &self.identity, id);
        self.note_damage(answer)
    }

    /// Has a damaged index rebuilt.
    fn note_damage<T>(&self, answer: Result<T, QueryError>) -> Result<T, QueryError> {
        if let Err(QueryError::Store(cause)) = &answer
            && cause.downcast_ref().is_none_or(follow::is_damage)
        {
            self.shared.damaged.store(true, Ordering::Relaxed);
            self.notify();
        }
        answer
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(reader: Connection, indexed_through: Revision) -> Self {
        Self {
            reader: Mutex::new(reader),
            status: Mutex::new(IndexStatus { indexed_through, ..IndexStatus::default() }),
            advanced: Condvar::new(),
            stop: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        }
    }

    fn progress(&self, through: Revision, trouble: Option<String>) {
        let mut status = self.status.lock();
        (status.indexed_through, status.trouble) = (through, trouble);
        drop(status);
        self.advanced.notify_all();
    }

    fn rebuilt(&self, reason: String) {
        let mut status = self.status.lock();
        status.indexed_through = Revision(0);
        status.rebuilds += 1;
        status.rebuilt_because = Some(reason);
    }
}

/// The index, or an empty one and why the old one is gone.
fn open_or_create(
    path: &Path,
    identity: &Identity,
    journal: &dyn JournalReader,
) -> Result<(Connection, State, Option<String>), IndexCause> {
    let mut rebuilding = None;
    if path.try_exists()? {
        match schema::open(path, identity).and_then(|opened| check_history(opened, journal)) {
            Ok((connection, state)) => return Ok((connection, state, None)),
            Err(reason) => rebuilding = Some(reason),
        }
    }
    let connection = schema::create(path, identity)?;
    let state = schema::load_state(&connection)?;
    Ok((connection, state, rebuilding))
}

/// Whether the journal's history is the one that was indexed.
fn check_history(
    (connection, state): (Connection, State),
    journal: &dyn JournalReader,
) -> Result<(Connection, State), String> {
    let told = |error: super::ReadError| error.to_string();
    let (head, oldest) = (journal.head().map_err(told)?, journal.oldest().map_err(told)?);
    if state.through > head {
        return Err(format!("it ends at {}, after the journal's end at {head}", state.through));
    }
    if state.through >= oldest {
        let record = journal.record(state.through).map_err(told)?;
        if record.is_none_or(|record| record.chain_after != state.chain) {
            return Err(format!("at {} it followed another history", state.through));
        }
    }
    Ok((connection, state))
}
