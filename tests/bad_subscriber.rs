//! Subscribers that break the protocol or ask for too much, at a server and at an agent. Each is sent away or kept within
//! its bounds, counted and logged; whoever else follows is fed on, and memory stays where it was.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::agent::Agent;
use common::caller::{Caller, revocation};
use common::http2::{Ended, Http2};
use common::server::Server;
use common::{metric, resident_bytes, wait_until};
use rescind::client::Client;
use rescind::replica::Break;
use rescind::wire::pb::go_away::Reason;
use rescind::wire::pb::replication_service_client::ReplicationServiceClient;
use rescind::wire::pb::subscribe_request::Frame as Asked;
use rescind::wire::pb::subscribe_response::Frame;
use rescind::wire::{self, pb};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

const LIMIT: Duration = Duration::from_secs(20);
const SUBSCRIBE: &str = "/rescind.v1.ReplicationService/Subscribe";
/// Streams that a connection may have at once.
const STREAMS_MAX: u64 = 200;
/// What a flood may cost in memory, in bytes: the subscriptions that are let in, and what an allocator keeps.
const GROWTH_MAX: u64 = 48 << 20;
/// HTTP/2's ENHANCE_YOUR_CALM.
const CALM: u32 = 0xb;

/// A server, an agent that follows it, and a client at each.
struct Scene {
    server: Server,
    /// Connected from the beginning, as the clients are.
    caller: Caller,
    agent: Agent,
    clients: [Client; 2],
    turns: u64,
}

/// One of the two that are attacked.
#[derive(Clone, Copy, Debug)]
struct Target {
    name: &'static str,
    listen: SocketAddr,
    ops: SocketAddr,
    pid: u32,
    /// Its resident memory before.
    memory: u64,
}

impl Scene {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same, with flags for both.
    async fn with(flags: &[&str]) -> Self {
        let server = Server::start_with(None, flags);
        let caller = Caller::new(server.listen);
        caller.revoke(vec![revocation(&[("jti", "before")])]).await.unwrap();
        let mut agent = Agent::prepare("agent", &[&server.url()], flags);
        agent.start();
        let clients = [server.url(), agent.url.clone()].map(|url| common::guard::client([url]).connect().unwrap());
        for client in &clients {
            client.ready(LIMIT).await.unwrap();
        }
        Self { server, caller, agent, clients, turns: 0 }
    }

    fn targets(&self) -> [Target; 2] {
        let (server, agent) = (&self.server, &self.agent);
        [("server", server.listen, server.ops, server.pid()), ("agent", agent.listen.unwrap(), agent.ops, agent.pid())]
            .map(|(name, listen, ops, pid)| Target { name, listen, ops, pid, memory: resident_bytes(pid) })
    }

    fn log_of(&self, target: &Target) -> String {
        if target.name == "server" { self.server.log_text() } else { self.agent.log_text() }
    }

    /// Holds that a revocation comes to everybody who behaves, and that nobody fell over.
    async fn assert_served(&mut self) {
        self.turns += 1;
        let jti = format!("turn {}", self.turns);
        let revoked = self.caller.revoke(vec![revocation(&[("jti", &jti)])]).await.unwrap();
        let position = wire::position(&revoked.position.unwrap()).unwrap();
        for client in &self.clients {
            client.reached(position, LIMIT).await.unwrap();
            // A machine that is starved can make a server fall silent; nothing else excuses a new connection.
            let counts = client.status().counts;
            let silent = counts.breaks[Break::Silent as usize];
            assert_eq!(counts.connections, 1 + silent, "it was cut off in between: {counts:?}");
        }
        assert!(self.server.is_alive() && self.agent.is_alive());
        for target in self.targets() {
            assert!(!self.log_of(&target).contains("panicked"), "{}", self.log_of(&target));
        }
    }
}

impl Target {
    fn sent_away(&self, reason: &str) -> f64 {
        metric(self.ops, &format!("rescind_subscribers_sent_away_total{{reason=\"{reason}\"}}"))
    }

    fn subscribers(&self) -> u64 {
        metric(self.ops, "rescind_subscribers") as u64
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.listen)).unwrap().connect().await.unwrap()
    }

    fn assert_memory(&self) {
        let grown = resident_bytes(self.pid).saturating_sub(self.memory);
        println!("{}: {} KiB more in memory", self.name, grown >> 10);
        assert!(grown <= GROWTH_MAX, "{} grew by {grown} B", self.name);
    }
}

fn hello(number: u64) -> Asked {
    Asked::Hello(pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        subscriber_id: [[0x66; 8], number.to_be_bytes()].concat(),
        subscriber_name: "the bad one".to_owned(),
        role: pb::hello::Role::Leaf.into(),
        ..pb::Hello::default()
    })
}

/// A subscription, and where its requests go.
async fn subscribe(channel: &Channel) -> (mpsc::Sender<pb::SubscribeRequest>, Streaming<pb::SubscribeResponse>) {
    let (requests, queue) = mpsc::channel(16);
    let mut client = ReplicationServiceClient::new(channel.clone());
    (requests, client.subscribe(ReceiverStream::new(queue)).await.unwrap().into_inner())
}

fn request(frame: Asked) -> pb::SubscribeRequest {
    pb::SubscribeRequest { frame: Some(frame) }
}

/// Reads until the stream ends: what GoAway said.
async fn farewell(answers: &mut Streaming<pb::SubscribeResponse>) -> (Reason, String) {
    let read = async {
        let mut told = None;
        while let Some(answer) = answers.message().await.unwrap() {
            if let Some(Frame::GoAway(away)) = answer.frame {
                told = Some((away.reason(), away.detail));
            }
        }
        told.expect("it is told why")
    };
    tokio::time::timeout(LIMIT, read).await.expect("the stream ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_of_the_future_is_sent_away() {
    let mut scene = Scene::new().await;
    for target in scene.targets() {
        let (requests, mut answers) = subscribe(&target.channel().await).await;
        requests.send(request(hello(1))).await.unwrap();
        assert!(matches!(answers.message().await.unwrap().unwrap().frame, Some(Frame::Welcome(_))));
        let ack = pb::Ack { applied_revision: 1 << 40, digest: vec![0; 16], ..pb::Ack::default() };
        requests.send(request(Asked::Ack(ack))).await.unwrap();
        assert_eq!(farewell(&mut answers).await, (Reason::Malformed, "an ack beyond what was sent".to_owned()));
        assert_eq!(target.sent_away("malformed"), 1.0);
        let log = scene.log_of(&target);
        let line = log.lines().find(|line| line.contains("a subscriber was sent away")).expect("it is logged");
        assert!(line.contains("the bad one") && line.contains("an ack beyond what was sent"), "{line}");
        scene.assert_served().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hellos_on_one_stream_ends_with_the_second() {
    let mut scene = Scene::new().await;
    for target in scene.targets() {
        let (requests, mut answers) = subscribe(&target.channel().await).await;
        let flood = tokio::spawn(async move {
            let mut sent: u64 = 0;
            while sent < 100_000 && requests.send(request(hello(sent))).await.is_ok() {
                sent += 1;
            }
            sent
        });
        assert_eq!(farewell(&mut answers).await, (Reason::Malformed, "a second hello".to_owned()));
        drop(answers);
        assert!(flood.await.unwrap() < 100_000, "nobody takes the rest");
        assert_eq!(target.sent_away("malformed"), 1.0);
        scene.assert_served().await;
        target.assert_memory();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_streams_that_break_the_protocol_is_counted_and_does_not_fill_the_log() {
    const STREAMS: u64 = 2000;
    let mut scene = Scene::new().await;
    for target in scene.targets() {
        let channel = target.channel().await;
        for _ in 0..STREAMS {
            let (requests, mut answers) = subscribe(&channel).await;
            requests.send(request(Asked::Ack(pb::Ack::default()))).await.unwrap();
            assert_eq!(farewell(&mut answers).await.0, Reason::Malformed);
        }
        assert_eq!(target.sent_away("malformed"), STREAMS as f64);
        let log = scene.log_of(&target);
        let lines = log.lines().filter(|line| line.contains("a subscriber was sent away")).count();
        assert!((1..=80).contains(&lines), "{lines} lines");
        scene.assert_served().await;
        target.assert_memory();
    }
}

/// A client that keeps to what the server allows on one connection: the others wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_of_one_connection_are_served_two_hundred_at_a_time() {
    let mut scene = Scene::new().await;
    for target in scene.targets() {
        let before = target.subscribers();
        let channel = target.channel().await;
        let mut streams = JoinSet::new();
        for number in 0..10_000 {
            let channel = channel.clone();
            streams.spawn(async move {
                let (requests, mut answers) = subscribe(&channel).await;
                requests.send(request(hello(number))).await.unwrap();
                while answers.message().await.is_ok_and(|answer| answer.is_some()) {}
            });
        }
        wait_until("as many as may are in", LIMIT, || (target.subscribers() == before + STREAMS_MAX).then_some(()));
        scene.assert_served().await;
        assert!(target.subscribers() <= before + STREAMS_MAX);
        target.assert_memory();
        streams.shutdown().await;
        drop(channel);
        wait_until("they are gone", LIMIT, || (target.subscribers() == before).then_some(()));
        // However HTTP/2 takes thousands of cancellations: none of these broke the protocol of subscriptions.
        assert_eq!(target.sent_away("malformed"), 0.0);
        scene.assert_served().await;
    }
}

/// A client that does not: streams beyond the limit are refused, and after a thousand of them the connection is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_against_the_rules_close_the_connection() {
    let mut scene = Scene::new().await;
    for target in scene.targets() {
        let before = target.subscribers();
        let ended = tokio::task::spawn_blocking(move || {
            let mut rude = Http2::connect(target.listen, SUBSCRIBE);
            let reader = rude.reader();
            let reading = std::thread::spawn(move || reader.end());
            let opened = (0..10_000).take_while(|_| rude.open().is_ok()).count();
            println!("{}: {opened} streams were written", target.name);
            reading.join().unwrap()
        });
        let ended = ended.await.unwrap();
        // Through a tunnel the reset may overtake the word; the log and the count say why it ended.
        let is_cut = common::guard::is_on() && ended == Ended::Closed;
        assert!(ended == Ended::GoAway(CALM) || is_cut, "{}: {ended:?}", target.name);
        wait_until("it is counted", LIMIT, || {
            (metric(target.ops, "rescind_connections_broken_total") == 1.0).then_some(())
        });
        wait_until("they are gone", LIMIT, || (target.subscribers() == before).then_some(()));
        assert_eq!(target.sent_away("malformed"), 0.0);
        let log = scene.log_of(&target);
        assert!(log.contains("a connection was closed for what came over it"), "{log}");
        scene.assert_served().await;
        target.assert_memory();
    }
}

/// With room for 32 connections at each, a quarter of them for those that have asked nothing yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_connections_than_there_is_room_for_make_way_and_cost_nobody() {
    const ROOM: u64 = 32;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("rescind.toml");
    std::fs::write(&config, format!("limits.connections = {ROOM}\n")).unwrap();
    let mut scene = Scene::with(&["--config", config.to_str().unwrap()]).await;
    for target in scene.targets() {
        let flood: Vec<Http2> = (0..10 * ROOM).map(|_| Http2::connect(target.listen, SUBSCRIBE)).collect();
        wait_until("the oldest are closed", LIMIT, || {
            let closed = metric(target.ops, "rescind_connections_closed_total{reason=\"unproven\"}");
            (closed as u64 >= 10 * ROOM - ROOM / 4).then_some(())
        });
        assert!(metric(target.ops, "rescind_connections_unproven") as u64 <= ROOM / 4);
        scene.assert_served().await;
        target.assert_memory();
        drop(flood);
        wait_until("they are gone", LIMIT, || {
            (metric(target.ops, "rescind_connections_unproven") == 0.0).then_some(())
        });
        assert_eq!(metric(target.ops, "rescind_connections_broken_total"), 0.0, "to leave is no crime");
    }
}
