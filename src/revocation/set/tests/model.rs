//! A naive set: every entry in a list, every check a walk over it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::revocation::arbitrary::{Token, any_entry, selectors, spared, verification};

/// What a revision does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Upsert(Selector, Entry),
    Remove(Selector),
    Advance(u32),
    /// Applies a verification policy, the last one in a revision counts.
    Verify(u8),
}

/// Up to six steps, one revision.
pub(super) fn any_revision() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (select(selectors()), any_entry()).prop_map(|(selector, entry)| Step::Upsert(selector, entry)),
        2 => select(selectors()).prop_map(Step::Remove),
        1 => (0..3u32).prop_map(Step::Advance),
        1 => any::<u8>().prop_map(Step::Verify),
    ];
    vec(step, 0..6)
}

#[derive(Clone, Default)]
pub(super) struct Model {
    entries: BTreeMap<Fingerprint, (Selector, Entry)>,
    floor: u32,
    shapes: Vec<Shape>,
    verification: Option<Arc<VersionedPolicy>>,
}

impl Model {
    /// Makes the steps of one revision, here and as a delta.
    pub(super) fn advance(&mut self, writer: &SetWriter, steps: &[Step]) -> Delta {
        let mut change = Change::next(writer);
        let version = self.verification.as_ref().map_or(1, |now| now.version + 1);
        for step in steps {
            match step {
                Step::Upsert(selector, entry) => {
                    let fingerprint = key().fingerprint(selector);
                    change = change.upsert(fingerprint, entry);
                    self.entries.insert(fingerprint, (selector.clone(), entry.clone()));
                }
                Step::Remove(selector) => {
                    let fingerprint = key().fingerprint(selector);
                    change = change.remove(fingerprint);
                    self.entries.remove(&fingerprint);
                }
                Step::Advance(minutes) => self.floor += minutes,
                Step::Verify(number) => {
                    self.verification = Some(Arc::new(verification(version, *number)));
                    change.0.verification.clone_from(&self.verification);
                }
            }
        }
        let floor = minute(self.floor);
        self.entries.retain(|_, (_, entry)| entry.expiry > floor);
        let mut shapes: Vec<Shape> = self.entries.values().map(|(selector, _)| selector.shape()).collect();
        shapes.sort();
        shapes.dedup();
        for shape in shapes.iter().filter(|shape| !self.shapes.contains(shape)) {
            change = change.add(shape.clone());
        }
        for shape in self.shapes.iter().filter(|shape| !shapes.contains(shape)) {
            change = change.retire(shape.clone());
        }
        self.shapes = shapes;
        change.floor(floor).staged(writer)
    }

    /// The cutoffs of everything that reaches the token, by shape.
    pub(super) fn hits(&self, token: &Token) -> Vec<(Shape, Cutoff)> {
        let hit = |(selector, entry): &(Selector, Entry)| {
            let spared = spared();
            let exceptions = entry
                .exceptions
                .iter()
                .filter(|e| spared.iter().any(|s| key().fingerprint(s) == e.fingerprint && token.matches_scalar(s)));
            let cutoff = exceptions.map(|e| e.reach).chain([Some(entry.cutoff)]).min().flatten()?;
            let reached = token.matches(selector) && cutoff.reaches(token.time(selector.tested()));
            reached.then(|| (selector.shape(), cutoff))
        };
        let mut hits: Vec<_> = self.entries.values().filter_map(hit).collect();
        hits.sort();
        hits
    }

    /// The digest by its definition.
    pub(super) fn digest(&self) -> Digest {
        let entries = self.entries.iter().map(|(f, (_, e))| Digest::of_entry(&key(), *f, e.packed(), &e.exceptions));
        let shapes = self.shapes.iter().map(|shape| Digest::of_shape(&key(), shape));
        let rest = [Digest::of_floor(&key(), minute(self.floor)), Digest::of_policy(&key(), &Policy::default())];
        let verification = Digest::of_verification(&key(), self.verification.as_deref());
        entries.chain(shapes).chain(rest).fold(verification, Digest::plus)
    }

    pub(super) fn verification(&self) -> Option<&Arc<VersionedPolicy>> {
        self.verification.as_ref()
    }

    pub(super) fn entries(&self) -> &BTreeMap<Fingerprint, (Selector, Entry)> {
        &self.entries
    }

    /// The model with no other entry than this.
    pub(super) fn only(&self, fingerprint: Fingerprint) -> Self {
        let mut only = self.clone();
        only.entries.retain(|other, _| *other == fingerprint);
        only
    }

    pub(super) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}
