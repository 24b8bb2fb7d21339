//! What every journal must do, as checks that any store is put through.

pub(crate) mod sample;

use std::time::Duration;

use super::{
    AppendError, Body, Journal, JournalReader, Linked, PruneLimits, Record, RecordError, Revocation, RevocationKey,
    link,
};
use crate::revocation::{Minute, Revision, RevocationId, UnixMillis};

/// Opens one store, again and again.
pub(crate) type Open = Box<dyn Fn() -> Box<dyn Journal>>;

/// Runs every check, each on a store of its own.
pub(crate) fn check_all(make: impl Fn() -> Open) {
    check_an_empty_journal_reads_as_empty(make());
    check_only_the_next_revision_is_appended(make());
    check_records_read_back_as_they_were_appended(make());
    check_each_record_is_bound_to_the_one_before(make());
    check_reads_keep_their_bounds(make());
    check_a_reader_sees_what_was_appended_and_no_more(make());
    check_a_refused_record_changes_nothing(make());
    check_reopening_keeps_everything(make());
    check_young_records_are_not_pruned(make());
    check_pruning_carries_what_is_live(make());
    check_pruning_leaves_the_last_record(make());
    check_pruning_in_small_steps_ends_where_one_step_does(make(), make());
    check_what_is_no_longer_live_is_released(make());
    check_extensions_reach_what_is_carried(make());
}

const NOBODY: fn(RevocationId, &Revocation) -> Option<Minute> = |_, _| None;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn check_an_empty_journal_reads_as_empty(open: Open) {
    let journal = open();
    let reader = journal.reader().unwrap();
    assert_eq!(
        (journal.head(), reader.head().unwrap(), reader.oldest().unwrap()),
        (Revision(0), Revision(0), Revision(1))
    );
    for from in [0, 1, 2, u64::MAX] {
        assert_eq!(reader.read(Revision(from), 1000, 1000).unwrap(), []);
    }
    assert_eq!(reader.carried(None, 10).unwrap(), []);
}

fn check_only_the_next_revision_is_appended(open: Open) {
    let mut journal = open();
    for given in [0, 2, u64::MAX] {
        let refused = journal.append(&sample::revoking(Revision(given), 1));
        assert!(matches!(refused, Err(AppendError::OutOfOrder { head: Revision(0), .. })), "{given}");
    }
    let position = journal.append(&sample::revoking(Revision(1), 1)).unwrap();
    assert_eq!((position.epoch, position.revision), (journal.identity().epoch.id, Revision(1)));
    let again = journal.append(&sample::revoking(Revision(1), 1));
    assert!(matches!(again, Err(AppendError::OutOfOrder { head: Revision(1), given: Revision(1) })));
    assert_eq!(journal.head(), Revision(1));
}

fn check_records_read_back_as_they_were_appended(open: Open) {
    let mut journal = open();
    let all: Vec<Record> = sample::one_of_each();
    append_all(&mut *journal, &all);
    let reader = journal.reader().unwrap();
    assert_eq!(reader.read(Revision(1), usize::MAX, usize::MAX).unwrap(), all);
    for record in &all {
        assert_eq!(reader.record(record.revision).unwrap().as_ref(), Some(record));
    }
    assert_eq!(reader.record(Revision(all.len() as u64 + 1)).unwrap(), None);
}

fn check_each_record_is_bound_to_the_one_before(open: Open) {
    let mut journal = open();
    let mut before = journal.checksum();
    for record in sample::one_of_each() {
        append_all(&mut *journal, std::slice::from_ref(&record));
        before = link(&before, record.revision, &record.encode().unwrap());
        assert_eq!(journal.checksum(), before);
        let linked = journal.reader().unwrap().linked(record.revision, 0, 1).unwrap();
        assert_eq!(linked, [Linked { checksum: before, record }]);
    }
    drop(journal);
    assert_eq!(open().checksum(), before);
}

fn check_reads_keep_their_bounds(open: Open) {
    let mut journal = open();
    let all: Vec<Record> = (1..=9).map(|revision| sample::revoking(Revision(revision), 3)).collect();
    append_all(&mut *journal, &all);
    let reader = journal.reader().unwrap();
    let length = all[0].encode().unwrap().len();
    let count = |bytes_max, records_max| reader.read(Revision(3), bytes_max, records_max).unwrap().len();
    assert_eq!(count(usize::MAX, 4), 4);
    assert_eq!(count(usize::MAX, 100), 7);
    assert_eq!(count(3 * length + length / 2, 100), 3);
    assert_eq!((count(0, 100), count(0, 0)), (1, 1), "a record is always handed over");
}

fn check_a_reader_sees_what_was_appended_and_no_more(open: Open) {
    let mut journal = open();
    let reader = journal.reader().unwrap();
    for revision in 1..=20 {
        append_all(&mut *journal, &[sample::revoking(Revision(revision), 2)]);
        assert_eq!(reader.head().unwrap(), Revision(revision));
        assert_eq!(reader.read(Revision(revision), usize::MAX, 10).unwrap().len(), 1);
    }
}

fn check_a_refused_record_changes_nothing(open: Open) {
    let mut journal = open();
    let mut record = sample::revoking(Revision(1), 1);
    if let Body::Requests(requests) = &mut record.body {
        requests[0].principal = "p".repeat(513);
    }
    let refused = journal.append(&record);
    assert!(matches!(refused, Err(AppendError::Refused(RecordError::TooLong { what: "principal", .. }))));
    let foreign = Record { delta: sample::revoking(Revision(2), 1).delta, ..sample::revoking(Revision(1), 1) };
    assert!(matches!(journal.append(&foreign), Err(AppendError::Refused(RecordError::ForeignDelta))));
    append_all(&mut *journal, &[sample::revoking(Revision(1), 1)]);
}

fn check_reopening_keeps_everything(open: Open) {
    let mut journal = open();
    let all = sample::one_of_each();
    append_all(&mut *journal, &all);
    let identity = journal.identity().clone();
    drop(journal);
    let mut journal = open();
    assert_eq!((journal.identity(), journal.head()), (&identity, Revision(all.len() as u64)));
    assert_eq!(journal.reader().unwrap().read(Revision(1), usize::MAX, usize::MAX).unwrap(), all);
    append_all(&mut *journal, &[sample::revoking(Revision(all.len() as u64 + 1), 1)]);
}

fn check_young_records_are_not_pruned(open: Open) {
    let mut journal = filled(&open, 10);
    // Record n is of day n: on day 14, ten days keep those of day 5 and later.
    let pruned = journal.prune(&limits(14, 10), &NOBODY).unwrap();
    assert_eq!((pruned.records, pruned.carried, pruned.more), (4, 0, false));
    let reader = journal.reader().unwrap();
    assert_eq!(reader.oldest().unwrap(), Revision(5));
    let refused = reader.read(Revision(4), 1000, 10);
    assert!(matches!(refused, Err(super::ReadError::Pruned { oldest: Revision(5) })));
    assert_eq!(reader.read(Revision(5), usize::MAX, 100).unwrap().len(), 6);
    let by_snapshot = PruneLimits { through: Revision(6), ..limits(100, 10) };
    assert_eq!(journal.prune(&by_snapshot, &NOBODY).unwrap().records, 2);
}

fn check_pruning_carries_what_is_live(open: Open) {
    let mut journal = filled(&open, 4);
    let expected = journal.reader().unwrap().record(Revision(2)).unwrap().unwrap();
    let live = |id: RevocationId, _: &Revocation| (id.revision == Revision(2) && id.index > 0).then_some(Minute::NEVER);
    let pruned = journal.prune(&limits(100, 10), &live).unwrap();
    assert_eq!((pruned.records, pruned.carried), (3, 2));
    drop(journal);
    let mut journal = open();
    let carried = journal.reader().unwrap().carried(None, 10).unwrap();
    let wanted: Vec<_> = expected.revocations().skip(1).collect();
    assert_eq!(carried.len(), wanted.len());
    for (carried, (index, request, revocation)) in carried.iter().zip(wanted) {
        assert_eq!(carried.id, journal.identity().revocation_id(Revision(2), index));
        assert_eq!((&carried.principal, &carried.peer), (&request.principal, &request.peer));
        assert_eq!((carried.received_at, &carried.revocation), (request.received_at, revocation));
        assert_eq!(carried.expiry, Minute::NEVER);
    }
    let key = carried[0].key();
    assert_eq!(journal.reader().unwrap().carried(Some(key), 10).unwrap(), carried[1..]);
    assert_eq!(journal.reader().unwrap().carried(None, 1).unwrap(), carried[..1]);
    append_all(&mut *journal, &[sample::revoking(Revision(5), 1)]);
}

fn check_pruning_leaves_the_last_record(open: Open) {
    let mut journal = filled(&open, 3);
    assert_eq!(journal.prune(&limits(1000, 1), &NOBODY).unwrap().records, 2);
    assert_eq!(journal.prune(&limits(1000, 1), &NOBODY).unwrap().records, 0);
    drop(journal);
    let journal = open();
    assert_eq!((journal.head(), journal.reader().unwrap().oldest().unwrap()), (Revision(3), Revision(3)));
}

fn check_pruning_in_small_steps_ends_where_one_step_does(open: Open, other: Open) {
    let live = |id: RevocationId, _: &Revocation| (id.index == 1).then_some(Minute::NEVER);
    let (mut whole, mut stepped) = (filled(&open, 9), filled(&other, 9));
    assert!(!whole.prune(&limits(1000, 1), &live).unwrap().more);
    let small = PruneLimits { records_max: 2, ..limits(1000, 1) };
    let mut steps = 1;
    while stepped.prune(&small, &live).unwrap().more {
        steps += 1;
        assert!(steps < 50, "pruning does not come to an end");
    }
    let carried = |journal: &dyn Journal| -> Vec<RevocationKey> {
        journal.reader().unwrap().carried(None, 100).unwrap().iter().map(super::Carried::key).collect()
    };
    assert_eq!(carried(&*whole), carried(&*stepped));
    assert_eq!(whole.reader().unwrap().oldest().unwrap(), stepped.reader().unwrap().oldest().unwrap());
    assert_eq!(carried(&*whole).len(), 8);
}

fn check_what_is_no_longer_live_is_released(open: Open) {
    let mut journal = filled(&open, 5);
    let all = |_: RevocationId, _: &Revocation| Some(Minute::NEVER);
    assert_eq!(journal.prune(&limits(1000, 1), &all).unwrap().carried, 12);
    let later = |id: RevocationId, _: &Revocation| (id.revision > Revision(1)).then_some(Minute::NEVER);
    assert_eq!(journal.prune(&limits(1000, 1), &later).unwrap().released, 3);
    let first = journal.reader().unwrap().carried(None, 1).unwrap();
    assert_eq!(first[0].id.revision, Revision(2));
}

fn check_extensions_reach_what_is_carried(open: Open) {
    let mut journal = open();
    append_all(&mut *journal, &[sample::revoking(Revision(1), 2), sample::ticking(Revision(2))]);
    let all = |_: RevocationId, _: &Revocation| Minute::at(1000);
    assert_eq!(journal.prune(&limits(1000, 1), &all).unwrap().carried, 2);
    let id = journal.identity().revocation_id(Revision(1), 1);
    append_all(&mut *journal, &[sample::extending(Revision(3), id, 2000), sample::ticking(Revision(4))]);
    assert_eq!(journal.prune(&limits(1000, 1), &all).unwrap().records, 2);
    let carried = journal.reader().unwrap().carried(None, 10).unwrap();
    assert_eq!(carried.iter().map(|carried| carried.expiry.bits()).collect::<Vec<_>>(), [1000, 2000]);
    append_all(&mut *journal, &[sample::undoing(Revision(5), &[id]), sample::ticking(Revision(6))]);
    assert_eq!(journal.prune(&limits(1000, 1), &all).unwrap().released, 1, "its undoing is gone, so it must be too");
}

fn filled(open: &Open, records: u64) -> Box<dyn Journal> {
    let mut journal = open();
    append_all(
        &mut *journal,
        &(1..=records).map(|revision| sample::revoking(Revision(revision), 3)).collect::<Vec<_>>(),
    );
    journal
}

fn limits(day: u64, retention_days: u32) -> PruneLimits {
    PruneLimits {
        through: Revision(u64::MAX),
        now: UnixMillis(day * sample::DAY_MS),
        retention: DAY * retention_days,
        records_max: 1000,
    }
}

pub(crate) fn append_all(journal: &mut dyn Journal, records: &[Record]) {
    for record in records {
        assert_eq!(journal.append(record).unwrap().revision, record.revision);
    }
}

/// Reads everything there is.
pub(crate) fn read_all(reader: &dyn JournalReader) -> Vec<Record> {
    reader.read(reader.oldest().unwrap(), usize::MAX, usize::MAX).unwrap()
}
