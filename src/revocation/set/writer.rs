//! The only way to change a set: one owner, one revision at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::expiry::Ledger;
use super::plan::{Part, Plan, StageError, Step, digest_of_shapes, upserts};
use super::rebuild::{Build, BuildState, Rebuild};
use super::shapes::PreparedShape;
use super::strength::Strength;
use super::{RevocationSet, Stamp, View};
use crate::revocation::delta::Delta;
use crate::revocation::digest::Digest;
use crate::revocation::entry::{Entry, Exception, PackedEntry};
use crate::revocation::exact::{ExactMap, Found, SHARDS};
use crate::revocation::filter::Filter;
use crate::revocation::fingerprint::{Fingerprint, SetKey};
use crate::revocation::policy::Policy;
use crate::revocation::position::Revision;
use crate::revocation::selector::Shape;
use crate::revocation::time::Minute;
use crate::revocation::verification::VersionedPolicy;

/// The most shapes a diverged set keeps. An honest authority has at most [`crate::revocation::SHAPES_MAX`] at a time;
/// the union of several of its states has more, a hostile relay's must still end somewhere.
pub const UNION_SHAPES_MAX: usize = 256;

/// The smallest filter, in keys: 8 KiB. A model's has one block, so that it is soon full.
const FILTER_KEYS_MIN: usize = if cfg!(loom) { 1 } else { 4096 };

/// The unique writer of a [`RevocationSet`].
pub struct SetWriter {
    set: Arc<RevocationSet>,
    revision: Revision,
    floor: Minute,
    policy: Policy,
    policy_digest: Digest,
    verification: Option<Arc<VersionedPolicy>>,
    verification_digest: Digest,
    shapes: Vec<Shape>,
    shapes_digest: Digest,
    ledger: Ledger,
    /// The filter that checks read.
    filter: Arc<Filter>,
    /// The keys inserted into it, those of entries that are gone included.
    filter_keys: u64,
    /// Its replacement on the way, and the keys inserted into that.
    build: Option<(Arc<Build>, u64)>,
    /// Entries in the map, the expired ones included.
    held: u64,
    /// The shard to sweep next.
    sweep_next: usize,
}

/// What installing a revision came to.
#[derive(Debug)]
#[must_use]
pub struct Applied {
    /// The set after it.
    pub stamp: Stamp,
    /// Whether some token that was revoked may no longer be.
    pub weakened: bool,
    /// The filter must be replaced: run this on another thread.
    pub rebuild: Option<Rebuild>,
}

impl SetWriter {
    /// Resolves a delta against the set: the digest after it, [`Delta::digest_after`] disregarded. Changes nothing.
    ///
    /// # Errors
    /// Everything but [`StageError::DigestMismatch`].
    pub fn stage(&self, delta: &Delta) -> Result<Digest, StageError> {
        Ok(Plan::new(self, delta)?.digest)
    }

    /// Installs a revision, all of it or, on error, nothing.
    ///
    /// # Errors
    /// Everything a [`StageError`] can say.
    pub fn apply(&mut self, delta: &Delta) -> Result<Applied, StageError> {
        let plan = Plan::new(self, delta)?;
        if plan.digest != delta.digest_after {
            return Err(StageError::DigestMismatch { revision: delta.revision });
        }
        self.settle_build();
        self.show_shapes_added(delta);
        let (weakening, revoking): (Vec<_>, Vec<_>) = plan.steps.into_iter().partition(|step| step.weakens);
        revoking.iter().for_each(|step| self.install(step));
        let set = Arc::clone(&self.set);
        let conclude = || {
            weakening.iter().for_each(|step| self.install(step));
            self.conclude(delta, plan.shapes);
        };
        if plan.weakens {
            set.weakening(conclude)
        } else {
            conclude()
        }
        debug_assert_eq!(self.digest(), delta.digest_after, "the plan and its execution differ");
        Ok(Applied { stamp: self.stamp(), weakened: plan.weakens, rebuild: self.begin_rebuild() })
    }

    /// Takes over what a delta revokes, and nothing that it takes back: for a set that no longer equals the authority's.
    /// Entries merge by maximum; removals, floor, policies and shapes retired are withheld, the revision stays. The digest
    /// afterwards is that of the union, which nobody else has.
    ///
    /// # Errors
    /// [`StageError::Malformed`], and [`StageError::TooManyShapes`] over [`UNION_SHAPES_MAX`].
    pub fn merge_union(&mut self, delta: &Delta) -> Result<Applied, StageError> {
        delta.validate()?;
        let shapes: BTreeSet<&Shape> = self.shapes.iter().chain(&delta.shapes_added).collect();
        if shapes.len() > UNION_SHAPES_MAX {
            return Err(StageError::TooManyShapes { limit: UNION_SHAPES_MAX, given: shapes.len() });
        }
        let shapes: Vec<Shape> = shapes.into_iter().cloned().collect();
        self.settle_build();
        if shapes != self.shapes {
            self.show_shapes(&shapes);
            self.adopt_shapes(shapes);
        }
        upserts(delta).for_each(|(fingerprint, entry, exceptions)| self.unite(fingerprint, entry, exceptions));
        let stamp = self.stamp();
        self.set.publish(stamp);
        Ok(Applied { stamp, weakened: false, rebuild: self.begin_rebuild() })
    }

    /// Gives back the memory of expired entries, shard by shard, until about `entries_max` were looked at; how many were
    /// reclaimed. Call it between revisions; it costs nothing when there is nothing to reclaim.
    pub fn sweep(&mut self, entries_max: usize) -> usize {
        let (mut examined, mut reclaimed) = (0, 0);
        for _ in 0..SHARDS {
            if examined >= entries_max || self.held == self.entries() {
                break;
            }
            let swept = self.set.map.sweep(self.sweep_next, self.floor);
            self.sweep_next = (self.sweep_next + 1) % SHARDS;
            self.held -= swept.reclaimed as u64;
            examined += swept.examined;
            reclaimed += swept.reclaimed;
        }
        reclaimed
    }

    /// The live entry of a selector.
    #[must_use]
    pub fn entry(&self, fingerprint: Fingerprint) -> Option<Entry> {
        let found = self.find_live(fingerprint)?;
        let exceptions = found.exceptions().to_vec();
        Some(Entry { cutoff: found.entry.cutoff(), expiry: found.entry.expiry(), exceptions })
    }

    /// The set that readers share.
    #[must_use]
    pub fn set(&self) -> &Arc<RevocationSet> {
        &self.set
    }

    /// The last revision installed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The expiry floor: what expires at or before it is forgotten.
    #[must_use]
    pub fn floor(&self) -> Minute {
        self.floor
    }

    /// The digest of the state.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let floor = Digest::of_floor(self.key(), self.floor);
        let policies = self.policy_digest.plus(self.verification_digest);
        self.ledger.live().digest.plus(self.shapes_digest).plus(policies).plus(floor)
    }

    /// How many entries are live.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.ledger.live().entries
    }

    /// Revision, digest, count and floor.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            revision: self.revision,
            digest: self.digest(),
            entries: self.entries(),
            floor: self.floor,
            latest_expiry: self.ledger.latest(),
        }
    }

    /// The logged policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The verification policy; `None`: there is none.
    #[must_use]
    pub fn verification(&self) -> Option<&Arc<VersionedPolicy>> {
        self.verification.as_ref()
    }

    /// The active shapes, sorted.
    #[must_use]
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// The key under which its fingerprints are computed.
    #[must_use]
    pub fn key(&self) -> &SetKey {
        &self.set.key
    }

    /// A writer of an empty set at revision 0 with room for `entries`; it grows.
    pub(in crate::revocation) fn with_capacity(key: SetKey, policy: Policy, floor: Minute, entries: usize) -> Self {
        let filter = Arc::new(Filter::with_capacity(filter_keys_for(entries as u64)));
        let policy_digest = Digest::of_policy(&key, &policy);
        let view = View { filter: Arc::clone(&filter), shapes: Arc::new([]), floor, policy, verification: None };
        let (revision, digest) = (Revision(0), Digest::default());
        let stamp = Stamp { revision, digest, entries: 0, floor, latest_expiry: Minute::default() };
        let writer = Self {
            set: Arc::new(RevocationSet::new(key, ExactMap::with_capacity(entries), view, stamp)),
            revision: Revision(0),
            floor,
            policy,
            policy_digest,
            verification: None,
            verification_digest: Digest::default(),
            shapes: Vec::new(),
            shapes_digest: Digest::default(),
            ledger: Ledger::default(),
            filter,
            filter_keys: 0,
            build: None,
            held: 0,
            sweep_next: 0,
        };
        writer.set.publish(writer.stamp());
        writer
    }

    /// Adds an entry to a set that nobody reads yet.
    pub(in crate::revocation) fn load(&mut self, fingerprint: Fingerprint, entry: PackedEntry, spared: &[Exception]) {
        if self.filter_keys >= self.filter.capacity() as u64 {
            let (rebuild, build) = Rebuild::begin(&self.set, filter_keys_for(2 * self.filter_keys), self.floor);
            rebuild.run();
            self.filter = Arc::clone(build.filter());
        }
        let digest = Digest::of_entry(self.key(), fingerprint, entry, spared);
        let part = Part { expiry: entry.expiry(), digest };
        self.install(&Step { fingerprint, before: None, after: Some((entry, spared, part)), weakens: false });
    }

    /// Ends the loading of a set that nobody reads yet.
    pub(in crate::revocation) fn finish_load(
        &mut self,
        revision: Revision,
        shapes: Vec<Shape>,
        verification: Option<Arc<VersionedPolicy>>,
    ) {
        if let Some(verification) = verification {
            self.adopt_verification(&verification);
        }
        self.show_shapes(&shapes);
        self.adopt_shapes(shapes);
        self.revision = revision;
        self.set.publish(self.stamp());
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn shapes_digest(&self) -> Digest {
        self.shapes_digest
    }

    pub(super) fn policy_digest(&self) -> Digest {
        self.policy_digest
    }

    pub(super) fn verification_digest(&self) -> Digest {
        self.verification_digest
    }

    pub(super) fn find_live(&self, fingerprint: Fingerprint) -> Option<Found> {
        self.set.map.find(fingerprint).filter(|found| found.entry.expiry() > self.floor)
    }

    /// Carries a step out: filter before map.
    fn install(&mut self, step: &Step<'_>) {
        if let Some(part) = step.before {
            self.ledger.take(part.expiry, part.digest);
        }
        let Some((entry, exceptions, part)) = step.after else {
            self.held -= u64::from(self.set.map.remove(step.fingerprint));
            return;
        };
        self.filter.insert(step.fingerprint);
        self.filter_keys += u64::from(step.before.is_none());
        if let Some((build, keys)) = &mut self.build {
            build.filter().insert(step.fingerprint);
            *keys += u64::from(step.before.is_none());
        }
        self.held += u64::from(self.set.map.upsert(step.fingerprint, entry, exceptions));
        self.ledger.add(part.expiry, part.digest);
    }

    /// Puts the maximum of an entry and what is live under its fingerprint in the place of that.
    fn unite(&mut self, fingerprint: Fingerprint, entry: PackedEntry, exceptions: &[Exception]) {
        if entry.expiry() <= self.floor {
            return;
        }
        let found = self.find_live(fingerprint);
        let given = Strength { entry, exceptions };
        let (entry, exceptions) = match &found {
            Some(old) => given.union(Strength { entry: old.entry, exceptions: old.exceptions() }),
            None => (entry, exceptions.to_vec()),
        };
        let key = &self.set.key;
        let before = found.map(|old| Part {
            expiry: old.entry.expiry(),
            digest: Digest::of_entry(key, fingerprint, old.entry, old.exceptions()),
        });
        let digest = Digest::of_entry(key, fingerprint, entry, &exceptions);
        let part = Part { expiry: entry.expiry(), digest };
        self.install(&Step { fingerprint, before, after: Some((entry, &exceptions, part)), weakens: false });
    }

    /// Shapes become active before the entries under them.
    fn show_shapes_added(&self, delta: &Delta) {
        if !delta.shapes_added.is_empty() {
            let mut shapes: Vec<Shape> = self.shapes.iter().chain(&delta.shapes_added).cloned().collect();
            shapes.sort_unstable();
            self.show_shapes(&shapes);
        }
    }

    fn show_shapes(&self, shapes: &[Shape]) {
        let prepared = PreparedShape::prepare_all(self.key(), shapes);
        self.set.change_view(|view| view.shapes = Arc::clone(&prepared));
    }

    fn adopt_shapes(&mut self, shapes: Vec<Shape>) {
        self.shapes_digest = digest_of_shapes(self.key(), &shapes);
        self.shapes = shapes;
    }

    fn adopt_verification(&mut self, verification: &Arc<VersionedPolicy>) {
        self.verification_digest = Digest::of_verification(self.key(), Some(verification));
        self.verification = Some(Arc::clone(verification));
        self.set.change_view(|view| view.verification = Some(Arc::clone(verification)));
    }

    /// The last steps of a revision: shapes retired, floor, policies, and the revision itself.
    fn conclude(&mut self, delta: &Delta, shapes: Option<Vec<Shape>>) {
        if let Some(shapes) = shapes {
            if !delta.shapes_retired.is_empty() {
                self.show_shapes(&shapes);
            }
            self.adopt_shapes(shapes);
        }
        if let Some(policy) = delta.policy {
            self.policy = policy;
            self.policy_digest = Digest::of_policy(self.key(), &policy);
        }
        if delta.floor != self.floor || delta.policy.is_some() {
            self.floor = delta.floor;
            self.ledger.move_floor(delta.floor);
            let (floor, policy) = (self.floor, self.policy);
            self.set.change_view(|view| (view.floor, view.policy) = (floor, policy));
        }
        if let Some(verification) = &delta.verification {
            self.adopt_verification(verification);
        }
        self.revision = delta.revision;
        self.set.publish(self.stamp());
    }

    /// Notices that a rebuild has ended, either way.
    fn settle_build(&mut self) {
        let Some((build, keys)) = &self.build else { return };
        match build.state() {
            BuildState::Running => {}
            BuildState::Abandoned => self.build = None,
            BuildState::Installed => {
                (self.filter, self.filter_keys) = (Arc::clone(build.filter()), *keys);
                self.build = None;
            }
        }
    }

    /// Asks for another filter when this one holds more keys than it is made for, or mostly those of entries long gone.
    fn begin_rebuild(&mut self) -> Option<Rebuild> {
        let live = self.entries();
        let is_full = self.filter_keys > self.filter.capacity() as u64;
        let is_garbage = self.filter_keys > FILTER_KEYS_MIN as u64 && self.filter_keys / 2 > live;
        if self.build.is_some() || !(is_full || is_garbage) {
            return None;
        }
        let (rebuild, build) = Rebuild::begin(&self.set, filter_keys_for(live), self.floor);
        self.build = Some((build, live));
        Some(rebuild)
    }
}

/// Half as many again, so that the next rebuild is far away.
fn filter_keys_for(entries: u64) -> usize {
    usize::try_from(entries + entries / 2).unwrap_or(usize::MAX).max(FILTER_KEYS_MIN)
}
