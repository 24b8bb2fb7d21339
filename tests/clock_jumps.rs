//! A wall clock that jumps years under a real server, while revocations are written and while it is down: what is revoked
//! stays revoked, revoking goes on, and operators are told.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::time::Duration;

use common::caller::{Caller, Outcome, claims, revocation};
use common::disk::Disk;
use common::load::{Fate, Writers, assert_nothing_lost};
use common::server::Server;
use common::{Random, http, wait_until};
use rescind::wire::pb;
use serde_json::json;

const WRITERS: usize = 3;
const ITEMS_MAX: u64 = 10;
/// Requests between two things that happen.
const REQUESTS: usize = 30;
const YEAR_SECONDS: i64 = 365 * 24 * 3600;
/// How soon a server looks at its clock when nothing is written.
const ALARM_LIMIT: Duration = Duration::from_secs(20);

/// A revocation that a clock which is an hour ahead would forget.
fn for_an_hour(jti: &str) -> pb::Revocation {
    let expiry = Some(pb::revocation::Expiry::ExpiresInSeconds(3600));
    pb::Revocation { expiry, ..revocation(&[("jti", jti)]) }
}

async fn assert_revoked(caller: &Caller, jtis: &[String], said: &str) {
    for jti in jtis {
        let outcome = caller.check(claims(&json!({ "jti": jti }))).await.unwrap();
        assert_eq!(outcome, Outcome::Revoked, "{said}: {jti}");
    }
}

fn until_alarm(server: &Server, is_raised: bool, said: &str) {
    wait_until(&format!("{said}: alarm {is_raised}"), ALARM_LIMIT, || {
        let ready = http::get(server.ops, "/readyz")?;
        (ready.status == 200 && ready.body.contains("the clock is in doubt") == is_raised).then_some(())
    });
}

/// A server whose clock jumps by so many seconds as it runs; then it starts again under that clock, and then under the
/// right one.
async fn check(jump: i64) {
    let Some(disk) = Disk::watched(false) else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_on(&disk);
    if !disk.has_clock() {
        return;
    }
    let mut fates: Vec<Fate> = Vec::new();
    let mut short: Vec<String> = Vec::new();
    for (said, ahead) in [("before", 0), ("jumped", jump), ("restarted", jump), ("restarted in time", 0)] {
        let said = format!("{said}, by {jump} s");
        let is_restart = said.starts_with("restarted");
        if is_restart {
            server.kill();
            disk.set_clock_ahead(ahead);
            server.restart();
        }
        let caller = Caller::new(server.listen);
        assert_revoked(&caller, &short, &said).await;
        assert_nothing_lost(&caller, &fates, u64::MAX, &said).await;
        let writers = Writers::start(|| Caller::new(server.listen), WRITERS, ITEMS_MAX, &mut random, || 0);
        writers.until(REQUESTS).await;
        // In the middle of writing.
        disk.set_clock_ahead(ahead);
        writers.until(2 * REQUESTS).await;
        let (written, refusals) = writers.stop().await;
        assert!(refusals.is_empty(), "{said}: {refusals:?}");
        fates.extend(written);
        let jti = format!("short {}", short.len());
        caller.revoke(vec![for_an_hour(&jti)]).await.unwrap_or_else(|status| panic!("{said}: {status:?}"));
        short.push(jti);
        until_alarm(&server, said.starts_with("jumped"), &said);
        assert_revoked(&caller, &short, &said).await;
        assert_nothing_lost(&caller, &fates, u64::MAX, &said).await;
    }
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
    println!("faults: a clock jumped by {jump} s, {} revocations, none lost", fates.len() + short.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_years_ahead_unrevokes_nothing_and_blocks_no_revoke() {
    check(10 * YEAR_SECONDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_years_back_unrevokes_nothing_and_blocks_no_revoke() {
    check(-10 * YEAR_SECONDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_back_to_where_it_was_is_trusted_again() {
    let Some(disk) = Disk::watched(false) else { return };
    let server = Server::start_on(&disk);
    if !disk.has_clock() {
        return;
    }
    disk.set_clock_ahead(YEAR_SECONDS);
    until_alarm(&server, true, "ahead");
    disk.set_clock_ahead(0);
    until_alarm(&server, false, "in time");
}
