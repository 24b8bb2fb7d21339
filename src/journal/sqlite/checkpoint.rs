//! Moving committed pages from the write-ahead log into the database, off the commit thread.
//!
//! A thread with its own connection copies pages whenever a few MiB have been committed; that blocks neither writer nor
//! readers. The log can only start over at a moment when everything in it has been copied, which a busy writer never
//! gives: so past [`WAL_BYTES_MAX`] the writer copies the small rest itself, and its next commit begins the log anew.
//!
//! A copy that fails happens later, with one exception: after a sync that failed nobody knows what the disk holds, and the
//! system may not say so a second time. Then the journal is to write no more.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use rusqlite::{Connection, Error, ffi};

use super::schema::open_connection;

/// Committed bytes between two background checkpoints: small enough that one is quick, and its sync too.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// Committed bytes after which the writer makes the log start over. Bounds the log, the time a start needs, and the
/// look-up structure in memory.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// What a page of the log costs beside the record: the frame's header, the rest of the page.
const COMMIT_OVERHEAD_BYTES: u64 = 4096 + 24;

/// The thread, and the count of bytes that wakes it.
#[derive(Debug)]
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The first sync that failed.
    failed_sync: Arc<OnceLock<String>>,
    bytes_since_wake: u64,
    bytes_since_restart: u64,
}

impl Checkpoints {
    /// Starts the thread.
    pub(super) fn start(path: &Path) -> std::io::Result<Self> {
        let connection = open_connection(path).map_err(std::io::Error::other)?;
        let (wake, woken) = sync_channel(1);
        let failed_sync = Arc::new(OnceLock::new());
        let told = Arc::clone(&failed_sync);
        let run = move || run(&connection, &woken, &told);
        let thread = std::thread::Builder::new().name("journal-checkpoint".into()).spawn(run)?;
        Ok(Self { wake: Some(wake), thread: Some(thread), failed_sync, bytes_since_wake: 0, bytes_since_restart: 0 })
    }

    /// Why nothing may be written any more; `None` while no sync of a copy has failed.
    pub(super) fn failed_sync(&self) -> Option<&str> {
        self.failed_sync.get().map(String::as_str)
    }

    /// A commit of `bytes` was made on `writer`. Never fails: a copy that does not happen happens later.
    pub(super) fn committed(&mut self, bytes: usize, writer: &Connection) {
        let bytes = bytes as u64 + COMMIT_OVERHEAD_BYTES;
        self.bytes_since_wake += bytes;
        self.bytes_since_restart += bytes;
        if self.bytes_since_wake >= CHECKPOINT_BYTES {
            self.bytes_since_wake = 0;
            // A full channel means that the thread has yet to begin the last one.
            if let Some(wake) = &self.wake {
                let _ = wake.try_send(());
            }
        }
        if self.bytes_since_restart >= WAL_BYTES_MAX && is_complete(writer, &self.failed_sync) {
            self.bytes_since_restart = 0;
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, woken: &Receiver<()>, failed_sync: &OnceLock<String>) {
    while woken.recv().is_ok() {
        is_complete(connection, failed_sync);
    }
}

/// Copies what can be copied without waiting, and says whether that is all of it.
fn is_complete(connection: &Connection, failed_sync: &OnceLock<String>) -> bool {
    let counts = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    if let Err(error) = &counts
        && is_failed_sync(error)
    {
        // Only the first one counts.
        let _ = failed_sync.set(error.to_string());
    }
    // Busy is not complete: the counts say nothing then.
    counts.is_ok_and(|(busy, in_log, copied)| busy == 0 && in_log == copied)
}

fn is_failed_sync(error: &Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.is_some_and(|code| matches!(code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}
