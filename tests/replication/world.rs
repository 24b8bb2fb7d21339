//! An authority, some replicas, the connections between them, and time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rescind::clock::ManualTime;
use rescind::replication::frames::{GoAwayReason, ToServer};
use rescind::replication::source::Seat;
use rescind::replication::{Feed, Moment, Random, Step, Subscription};
use rescind::wire::pb;
use rescind::wire::replication::GRPC_PREFIX_BYTES;

use super::authority::{self, Authority};
use super::history::{Event, History, Published, Record};
use super::link::{Parcel, Pipe, chance, corrupt};
use super::replica::{Link, Replica};

/// The grain of time.
const STEP: Duration = Duration::from_millis(20);
/// How long commits and faults go on.
const ACTIVE: Duration = Duration::from_secs(15);
/// How long the replicas may take to converge afterwards: the longest window that a server may ask for, and some more.
const SETTLE_MAX: Duration = Duration::from_secs(200);
/// How long they are watched after they have converged.
const SETTLED: Duration = Duration::from_secs(3);
/// Frames on their way to a replica; then the server waits.
const WINDOW: usize = 8;
const OBSERVE_EVERY: u32 = 5;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub delay_max: Duration,
    /// Connections live about so long.
    pub cut_every: Option<Duration>,
    /// Replicas stop reading about so often, for a while.
    pub stall_every: Option<Duration>,
    /// The probability that a frame comes twice.
    pub repeat: f64,
    /// The probability that a byte of a frame is changed.
    pub corrupt: f64,
    /// The history keeps only what came after the newest snapshot.
    pub short_history: bool,
}

impl Faults {
    pub const NONE: Self = Self {
        delay_max: Duration::from_millis(20),
        cut_every: None,
        stall_every: None,
        repeat: 0.0,
        corrupt: 0.0,
        short_history: false,
    };
}

pub struct World {
    time: Arc<ManualTime>,
    now: Duration,
    began: Duration,
    random: Random,
    faults: Faults,
    authority: Authority,
    replicas: Vec<Replica>,
    connections: BTreeMap<usize, Connection>,
    opened: usize,
    stalled_until: Vec<Duration>,
    history: History,
}

/// A connection, as both ends and the link know it.
struct Connection {
    subscription: Subscription,
    seat: Box<dyn Seat>,
    to_server: Pipe,
    to_replica: Pipe,
    hello_intact: bool,
    /// The server is done; what is under way still arrives.
    ended: bool,
    /// The replica is gone; the server does not know until then.
    abandoned_until: Option<Duration>,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let time = ManualTime::starting_at(authority::start());
        let authority = Authority::new(&time, &mut random, faults.short_history);
        let replicas = 2 + (random.next_u64() % 2) as usize;
        let now = Duration::from_millis(authority::start().0);
        let moment = Moment { boot: now, wall: authority::start() };
        let history = History { delay_max: faults.delay_max + STEP, replicas, ..History::default() };
        Self {
            time,
            now,
            began: now,
            replicas: (0..replicas).map(|index| Replica::new(index, random.next_u64(), moment)).collect(),
            random,
            faults,
            authority,
            connections: BTreeMap::new(),
            opened: 0,
            stalled_until: vec![Duration::ZERO; replicas],
            history,
        }
    }

    pub fn run(mut self) -> History {
        self.record_published();
        let mut steps = 0u32;
        let mut settled_at = None;
        loop {
            let elapsed = self.now - self.began;
            let active = elapsed < ACTIVE;
            self.act(active);
            self.serve();
            self.follow(active);
            steps += 1;
            if steps.is_multiple_of(OBSERVE_EVERY) {
                self.observe();
            }
            let (revision, digest) = (self.authority.revision(), self.authority.digest());
            let settled = !active && self.replicas.iter().all(|replica| replica.is_at(revision, digest));
            settled_at = settled.then(|| settled_at.unwrap_or(elapsed));
            if elapsed > ACTIVE + SETTLE_MAX || settled_at.is_some_and(|at| elapsed - at > SETTLED) {
                self.observe();
                return self.history;
            }
            self.time.advance(STEP);
            self.now += STEP;
        }
    }

    fn moment(&self) -> Moment {
        self.authority.hub.now()
    }

    /// The authority commits, beats and tidies up.
    fn act(&mut self, active: bool) {
        // Bursts: some seconds of quick commits, some of rest.
        let busy = (self.now.as_secs() / 3).is_multiple_of(2);
        if active && chance(&mut self.random, if busy { 0.4 } else { 0.02 }) {
            self.authority.commit(&mut self.random);
            self.record_published();
        }
        if (self.now - self.began).as_millis().is_multiple_of(1000) {
            self.authority.hub.heartbeat(false);
        }
        self.authority.tend();
    }

    fn record_published(&mut self) {
        self.history.published.push(Published {
            revision: self.authority.revision(),
            at: self.now,
            digest: self.authority.digest(),
            revoked: self.authority.revoked(),
        });
    }

    /// The servers' ends of all connections.
    fn serve(&mut self) {
        let now = self.now;
        let active = now - self.began < ACTIVE;
        self.connections.retain(|_, connection| connection.abandoned_until.is_none_or(|until| now < until));
        let moment = self.moment();
        let hub = Arc::clone(&self.authority.hub);
        let (faults, random) = (self.faults, &mut self.random);
        for connection in self.connections.values_mut() {
            while let Some(parcel) = connection.to_server.receive(now) {
                connection.take(moment, &parcel, &*hub);
            }
            while !connection.ended && connection.to_replica.len() < WINDOW {
                match connection.subscription.poll(moment, &*hub) {
                    Step::Send(bytes) => {
                        let mut bytes = bytes.to_vec();
                        let intact = !(active && chance(random, faults.corrupt));
                        if !intact {
                            corrupt(&mut bytes, GRPC_PREFIX_BYTES, random);
                        }
                        if active && chance(random, faults.repeat) {
                            connection.to_replica.send(now, random.within(faults.delay_max), bytes.clone(), intact);
                        }
                        connection.to_replica.send(now, random.within(faults.delay_max), bytes, intact);
                    }
                    Step::ReadHistory { from, bytes_max } => {
                        let deltas = hub.read_history(from, bytes_max);
                        connection.subscription.handle_history(moment, deltas, &*hub);
                    }
                    Step::Wait { .. } => break,
                    Step::Close => connection.ended = true,
                }
            }
        }
    }

    /// The replicas' ends.
    fn follow(&mut self, active: bool) {
        for index in 0..self.replicas.len() {
            let moment = self.moment();
            match self.replicas[index].link {
                Link::Waiting(until) if until <= self.now => self.connect(index, moment),
                Link::Waiting(_) => {}
                Link::Connected(number) => {
                    self.disturb(index, number, active);
                    self.deliver(index, number, moment);
                }
            }
            self.replicas[index].tick(moment);
            self.send(index, active);
            let events = self.replicas[index].take_events();
            let at = self.now;
            self.history.events.extend(events.into_iter().map(|event| Record { at, replica: index, event }));
        }
        self.abandon();
    }

    fn connect(&mut self, index: usize, moment: Moment) {
        self.opened += 1;
        let seat = self.authority.hub.join("sim").unwrap();
        let connection = Connection {
            subscription: Subscription::new(moment),
            seat,
            to_server: Pipe::default(),
            to_replica: Pipe::default(),
            hello_intact: true,
            ended: false,
            abandoned_until: None,
        };
        self.connections.insert(self.opened, connection);
        self.replicas[index].connect(moment, self.opened);
    }

    /// Cuts the connection, or lets the replica stop reading.
    fn disturb(&mut self, index: usize, number: usize, active: bool) {
        let per_step = |every: Option<Duration>| every.map_or(0.0, |every| STEP.as_secs_f64() / every.as_secs_f64());
        if active && chance(&mut self.random, per_step(self.faults.stall_every)) {
            self.stalled_until[index] = self.now + Duration::from_secs(3);
        }
        if active && chance(&mut self.random, per_step(self.faults.cut_every)) {
            let moment = self.moment();
            self.replicas[index].lose(moment);
            // Half the time the server learns late.
            if chance(&mut self.random, 0.5) {
                self.connections.remove(&number);
            }
        }
    }

    fn deliver(&mut self, index: usize, number: usize, moment: Moment) {
        while self.now >= self.stalled_until[index] && self.replicas[index].link == Link::Connected(number) {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            match connection.to_replica.receive(self.now) {
                Some(parcel) => {
                    let hello_intact = connection.hello_intact;
                    self.replicas[index].receive(moment, &parcel, hello_intact);
                }
                None if connection.ended && connection.to_replica.len() == 0 => {
                    self.replicas[index].lose(moment);
                }
                None => return,
            }
        }
    }

    fn send(&mut self, index: usize, active: bool) {
        let frames = std::mem::take(&mut self.replicas[index].outbox);
        let Link::Connected(number) = self.replicas[index].link else { return };
        let Some(connection) = self.connections.get_mut(&number) else { return };
        for frame in frames {
            let mut bytes = pb::SubscribeRequest::from(&frame).encode_to_vec();
            let intact = !(active && chance(&mut self.random, self.faults.corrupt));
            if !intact {
                corrupt(&mut bytes, 0, &mut self.random);
            }
            if matches!(frame, ToServer::Hello(_)) {
                connection.hello_intact = intact;
            }
            let delay = self.random.within(self.faults.delay_max);
            connection.to_server.send(self.now, delay, bytes, intact);
        }
    }

    /// Connections that no replica uses any more are noticed by the server after a while.
    fn abandon(&mut self) {
        let used: Vec<usize> = (self.replicas.iter())
            .filter_map(|replica| match replica.link {
                Link::Connected(number) => Some(number),
                Link::Waiting(_) => None,
            })
            .collect();
        for (number, connection) in &mut self.connections {
            if !used.contains(number) && connection.abandoned_until.is_none() {
                let after = self.random.within(Duration::from_secs(3));
                connection.abandoned_until = Some(self.now + after);
            }
        }
    }

    fn observe(&mut self) {
        let moment = self.moment();
        for (replica, state) in self.replicas.iter().enumerate() {
            let event = Event::Observed(state.observe(moment));
            self.history.events.push(Record { at: self.now, replica, event });
        }
    }
}

impl Connection {
    fn take(&mut self, moment: Moment, parcel: &Parcel, hub: &dyn Feed) {
        let message = pb::SubscribeRequest::decode(&*parcel.bytes).ok();
        match message.and_then(|message| ToServer::try_from(message).ok()) {
            Some(frame) => {
                if let ToServer::Hello(hello) = &frame {
                    self.seat.handle_hello(hello);
                }
                self.subscription.handle_frame(moment, frame, hub);
            }
            None => self.subscription.begin_go_away(GoAwayReason::Malformed, "not a frame"),
        }
    }
}
