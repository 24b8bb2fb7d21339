//! The index against a rebuild, its searches and its page tokens.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::journal::contract::sample::{self, DAY_MS};
use crate::journal::memory::{MemoryDisk, MemoryJournal};
use crate::journal::{Action, Body, Journal, PruneLimits, Record};
use crate::revocation::{Delta, Minute, UnixMillis};

/// How long a test waits for the thread before it fails.
const DEADLINE: Duration = Duration::from_secs(60);

struct Bench {
    dir: TempDir,
    journal: MemoryJournal,
    index: Index,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let identity = Identity::generate(UnixMillis(1)).unwrap();
        let journal = MemoryDisk::new(identity).open().unwrap();
        let index = open(dir.path(), &journal).index;
        Self { dir, journal, index }
    }

    /// 12 records of 3 revocations each, by three actors, a day apart.
    fn filled() -> Self {
        let mut bench = Self::new();
        bench.append((1..=12).map(|revision| sample::revoking(Revision(revision), 3)));
        bench
    }

    fn append(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            let _ = self.journal.append(&record).unwrap();
            self.index.notify();
        }
        self.settle();
    }

    fn settle(&self) {
        self.index.notify();
        assert!(self.index.wait_through(self.journal.head(), DEADLINE), "{:?}", self.index.status());
    }

    fn id(&self, revision: u64, index: u32) -> RevocationId {
        self.journal.identity().revocation_id(Revision(revision), index)
    }

    /// All pages of a query, as ids, in order.
    fn ids(&self, query: &Query) -> Vec<(u64, u32)> {
        self.rows(query).iter().map(|row| (row.id.revision.0, row.id.index)).collect()
    }

    fn rows(&self, query: &Query) -> Vec<Row> {
        all_rows(&self.index, query)
    }

    /// Prunes as if everything were past retention; `live` says which revisions' revocations live on.
    fn prune(&mut self, through: u64, live: impl Fn(u64) -> bool) {
        let limits = PruneLimits {
            through: Revision(through),
            now: UnixMillis(u64::MAX),
            retention: Duration::ZERO,
            records_max: 10_000,
        };
        let live =
            |id: RevocationId, _: &crate::journal::Revocation| live(id.revision.0).then_some(Minute::at(900).unwrap());
        assert!(!self.journal.prune(&limits, &live).unwrap().more);
    }

    /// What an index built from nothing lists.
    fn rebuilt(&self) -> Vec<Row> {
        let dir = TempDir::new().unwrap();
        let index = open(dir.path(), &self.journal).index;
        assert!(index.wait_through(self.journal.head(), DEADLINE));
        all_rows(&index, &all())
    }
}

fn open(dir: &Path, journal: &MemoryJournal) -> OpenedIndex {
    Index::open(dir, journal.identity(), journal.reader().unwrap()).unwrap()
}

fn all() -> Query {
    Query { page_rows: 7, ..Query::default() }
}

fn all_rows(index: &Index, query: &Query) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut query = query.clone();
    loop {
        let page = index.query(&query).unwrap();
        assert!(page.rows.len() <= query.page_rows);
        rows.extend(page.rows);
        query.page_token = page.next;
        if query.page_token.is_none() {
            return rows;
        }
    }
}

fn claim(name: &str, value: &str) -> Query {
    Query { claim: Some((name.into(), value.into())), ..all() }
}

#[test]
fn rows_hold_what_was_accepted() {
    let mut bench = Bench::new();
    bench.append(sample::one_of_each());
    let row = bench.index.revocation(bench.id(4, 0)).unwrap().unwrap();
    let wanted = sample::full_revocation();
    assert_eq!((row.selector, row.exceptions, row.reason), (wanted.selector, wanted.exceptions, wanted.reason));
    assert_eq!(
        (row.cutoff, row.expiry, row.expiry_basis),
        (wanted.mark.cutoff, wanted.mark.expiry, wanted.expiry_basis)
    );
    assert_eq!((row.actor.as_str(), row.peer.as_str()), ("admin-1", "127.0.0.1:4711"));
    assert_eq!((row.accepted_at, row.already_expired, row.live), (UnixMillis(4 * DAY_MS), true, false));
    let row = bench.index.revocation(bench.id(4, 2)).unwrap().unwrap();
    assert_eq!(row.selector, sample::revocation("carol").selector, "indexes count across requests");
    assert_eq!(row.id, bench.id(4, 2));
}

#[test]
fn ids_that_name_nothing_find_nothing() {
    let bench = Bench::filled();
    for id in [
        bench.id(1, 3),
        bench.id(13, 0),
        bench.id(1, u32::MAX),
        bench.id(1, 1 << 15),
        bench.id(u64::MAX, 0),
        RevocationId { epoch_prefix: !bench.id(1, 0).epoch_prefix, ..bench.id(1, 0) },
    ] {
        assert_eq!(bench.index.revocation(id).unwrap(), None, "{id}");
    }
    assert!(bench.index.revocation(bench.id(1, 2)).unwrap().is_some());
}

#[test]
fn listings_are_newest_first_and_pages_join_without_gap_or_overlap() {
    let bench = Bench::filled();
    let wanted: Vec<(u64, u32)> = (1..=12).rev().flat_map(|r| (0..3).rev().map(move |i| (r, i))).collect();
    for page_rows in [1, 2, 3, 7, 35, 36, 37, 1000] {
        assert_eq!(bench.ids(&Query { page_rows, ..all() }), wanted, "{page_rows}");
    }
}

#[test]
fn each_condition_narrows_the_listing() {
    let bench = Bench::filled();
    assert_eq!(bench.ids(&claim("sub", "user-5-1")), [(5, 1)]);
    assert_eq!(bench.ids(&claim("iss", "idp")).len(), 36);
    assert_eq!(bench.ids(&claim("iss", "user-5-1")), []);
    assert_eq!(bench.ids(&claim("sub", "user-5")), [], "values match exactly");
    let by = |actor: &str| Query { actor: Some(actor.into()), ..all() };
    assert_eq!(bench.ids(&by("admin-1")).iter().map(|(r, _)| *r).step_by(3).collect::<Vec<_>>(), [10, 7, 4, 1]);
    assert_eq!(bench.ids(&by("nobody")), []);
    let days = |from: Option<u64>, before: Option<u64>| Query {
        accepted_from: from.map(|day| UnixMillis(day * DAY_MS)),
        accepted_before: before.map(|day| UnixMillis(day * DAY_MS)),
        ..all()
    };
    let revisions = |query: &Query| bench.ids(query).iter().map(|(r, _)| *r).step_by(3).collect::<Vec<_>>();
    assert_eq!(revisions(&days(Some(11), None)), [12, 11]);
    assert_eq!(revisions(&days(None, Some(3))), [2, 1]);
    assert_eq!(revisions(&days(Some(4), Some(6))), [5, 4]);
    assert_eq!(revisions(&days(Some(6), Some(6))), [0; 0]);
    let everything = Query { actor: Some("admin-2".into()), ..days(Some(4), Some(9)) };
    assert_eq!(revisions(&everything), [8, 5]);
    assert_eq!(bench.ids(&Query { actor: Some("admin-0".into()), ..claim("sub", "user-5-1") }), []);
}

#[test]
fn reinstatement_extension_and_expiry_decide_what_is_live() {
    let mut bench = Bench::filled();
    let (undone, extended) = (bench.id(2, 1), bench.id(3, 0));
    bench.append([sample::undoing(Revision(13), &[undone]), sample::extending(Revision(14), extended, 700)]);
    let live = |live| Query { live: Some(live), ..all() };
    assert_eq!(bench.ids(&live(false)), [(2, 1)]);
    let row = bench.index.revocation(undone).unwrap().unwrap();
    let reinstated = row.reinstated.unwrap();
    assert_eq!((reinstated.revision, reinstated.actor.as_str()), (Revision(13), "admin-1"));
    assert_eq!((reinstated.at, reinstated.reason.as_str()), (UnixMillis(13 * DAY_MS), "by mistake"));
    // All others expire at minute 500.
    let delta = Delta::empty(Revision(15), UnixMillis(15 * DAY_MS), Minute::at(500).unwrap()).encode();
    bench.append([Record { delta, ..sample::ticking(Revision(15)) }]);
    assert_eq!(bench.ids(&live(true)), [(3, 0)]);
    assert_eq!(bench.ids(&live(false)).len(), 35);
    assert_eq!(bench.index.revocation(extended).unwrap().unwrap().expiry, Minute::at(700).unwrap());
}

#[test]
fn listings_by_time_survive_a_clock_that_steps_back() {
    let mut bench = Bench::new();
    let times = [50, 40, 60, 10, 55];
    bench.append((1..).zip(times).map(|(revision, time)| {
        let mut record = sample::revoking(Revision(revision), 1);
        if let Body::Requests(requests) = &mut record.body {
            requests[0].received_at = UnixMillis(time);
        }
        record
    }));
    let query = Query { accepted_from: Some(UnixMillis(45)), accepted_before: Some(UnixMillis(58)), ..all() };
    assert_eq!(bench.ids(&query), [(5, 0), (1, 0)]);
}

#[test]
fn page_tokens_fit_their_epoch_and_conditions_only() {
    let bench = Bench::filled();
    let token = bench.index.query(&all()).unwrap().next.unwrap();
    let ask = |query: Query, token: &str| bench.index.query(&Query { page_token: Some(token.into()), ..query });
    assert!(ask(all(), &token).is_ok());
    assert!(ask(Query { page_rows: 3, ..all() }, &token).is_ok());
    assert!(matches!(ask(claim("iss", "idp"), &token), Err(QueryError::PageToken)));
    assert!(matches!(ask(Query { live: Some(true), ..all() }, &token), Err(QueryError::PageToken)));
    let other = Bench::filled().index.query(&all()).unwrap().next.unwrap();
    assert!(matches!(ask(all(), &other), Err(QueryError::PageTokenEpoch)));
    for bad in ["", "x", "!!!!", &token[1..], &format!("{token}A"), &"A".repeat(44), &"A".repeat(100_000)] {
        assert!(matches!(ask(all(), bad), Err(QueryError::PageToken)), "{bad:.50}");
    }
    for at in 0..token.len() {
        let mut forged = token.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert!(ask(all(), std::str::from_utf8(&forged).unwrap()).is_err(), "byte {at}");
    }
}

#[test]
fn page_sizes_out_of_bounds_are_refused() {
    let bench = Bench::new();
    for given in [0, PAGE_ROWS_MAX + 1] {
        let refused = bench.index.query(&Query { page_rows: given, ..Query::default() });
        assert!(matches!(refused, Err(QueryError::PageRows { given: g }) if g == given));
    }
}

#[test]
fn a_wait_ends_when_the_revision_is_there_and_not_before() {
    let mut bench = Bench::filled();
    assert!(!bench.index.wait_through(Revision(13), Duration::from_millis(1)));
    let index = Arc::new(open(TempDir::new().unwrap().path(), &bench.journal).index);
    let waiting = Arc::clone(&index);
    let waiter = std::thread::spawn(move || waiting.wait_through(Revision(13), DEADLINE));
    bench.append([sample::revoking(Revision(13), 1)]);
    index.notify();
    assert!(waiter.join().unwrap());
    assert_eq!(index.indexed_through(), Revision(13));
}

#[test]
fn a_reopened_index_goes_on_where_it_was() {
    let Bench { dir, mut journal, index } = Bench::filled();
    drop(index);
    let _ = journal.append(&sample::revoking(Revision(13), 1)).unwrap();
    let reopened = open(dir.path(), &journal);
    assert_eq!(reopened.rebuilding, None);
    assert!(reopened.index.indexed_through() >= Revision(12));
    assert!(reopened.index.wait_through(Revision(13), DEADLINE));
    assert_eq!(all_rows(&reopened.index, &all()).len(), 37);
}

#[test]
fn an_index_that_cannot_be_trusted_is_rebuilt() {
    let tamper = |path: &Path, sql: &str| Connection::open(path).unwrap().execute_batch(sql).unwrap();
    type Harm = Box<dyn Fn(&Path)>;
    let harms: [(&str, Harm); 6] = [
        ("not", Box::new(|path| fs::write(path, vec![0x55; 20_000]).unwrap())),
        ("not a search index", Box::new(|path| fs::write(path, b"").unwrap())),
        ("format 9", Box::new(move |path| tamper(path, "PRAGMA user_version = 9"))),
        ("another epoch", Box::new(move |path| tamper(path, "UPDATE state SET epoch = zeroblob(16)"))),
        ("after the journal's end", Box::new(move |path| tamper(path, "UPDATE state SET through = 99"))),
        ("another history", Box::new(move |path| tamper(path, "UPDATE state SET chain = zeroblob(32)"))),
    ];
    for (reason, harm) in harms {
        let Bench { dir, journal, index } = Bench::filled();
        drop(index);
        harm(&dir.path().join("index.sqlite"));
        let reopened = open(dir.path(), &journal);
        let told = reopened.rebuilding.unwrap_or_default();
        assert!(told.contains(reason), "{reason}: {told}");
        assert!(reopened.index.wait_through(Revision(12), DEADLINE));
        assert_eq!(all_rows(&reopened.index, &all()).len(), 36, "{reason}");
    }
}

#[test]
fn damage_met_while_running_leads_to_a_rebuild() {
    let bench = Bench::filled();
    let path = bench.dir.path().join("index.sqlite");
    Connection::open(&path).unwrap().execute_batch("UPDATE revocations SET bytes = x'00' WHERE id > 0").unwrap();
    assert!(matches!(bench.index.query(&all()), Err(QueryError::Store(_))));
    let deadline = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() + DEADLINE;
    while bench.index.status().rebuilds == 0 {
        assert!(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() < deadline);
        std::thread::yield_now();
    }
    bench.settle();
    assert_eq!(bench.rows(&all()).len(), 36);
}

#[test]
fn a_rebuild_equals_the_index_that_grew_with_the_journal() {
    let mut bench = Bench::filled();
    let (undone, extended) = (bench.id(2, 1), bench.id(3, 0));
    bench.append([sample::undoing(Revision(13), &[undone]), sample::extending(Revision(14), extended, 950)]);
    assert_eq!(bench.rows(&all()), bench.rebuilt());
    // Some go, some are carried, and of those some go later.
    for (through, live) in [(4, [2, 3, 4]), (8, [3, 4, 7]), (11, [3, 7, 11])] {
        bench.prune(through, |revision| live.contains(&revision));
        bench.append([sample::revoking(bench.journal.head().next(), 1)]);
        let rows = bench.rows(&all());
        assert_eq!(rows, bench.rebuilt());
        assert_eq!(rows.iter().filter(|row| row.id.revision.0 <= through).count(), 9, "pruned through {through}");
    }
    assert_eq!(bench.ids(&claim("sub", "user-7-2")), [(7, 2)]);
    assert_eq!(bench.ids(&claim("sub", "user-8-2")), []);
}

#[test]
fn an_index_overtaken_by_pruning_catches_up() {
    let Bench { dir, journal, index } = Bench::filled();
    drop(index);
    let elsewhere = TempDir::new().unwrap();
    let index = open(elsewhere.path(), &journal).index;
    let mut bench = Bench { dir: elsewhere, journal, index };
    // While it is closed, the journal runs ahead and is pruned past where it was.
    for revision in 13..=20 {
        let _ = bench.journal.append(&sample::revoking(Revision(revision), 2)).unwrap();
    }
    bench.prune(18, |revision| revision == 5 || revision == 15);
    let reopened = open(dir.path(), &bench.journal);
    assert_eq!(reopened.rebuilding, None);
    assert!(reopened.index.wait_through(Revision(20), DEADLINE));
    assert_eq!(all_rows(&reopened.index, &all()), bench.rebuilt());
    assert_eq!(all_rows(&reopened.index, &all()).len(), 3 + 2 + 2 * 2);
}

#[test]
fn one_record_may_hold_as_many_revocations_as_the_format_allows() {
    let mut bench = Bench::new();
    let most = crate::journal::REVOCATIONS_MAX as u32;
    bench.append([sample::revoking(Revision(1), most), sample::revoking(Revision(2), 1)]);
    assert_eq!(bench.ids(&Query { page_rows: 1000, ..all() }).len(), most as usize + 1);
    assert_eq!(bench.ids(&claim("sub", &format!("user-1-{}", most - 1))), [(1, most - 1)]);
}

#[test]
fn a_request_without_revocations_leaves_no_row() {
    let mut bench = Bench::new();
    let empty = sample::request(Revision(1), Action::Revoke(vec![]));
    bench.append([sample::record(Revision(1), Body::Requests(vec![empty])), sample::revoking(Revision(2), 1)]);
    assert_eq!(bench.ids(&all()), [(2, 0)]);
}
