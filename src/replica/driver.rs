//! The task that carries out what the follower asks for: one connection at a time, a timer, and jobs beside it.
//!
//! # Flow
//! An input (a frame, a tick, a connection made or lost) goes to the follower ([`Following`]); then its actions are carried out until
//! there are none; then the next input is waited for. Nothing here waits inside an action.

mod link;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamExt as _;

use self::link::{Link, LinkInput};
use super::below::Below;
use super::cache::Opened;
use super::counters::count;
use super::event::{Event, Observe};
use super::following::Following;
use super::handle::Replica;
use super::keep::Keep;
use super::upstream::Upstream;
use crate::clock::Clock;
use crate::replication::Action;
use crate::replication::FollowerStatus;
use crate::replication::follower::{Alarm, FollowerOptions, FollowerState, SetSwap, TICK};
use crate::replication::frames::{Hello, Subtree, ToServer, ToSubscriber, Welcome};
use crate::revocation::Position;

/// How long another server may take to answer whether it hears the authority.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// What a driver needs.
pub struct DriverOptions {
    /// Who follows, and within which limits.
    pub follower: FollowerOptions,
    /// The servers, in the order in which they are tried; at least one.
    pub upstreams: Vec<Arc<dyn Upstream>>,
    /// Where the time comes from. Back-off and ticks go by the runtime's own timer.
    pub clock: Clock,
    /// Is told what happens.
    pub observer: Option<Box<dyn Observe>>,
    /// Are told what was verified.
    pub keepers: Vec<Box<dyn Keep>>,
    /// What lies below this process, if it is a relay.
    pub below: Option<Below>,
    /// A cache on disk to begin from and to keep; its subscriber takes the place of the follower's.
    pub cache: Option<Opened>,
}

/// Owns the task that feeds a [`Replica`]. When it is dropped the task says goodbye and ends by itself, and the replica's
/// misses are unknown; [`Driver::shutdown`] waits for that.
#[derive(Debug)]
pub struct Driver {
    replica: Arc<Replica>,
    /// Dropping it ends the task.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Driver {
    /// Starts following. Without a cache it returns at once and the replica holds nothing yet; with one, as soon as that is
    /// verified.
    #[must_use]
    pub fn spawn(options: DriverOptions, runtime: &Handle) -> Self {
        let DriverOptions { mut follower, upstreams, clock, observer, keepers, below, cache } = options;
        follower.keeps = !keepers.is_empty() || cache.is_some();
        follower.subscriber = cache.as_ref().map_or(follower.subscriber, Opened::subscriber);
        let mut following = Following::new(follower, clock);
        keepers.into_iter().for_each(|keeper| following.add_keeper(keeper));
        if let Some(cache) = cache {
            let keeper = cache.begin(&mut following);
            following.add_keeper(Box::new(keeper));
        }
        let replica = Arc::clone(following.replica());
        let (stop, stopped) = oneshot::channel();
        let task = Task {
            following,
            replica: Arc::clone(&replica),
            upstreams,
            link: Link::Idle,
            leaving: JoinSet::new(),
            probing: JoinSet::new(),
            lost: String::new(),
            rebuilds: JoinSet::new(),
            observer,
            below,
            announced: false,
            stale: false,
        };
        let task = runtime.spawn(task.run(stopped));
        Self { replica, stop, task }
    }

    /// What it feeds.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Says goodbye to the server, within a second, and ends the task. From then on the replica's misses are unknown: no
    /// proof of propagation waits for it any more.
    pub async fn shutdown(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the replica's task failed");
        }
    }
}

/// What a server answers to a Hello that only asks; `None` when it does not within a while.
async fn probe(upstream: &dyn Upstream, hello: Hello) -> Option<Welcome> {
    let asked = async {
        let mut connection = upstream.connect().await.ok()?;
        connection.outgoing.send(ToServer::Hello(Box::new(hello))).await.ok()?;
        match connection.incoming.next().await? {
            Ok(ToSubscriber::Welcome(welcome)) => Some(*welcome),
            _ => None,
        }
    };
    tokio::time::timeout(PROBE_WITHIN, asked).await.ok().flatten()
}

/// What lies below, when that has changed; never, for a leaf.
async fn next_subtree(below: &mut Option<Below>) -> Subtree {
    if let Some(Below { subtree, .. }) = below
        && subtree.changed().await.is_ok()
    {
        return subtree.borrow_and_update().clone();
    }
    std::future::pending().await
}

struct Task {
    following: Following,
    replica: Arc<Replica>,
    upstreams: Vec<Arc<dyn Upstream>>,
    link: Link,
    /// Says goodbye to a server that was turned away: at most one at a time.
    leaving: JoinSet<()>,
    /// At most one server is being asked.
    probing: JoinSet<Option<Welcome>>,
    /// Why there is no connection.
    lost: String,
    rebuilds: JoinSet<()>,
    observer: Option<Box<dyn Observe>>,
    below: Option<Below>,
    /// It was said that this connection's server is followed.
    announced: bool,
    /// The set was staler than policy accepts when last looked at.
    stale: bool,
}

impl Task {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.carry_out();
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                _ = ticks.tick() => {
                    self.following.handle_tick();
                    self.watch_staleness();
                }
                subtree = next_subtree(&mut self.below) => self.following.follower.handle_subtree(self.replica.now(), subtree),
                Some(_) = self.rebuilds.join_next() => {}
                Some(_) = self.leaving.join_next() => {}
                Some(answer) = self.probing.join_next() => self.handle_probed(answer),
                input = self.link.next() => self.handle_input(input),
            }
            self.carry_out();
            self.link.flush();
            // A snapshot is much work in a row: others get their turn between its chunks.
            tokio::task::consume_budget().await;
        }
        // Before the goodbye: after that, nobody misses who goes on asking here.
        self.replica.end();
        self.link.end().await;
        while self.leaving.join_next().await.is_some() {}
        while self.rebuilds.join_next().await.is_some() {}
        // They may have to wait for the disk.
        let keepers = self.following.take_keepers();
        let _ = tokio::task::spawn_blocking(move || drop(keepers)).await;
    }

    fn handle_input(&mut self, input: LinkInput) {
        match input {
            LinkInput::Due => self.connect(),
            LinkInput::Connected(connection) => {
                count(&self.replica.counters().connections);
                let roster = self.below.as_ref().map(|below| Arc::clone(&below.roster));
                self.link = Link::open(connection, roster);
                self.announced = false;
                self.tell(|server| Event::Connected { server });
                self.following.follower.handle_connected(self.replica.now());
            }
            LinkInput::Frame(frame) => self.following.follower.handle_frame(self.replica.now(), *frame),
            LinkInput::Lost(error) => {
                self.link = Link::Idle;
                self.lost = error.to_string();
                self.replica.counters().count_break((&error).into());
                self.following.follower.handle_disconnect(&self.lost);
            }
        }
    }

    /// Tries the next server.
    fn connect(&mut self) {
        let next = self.following.next_server(self.upstreams.len());
        self.link = match next.and_then(|next| self.upstreams.get(next)) {
            Some(upstream) => Link::connect(Arc::clone(upstream)),
            // Nothing to follow: the replica stays as it is.
            None => Link::Idle,
        };
    }

    /// Asks the next of the other servers, unless one is being asked already.
    fn probe(&mut self, hello: Hello) {
        if !self.probing.is_empty() {
            return;
        }
        let asked = self.following.next_asked(self.upstreams.len());
        if let Some(upstream) = asked.and_then(|asked| self.upstreams.get(asked)) {
            let upstream = Arc::clone(upstream);
            self.probing.spawn(async move { probe(&*upstream, hello).await });
        }
    }

    fn handle_probed(&mut self, answer: Result<Option<Welcome>, JoinError>) {
        if let Ok(Some(welcome)) = answer {
            self.following.handle_probed(&welcome);
        }
    }

    /// Does all that the follower wants done.
    fn carry_out(&mut self) {
        let mut applied = Vec::new();
        while let Some(action) = self.following.poll() {
            match action {
                Action::Applied { delta, entries } => applied.push((delta, entries)),
                Action::Connect { after } => self.wait(after),
                Action::Send(frame) => self.link.send(frame),
                Action::Disconnect { reason } => {
                    self.turn_away();
                    self.lost = reason.to_string();
                    self.replica.counters().count_break((&reason).into());
                }
                Action::Swap(swap) => self.swap(&swap),
                Action::Rebuild(rebuild) => {
                    self.rebuilds.spawn_blocking(move || rebuild.run());
                }
                Action::Probe(hello) => self.probe(*hello),
                Action::Publish(status) => {
                    self.announce(&status);
                    self.tell(|_| Event::Status);
                }
                Action::Verified(_) => {}
                Action::Alarm(alarm) => self.raise(&alarm),
            }
        }
        // Readers know where the set stands by now.
        for (delta, entries) in applied {
            count(&self.replica.counters().revisions);
            self.tell(|_| Event::Revision { delta: &delta, entries });
        }
    }

    fn wait(&mut self, after: Duration) {
        self.link = Link::wait(after);
        if self.following.server().is_none() {
            return;
        }
        count(&self.replica.counters().connection_failures);
        let reason = std::mem::take(&mut self.lost);
        tracing::info!(server = self.server(), reason, retry_in = ?after, "not following");
        self.tell(|server| Event::Disconnected { server, reason: &reason, retry_in: after });
    }

    /// Drops the connection. A replica that holds nothing answers no miss, so nobody need miss it: the server is told,
    /// rather than left to wait for a member that refuses it.
    fn turn_away(&mut self) {
        let mut link = std::mem::replace(&mut self.link, Link::Idle);
        if self.following.follower.status().epoch.is_none() && self.leaving.is_empty() {
            self.leaving.spawn(async move { link.end().await });
        }
    }

    fn swap(&mut self, swap: &SetSwap) {
        count(&self.replica.counters().snapshots);
        let status = self.following.follower.status();
        let position = Position { epoch: swap.epoch.id, revision: swap.set.revision() };
        let entries = swap.set.entries();
        match &swap.epoch_change {
            Some(change) if !change.ancestor => tracing::error!(
                %position,
                "the epoch changed and may lack revocations of the one before: those stay in force here"
            ),
            _ if status.state == FollowerState::Warm => {
                tracing::info!(%position, entries, "answering from the cache on disk until a server is followed");
            }
            _ => tracing::info!(%position, entries, "following from a snapshot"),
        }
        self.tell(|_| Event::Swapped { position, entries, epoch_change: swap.epoch_change.as_ref() });
    }

    fn raise(&mut self, alarm: &Alarm) {
        if let Alarm::Diverged(_) = alarm {
            count(&self.replica.counters().divergences);
        }
        tracing::error!(server = self.server(), %alarm, "replica alarm");
        self.tell(|_| Event::Alarm(alarm));
    }

    /// Loud when the set becomes staler than policy accepts: once, and once more when that is over.
    fn watch_staleness(&mut self) {
        let status = self.following.follower.status();
        // On its way to the first word there is no age to speak of.
        if status.epoch.is_none() || matches!(status.state, FollowerState::Resuming | FollowerState::Snapshotting) {
            return;
        }
        let staleness = status.staleness(self.replica.now());
        let policy = self.replica.policy(&status);
        let stale = staleness > policy.max_staleness;
        match (self.stale, stale) {
            (false, true) if staleness == Duration::MAX => {
                tracing::warn!(when_stale = ?policy.when_stale, "no word from the authority yet: the set counts as stale");
            }
            (false, true) => {
                tracing::warn!(?staleness, max = ?policy.max_staleness, when_stale = ?policy.when_stale, "the set is stale");
            }
            (true, false) => tracing::info!(?staleness, "the set is fresh again"),
            _ => {}
        }
        self.stale = stale;
    }

    /// Says once for each connection whom it follows, as soon as the authority is heard through it.
    fn announce(&mut self, status: &FollowerStatus) {
        if status.state == FollowerState::Live && !std::mem::replace(&mut self.announced, true) {
            let position = status.position().map(|position| position.to_string());
            tracing::info!(server = self.server(), position, "following");
        }
    }

    fn server(&self) -> &str {
        self.following.server().and_then(|server| self.upstreams.get(server)).map_or("", |upstream| upstream.name())
    }

    fn tell<'a>(&'a mut self, event: impl FnOnce(&'a str) -> Event<'a>) {
        let Self { observer: Some(observer), upstreams, following, .. } = self else { return };
        let server = following.server().and_then(|server| upstreams.get(server)).map_or("", |upstream| upstream.name());
        observer.handle_event(event(server), &following.follower.status());
    }
}
