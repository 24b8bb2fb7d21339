//! The sending machine: greeting, resuming, snapshots, cuts.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::replication::frames::*;
use crate::replication::log::{FramedLog, LogEntry, LogPoint, LogRead};
use crate::replication::source::{Head, HistoryError, Origin, SnapshotOffer};
use crate::replication::{Lineage, PublicKey, Signature, Source};
use crate::revocation::{Ancestor, Chain, Digest, Epoch, Minute, Policy, SetKey, UnixMillis};

const EPOCH: Epoch = Epoch { generation: 3, id: [3; 16] };
const NODE: NodeId = NodeId([0xaa; 16]);

/// A source whose frames are their own names: `d7` is the delta of revision 7, `h7` a heartbeat behind it.
struct TestSource {
    origin: Origin,
    log: RefCell<FramedLog>,
    oldest: Revision,
    snapshot: Cell<Option<u64>>,
    under_way: Arc<AtomicUsize>,
    permits: usize,
    has_verification: Cell<bool>,
}

fn digest(revision: u64) -> Digest {
    Digest::from_bytes([revision as u8; 16])
}

fn point(revision: u64) -> LogPoint {
    LogPoint {
        revision: Revision(revision),
        digest: digest(revision),
        chain: Chain::default(),
        floor: Minute::default(),
    }
}

impl TestSource {
    /// Revisions after `base` to `head` are in the log, those from `oldest` on in the history.
    fn new(oldest: u64, base: u64, head: u64) -> Self {
        let origin = Origin {
            node: NODE,
            epoch: EPOCH,
            lineage: Lineage {
                ancestors: vec![Ancestor { epoch: Epoch { generation: 2, id: [2; 16] }, last: Revision(40) }],
                signature: Signature([0; 64]),
            },
            set_key: SetKey::new([1; 16]),
            public_key: PublicKey([2; 32]),
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
        };
        let source = Self {
            origin,
            log: RefCell::new(FramedLog::new(point(base), 1 << 20)),
            oldest: Revision(oldest),
            snapshot: Cell::new(Some(base.max(oldest))),
            under_way: Arc::default(),
            permits: 1,
            has_verification: Cell::new(false),
        };
        (base + 1..=head).for_each(|revision| source.publish(revision));
        source
    }

    fn publish(&self, revision: u64) {
        let entry = LogEntry { point: point(revision), frame: format!("d{revision}").into() };
        self.log.borrow_mut().push(entry).unwrap();
    }

    fn history(&self, from: Revision, to: u64) -> Result<Vec<(Revision, DeltaFrame)>, HistoryError> {
        let canonical = |revision: u64| Bytes::from([b"history".as_slice(), &digest(revision).to_bytes()].concat());
        let frame = |revision| DeltaFrame { canonical: canonical(revision), signature: None, ack_now: false };
        Ok((from.0..=to).map(|revision| (Revision(revision), frame(revision))).collect())
    }
}

impl Source for TestSource {
    fn path(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn head(&self, _: Moment) -> Head {
        let point = self.log.borrow().head();
        let (source_time, source_age) = (UnixMillis(5), Duration::ZERO);
        Head { revision: point.revision, digest: point.digest, policy: Policy::default(), source_time, source_age }
    }

    fn has_verification(&self) -> bool {
        self.has_verification.get()
    }

    fn oldest(&self) -> Revision {
        self.oldest
    }

    fn digest_at(&self, revision: Revision) -> Option<Digest> {
        self.log.borrow().point_at(revision).map(|point| point.digest)
    }

    fn read(&self, cursor: Cursor, bytes_max: usize) -> LogRead {
        self.log.borrow().read(cursor, bytes_max)
    }

    fn snapshot(&self) -> Option<SnapshotOffer> {
        let revision = Revision(self.snapshot.get()?);
        Some(SnapshotOffer { id: revision.0, revision, entries: 2, chunks: 2, header: Bytes::new() })
    }

    fn snapshot_frame(&self, id: u64, index: u32) -> Option<Bytes> {
        let kept = self.snapshot.get() == Some(id);
        kept.then(|| if index == 2 { format!("end{id}") } else { format!("chunk{id}.{index}") }.into())
    }

    fn admit_snapshot(&self) -> Option<SnapshotPermit> {
        SnapshotPermit::take(&self.under_way, self.permits)
    }

    fn encode(&self, frame: &ToSubscriber) -> Bytes {
        match frame {
            ToSubscriber::Welcome(welcome) => format!("welcome {:?}", welcome.mode).into(),
            ToSubscriber::SnapshotBegin(begin) => format!("begin {:?} {}", begin.reason, begin.revision).into(),
            ToSubscriber::Delta(delta) => format!("history {}", delta.canonical[delta.canonical.len() - 1]).into(),
            ToSubscriber::GoAway(away) => format!("go away {}", away.reason.name()).into(),
            other => panic!("{other:?} is shared"),
        }
    }
}

fn at(seconds: u64) -> Moment {
    Moment { boot: Duration::from_secs(seconds), wall: UnixMillis(0) }
}

fn hello(held: Option<(u64, Digest)>) -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId([1; 16]),
        name: String::new(),
        role: Role::Leaf,
        held: held.map(|(revision, digest)| Held { epoch: EPOCH, revision: Revision(revision), digest }),
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: false,
        policy: None,
    }
}

fn ack(revision: u64) -> ToServer {
    let applied = Revision(revision);
    ToServer::Ack(Ack {
        applied,
        digest: digest(revision),
        ready: true,
        policy: None,
        subtree: None,
        source_time: UnixMillis(0),
    })
}

fn greeted(source: &TestSource, hello: Hello) -> Subscription {
    let mut subscription = Subscription::new(at(0));
    subscription.handle_frame(at(0), ToServer::Hello(Box::new(hello)), source);
    subscription
}

/// Everything that is sent before the subscription wants something else, and that.
fn poll(subscription: &mut Subscription, now: Moment, source: &TestSource) -> (Vec<String>, Step) {
    let mut sent = Vec::new();
    loop {
        match subscription.poll(now, source) {
            Step::Send(bytes) => sent.push(String::from_utf8(bytes.to_vec()).unwrap()),
            other => return (sent, other),
        }
    }
}

fn texts(subscription: &mut Subscription, source: &TestSource) -> Vec<String> {
    poll(subscription, at(0), source).0
}

fn away(source: &TestSource, hello: Hello) -> Vec<String> {
    let (sent, step) = poll(&mut greeted(source, hello), at(0), source);
    assert_eq!(step, Step::Close);
    sent
}

#[test]
fn a_hello_is_awaited_once_whatever_became_of_it() {
    let source = TestSource::new(1, 1, 1);
    assert!(Subscription::new(at(0)).awaits_hello());
    let refused = Hello { protocol: ProtocolRange { min: 99, max: 99 }, ..hello(None) };
    for first in [hello(None), Hello { probe: true, ..hello(None) }, refused] {
        assert!(!greeted(&source, first).awaits_hello());
    }
    let mut late = Subscription::new(at(0));
    let _ = late.poll(at(6), &source);
    assert!(!late.awaits_hello(), "it took too long");
}

#[test]
fn an_equal_digest_is_resumed_from_the_log() {
    let source = TestSource::new(1, 5, 8);
    let mut subscription = greeted(&source, hello(Some((6, digest(6)))));
    assert_eq!(texts(&mut subscription, &source), ["welcome Resume", "d7", "d8"]);
    assert_eq!(subscription.mode(), Mode::Live);
    source.publish(9);
    source.log.borrow_mut().push_heartbeat("h9".into());
    assert_eq!(texts(&mut subscription, &source), ["d9", "h9"]);
}

#[test]
fn an_equal_digest_is_resumed_from_the_history() {
    let source = TestSource::new(1, 5, 6);
    let mut subscription = greeted(&source, hello(Some((2, digest(2)))));
    let (sent, step) = poll(&mut subscription, at(0), &source);
    let Step::ReadHistory { from, .. } = step else { panic!("{step:?}") };
    assert_eq!((sent.len(), from), (0, Revision(2)), "nothing before the digest is known");
    subscription.handle_history(at(0), source.history(from, 4), &source);
    let (sent, step) = poll(&mut subscription, at(0), &source);
    assert_eq!(sent, ["welcome Resume"]);
    let Step::ReadHistory { from, .. } = step else { panic!("{step:?}") };
    assert_eq!(from, Revision(3));
    subscription.handle_history(at(0), source.history(from, 5), &source);
    assert_eq!(texts(&mut subscription, &source), ["history 3", "history 4", "history 5", "d6"]);
}

#[test]
fn whoever_cannot_be_resumed_gets_a_snapshot_and_is_told_why() {
    let source = TestSource::new(4, 5, 6);
    let mut other = hello(Some((5, digest(5))));
    other.held.as_mut().unwrap().epoch = Epoch { generation: 2, id: [2; 16] };
    let cases = [
        (hello(None), "Empty"),
        (hello(Some((6, digest(0)))), "DigestDiffers"),
        (hello(Some((2, digest(2)))), "Compacted"),
    ];
    for (hello, reason) in cases.into_iter().chain([(other, "OtherEpoch")]) {
        let mut subscription = greeted(&source, hello);
        let begin = format!("begin {reason} 5");
        let expected = ["welcome Snapshot", &begin, "chunk5.0", "chunk5.1", "end5", "d6"];
        assert_eq!(texts(&mut subscription, &source), expected);
    }
    let source = TestSource::new(1, 5, 6);
    let mut subscription = greeted(&source, hello(Some((3, digest(99)))));
    assert!(matches!(poll(&mut subscription, at(0), &source).1, Step::ReadHistory { .. }));
    subscription.handle_history(at(0), source.history(Revision(3), 4), &source);
    assert_eq!(texts(&mut subscription, &source)[1], "begin DigestDiffers 5");
}

#[test]
fn history_that_a_restored_backup_lost_is_counted() {
    let source = TestSource::new(1, 5, 6);
    let mut lost = hello(Some((47, digest(5))));
    lost.held.as_mut().unwrap().epoch = source.origin.lineage.ancestors[0].epoch;
    assert_eq!(greeted(&source, lost.clone()).history_lost(), 7);
    // Restored twice: the epoch of the first restore has the same generation, and is no ancestor.
    lost.held.as_mut().unwrap().epoch = Epoch { id: [9; 16], ..EPOCH };
    assert_eq!(greeted(&source, lost).history_lost(), 47);
}

#[test]
fn a_subscriber_from_the_future_is_awaited_for_a_second() {
    let source = TestSource::new(1, 5, 6);
    let mut subscription = greeted(&source, hello(Some((7, digest(7)))));
    assert_eq!(poll(&mut subscription, at(0), &source), (vec![], Step::Wait { until: Duration::from_secs(1) }));
    source.publish(7);
    assert_eq!(texts(&mut subscription, &source), ["welcome Resume"]);
    let mut subscription = greeted(&source, hello(Some((8, digest(8)))));
    assert_eq!(poll(&mut subscription, at(1), &source), (vec!["go away behind_subscriber".into()], Step::Close));
}

#[test]
fn a_subscriber_that_fell_out_of_log_and_history_gets_a_snapshot_in_mid_stream() {
    let mut source = TestSource::new(1, 0, 3);
    let mut subscription = greeted(&source, hello(Some((3, digest(3)))));
    assert_eq!(texts(&mut subscription, &source), ["welcome Resume"]);
    source = TestSource::new(20, 25, 27);
    assert!(matches!(subscription.poll(at(0), &source), Step::Send(frame) if frame == "begin Lagged 25"));
    assert_eq!(subscription.mode(), Mode::Lagging);
    assert_eq!(texts(&mut subscription, &source), ["chunk25.0", "chunk25.1", "end25", "d26", "d27"]);
    assert_eq!(subscription.mode(), Mode::Live);
}

#[test]
fn snapshots_are_admitted_up_to_a_limit_and_given_back() {
    let source = TestSource::new(1, 5, 6);
    let mut first = greeted(&source, hello(None));
    assert!(matches!(first.poll(at(0), &source), Step::Send(_)));
    assert_eq!(away(&source, hello(None)), ["go away overloaded"]);
    drop(first);
    assert_eq!(texts(&mut greeted(&source, hello(None)), &source).len(), 6);
    assert_eq!(texts(&mut greeted(&source, hello(None)), &source).len(), 6, "a finished one counts no more");
}

#[test]
fn a_snapshot_that_is_not_there_yet_is_awaited() {
    let source = TestSource::new(1, 5, 6);
    source.snapshot.set(None);
    let mut subscription = greeted(&source, hello(None));
    assert_eq!(poll(&mut subscription, at(1), &source), (vec![], Step::Wait { until: Duration::from_secs(9) }));
    source.snapshot.set(Some(6));
    assert_eq!(poll(&mut subscription, at(2), &source).0[1], "begin Empty 6");
    source.snapshot.set(None);
    let mut subscription = greeted(&source, hello(None));
    assert!(matches!(subscription.poll(at(3), &source), Step::Wait { .. }));
    assert_eq!(poll(&mut subscription, at(11), &source).0, ["go away overloaded"]);
}

#[test]
fn whoever_is_on_a_snapshot_that_was_replaced_comes_back() {
    let source = TestSource::new(1, 5, 6);
    let mut subscription = greeted(&source, hello(None));
    for expected in ["welcome Snapshot", "begin Empty 5", "chunk5.0"] {
        assert!(matches!(subscription.poll(at(0), &source), Step::Send(frame) if frame == expected));
    }
    source.snapshot.set(Some(6));
    assert_eq!(texts(&mut subscription, &source), ["go away overloaded"]);
}

#[test]
fn whoever_cannot_be_served_is_told_why() {
    let source = TestSource::new(1, 5, 6);
    let plain = || hello(None);
    let protocol = ProtocolRange { min: 3, max: 9 };
    assert_eq!(away(&source, Hello { protocol, ..plain() }), ["go away protocol"]);
    assert_eq!(away(&source, Hello { path: vec![NodeId([4; 16]), NODE], ..plain() }), ["go away loop"]);
    assert_eq!(away(&source, Hello { subscriber: NODE, ..plain() }), ["go away loop"]);
    let held = Held { epoch: Epoch { generation: 4, id: [4; 16] }, revision: Revision(1), digest: digest(1) };
    assert_eq!(away(&source, Hello { held: Some(held), ..plain() }), ["go away old_epoch"]);
}

#[test]
fn a_frame_that_breaks_the_protocol_ends_the_subscription() {
    let source = TestSource::new(1, 5, 6);
    let ended = |subscription: &mut Subscription, frame| {
        subscription.handle_frame(at(0), frame, &source);
        texts(subscription, &source).pop()
    };
    let malformed = Some("go away malformed".to_owned());
    assert_eq!(ended(&mut Subscription::new(at(0)), ack(0)), malformed);
    let resumed = || {
        let mut subscription = greeted(&source, hello(Some((6, digest(6)))));
        texts(&mut subscription, &source);
        subscription
    };
    assert_eq!(ended(&mut resumed(), ToServer::Hello(Box::new(hello(None)))), malformed);
    assert_eq!(ended(&mut resumed(), ack(7)), malformed, "an ack beyond what was sent");
    let mut subscription = resumed();
    assert_eq!(ended(&mut subscription, ack(6)), None);
    assert_eq!(subscription.acked().map(|ack| ack.applied), Some(Revision(6)));
    assert_eq!(ended(&mut subscription, ack(5)), malformed, "an ack that goes back");
}

#[test]
fn a_roster_is_taken_from_relays_alone() {
    let source = TestSource::new(1, 5, 6);
    let roster =
        Roster { memory: 1, begins: true, complete: Some(0), epoch: None, entries: vec![], gone: vec![], unlisted: 0 };
    let frame = || ToServer::Roster(roster.clone());
    let mut early = Subscription::new(at(0));
    early.handle_frame(at(0), frame(), &source);
    assert_eq!(texts(&mut early, &source), ["go away malformed"]);
    let mut leaf = greeted(&source, hello(Some((6, digest(6)))));
    texts(&mut leaf, &source);
    leaf.handle_frame(at(0), frame(), &source);
    assert_eq!((texts(&mut leaf, &source), leaf.take_roster()), (vec!["go away malformed".to_owned()], None));
    let mut relay = greeted(&source, Hello { role: Role::Relay, ..hello(Some((6, digest(6)))) });
    texts(&mut relay, &source);
    relay.handle_frame(at(0), frame(), &source);
    assert_eq!((relay.take_roster(), relay.take_roster()), (Some(roster.clone()), None));
    assert_eq!(texts(&mut relay, &source), [""; 0]);
}

#[test]
fn silence_ends_a_subscription() {
    let source = TestSource::new(1, 5, 6);
    let mut mute = Subscription::new(at(0));
    assert_eq!(mute.poll(at(5), &source), Step::Wait { until: Duration::from_secs(5) });
    assert_eq!(poll(&mut mute, at(6), &source), (vec!["go away malformed".into()], Step::Close));
    let mut subscription = greeted(&source, hello(Some((6, digest(6)))));
    texts(&mut subscription, &source);
    subscription.handle_frame(at(20), ack(6), &source);
    assert_eq!(poll(&mut subscription, at(50), &source), (vec![], Step::Wait { until: Duration::from_secs(50) }));
    assert_eq!(poll(&mut subscription, at(51), &source), (vec!["go away stalled".into()], Step::Close));
}

#[test]
fn what_it_could_not_read_is_not_sent_to_a_subscriber_of_protocol_1() {
    let source = TestSource::new(1, 5, 6);
    let of = |max| Hello { protocol: ProtocolRange { min: 1, max }, ..hello(Some((6, digest(6)))) };
    let (mut old, mut new) = (greeted(&source, of(1)), greeted(&source, of(2)));
    assert!(texts(&mut old, &source).iter().all(|text| !text.starts_with("go away")));
    assert!(texts(&mut new, &source).iter().all(|text| !text.starts_with("go away")));
    // The policy comes with the very next revision.
    source.publish(7);
    source.has_verification.set(true);
    assert_eq!(texts(&mut old, &source), ["go away protocol"]);
    assert_eq!(old.sent_away().unwrap().detail, TOO_OLD);
    assert_eq!(texts(&mut new, &source), ["d7"]);
    for late in [of(1), Hello { probe: true, ..of(1) }, Hello { held: None, ..of(1) }] {
        assert_eq!(away(&source, late), ["go away protocol"]);
    }
    assert!(texts(&mut greeted(&source, of(2)), &source).iter().all(|text| !text.starts_with("go away")));
    assert!(texts(&mut greeted(&source, of(9)), &source).iter().all(|text| !text.starts_with("go away")));
}
