//! The cache's ear on the driver's task: passes on what was verified, and never waits.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::file::{KIND_DOUBT, KIND_WORD, encode_delta, encode_word};
use super::gauge::Gauge;
use super::queue::{Shared, Swap};
use super::read::refresh_bytes;
use super::writer::Writer;
use crate::clock::{BootTime, Clock};
use crate::replica::Keep;
use crate::replication::FollowerStatus;
use crate::replication::follower::{FollowerState, SetSwap, Verified};
use crate::revocation::Revision;

/// Between two wishes for a newer snapshot: the server may not have one yet.
const REFRESH_PAUSE: Duration = Duration::from_secs(60);
/// The same while the disk fails: every wish costs the server a snapshot.
const REFRESH_PAUSE_BROKEN: Duration = Duration::from_secs(15 * 60);

/// Keeps what a replica verified, by a thread of its own. When it is dropped it waits until that has written and synced all
/// that was handed over.
pub struct Keeper {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    clock: Clock,
    asked_at: Option<BootTime>,
    /// The revision of the last signature kept: words that repeat it prove nothing more.
    word: Revision,
    /// It was noted that the set is in doubt.
    doubt: bool,
    /// How many snapshots were passed over for a newer one.
    passed_over: u64,
}

impl Keeper {
    pub(super) fn spawn(mut writer: Writer, clock: Clock) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let word = writer.begin(&shared);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("rescind-cache".to_owned()).spawn(move || writer.run(&theirs))?;
        Ok(Self { shared, writer: Some(thread), clock, asked_at: None, word, doubt: false, passed_over: 0 })
    }

    pub(super) fn gauge(&self) -> Gauge {
        Gauge(Arc::clone(&self.shared))
    }

    fn push(&mut self, kind: u8, body: Bytes) {
        if self.shared.broken.load(Ordering::Relaxed) {
            return;
        }
        if !self.shared.push_record(kind, body) {
            self.shared.fail();
            tracing::error!("the disk is too slow for the cache: nothing is kept until the next snapshot");
        }
    }
}

impl Keep for Keeper {
    fn handle_swap(&mut self, swap: &SetSwap, status: &FollowerStatus) {
        // What came from here is here.
        if status.state == FollowerState::Warm {
            return;
        }
        let Some(provenance) = &swap.provenance else { return };
        (self.word, self.doubt) = (Revision(0), false);
        let residue = swap.epoch_change.filter(|change| !change.ancestor).map(|change| change.from.epoch.generation);
        self.shared.broken.store(false, Ordering::Relaxed);
        let passed_over = self.shared.push_swap(Swap {
            descent: provenance.descent.clone(),
            snapshot: Arc::clone(&provenance.snapshot),
            deltas: provenance.deltas.iter().map(encode_delta).collect(),
            residue,
        });
        if passed_over > 0 {
            self.passed_over += passed_over as u64;
            let total = self.passed_over;
            tracing::warn!(total, "the disk is slow: a snapshot was passed over for a newer one");
        }
    }

    fn handle_verified(&mut self, verified: &Verified, _: Duration) {
        match verified {
            Verified::Delta(delta) => {
                let (kind, body) = encode_delta(delta);
                self.push(kind, body);
                if delta.signature.is_some() {
                    self.word = delta.point.revision;
                }
            }
            Verified::Word(word) if word.revision > self.word => {
                self.word = word.revision;
                self.push(KIND_WORD, encode_word(word).into());
            }
            Verified::Word(_) | Verified::Path(_) => {}
        }
    }

    fn handle_status(&mut self, status: &FollowerStatus) {
        if status.state == FollowerState::Diverged && !self.doubt {
            self.doubt = true;
            self.push(KIND_DOUBT, Bytes::new());
        }
    }

    fn handle_residues(&mut self, generations: &[u64]) {
        self.shared.push_residues(generations);
    }

    fn wants_refresh(&mut self) -> bool {
        let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
        let broken = self.shared.broken.load(Ordering::Relaxed);
        let limit = refresh_bytes(load(&self.shared.snapshot_bytes));
        let pause = if broken { REFRESH_PAUSE_BROKEN } else { REFRESH_PAUSE };
        let now = self.clock.boot();
        let wants = (broken || load(&self.shared.deltas_bytes) > limit)
            && self.asked_at.is_none_or(|asked| now.since(asked) >= pause);
        if wants {
            self.asked_at = Some(now);
        }
        wants
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the cache's thread failed");
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("passed_over", &self.passed_over).finish_non_exhaustive()
    }
}
