//! Where subscribers are fed from: the shared log of framed bytes, heartbeats, snapshots, and who is connected.
//!
//! ```text
//! commit thread ── publish ──▶ log ◀── read ── subscriptions (cursors)
//!                      └ notify ▶ run ── wake ──▶ shards of subscriptions
//! snapshotter ── offer_snapshot ──▶ run ── encode ──▶ frames, shared by all joiners
//! ```
//!
//! Knows bytes and cursors; neither sockets nor what the bytes mean. Encoding is injected, and so is the history.
//!
//! # Invariants
//! - H1. [`Hub::publish`] waits for no subscriber: it appends and leaves a note; [`Hub::run`] wakes.
//! - H2. A heartbeat is signed for the log's end and stands there: it overtakes no delta.
//! - H3. Memory is bounded whatever subscribers do: the log by bytes, snapshots by two generations, places by number.

mod feed;
mod registry;
mod snapshots;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use registry::{Awaiting, SubscriberStatus};
pub use snapshots::OfferError;

use super::publish::{Image, Publish, Published};
use crate::clock::Clock;
use crate::replication::frames::{DeltaFrame, Heartbeat, NodeId, PROTOCOL, Parent, ToSubscriber};
use crate::replication::signature::Statement;
use crate::replication::source::{HistoryError, Members, Origin};
use crate::replication::{FrameEncoder, FramedLog, LogEntry, LogError, LogPoint, Moment, Signer};
use crate::revocation::{Epoch, Policy, Revision, SetKey, UnixMillis};
use registry::Registry;
use snapshots::Snapshots;

/// How the hub is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The shared log, in bytes; 64 MiB: minutes of heavy writing, so that the history is rarely read.
    pub log_bytes_max: usize,
    /// Subscribers at once; 10,000, each about 20 KiB with its connection.
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
    /// Where it came from.
    pub parent: Option<Parent>,
    /// Its secret.
    pub set_key: SetKey,
    /// Signs heartbeats and snapshots.
    pub signer: Signer,
    /// Where the log goes on.
    pub point: LogPoint,
    /// The policy there.
    pub policy: Policy,
    /// The first revision that the history has.
    pub oldest: Revision,
}

/// The journal, as subscribers that lag need it.
pub trait History: Send + Sync {
    /// Canonical deltas from a revision on, contiguous: one at least if there is one, then until about `bytes_max`. May
    /// block; never called by the thread that publishes.
    ///
    /// # Errors
    /// When the revision is no longer kept, or the journal cannot be read.
    fn deltas(&self, from: Revision, bytes_max: usize) -> Result<Vec<(Revision, Bytes)>, HistoryError>;
}

/// Feeds all subscribers of this process.
pub struct Hub {
    options: Options,
    origin: Origin,
    signer: Signer,
    clock: Clock,
    encoder: Arc<dyn FrameEncoder>,
    history: Arc<dyn History>,
    /// The first revision that the history has.
    oldest: AtomicU64,
    state: RwLock<State>,
    /// Taken while `state` is not held.
    snapshots: Mutex<Snapshots>,
    registry: Arc<Registry>,
    /// Acks up to this revision were asked for by a heartbeat.
    asked: AtomicU64,
    /// Something was published, offered or stopped; [`Hub::run`] wakes the subscribers.
    changed: Notify,
}

struct State {
    log: FramedLog,
    policy: Policy,
    /// The last time stated, and when that was.
    source_time: UnixMillis,
    stated_at: Duration,
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
            path: Vec::new(),
            epoch: start.epoch,
            parent: start.parent,
            set_key: start.set_key,
            public_key: start.signer.public_key(),
            heartbeat_interval: options.heartbeat_interval,
            dead_after: options.dead_after,
        };
        let log = FramedLog::new(start.point, options.log_bytes_max);
        let state = State { log, policy: start.policy, source_time: now.wall, stated_at: now.boot };
        let registry = Registry::new(options.subscribers_max, clock.clone());
        Arc::new(Self {
            options,
            origin,
            signer: start.signer,
            clock,
            encoder,
            history,
            oldest: AtomicU64::new(start.oldest.0),
            state: RwLock::new(state),
            snapshots: Mutex::new(Snapshots::default()),
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
        let Published { revision, source_time, floor, policy, canonical, digest, chain } = published;
        let frame =
            self.encoder.encode(&ToSubscriber::Delta(DeltaFrame { canonical, ack_now: self.registry.is_awaited() }));
        let stated_at = self.clock.boot().0;
        let mut state = self.state.write();
        state.log.push(LogEntry { point: LogPoint { revision, digest, chain, floor }, frame })?;
        (state.policy, state.source_time, state.stated_at) = (policy, source_time, stated_at);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Signs where the log ends, for everybody. [`Hub::run`] does so by itself.
    pub fn heartbeat(&self, ack_now: bool) {
        let now = moment(&self.clock);
        // Signing under the lock (some 20 µs, once a second) is what keeps the heartbeat at the log's end.
        let mut state = self.state.write();
        let point = state.log.head();
        let statement = self.statement(&point, now.wall);
        let heartbeat = Heartbeat {
            revision: point.revision,
            source_time: now.wall,
            digest: point.digest,
            chain: point.chain,
            floor: point.floor,
            ack_now,
            signature: self.signer.sign_heartbeat(&statement),
        };
        state.log.push_heartbeat(self.encoder.encode(&ToSubscriber::Heartbeat(heartbeat)));
        (state.source_time, state.stated_at) = (now.wall, now.boot);
        drop(state);
        self.changed.notify_one();
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

    /// What is signed about a point of the log.
    fn statement(&self, point: &LogPoint, source_time: UnixMillis) -> Statement {
        Statement {
            protocol: PROTOCOL,
            epoch: self.origin.epoch,
            revision: point.revision,
            digest: point.digest,
            chain: point.chain,
            floor: point.floor,
            source_time,
        }
    }
}

impl Publish for Hub {
    fn publish(&self, published: Published) {
        if let Err(error) = self.append(published) {
            tracing::error!(%error, "a revision was not published; subscribers wait until a restart");
        }
    }

    fn offer_snapshot(&self, image: Arc<Image>) {
        self.snapshots.lock().wait(image);
    }

    fn pruned(&self, oldest: Revision) {
        self.set_oldest(oldest);
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
