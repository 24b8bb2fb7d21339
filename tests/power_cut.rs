//! Power cuts: what a server, or an agent, had on its disk is taken at any moment, without what was not synced; it starts
//! from that, and everything acknowledged by then is there.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::Random;
use common::agent::Agent;
use common::caller::{Caller, Outcome, Standing};
use common::disk::Disk;
use common::load::{Fate, Visitors, Writers, assert_nothing_lost};
use common::power::Trace;
use common::server::{Server, command, free_port};
use common::{http, rounds, wait_until};

/// How many moments are tried, unless told.
const CUTS: usize = 12;
const WRITERS: usize = 3;
const ITEMS_MAX: u64 = 40;
/// Requests before the process is killed.
const REQUESTS: std::ops::Range<u64> = 40..120;
const START_LIMIT: Duration = Duration::from_secs(30);

/// Holds that every record of a journal is what was written.
fn assert_verified(data_dir: &std::path::Path) {
    let mut command = command(&["journal", "verify", "--data-dir"]);
    let output = command.arg(data_dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// How far the clock is ahead in the second run: records before it are past their use, and pruned.
const AHEAD_SECONDS: i64 = 2 * 24 * 3600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let Some(disk) = Disk::watched(true).map(Arc::new) else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_on(&disk);
    let has_clock = disk.has_clock();
    let mut run = written(&disk, &server, &mut random).await;
    // A second run begins by recovering, prunes what the first one wrote, and goes on.
    server.kill();
    disk.set_clock_ahead(AHEAD_SECONDS);
    server.restart();
    let second = written(&disk, &server, &mut random).await;
    run.fates.extend(second.fates);
    server.kill();

    let trace = Trace::read(&disk.trace());
    let snapshots = trace.touching("snapshots/");
    let members = trace.touching("members.sqlite");
    let prunings: Vec<usize> = second.prunings.iter().flat_map(|bytes| trace.within(bytes)).collect();
    assert!(!snapshots.is_empty() && !members.is_empty(), "snapshots and subscribers came and went");
    assert!(!prunings.is_empty() || !has_clock, "the journal was pruned: {}", server.log_text());
    let (mut judged, mut hits) = (0, Hits::default());
    let cuts = rounds(CUTS);
    for turn in 0..cuts {
        let pick = |moments: &[usize], random: &mut Random| moments[random.from(0..moments.len() as u64) as usize];
        let cut = match turn % 4 {
            1 => pick(&snapshots, &mut random),
            2 => pick(&members, &mut random),
            // What was told to be pruned is, whatever the cut.
            3 if turn % 8 == 3 && has_clock => {
                random.from(prunings[prunings.len() - 1] as u64 + 1..trace.len() as u64 + 1) as usize
            }
            3 if has_clock => pick(&prunings, &mut random),
            _ => random.from(1..trace.len() as u64 + 1) as usize,
        };
        // Before the very first thing there is nothing to judge.
        let cut = cut.max(1);
        hits.snapshots += usize::from(snapshots.binary_search(&cut).is_ok());
        hits.members += usize::from(members.binary_search(&cut).is_ok());
        let left = tempfile::Builder::new().prefix("rescind-left-").tempdir().unwrap();
        trace.leave(cut, &mut random, &disk.files(), left.path());
        let data_dir = left.path().join("data");
        let said = format!("cut {turn} before {cut} of {}", trace.len());
        let mut after = Server::start_with(Some(&data_dir), &[]);
        let oldest = oldest_record(&data_dir);
        hits.pruned += usize::from(oldest > 1);
        hits.half_pruned += usize::from(oldest > 1 && oldest < oldest_record(&server.data_dir));
        judged += assert_nothing_lost(&Caller::new(after.listen), &run.fates, trace.bytes_before(cut), &said).await;
        Caller::new(after.listen).revoke(vec![common::caller::revocation(&[("jti", "afterwards")])]).await.unwrap();
        assert!(!after.log_text().contains("panicked"), "{said}: {}", after.log_text());
        after.kill();
        assert_verified(&data_dir);
    }
    println!(
        "faults: {cuts} power cuts, {} things written, {} revocations, {judged} judged; {hits:?}, {} snapshots written, \
         none lost",
        trace.len(),
        run.fates.len(),
        server.log_text().matches("snapshot written").count()
    );
    if cuts >= CUTS {
        assert!(hits.snapshots > 0 && hits.members > 0, "{hits:?}");
        assert!(hits.pruned > 0 || !has_clock, "{hits:?}");
    }
}

/// In the middle of what the power was cut, how often.
#[derive(Debug, Default)]
struct Hits {
    snapshots: usize,
    members: usize,
    /// The journal was found pruned, and of these pruned in part.
    pruned: usize,
    half_pruned: usize,
}

/// The first revision that a journal still has.
fn oldest_record(data_dir: &std::path::Path) -> u64 {
    let journal = rusqlite::Connection::open(data_dir.join("journal.sqlite")).unwrap();
    journal.query_row("SELECT MIN(revision) FROM records", [], |row| row.get(0)).unwrap()
}

/// What came of a time of writing.
struct Run {
    fates: Vec<Fate>,
    /// How much of the trace there was, before and after the journal was pruned.
    prunings: Vec<std::ops::Range<u64>>,
}

/// Writes for a while, as subscribers come and go.
async fn written(disk: &Arc<Disk>, server: &Server, random: &mut Random) -> Run {
    let (listen, marked) = (server.listen, Arc::clone(disk));
    let visitors = Visitors::start(server.url());
    let writers = Writers::start(|| Caller::new(listen), WRITERS, ITEMS_MAX, random, move || marked.traced_bytes());
    let requests = random.from(REQUESTS) as usize;
    let pruned = || server.log_text().matches("journal pruned").count();
    let mut prunings = Vec::new();
    let (mut before, mut count) = (disk.traced_bytes(), pruned());
    for step in (0..=requests).step_by(WRITERS) {
        writers.until(step).await;
        let seen = pruned();
        let now = disk.traced_bytes();
        if seen > count {
            prunings.push(before..now);
        }
        (before, count) = (now, seen);
    }
    let (fates, refusals) = writers.stop().await;
    assert!(refusals.is_empty(), "{refusals:?}");
    visitors.stop().await;
    Run { fates, prunings }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_on_from_what_a_power_cut_leaves_of_its_cache() {
    let Some(disk) = Disk::watched(true).map(Arc::new) else { return };
    let mut random = Random::seeded();
    let server = Server::start();
    let (url, nobody) = (server.url(), format!("http://{}", free_port()));
    let cache = disk.files().join("cache");
    let mut agent = Agent::prepare("traced", &[&url], &["--cache-dir", cache.to_str().unwrap()]);
    agent.set_environment(disk.environment());
    agent.start();
    let run = written_and_kept(&disk, &server, &agent, &mut random).await;
    agent.kill();

    let head = Caller::new(server.listen).standing().await;
    let trace = Trace::read(&disk.trace());
    let (mut kept, mut cold, mut promised) = (0, 0, 0);
    let cuts = rounds(CUTS);
    for turn in 0..cuts {
        let cut = random.from(1..trace.len() as u64 + 1) as usize;
        let left = tempfile::Builder::new().prefix("rescind-left-").tempdir().unwrap();
        trace.leave(cut, &mut random, &disk.files(), left.path());
        let cache = left.path().join("cache");
        let said = format!("cut {turn} before {cut} of {}", trace.len());
        // Nobody answers there: what it has is what the cut left.
        let mut after = Agent::prepare("after", &[&nobody], &["--cache-dir", cache.to_str().unwrap()]);
        after.start_cold();
        let caller = Caller::new(after.listen.unwrap());
        let found = caller.standing().await;
        let synced = run.kept.iter().rev().find(|mark| mark.bytes <= trace.bytes_before(cut));
        let at_least = synced.map_or(0, |mark| mark.standing.revision);
        assert!(found.revision >= at_least, "{said}: {} was kept and {} is found", at_least, found.revision);
        promised += usize::from(at_least > 0);
        assert!(found.revision <= head.revision, "{said}: {found:?}");
        if found.revision == 0 {
            cold += 1;
        } else {
            let true_one = run.digests.get(&found.revision);
            assert_eq!(Some(&found.digest), true_one, "{said}: the set of revision {}", found.revision);
            kept += 1;
            for fate in &run.fates {
                assert_as_of(&caller, fate, found.revision, &said).await;
            }
        }
        after.kill();
        after.follow(&[&url]);
        after.start();
        wait_until("the agent has it all", START_LIMIT, || {
            (after.metric("rescind_position_revision") >= head.revision as f64).then_some(())
        });
        let caller = Caller::new(after.listen.unwrap());
        assert_eq!(caller.standing().await.digest, head.digest, "{said}");
        assert!(!after.log_text().contains("panicked"), "{said}: {}", after.log_text());
        assert!(http::get(after.ops, "/readyz").is_some_and(|answer| answer.status == 200), "{said}");
    }
    println!(
        "faults: {cuts} power cuts of a cache, {kept} found a set as it was, {promised} of them at least what was \
         kept for certain, {cold} found none, none lost"
    );
    assert!(cuts < CUTS || (kept > 0 && promised > 0), "{kept} kept, {promised} promised");
}

/// What the writer knows of the set that an agent kept.
struct KeptRun {
    /// By revision, the digest of the authority's set.
    digests: HashMap<u64, Vec<u8>>,
    /// The revision at which each was revoked.
    fates: Vec<(String, u64)>,
    kept: Vec<Mark>,
}

/// Everything up to here was synced by then.
struct Mark {
    bytes: u64,
    standing: Standing,
}

/// Writes one revision after the other, and lets the agent keep some of them for certain.
async fn written_and_kept(disk: &Disk, server: &Server, agent: &Agent, random: &mut Random) -> KeptRun {
    /// Revisions in all, and between two that are waited for.
    const REVISIONS: u64 = 60;
    const BETWEEN: u64 = 12;
    let caller = Caller::new(server.listen);
    let mut run = KeptRun { digests: HashMap::new(), fates: Vec::new(), kept: Vec::new() };
    let standing = caller.standing().await;
    run.digests.insert(standing.revision, standing.digest);
    for number in 0..REVISIONS {
        let jti = format!("{:016x}", random.next());
        let written = caller.revoke(vec![common::caller::revocation(&[("jti", &jti)])]).await.unwrap();
        let standing = caller.standing().await;
        assert_eq!(written.position.unwrap().revision, standing.revision, "nothing else writes");
        run.digests.insert(standing.revision, standing.digest.clone());
        run.fates.push((jti, standing.revision));
        if number % BETWEEN == BETWEEN - 1 {
            let bytes = until_synced(disk, agent, standing.revision);
            run.kept.push(Mark { bytes, standing });
        }
    }
    run
}

/// Waits until the agent says that it has kept this revision; how much of the trace there was then.
fn until_synced(disk: &Disk, agent: &Agent, revision: u64) -> u64 {
    wait_until("the cache has kept it", START_LIMIT, || {
        (agent.metric("rescind_cache_position_revision") >= revision as f64).then(|| disk.traced_bytes())
    })
}

/// Holds that one is revoked if it was by `revision`, and else is not.
async fn assert_as_of(caller: &Caller, (jti, revoked): &(String, u64), revision: u64, said: &str) {
    let now = rescind::clock::Clock::system().wall().seconds().0;
    let token = common::caller::claims(&serde_json::json!({ "jti": jti, "iat": now, "exp": now + 60 }));
    let found = caller.check(token).await.unwrap();
    let expected = if *revoked <= revision { Outcome::Revoked } else { Outcome::NotRevoked };
    assert_eq!(found, expected, "{said}: {jti} of {revoked} at {revision}");
}
