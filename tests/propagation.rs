//! Proof of propagation, with the real binary: who has applied a revocation, who is missing, and what mends it.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::agent::Agent;
use common::server::{Server, command};
use common::wait_until;
use rescind::client::{Client, PublicKey};
use rescind::replica::{Connection, Upstream as _};
use rescind::replication::frames::{NodeId, Role, ToServer, ToSubscriber};
use serde_json::Value;

const READY_LIMIT: Duration = Duration::from_secs(20);

async fn client(server: &Server, name: &str) -> Client {
    let client = common::guard::client([server.url()]).name(name).connect().unwrap();
    client.ready(READY_LIMIT).await.unwrap();
    client
}

/// `revoke --wait`, away from the threads that the clients need.
async fn revoke(server: &Server, sub: &str, wait: &str) -> (Option<i32>, String, String) {
    let output = cli(server, &["revoke", "--sub", sub, "--wait", wait]).await;
    told(&output)
}

async fn cli(server: &Server, arguments: &[&str]) -> Output {
    tokio::task::block_in_place(|| server.cli(arguments, b""))
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn assert_told((code, out, err): &(Option<i32>, String, String), exit: i32, line: &str) {
    assert_eq!(*code, Some(exit), "{out}\n{err}");
    assert!(out.contains(line), "{line} is missing in\n{out}\n{err}");
}

async fn status(server: &Server) -> Value {
    let output = cli(server, &["status", "--json"]).await;
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the server lists so many connected subscribers, and so many cut off.
fn wait_for(server: &Server, connected: usize, cut_off: usize) {
    tokio::task::block_in_place(|| {
        wait_until("the server knows who is there", READY_LIMIT, || {
            let output = server.cli(&["status", "--json"], b"");
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            let rows = status["subscriber_list"].as_array()?;
            // Whoever is ready has heard the authority: how long ago is known of all of them, relays or not between.
            let heard = |row: &Value| row["staleness_millis"].as_str()?.parse::<u64>().ok();
            let unheard =
                rows.iter().any(|row| row["ready"] == true && heard(row).is_none_or(|millis| millis > 60_000));
            let there = rows.iter().filter(|row| row["connected"] == true && row["ready"] == true).count();
            let gone = rows.iter().filter(|row| row["connected"] == false).count();
            ((there, gone) == (connected, cut_off) && !unheard).then_some(())
        });
    });
}

fn watch(server: &Server) -> Child {
    let mut command = command(&["watch", "--server", &server.url()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_subscribers_it_says_so_and_succeeds() {
    let server = Server::start();
    let told = revoke(&server, "alice", "5s").await;
    assert_told(&told, 0, "no subscribers; in force at the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_of_members_is_told_and_never_a_success() {
    let mut server = Server::start();
    server.stop();
    std::fs::write(server.data_dir.join("members.sqlite"), [0x55; 8192]).unwrap();
    server.restart();
    let told = revoke(&server, "alice", "1s").await;
    assert_told(&told, 3, "applied by 0 of 0 subscribers");
    assert!(told.2.contains("incomplete: ") && told.2.contains("members.sqlite"), "{}", told.2);
    assert!(status(&server).await["members_trouble"].as_str().unwrap().contains("members.sqlite"));
    let ready = common::http::get(server.ops, "/readyz").unwrap();
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("subscribers may be missed unseen: "), "{ready:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_waited_for_and_a_goodbye_ends_that() {
    let server = Server::start();
    let (a, b, c) = (client(&server, "a").await, client(&server, "b").await, client(&server, "c").await);
    wait_for(&server, 3, 0);
    assert_told(&revoke(&server, "alice", "10s").await, 0, "applied by 3 of 3 subscribers in ");
    for client in [&a, &b, &c] {
        assert_eq!(client.status().position.unwrap().revision.0, 2);
    }
    c.shutdown().await;
    wait_for(&server, 2, 0);
    assert_told(&revoke(&server, "bob", "10s").await, 0, "applied by 2 of 2 subscribers in ");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_is_named_until_it_is_forgotten() {
    let server = Server::start();
    let _a = client(&server, "a").await;
    let mut watching = watch(&server);
    wait_for(&server, 2, 0);
    watching.kill().unwrap();
    watching.wait().unwrap();
    wait_for(&server, 1, 1);
    let missing = revoke(&server, "alice", "1s").await;
    assert_told(&missing, 3, "applied by 1 of 2 subscribers in ");
    assert!(missing.2.contains("cut off: rescind watch"), "{}", missing.2);
    assert!(missing.2.contains("no bound can be stated: 2 of 2 subscribers serve stale"), "{}", missing.2);

    let connected = told(&cli(&server, &["forget", "a"]).await);
    assert_eq!(connected.0, Some(2), "{connected:?}");
    assert_eq!(told(&cli(&server, &["forget", "rescind watch"]).await).0, Some(0));
    assert_eq!(told(&cli(&server, &["forget", "rescind watch"]).await).0, Some(2));
    assert_told(&revoke(&server, "bob", "10s").await, 0, "applied by 1 of 1 subscribers in ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_ended_or_not_read_any_more_says_goodbye() {
    let server = Server::start();
    for end in ["-TERM", "-HUP", "-INT"] {
        let mut watching = watch(&server);
        wait_for(&server, 1, 0);
        assert!(Command::new("kill").args([end, &watching.id().to_string()]).status().unwrap().success());
        assert_eq!(watching.wait().unwrap().code(), Some(0), "{end}");
        wait_for(&server, 0, 0);
    }
    let mut command = command(&["watch", "--server", &server.url()]);
    let mut watching = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&server, 1, 0);
    drop(watching.stdout.take());
    // Whether the watch has said so before it is asked is all the same.
    let (code, told, _) = revoke(&server, "alice", "0s").await;
    assert!(matches!(code, Some(0 | 3)) && told.contains("in force at "), "{code:?} {told}");
    assert_eq!(watching.wait().unwrap().code(), Some(0));
    wait_for(&server, 0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_refuses_its_first_server_is_not_missed_there() {
    let server = Server::start();
    let client =
        common::guard::client([server.url()]).name("pins another").public_key(PublicKey([7; 32])).connect().unwrap();
    tokio::task::block_in_place(|| {
        wait_until("it was refused, more than once", READY_LIMIT, || {
            (client.status().counts.divergences + client.status().counts.connection_failures > 1).then_some(())
        });
    });
    wait_for(&server, 0, 0);
    client.shutdown().await;
    wait_for(&server, 0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_abandoned_is_no_goodbye() {
    let server = Server::start();
    let connection = common::guard::upstream(&server.url()).connect().await.unwrap();
    let hello = common::hello(NodeId([8; 16]), "abandons", Role::Leaf);
    let Connection { outgoing, mut incoming } = connection;
    outgoing.send(ToServer::Hello(Box::new(hello))).await.unwrap();
    let welcome = tokio_stream::StreamExt::next(&mut incoming).await.unwrap().unwrap();
    assert!(matches!(welcome, ToSubscriber::Welcome(_)), "{welcome:?}");
    // Both ends at once, as a replica does that has had enough of a server.
    drop(outgoing);
    drop(incoming);
    wait_for(&server, 0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_it_is_incomplete_until_members_are_back() {
    let mut server = Server::start();
    let mut watching = watch(&server);
    let _a = client(&server, "a").await;
    wait_for(&server, 2, 0);
    tokio::task::block_in_place(|| {
        server.kill();
        watching.kill().unwrap();
        watching.wait().unwrap();
        server.restart();
    });
    let missing = revoke(&server, "alice", "1s").await;
    assert_eq!(missing.0, Some(3), "{missing:?}");
    assert!(missing.2.contains("rescind watch"), "{}", missing.2);
    wait_for(&server, 1, 1);
    assert_eq!(status(&server).await["members_cut_off"], "1");
    assert_eq!(told(&cli(&server, &["forget", "rescind watch"]).await).0, Some(0));
    assert_told(&revoke(&server, "bob", "10s").await, 0, "applied by 1 of 1 subscribers in ");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_policy_that_denies_the_time_of_death_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("rescind.toml");
    std::fs::write(&config, "[policy]\nwhen_stale = \"deny\"\n").unwrap();
    let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
    let mut watching = watch(&server);
    wait_for(&server, 1, 0);
    watching.kill().unwrap();
    watching.wait().unwrap();
    wait_for(&server, 0, 1);
    let missing = revoke(&server, "alice", "1s").await;
    assert_eq!(missing.0, Some(3), "{missing:?}");
    assert!(missing.2.contains("dead everywhere by 20"), "{}", missing.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_what_is_not_there_is_refused_by_field() {
    use rescind::wire::pb;
    let server = Server::start();
    let caller = common::caller::Caller::new(server.listen);
    let here = caller.status().await.position.unwrap();
    let beyond = pb::Position { revision: here.revision + 1, ..here.clone() };
    let elsewhere = pb::Position { epoch: vec![9; 16], ..here };
    for (position, field) in [(beyond, "position.revision"), (elsewhere, "position.epoch")] {
        let request = pb::AwaitPropagationRequest { position: Some(position), timeout_millis: 10 };
        let status = caller.revocations().await_propagation(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{}", status.message());
    }
}

fn write(server: &Server, sub: &str, wait: &str) -> (Option<i32>, String, String) {
    told(&server.cli(&["revoke", "--sub", sub, "--wait", wait], b""))
}

/// What `rescind status` prints of subscribers, without ids and times.
fn tree(server: &Server) -> Vec<String> {
    let (_, out, _) = told(&server.cli(&["status"], b""));
    let lines = out.lines().skip_while(|line| !line.contains("public key")).skip(1);
    lines
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            let name = line.split_whitespace().next().unwrap_or_default();
            let gone = if line.contains("CUT OFF") { " CUT OFF" } else { "" };
            format!("{}{name}{gone}", " ".repeat(indent.saturating_sub(2)))
        })
        .collect()
}

fn assert_missing(told: &(Option<i32>, String, String), line: &str, cut_off: &[&str]) {
    assert_told(told, 3, line);
    let named = told.2.lines().find_map(|line| line.split_once("cut off: ")).expect("somebody is cut off").1;
    let mut named: Vec<&str> = named.split(';').next().unwrap().split(", ").collect();
    named.sort_unstable();
    assert_eq!(named, cut_off, "{}", told.2);
}

#[test]
fn a_leaf_that_is_killed_below_relays_is_missed_until_it_is_forgotten() {
    let server = Server::start();
    let mut relay = Agent::prepare("relay", &[&server.url()], &[]);
    relay.start();
    let mut host = Agent::prepare("host", &[&relay.url], &[]);
    host.start();
    let (mut one, mut other) = (Agent::prepare("one", &[&host.url], &[]), Agent::prepare("other", &[&host.url], &[]));
    one.start();
    other.start();
    wait_for(&server, 4, 0);
    assert_eq!(tree(&server)[..2], ["relay", "  host"]);
    assert_eq!(tree(&server).iter().filter(|line| line.starts_with("    o")).count(), 2, "{:?}", tree(&server));
    assert_told(&write(&server, "alice", "10s"), 0, "applied by 4 of 4 subscribers in ");

    one.kill();
    wait_for(&server, 3, 1);
    assert_missing(&write(&server, "bob", "1s"), "applied by 3 of 4 subscribers in ", &["relay/host/one"]);
    assert!(tree(&server).contains(&"    one CUT OFF".to_owned()), "{:?}", tree(&server));
    assert_eq!(told(&server.cli(&["forget", "relay/host/other"], b"")).0, Some(2), "it is connected");
    assert_eq!(told(&server.cli(&["forget", "relay/host/one"], b"")).0, Some(0));
    assert_told(&write(&server, "carol", "10s"), 0, "applied by 3 of 3 subscribers in ");
}

#[test]
fn a_leaf_that_denies_is_missed_until_it_has_run_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("rescind.toml");
    std::fs::write(&config, "[policy]\nwhen_stale = \"deny\"\nmax_staleness = \"5s\"\nclock_skew_max = \"1s\"\n")
        .unwrap();
    let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
    let mut relay = Agent::prepare("relay", &[&server.url()], &[]);
    relay.start();
    let mut leaf = Agent::prepare("leaf", &[&relay.url], &[]);
    leaf.start();
    wait_for(&server, 2, 0);
    leaf.kill();
    wait_for(&server, 1, 1);
    let missing = write(&server, "alice", "1s");
    assert_missing(&missing, "applied by 1 of 2 subscribers in ", &["relay/leaf"]);
    assert!(missing.2.contains("dead everywhere by 20"), "{}", missing.2);
    wait_for(&server, 1, 0);
    assert_told(&write(&server, "bob", "10s"), 0, "applied by 1 of 1 subscribers in ");
}

#[test]
fn a_leaf_that_moves_from_a_relay_to_the_server_leaves_no_ghost() {
    let server = Server::start();
    let mut relay = Agent::prepare("relay", &[&server.url()], &[]);
    relay.start();
    let mut leaf = Agent::prepare("leaf", &[&relay.url, &server.url()], &[]);
    leaf.start();
    wait_for(&server, 2, 0);
    assert_eq!(tree(&server), ["relay", "  leaf"]);
    relay.signal("-STOP");
    wait_until("the leaf has moved to the server", READY_LIMIT, || {
        tree(&server).contains(&"leaf".to_owned()).then_some(())
    });
    relay.signal("-CONT");
    // The relay finds the leaf gone without a goodbye, and tells; what it tells next comes after that.
    let mut third = Agent::prepare("third", &[&relay.url], &[]);
    third.start();
    wait_for(&server, 3, 0);
    assert_told(&write(&server, "alice", "10s"), 0, "applied by 3 of 3 subscribers in ");
    leaf.kill();
    wait_for(&server, 2, 1);
    assert_missing(&write(&server, "bob", "1s"), "applied by 2 of 3 subscribers in ", &["leaf"]);
}

#[test]
fn a_relay_that_is_killed_takes_those_below_it_along_until_they_are_back() {
    let cache = tempfile::tempdir().unwrap();
    let mut server = Server::start();
    let mut relay = Agent::prepare("relay", &[&server.url()], &["--cache-dir", cache.path().to_str().unwrap()]);
    relay.start();
    let (mut one, mut other) = (Agent::prepare("one", &[&relay.url], &[]), Agent::prepare("other", &[&relay.url], &[]));
    one.start();
    other.start();
    wait_for(&server, 3, 0);
    relay.kill();
    wait_for(&server, 0, 3);
    let gone = ["relay", "relay/one", "relay/other"];
    assert_missing(&write(&server, "alice", "1s"), "applied by 0 of 3 subscribers in ", &gone);
    server.kill();
    server.restart();
    assert_missing(&write(&server, "bob", "1s"), "applied by 0 of 3 subscribers in ", &gone);
    // One never comes back, and the relay does not remember it.
    other.kill();
    relay.start();
    wait_for(&server, 2, 1);
    assert_missing(&write(&server, "carol", "1s"), "applied by 2 of 3 subscribers in ", &["relay/other"]);
    assert_eq!(told(&server.cli(&["forget", "other"], b"")).0, Some(0));
    assert_told(&write(&server, "dave", "10s"), 0, "applied by 2 of 2 subscribers in ");
}

#[test]
fn after_a_restart_of_the_server_alone_all_below_relays_are_found_again() {
    let mut server = Server::start();
    let mut relay = Agent::prepare("relay", &[&server.url()], &[]);
    relay.start();
    let (mut one, mut other) = (Agent::prepare("one", &[&relay.url], &[]), Agent::prepare("other", &[&relay.url], &[]));
    one.start();
    other.start();
    wait_for(&server, 3, 0);
    server.kill();
    other.kill();
    server.restart();
    wait_for(&server, 2, 1);
    assert_missing(&write(&server, "alice", "1s"), "applied by 2 of 3 subscribers in ", &["relay/other"]);
    assert_eq!(told(&server.cli(&["forget", "relay/other"], b"")).0, Some(0));
    assert_told(&write(&server, "bob", "10s"), 0, "applied by 2 of 2 subscribers in ");
}
