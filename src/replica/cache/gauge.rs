//! How a cache does, for whoever watches it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::queue::Shared;
use crate::revocation::Revision;

/// Reads how the cache does. Cheap to clone; outlives the cache.
#[derive(Clone)]
pub struct Gauge(pub(super) Arc<Shared>);

/// How a cache does at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Records and snapshots written since it was opened.
    pub writes: u64,
    /// Times since then that the disk failed or was too slow, so that nothing was kept until the next snapshot.
    pub failures: u64,
    /// Nothing is kept until the next snapshot.
    pub is_broken: bool,
    /// The snapshot on disk and what came since, in bytes; sets of earlier epochs not counted.
    pub bytes: u64,
    /// The last revision that a restart would find, after a power cut too.
    pub revision: Revision,
}

impl Gauge {
    /// How it does now.
    #[must_use]
    pub fn read(&self) -> Condition {
        let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
        Condition {
            writes: load(&self.0.writes),
            failures: load(&self.0.failures),
            is_broken: self.0.broken.load(Ordering::Relaxed),
            bytes: load(&self.0.snapshot_bytes).saturating_add(load(&self.0.deltas_bytes)),
            revision: Revision(load(&self.0.revision)),
        }
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gauge").field(&self.read()).finish()
    }
}
