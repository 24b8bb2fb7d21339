//! A replica, leaf or relay: what follows, its driver, the readers of its set, and what it serves again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rescind::clock::{Clock, ManualTime};
use rescind::hub::{self, Hub};
use rescind::relay::Relay;
use rescind::replica::{Below, Following};
use rescind::replication::follower::{Alarm, TICK};
use rescind::replication::frames::{Hello, NodeId, Role, SnapshotReason, ToServer, ToSubscriber, Welcome, WelcomeMode};
use rescind::replication::{Action, FollowerOptions, FollowerState, FollowerStatus, Moment};
use rescind::revocation::ports::Answer;
use rescind::revocation::{Digest, Position, UnixMillis, Verdict};
use rescind::wire::pb;
use rescind::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};
use tokio::runtime::Handle;

use super::cache::Cache;
use super::history::{Event, Observed, Point};
use super::link::Parcel;
use super::token;

/// What stays the same over restarts.
#[derive(Clone)]
pub struct Site {
    pub index: usize,
    /// Both clocks of its machine.
    pub time: Arc<ManualTime>,
    /// Whom it follows, in the order in which they are tried: other nodes, or [`super::history::AUTHORITY`].
    pub upstreams: Vec<usize>,
    /// What its hub is bounded by, if it is a relay.
    pub relays: Option<hub::Options>,
    pub cache: Option<Cache>,
    /// A runtime that nothing ever drives: what a hub's own task would do, the world does.
    pub runtime: Handle,
}

pub struct Node {
    pub site: Site,
    /// Counts the restarts without a memory of who it was.
    life: u8,
    following: Following,
    relay: Option<(Arc<Relay>, Below)>,
    pub link: Link,
    ticked_at: Duration,
    /// What the last Hello said, and whether it left as it was.
    held: Option<(Point, Digest)>,
    outbox: Vec<ToServer>,
    /// What another server is to be asked.
    probe: Option<Hello>,
    events: Vec<Event>,
    /// What is served.
    reached: Point,
    gave_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Until this time.
    Waiting(Duration),
    /// This connection.
    Connected(usize),
}

impl Node {
    pub fn new(site: Site, life: u8, seed: u64) -> Self {
        let clock = Clock::manual(Arc::clone(&site.time));
        let is_relay = site.relays.is_some();
        let id = NodeId([site.index as u8 + 1, life, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let name = format!("{}-{}", if is_relay { "relay" } else { "leaf" }, site.index);
        let options = FollowerOptions {
            role: if is_relay { Role::Relay } else { Role::Leaf },
            path: if is_relay { vec![id] } else { Vec::new() },
            keeps: is_relay || site.cache.is_some(),
            ..FollowerOptions::leaf(id, &name, seed)
        };
        let entries_max = options.entries_max;
        let mut following = Following::new(options, clock.clone());
        let relay = site
            .relays
            .map(|options| Relay::new(id, seed, options, clock.clone(), Arc::new(GrpcEncoder), site.runtime.clone()));
        if let Some(relay) = &relay {
            following.add_keeper(Box::new(relay.feeder()));
        }
        let mut events = Vec::new();
        if let Some(cache) = &site.cache {
            let (kept, residues, lost) = cache.kept();
            events.extend(kept.is_some().then_some(Event::Warmed));
            let faults = following.begin_from(kept, residues, lost, entries_max);
            assert!(faults.is_empty(), "what was verified does not prove itself: {faults:?}");
            following.add_keeper(Box::new(cache.clone()));
        }
        let now = clock.boot().0;
        let mut node = Self {
            site,
            life,
            following,
            relay: relay.map(|relay| (Arc::clone(&relay), relay.below())),
            link: Link::Waiting(now),
            ticked_at: now,
            held: None,
            outbox: Vec::new(),
            probe: None,
            events,
            reached: Point::default(),
            gave_up: false,
        };
        node.carry_out();
        node
    }

    /// Loses all that is in memory, and begins anew.
    pub fn restart(&mut self, seed: u64, power_cut: bool) {
        let site = self.site.clone();
        // Without a disk it does not know who it was.
        let life = if site.cache.is_some() { self.life } else { self.life + 1 };
        let residues = site.cache.as_ref().map(|cache| {
            cache.end(power_cut);
            cache.residues()
        });
        let restarted = Event::Restarted { residues: residues.unwrap_or_default() };
        *self = Self::new(site, life, seed);
        self.events.insert(0, restarted);
    }

    /// Its wall clock steps.
    pub fn set_wall(&mut self, wall: UnixMillis) {
        self.site.time.step_wall(wall);
    }

    /// Whom it tries next.
    pub fn next_upstream(&mut self) -> usize {
        let next = self.following.next_server(self.site.upstreams.len()).unwrap();
        self.site.upstreams[next]
    }

    /// Whom it asks whether the authority was heard later, and how.
    pub fn take_probe(&mut self) -> Option<(usize, Hello)> {
        let hello = self.probe.take()?;
        let asked = self.following.next_asked(self.site.upstreams.len())?;
        Some((self.site.upstreams[asked], hello))
    }

    /// The server that was asked answered.
    pub fn handle_probed(&mut self, welcome: &Welcome) {
        self.following.handle_probed(welcome);
        self.carry_out();
    }

    pub fn connect(&mut self, connection: usize) {
        self.link = Link::Connected(connection);
        if let Some((_, below)) = &self.relay {
            below.roster.begin();
        }
        self.following.follower.handle_connected(self.now());
        self.carry_out();
    }

    pub fn lose(&mut self) {
        self.events.push(Event::Lost);
        self.following.follower.handle_disconnect("connection lost");
        self.carry_out();
    }

    pub fn tick(&mut self) {
        let now = self.now();
        if now.since(self.ticked_at) >= TICK {
            self.ticked_at = now.boot;
            self.following.handle_tick();
            self.carry_out();
        }
        if let Some(cache) = &self.site.cache {
            cache.tend(now.boot);
        }
        if let Some((relay, below)) = &mut self.relay {
            relay.sum_up();
            if below.subtree.has_changed().unwrap() {
                let subtree = below.subtree.borrow_and_update().clone();
                self.following.follower.handle_subtree(now, subtree);
                self.carry_out();
            }
        }
    }

    /// What it serves, if it is a relay and has something to serve.
    pub fn hub(&self) -> Option<Arc<Hub>> {
        self.relay.as_ref()?.0.hub()
    }

    pub fn now(&self) -> Moment {
        let clock = Clock::manual(Arc::clone(&self.site.time));
        Moment { boot: clock.boot().0, wall: clock.wall() }
    }

    pub fn receive(&mut self, parcel: &Parcel, hello_intact: bool) {
        if !parcel.intact {
            self.events.push(Event::Misled);
        }
        let message = parcel.bytes.get(GRPC_PREFIX_BYTES..).map(pb::SubscribeResponse::decode);
        let frame = match message {
            Some(Ok(message)) => ToSubscriber::try_from(message).ok(),
            _ => None,
        };
        let Some(frame) = frame else {
            self.events.push(Event::Refused);
            self.following.follower.handle_disconnect("not a frame");
            return self.carry_out();
        };
        let heartbeat = match &frame {
            ToSubscriber::Heartbeat(heartbeat) if parcel.intact => Some(heartbeat.revision),
            _ => None,
        };
        match &frame {
            ToSubscriber::Welcome(welcome) => self.events.push(Event::Welcomed {
                held: self.held,
                generation: welcome.epoch.generation,
                oldest: welcome.oldest,
                resumed: welcome.mode == WelcomeMode::Resume,
                intact: parcel.intact && hello_intact,
            }),
            ToSubscriber::SnapshotBegin(begin) if begin.reason == SnapshotReason::Lagged => {
                self.events.push(Event::Lagged);
            }
            _ => {}
        }
        self.following.follower.handle_frame(self.now(), frame);
        self.carry_out();
        let follows = matches!(self.status().state, FollowerState::Live | FollowerState::Resuming);
        if let Some(revision) = heartbeat.filter(|_| follows && !self.gave_up) {
            let applied = self.at();
            self.events.push(Event::Heartbeat { of: Point { revision, ..applied }, applied });
        }
        self.gave_up = false;
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.following.poll() {
            match action {
                Action::Connect { after } => self.link = Link::Waiting(self.now().boot + after),
                Action::Send(frame) => {
                    if let ToServer::Hello(hello) = &frame {
                        let at = |held: rescind::replication::frames::Held| {
                            (Point { generation: held.epoch.generation, revision: held.revision }, held.digest)
                        };
                        self.held = hello.held.map(at);
                    }
                    self.outbox.push(frame);
                }
                Action::Disconnect { .. } => {
                    self.gave_up = true;
                    self.outbox.clear();
                    self.events.push(Event::Refused);
                }
                Action::Swap(swap) => {
                    self.reached = Point { generation: swap.epoch.generation, revision: swap.set.revision() };
                    self.events.push(Event::Swapped { to: self.reached });
                }
                Action::Applied { delta, .. } => {
                    let from = self.reached;
                    self.reached.revision = delta.revision;
                    self.events.push(Event::Advanced { from, to: self.reached });
                }
                Action::Probe(hello) => self.probe = Some(*hello),
                Action::Rebuild(rebuild) => rebuild.run(),
                Action::Alarm(Alarm::Diverged(_)) => self.events.push(Event::Diverged),
                Action::Alarm(_) | Action::Publish(_) | Action::Verified(_) => {}
            }
        }
    }

    /// What it sends, if it is connected: who is below it before the ack that counts them.
    pub fn take_outbox(&mut self) -> Vec<ToServer> {
        let (mut frames, acks): (Vec<_>, Vec<_>) =
            self.outbox.drain(..).partition(|frame| matches!(frame, ToServer::Hello(_)));
        if let Some((_, below)) = self.relay.as_ref().filter(|_| matches!(self.link, Link::Connected(_))) {
            frames.extend(std::iter::from_fn(|| below.roster.next_part()).map(ToServer::Roster));
        }
        frames.extend(acks);
        frames
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn status(&self) -> FollowerStatus {
        self.following.follower.status()
    }

    fn at(&self) -> Point {
        let status = self.status();
        Point { generation: status.epoch.map_or(0, |epoch| epoch.generation), revision: status.revision }
    }

    /// What readers see.
    pub fn observe(&self) -> Observed {
        let status = self.status();
        let verdict = |token: u32| self.following.replica().check(&token::claims(token), None).verdict;
        let revoked: BTreeSet<u32> =
            token::all().filter(|token| matches!(verdict(*token), Verdict::Revoked(_))).collect();
        Observed {
            live: status.state == FollowerState::Live,
            diverged: status.state == FollowerState::Diverged,
            ready: status.ready,
            synced: status.epoch.is_some(),
            accepts: verdict(token::SUBJECTS) == Verdict::NotRevoked,
            fresh: !self.following.replica().status().stale,
            at: self.at(),
            digest: status.digest,
            revoked,
            residues: self.following.replica().residues(),
            staleness: status.staleness(self.now()),
        }
    }

    /// A check, as a service that holds this replica asks for it.
    pub fn check(&self, token: u32, at_least: Position) -> (Answer, Point) {
        let answer = self.following.replica().check(&token::claims(token), Some(at_least));
        let answered = Point { revision: answer.position.revision, ..self.at() };
        (answer, answered)
    }

    /// Whether it is live at this state.
    pub fn is_at(&self, at: Point, digest: Digest) -> bool {
        let status = self.status();
        status.state == FollowerState::Live && status.ready && (self.at(), status.digest) == (at, digest)
    }
}
