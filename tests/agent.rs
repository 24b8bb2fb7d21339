//! Agents as real processes: chained, refused, cut off, moved on.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::time::Duration;

use common::agent::Agent;
use common::server::Server;
use common::{http, wait_until};

const SNAPSHOTS: &str = "rescind_snapshots_received_total";
const LIMIT: Duration = Duration::from_secs(30);

/// What `rescind check` says of a subject at a node.
fn check(url: &str, subject: &str) -> Option<i32> {
    let claims = format!(r#"{{"sub":"{subject}","iat":1,"exp":4000000000}}"#);
    let mut child = common::server::command(&["check", "--claims-file", "-", "--server", url]);
    let mut child = child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), claims.as_bytes()).unwrap();
    child.wait().unwrap().code()
}

fn revoke(server: &Server, subject: &str) {
    let output = server.cli(&["revoke", "--sub", subject, "--cutoff", "none", "--expires-in", "1h"], b"");
    assert!(output.status.success(), "{output:?}");
}

fn is_revoked(url: &str, subject: &str) -> Option<()> {
    (check(url, subject) == Some(1)).then_some(())
}

#[test]
fn agents_chain_and_refuse_writes_with_the_name_of_their_upstream() {
    let server = Server::start();
    revoke(&server, "mallory");
    let mut relay = Agent::prepare("relay", &[&server.url()], &[]);
    relay.start();
    let mut leaf = Agent::prepare_unix("leaf", &[&relay.url], &[]);
    leaf.start();
    for node in [&relay, &leaf] {
        assert_eq!(check(&node.url, "mallory"), Some(1), "{}", node.name);
        assert_eq!(check(&node.url, "alice"), Some(0), "{}", node.name);
    }
    leaf.wait_live();
    revoke(&server, "trudy");
    wait_until("the revocation reaches the last agent", LIMIT, || is_revoked(&leaf.url, "trudy"));
    let refused = common::server::command(&["revoke", "--sub", "x", "--server", &leaf.url]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&relay.url), "{refused:?}");
    let body = r#"{"revocations":[{"selector":{"sub":"x"}}]}"#;
    let answer = http::post(relay.listen.unwrap(), "/v1/revocations", body);
    assert_eq!(answer.status, 421, "{answer:?}");
    assert!(answer.body.contains(&server.url()), "{answer:?}");
    for asked in [&["credential", "list"][..], &["credential", "create", "--name=a", "--role=check"]] {
        let refused = common::server::command(&[asked, &["--server", &leaf.url]].concat()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(&relay.url), "{refused:?}");
    }
    let status = common::server::command(&["status", "--server", &leaf.url]).output().unwrap();
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains(&format!("{}: live, ready, lag 0", relay.url)), "{text}");
}

#[test]
fn an_agent_whose_upstream_dies_goes_on_at_the_next_one_where_it_was() {
    let server = Server::start();
    revoke(&server, "mallory");
    let mut first = Agent::prepare("first", &[&server.url()], &[]);
    first.start();
    let mut second = Agent::prepare("second", &[&server.url()], &[]);
    second.start();
    let mut leaf = Agent::prepare("leaf", &[&first.url, &second.url], &[]);
    leaf.start();
    first.kill();
    revoke(&server, "trudy");
    wait_until("the leaf has moved on", LIMIT, || is_revoked(&leaf.url, "trudy"));
    assert_eq!(leaf.metric(SNAPSHOTS), 1.0, "it resumed");
    assert_eq!(common::metric(server.ops, "rescind_connections_broken_total"), 0.0, "to be killed is no breach");
    let malformed = "rescind_subscribers_sent_away_total{reason=\"malformed\"}";
    assert_eq!(common::metric(server.ops, malformed), 0.0, "nor is it one of the protocol");
    second.signal("-STOP");
    revoke(&server, "oscar");
    first.start();
    wait_until("the leaf has left the one that stands still", LIMIT, || is_revoked(&leaf.url, "oscar"));
    second.signal("-CONT");
}

#[test]
fn agents_that_name_each_other_never_feed_on_themselves() {
    let mut server = Server::start();
    revoke(&server, "mallory");
    let mut left = Agent::prepare("left", &[], &[]);
    let mut right = Agent::prepare("right", &[&left.url, &server.url()], &[]);
    left.follow(&[&right.url, &server.url()]);
    left.start();
    right.start();
    left.wait_live();
    right.wait_live();
    server.kill();
    for node in [&left, &right] {
        wait_until("the outage is noticed", LIMIT, || (node.metric("rescind_staleness_seconds") > 4.0).then_some(()));
        assert_eq!(check(&node.url, "mallory"), Some(1), "{}", node.name);
        assert_eq!(check(&node.url, "alice"), Some(0), "{}", node.name);
    }
    server.restart();
    revoke(&server, "trudy");
    for node in [&left, &right] {
        wait_until("both follow the authority again", LIMIT, || is_revoked(&node.url, "trudy"));
        assert_eq!(node.metric("rescind_divergences_total"), 0.0);
        assert_eq!(node.metric(SNAPSHOTS), 1.0);
    }
}

const CACHE_POSITION: &str = "rescind_cache_position_revision";

#[test]
fn an_agent_tells_how_its_cache_does() {
    let dir = tempfile::tempdir().unwrap();
    let cache_dir = dir.path().to_str().unwrap();
    let server = Server::start();
    let mut agent = Agent::prepare("cached", &[&server.url()], &["--cache-dir", cache_dir]);
    agent.start();
    revoke(&server, "mallory");
    wait_until("the cache has what is served", LIMIT, || {
        let position = agent.metric("rescind_position_revision");
        (position >= 2.0 && agent.metric(CACHE_POSITION) == position).then_some(())
    });
    assert!(agent.metric("rescind_cache_writes_total") >= 2.0, "a snapshot and a delta");
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let kept = files.filter(|file| file.file_name() == "snapshot" || file.path().to_string_lossy().contains("deltas-"));
    let bytes: u64 = kept.map(|file| file.metadata().unwrap().len()).sum();
    wait_until("its size is told", LIMIT, || (agent.metric("rescind_cache_bytes") == bytes as f64).then_some(()));
    assert_eq!(agent.metric("rescind_cache_failures_total"), 0.0);
    assert_eq!(agent.metric("rescind_cache_broken"), 0.0);
}

#[test]
fn an_agent_whose_disk_is_full_says_so_and_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("snapshot.partial")).unwrap();
    let server = Server::start();
    let mut agent = Agent::prepare("full", &[&server.url()], &["--cache-dir", dir.path().to_str().unwrap()]);
    agent.start();
    revoke(&server, "mallory");
    wait_until("the revocation comes all the same", LIMIT, || is_revoked(&agent.url, "mallory"));
    wait_until("the failure is told", LIMIT, || (agent.metric("rescind_cache_broken") == 1.0).then_some(()));
    assert!(agent.metric("rescind_cache_failures_total") >= 1.0);
    assert_eq!(agent.metric(CACHE_POSITION), 0.0);
    assert!(agent.log_text().contains("the cache cannot be written"), "{}", agent.log_text());
}
