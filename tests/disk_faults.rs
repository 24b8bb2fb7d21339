//! A disk under a real server that fails while revocations are being written: nothing acknowledged is lost, checks go on,
//! and after a failed sync nothing more is written until a restart has looked.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::caller::{Caller, Outcome, claims, revocation};
use common::disk::{Disk, Fault};
use common::load::{Fate, Visitors, Writers, assert_nothing_lost};
use common::server::{Server, command};
use common::{Random, http, rounds, wait_until};
use serde_json::json;
use tonic::Code;

/// How many faults, unless told.
const FAULTS: usize = 12;
const WRITERS: usize = 3;
const ITEMS_MAX: u64 = 20;
/// How much later it is after each restart, for the server: what was written before it can be pruned.
const AHEAD_SECONDS: i64 = 2 * 24 * 3600;
/// Calls of the kind that pass before the fault.
const CALLS_BEFORE: std::ops::Range<u64> = 0..150;
/// How soon a server notices by itself that the disk takes writes again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

/// What follows from a fault in the journal's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// Writes are refused until a restart, whatever the disk does.
    UntilRestart,
    /// Writes are refused as long as the fault lasts.
    WhileItLasts,
    /// Nobody notices.
    Nothing,
}

fn consequence(fault: Fault) -> Consequence {
    match fault {
        Fault::WriteFails | Fault::SyncFails => Consequence::UntilRestart,
        Fault::NoSpace => Consequence::WhileItLasts,
        Fault::Short => Consequence::Nothing,
    }
}

fn assert_verified(data_dir: &std::path::Path) {
    let mut command = command(&["journal", "verify", "--data-dir"]);
    let output = command.arg(data_dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

async fn assert_checks_go_on(caller: &Caller, fates: &[Fate], said: &str) {
    assert_nothing_lost(caller, fates, u64::MAX, said).await;
    let now = rescind::clock::Clock::system().wall().seconds().0;
    let outcome = caller.check(claims(&json!({ "jti": "nobody", "iat": now, "exp": now + 60 }))).await.unwrap();
    assert_eq!(outcome, Outcome::NotRevoked, "{said}");
}

/// Holds that a write is refused as unavailable, and that operators are told why.
async fn assert_refused(caller: &Caller, server: &Server, said: &str) {
    let status = caller.revoke(vec![revocation(&[("jti", "refused")])]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{said}: {status:?}");
    let ready = http::get(server.ops, "/readyz").unwrap();
    assert!(ready.body.contains("writes are refused"), "{said}: {ready:?}");
}

async fn until_written(caller: &Caller, said: &str) {
    let written = async {
        while caller.revoke(vec![revocation(&[("jti", "again")])]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(RECOVERY_LIMIT, written).await.unwrap_or_else(|_| panic!("{said}: writes are taken again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_disk_does_nothing_acknowledged_is_lost() {
    let mut random = Random::seeded();
    let mut left = rounds(FAULTS);
    while left > 0 {
        // A fresh server each time: the larger the last snapshot, the rarer the next.
        let turns = left.min(FAULTS);
        check(turns, &mut random).await;
        left -= turns;
    }
}

/// Lets the disk of a fresh server fail so often.
async fn check(turns: usize, random: &mut Random) {
    let Some(disk) = Disk::watched(false) else { return };
    let mut server = Server::start_on(&disk);
    let mut fates: Vec<Fate> = Vec::new();
    let faults = [Fault::WriteFails, Fault::SyncFails, Fault::NoSpace, Fault::Short];
    let mut struck = 0;
    for turn in 0..turns {
        let fault = faults[turn % faults.len()];
        let after = random.from(CALLS_BEFORE);
        let count = [Some(1), None][(random.next() % 2) as usize];
        let said = format!("fault {turn}: {fault:?} after {after} calls, {count:?} of them");
        let caller = Caller::new(server.listen);
        disk.fail(fault, after, count, "journal.sqlite");
        let writers = Writers::start(|| Caller::new(server.listen), WRITERS, ITEMS_MAX, random, || 0);
        let visitors = Visitors::start(server.url());
        // A fault that nobody notices does not end them.
        writers.until(after as usize + 50).await;
        let (written, refusals) = writers.stop().await;
        visitors.stop().await;
        let before = fates.len();
        fates.extend(written);
        assert!(refusals.iter().all(|status| status.code() == Code::Unavailable), "{said}: {refusals:?}");
        let hit = disk.hits() > 0;
        struck += usize::from(hit);
        assert_checks_go_on(&caller, &fates[before..], &said).await;
        match consequence(fault) {
            Consequence::Nothing => assert!(refusals.is_empty(), "{said}: {refusals:?}"),
            _ if !hit => {}
            Consequence::WhileItLasts if count.is_none() => {
                assert_refused(&caller, &server, &said).await;
                disk.heal();
                until_written(&caller, &said).await;
            }
            Consequence::WhileItLasts => until_written(&caller, &said).await,
            Consequence::UntilRestart => {
                assert_refused(&caller, &server, &said).await;
                disk.heal();
                assert_refused(&caller, &server, &said).await;
                assert_checks_go_on(&caller, &fates[before..], &said).await;
            }
        }
        disk.heal();
        server.kill();
        assert_verified(&server.data_dir);
        disk.set_clock_ahead(AHEAD_SECONDS * (turn as i64 + 1));
        server.restart();
        let caller = Caller::new(server.listen);
        assert_checks_go_on(&caller, &fates, &said).await;
        until_written(&caller, &said).await;
    }
    assert!(struck > turns / 2, "{struck} of {turns} faults struck");
    let log = server.log_text();
    assert!(!log.contains("panicked"), "{log}");
    let told = |what: &str| log.matches(what).count();
    let [snapshots, pruned] = [told("snapshot written"), told("journal pruned")];
    let unpruned = told("the journal was not pruned");
    println!(
        "faults: {turns} faults of a disk, {struck} struck, {} revocations; {snapshots} snapshots, {pruned} prunings, \
         {unpruned} prunings failed, none lost",
        fates.len()
    );
    assert!(turns < FAULTS || snapshots > turns / 4, "{snapshots} snapshots");
    assert!(turns < FAULTS || pruned > 0 || !disk.has_clock(), "{pruned} prunings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_while_the_log_is_copied_stops_writes_as_well() {
    /// Requests until the writer copies the log itself, at the latest: the thread beside it syncs the database only where
    /// nothing was written meanwhile.
    const REQUESTS_MAX: usize = 50_000;
    /// Of up to so many items, so that this takes fewer of them.
    const REQUEST_ITEMS: u64 = 200;
    let Some(disk) = Disk::watched(false) else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_on(&disk);
    // The database alone, not its log: only copying syncs it.
    disk.fail(Fault::SyncFails, 0, Some(1), "journal.sqlite$");
    let writers = Writers::start(|| Caller::new(server.listen), WRITERS, REQUEST_ITEMS, &mut random, || 0);
    for requests in (0..REQUESTS_MAX).step_by(100) {
        writers.until(requests).await;
        if disk.hits() > 0 {
            break;
        }
    }
    // The thread notes what failed a moment after it did.
    writers.until(REQUESTS_MAX).await;
    let (fates, refusals) = writers.stop().await;
    assert!(disk.hits() == 1 && !refusals.is_empty(), "{} hits, {refusals:?}", disk.hits());
    assert!(refusals.iter().all(|status| status.code() == Code::Unavailable), "{refusals:?}");
    disk.heal();
    let caller = Caller::new(server.listen);
    assert_refused(&caller, &server, "after a failed copy").await;
    assert_checks_go_on(&caller, &fates, "after a failed copy").await;
    server.kill();
    server.restart();
    let caller = Caller::new(server.listen);
    assert_checks_go_on(&caller, &fates, "after the restart").await;
    until_written(&caller, "after the restart").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_elsewhere_stops_no_write() {
    let Some(disk) = Disk::watched(false) else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_on(&disk);
    let mut fates: Vec<Fate> = Vec::new();
    // Of the two that are written rarely nearly the first call.
    for (turn, (part, calls)) in
        [("index.sqlite", 20), ("members.sqlite", 3), ("snapshots/", 3)].into_iter().enumerate()
    {
        let fault = [Fault::WriteFails, Fault::SyncFails, Fault::NoSpace][(random.next() % 3) as usize];
        let said = format!("fault {turn}: {fault:?} of {part}");
        disk.fail(fault, random.from(0..calls), None, part);
        let writers = Writers::start(|| Caller::new(server.listen), WRITERS, ITEMS_MAX, &mut random, || 0);
        let visitors = Visitors::start(server.url());
        writers.until(100).await;
        wait_until(&format!("{said}: it strikes"), RECOVERY_LIMIT, || (disk.hits() > 0).then_some(()));
        let (written, refusals) = writers.stop().await;
        visitors.stop().await;
        assert!(refusals.is_empty(), "{said}: {refusals:?}");
        fates.extend(written);
        disk.heal();
        let caller = Caller::new(server.listen);
        let at_least = caller.status().await.position;
        server.kill();
        server.restart();
        assert_checks_go_on(&caller, &fates, &said).await;
        let request = rescind::wire::pb::ListRevocationsRequest { at_least, page_size: 1, ..Default::default() };
        wait_until(&format!("{said}: the index follows again"), RECOVERY_LIMIT, || {
            let body = http::get(server.ops, "/readyz")?.body;
            (!body.contains("index")).then_some(())
        });
        caller.revocations().list_revocations(request).await.expect("the index answers");
    }
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}
