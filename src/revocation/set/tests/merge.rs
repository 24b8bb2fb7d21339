//! Merging revocations of one selector means what product semantics say, in any order.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::revocation::Mark;
use crate::revocation::arbitrary::{any_cutoff, any_expiry, spared};

fn any_mark() -> impl Strategy<Value = Mark> {
    (any_cutoff(), any_expiry(), subsequence(spared(), 0..=4)).prop_map(|(cutoff, expiry, spares)| Mark {
        cutoff,
        expiry,
        spares: spares.iter().map(|s| (s.shape(), key().fingerprint(s))).collect(),
    })
}

fn merge_all<'a>(marks: impl IntoIterator<Item = &'a Mark>) -> Entry {
    let merged = marks.into_iter().fold(None, |entry, mark| Some(Entry::merge(entry.as_ref(), mark)));
    merged.expect("at least one mark")
}

/// The highest cutoff of the revocations that do not spare `exception`.
fn reach(marks: &[Mark], exception: &(Shape, Fingerprint)) -> Option<Cutoff> {
    marks.iter().filter(|mark| !mark.spares.contains(exception)).map(|mark| mark.cutoff).max()
}

proptest! {
    #[test]
    fn merging_equals_a_model_that_keeps_every_revocation(marks in vec(any_mark(), 1..8)) {
        let entry = merge_all(&marks);
        prop_assert_eq!(Some(entry.cutoff), marks.iter().map(|mark| mark.cutoff).max());
        prop_assert_eq!(Some(entry.expiry), marks.iter().map(|mark| mark.expiry).max());
        for selector in spared() {
            let exception = (selector.shape(), key().fingerprint(&selector));
            let kept = entry.exceptions.iter().find(|e| (e.shape.clone(), e.fingerprint) == exception);
            let merged = kept.map_or(Some(entry.cutoff), |e| e.reach);
            prop_assert_eq!(merged, reach(&marks, &exception), "{:?}", selector.shape());
        }
        prop_assert!(entry.exceptions.iter().all(|e| e.reach < Some(entry.cutoff)), "{:?}", entry);
    }

    #[test]
    fn order_and_duplication_do_not_matter(
        (marks, shuffled) in vec(any_mark(), 1..7).prop_flat_map(|marks| {
            let doubled = [marks.clone(), marks.clone()].concat();
            (Just(marks), Just(doubled).prop_shuffle())
        })
    ) {
        prop_assert_eq!(merge_all(&marks), merge_all(&shuffled));
    }
}
