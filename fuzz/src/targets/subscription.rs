//! The sending machine, fed by an honest log, against a subscriber that sends any frame.
//!
//! Whatever the subscriber does: what it gets are whole frames, deltas go on without a gap from where it was resumed or
//! from its snapshot, and after GoAway nothing follows.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use rescind::replication::frames::{
    Ack, DeltaFrame, Held, Hello, NodeId, ProtocolRange, Role, ToServer, ToSubscriber, WelcomeMode,
};
use rescind::replication::source::{Head, HistoryError, Origin, SnapshotOffer, SnapshotPermit};
use rescind::replication::{
    Cursor, FrameEncoder as _, FramedLog, LogEntry, LogRead, Moment, Source, Step, Subscription,
};
use rescind::revocation::{Delta, Digest, Policy, Revision, UnixMillis};
use rescind::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};

use super::authority::{Authority, EPOCH, SUBJECTS, T0, set_key, signer};
use super::frames::{decode_from_sender, decode_from_subscriber, encode_for_server};
use super::input::Input;
use super::note_accepted;

/// The most steps of one input.
const STEPS_MAX: usize = 24;
/// The most frames that one poll of everything there is may bring.
const FRAMES_MAX: usize = 64;
/// So little is kept in the log that subscribers fall out of it.
const LOG_BYTES_MAX: usize = 2048;

struct HonestSource {
    origin: Origin,
    authority: RefCell<Authority>,
    log: RefCell<FramedLog>,
    oldest: Revision,
    snapshots: RefCell<Option<Revision>>,
    under_way: Arc<AtomicUsize>,
}

impl HonestSource {
    /// Some revisions are there already; those before `oldest` are not kept.
    fn new(revisions: u8, oldest: u8) -> Self {
        let authority = Authority::new();
        let origin = Origin {
            node: NodeId([0xaa; 16]),
            epoch: EPOCH,
            lineage: authority.lineage(),
            set_key: set_key(),
            public_key: signer().public_key(),
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
        };
        let log = RefCell::new(FramedLog::new(authority.point(Revision(0)), LOG_BYTES_MAX));
        let source = Self {
            origin,
            authority: RefCell::new(authority),
            log,
            oldest: Revision(u64::from(oldest)),
            snapshots: RefCell::new(None),
            under_way: Arc::default(),
        };
        (0..revisions).for_each(|revision| source.commit(revision % SUBJECTS));
        source
    }

    fn commit(&self, subject: u8) {
        let mut authority = self.authority.borrow_mut();
        authority.commit(subject, false);
        let head = authority.head();
        let frame = self.encode(&authority.delta(head, false));
        self.log.borrow_mut().push(LogEntry { point: authority.point(head), frame }).expect("the next revision");
    }

    fn beat(&self) {
        let authority = self.authority.borrow();
        let frame = self.encode(&authority.heartbeat(authority.head()));
        self.log.borrow_mut().push_heartbeat(frame);
    }

    fn history(&self, from: Revision) -> Result<Vec<(Revision, DeltaFrame)>, HistoryError> {
        let authority = self.authority.borrow();
        if from < self.oldest || from.0 == 0 {
            return Err(HistoryError::Compacted(from));
        }
        let revisions = (from.0..=authority.head().0).take(3).map(Revision);
        let frame = |revision| match authority.delta(revision, false) {
            ToSubscriber::Delta(delta) => (revision, delta),
            _ => unreachable!("a delta was asked for"),
        };
        Ok(revisions.map(frame).collect())
    }
}

impl Source for HonestSource {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn path(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn head(&self, _: Moment) -> Head {
        let point = self.log.borrow().head();
        let (policy, source_time, source_age) = (Policy::default(), UnixMillis(T0), Duration::ZERO);
        Head { revision: point.revision, digest: point.digest, policy, source_time, source_age }
    }

    fn has_verification(&self) -> bool {
        false
    }

    fn oldest(&self) -> Revision {
        self.oldest.min(self.log.borrow().base().next())
    }

    fn digest_at(&self, revision: Revision) -> Option<Digest> {
        self.log.borrow().point_at(revision).map(|point| point.digest)
    }

    fn read(&self, cursor: Cursor, bytes_max: usize) -> LogRead {
        self.log.borrow().read(cursor, bytes_max)
    }

    fn snapshot(&self) -> Option<SnapshotOffer> {
        let revision = (*self.snapshots.borrow())?;
        match self.authority.borrow().snapshot(revision).swap_remove(0) {
            ToSubscriber::SnapshotBegin(begin) => Some(SnapshotOffer {
                id: begin.id,
                revision,
                entries: begin.entries,
                chunks: begin.chunks,
                header: begin.header,
            }),
            _ => None,
        }
    }

    fn snapshot_frame(&self, id: u64, index: u32) -> Option<Bytes> {
        let revision = self.snapshots.borrow().filter(|revision| revision.0 == id)?;
        let frames = self.authority.borrow().snapshot(revision);
        frames.get(index as usize + 1).map(|frame| self.encode(frame))
    }

    fn admit_snapshot(&self) -> Option<SnapshotPermit> {
        SnapshotPermit::take(&self.under_way, 1)
    }

    fn encode(&self, frame: &ToSubscriber) -> Bytes {
        GrpcEncoder.encode(frame)
    }
}

/// What the subscriber got so far.
#[derive(Default)]
struct Received {
    /// The revision it stands at; set once it was resumed or has its snapshot.
    at: Option<Revision>,
    welcomed: bool,
    gone: bool,
}

pub fn subscription(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let source = HonestSource::new(input.byte() % 12, input.byte() % 12);
    let mut now = Moment { boot: Duration::ZERO, wall: UnixMillis(T0) };
    let mut subscription = Subscription::new(now);
    let (mut received, mut resumes_from) = (Received::default(), None);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let frame = match input.byte() % 8 {
            0 => Some(ToServer::Hello(Box::new(hello(&source, &mut input)))),
            1 => Some(ack(&source, &mut input)),
            2 => decode_from_subscriber(input.long_block()),
            3 => {
                let mut bytes = encode_for_server(&ToServer::Hello(Box::new(hello(&source, &mut input))));
                input.spoil(&mut bytes);
                decode_from_subscriber(&bytes)
            }
            4 => {
                source.commit(input.byte() % SUBJECTS);
                None
            }
            5 => {
                source.beat();
                None
            }
            6 => {
                let head = source.authority.borrow().head();
                *source.snapshots.borrow_mut() = Some(Revision(u64::from(input.byte()) % (head.0 + 1)));
                None
            }
            _ => {
                now.boot += Duration::from_millis(u64::from(input.byte()) * 100);
                None
            }
        };
        if let Some(frame) = frame {
            if let (ToServer::Hello(hello), true) = (&frame, subscription.awaits_hello()) {
                resumes_from = hello.held.map(|held| held.revision);
            }
            subscription.handle_frame(now, frame, &source);
            let _ = subscription.take_roster();
        }
        poll(&mut subscription, now, &source, &mut received, resumes_from);
    }
    assert!(source.under_way.load(std::sync::atomic::Ordering::SeqCst) <= 1);
    drop(subscription);
    assert_eq!(source.under_way.load(std::sync::atomic::Ordering::SeqCst), 0, "a permit is given back");
}

fn poll(
    subscription: &mut Subscription,
    now: Moment,
    source: &HonestSource,
    received: &mut Received,
    resumes_from: Option<Revision>,
) {
    for _ in 0..FRAMES_MAX {
        match subscription.poll(now, source) {
            Step::Send(bytes) => {
                let frame = decode_from_sender(&bytes[GRPC_PREFIX_BYTES..]).expect("a whole frame is sent");
                received.take(frame, resumes_from);
            }
            Step::ReadHistory { from, .. } => subscription.handle_history(now, source.history(from), source),
            Step::Wait { .. } => return,
            Step::Close => {
                received.gone |= subscription.sent_away().is_some();
                return;
            }
        }
    }
    panic!("more than {FRAMES_MAX} frames without a pause");
}

impl Received {
    fn take(&mut self, frame: ToSubscriber, resumes_from: Option<Revision>) {
        assert!(!self.gone, "something follows a goodbye");
        match frame {
            ToSubscriber::Welcome(welcome) => {
                assert!(!self.welcomed, "a second welcome");
                self.welcomed = true;
                note_accepted();
                if welcome.mode == WelcomeMode::Resume {
                    self.at = resumes_from;
                }
            }
            ToSubscriber::SnapshotBegin(_) => self.at = None,
            ToSubscriber::SnapshotChunk(_) => {}
            ToSubscriber::SnapshotEnd(end) => self.at = Some(end.revision),
            ToSubscriber::Delta(delta) => {
                let revision = Delta::decode(&delta.canonical).expect("a delta is canonical").revision;
                assert_eq!(self.at.map(Revision::next), Some(revision), "deltas go on without a gap");
                self.at = Some(revision);
            }
            ToSubscriber::Heartbeat(heartbeat) => {
                assert!(self.at.is_some_and(|at| heartbeat.revision <= at), "a heartbeat overtakes no delta");
            }
            ToSubscriber::GoAway(_) => self.gone = true,
        }
    }
}

/// A Hello that is sound but for what it claims to hold.
pub fn sound_hello(held: Option<Held>, role: Role) -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId([1; 16]),
        name: "fuzz".to_owned(),
        role,
        held,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: "0.1.0".to_owned(),
        probe: false,
        policy: None,
    }
}

fn hello(source: &HonestSource, input: &mut Input<'_>) -> Hello {
    let authority = source.authority.borrow();
    let revision = Revision(u64::from(input.byte()) % (authority.head().0 + 2));
    let known = revision <= authority.head();
    let digest = if known { authority.at(revision).digest } else { Digest::default() };
    let held = Held { epoch: EPOCH, revision, digest };
    let role = if input.coin() { Role::Leaf } else { Role::Relay };
    let mut hello = sound_hello((!input.byte().is_multiple_of(4)).then_some(held), role);
    hello.probe = input.byte() % 8 == 7;
    hello
}

fn ack(source: &HonestSource, input: &mut Input<'_>) -> ToServer {
    let head = source.authority.borrow().head();
    let applied = Revision(u64::from(input.byte()) % (head.0 + 2));
    let (digest, source_time) = (Digest::default(), UnixMillis(T0));
    ToServer::Ack(Ack { applied, digest, ready: input.coin(), policy: None, subtree: None, source_time })
}
