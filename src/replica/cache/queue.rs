//! What waits for the disk, and its bounds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::replication::follower::{Descent, SignedSnapshot};

/// The most bytes of records that wait: a disk so far behind has a gap, and begins again with the next snapshot.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// The most records that wait.
const RECORDS_MAX: usize = 1 << 16;
/// The most sets that wait: more than one only where an earlier epoch's set has to be kept before.
const SWAPS_MAX: usize = 4;
/// How long written records may stay unsynced.
pub(super) const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Something to be written.
pub(super) enum Job {
    /// Begin anew with this set.
    Swap(Box<Swap>),
    /// Append a record.
    Record(u8, Bytes),
    /// Records are missing from here on.
    Gap,
    /// Of the earlier epochs' sets, keep these only.
    Residues(Vec<u64>),
}

/// Another set is served.
pub(super) struct Swap {
    pub(super) descent: Descent,
    pub(super) snapshot: Arc<SignedSnapshot>,
    pub(super) deltas: Vec<Bytes>,
    /// The generation of the set before, if that stays in force.
    pub(super) residue: Option<u64>,
}

/// What the writer does next.
pub(super) enum Step {
    Do(Job),
    Sync,
    Stop,
}

/// Between the driver's task and the writer's thread.
#[derive(Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// The bytes of deltas on disk.
    pub(super) deltas_bytes: AtomicU64,
    /// The bytes of the snapshot on disk.
    pub(super) snapshot_bytes: AtomicU64,
    /// Nothing is kept until the next snapshot.
    pub(super) broken: AtomicBool,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    record_bytes: usize,
    stopping: bool,
}

impl Shared {
    /// Whether there was room. Otherwise what is kept has a gap from here on.
    pub(super) fn push_record(&self, kind: u8, body: Bytes) -> bool {
        let mut queue = self.queue.lock();
        let has_room = queue.record_bytes + body.len() <= RECORD_BYTES_MAX && queue.jobs.len() < RECORDS_MAX;
        if has_room {
            queue.record_bytes += body.len();
        }
        queue.jobs.push_back(if has_room { Job::Record(kind, body) } else { Job::Gap });
        self.changed.notify_one();
        has_room
    }

    /// The newest wins: how many that wait were passed over for it.
    pub(super) fn push_swap(&self, swap: Swap) -> usize {
        let mut queue = self.queue.lock();
        let is_kept = |job: &Job| matches!(job, Job::Swap(swap) if swap.residue.is_some());
        // What precedes a set of an earlier epoch that stays in force belongs to that.
        let keep = match &swap.residue {
            Some(_) if queue.swaps() < SWAPS_MAX => queue.jobs.len(),
            Some(_) => 0,
            None => queue.jobs.iter().rposition(is_kept).map_or(0, |last| last + 1),
        };
        let before = queue.swaps();
        queue.jobs.truncate(keep);
        let passed_over = before - queue.swaps();
        queue.record_bytes = queue.jobs.iter().map(Job::bytes).sum();
        queue.jobs.push_back(Job::Swap(Box::new(swap)));
        self.changed.notify_one();
        passed_over
    }

    pub(super) fn push_residues(&self, generations: &[u64]) {
        self.queue.lock().jobs.push_back(Job::Residues(generations.to_vec()));
        self.changed.notify_one();
    }

    /// Nothing comes after what waits now.
    pub(super) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.changed.notify_one();
    }

    /// Waits for something to do; for a while only, if there is something to sync.
    pub(super) fn next(&self, dirty: bool) -> Step {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                queue.record_bytes -= job.bytes();
                return Step::Do(job);
            }
            if queue.stopping {
                return Step::Stop;
            }
            if !dirty {
                self.changed.wait(&mut queue);
            } else if self.changed.wait_for(&mut queue, SYNC_INTERVAL).timed_out() {
                return Step::Sync;
            }
        }
    }
}

impl Queue {
    fn swaps(&self) -> usize {
        self.jobs.iter().filter(|job| matches!(job, Job::Swap(_))).count()
    }
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Self::Record(_, body) => body.len(),
            _ => 0,
        }
    }
}
