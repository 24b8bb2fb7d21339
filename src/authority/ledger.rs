//! Which live revocations stand behind each entry, so that a reinstatement can undo exactly its own.
//!
//! The set knows only their merge. While one revocation stands behind an entry, the entry says all there is to say and
//! the ledger keeps just its name; where there are more, it keeps each of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::journal::ExpiryBasis;
use crate::revocation::{Entry, Fingerprint, Mark, Minute, Revision};

/// The most revocations of one selector that can each be undone by id. Older ones merge into a base that only a
/// reinstatement of the whole selector undoes: a revocation is never refused, or forgotten, for being repeated.
pub const UNDOABLE_PER_SELECTOR_MAX: usize = 1024;

/// A revocation's place in the log: its id within the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The revision that accepted it.
    pub revision: Revision,
    /// Its index there.
    pub index: u32,
}

/// The live revocations behind one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// One; the entry is its mark.
    One {
        /// The revision of its place.
        revision: Revision,
        /// The index of its place. Both are spelled out, so that a value takes two words.
        index: u32,
        /// Where its expiry comes from.
        basis: ExpiryBasis,
    },
    /// Several; the entry is their merge.
    Many(Box<Stack>),
}

/// Several live revocations of one selector, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// The merge of those that can no longer be undone by id.
    pub base: Option<Entry>,
    /// The others.
    pub items: Vec<LiveRevocation>,
}

/// One of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRevocation {
    /// Its place.
    pub place: Place,
    /// What it does to the entry.
    pub mark: Mark,
    /// Where its expiry comes from.
    pub basis: ExpiryBasis,
}

impl Live {
    /// One revocation, the only one.
    #[must_use]
    pub fn one(place: Place, basis: ExpiryBasis) -> Self {
        Self::One { revision: place.revision, index: place.index, basis }
    }

    /// With one more revocation behind the entry, which stood as `entry` before, and without those expired at `floor`.
    #[must_use]
    pub fn with(existing: Option<(Self, &Entry)>, added: LiveRevocation, floor: Minute) -> Self {
        let Some((existing, entry)) = existing else {
            return Self::one(added.place, added.basis);
        };
        let mut stack = existing.into_stack(entry);
        stack.items.retain(|item| item.mark.expiry > floor);
        stack.items.push(added);
        if stack.items.len() > UNDOABLE_PER_SELECTOR_MAX {
            let oldest = stack.items.remove(0);
            stack.base = Some(Entry::merge(stack.base.as_ref(), &oldest.mark));
        }
        Self::Many(Box::new(stack))
    }

    /// Everything behind the entry, which stands as `entry`.
    #[must_use]
    pub fn into_stack(self, entry: &Entry) -> Stack {
        match self {
            Self::One { revision, index, basis } => {
                let spares = entry.exceptions.iter().map(|e| (e.shape.clone(), e.fingerprint)).collect();
                let mark = Mark { cutoff: entry.cutoff, expiry: entry.expiry, spares };
                Stack { base: None, items: vec![LiveRevocation { place: Place { revision, index }, mark, basis }] }
            }
            Self::Many(stack) => *stack,
        }
    }

    /// The places of all that can be undone by id, oldest first.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let (one, many) = match self {
            Self::One { revision, index, .. } => (Some(Place { revision: *revision, index: *index }), &[][..]),
            Self::Many(stack) => (None, &stack.items[..]),
        };
        one.into_iter().chain(many.iter().map(|item| item.place))
    }

    /// The places of those that have not expired at `floor`, while the entry has not.
    pub fn held(&self, floor: Minute) -> impl Iterator<Item = Place> + '_ {
        let (one, many) = match self {
            Self::One { revision, index, .. } => (Some(Place { revision: *revision, index: *index }), &[][..]),
            Self::Many(stack) => (None, &stack.items[..]),
        };
        let held = move |item: &&LiveRevocation| item.mark.expiry > floor;
        one.into_iter().chain(many.iter().filter(held).map(|item| item.place))
    }

    /// The expiry of the revocation at `place`, if it stands behind the entry, which stands as `entry`.
    #[must_use]
    pub fn expiry_of(&self, place: Place, entry: &Entry) -> Option<Minute> {
        match self {
            Self::One { .. } => self.places().any(|only| only == place).then_some(entry.expiry),
            Self::Many(stack) => stack.items.iter().find(|item| item.place == place).map(|item| item.mark.expiry),
        }
    }

    /// Whether the revocation at `place` stands behind the entry and has not expired at `floor`.
    #[must_use]
    pub fn holds(&self, place: Place, floor: Minute) -> bool {
        match self {
            Self::One { .. } => self.places().any(|only| only == place),
            Self::Many(stack) => stack.items.iter().any(|item| item.place == place && item.mark.expiry > floor),
        }
    }
}

impl Stack {
    /// Without the revocation at `place`; `None` when it is not there, or expired at `floor`.
    #[must_use]
    pub fn without(mut self, place: Place, floor: Minute) -> Option<Self> {
        let index = self.items.iter().position(|item| item.place == place && item.mark.expiry > floor)?;
        self.items.remove(index);
        Some(self)
    }

    /// The entry that remains of those that have not expired at `floor`, and what stands behind it.
    #[must_use]
    pub fn settle(mut self, floor: Minute) -> Option<(Entry, Live)> {
        self.base = self.base.filter(|base| base.expiry > floor);
        self.items.retain(|item| item.mark.expiry > floor);
        let entry =
            self.items.iter().fold(self.base.clone(), |entry, item| Some(Entry::merge(entry.as_ref(), &item.mark)))?;
        let live = match (&self.base, &self.items[..]) {
            (None, [only]) => Live::one(only.place, only.basis),
            _ => Live::Many(Box::new(self)),
        };
        Some((entry, live))
    }
}

/// Fingerprints are uniform already.
#[derive(Default)]
pub struct FingerprintHash(u64);

impl Hasher for FingerprintHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A map from fingerprints.
pub type ByFingerprint<V> = HashMap<Fingerprint, V, BuildHasherDefault<FingerprintHash>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::{Cutoff, UnixSeconds};

    fn item(revision: u64, cutoff: u64, expiry: u32) -> LiveRevocation {
        LiveRevocation {
            place: Place { revision: Revision(revision), index: 0 },
            mark: Mark {
                cutoff: Cutoff::at(UnixSeconds(cutoff)).unwrap(),
                expiry: Minute::at(expiry).unwrap(),
                spares: vec![],
            },
            basis: ExpiryBasis::Given,
        }
    }

    fn stacked(items: &[LiveRevocation]) -> (Entry, Live) {
        items
            .iter()
            .fold(None, |existing: Option<(Entry, Live)>, item| {
                let live = Live::with(
                    existing.as_ref().map(|(entry, live)| (live.clone(), entry)),
                    item.clone(),
                    Minute::default(),
                );
                Some((Entry::merge(existing.map(|(entry, _)| entry).as_ref(), &item.mark), live))
            })
            .unwrap()
    }

    #[test]
    fn undoing_the_later_of_two_leaves_exactly_the_earlier() {
        let (first, second) = (item(1, 100, 50), item(2, 200, 60));
        let (entry, live) = stacked(&[first.clone(), second.clone()]);
        let left = live.clone().into_stack(&entry).without(second.place, Minute::default()).unwrap();
        assert_eq!(left.settle(Minute::default()), Some(stacked(&[first])));
    }

    #[test]
    fn what_expired_by_itself_does_not_come_back() {
        let (first, second) = (item(1, 200, 50), item(2, 100, 60));
        let (entry, live) = stacked(&[first.clone(), second.clone()]);
        let floor = Minute::at(55).unwrap();
        assert!(!live.holds(first.place, floor));
        assert_eq!(live.clone().into_stack(&entry).without(second.place, floor).unwrap().settle(floor), None);
        assert_eq!(live.clone().into_stack(&entry).without(first.place, floor), None);
    }

    #[test]
    fn repeating_a_revocation_is_bounded_and_forgets_nothing() {
        let items: Vec<_> = (0..UNDOABLE_PER_SELECTOR_MAX as u64 + 10).map(|i| item(i, 1000 - i % 7, 50)).collect();
        let (entry, live) = stacked(&items);
        assert_eq!(live.places().count(), UNDOABLE_PER_SELECTOR_MAX);
        assert!(!live.holds(items[0].place, Minute::default()));
        assert_eq!(live.clone().into_stack(&entry).settle(Minute::default()).unwrap().0, entry);
    }

    #[test]
    fn a_ledger_value_is_two_words() {
        assert_eq!(std::mem::size_of::<Live>(), 16);
    }
}
