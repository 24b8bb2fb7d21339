//! A relay: the same bytes again, an unbroken history, and silence while in doubt.

use tokio::sync::mpsc;

use super::*;
use crate::clock::ManualTime;
use crate::replica::testing::{Authority, BEGIN, Peer, Server, WelcomeMode};
use crate::replica::{Driver, DriverOptions, FollowerOptions, Upstream};
use crate::replication::frames::{Ack, DeltaFrame, Hello, ProtocolRange, Role, ToServer, ToSubscriber};
use crate::replication::{Action, Cursor, Follower, LogRead, Moment, Step, Subscription};
use crate::revocation::{Policy, Revision, UnixMillis};
use crate::wire::pb;
use crate::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};
use prost::Message as _;

const NODE: NodeId = NodeId([0xa1; 16]);

struct Fixture {
    relay: Arc<Relay>,
    driver: Driver,
    peers: mpsc::Receiver<Peer>,
    time: Arc<ManualTime>,
}

fn fixture(log_bytes_max: usize) -> Fixture {
    fixture_with(log_bytes_max, None)
}

/// With another server behind the authority in the list.
fn fixture_with(log_bytes_max: usize, other: Option<Arc<dyn Upstream>>) -> Fixture {
    let (server, peers) = Server::new("authority");
    let time = ManualTime::starting_at(BEGIN);
    let clock = Clock::manual(Arc::clone(&time));
    let options = Options { log_bytes_max, ..Options::default() };
    let relay = Relay::new(NODE, 1, options, clock.clone(), Arc::new(GrpcEncoder), Handle::current());
    let follower = FollowerOptions { role: Role::Relay, path: vec![NODE], ..FollowerOptions::leaf(NODE, "relay", 7) };
    let driver = Driver::spawn(
        DriverOptions {
            follower,
            upstreams: std::iter::once(server as Arc<dyn Upstream>).chain(other).collect(),
            clock,
            observer: None,
            keepers: vec![Box::new(relay.feeder())],
            below: Some(relay.below()),
            cache: None,
        },
        &Handle::current(),
    );
    Fixture { relay, driver, peers, time }
}

impl Fixture {
    fn wall(&self) -> UnixMillis {
        Clock::manual(Arc::clone(&self.time)).wall()
    }

    async fn welcomed(&mut self, authority: &Authority) -> Peer {
        let mut peer = self.peers.recv().await.unwrap();
        peer.hello().await;
        peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
        peer.send(authority.snapshot(self.wall())).await;
        peer
    }

    /// Waits until the replica has come so far; virtual time bounds it.
    async fn reaches(&self, revision: Revision) {
        self.sees(|status| status.revision == revision && status.epoch.is_some()).await;
    }

    /// Waits for a status; virtual time bounds it.
    async fn sees(&self, wanted: impl FnMut(&FollowerStatus) -> bool) {
        let mut statuses = self.driver.replica().subscribe();
        tokio::time::timeout(Duration::from_secs(60), statuses.wait_for(wanted)).await.unwrap().unwrap();
    }

    /// Waits until the hub of the moment is another one than `before`.
    async fn replaced(&self, before: &Arc<Hub>) -> Option<Arc<Hub>> {
        let changed = async {
            loop {
                match self.relay.hub() {
                    Some(hub) if Arc::ptr_eq(&hub, before) => tokio::task::yield_now().await,
                    other => return other,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), changed).await.unwrap()
    }
}

fn frames(hub: &Hub, after: Revision) -> Vec<bytes::Bytes> {
    use crate::replication::Source as _;
    match hub.read(Cursor { revision: after, beat: 0 }, 1 << 20) {
        LogRead::Frames(frames) => frames.into_iter().map(|(bytes, _)| bytes).collect(),
        LogRead::BeforeLog => panic!("before the log"),
    }
}

fn encoded(frame: &ToSubscriber) -> bytes::Bytes {
    GrpcEncoder.encode(frame)
}

/// What a subscriber of the hub gets when it holds nothing, decoded.
fn joined(hub: &Arc<Hub>, now: Moment) -> (Follower, Vec<ToSubscriber>) {
    let mut follower = Follower::new(FollowerOptions::leaf(NodeId([9; 16]), "leaf", 1));
    let mut subscription = Subscription::new(now);
    follower.handle_connected(now);
    let mut seen = Vec::new();
    for _ in 0..100 {
        while let Some(action) = follower.poll_action() {
            if let Action::Send(frame) = action {
                subscription.handle_frame(now, frame, &**hub);
            }
        }
        match subscription.poll(now, &**hub) {
            Step::Send(bytes) => {
                let message = pb::SubscribeResponse::decode(&bytes[GRPC_PREFIX_BYTES..]).unwrap();
                let frame = ToSubscriber::try_from(message).unwrap();
                seen.push(frame.clone());
                follower.handle_frame(now, frame);
            }
            Step::Wait { .. } | Step::Close => break,
            Step::ReadHistory { .. } => panic!("a relay has no history"),
        }
    }
    (follower, seen)
}

#[tokio::test(start_paused = true)]
async fn what_the_authority_sent_is_served_again_byte_by_byte() {
    let mut fixture = fixture(1 << 20);
    assert!(fixture.relay.hub().is_none(), "there is nothing to serve yet");
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let peer = fixture.welcomed(&authority).await;
    let ToSubscriber::Delta(delta) = authority.revoke("trudy") else { panic!() };
    let delta = ToSubscriber::Delta(DeltaFrame { ack_now: false, ..delta });
    let word = authority.heartbeat(fixture.wall());
    peer.send([delta.clone(), word.clone()]).await;
    // Live is published after the word was passed on.
    fixture.sees(|status| status.revision == Revision(2) && status.state == FollowerState::Live).await;
    let hub = fixture.relay.hub().unwrap();
    assert_eq!(frames(&hub, Revision(1)), [encoded(&delta), encoded(&word)]);
    let now = Moment { boot: Duration::from_millis(BEGIN.0), wall: BEGIN };
    let (leaf, seen) = joined(&hub, now);
    let ToSubscriber::Welcome(welcome) = &seen[0] else { panic!("{:?}", seen[0]) };
    assert_eq!(welcome.path, [NODE]);
    assert_eq!(leaf.status().digest, fixture.driver.replica().status().digest);
    assert_eq!(leaf.status().revision, Revision(2));
    assert!(leaf.status().ready);
}

#[tokio::test(start_paused = true)]
async fn a_relay_in_doubt_feeds_nobody_and_goes_on_with_another_hub() {
    let mut fixture = fixture(1 << 20);
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let peer = fixture.welcomed(&authority).await;
    fixture.reaches(Revision(1)).await;
    let before = fixture.relay.hub().unwrap();
    authority.revoke("lost on the way");
    peer.send([authority.revoke("trudy")]).await;
    assert!(fixture.replaced(&before).await.is_none(), "a gap means doubt");
    assert!(before.join("late".into()).is_err(), "its subscribers are sent away");
    let _peer = fixture.welcomed(&authority).await;
    fixture.reaches(Revision(3)).await;
    assert_eq!(fixture.relay.hub().unwrap().head_point().revision, Revision(3));
}

#[tokio::test(start_paused = true)]
async fn a_newer_snapshot_is_asked_for_when_the_log_outgrows_it_and_the_hub_goes_on() {
    let mut fixture = fixture(4_000);
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let peer = fixture.welcomed(&authority).await;
    fixture.reaches(Revision(1)).await;
    let before = fixture.relay.hub().unwrap();
    for number in 0..20 {
        peer.send([authority.revoke(&format!("user-{number}"))]).await;
    }
    let mut peer = fixture.peers.recv().await.unwrap();
    assert_eq!(peer.hello().await.held, None, "it asks for everything");
    peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
    peer.send(authority.snapshot(fixture.wall())).await;
    peer.send([authority.revoke("late")]).await;
    fixture.reaches(Revision(22)).await;
    let hub = fixture.relay.hub().unwrap();
    assert!(Arc::ptr_eq(&hub, &before), "those below notice nothing");
    assert_eq!(hub.snapshot_revision(), Some(Revision(21)));
    assert_eq!(hub.head_point().revision, Revision(22));
}

#[tokio::test(start_paused = true)]
async fn a_newer_snapshot_is_asked_for_where_the_deltas_came_from() {
    let (other, mut others) = Server::new("another relay");
    let mut fixture = fixture_with(4_000, Some(other as Arc<dyn Upstream>));
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let peer = fixture.welcomed(&authority).await;
    peer.send((0..20).map(|number| authority.revoke(&format!("user-{number}")))).await;
    let again = tokio::select! {
        again = fixture.peers.recv() => again,
        _ = others.recv() => panic!("it asked somebody else"),
    };
    assert_eq!(again.unwrap().hello().await.held, None, "it asks for everything");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_no_newer_is_not_asked_for_again_at_once() {
    let mut fixture = fixture(4_000);
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let peer = fixture.welcomed(&authority).await;
    let oldest = authority.snapshot(fixture.wall());
    let deltas: Vec<ToSubscriber> = (0..20).map(|number| authority.revoke(&format!("user-{number}"))).collect();
    peer.send(deltas.clone()).await;
    let mut peer = fixture.peers.recv().await.unwrap();
    assert_eq!(peer.hello().await.held, None, "it asks for everything");
    peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
    peer.send(oldest.into_iter().chain(deltas)).await;
    fixture.sees(|status| status.revision == Revision(21) && status.ready).await;
    let again = tokio::time::timeout(Duration::from_secs(30), fixture.peers.recv()).await;
    assert!(again.is_err(), "the upstream has no newer one yet");
}

#[tokio::test(start_paused = true)]
async fn what_lies_below_is_told_above_at_once_while_somebody_waits() {
    let mut fixture = fixture(1 << 20);
    let running = tokio::spawn(Arc::clone(&fixture.relay).run());
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let mut peer = fixture.welcomed(&authority).await;
    let ToSubscriber::Heartbeat(word) = authority.heartbeat(fixture.wall()) else { panic!() };
    peer.send([ToSubscriber::Heartbeat(crate::replication::frames::Heartbeat { ack_now: true, ..word })]).await;
    fixture.reaches(Revision(1)).await;
    let mut seat = fixture.relay.hub().unwrap().join("below".into()).unwrap();
    let digest = authority_digest(&fixture);
    let ack =
        Ack { applied: Revision(1), digest, ready: true, policy: None, subtree: None, source_time: UnixMillis(0) };
    seat.handle_hello(&hello_below()).unwrap();
    seat.handle_ack(&ack);
    let mut entries = Vec::new();
    let mut changes = 0;
    let told = async {
        loop {
            match peer.receive().await {
                Some(ToServer::Roster(roster)) => {
                    changes = roster.complete.unwrap_or(changes);
                    entries.extend(roster.entries);
                }
                Some(ToServer::Ack(Ack { subtree: Some(subtree), .. })) if subtree.subscribers == 1 => {
                    assert!(changes >= subtree.changes, "whoever is counted was named before");
                    if subtree.applied_min == Revision(1) {
                        return subtree;
                    }
                }
                Some(_) => {}
                None => panic!("it went away"),
            }
        }
    };
    let subtree = tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
    assert_eq!((subtree.ready, subtree.laggards.len()), (1, 0));
    let last = entries.last().unwrap();
    assert_eq!((last.id, last.parent, last.about.name.as_str()), (NodeId([9; 16]), NODE, "below"));
    drop(seat);
    let cut = async {
        loop {
            if let Some(ToServer::Roster(roster)) = peer.receive().await
                && let Some(entry) = roster.entries.last()
                && !entry.connected
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), cut).await.unwrap();
    running.abort();
}

fn hello_below() -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId([9; 16]),
        name: "below".to_owned(),
        role: Role::Leaf,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: false,
        policy: None,
    }
}

fn authority_digest(fixture: &Fixture) -> crate::revocation::Digest {
    fixture.driver.replica().status().digest
}
