//! The set of live revocations: a filter in front of an exact map, and the check.
//!
//! Does not know where changes come from, and never asks for the time. One [`SetWriter`] changes it, revision by
//! revision; any number of threads [`RevocationSet::check`] meanwhile.
//!
//! # Invariants
//! - S1. A filter miss is final at the revision that was read before it.
//! - S2. A filter hit is never reported without the exact map agreeing.
//! - S3. A delta at or below the set's revision changes nothing: replay is safe.
//! - S4. A check that finds nothing saw all of the revision it reports, and of no later one only a part that revokes.
//! - S5. An entry whose expiry is at or before the floor is absent: for the check, the digest and the count alike.
//!
//! # Flow of one revision
//! Shapes added, entries that only revoke more (filter first, then map); then, if anything is taken away or weakened, the
//! sequence turns odd: weakened entries, removals, floor and shapes retired, the revision is published, and the sequence
//! turns even. A check that ends without a hit and saw the sequence odd or changed probes again.

mod candidates;
mod check;
mod expiry;
mod plan;
mod rebuild;
mod shapes;
mod strength;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use candidates::{CANDIDATES_MAX, SHAPE_CANDIDATES_MAX};
pub use check::Finding;
pub use plan::StageError;
pub use rebuild::Rebuild;
pub use writer::{Applied, SetWriter, UNION_SHAPES_MAX};

use super::digest::Digest;
use super::exact::ExactMap;
use super::filter::Filter;
use super::fingerprint::SetKey;
use super::policy::Policy;
use super::position::Revision;
use super::selector::Shape;
use super::sync::{ArcSwap, AtomicU64, Mutex, Ordering, RwLock};
use super::time::Minute;
use super::verification::VersionedPolicy;
use shapes::PreparedShape;

/// The live revocations of one epoch, as readers share them.
pub struct RevocationSet {
    key: SetKey,
    map: ExactMap,
    /// What a check reads besides the map; replaced as a whole.
    view: ArcSwap<View>,
    /// The last revision installed in full.
    revision: AtomicU64,
    /// Odd while a revision takes something away.
    sequence: AtomicU64,
    /// Held for writing while the sequence is odd, for reading by a check that was overtaken too often.
    gate: RwLock<()>,
    stamp: Mutex<Stamp>,
}

/// The filter, and the small parts of the state.
#[derive(Clone)]
struct View {
    filter: Arc<Filter>,
    shapes: Arc<[PreparedShape]>,
    floor: Minute,
    policy: Policy,
    verification: Option<Arc<VersionedPolicy>>,
}

/// A revision with what is true of the set at it; all of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The last revision installed in full.
    pub revision: Revision,
    /// The digest of the state at it.
    pub digest: Digest,
    /// The live entries at it.
    pub entries: u64,
    /// The expiry floor at it.
    pub floor: Minute,
    /// The latest expiry of a live entry at it; the minute 0 when there is none.
    pub latest_expiry: Minute,
}

impl RevocationSet {
    /// The empty state at revision 0: its only writer, and the set that readers share.
    #[must_use]
    pub fn create(key: SetKey, policy: Policy, floor: Minute) -> (SetWriter, Arc<Self>) {
        let writer = SetWriter::with_capacity(key, policy, floor, 0);
        let set = Arc::clone(writer.set());
        (writer, set)
    }

    /// The last revision installed in full.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    /// Revision, digest, count and floor of one moment.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        *self.stamp.lock()
    }

    /// The digest of the state.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.stamp().digest
    }

    /// How many entries are live.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.stamp().entries
    }

    /// The expiry floor: what expires at or before it is forgotten.
    #[must_use]
    pub fn floor(&self) -> Minute {
        self.stamp().floor
    }

    /// The logged policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.view.load().policy
    }

    /// The verification policy; `None`: there is none. Checks of revocation do not depend on it.
    #[must_use]
    pub fn verification(&self) -> Option<Arc<VersionedPolicy>> {
        self.view.load().verification.clone()
    }

    /// The active shapes, sorted.
    #[must_use]
    pub fn shapes(&self) -> Vec<Shape> {
        self.view.load().shapes.iter().map(|prepared| prepared.shape().clone()).collect()
    }

    /// The key under which its fingerprints are computed.
    #[must_use]
    pub fn key(&self) -> &SetKey {
        &self.key
    }

    fn new(key: SetKey, map: ExactMap, view: View, stamp: Stamp) -> Self {
        Self {
            key,
            map,
            view: ArcSwap::from_pointee(view),
            revision: AtomicU64::new(stamp.revision.0),
            sequence: AtomicU64::new(0),
            gate: RwLock::new(()),
            stamp: Mutex::new(stamp),
        }
    }

    /// Replaces the view. The writer and a rebuild both do: neither may undo the other's change.
    fn change_view(&self, change: impl Fn(&mut View)) {
        self.view.rcu(|view| {
            let mut view = View::clone(view);
            change(&mut view);
            view
        });
    }

    fn publish(&self, stamp: Stamp) {
        *self.stamp.lock() = stamp;
        self.revision.store(stamp.revision.0, Ordering::Release);
    }

    /// Runs `weaken` so that no check that finds nothing can have seen a part of it.
    fn weakening(&self, weaken: impl FnOnce()) {
        let _gate = self.gate.write();
        self.sequence.fetch_add(1, Ordering::SeqCst);
        weaken();
        self.sequence.fetch_add(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for RevocationSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationSet").field("stamp", &self.stamp()).finish_non_exhaustive()
    }
}
