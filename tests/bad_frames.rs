//! A link that lies: frames that are lost, doubled or damaged on their way between a real server and a real replica, and
//! subscribers that do not keep to the protocol. The replica ends up right or says that it cannot tell; nobody panics.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::time::Duration;

use common::caller::{Caller, revocation};
use common::liar::{Liar, Lie};
use common::server::Server;
use rescind::client::Verdict;
use rescind::wire::pb::replication_service_client::ReplicationServiceClient;
use rescind::wire::pb::subscribe_request::Frame as Asked;
use rescind::wire::pb::subscribe_response::Frame;
use rescind::wire::{self, pb};
use serde_json::json;
use tokio_stream::StreamExt;

const LIMIT: Duration = Duration::from_secs(20);

/// What is done to one frame; nothing, to all others.
type Tamper = fn(&Frame) -> Option<Vec<Frame>>;

fn lost_delta(frame: &Frame) -> Option<Vec<Frame>> {
    matches!(frame, Frame::Delta(_)).then(Vec::new)
}

fn doubled_delta(frame: &Frame) -> Option<Vec<Frame>> {
    matches!(frame, Frame::Delta(_)).then(|| vec![frame.clone(), frame.clone()])
}

fn damaged_delta(frame: &Frame) -> Option<Vec<Frame>> {
    let Frame::Delta(delta) = frame else { return None };
    let mut canonical = delta.canonical.to_vec();
    *canonical.last_mut()? ^= 1;
    Some(vec![Frame::Delta(pb::Delta { canonical: canonical.into(), ..delta.clone() })])
}

fn damaged_chunk(frame: &Frame) -> Option<Vec<Frame>> {
    let Frame::SnapshotChunk(chunk) = frame else { return None };
    let mut entries = chunk.entries.to_vec();
    *entries.last_mut()? ^= 1;
    Some(vec![Frame::SnapshotChunk(pb::SnapshotChunk { entries: entries.into(), ..chunk.clone() })])
}

fn damaged_chunk_with_its_checksum(frame: &Frame) -> Option<Vec<Frame>> {
    let Frame::SnapshotChunk(chunk) = damaged_chunk(frame)?.pop()? else { return None };
    Some(vec![Frame::SnapshotChunk(pb::SnapshotChunk { crc32c: crc32c::crc32c(&chunk.entries), ..chunk })])
}

fn lost_chunk(frame: &Frame) -> Option<Vec<Frame>> {
    matches!(frame, Frame::SnapshotChunk(_)).then(Vec::new)
}

fn damaged_signature(frame: &Frame) -> Option<Vec<Frame>> {
    let Frame::Heartbeat(heartbeat) = frame else { return None };
    let mut signature = heartbeat.signature.clone();
    *signature.last_mut()? ^= 1;
    Some(vec![Frame::Heartbeat(pb::Heartbeat { signature, ..heartbeat.clone() })])
}

/// When a link lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// To a replica that knows nothing yet.
    AtFirst,
    /// To one that is ready.
    Later,
}

/// Holds that a replica behind such a link ends up with exactly the server's set, and connects again unless the lie
/// is harmless.
async fn check(server: &Server, name: &str, tamper: Tamper, when: When, harmless: bool) {
    let caller = Caller::new(server.listen);
    let [before, first, last, other] = ["before", "first", "last", "other"].map(|turn| format!("{name}, {turn}"));
    let revoke = |jti: &str| caller.revoke(vec![revocation(&[("jti", jti)])]);
    revoke(&before).await.unwrap();
    let relay = Liar::before(&format!("http://{}", server.listen));
    let lie = move |frame: &Frame| tamper(frame).map(Lie::Instead);
    if when == When::AtFirst {
        relay.lies.push(lie);
    }
    let client = common::guard::client([relay.url.clone()]).connect().unwrap();
    client.ready(LIMIT).await.unwrap();
    if when == When::Later {
        relay.lies.push(lie);
    }
    revoke(&first).await.unwrap();
    let head = revoke(&last).await.unwrap().position.unwrap();
    let noticed = || async {
        while !relay.lies.are_told() || client.status().counts.connections < 1 + u64::from(!harmless) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, noticed()).await;
    waited.unwrap_or_else(|_| panic!("{name} was never noticed: {:?}", client.status()));
    client.reached(wire::position(&head).unwrap(), LIMIT).await.unwrap();
    client.ready(LIMIT).await.unwrap();

    for (jti, revoked) in [(before, true), (first, true), (last, true), (other, false)] {
        let answer = client.check_json(json!({ "jti": jti }).to_string().as_bytes(), None).unwrap();
        assert_eq!(matches!(answer.verdict, Verdict::Revoked(_)), revoked, "{jti}: {answer:?}");
        assert_eq!(answer.verdict == Verdict::NotRevoked, !revoked, "{jti}: {answer:?}");
    }
    client.shutdown().await;
    drop(relay);
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_doubled_and_damaged_changes_leave_the_replica_right() {
    let server = Server::start();
    check(&server, "a delta that is lost", lost_delta, When::Later, false).await;
    check(&server, "a delta that comes twice", doubled_delta, When::Later, true).await;
    check(&server, "a damaged delta", damaged_delta, When::Later, false).await;
    check(&server, "a heartbeat that the authority did not sign", damaged_signature, When::Later, false).await;
}

/// Revocations enough for a snapshot: several MiB of changes.
const LARGE_SET: usize = 380_000;
const BATCH: usize = 10_000;

/// A server that hands joiners a snapshot of several chunks.
async fn with_large_set() -> Server {
    let server = Server::start();
    let caller = Caller::new(server.listen);
    for first in (0..LARGE_SET).step_by(BATCH) {
        let batch = (first..first + BATCH).map(|n| revocation(&[("jti", &n.to_string())])).collect();
        caller.revoke(batch).await.unwrap();
    }
    let offered = async {
        while chunks_offered(&server).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, offered).await.expect("joiners are sent a snapshot with entries");
    server
}

/// How many chunks the snapshot has that a joiner is sent now.
async fn chunks_offered(server: &Server) -> u32 {
    let mut client = ReplicationServiceClient::connect(format!("http://{}", server.listen)).await.unwrap();
    let asked = tokio_stream::iter([Asked::Hello(hello())]).chain(tokio_stream::pending());
    let asked = asked.map(|frame| pb::SubscribeRequest { frame: Some(frame) });
    let mut answered = client.subscribe(asked).await.unwrap().into_inner();
    loop {
        let answer = answered.message().await.unwrap().expect("a snapshot begins").frame;
        if let Some(Frame::SnapshotBegin(begin)) = answer {
            return begin.chunks;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_not_what_was_sent_is_never_taken() {
    let server = with_large_set().await;
    check(&server, "a bad chunk checksum", damaged_chunk, When::AtFirst, false).await;
    check(&server, "a forged chunk with a good checksum", damaged_chunk_with_its_checksum, When::AtFirst, false).await;
    check(&server, "a lost chunk", lost_chunk, When::AtFirst, false).await;
}

/// The first frame that answers these.
async fn first_answer(server: &Server, asked: Vec<Asked>) -> Frame {
    let mut client = ReplicationServiceClient::connect(format!("http://{}", server.listen)).await.unwrap();
    // The subscriber's side stays open: the server has to answer by itself.
    let asked = tokio_stream::iter(asked).chain(tokio_stream::pending());
    let asked = asked.map(|frame| pb::SubscribeRequest { frame: Some(frame) });
    let mut answered = client.subscribe(asked).await.unwrap().into_inner();
    let first = tokio::time::timeout(LIMIT, answered.message()).await.expect("it answers");
    first.unwrap().expect("a frame").frame.expect("not empty")
}

fn hello() -> pb::Hello {
    pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        subscriber_id: vec![1; 16],
        role: pb::hello::Role::Leaf.into(),
        ..pb::Hello::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_breaks_the_protocol_is_told_why_and_sent_away() {
    use pb::go_away::Reason;
    let mut server = Server::start();
    let caller = Caller::new(server.listen);
    let before = caller.standing().await;
    let unknown = pb::Hello { protocol_min: 98, protocol_max: 99, ..hello() };
    let reversed = pb::Hello { protocol_min: 2, protocol_max: 1, ..hello() };
    let short_id = pb::Hello { subscriber_id: vec![1; 3], ..hello() };
    let long_name = pb::Hello { subscriber_name: "n".repeat(129), ..hello() };
    let long_path = pb::Hello { path: vec![vec![2; 16]; 17], ..hello() };
    for (name, asked, reason) in [
        ("an unknown protocol version", vec![Asked::Hello(unknown)], Reason::Protocol),
        ("a range that is none", vec![Asked::Hello(reversed)], Reason::Protocol),
        ("a short id", vec![Asked::Hello(short_id)], Reason::Malformed),
        ("a long name", vec![Asked::Hello(long_name)], Reason::Malformed),
        ("a long path", vec![Asked::Hello(long_path)], Reason::Malformed),
        ("an ack first", vec![Asked::Ack(pb::Ack::default())], Reason::Malformed),
    ] {
        let Frame::GoAway(told) = first_answer(&server, asked).await else { panic!("{name}: not sent away") };
        assert_eq!(told.reason(), reason, "{name}: {told:?}");
        assert!(!told.detail.is_empty(), "{name}");
    }
    assert_eq!(caller.status().await.members_cut_off, 0, "whoever is sent away at once is not missed");
    assert!(matches!(first_answer(&server, vec![Asked::Hello(hello())]).await, Frame::Welcome(_)));
    assert_eq!(caller.standing().await, before);
    assert!(server.is_alive() && !server.log_text().contains("panicked"), "{}", server.log_text());
}

/// Why the server ends a subscription in which this is said.
async fn sent_away(server: &Server, asked: Vec<Asked>) -> pb::GoAway {
    let mut client = ReplicationServiceClient::connect(format!("http://{}", server.listen)).await.unwrap();
    let asked = tokio_stream::iter(asked).chain(tokio_stream::pending());
    let asked = asked.map(|frame| pb::SubscribeRequest { frame: Some(frame) });
    let mut answered = client.subscribe(asked).await.unwrap().into_inner();
    let told = async {
        loop {
            let frame = answered.message().await.unwrap().expect("it says why").frame;
            if let Some(Frame::GoAway(told)) = frame {
                return told;
            }
        }
    };
    tokio::time::timeout(LIMIT, told).await.expect("it is sent away")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roster_that_breaks_the_rules_ends_the_subscription() {
    let mut server = Server::start();
    let relay = || Asked::Hello(pb::Hello { role: pb::hello::Role::Relay.into(), ..hello() });
    let begins = || pb::Roster { memory: 1, begins: true, ..pb::Roster::default() };
    let entry = |number: u64| pb::roster::Entry {
        id: u128::from(number).to_be_bytes().to_vec(),
        parent_id: vec![1; 16],
        change: number,
        joined: number,
        connected: true,
        role: pb::hello::Role::Leaf.into(),
        policy: Some(pb::ack::PolicyInForce::default()),
        ..pb::roster::Entry::default()
    };
    let endless = (0..101u64).map(|part| {
        let entries = (1..=100).map(|number| entry(part * 100 + number)).collect();
        Asked::Roster(pb::Roster { complete: Some(part), begins: part == 0, entries, ..begins() })
    });
    let bad_id = pb::Roster { gone: vec![vec![1; 3]], ..begins() };
    for (name, asked) in [
        ("a roster first", vec![Asked::Roster(begins())]),
        ("a roster of a leaf", vec![Asked::Hello(hello()), Asked::Roster(begins())]),
        ("a roster that does not begin", vec![relay(), Asked::Roster(pb::Roster { begins: false, ..begins() })]),
        (
            "another memory in the middle",
            vec![relay(), Asked::Roster(begins()), Asked::Roster(pb::Roster { begins: false, memory: 2, ..begins() })],
        ),
        ("a short id", vec![relay(), Asked::Roster(bad_id)]),
        ("more members than there can be", std::iter::once(relay()).chain(endless).collect()),
    ] {
        let told = sent_away(&server, asked).await;
        assert_eq!(told.reason(), pb::go_away::Reason::Malformed, "{name}: {told:?}");
        assert!(!told.detail.is_empty(), "{name}");
    }
    assert!(server.is_alive() && !server.log_text().contains("panicked"), "{}", server.log_text());
}
