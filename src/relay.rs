//! Serves again what a replica follows: the frames that the authority signed, as they came.
//!
//! ```text
//! upstream ──▶ Driver(Follower) ── verified ──▶ Relay ──▶ Hub ◀── read ── subscriptions below
//!                   ▲                                      │ acks
//!                   └────────────── subtree ◀──────────────┘
//! ```
//!
//! Nothing is passed on before it was verified here, and nothing is invented: no snapshot, no word, no time. When the
//! upstream is gone, staleness grows below as it does here.
//!
//! # Invariants
//! - Y1. A hub serves one set's unbroken history. When that breaks (another epoch, a resync that does not go on from the
//!   log), its subscribers are sent away and find the next hub.
//! - Y2. While the set is in doubt (diverged), nobody is fed: those below notice the silence and look elsewhere.

mod roster;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::clock::{BootTime, Clock};
use crate::hub::{Hub, Options, Published};
use crate::replica::{self, Keep};
use crate::replication::follower::{FollowerState, KeptDelta, Provenance, SetSwap, Verified};
use crate::replication::frames::{NodeId, Subtree};
use crate::replication::source::{Feeds, Origin};
use crate::replication::{Feed, FollowerStatus, FrameEncoder};

use roster::Below;

/// Deltas behind the snapshot that make a newer one wanted, in parts of what the log keeps: joiners need both.
const REFRESH_AT: (usize, usize) = (5, 8);
/// Between two wishes for a newer snapshot: the upstream may not have one yet.
const REFRESH_PAUSE: Duration = Duration::from_secs(60);
/// How often the subtree is looked at when nothing below says anything.
const SUBTREE_INTERVAL: Duration = Duration::from_secs(1);

/// The hub of the moment, for surfaces; and what lies below it, for the follower.
pub struct Relay {
    node: NodeId,
    options: Options,
    clock: Clock,
    encoder: Arc<dyn FrameEncoder>,
    runtime: Handle,
    current: Mutex<Option<Arc<Hub>>>,
    below: Arc<Below>,
    subtree: watch::Sender<Subtree>,
    replaced: Notify,
}

/// The relay's ear on the driver's task.
pub struct Feeder {
    relay: Arc<Relay>,
    hub: Option<Arc<Hub>>,
    /// Through which relays frames come, this one first.
    path: Vec<NodeId>,
    asked_at: Option<BootTime>,
}

impl Relay {
    /// Serves nothing yet. `node` is this process, named in the path of what it serves; `memory` is a random number of its
    /// own, that no process before it had.
    #[must_use]
    pub fn new(
        node: NodeId,
        memory: u64,
        options: Options,
        clock: Clock,
        encoder: Arc<dyn FrameEncoder>,
        runtime: Handle,
    ) -> Arc<Self> {
        let (subtree, _) = watch::channel(Subtree::default());
        Arc::new(Self {
            node,
            options,
            below: Below::new(node, memory, clock.clone()),
            clock,
            encoder,
            runtime,
            current: Mutex::new(None),
            subtree,
            replaced: Notify::new(),
        })
    }

    /// What is to be given to the replica's driver.
    #[must_use]
    pub fn feeder(self: &Arc<Self>) -> Feeder {
        Feeder { relay: Arc::clone(self), hub: None, path: vec![self.node], asked_at: None }
    }

    /// What lies below, kept up to date by [`Relay::run`].
    #[must_use]
    pub fn below(&self) -> replica::Below {
        replica::Below { subtree: self.subtree.subscribe(), roster: Arc::clone(&self.below) as _ }
    }

    /// The hub of the moment; `None` while there is nothing to serve.
    #[must_use]
    pub fn hub(&self) -> Option<Arc<Hub>> {
        self.current.lock().clone()
    }

    /// How many subscribers are connected.
    #[must_use]
    pub fn subscriber_count(&self) -> usize {
        self.hub().map_or(0, |hub| hub.subscriber_count())
    }

    /// Sends everybody away; nobody is let in any more until there is another hub.
    pub fn stop(&self) {
        self.replace(None);
    }

    /// Sums up what lies below whenever something is heard from there. Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            let hub = self.hub();
            let progress = hub.as_ref().map(|hub| hub.progress());
            tokio::pin!(progress);
            // Enabled before looking, so that nothing is missed.
            if let Some(progress) = progress.as_mut().as_pin_mut() {
                progress.enable();
            }
            self.sum_up();
            let heard = async {
                match progress.as_pin_mut() {
                    Some(progress) => progress.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = heard => {}
                () = self.replaced.notified() => {}
                () = tokio::time::sleep(SUBTREE_INTERVAL) => {}
            }
        }
    }

    /// Sums up what lies below now. [`Relay::run`] does so by itself.
    pub fn sum_up(&self) {
        let subtree = self.below.subtree();
        self.subtree.send_if_modified(|before| {
            let changed = *before != subtree;
            *before = subtree;
            changed
        });
    }

    fn replace(&self, next: Option<Arc<Hub>>) {
        if let Some(hub) = &next {
            self.runtime.spawn(Arc::clone(hub).run());
        }
        if let Some(before) = std::mem::replace(&mut *self.current.lock(), next) {
            before.stop();
        }
        self.replaced.notify_one();
    }

    /// A hub that goes on from what proves a set.
    fn hub_of(&self, provenance: &Provenance) -> Option<Arc<Hub>> {
        let descent = &provenance.descent;
        let origin = Origin {
            node: self.node,
            epoch: descent.epoch,
            lineage: descent.lineage.clone(),
            set_key: descent.set_key.clone(),
            public_key: descent.public_key,
            heartbeat_interval: self.options.heartbeat_interval,
            dead_after: self.options.dead_after,
        };
        let (clock, encoder) = (self.clock.clone(), Arc::clone(&self.encoder));
        let snapshot = &provenance.snapshot;
        let policy = snapshot.header.state.policy;
        let policies = (policy, snapshot.header.state.verification.is_some());
        let hub = Hub::relaying(self.options, origin, snapshot.point(), policies, clock, encoder);
        self.below.set_logged(&policy);
        hub.set_members(self.below.seats(descent.epoch.id));
        if let Err(error) = hub.take_signed(snapshot) {
            tracing::error!(%error, "a snapshot cannot be served again");
            return None;
        }
        extend(&hub, &provenance.deltas, None).then_some(hub)
    }
}

impl Feeds for Arc<Relay> {
    fn feed(&self) -> Option<Arc<dyn Feed>> {
        self.hub().map(|hub| hub as Arc<dyn Feed>)
    }
}

impl Feeder {
    fn replace(&mut self, next: Option<Arc<Hub>>) {
        self.hub.clone_from(&next);
        self.relay.replace(next);
    }
}

impl Keep for Feeder {
    fn handle_swap(&mut self, swap: &SetSwap, _: &FollowerStatus) {
        let Some(provenance) = &swap.provenance else { return self.replace(None) };
        // After a refresh the log goes on: those below notice nothing.
        if let Some(hub) = &self.hub
            && goes_on(hub, provenance)
        {
            if let Err(error) = hub.take_signed(&provenance.snapshot) {
                tracing::info!(%error, "the snapshot served stays the one before");
            }
            return;
        }
        let next = self.relay.hub_of(provenance);
        if let Some(hub) = &next {
            hub.set_path(self.path.clone());
        }
        self.replace(next);
    }

    fn handle_verified(&mut self, verified: &Verified, staleness: Duration) {
        if let Verified::Path(path) = verified {
            self.path = std::iter::once(self.relay.node).chain(path.iter().copied()).collect();
        }
        let Some(hub) = &self.hub else { return };
        match verified {
            Verified::Path(_) => hub.set_path(self.path.clone()),
            Verified::Word(heartbeat) => hub.pass_on(heartbeat, staleness),
            Verified::Delta(delta) => {
                if !extend(hub, std::slice::from_ref(delta), Some(staleness)) {
                    self.replace(None);
                }
            }
        }
    }

    fn handle_status(&mut self, status: &FollowerStatus) {
        if status.epoch.is_some() {
            self.relay.below.set_logged(&status.policy);
        }
        if status.state == FollowerState::Diverged && self.hub.is_some() {
            self.replace(None);
        }
    }

    fn wants_refresh(&mut self) -> bool {
        let Some(hub) = &self.hub else { return false };
        let (part, whole) = REFRESH_AT;
        let limit = (self.relay.options.log_bytes_max / whole * part) as u64;
        let since = hub.snapshot_revision().and_then(|revision| hub.bytes_since(revision));
        let now = self.relay.clock.boot();
        if since.is_some_and(|bytes| bytes < limit) {
            // Whatever was asked for was had.
            self.asked_at = None;
            return false;
        }
        let wants = self.asked_at.is_none_or(|asked| now.since(asked) >= REFRESH_PAUSE);
        if wants {
            self.asked_at = Some(now);
        }
        wants
    }
}

/// Takes over what a set was proven with, as far as the hub's log goes on with it. Whether it does.
fn goes_on(hub: &Arc<Hub>, provenance: &Provenance) -> bool {
    let head = hub.head_point();
    if hub.epoch() != provenance.descent.epoch {
        return false;
    }
    let begins = provenance.snapshot.point();
    let known = std::iter::once(begins).chain(provenance.deltas.iter().map(|delta| delta.point));
    if !known.into_iter().any(|point| point == head) {
        return false;
    }
    let newer: Vec<KeptDelta> =
        provenance.deltas.iter().filter(|delta| delta.point.revision > head.revision).cloned().collect();
    extend(hub, &newer, None)
}

/// Passes deltas on; the times that they state are `age` old at least, if that is known.
fn extend(hub: &Hub, deltas: &[KeptDelta], age: Option<Duration>) -> bool {
    for delta in deltas {
        let published = Published {
            revision: delta.point.revision,
            source_time: delta.source_time,
            floor: delta.point.floor,
            policy: delta.policy,
            has_verification: delta.has_verification,
            canonical: delta.canonical.clone(),
            digest: delta.point.digest,
            chain: delta.point.chain,
        };
        if let Err(error) = hub.append_signed(published, delta.signature, delta.ack_now, age) {
            tracing::error!(%error, "what was verified does not follow what is served; subscribers are sent away");
            return false;
        }
    }
    true
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("hub", &self.hub()).finish_non_exhaustive()
    }
}
