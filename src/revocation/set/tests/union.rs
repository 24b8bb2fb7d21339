//! A diverged set takes over what revokes and nothing that takes back.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Model, any_revision};
use super::*;
use crate::revocation::arbitrary::any_token;

proptest! {
    #[test]
    fn union_revokes_what_either_side_does(
        ours in vec(any_revision(), 1..6),
        theirs in vec(any_revision(), 1..6),
        tokens in vec(any_token(), 16),
    ) {
        let (mut writer, set) = empty();
        let mut model = Model::default();
        for steps in ours {
            let delta = model.advance(&writer, &steps);
            let _ = writer.apply(&delta).unwrap();
        }
        let (mut other, _) = empty();
        let mut other_model = Model::default();
        let revision = writer.revision();
        for steps in theirs {
            let was_revoked: Vec<bool> = tokens.iter().map(|t| set.check(&t.claims(), NOW).hit.is_some()).collect();
            let delta = other_model.advance(&other, &steps);
            let _ = other.apply(&delta).unwrap();
            let _ = writer.merge_union(&delta).unwrap();
            let once = writer.digest();
            let _ = writer.merge_union(&delta).unwrap();
            prop_assert_eq!(writer.digest(), once, "merging twice is merging once");
            for (token, was_revoked) in tokens.iter().zip(was_revoked) {
                let is_revoked = set.check(&token.claims(), NOW).hit.is_some();
                // What has expired here, by the floor of this set, stays expired.
                let given = delta.upserts.iter().any(|(fingerprint, entry)| {
                    entry.expiry() > writer.floor()
                        && !other_model.only(*fingerprint).hits(token).is_empty()
                });
                prop_assert!(is_revoked || !(was_revoked || given), "{:?}", token);
            }
        }
        prop_assert_eq!(writer.revision(), revision);
        prop_assert_eq!(writer.floor(), set.floor());
    }
}

#[test]
fn union_of_an_entry_and_a_weaker_one_is_the_entry() {
    let (mut writer, set) = empty();
    let alice = selector(&[("sub", "alice")]);
    revoke(&mut writer, std::slice::from_ref(&alice));
    let fingerprint = key().fingerprint(&alice);
    let before = writer.digest();
    let weaker = Entry { cutoff: Cutoff::at(UnixSeconds(5)).unwrap(), expiry: minute(1), exceptions: Vec::new() };
    let delta = Change::next(&writer).upsert(fingerprint, &weaker).floor(minute(9)).0;
    let _ = writer.merge_union(&delta).unwrap();
    let delta = Change::next(&writer).remove(fingerprint).retire(alice.shape()).0;
    let _ = writer.merge_union(&delta).unwrap();
    assert_eq!(writer.digest(), before);
    assert!(set.check(&claims(&[("sub", "alice")]), NOW).hit.is_some());
}

#[test]
fn union_keeps_more_shapes_than_may_be_active_and_is_bounded() {
    let (mut writer, set) = empty();
    let names = |from: usize, to: usize| (from..to).map(|n| selector(&[(&format!("claim{n:03}"), "v")]));
    for selector in names(0, UNION_SHAPES_MAX) {
        let delta = Change::next(&writer).add(selector.shape()).upsert(key().fingerprint(&selector), &forever()).0;
        let _ = writer.merge_union(&delta).unwrap();
    }
    for n in 0..UNION_SHAPES_MAX {
        assert!(set.check(&claims(&[(&format!("claim{n:03}"), "v")]), NOW).hit.is_some(), "shape {n}");
    }
    let excess = Change::next(&writer).add(selector(&[("one_more", "v")]).shape()).0;
    let error = writer.merge_union(&excess).unwrap_err();
    assert_eq!(error, StageError::TooManyShapes { limit: UNION_SHAPES_MAX, given: UNION_SHAPES_MAX + 1 });
}
