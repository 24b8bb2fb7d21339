//! What waits for the disk, and its bounds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Kind and body of each.
    pub(super) deltas: Vec<(u8, Bytes)>,
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
    /// Records and snapshots written.
    pub(super) writes: AtomicU64,
    /// Times it came to be broken.
    pub(super) failures: AtomicU64,
    /// The last revision that a restart would find.
    pub(super) revision: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    record_bytes: usize,
    stopping: bool,
}

impl Shared {
    /// From here on nothing is kept, until the next snapshot.
    pub(super) fn fail(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

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
        let mut index = 0;
        queue.jobs.retain(|job| {
            index += 1;
            index <= keep || matches!(job, Job::Residues(_))
        });
        let passed_over = before - queue.swaps();
        queue.record_bytes = queue.jobs.iter().map(Job::bytes).sum();
        queue.jobs.push_back(Job::Swap(Box::new(swap)));
        self.changed.notify_one();
        passed_over
    }

    pub(super) fn push_residues(&self, generations: &[u64]) {
        let mut queue = self.queue.lock();
        queue.jobs.retain(|job| !matches!(job, Job::Residues(_)));
        queue.jobs.push_back(Job::Residues(generations.to_vec()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::frames::SnapshotEnd;
    use crate::replication::{Lineage, PublicKey, Signature};
    use crate::revocation::{
        Chain, Epoch, Minute, Policy, Revision, SetKey, SnapshotBuilder, SnapshotState, UnixMillis,
    };

    fn swap(revision: u64, residue: Option<u64>) -> Swap {
        let (key, revision) = (SetKey::new([1; 16]), Revision(revision));
        let floor = Minute::from_bits(1);
        let state =
            SnapshotState { revision, floor, policy: Policy::default(), shapes: Vec::new(), verification: None };
        let built = SnapshotBuilder::new(&key, state).finish();
        let end = SnapshotEnd {
            revision,
            digest: built.header.digest,
            chain: Chain::default(),
            sha256: built.sha256,
            signature: Signature([0; 64]),
            source_time: UnixMillis(0),
        };
        let snapshot = Arc::new(SignedSnapshot { header: built.header, chunks: Vec::new(), end });
        let epoch = Epoch { generation: 1, id: [1; 16] };
        let lineage = Lineage { ancestors: Vec::new(), signature: Signature([0; 64]) };
        let descent = Descent { epoch, lineage, set_key: key, public_key: PublicKey([1; 32]) };
        Swap { descent, snapshot, deltas: Vec::new(), residue }
    }

    fn drain(shared: &Shared) -> String {
        shared.stop();
        let mut seen = Vec::new();
        while let Step::Do(job) = shared.next(false) {
            seen.push(match job {
                Job::Swap(swap) => format!("swap {}", swap.snapshot.end.revision.0),
                Job::Record(..) => "record".to_owned(),
                Job::Gap => "gap".to_owned(),
                Job::Residues(_) => "residues".to_owned(),
            });
        }
        seen.join(", ")
    }

    #[test]
    fn the_newest_snapshot_wins_over_those_that_wait() {
        let shared = Shared::default();
        assert!(shared.push_record(1, Bytes::from_static(b"old")));
        assert_eq!(shared.push_swap(swap(1, None)), 0);
        assert!(shared.push_record(1, Bytes::from_static(b"old")));
        shared.push_residues(&[]);
        assert_eq!(shared.push_swap(swap(2, None)), 1);
        assert!(shared.push_record(1, Bytes::from_static(b"new")));
        assert_eq!(drain(&shared), "residues, swap 2, record");
    }

    #[test]
    fn what_belongs_to_a_set_that_stays_in_force_is_not_passed_over() {
        let shared = Shared::default();
        assert!(shared.push_record(1, Bytes::from_static(b"its last")));
        assert_eq!(shared.push_swap(swap(1, Some(7))), 0);
        assert!(shared.push_record(1, Bytes::from_static(b"old")));
        assert_eq!(shared.push_swap(swap(2, None)), 0);
        assert_eq!(drain(&shared), "record, swap 1, swap 2");
    }

    #[test]
    fn a_queue_that_is_full_has_a_gap() {
        let shared = Shared::default();
        let large = Bytes::from(vec![0; RECORD_BYTES_MAX / 2]);
        assert!(shared.push_record(1, large.clone()) && shared.push_record(1, large.clone()));
        assert!(!shared.push_record(1, large));
        assert_eq!(drain(&shared), "record, record, gap");
    }
}
