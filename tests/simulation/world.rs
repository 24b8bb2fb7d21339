//! An authority, its clients, replicas below it and below one another, the connections between them, and time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rescind::clock::ManualTime;
use rescind::hub;
use rescind::replication::Random;
use rescind::revocation::Revision;
use tokio::runtime::Runtime;

use super::authority::{self, Authority};
use super::cache::Cache;
use super::client::Client;
use super::connection::Connection;
use super::faults::Faults;
use super::history::{AUTHORITY, Event, History, Point, Record};
use super::link::chance;
use super::node::{Node, Site};
use super::operator::Waiting;

/// The grain of time.
pub const STEP: Duration = Duration::from_millis(20);
/// How long commits and faults go on.
const ACTIVE: Duration = Duration::from_secs(15);
/// How long the replicas may take to converge afterwards: the longest window that a server may ask for, and some more, for
/// each of three hops.
const SETTLE_MAX: Duration = Duration::from_secs(400);
/// How long they are watched after they have converged.
const SETTLED: Duration = Duration::from_secs(3);
const OBSERVE_EVERY: u32 = 5;
/// How many clients there are.
const CLIENTS: usize = 3;

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
    /// What subscribers told this run of the authority of lost history.
    pub history_lost: u64,
    pub clients: Vec<Client>,
    /// Tokens revoked lately, and where that was acknowledged.
    pub asked_for: VecDeque<(u32, Point)>,
    pub waiting: Option<Waiting>,
    /// The last position that was waited for.
    pub waited_for: Point,
    /// Relays first.
    pub nodes: Vec<Node>,
    pub connections: BTreeMap<usize, Connection>,
    pub opened: usize,
    /// What somebody was sent earlier, for whoever wants to send it again.
    pub tape: Vec<Vec<u8>>,
    pub stalled_until: Vec<Duration>,
    /// Nothing goes between a node and a server until then.
    pub parted_until: BTreeMap<(usize, usize), Duration>,
    pub history: History,
    /// Nothing runs on it but waits for the disk; relays ask for one.
    pub runtime: Runtime,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let time = ManualTime::starting_at(authority::time_start());
        let log_bytes_max = if faults.short_history { 3_000 } else { 12_000 };
        let mut authority = Authority::new(&mut random, Arc::clone(&time), log_bytes_max);
        authority.policy = faults.policy(authority.policy, &mut random);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let leaves = 2 + (random.next_u64() % 2) as usize;
        let now = authority::start();
        let nodes: Vec<Node> = (0..faults.relays + leaves)
            .map(|index| {
                let is_relay = index < faults.relays;
                let time = ManualTime::starting_at(authority::time_start());
                time.step_wall(off(now, &mut random, faults.skew_max));
                // A relay's log must reach further than the authority's snapshots lie apart.
                let options = hub::Options { log_bytes_max: 12_000, snapshots_max: 2, ..hub::Options::default() };
                let site = Site {
                    index,
                    time,
                    upstreams: upstreams(index, faults.relays, &mut random),
                    relays: is_relay.then_some(options),
                    cache: chance(&mut random, faults.cached).then(Cache::default),
                    runtime: runtime.handle().clone(),
                };
                Node::new(site, 0, random.next_u64())
            })
            .collect();
        let history = History {
            began: now,
            delay_max: faults.delay_max + STEP,
            skew_max: faults.skew_bound(),
            nodes: nodes.len(),
            relays: faults.relays,
            ..History::default()
        };
        Self {
            time,
            now,
            began: now,
            random,
            faults,
            authority,
            down_until: Some(now),
            fault_until: None,
            oldest: Revision(1),
            history_lost: 0,
            clients: (0..CLIENTS).map(Client::new).collect(),
            asked_for: VecDeque::new(),
            waiting: None,
            waited_for: Point::default(),
            connections: BTreeMap::new(),
            opened: 0,
            tape: Vec::new(),
            stalled_until: vec![Duration::ZERO; nodes.len()],
            parted_until: BTreeMap::new(),
            nodes,
            history,
            runtime,
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
            self.wait_for_propagation();
            steps += 1;
            active_steps += u32::from(active);
            if steps.is_multiple_of(OBSERVE_EVERY) {
                self.observe();
            }
            let settling = STEP * (steps - active_steps);
            settled_at = (!active && self.is_settled()).then(|| settled_at.unwrap_or(settling));
            if settling > SETTLE_MAX || settled_at.is_some_and(|at| settling - at > SETTLED) {
                self.observe();
                return self.end();
            }
            self.pass(STEP);
        }
    }

    fn end(mut self) -> History {
        let generation = self.authority.model.generation();
        self.history.epochs.insert(generation, std::mem::take(&mut self.authority.model.history));
        self.authority.crash();
        self.history
    }

    fn is_settled(&self) -> bool {
        let model = &self.authority.model;
        self.nodes.iter().all(|node| node.is_at(model.at(), model.last().digest))
            && self.clients.iter().all(Client::is_done)
            && self.authority.running.is_some()
    }

    pub fn pass(&mut self, time: Duration) {
        self.time.advance(time);
        self.nodes.iter().for_each(|node| node.site.time.advance(time));
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

    fn observe(&mut self) {
        for index in 0..self.nodes.len() {
            let event = Event::Observed(self.nodes[index].observe());
            self.note(index, event);
        }
        self.observe_authority();
        self.check_asked_for();
        let oldest = self.authority.oldest();
        if oldest != std::mem::replace(&mut self.oldest, oldest) {
            self.note(AUTHORITY, Event::Pruned);
        }
    }
}

/// A relay's are the authority and relays above it, a leaf's all of them in some order, without the authority at times. Now
/// and then two relays follow each other: the one that is asked says that this is a loop.
fn upstreams(index: usize, relays: usize, random: &mut Random) -> Vec<usize> {
    let mut all: Vec<usize> = (0..index.min(relays)).rev().collect();
    if index < relays {
        all.push(AUTHORITY);
        if index + 1 < relays && chance(random, 0.2) {
            all.push(index + 1);
        }
        return all;
    }
    if all.is_empty() || chance(random, 0.6) {
        all.push(AUTHORITY);
    }
    let turn = random.next_u64() as usize % all.len();
    all.rotate_left(turn);
    all
}

/// This time, as a clock shows it that is off by up to so much either way.
pub fn off(now: Duration, random: &mut Random, most: Duration) -> rescind::revocation::UnixMillis {
    let (now, most) = (now.as_millis() as u64, most.as_millis() as u64);
    rescind::revocation::UnixMillis(now - most + random.next_u64() % (2 * most + 1))
}
