//! The orders that the set relies on, spelled out over the product's own filter and map, and each of them broken.

use std::sync::Arc;

use loom::thread;
use rescind::revocation::exact::ExactMap;
use rescind::revocation::filter::Filter;
use rescind::revocation::sync::{ArcSwap, AtomicU64, Ordering};
use rescind::revocation::{Cutoff, Fingerprint, Minute, PackedEntry};

const OLD: Fingerprint = Fingerprint([1 << 40 | 3, 5 << 33]);
const NEW: Fingerprint = Fingerprint([9 << 40 | 77, 6 << 61]);

/// Which order is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The revision is published before its entry is in the map.
    RevisionBeforeMap,
    /// The revision is published before its entry is in the filter.
    RevisionBeforeFilter,
    /// While a rebuild runs, entries go into the filter in use only.
    OneFilter,
    /// An entry goes into the filter being built only after the revision was published.
    NewFilterLate,
    /// The filter that is built is swapped in before the map was copied.
    SwapBeforeCopy,
    /// A check reads the filter first, and then the revision that it answers for.
    FilterBeforeRevision,
}

/// The state of the set that the orders are about.
struct State {
    map: ExactMap,
    filter: ArcSwap<Arc<Filter>>,
    revision: AtomicU64,
}

/// One revision that adds an entry, a rebuild beside it, and a check of that entry.
fn model(broken: Broken) {
    loom::model(move || {
        let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
        let old = Arc::new(Filter::with_capacity(1));
        let built = Arc::new(Filter::with_capacity(1));
        let map = ExactMap::with_capacity(4);
        old.insert(OLD);
        map.upsert(OLD, entry, &[]);
        let filter = ArcSwap::from_pointee(Arc::clone(&old));
        let state = Arc::new(State { map, filter, revision: AtomicU64::new(1) });

        let (shared, target) = (Arc::clone(&state), Arc::clone(&built));
        let job = thread::spawn(move || rebuild(&shared, &target, broken));
        let shared = Arc::clone(&state);
        let reader = thread::spawn(move || check(&shared, broken));
        write(&state, &old, &built, entry, broken);
        job.join().expect("the rebuild ends");
        reader.join().expect("the check holds");
    });
}

fn write(state: &State, old: &Filter, built: &Filter, entry: PackedEntry, broken: Broken) {
    let publish = || state.revision.store(2, Ordering::Release);
    if broken == Broken::RevisionBeforeFilter {
        publish();
    }
    old.insert(NEW);
    if !matches!(broken, Broken::OneFilter | Broken::NewFilterLate) {
        built.insert(NEW);
    }
    if broken == Broken::RevisionBeforeMap {
        publish();
    }
    state.map.upsert(NEW, entry, &[]);
    publish();
    if broken == Broken::NewFilterLate {
        built.insert(NEW);
    }
}

fn rebuild(state: &State, built: &Arc<Filter>, broken: Broken) {
    let swap = || state.filter.rcu(|_| Arc::clone(built));
    if broken == Broken::SwapBeforeCopy {
        swap();
    }
    [OLD, NEW].into_iter().filter(|key| state.map.find(*key).is_some()).for_each(|key| built.insert(key));
    swap();
}

fn check(state: &State, broken: Broken) {
    let early = (broken == Broken::FilterBeforeRevision).then(|| has(state, NEW));
    let revision = state.revision.load(Ordering::Acquire);
    let found = early.unwrap_or_else(|| has(state, NEW));
    assert!(found || revision < 2, "missed at revision {revision}");
    assert!(has(state, OLD), "what was there all the time is missed");
}

fn has(state: &State, key: Fingerprint) -> bool {
    let filter = state.filter.load();
    filter.end(filter.begin(key)) && state.map.find(key).is_some()
}

#[test]
fn the_orders_of_the_set_hold() {
    model(Broken::Nothing);
}

#[test]
#[should_panic(expected = "missed")]
fn a_revision_published_before_its_entry_is_in_the_map_is_found_out() {
    model(Broken::RevisionBeforeMap);
}

#[test]
#[should_panic(expected = "missed")]
fn a_revision_published_before_its_entry_is_in_the_filter_is_found_out() {
    model(Broken::RevisionBeforeFilter);
}

#[test]
#[should_panic(expected = "missed")]
fn entries_kept_from_the_filter_being_built_are_found_out() {
    model(Broken::OneFilter);
}

#[test]
#[should_panic(expected = "missed")]
fn entries_that_come_late_to_the_filter_being_built_are_found_out() {
    model(Broken::NewFilterLate);
}

#[test]
#[should_panic(expected = "missed")]
fn a_filter_swapped_in_before_it_was_filled_is_found_out() {
    model(Broken::SwapBeforeCopy);
}

#[test]
#[should_panic(expected = "missed")]
fn a_check_that_reads_the_filter_before_the_revision_is_found_out() {
    model(Broken::FilterBeforeRevision);
}
