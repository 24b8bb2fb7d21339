//! Who is connected, and how they are woken: in shards, off the write path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

use crate::replication::fleet::RosterFault;
use crate::replication::frames::{Ack, GoAwayReason, Hello, NodeId, PolicyInForce, Role, Roster};
use crate::replication::source::{Guest, Members, NotItsOwner, Seat};
use crate::replication::subscription::Mode;
use crate::revocation::ports::Pending;
use crate::revocation::{Revision, UnixMillis};

/// Subscribers are woken in so many groups; between two of them the waker lets others run.
const SHARDS: usize = 16;

/// A connected subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberStatus {
    /// The number of its seat; later ones are higher.
    pub seat: u64,
    /// Its process; `None` before Hello.
    pub id: Option<NodeId>,
    /// Its name, for people.
    pub name: String,
    /// Its build.
    pub version: String,
    /// The newest protocol that it speaks; 0 before Hello.
    pub speaks: u32,
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
    /// The authority's time in the last word that it took; 0 before the first.
    pub source_time: UnixMillis,
}

/// As long as it lives, subscribers are asked to acknowledge at once.
pub struct Awaiting(Arc<Registry>);

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.0.awaiting.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Registry {
    subscribers: Mutex<Subscribers>,
    subscribers_max: usize,
    shards: [watch::Sender<u64>; SHARDS],
    stopping: AtomicBool,
    /// How many seats are displaced: nobody else has to look who.
    displaced: AtomicUsize,
    /// Somebody joined, left or acknowledged.
    heard: Notify,
    /// Revisions that subscribers held and this history lacks.
    history_lost: AtomicU64,
    /// Remembers who ought to be there; without it nobody does.
    members: OnceLock<Arc<dyn Members>>,
    /// Somebody joined, left or acknowledged. Costs one look when nobody waits.
    progress: Notify,
    /// How many wait for acks.
    awaiting: AtomicUsize,
}

#[derive(Default)]
struct Subscribers {
    joined: u64,
    /// In boxes: nodes are half empty.
    connected: BTreeMap<u64, Box<SubscriberStatus>>,
    /// The last seat of each id.
    seated: HashMap<NodeId, u64>,
    /// Seats whose id has come to a later one: they must be left.
    displaced: BTreeSet<u64>,
}

/// A place among the subscribers.
struct Place {
    registry: Arc<Registry>,
    number: u64,
    changes: watch::Receiver<u64>,
    member: Option<NodeId>,
    principal: Option<Arc<str>>,
    admission: Option<Pending<'static, ()>>,
    goodbye: bool,
}

impl Registry {
    pub(super) fn new(subscribers_max: usize) -> Arc<Self> {
        Arc::new(Self {
            members: OnceLock::new(),
            progress: Notify::new(),
            awaiting: AtomicUsize::new(0),
            subscribers: Mutex::new(Subscribers::default()),
            subscribers_max,
            shards: std::array::from_fn(|_| watch::Sender::new(0)),
            stopping: AtomicBool::new(false),
            displaced: AtomicUsize::new(0),
            heard: Notify::new(),
            history_lost: AtomicU64::new(0),
        })
    }

    /// Who remembers the members; the first one told counts.
    pub(super) fn set_members(&self, members: Arc<dyn Members>) {
        let _ = self.members.set(members);
    }

    /// Resolves at the next join, leave or ack after this call, once it was polled or enabled.
    pub(super) fn progress(&self) -> Notified<'_> {
        self.progress.notified()
    }

    pub(super) fn begin_awaiting(self: &Arc<Self>) -> Awaiting {
        self.awaiting.fetch_add(1, Ordering::Relaxed);
        Awaiting(Arc::clone(self))
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn join(self: &Arc<Self>, guest: Guest, since: UnixMillis) -> Result<Box<dyn Seat>, GoAwayReason> {
        if self.is_stopping() {
            return Err(GoAwayReason::Shutdown);
        }
        let Guest { address, principal } = guest;
        let mut subscribers = self.subscribers.lock();
        if subscribers.connected.len() >= self.subscribers_max {
            return Err(GoAwayReason::Overloaded);
        }
        subscribers.joined += 1;
        let number = subscribers.joined;
        let status = SubscriberStatus {
            seat: number,
            id: None,
            name: String::new(),
            version: String::new(),
            speaks: 0,
            role: Role::Leaf,
            address,
            since,
            reconnect_reason: String::new(),
            mode: Mode::CatchingUp,
            acked: Revision(0),
            ready: false,
            policy: None,
            source_time: UnixMillis(0),
        };
        subscribers.connected.insert(number, Box::new(status));
        drop(subscribers);
        self.heard.notify_one();
        let changes = self.shard(number).subscribe();
        let (member, admission, goodbye) = (None, None, false);
        Ok(Box::new(Place { registry: Arc::clone(self), number, changes, member, principal, admission, goodbye }))
    }

    pub(super) fn list(&self) -> Vec<SubscriberStatus> {
        self.subscribers.lock().connected.values().map(|status| (**status).clone()).collect()
    }

    pub(super) fn has_laggard(&self, revision: Revision) -> bool {
        let subscribers = self.subscribers.lock();
        subscribers.connected.values().any(|status| status.id.is_some() && status.acked < revision)
    }

    pub(super) fn count(&self) -> usize {
        self.subscribers.lock().connected.len()
    }

    pub(super) fn history_lost(&self) -> u64 {
        self.history_lost.load(Ordering::Relaxed)
    }

    /// Whoever sat here before with this id is to leave.
    fn displace(&self, id: NodeId, seat: u64) {
        let mut subscribers = self.subscribers.lock();
        let Some(before) = subscribers.seated.insert(id, seat).filter(|before| *before != seat) else { return };
        subscribers.displaced.insert(before);
        self.displaced.store(subscribers.displaced.len(), Ordering::Release);
        drop(subscribers);
        self.shard(before).send_modify(|wakes| *wakes += 1);
    }

    fn is_displaced(&self, seat: u64) -> bool {
        self.displaced.load(Ordering::Acquire) > 0 && self.subscribers.lock().displaced.contains(&seat)
    }

    fn leave(&self, seat: u64) {
        let mut subscribers = self.subscribers.lock();
        let id = subscribers.connected.remove(&seat).and_then(|status| status.id);
        if let Some(id) = id.filter(|id| subscribers.seated.get(id) == Some(&seat)) {
            subscribers.seated.remove(&id);
        }
        subscribers.displaced.remove(&seat);
        self.displaced.store(subscribers.displaced.len(), Ordering::Release);
    }

    fn shard(&self, seat: u64) -> &watch::Sender<u64> {
        &self.shards[seat as usize % SHARDS]
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
        match () {
            () if self.registry.is_stopping() => Some(GoAwayReason::Shutdown),
            () if self.registry.is_displaced(self.number) => Some(GoAwayReason::Displaced),
            () => None,
        }
    }

    fn handle_hello(&mut self, hello: &Hello) -> Result<(), NotItsOwner> {
        if self.member.is_none()
            && let Some(members) = self.registry.members.get()
        {
            let mut guest = Guest { address: String::new(), principal: self.principal.clone() };
            self.change(|status| guest.address.clone_from(&status.address));
            self.admission = members.handle_hello(self.number, &guest, hello)?;
            self.member = Some(hello.subscriber);
        }
        self.change(|status| {
            status.id = Some(hello.subscriber);
            status.name.clone_from(&hello.name);
            status.version.clone_from(&hello.version);
            status.speaks = hello.protocol.max;
            status.role = hello.role;
            status.reconnect_reason.clone_from(&hello.reconnect_reason);
        });
        // Counted with the later one first: in between it is never counted by that one alone.
        self.registry.displace(hello.subscriber, self.number);
        self.registry.progress.notify_waiters();
        Ok(())
    }

    fn handle_history_lost(&mut self, revisions: u64) {
        let counted = &self.registry.history_lost;
        let _ = counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| Some(sum.saturating_add(revisions)));
    }

    fn handle_ack(&mut self, ack: &Ack) {
        self.change(|status| {
            status.acked = ack.applied;
            status.ready = ack.ready;
            status.policy = ack.policy;
            status.source_time = ack.source_time;
        });
        if let (Some(member), Some(members)) = (self.member, self.registry.members.get()) {
            members.handle_ack(self.number, member, ack);
        }
        self.registry.progress.notify_waiters();
    }

    fn handle_roster(&mut self, roster: &Roster) -> Result<(), RosterFault> {
        let (Some(member), Some(members)) = (self.member, self.registry.members.get()) else { return Ok(()) };
        let taken = members.handle_roster(self.number, member, roster);
        self.registry.progress.notify_waiters();
        taken
    }

    fn handle_mode(&mut self, mode: Mode) {
        self.change(|status| status.mode = mode);
        if let (Some(member), Some(members)) = (self.member, self.registry.members.get()) {
            members.handle_mode(self.number, member, mode);
        }
    }

    fn handle_goodbye(&mut self) {
        self.goodbye = true;
    }

    fn admission(&mut self) -> Option<Pending<'static, ()>> {
        self.admission.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The member first: somebody who looks in between finds it cut off rather than not at all.
        if let (Some(member), Some(members)) = (self.member, self.registry.members.get()) {
            members.handle_leave(self.number, member, self.goodbye);
        }
        self.registry.leave(self.number);
        self.registry.progress.notify_waiters();
    }
}
