//! What a delta must be to be applied, and what applying leaves behind.

use super::*;
use crate::revocation::arbitrary::verification;
use crate::revocation::{DecodeError, SHAPES_MAX};

fn refusal(writer: &SetWriter, change: Change) -> StageError {
    writer.stage(&change.0).unwrap_err()
}

#[test]
fn delta_that_does_not_follow_is_refused() {
    let (mut writer, _) = empty();
    let _ = Change::next(&writer).floor(minute(5)).install(&mut writer);
    let at = |revision| Change(Delta::empty(Revision(revision), UnixMillis(0), minute(5)));
    let current = Revision(1);
    assert_eq!(refusal(&writer, at(1)), StageError::Stale { current, given: Revision(1) });
    assert_eq!(refusal(&writer, at(0)), StageError::Stale { current, given: Revision(0) });
    assert_eq!(refusal(&writer, at(3)), StageError::Gap { current, given: Revision(3) });
    for floor in [minute(4), Minute::NEVER] {
        let error = StageError::Floor { current: minute(5), given: floor };
        assert_eq!(refusal(&writer, at(2).floor(floor)), error);
    }
}

#[test]
fn shape_table_and_delta_must_agree() {
    let (mut writer, _) = empty();
    let shape = |n: usize| selector(&[(&format!("claim{n}"), "v")]).shape();
    let full = (0..SHAPES_MAX).fold(Change::next(&writer), |change, n| change.add(shape(n)));
    let _ = full.install(&mut writer);
    assert_eq!(writer.shapes().len(), SHAPES_MAX);
    assert_eq!(refusal(&writer, Change::next(&writer).add(shape(0))), StageError::ShapeAlreadyActive(shape(0)));
    assert_eq!(refusal(&writer, Change::next(&writer).retire(shape(99))), StageError::ShapeNotActive(shape(99)));
    let one_more = Change::next(&writer).add(shape(99));
    assert_eq!(refusal(&writer, one_more), StageError::TooManyShapes { limit: SHAPES_MAX, given: SHAPES_MAX + 1 });
    let _ = Change::next(&writer).add(shape(99)).retire(shape(0)).install(&mut writer);
}

#[test]
fn versions_of_the_verification_policy_leave_no_gap() {
    let (mut writer, set) = empty();
    let with = |writer: &SetWriter, version| {
        let mut change = Change::next(writer);
        change.0.verification = Some(Arc::new(verification(version, 1)));
        change
    };
    let refused = |current, given| StageError::VerificationVersion { current, given };
    assert_eq!(refusal(&writer, with(&writer, 2)), refused(0, 2));
    let applied = with(&writer, 1).install(&mut writer);
    assert!(!applied.weakened, "checks of revocation do not depend on it");
    let _ = Change::next(&writer).floor(minute(2)).install(&mut writer);
    assert_eq!(set.verification().map(|now| now.version), Some(1), "it stays until the next one");
    for given in [0, 1, 3, u64::MAX] {
        assert_eq!(refusal(&writer, with(&writer, given)), refused(1, given));
    }
    let _ = with(&writer, 2).install(&mut writer);
    assert_eq!(set.verification().map(|now| now.version), Some(2));
}

#[test]
fn unsorted_delta_is_refused() {
    let (writer, _) = empty();
    let mut change = Change::next(&writer);
    change.0.removals = vec![Fingerprint([2, 0]), Fingerprint([1, 0])];
    assert_eq!(refusal(&writer, change), DecodeError::Invalid("removals are not sorted and unique").into());
}

#[test]
fn only_what_takes_away_is_reported_as_weakening() {
    let (mut writer, _) = empty();
    let fingerprint = Fingerprint([1, 2]);
    let entry = |cutoff, expiry| Entry {
        cutoff: Cutoff::at(UnixSeconds(cutoff)).unwrap(),
        expiry: minute(expiry),
        exceptions: Vec::new(),
    };
    let mut weakens = |change: fn(Change) -> Change, to: Option<Entry>| {
        let mut next = change(Change::next(&writer));
        if let Some(entry) = to {
            next = next.upsert(fingerprint, &entry);
        }
        next.install(&mut writer).weakened
    };
    assert!(!weakens(|c| c, Some(entry(10, 10))), "new");
    assert!(!weakens(|c| c, Some(entry(10, 10))), "the same");
    assert!(!weakens(|c| c, Some(entry(11, 11))), "more");
    assert!(weakens(|c| c, Some(entry(10, 11))), "a lower cutoff");
    assert!(weakens(|c| c, Some(entry(10, 10))), "an earlier expiry");
    assert!(!weakens(|c| c.floor(minute(9)), None), "nothing expires");
    assert!(weakens(|c| c.floor(minute(10)), None), "it expires");
    assert!(!weakens(|c| c.remove(Fingerprint([1, 2])), None), "it was gone");
    assert!(!weakens(|c| c, Some(entry(10, 20))), "new again");
    assert!(weakens(|c| c.remove(Fingerprint([1, 2])), None), "taken back");
}

#[test]
fn sweeping_gives_expired_entries_back_in_bounded_steps() {
    let (mut writer, set) = empty();
    let entry = |expiry| Entry { cutoff: Cutoff::UNBOUNDED, expiry: minute(expiry), exceptions: Vec::new() };
    let fingerprint = |n: u64| Fingerprint([n, n << 50]);
    let change = (0..10_000).fold(Change::next(&writer), |c, n| c.upsert(fingerprint(n), &entry(1 + n as u32 % 2)));
    let _ = change.install(&mut writer);
    let _ = Change::next(&writer).floor(minute(1)).install(&mut writer);
    assert_eq!((set.entries(), set.map.len()), (5_000, 10_000), "nothing is swept by the revision itself");
    let first = writer.sweep(100);
    assert!((1..1_000).contains(&first), "{first} reclaimed by a step of about 100");
    while writer.sweep(100) > 0 {}
    assert_eq!(set.map.len(), 5_000);
    assert_eq!(writer.sweep(usize::MAX), 0);
}

/// The fingerprint numbered `n`, uniform enough.
fn numbered(n: u64) -> Fingerprint {
    Fingerprint([n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n << 48])
}

/// Adds the entries numbered `numbers` for good.
fn add(writer: &mut SetWriter, numbers: std::ops::Range<u64>) -> Option<Rebuild> {
    let change = numbers.fold(Change::next(writer), |change, n| change.upsert(numbered(n), &forever()));
    change.install(writer).rebuild
}

#[test]
fn filter_is_rebuilt_when_full_and_again_after_an_abandoned_rebuild() {
    let (mut writer, set) = empty();
    let capacity = set.view.load().filter.capacity();
    assert!(add(&mut writer, 0..4_000).is_none());
    let rebuild = add(&mut writer, 4_000..6_000).expect("6,000 keys are too many for the smallest filter");
    assert!(add(&mut writer, 6_000..8_000).is_none(), "one at a time");
    drop(rebuild);
    add(&mut writer, 8_000..9_000).expect("the first was abandoned").run();
    assert!(set.view.load().filter.capacity() > capacity);
    assert!(add(&mut writer, 9_000..10_000).is_none());
    let filter = Arc::clone(&set.view.load().filter);
    assert!((0..10_000).all(|n| filter.contains(numbered(n))));
}

#[test]
fn entry_added_behind_the_copying_is_in_the_new_filter_too() {
    let (mut writer, set) = empty();
    let rebuild = add(&mut writer, 0..5_000).expect("the smallest filter is full");
    rebuild.copy();
    assert!(add(&mut writer, 5_000..6_000).is_none());
    let old = Arc::clone(&set.view.load().filter);
    rebuild.install();
    let new = Arc::clone(&set.view.load().filter);
    assert!(!Arc::ptr_eq(&old, &new));
    for n in 0..6_000 {
        assert!(old.contains(numbered(n)) && new.contains(numbered(n)), "entry {n}");
    }
}

#[test]
fn filter_full_of_what_was_taken_back_is_rebuilt_small() {
    let (mut writer, set) = empty();
    for round in 0..6 {
        let numbers = round * 1_000..(round + 1) * 1_000;
        let rebuild = add(&mut writer, numbers.clone());
        let change = numbers.fold(Change::next(&writer), |change, n| change.remove(numbered(n)));
        let rebuild = rebuild.or(change.install(&mut writer).rebuild);
        if let Some(rebuild) = rebuild {
            rebuild.run();
        }
    }
    assert_eq!(writer.entries(), 0);
    assert!(!(0..1_000).all(|n| set.view.load().filter.contains(numbered(n))), "the garbage is gone");
}

#[test]
fn a_set_that_is_loaded_grows_with_what_comes() {
    let mut writer = SetWriter::with_capacity(key(), Policy::default(), minute(0), 0);
    let loaded = 20_000;
    let shape = selector(&[("sub", "any")]).shape();
    for n in 0..loaded {
        let fingerprint = key().fingerprint(&selector(&[("sub", &n.to_string())]));
        writer.load(fingerprint, forever().packed(), &[]);
    }
    writer.finish_load(Revision(1), vec![shape], None);
    let set = Arc::clone(writer.set());
    let hits = |from: u32, to: u32| {
        (from..to)
            .filter(|n| set.view.load().filter.contains(key().fingerprint(&selector(&[("sub", &n.to_string())]))))
            .count()
    };
    assert_eq!(hits(0, loaded), loaded as usize, "a filter misses nothing");
    assert!(hits(loaded, 2 * loaded) < loaded as usize / 100, "and is not overfull");
    assert!(set.check(&claims(&[("sub", "19999")]), NOW).hit.is_some());
}
