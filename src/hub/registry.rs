//! Who is connected, and how they are woken: in shards, off the write path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::replication::frames::{Ack, GoAwayReason, Hello, NodeId, PolicyInForce, Role, Subtree};
use crate::replication::source::Seat;
use crate::replication::subscription::Mode;
use crate::revocation::ports::Pending;
use crate::revocation::{Revision, UnixMillis};

/// Subscribers are woken in so many groups; between two of them the waker lets others run.
const SHARDS: usize = 16;

/// A connected subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberStatus {
    /// Its process; `None` before Hello.
    pub id: Option<NodeId>,
    /// Its name, for people.
    pub name: String,
    /// Its build.
    pub version: String,
    /// What it does.
    pub role: Role,
    /// From where it connected.
    pub address: String,
    /// When.
    pub since: UnixMillis,
    /// Why it had to connect again; empty the first time.
    pub reconnect_reason: String,
    /// How it is being served.
    pub mode: Mode,
    /// The last revision it acknowledged.
    pub acked: Revision,
    /// Whether it answers checks from a verified set that has caught up.
    pub ready: bool,
    /// What it does when stale.
    pub policy: Option<PolicyInForce>,
    /// Of a relay: what lies below it.
    pub subtree: Option<Subtree>,
}

pub(super) struct Registry {
    subscribers: Mutex<Subscribers>,
    subscribers_max: usize,
    shards: [watch::Sender<u64>; SHARDS],
    stopping: AtomicBool,
    /// Somebody joined, left or acknowledged.
    heard: Notify,
    /// Revisions that subscribers held and this history lacks.
    history_lost: AtomicU64,
}

#[derive(Default)]
struct Subscribers {
    joined: u64,
    connected: BTreeMap<u64, SubscriberStatus>,
}

/// A place among the subscribers.
struct Place {
    registry: Arc<Registry>,
    number: u64,
    changes: watch::Receiver<u64>,
}

impl Registry {
    pub(super) fn new(subscribers_max: usize) -> Arc<Self> {
        Arc::new(Self {
            subscribers: Mutex::new(Subscribers::default()),
            subscribers_max,
            shards: std::array::from_fn(|_| watch::Sender::new(0)),
            stopping: AtomicBool::new(false),
            heard: Notify::new(),
            history_lost: AtomicU64::new(0),
        })
    }

    pub(super) fn join(self: &Arc<Self>, address: &str, since: UnixMillis) -> Result<Box<dyn Seat>, GoAwayReason> {
        if self.is_stopping() {
            return Err(GoAwayReason::Shutdown);
        }
        let mut subscribers = self.subscribers.lock();
        if subscribers.connected.len() >= self.subscribers_max {
            return Err(GoAwayReason::Overloaded);
        }
        subscribers.joined += 1;
        let number = subscribers.joined;
        let status = SubscriberStatus {
            id: None,
            name: String::new(),
            version: String::new(),
            role: Role::Leaf,
            address: address.to_owned(),
            since,
            reconnect_reason: String::new(),
            mode: Mode::CatchingUp,
            acked: Revision(0),
            ready: false,
            policy: None,
            subtree: None,
        };
        subscribers.connected.insert(number, status);
        drop(subscribers);
        self.heard.notify_one();
        let changes = self.shards[number as usize % SHARDS].subscribe();
        Ok(Box::new(Place { registry: Arc::clone(self), number, changes }))
    }

    pub(super) fn list(&self) -> Vec<SubscriberStatus> {
        self.subscribers.lock().connected.values().cloned().collect()
    }

    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }

    pub(super) fn count(&self) -> usize {
        self.subscribers.lock().connected.len()
    }

    pub(super) fn history_lost(&self) -> u64 {
        self.history_lost.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) async fn wake(&self) {
        for shard in &self.shards {
            if shard.receiver_count() > 0 {
                shard.send_modify(|wakes| *wakes += 1);
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Place {
    fn change(&self, change: impl FnOnce(&mut SubscriberStatus)) {
        if let Some(status) = self.registry.subscribers.lock().connected.get_mut(&self.number) {
            change(status);
        }
    }
}

impl Seat for Place {
    fn changed(&mut self) -> Pending<'_, ()> {
        // Fails only once the registry is gone, which this place keeps.
        Box::pin(async { drop(self.changes.changed().await) })
    }

    fn farewell(&self) -> Option<GoAwayReason> {
        self.registry.is_stopping().then_some(GoAwayReason::Shutdown)
    }

    fn handle_hello(&mut self, hello: &Hello) {
        self.change(|status| {
            status.id = Some(hello.subscriber);
            status.name.clone_from(&hello.name);
            status.version.clone_from(&hello.version);
            status.role = hello.role;
            status.reconnect_reason.clone_from(&hello.reconnect_reason);
        });
    }

    fn handle_history_lost(&mut self, revisions: u64) {
        let counted = &self.registry.history_lost;
        let _ = counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| Some(sum.saturating_add(revisions)));
        let subscribers = self.registry.subscribers.lock();
        let status = subscribers.connected.get(&self.number);
        let (name, address) = status.map(|status| (status.name.clone(), status.address.clone())).unwrap_or_default();
        drop(subscribers);
        tracing::warn!(
            subscriber = ?name,
            address,
            revisions,
            "the subscriber holds revisions that the restored backup lacks; it keeps what they revoked in force"
        );
    }

    fn handle_ack(&mut self, ack: &Ack) {
        self.change(|status| {
            status.acked = ack.applied;
            status.ready = ack.ready;
            status.policy = ack.policy;
            status.subtree.clone_from(&ack.subtree);
        });
        self.registry.heard.notify_one();
    }

    fn handle_mode(&mut self, mode: Mode) {
        self.change(|status| status.mode = mode);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.subscribers.lock().connected.remove(&self.number);
        self.registry.heard.notify_one();
    }
}
