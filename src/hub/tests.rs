//! The hub: publishing, beating, snapshots for joiners, places for subscribers.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::clock::ManualTime;
use crate::replication::fleet::RosterFault;
use crate::replication::frames::{Ack, GoAwayReason, Hello, ProtocolRange, Role, Roster};
use crate::replication::source::{Guest, NotItsOwner, Seat};
use crate::replication::subscription::Mode;
use crate::replication::{Cursor, Feed, LogRead, Source};
use crate::revocation::{Chain, Delta, Digest, Minute, RevocationSet, SetWriter, SnapshotBuilder, SnapshotState};
use crate::wire::pb;
use crate::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};

struct NoHistory;

impl History for NoHistory {
    fn deltas(&self, from: Revision, _: usize) -> Result<Vec<Logged>, HistoryError> {
        let logged = |revision: Revision| {
            let canonical = Delta::empty(revision, UnixMillis(revision.0), Minute::from_bits(7)).encode().into();
            Logged { revision, canonical, chain: Chain([revision.0 as u8; 32]) }
        };
        Ok(vec![logged(from), logged(from.next())])
    }
}

fn key() -> SetKey {
    SetKey::new([5; 16])
}

fn empty() -> SetWriter {
    RevocationSet::create(key(), Policy::default(), Minute::from_bits(7)).0
}

fn hub_with(options: Options) -> (Arc<Hub>, Arc<ManualTime>) {
    let time = ManualTime::starting_at(UnixMillis(1_700_000_000_000));
    let point = LogPoint {
        revision: Revision(0),
        digest: empty().digest(),
        chain: Chain::default(),
        floor: Minute::from_bits(7),
    };
    let start = Start {
        node: NodeId([1; 16]),
        epoch: Epoch { generation: 1, id: [2; 16] },
        ancestors: Vec::new(),
        set_key: key(),
        signer: Signer::from_seed(&[3; 32]),
        point,
        policy: Policy::default(),
        has_verification: false,
        oldest: Revision(1),
    };
    let clock = Clock::manual(Arc::clone(&time));
    (Hub::new(options, start, clock, Arc::new(GrpcEncoder), Arc::new(NoHistory)), time)
}

fn hub() -> (Arc<Hub>, Arc<ManualTime>) {
    hub_with(Options::default())
}

fn published(revision: u64) -> Published {
    Published {
        revision: Revision(revision),
        source_time: UnixMillis(1_700_000_000_000 + revision),
        floor: Minute::from_bits(7),
        policy: Policy::default(),
        has_verification: false,
        canonical: Bytes::from(format!("delta {revision}")),
        digest: Digest::from_bytes([revision as u8; 16]),
        chain: Chain([revision as u8; 32]),
    }
}

fn frames(hub: &Hub, after: u64) -> Vec<ToSubscriber> {
    let LogRead::Frames(frames) = hub.read(Cursor { revision: Revision(after), beat: 0 }, 1 << 20) else {
        panic!("before the log")
    };
    let decode =
        |bytes: &Bytes| pb::SubscribeResponse::decode(&bytes[GRPC_PREFIX_BYTES..]).unwrap().try_into().unwrap();
    frames.iter().map(|(bytes, _)| decode(bytes)).collect()
}

fn image(revision: u64, writer: &SetWriter) -> Image {
    let state = SnapshotState {
        revision: Revision(revision),
        floor: writer.floor(),
        policy: *writer.policy(),
        shapes: Vec::new(),
        verification: None,
    };
    let built = SnapshotBuilder::new(&key(), state).finish();
    Image {
        header: built.header,
        chunks: built.last.into_iter().collect(),
        sha256: built.sha256,
        chain: if revision == 0 { Chain::default() } else { Chain([revision as u8; 32]) },
        source_time: UnixMillis(9),
    }
}

/// Publishes a revision that changes nothing, so that a snapshot of it is the empty set's.
fn publish_empty(hub: &Hub, revision: u64) {
    hub.append(Published { digest: empty().digest(), ..published(revision) }).unwrap();
}

#[test]
fn every_reader_gets_the_same_buffers() {
    let (hub, _) = hub();
    hub.append(published(1)).unwrap();
    let read = || match hub.read(Cursor::default(), 1 << 20) {
        LogRead::Frames(frames) => frames,
        LogRead::BeforeLog => panic!("before the log"),
    };
    let (one, other) = (read(), read());
    assert_eq!(one[0].0.as_ptr(), other[0].0.as_ptr(), "encoded once");
    assert!(matches!(&frames(&hub, 0)[0], ToSubscriber::Delta(delta) if delta.canonical == "delta 1"));
}

#[test]
fn a_revision_out_of_turn_is_not_published() {
    let (hub, _) = hub();
    hub.append(published(1)).unwrap();
    assert_eq!(hub.append(published(3)), Err(LogError { head: Revision(1), given: Revision(3) }));
    assert_eq!(hub.append(published(1)), Err(LogError { head: Revision(1), given: Revision(1) }));
    assert_eq!(frames(&hub, 0).len(), 1);
}

#[test]
fn a_heartbeat_stands_behind_the_last_revision_and_is_signed_for_it() {
    let (hub, time) = hub();
    hub.append(published(1)).unwrap();
    time.advance(Duration::from_secs(1));
    hub.heartbeat(true);
    hub.append(published(2)).unwrap();
    let frames = frames(&hub, 0);
    let ToSubscriber::Heartbeat(heartbeat) = &frames[1] else { panic!("{frames:?}") };
    assert_eq!((heartbeat.revision, heartbeat.ack_now), (Revision(1), true));
    let statement = hub.statement(&hub.state.read().log.point_at(Revision(1)).unwrap(), heartbeat.source_time);
    assert_eq!(hub.origin.public_key.verify_heartbeat(&statement, &heartbeat.signature), Ok(()));
    assert!(matches!(frames[2], ToSubscriber::Delta(_)));
}

#[test]
fn the_age_of_the_last_word_is_told() {
    let (hub, time) = hub();
    hub.heartbeat(false);
    time.advance(Duration::from_millis(700));
    let head = hub.head(hub.now());
    assert_eq!((head.source_age, head.source_time), (Duration::from_millis(700), UnixMillis(1_700_000_000_000)));
}

#[test]
fn a_snapshot_must_agree_with_the_log() {
    let (hub, _) = hub();
    publish_empty(&hub, 1);
    let refused = |image: Image| match hub.prepare(&image) {
        Err(OfferError::Contradiction { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(image(2, &empty())), "head");
    let mut other = image(1, &empty());
    other.chain = Chain([9; 32]);
    assert_eq!(refused(other), "chain");
    let mut other = image(1, &empty());
    other.header.digest = Digest::default();
    assert_eq!(refused(other), "digest");
    let mut other = image(1, &empty());
    other.header.chunks = 3;
    assert_eq!(refused(other), "number of chunks");
    assert_eq!(hub.prepare(&image(1, &empty())), Ok(()));
    let again = OfferError::NotNewer { newest: Revision(1), given: Revision(1) };
    assert_eq!(hub.prepare(&image(1, &empty())), Err(again));
}

#[test]
fn at_most_two_generations_of_snapshots_are_alive() {
    let (hub, time) = hub();
    (1..=4).for_each(|revision| publish_empty(&hub, revision));
    hub.prepare(&image(1, &empty())).unwrap();
    let first = Source::snapshot(&*hub).unwrap();
    let joiner = hub.admit_snapshot().unwrap();
    hub.prepare(&image(2, &empty())).unwrap();
    assert!(hub.snapshot_frame(first.id, 0).is_some(), "a joiner is on it");
    assert_eq!(hub.prepare(&image(3, &empty())), Err(OfferError::Busy));
    time.advance(Duration::from_secs(600));
    assert_eq!(hub.prepare(&image(3, &empty())), Ok(()), "it had its time");
    assert!(hub.snapshot_frame(first.id, 0).is_none());
    drop(joiner);
    assert_eq!(hub.prepare(&image(4, &empty())), Ok(()));
    assert_eq!(hub.snapshot_revision(), Some(Revision(4)));
}

#[test]
fn a_snapshot_that_is_offered_waits_for_room() {
    let (hub, _) = hub();
    (1..=3).for_each(|revision| publish_empty(&hub, revision));
    let joiner = hub.admit_snapshot().unwrap();
    for revision in 1..=3 {
        hub.offer_snapshot(Arc::new(image(revision, &empty())));
        hub.prepare_offered();
    }
    assert_eq!(hub.snapshot_revision(), Some(Revision(2)));
    drop(joiner);
    hub.prepare_offered();
    assert_eq!(hub.snapshot_revision(), Some(Revision(3)));
}

/// Whether what a frame carries is signed for by the hub of these tests.
fn is_signed(hub: &Hub, delta: &DeltaFrame, point: LogPoint, source_time: UnixMillis) -> Option<bool> {
    let statement = hub.statement(&point, source_time);
    let verified = |signature| hub.origin.public_key.verify_heartbeat(&statement, &signature).is_ok();
    delta.signature.map(verified)
}

#[test]
fn every_delta_is_signed_and_of_a_read_of_the_history_the_last() {
    let (hub, _) = hub();
    let published = published(1);
    let (point, source_time) = (published.point(), published.source_time);
    hub.append(published).unwrap();
    let [ToSubscriber::Delta(delta)] = &frames(&hub, 0)[..] else { panic!("one delta") };
    assert_eq!(is_signed(&hub, delta, point, source_time), Some(true));
    let past = hub.read_history(Revision(5), 10).unwrap();
    let logged = |revision: u64| LogPoint {
        revision: Revision(revision),
        digest: Digest::default(),
        chain: Chain([revision as u8; 32]),
        floor: Minute::from_bits(7),
    };
    let signed =
        |(revision, delta): &(Revision, DeltaFrame)| is_signed(&hub, delta, logged(revision.0), UnixMillis(revision.0));
    assert_eq!(past.iter().map(signed).collect::<Vec<_>>(), [None, Some(true)]);
}

#[test]
fn the_oldest_revision_is_the_journals_or_the_logs() {
    let (hub, _) = hub();
    assert_eq!(hub.oldest(), Revision(1));
    hub.append(published(1)).unwrap();
    hub.set_oldest(Revision(2));
    assert_eq!(hub.oldest(), Revision(1), "the log still has it");
    assert_eq!(hub.read_history(Revision(1), 10), Err(HistoryError::Compacted(Revision(1))));
    assert!(hub.read_history(Revision(2), 10).is_ok());
    let (hub, _) = hub_with(Options { log_bytes_max: 1, ..Options::default() });
    (1..=5).for_each(|revision| hub.append(published(revision)).unwrap());
    assert_eq!(hub.oldest(), Revision(1), "the journal has it");
    assert_eq!(hub.bytes_since(Revision(1)), None);
}

fn hello() -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId([8; 16]),
        name: "checkout".to_owned(),
        role: Role::Leaf,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: "reset".to_owned(),
        path: Vec::new(),
        version: "1".to_owned(),
        probe: false,
        policy: None,
    }
}

#[test]
fn who_is_connected_is_known_until_the_place_is_left() {
    let (hub, _) = hub_with(Options { subscribers_max: 1, ..Options::default() });
    let mut seat: Box<dyn Seat> = hub.join("192.0.2.1".into()).unwrap();
    assert_eq!(hub.join("192.0.2.2".into()).err(), Some(GoAwayReason::Overloaded));
    seat.handle_hello(&hello()).unwrap();
    seat.handle_ack(&Ack {
        applied: Revision(4),
        digest: Digest::default(),
        ready: true,
        policy: None,
        subtree: None,
        source_time: UnixMillis(0),
    });
    let listed = hub.subscribers();
    assert_eq!((listed[0].name.as_str(), listed[0].acked, listed[0].ready), ("checkout", Revision(4), true));
    assert_eq!((listed[0].id, listed[0].address.as_str()), (Some(NodeId([8; 16])), "192.0.2.1"));
    drop(seat);
    assert_eq!(hub.subscriber_count(), 0);
    assert!(hub.join("192.0.2.2".into()).is_ok());
}

#[tokio::test]
async fn the_first_of_two_with_the_same_id_is_sent_away() {
    let (hub, _) = hub();
    let [mut first, mut second, mut other] = std::array::from_fn(|_| hub.join("here".into()).unwrap());
    first.handle_hello(&hello()).unwrap();
    other.handle_hello(&Hello { subscriber: NodeId([9; 16]), ..hello() }).unwrap();
    assert_eq!(first.farewell(), None);
    second.handle_hello(&hello()).unwrap();
    first.changed().await;
    let farewells = [&first, &second, &other].map(|seat| seat.farewell());
    assert_eq!(farewells, [Some(GoAwayReason::Displaced), None, None]);
    drop(second);
    assert_eq!(first.farewell(), Some(GoAwayReason::Displaced), "it comes back by itself");
    drop(first);
    let mut back = hub.join("here".into()).unwrap();
    back.handle_hello(&hello()).unwrap();
    assert_eq!(back.farewell(), None);
}

#[tokio::test]
async fn subscribers_are_woken_by_what_another_thread_publishes() {
    let (hub, _) = hub();
    let running = tokio::spawn(Arc::clone(&hub).run());
    let mut seats: Vec<_> = (0..40).map(|_| hub.join("here".into()).unwrap()).collect();
    for seat in &mut seats {
        // The first heartbeat.
        seat.changed().await;
    }
    let publisher = Arc::clone(&hub);
    std::thread::spawn(move || publisher.append(published(1)).unwrap()).join().unwrap();
    for seat in &mut seats {
        seat.changed().await;
        assert_eq!(seat.farewell(), None);
    }
    hub.stop();
    for seat in &mut seats {
        seat.changed().await;
        assert_eq!(seat.farewell(), Some(GoAwayReason::Shutdown));
    }
    running.await.unwrap();
    assert_eq!(hub.join("late".into()).err(), Some(GoAwayReason::Shutdown));
}

fn asks(hub: &Hub) -> usize {
    let asks = |frame: &ToSubscriber| matches!(frame, ToSubscriber::Heartbeat(beat) if beat.ack_now);
    frames(hub, hub.head(hub.now()).revision.0).iter().filter(|frame| asks(frame)).count()
}

fn deltas_ask(hub: &Hub, after: u64) -> Vec<bool> {
    let asks = |frame: &ToSubscriber| match frame {
        ToSubscriber::Delta(delta) => Some(delta.ack_now),
        _ => None,
    };
    frames(hub, after).iter().filter_map(asks).collect()
}

#[test]
fn all_who_wait_for_a_revision_ask_once_together() {
    let (hub, _) = hub();
    hub.append(published(1)).unwrap();
    assert_eq!(asks(&hub), 0);
    let (one, other) = (hub.ask_for_acks(Revision(1)), hub.ask_for_acks(Revision(1)));
    assert_eq!(asks(&hub), 1);
    hub.append(published(2)).unwrap();
    assert_eq!(deltas_ask(&hub, 1), [true]);
    drop((one, other));
    hub.append(published(3)).unwrap();
    assert_eq!(deltas_ask(&hub, 2), [false], "nobody waits");
}

#[tokio::test]
async fn whoever_waits_is_woken_by_hello_ack_and_leave() {
    let (hub, _) = hub();
    let mut seat = hub.join("here".into()).unwrap();
    let ack = Ack {
        applied: Revision(1),
        digest: Digest::default(),
        ready: true,
        policy: None,
        subtree: None,
        source_time: UnixMillis(0),
    };
    for step in 0..3 {
        let progress = hub.progress();
        tokio::pin!(progress);
        assert!(!progress.as_mut().enable());
        match step {
            0 => seat.handle_hello(&hello()).unwrap(),
            1 => {
                assert!(hub.has_laggard(Revision(1)));
                seat.handle_ack(&ack);
                assert!(!hub.has_laggard(Revision(1)));
            }
            _ => drop(std::mem::replace(&mut seat, hub.join("there".into()).unwrap())),
        }
        progress.await;
    }
}

/// Remembers what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<(u64, bool)>>);

impl Members for Told {
    fn handle_hello(
        &self,
        _: u64,
        _: &Guest,
        _: &Hello,
    ) -> Result<Option<crate::revocation::ports::Pending<'static, ()>>, NotItsOwner> {
        Ok(Some(Box::pin(std::future::ready(()))))
    }

    fn handle_ack(&self, _: u64, _: NodeId, _: &Ack) {}

    fn handle_roster(&self, _: u64, _: NodeId, _: &Roster) -> Result<(), RosterFault> {
        Err(RosterFault::NotBegun)
    }

    fn handle_mode(&self, _: u64, _: NodeId, _: Mode) {}

    fn handle_leave(&self, seat: u64, _: NodeId, goodbye: bool) {
        self.0.lock().push((seat, goodbye));
    }
}

#[test]
fn members_are_told_how_a_seat_was_left() {
    let (hub, _) = hub();
    let told = Arc::new(Told::default());
    hub.set_members(told.clone());
    let (mut polite, mut cut, unknown) =
        (hub.join("1".into()).unwrap(), hub.join("2".into()).unwrap(), hub.join("3".into()).unwrap());
    polite.handle_hello(&hello()).unwrap();
    assert!(polite.admission().is_some() && polite.admission().is_none());
    cut.handle_hello(&hello()).unwrap();
    polite.handle_goodbye();
    drop((polite, cut, unknown));
    assert_eq!(*told.0.lock(), [(1, true), (2, false)]);
}
