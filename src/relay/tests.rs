//! A relay: the same bytes again, an unbroken history, and silence while in doubt.

use tokio::sync::mpsc;

use super::*;
use crate::clock::ManualTime;
use crate::hub::SubscriberStatus;
use crate::replica::testing::{Authority, BEGIN, Peer, Server, WelcomeMode};
use crate::replica::{Driver, DriverOptions, FollowerOptions, Upstream};
use crate::replication::frames::{DeltaFrame, PolicyInForce, Role, ToServer, ToSubscriber};
use crate::replication::subscription::Mode;
use crate::replication::{Action, Cursor, Follower, LogRead, Moment, Step, Subscription};
use crate::revocation::{Policy, Revision, UnixMillis, WhenStale};
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
    let relay = Relay::new(NODE, options, clock.clone(), Arc::new(GrpcEncoder), Handle::current());
    let follower = FollowerOptions { role: Role::Relay, path: vec![NODE], ..FollowerOptions::leaf(NODE, "relay", 7) };
    let driver = Driver::spawn(
        DriverOptions {
            follower,
            upstreams: std::iter::once(server as Arc<dyn Upstream>).chain(other).collect(),
            clock,
            observer: None,
            keepers: vec![Box::new(relay.feeder())],
            subtree: Some(relay.subtree()),
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
    assert!(before.join("late").is_err(), "its subscribers are sent away");
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
    let mut seat = fixture.relay.hub().unwrap().join("below").unwrap();
    let digest = authority_digest(&fixture);
    let ack =
        crate::replication::frames::Ack { applied: Revision(1), digest, ready: true, policy: None, subtree: None };
    seat.handle_ack(&ack);
    let told = async {
        loop {
            if let Some(ToServer::Ack(ack)) = peer.receive().await
                && let Some(subtree) = ack.subtree
                && subtree.subscribers == 1
                && subtree.applied_min == Revision(1)
            {
                return subtree;
            }
        }
    };
    let subtree = tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
    assert_eq!((subtree.ready, subtree.laggards.len()), (1, 0));
    running.abort();
}

fn authority_digest(fixture: &Fixture) -> crate::revocation::Digest {
    fixture.driver.replica().status().digest
}

fn row(name: &str, acked: u64, ready: bool, subtree: Option<Subtree>) -> SubscriberStatus {
    SubscriberStatus {
        id: None,
        name: name.to_owned(),
        version: String::new(),
        role: Role::Leaf,
        address: String::new(),
        since: BEGIN,
        reconnect_reason: String::new(),
        mode: Mode::Live,
        acked: Revision(acked),
        ready,
        policy: Some(PolicyInForce { max_staleness: Duration::from_secs(acked), when_stale: WhenStale::Deny }),
        subtree,
        seat: 0,
        acked_at: None,
    }
}

#[test]
fn a_subtree_counts_everybody_and_names_those_behind() {
    assert_eq!(subtree_of(&[]), Subtree::default());
    let below = Subtree {
        subscribers: 2,
        ready: 1,
        applied_min: Revision(3),
        laggards: vec!["slow".to_owned()],
        loosest_policy: Some(PolicyInForce {
            max_staleness: Duration::from_secs(1),
            when_stale: WhenStale::ServeStale,
        }),
    };
    let sum = subtree_of(&[row("a", 9, true, None), row("relay", 9, true, Some(below)), row("b", 7, true, None)]);
    assert_eq!((sum.subscribers, sum.ready, sum.applied_min), (5, 4, Revision(3)));
    assert_eq!(sum.laggards, ["relay/slow", "b"]);
    let loosest = PolicyInForce { max_staleness: Duration::from_secs(9), when_stale: WhenStale::ServeStale };
    assert_eq!(sum.loosest_policy, Some(loosest));
}
