//! Decides one revision on top of the state, without changing the state.
//!
//! Requests are admitted one after the other, each as a whole; what they do is collected in a scratch that is read before
//! the state, so that later requests of the same revision see earlier ones. [`Stage::finish`] turns the scratch into the
//! delta and into what the authority keeps behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::journal::{Action, Body, CredentialChange, Extension, Reinstatement, Request, Revocation};
use crate::revocation::ports::{AppliedPolicy, WriteError};
use crate::revocation::{
    CHANGES_MAX, Delta, Entry, Fingerprint, Minute, Policy, RevocationId, SHAPES_MAX, Selector, Shape, StageError,
    UnixMillis,
};

use super::ledger::{Live, LiveRevocation, Place};
use super::requests::{Remembered, RequestKey};
use super::shapes::ShapeChanges;
use super::state::{Row, State, Transition};

/// A revision in the making.
pub struct Stage<'a> {
    state: &'a State,
    source_time: UnixMillis,
    floor: Minute,
    touched: BTreeMap<Fingerprint, Touched>,
    /// Entries that this revision brings; the limits count them.
    entries_added: u64,
    shapes_added: BTreeSet<Shape>,
    /// Revocations so far: their indexes run through the revision.
    revocations: u32,
    requests: Vec<(RequestKey, Remembered)>,
    request_count: u32,
    policy: Option<Policy>,
    credentials: Option<CredentialChange>,
    verification: Option<Arc<AppliedPolicy>>,
}

struct Touched {
    shape: Shape,
    /// The entry in force before this revision.
    before: Option<Entry>,
    /// The entry after it, and what stands behind it.
    after: Option<(Entry, Live)>,
}

/// What became of one revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place; `None` when nothing was written.
    pub place: Option<Place>,
    /// Its selector already had live revocations.
    pub merged: bool,
}

impl<'a> Stage<'a> {
    /// Begins the revision after `state`, stated at `source_time`, with this expiry floor.
    #[must_use]
    pub fn new(state: &'a State, source_time: UnixMillis, floor: Minute) -> Self {
        Self {
            state,
            source_time,
            floor,
            touched: BTreeMap::new(),
            entries_added: 0,
            shapes_added: BTreeSet::new(),
            revocations: 0,
            requests: Vec::new(),
            request_count: 0,
            policy: None,
            credentials: None,
            verification: None,
        }
    }

    /// How many more revocations fit into this revision's record, and changes into its delta.
    #[must_use]
    pub fn room(&self) -> usize {
        CHANGES_MAX - self.touched.len().max(self.revocations as usize).min(CHANGES_MAX)
    }

    /// An earlier request with this key, in this revision or remembered.
    #[must_use]
    pub fn earlier(&self, key: &RequestKey) -> Option<Remembered> {
        let staged = self.requests.iter().find(|(k, _)| k == key).map(|(_, request)| *request);
        staged.or_else(|| self.state.requests().find(key).copied())
    }

    /// Whether all of `revocations` may be accepted under the limits on entries and shapes.
    ///
    /// # Errors
    /// [`WriteError::TooManyEntries`] or [`WriteError::TooManyShapes`].
    pub fn admit(&self, revocations: &[Revocation]) -> Result<(), WriteError> {
        let written = || revocations.iter().filter(|revocation| !revocation.already_expired);
        let added: BTreeSet<Fingerprint> = written()
            .map(|revocation| self.state.key().fingerprint(&revocation.selector))
            .filter(|fingerprint| self.live(*fingerprint).is_none())
            .collect();
        let limit = self.state.policy().max_entries;
        let live = self.state.shapes().live_beyond(self.floor) + self.entries_added;
        if live + added.len() as u64 > limit && !added.is_empty() {
            return Err(WriteError::TooManyEntries { limit });
        }
        let mut shapes: BTreeSet<Shape> = self.state.shapes().active_beyond(self.floor).cloned().collect();
        shapes.extend(self.shapes_added.iter().cloned());
        let before = shapes.clone();
        shapes.extend(written().map(|revocation| revocation.selector.shape()));
        // A shape that retires with this very revision still takes its place in it: shapes are added first.
        let retiring = self.state.shapes().active().filter(|shape| !shapes.contains(shape)).count();
        if shapes.len() > before.len() && shapes.len() + retiring > SHAPES_MAX {
            return Err(WriteError::TooManyShapes { active: before.into_iter().collect() });
        }
        Ok(())
    }

    /// Accepts a request: does what it asks for and remembers it. Answers what became of its revocations.
    pub fn request(&mut self, request: &Request) -> Vec<Accepted> {
        if let Some(id) = &request.request_id {
            let key = RequestKey::new(&request.principal, id);
            let revision = self.state.revision().next();
            self.requests
                .push((key, Remembered { body_hash: request.body_hash, revision, ordinal: self.request_count }));
        }
        self.request_count += 1;
        match &request.action {
            Action::Revoke(revocations) => revocations.iter().map(|revocation| self.revoke(revocation)).collect(),
            Action::Reinstate(reinstatements) => {
                reinstatements.iter().for_each(|reinstatement| self.undo(reinstatement));
                Vec::new()
            }
        }
    }

    /// Which live revocations a reinstatement undoes: the one named, or all of the selector.
    #[must_use]
    pub fn undoable(&self, selector: &Selector, only: Option<RevocationId>) -> Vec<RevocationId> {
        let Some((_, live)) = self.live(self.state.key().fingerprint(selector)) else { return Vec::new() };
        let floor = self.floor;
        let held = |place: &Place| only.is_none_or(|id| id == self.state.id(*place)) && live.holds(*place, floor);
        live.places().filter(held).map(|place| self.state.id(place)).collect()
    }

    /// Whether anything of this selector is in force.
    #[must_use]
    pub fn is_live(&self, selector: &Selector) -> bool {
        self.live(self.state.key().fingerprint(selector)).is_some()
    }

    /// Whether `shape` has live entries, or gets them by this revision.
    #[must_use]
    pub fn is_active_shape(&self, shape: &Shape) -> bool {
        self.state.shapes().is_active_beyond(shape, self.floor) || self.shapes_added.contains(shape)
    }

    /// Sets the logged policy.
    pub fn policy(&mut self, policy: Policy) {
        self.policy = Some(policy);
    }

    /// Lets credentials come or go. They are no part of the delta: replicas do not hold them.
    pub fn credentials(&mut self, change: CredentialChange) {
        self.credentials = Some(change);
    }

    /// Applies a verification policy. Replicas hold what it says, not who applied it.
    pub fn verification(&mut self, applied: Arc<AppliedPolicy>) {
        self.verification = Some(applied);
    }

    /// Gives a live revocation a later expiry, because a lifetime was raised.
    pub fn extend(&mut self, extension: &Extension) {
        let fingerprint = self.state.key().fingerprint(&extension.selector);
        let Some((entry, live)) = self.live(fingerprint).map(|(entry, live)| (entry, live.clone())) else { return };
        let mut stack = live.clone().into_stack(&entry);
        for item in &mut stack.items {
            if item.place.revision == extension.id.revision && item.place.index == extension.id.index {
                item.mark.expiry = item.mark.expiry.max(extension.expiry);
            }
        }
        let entry = Entry { expiry: entry.expiry.max(extension.expiry), ..entry };
        let live = match live {
            Live::One { .. } => live,
            Live::Many(_) => Live::Many(Box::new(stack)),
        };
        self.touch(fingerprint, &extension.selector.shape()).after = Some((entry, live));
    }

    /// Does again what a record of the journal did.
    pub fn record(&mut self, body: &Body) {
        match body {
            Body::Start { .. } | Body::Tick => {}
            Body::Policy { policy, .. } => self.policy(*policy),
            Body::Extend(extensions) => extensions.iter().for_each(|extension| self.extend(extension)),
            Body::Credentials(change) => self.credentials(change.clone()),
            Body::Verification(applied) => self.verification(Arc::clone(applied)),
            Body::Requests(requests) => {
                for request in requests {
                    self.request(request);
                }
            }
        }
    }

    /// The whole revision.
    ///
    /// # Errors
    /// When the delta does not fit the state, which would be a defect here.
    pub fn finish(mut self) -> Result<Transition, StageError> {
        let mut delta = Delta::empty(self.state.revision().next(), self.source_time, self.floor);
        let mut shapes = ShapeChanges::default();
        let mut rows = Vec::with_capacity(self.touched.len());
        for (fingerprint, touched) in std::mem::take(&mut self.touched) {
            let expiry = |entry: &Entry| entry.expiry;
            let after = touched.after.as_ref().map(|(entry, _)| entry);
            shapes.entry_moves(&touched.shape, touched.before.as_ref().map(expiry), after.map(expiry));
            match after {
                Some(entry) if touched.before.as_ref() != Some(entry) => {
                    delta.upserts.push((fingerprint, entry.packed()));
                    if !entry.exceptions.is_empty() {
                        delta.extended.push(entry.exceptions.clone());
                    }
                }
                None if touched.before.is_some() => delta.removals.push(fingerprint),
                _ => {}
            }
            rows.push((fingerprint, Row { shape: touched.shape, live: touched.after }));
        }
        (delta.shapes_added, delta.shapes_retired) = self.state.shapes().preview(&shapes, self.floor);
        delta.policy = self.policy;
        delta.verification = self.verification.as_ref().map(|applied| Arc::clone(&applied.policy));
        let (delta, canonical, chain) = self.state.seal(delta)?;
        let Self { requests, credentials, verification, .. } = self;
        Ok(Transition { delta, canonical, chain, rows, shapes, requests, credentials, verification })
    }

    /// The state that the revision is decided on.
    pub(super) fn state(&self) -> &'a State {
        self.state
    }

    /// The expiry floor that the revision states.
    pub(super) fn floor(&self) -> Minute {
        self.floor
    }

    fn revoke(&mut self, revocation: &Revocation) -> Accepted {
        let place = Place { revision: self.state.revision().next(), index: self.revocations };
        self.revocations += 1;
        if revocation.already_expired {
            return Accepted { place: None, merged: false };
        }
        let fingerprint = self.state.key().fingerprint(&revocation.selector);
        let shape = revocation.selector.shape();
        // Taken, not cloned: the same selector may come ten thousand times.
        let existing = match self.touched.get_mut(&fingerprint) {
            Some(touched) => touched.after.take(),
            None => self.state.live(fingerprint, self.floor).map(|(entry, live)| (entry, live.clone())),
        };
        let before = existing.as_ref().map(|(entry, _)| entry.clone());
        let merged = before.is_some();
        let entry = Entry::merge(before.as_ref(), &revocation.mark);
        let added = LiveRevocation { place, mark: revocation.mark.clone(), basis: revocation.expiry_basis };
        let live = Live::with(existing.map(|(_, live)| live).zip(before.as_ref()), added, self.floor);
        if !merged {
            self.entries_added += 1;
            if !self.state.shapes().is_active(&shape) {
                self.shapes_added.insert(shape.clone());
            }
        }
        self.touch(fingerprint, &shape).after = Some((entry, live));
        Accepted { place: Some(place), merged }
    }

    fn undo(&mut self, reinstatement: &Reinstatement) {
        let fingerprint = self.state.key().fingerprint(&reinstatement.selector);
        let Some((entry, live)) = self.live(fingerprint) else { return };
        let after = match reinstatement.only {
            None => None,
            Some(id) => {
                let place = Place { revision: id.revision, index: id.index };
                match live.clone().into_stack(&entry).without(place, self.floor) {
                    None => return,
                    Some(stack) => stack.settle(self.floor),
                }
            }
        };
        self.touch(fingerprint, &reinstatement.selector.shape()).after = after;
    }

    /// The entry as this revision leaves it so far, and what stands behind it.
    pub(super) fn live(&self, fingerprint: Fingerprint) -> Option<(Entry, &Live)> {
        match self.touched.get(&fingerprint) {
            Some(touched) => touched.after.as_ref().map(|(entry, live)| (entry.clone(), live)),
            None => self.state.live(fingerprint, self.floor),
        }
    }

    fn touch(&mut self, fingerprint: Fingerprint, shape: &Shape) -> &mut Touched {
        let state = self.state;
        self.touched.entry(fingerprint).or_insert_with(|| Touched {
            shape: shape.clone(),
            before: state.entry(fingerprint),
            after: None,
        })
    }
}
