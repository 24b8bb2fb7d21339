//! Where subscribers are fed from: the shared log of framed bytes, heartbeats, snapshots, and who is connected.
//!
//! ```text
//! author ─────── publish ────▶ log ◀── read ── subscriptions (cursors)
//!                      └ notify ▶ run ── wake ──▶ shards of subscriptions
//! snapshotter ── offer_snapshot ──▶ run ── encode ──▶ frames, shared by all joiners
//! ```
//!
//! Knows bytes and cursors; neither sockets nor what the bytes mean. Encoding is injected, and so is the history.
//!
//! # Invariants
//! - H1. [`Hub::append`] waits for no subscriber: it appends and leaves a note; [`Hub::run`] wakes.
//! - H2. A heartbeat is signed for the log's end and stands there: it overtakes no delta.
//! - H3. Memory is bounded whatever subscribers do: the log by bytes, snapshots by two generations, places by number.

mod feed;
mod published;
mod registry;
mod snapshots;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use published::{Image, Logged, Published};
pub use registry::{Awaiting, SubscriberStatus};
pub use snapshots::OfferError;

use crate::clock::Clock;
use crate::replication::frames::{DeltaFrame, Heartbeat, NodeId, PROTOCOL_SIGNED, ToSubscriber};
use crate::replication::signature::{Signature, Statement};
use crate::replication::source::{HistoryError, Members, Origin};
use crate::replication::{FrameEncoder, FramedLog, Lineage, LogEntry, LogError, LogPoint, Moment, Signer};
use crate::revocation::{Ancestor, Epoch, Policy, Revision, SetKey, UnixMillis};
use registry::Registry;
use snapshots::Snapshots;

/// How the hub is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The shared log, in bytes; 64 MiB: minutes of heavy writing, so that the history is rarely read.
    pub log_bytes_max: usize,
    /// Subscribers at once; 10,000, each about 25 KiB with its connection.
    pub subscribers_max: usize,
    /// Snapshots sent at once; 32, so that a restarting fleet does not share the bandwidth into standstill.
    pub snapshots_max: usize,
    /// Between two heartbeats; 1 s.
    pub heartbeat_interval: Duration,
    /// Without progress for so long a subscriber looks elsewhere; 3 s.
    pub dead_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_bytes_max: 64 << 20,
            subscribers_max: 10_000,
            snapshots_max: 32,
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
        }
    }
}

/// What the hub starts from: the state recovered from the journal.
#[derive(Debug)]
pub struct Start {
    /// Names this process.
    pub node: NodeId,
    /// The epoch.
    pub epoch: Epoch,
    /// Where it came from, its parent first.
    pub ancestors: Vec<Ancestor>,
    /// Its secret.
    pub set_key: SetKey,
    /// Signs deltas, heartbeats and snapshots.
    pub signer: Signer,
    /// Where the log goes on.
    pub point: LogPoint,
    /// The policy there.
    pub policy: Policy,
    /// Whether a verification policy is part of the state there.
    pub has_verification: bool,
    /// The first revision that the history has.
    pub oldest: Revision,
}

/// The journal, as subscribers that lag need it.
pub trait History: Send + Sync {
    /// Deltas from a revision on, contiguous: one at least if there is one, then until about `bytes_max`. May block; never
    /// called by the thread that publishes.
    ///
    /// # Errors
    /// When the revision is no longer kept, or the journal cannot be read.
    fn deltas(&self, from: Revision, bytes_max: usize) -> Result<Vec<Logged>, HistoryError>;
}

/// A relay keeps what its log keeps.
struct NoHistory;

impl History for NoHistory {
    fn deltas(&self, from: Revision, _: usize) -> Result<Vec<Logged>, HistoryError> {
        Err(HistoryError::Compacted(from))
    }
}

/// The age of what was never heard: older than any policy accepts, and small enough to be added to.
const UNKNOWN_AGE: Duration = Duration::from_secs(u32::MAX as u64);

/// Feeds all subscribers of this process.
pub struct Hub {
    options: Options,
    origin: Origin,
    /// The authority signs what it says; a relay has no key, and passes on what was signed.
    signer: Option<Signer>,
    clock: Clock,
    encoder: Arc<dyn FrameEncoder>,
    history: Arc<dyn History>,
    /// The first revision that the history has.
    oldest: AtomicU64,
    state: RwLock<State>,
    /// Taken while `state` is not held.
    snapshots: Mutex<Snapshots>,
    /// The relays between the authority and here, this one first; none at the authority.
    path: RwLock<Vec<NodeId>>,
    registry: Arc<Registry>,
    /// Acks up to this revision were asked for by a heartbeat.
    asked: AtomicU64,
    /// Something was published, offered or stopped; [`Hub::run`] wakes the subscribers.
    changed: Notify,
}

struct State {
    log: FramedLog,
    policy: Policy,
    has_verification: bool,
    stated: Stated,
}

/// The authority's last stated time, and what is known of its age.
#[derive(Clone, Copy)]
struct Stated {
    source_time: UnixMillis,
    /// How old it was, at least,
    age: Duration,
    /// at this boot time.
    at: Duration,
}

impl Hub {
    /// A hub that goes on from `start`. Nobody is fed before [`Hub::run`] runs.
    #[must_use]
    pub fn new(
        options: Options,
        start: Start,
        clock: Clock,
        encoder: Arc<dyn FrameEncoder>,
        history: Arc<dyn History>,
    ) -> Arc<Self> {
        let now = moment(&clock);
        let origin = Origin {
            node: start.node,
            epoch: start.epoch,
            lineage: Lineage::sign(&start.signer, start.epoch, start.ancestors),
            set_key: start.set_key,
            public_key: start.signer.public_key(),
            heartbeat_interval: options.heartbeat_interval,
            dead_after: options.dead_after,
        };
        let stated = Stated { source_time: now.wall, age: Duration::ZERO, at: now.boot };
        let (log, oldest) = (FramedLog::new(start.point, options.log_bytes_max), start.oldest);
        let policies = (start.policy, start.has_verification);
        Self::build(options, origin, log, policies, stated, Some(start.signer), oldest, clock, encoder, history)
    }

    /// A hub that passes on what the authority signed: it goes on from the snapshot at `point`, which
    /// [`Hub::take_signed`] is given next, with the logged policy there and whether there is a verification policy. Nothing is kept behind the shared log.
    #[must_use]
    pub fn relaying(
        options: Options,
        origin: Origin,
        point: LogPoint,
        policies: (Policy, bool),
        clock: Clock,
        encoder: Arc<dyn FrameEncoder>,
    ) -> Arc<Self> {
        // Until the first signed word is passed on, it knows no time and says so.
        let stated = Stated { source_time: UnixMillis(0), age: UNKNOWN_AGE, at: clock.boot().0 };
        let log = FramedLog::new(point, options.log_bytes_max);
        // Behind the log there is nothing.
        let oldest = Revision(u64::MAX);
        Self::build(options, origin, log, policies, stated, None, oldest, clock, encoder, Arc::new(NoHistory))
    }

    #[allow(clippy::too_many_arguments, reason = "the two constructors above are what callers see")]
    fn build(
        options: Options,
        origin: Origin,
        log: FramedLog,
        (policy, has_verification): (Policy, bool),
        stated: Stated,
        signer: Option<Signer>,
        oldest: Revision,
        clock: Clock,
        encoder: Arc<dyn FrameEncoder>,
        history: Arc<dyn History>,
    ) -> Arc<Self> {
        let registry = Registry::new(options.subscribers_max);
        Arc::new(Self {
            options,
            origin,
            signer,
            clock,
            encoder,
            history,
            oldest: AtomicU64::new(oldest.0),
            state: RwLock::new(State { log, policy, has_verification, stated }),
            snapshots: Mutex::new(Snapshots::default()),
            path: RwLock::default(),
            registry,
            asked: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// Publishes a durable revision that is in force. Waits for no subscriber; may be called from any thread.
    ///
    /// # Errors
    /// When it is not the next revision; nothing is published.
    pub fn append(&self, published: Published) -> Result<(), LogError> {
        let point = published.point();
        let signature = self.sign(&point, published.source_time);
        let ack_now = self.registry.is_awaited();
        self.append_signed(published, signature, ack_now, Some(Duration::ZERO))
    }

    /// The same with the authority's signature, if it came with one, asking for acks as the authority did. The time that it
    /// states is `age` old at least; without that it is not told to joiners.
    ///
    /// # Errors
    /// As [`Hub::append`].
    pub fn append_signed(
        &self,
        published: Published,
        signature: Option<Signature>,
        ack_now: bool,
        age: Option<Duration>,
    ) -> Result<(), LogError> {
        let point = published.point();
        let Published { source_time, policy, has_verification, canonical, .. } = published;
        let frame = self.encoder.encode(&ToSubscriber::Delta(DeltaFrame { canonical, signature, ack_now }));
        let at = self.clock.boot().0;
        let mut state = self.state.write();
        state.log.push(LogEntry { point, frame })?;
        (state.policy, state.has_verification) = (policy, has_verification);
        // Only what is signed states a time.
        if let Some(age) = age.filter(|_| signature.is_some()) {
            state.stated = Stated { source_time, age, at };
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Signs where the log ends, for everybody. [`Hub::run`] does so by itself. A relay signs nothing.
    pub fn heartbeat(&self, ack_now: bool) {
        let Some(signer) = &self.signer else { return };
        let now = moment(&self.clock);
        // Signing under the lock (some 20 µs, once a second) is what keeps the heartbeat at the log's end.
        let mut state = self.state.write();
        let point = state.log.head();
        let LogPoint { revision, digest, chain, floor } = point;
        let signature = signer.sign_heartbeat(&self.statement(&point, now.wall));
        let heartbeat = Heartbeat { revision, source_time: now.wall, digest, chain, floor, ack_now, signature };
        state.log.push_heartbeat(self.encoder.encode(&ToSubscriber::Heartbeat(heartbeat)));
        state.stated = Stated { source_time: now.wall, age: Duration::ZERO, at: now.boot };
        drop(state);
        self.changed.notify_one();
    }

    /// Passes a signed word on, as it came; it is `age` old at least. One that is not about the log's end is left out:
    /// the next one will be.
    pub fn pass_on(&self, heartbeat: &Heartbeat, age: Duration) {
        let frame = self.encoder.encode(&ToSubscriber::Heartbeat(heartbeat.clone()));
        let mut state = self.state.write();
        if state.log.head().revision != heartbeat.revision {
            return;
        }
        state.log.push_heartbeat(frame);
        state.stated = Stated { source_time: heartbeat.source_time, age, at: self.clock.boot().0 };
        drop(state);
        self.changed.notify_one();
    }

    /// Through which relays its frames come, this one first: told to those who join from now on.
    pub fn set_path(&self, path: Vec<NodeId>) {
        *self.path.write() = path;
    }

    /// The epoch served.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.origin.epoch
    }

    /// Where the log ends.
    #[must_use]
    pub fn head_point(&self) -> LogPoint {
        self.state.read().log.head()
    }

    /// Takes a snapshot for joiners, to be signed and encoded when there is room for it.
    pub fn offer_snapshot(&self, image: Arc<Image>) {
        self.snapshots.lock().wait(image);
    }

    /// Who remembers the members; tell it before anybody joins.
    pub fn set_members(&self, members: Arc<dyn Members>) {
        self.registry.set_members(members);
    }

    /// Asks all subscribers, together, to acknowledge at once, now and as long as the answer lives.
    #[must_use]
    pub fn ask_for_acks(&self, revision: Revision) -> Awaiting {
        let awaiting = self.registry.begin_awaiting();
        // Whoever asked for the same revision before has brought its acks on their way already.
        if self.asked.fetch_max(revision.0, Ordering::AcqRel) < revision.0 {
            self.heartbeat(true);
        }
        awaiting
    }

    /// Whether somebody who is connected has yet to acknowledge a revision.
    #[must_use]
    pub fn has_laggard(&self, revision: Revision) -> bool {
        self.registry.has_laggard(revision)
    }

    /// Resolves at the next join, leave or ack. Enable it before looking, so that none is missed.
    pub fn progress(&self) -> Notified<'_> {
        self.registry.progress()
    }

    /// The history was pruned: its first revision is now this one.
    pub fn set_oldest(&self, oldest: Revision) {
        self.oldest.store(oldest.0, Ordering::Release);
    }

    /// How many framed bytes were published after a revision; `None` when the log no longer reaches it. Past half of
    /// [`Options::log_bytes_max`] a new snapshot is due.
    #[must_use]
    pub fn bytes_since(&self, revision: Revision) -> Option<u64> {
        self.state.read().log.bytes_since(revision)
    }

    /// Everybody who is connected, in the order of joining.
    #[must_use]
    pub fn subscribers(&self) -> Vec<SubscriberStatus> {
        self.registry.list()
    }

    /// How many are connected.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.registry.count()
    }

    /// How many revisions subscribers held that this history lacks: of earlier epochs, beyond what was taken over.
    #[must_use]
    pub fn history_lost(&self) -> u64 {
        self.registry.history_lost()
    }

    /// The first revision that a subscriber can resume after.
    #[must_use]
    pub fn oldest(&self) -> Revision {
        let log = self.state.read().log.base().next();
        log.min(Revision(self.oldest.load(Ordering::Acquire)))
    }

    /// Says goodbye to everybody, and lets nobody join any more.
    pub fn stop(&self) {
        self.registry.stop();
        self.changed.notify_one();
    }

    /// Wakes subscribers, beats, and prepares the snapshots that are offered, until [`Hub::stop`].
    pub async fn run(self: Arc<Self>) {
        let mut beat = tokio::time::interval(self.options.heartbeat_interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut preparing = JoinSet::new();
        while !self.registry.is_stopping() {
            tokio::select! {
                _ = beat.tick() => {
                    self.heartbeat(self.registry.is_awaited());
                    if preparing.is_empty() && self.snapshots.lock().is_waiting() {
                        let hub = Arc::clone(&self);
                        preparing.spawn_blocking(move || hub.prepare_offered());
                    }
                }
                Some(_) = preparing.join_next() => {}
                () = self.changed.notified() => self.registry.wake().await,
            }
        }
        self.registry.wake().await;
        preparing.shutdown().await;
    }

    /// What a delta that leads to this point carries; `None` at a relay.
    fn sign(&self, point: &LogPoint, source_time: UnixMillis) -> Option<Signature> {
        self.signer.as_ref().map(|signer| signer.sign_heartbeat(&self.statement(point, source_time)))
    }

    /// What is signed about a point of the log.
    fn statement(&self, point: &LogPoint, source_time: UnixMillis) -> Statement {
        Statement {
            protocol: PROTOCOL_SIGNED,
            epoch: self.origin.epoch,
            revision: point.revision,
            digest: point.digest,
            chain: point.chain,
            floor: point.floor,
            source_time,
        }
    }
}

fn moment(clock: &Clock) -> Moment {
    Moment { boot: clock.boot().0, wall: clock.wall() }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("epoch", &self.origin.epoch)
            .field("head", &self.state.read().log.head().revision)
            .field("subscribers", &self.subscriber_count())
            .finish_non_exhaustive()
    }
}
