//! Power cuts: what a server, or an agent, had on its disk is taken at any moment, without what was not synced; it starts
//! from that, and everything acknowledged by then is there.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::process::Stdio;
use std::time::Duration;

use common::Random;
use common::agent::Agent;
use common::caller::Caller;
use common::disk::Disk;
use common::load::{Fate, Writers, assert_nothing_lost};
use common::power::Trace;
use common::server::{Server, command};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let Some(disk) = Disk::watched(true).map(std::sync::Arc::new) else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_on(&disk);
    let fates = written(&disk, &server, &mut random).await;
    // A second run begins by recovering, prunes nothing and goes on.
    server.kill();
    server.restart();
    let fates = [fates, written(&disk, &server, &mut random).await].concat();
    server.kill();

    let trace = Trace::read(&disk.trace());
    let mut judged = 0;
    let cuts = rounds(CUTS);
    for turn in 0..cuts {
        // Most of them at the end of the interesting part: while something was being written.
        let cut = random.from(1..trace.len() as u64 + 1) as usize;
        let left = tempfile::Builder::new().prefix("rescind-left-").tempdir().unwrap();
        trace.leave(cut, &mut random, &disk.files(), left.path());
        let data_dir = left.path().join("data");
        let mut after = Server::start_with(Some(&data_dir), &[]);
        let said = format!("cut {turn} before {cut} of {}", trace.len());
        judged += assert_nothing_lost(&Caller::new(after.listen), &fates, trace.bytes_before(cut), &said).await;
        Caller::new(after.listen).revoke(vec![common::caller::revocation(&[("jti", "afterwards")])]).await.unwrap();
        assert!(!after.log_text().contains("panicked"), "{said}: {}", after.log_text());
        after.kill();
        assert_verified(&data_dir);
    }
    println!("{cuts} power cuts, {} things written, {} revocations, {judged} judged", trace.len(), fates.len());
}

/// Writes for a while; what was acknowledged, and how much of the trace there was then.
async fn written(disk: &std::sync::Arc<Disk>, server: &Server, random: &mut Random) -> Vec<Fate> {
    let (listen, marked) = (server.listen, std::sync::Arc::clone(disk));
    let writers = Writers::start(|| Caller::new(listen), WRITERS, ITEMS_MAX, random, move || marked.traced_bytes());
    writers.until(random.from(REQUESTS) as usize).await;
    let (fates, refusals) = writers.stop().await;
    assert!(refusals.is_empty(), "{refusals:?}");
    fates
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_on_from_what_a_power_cut_leaves_of_its_cache() {
    let Some(disk) = Disk::watched(true).map(std::sync::Arc::new) else { return };
    let mut random = Random::seeded();
    let server = Server::start();
    let url = server.url();
    let cache = disk.files().join("cache");
    let mut agent = Agent::prepare("traced", &[&url], &["--cache-dir", cache.to_str().unwrap()]);
    agent.set_environment(disk.environment());
    agent.start();
    let fates = written(&disk, &server, &mut random).await;
    // Its cache follows a moment later.
    let head = Caller::new(server.listen).standing().await.revision;
    wait_until("the agent has it all", START_LIMIT, || {
        (agent.metric("rescind_position_revision") >= head as f64).then_some(())
    });
    agent.kill();

    let trace = Trace::read(&disk.trace());
    for turn in 0..rounds(CUTS) {
        let cut = random.from(1..trace.len() as u64 + 1) as usize;
        let left = tempfile::Builder::new().prefix("rescind-left-").tempdir().unwrap();
        trace.leave(cut, &mut random, &disk.files(), left.path());
        let cache = left.path().join("cache");
        let mut after = Agent::prepare("after", &[&url], &["--cache-dir", cache.to_str().unwrap()]);
        after.start();
        wait_until("the agent has it all", START_LIMIT, || {
            (after.metric("rescind_position_revision") >= head as f64).then_some(())
        });
        let said = format!("cut {turn} before {cut} of {}", trace.len());
        assert_nothing_lost(&Caller::new(after.listen.unwrap()), &fates, u64::MAX, &said).await;
        assert!(!after.log_text().contains("panicked"), "{said}: {}", after.log_text());
        assert!(http::get(after.ops, "/readyz").is_some_and(|answer| answer.status == 200), "{said}");
    }
}
