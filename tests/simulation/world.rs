//! An authority, its clients, some replicas, the connections between them, and time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rescind::clock::ManualTime;
use rescind::replication::frames::ToServer;
use rescind::replication::{Feed, Random, Step, Subscription};
use rescind::revocation::ports::Answer;
use rescind::revocation::{Revision, Verdict};
use rescind::wire::pb;

use super::authority::{self, Authority};
use super::client::Client;
use super::connection::Connection;
use super::faults::Faults;
use super::history::{AUTHORITY, Event, Found, History, Observed, Record};
use super::liar::Liar;
use super::link::{Pipe, chance, corrupt};
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

/// How many clients there are.
const CLIENTS: usize = 3;
/// So many of the last acknowledged revisions are asked for.
const ASKED_FOR: usize = 3;

pub struct World {
    pub time: Arc<ManualTime>,
    pub now: Duration,
    pub began: Duration,
    pub random: Random,
    pub faults: Faults,
    pub authority: Authority,
    /// The authority is down, or the disk has a fault, until then.
    pub down_until: Option<Duration>,
    pub fault_until: Option<Duration>,
    pub oldest: Revision,
    pub clients: Vec<Client>,
    pub asked_for: VecDeque<(u32, Revision)>,
    pub replicas: Vec<Replica>,
    pub connections: BTreeMap<usize, Connection>,
    pub opened: usize,
    pub stalled_until: Vec<Duration>,
    pub history: History,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let time = ManualTime::starting_at(authority::time_start());
        let log_bytes_max = if faults.short_history { 3_000 } else { 12_000 };
        let authority = Authority::new(&mut random, Arc::clone(&time), log_bytes_max);
        let replicas = 2 + (random.next_u64() % 2) as usize;
        let now = authority::start();
        let history = History {
            delay_max: faults.delay_max + STEP,
            skew_max: faults.skew_bound(),
            replicas,
            ..History::default()
        };
        let replica = |index| Replica::new(index, random.next_u64(), now, off(&mut random, faults.skew_max));
        Self {
            time,
            now,
            began: now,
            replicas: (0..replicas).map(replica).collect(),
            random,
            faults,
            authority,
            down_until: Some(now),
            fault_until: None,
            oldest: Revision(1),
            clients: (0..CLIENTS).map(Client::new).collect(),
            asked_for: VecDeque::new(),
            connections: BTreeMap::new(),
            opened: 0,
            stalled_until: vec![Duration::ZERO; replicas],
            history,
        }
    }

    pub fn run(mut self) -> History {
        let mut steps = 0u32;
        let (mut settled_at, mut active_steps) = (None, 0u32);
        loop {
            let active = STEP * active_steps < ACTIVE;
            self.act(active);
            self.serve(active);
            self.follow(active);
            steps += 1;
            active_steps += u32::from(active);
            if steps.is_multiple_of(OBSERVE_EVERY) {
                self.observe();
            }
            let settling = STEP * (steps - active_steps);
            settled_at = (!active && self.is_settled()).then(|| settled_at.unwrap_or(settling));
            if settling > SETTLE_MAX || settled_at.is_some_and(|at| settling - at > SETTLED) {
                self.observe();
                self.history.revised = self.authority.model.history;
                return self.history;
            }
            self.pass(STEP);
        }
    }

    fn is_settled(&self) -> bool {
        let last = self.authority.model.last();
        self.replicas.iter().all(|replica| replica.is_at(last.revision, last.digest))
            && self.clients.iter().all(Client::is_done)
            && self.authority.running.is_some()
    }

    pub fn pass(&mut self, time: Duration) {
        self.time.advance(time);
        self.now += time;
    }

    pub fn note(&mut self, node: usize, event: Event) {
        self.history.events.push(Record { at: self.now, node, event });
    }

    /// Whether something happens in this step that happens about so often.
    pub fn befalls(&mut self, active: bool, every: Option<Duration>) -> bool {
        let Some(every) = every.filter(|_| active) else { return false };
        chance(&mut self.random, STEP.as_secs_f64() / every.as_secs_f64())
    }

    /// The authority and its clients do their work, or fail to.
    fn act(&mut self, active: bool) {
        self.afflict(active);
        if self.authority.running.is_none() && self.down_until.is_none_or(|until| until <= self.now) {
            self.authority.start().unwrap();
            self.authority.follow_log(self.now);
            self.note(AUTHORITY, Event::Recovered);
            self.observe_authority();
        }
        // Bursts: some seconds of quick requests, some of rest.
        let busy = (self.now.as_secs() / 3).is_multiple_of(2);
        for client in &mut self.clients {
            if active && client.is_done() && chance(&mut self.random, if busy { 0.2 } else { 0.01 }) {
                client.begin(&mut self.random);
            }
        }
        let Some(running) = &mut self.authority.running else { return };
        self.clients.iter_mut().for_each(|client| client.ask(self.now, &running.manual));
        running.manual.step();
        if (self.now - self.began).as_millis().is_multiple_of(1000) {
            running.hub.heartbeat(false);
            running.prepare();
            if self.faults.short_history {
                running.forget_history();
            }
        }
        self.authority.follow_log(self.now);
        self.answer(active);
    }

    /// The clients get their answers, and check them.
    fn answer(&mut self, active: bool) {
        let mut events = Vec::new();
        for client in &mut self.clients {
            if active && client.is_waiting() && chance(&mut self.random, self.faults.lose_answer) {
                events.extend(client.lose(self.now, &mut self.random));
            }
            events.extend(client.poll(self.now, &mut self.random));
        }
        for event in events {
            if let Event::Acknowledged(acknowledged) = &event {
                for subject in acknowledged.subjects.iter().filter(|_| acknowledged.revokes) {
                    self.asked_for.push_back((*subject, acknowledged.revision));
                }
            }
            let is_answer = matches!(event, Event::Acknowledged(_));
            self.note(AUTHORITY, event);
            if is_answer {
                self.check_asked_for();
            }
        }
        while self.asked_for.len() > ASKED_FOR {
            self.asked_for.pop_front();
        }
    }

    /// Everybody is asked about what was acknowledged lately.
    fn check_asked_for(&mut self) {
        let Some(running) = &self.authority.running else { return };
        let mut events = Vec::new();
        for &(subject, at_least) in &self.asked_for {
            let position = running.position(at_least);
            let asked = |answer: Answer| {
                let found = match answer.verdict {
                    Verdict::Revoked(_) => Found::Revoked,
                    Verdict::NotRevoked => Found::NotRevoked,
                    Verdict::Unknown(_) => Found::Unknown,
                };
                Event::Asked { subject, at_least, found, revision: answer.position.revision }
            };
            events.push((AUTHORITY, asked(running.check(subject, Some(position)))));
            for (index, replica) in self.replicas.iter().enumerate() {
                events.extend(replica.check(self.now, subject, position).map(|answer| (index, asked(answer))));
            }
        }
        events.into_iter().for_each(|(node, event)| self.note(node, event));
    }

    /// The servers' ends of all connections.
    fn serve(&mut self, active: bool) {
        let now = self.now;
        self.connections.retain(|_, connection| connection.abandoned_until.is_none_or(|until| now < until));
        let Some(running) = &self.authority.running else { return };
        let hub = Arc::clone(&running.hub);
        let moment = hub.now();
        let mut lies = 0;
        for connection in self.connections.values_mut() {
            while let Some(parcel) = connection.to_server.receive(now) {
                connection.take(moment, &parcel, &*hub);
            }
            while !connection.ended && connection.to_replica.len() < WINDOW {
                match connection.subscription.poll(moment, &*hub) {
                    Step::Send(bytes) => {
                        lies += u64::from(connection.send(now, bytes.to_vec(), active, self.faults, &mut self.random));
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
        (0..lies).for_each(|_| self.note(AUTHORITY, Event::Lied));
    }

    /// The replicas' ends.
    fn follow(&mut self, active: bool) {
        for index in 0..self.replicas.len() {
            match self.replicas[index].link {
                Link::Waiting(until) if until <= self.now => self.connect(index, active),
                Link::Waiting(_) => {}
                Link::Connected(number) => {
                    self.disturb(index, number, active);
                    self.deliver(index, number);
                }
            }
            self.replicas[index].tick(self.now);
            self.send(index, active);
            let events = self.replicas[index].take_events();
            events.into_iter().for_each(|event| self.note(index, event));
        }
        self.abandon();
    }

    fn connect(&mut self, index: usize, active: bool) {
        self.opened += 1;
        self.replicas[index].connect(self.now, self.opened);
        // Whoever is down is found out in the next step.
        let Some(running) = &self.authority.running else { return };
        let lies = active && chance(&mut self.random, self.faults.lie);
        let connection = Connection {
            subscription: Subscription::new(running.hub.now()),
            seat: running.hub.join("sim").unwrap(),
            to_server: Pipe::default(),
            to_replica: Pipe::default(),
            liar: lies.then(|| Liar::new(&mut self.random)),
            hello_intact: true,
            ended: false,
            abandoned_until: None,
        };
        self.connections.insert(self.opened, connection);
    }

    /// Cuts the connection, lets the replica stop reading, or ends it.
    fn disturb(&mut self, index: usize, number: usize, active: bool) {
        if self.befalls(active, self.faults.stall_every) {
            self.stalled_until[index] = self.now + Duration::from_secs(3);
        }
        let lied = self.connections.get(&number).is_some_and(|connection| connection.liar.is_some());
        if self.befalls(active, self.faults.cut_every) || (lied && !active) {
            self.replicas[index].lose(self.now);
            // Half the time the server learns late.
            if chance(&mut self.random, 0.5) {
                self.connections.remove(&number);
            }
        } else if self.befalls(active, self.faults.restart_every) {
            let seed = self.random.next_u64();
            self.replicas[index].restart(seed, self.now);
        }
    }

    fn deliver(&mut self, index: usize, number: usize) {
        while self.now >= self.stalled_until[index] && self.replicas[index].link == Link::Connected(number) {
            let Some(connection) = self.connections.get_mut(&number) else {
                return self.replicas[index].lose(self.now);
            };
            match connection.to_replica.receive(self.now) {
                Some(parcel) => {
                    let hello_intact = connection.hello_intact;
                    self.replicas[index].receive(self.now, &parcel, hello_intact);
                }
                None if connection.ended && connection.to_replica.len() == 0 => {
                    self.replicas[index].lose(self.now);
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
        for index in 0..self.replicas.len() {
            let event = Event::Observed(self.replicas[index].observe(self.now));
            self.note(index, event);
        }
        self.observe_authority();
        self.check_asked_for();
        let oldest = self.authority.oldest();
        if oldest != std::mem::replace(&mut self.oldest, oldest) {
            self.note(AUTHORITY, Event::Pruned);
        }
    }

    fn observe_authority(&mut self) {
        let log_bytes_max = self.authority.log_bytes_max() as u64;
        let Some(running) = &mut self.authority.running else { return };
        let (revision, digest) = running.stamp();
        let seen = Observed {
            live: true,
            diverged: false,
            ready: true,
            synced: true,
            revision,
            digest,
            revoked: running.revoked(),
            staleness: Duration::ZERO,
        };
        let load = Event::Load {
            log_bytes: running.log_bytes(),
            log_bytes_max,
            frames: self.connections.values().map(|connection| connection.to_replica.len()).max().unwrap_or(0),
            // A repetition, or a lie, makes two of one.
            frames_max: 2 * WINDOW,
            unanswered: self.clients.iter().filter(|client| client.is_waiting()).count(),
        };
        self.note(AUTHORITY, Event::Observed(seen));
        self.note(AUTHORITY, load);
    }
}

/// An offset of up to so much either way, in ms.
pub fn off(random: &mut Random, most: Duration) -> i64 {
    let most = most.as_millis() as i64;
    (random.next_u64() % (2 * most as u64 + 1)) as i64 - most
}
