//! Who was denied what: counted, and written to a file on this machine, where whoever was denied cannot reach it.
//!
//! ```text
//! note ── queue ──▶ thread "denied" ── window: one tally for each principal, peer, call and reason
//!   └── counts                            └ every 5 s ──▶ a line each, chained ──▶ denied.ndjson ──▶ denied.ndjson.1
//! ```
//!
//! Never waits for the disk where requests are answered, and holds no secret: what was presented is not among what is noted.
//!
//! # Invariants
//! - D1. A line holds the hash of the line before it, over rotations too. Whoever changes or takes out a line changes the
//!   hash of every later one: note the last hash down elsewhere, and compare.
//! - D2. What could not be written is counted in the next line (`lost`). A flood takes no more lines than one window holds.
//! - D3. What is noted is on disk within a window, unless the process is killed before; it is not synced.

mod file;
mod line;
#[cfg(test)]
mod tests;
mod verify;
mod window;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::access::{Denial, DenialReason};
use crate::clock::Clock;
use crate::revocation::UnixMillis;
use file::DeniedFile;
use window::Window;

pub use file::DENIED_BYTES_MAX;
pub use verify::{Verified, VerifyError, verify};

/// Denials on their way to the thread; more are lost and counted.
const QUEUE: usize = 1024;
/// What is the same within it becomes one line.
const WINDOW: Duration = Duration::from_secs(5);

/// One denial, as it is noted.
#[derive(Clone, Debug)]
struct Noted {
    at: UnixMillis,
    denial: Denial,
    peer: String,
}

/// Counts denials and, if there is a file, has them written.
#[derive(Default)]
pub struct Denials {
    counts: [AtomicU64; DenialReason::NAMES.len()],
    audit: Option<Audit>,
}

/// Owns the thread that writes.
struct Audit {
    clock: Clock,
    queue: RwLock<Option<SyncSender<Noted>>>,
    lost: std::sync::Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why denials cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("denied requests cannot be written to {path}")]
pub struct AuditError {
    /// The file.
    pub path: String,
    /// What the system said.
    #[source]
    pub cause: io::Error,
}

impl Denials {
    /// Counts and writes to the file at `path`, going on from what it holds.
    ///
    /// # Errors
    /// When it cannot be opened, or no thread can be started.
    pub fn written(path: &Path, clock: Clock) -> Result<Self, AuditError> {
        let failed = |cause| AuditError { path: path.display().to_string(), cause };
        let file = DeniedFile::open(path, DENIED_BYTES_MAX).map_err(failed)?;
        let (queue, noted) = sync_channel(QUEUE);
        let lost = std::sync::Arc::<AtomicU64>::default();
        let counted = std::sync::Arc::clone(&lost);
        let run = move || run(&noted, file, &counted);
        let thread = std::thread::Builder::new().name("denied".into()).spawn(run).map_err(failed)?;
        let (queue, thread) = (RwLock::new(Some(queue)), Mutex::new(Some(thread)));
        Ok(Self { counts: Default::default(), audit: Some(Audit { clock, queue, lost, thread }) })
    }

    /// Notes one. Does not wait.
    pub fn note(&self, denial: Denial, peer: String) {
        self.counts[denial.reason.index()].fetch_add(1, Ordering::Relaxed);
        let Some(audit) = &self.audit else { return };
        let noted = Noted { at: audit.clock.wall(), denial, peer };
        let is_taken = audit.queue.read().as_ref().is_some_and(|queue| queue.try_send(noted).is_ok());
        if !is_taken {
            audit.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many, in the order of [`DenialReason::NAMES`].
    #[must_use]
    pub fn counts(&self) -> [u64; DenialReason::NAMES.len()] {
        std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed))
    }

    /// Writes what is left and ends the thread. May block for as long as the disk does.
    pub fn stop(&self) {
        let Some(audit) = &self.audit else { return };
        drop(audit.queue.write().take());
        if let Some(thread) = audit.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes denied requests failed");
        }
    }
}

impl Drop for Denials {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Denials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Denials").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

fn run(noted: &Receiver<Noted>, mut file: DeniedFile, lost: &AtomicU64) {
    let clock = Clock::system();
    let (mut window, mut is_failing) = (Window::default(), false);
    while let Ok(first) = noted.recv() {
        window.note(first);
        let ends = clock.boot().0 + WINDOW;
        let is_over = loop {
            match noted.recv_timeout(ends.saturating_sub(clock.boot().0)) {
                Ok(more) => window.note(more),
                Err(RecvTimeoutError::Timeout) => break false,
                Err(RecvTimeoutError::Disconnected) => break true,
            }
        };
        let missed = lost.swap(0, Ordering::Relaxed);
        let (lines, denials) = window.take();
        match file.append(lines, missed) {
            Ok(()) => is_failing = false,
            Err(error) => {
                lost.fetch_add(missed.saturating_add(denials), Ordering::Relaxed);
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!(%error, path = %file.path().display(), "denied requests are not written");
                }
            }
        }
        if is_over {
            return;
        }
    }
}
