//! A fleet on a simulated network, the faults that befall it, and what must hold at every moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rescind::replica::{FollowerState, Replica};
use rescind::replication::Random;
use rescind::replication::frames::Role;
use rescind::revocation::{Claims, Revision, Verdict};
use tempfile::TempDir;
use turmoil::Sim;

use super::authority::{Authority, CLOCK_SKEW_MAX};
use super::node::Node;

/// How far the simulation goes at a time. Clocks stand still within it.
pub const TICK: Duration = Duration::from_millis(10);
/// What an event may be late by for that reason alone.
const GRAIN: Duration = Duration::from_millis(20);
/// The longest a test may last, in virtual time.
const DURATION_MAX: Duration = Duration::from_secs(600);
/// The authority's host.
pub const AUTHORITY: &str = "authority";

/// The fleet, and all that was committed.
pub struct World {
    pub sim: Sim<'static>,
    pub authority: Arc<Authority>,
    pub nodes: Vec<Arc<Node>>,
    now: Duration,
    commits: Vec<Commit>,
    subjects: u64,
    /// Per node, of its present start: how far it had come.
    seen: BTreeMap<String, (u64, Revision)>,
    folder: TempDir,
}

/// A revision, the subject that it revoked last, and when it was acknowledged.
struct Commit {
    revision: Revision,
    subject: String,
    at: Duration,
}

impl World {
    /// The authority alone, on a network of this seed.
    pub fn new(seed: u64) -> Self {
        let mut builder = turmoil::Builder::new();
        builder.rng_seed(seed).tick_duration(TICK).simulation_duration(DURATION_MAX).enable_random_order();
        builder.min_message_latency(Duration::from_millis(1)).max_message_latency(Duration::from_millis(60));
        let (mut sim, authority) = (builder.build(), Authority::new());
        let host = Arc::clone(&authority);
        sim.host(AUTHORITY, move || Arc::clone(&host).run());
        Self {
            sim,
            authority,
            nodes: Vec::new(),
            now: Duration::ZERO,
            commits: Vec::new(),
            subjects: 0,
            seen: BTreeMap::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Adds a replica that follows these hosts.
    pub fn add(&mut self, name: &str, role: Role, upstreams: &[&str]) -> Arc<Node> {
        let number = self.nodes.len() as u8 + 1;
        self.start(Node::new(name, number, role, upstreams, &self.authority.time))
    }

    /// The same with a cache on disk.
    pub fn add_cached(&mut self, name: &str, role: Role, upstreams: &[&str]) -> Arc<Node> {
        let number = self.nodes.len() as u8 + 1;
        let cache_dir = self.folder.path().join(name);
        self.start(Node::new(name, number, role, upstreams, &self.authority.time).with_cache(cache_dir))
    }

    fn start(&mut self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        let host = Arc::clone(&node);
        self.sim.host(node.name.as_str(), move || Arc::clone(&host).run());
        self.nodes.push(Arc::clone(&node));
        node
    }

    pub fn elapsed(&self) -> Duration {
        self.now
    }

    /// Revokes so many new subjects in one revision, if the authority is up.
    pub fn revoke(&mut self, count: u64) -> Option<Revision> {
        let subjects: Vec<String> = (self.subjects..self.subjects + count).map(|n| format!("user-{n}")).collect();
        let revision = self.authority.revoke(&subjects)?;
        self.subjects += count;
        let subject = subjects.into_iter().next_back()?;
        self.commits.push(Commit { revision, subject, at: self.now });
        Some(revision)
    }

    /// How many revisions were committed.
    pub fn revisions(&self) -> usize {
        self.commits.len()
    }

    /// Lets time pass, and judges everybody all the while.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.step();
        }
    }

    /// Lets time pass until something holds; it must within `limit`. How long that took.
    pub fn run_until(&mut self, what: &str, limit: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> Duration {
        let begun = self.now;
        while !holds(self) {
            assert!(self.now - begun < limit, "{what}: not within {limit:?}\n{}", self.describe());
            self.step();
        }
        self.now - begun
    }

    fn step(&mut self) {
        self.authority.time.advance(TICK);
        self.now += TICK;
        self.sim.step().unwrap();
        self.judge();
    }

    /// The process on a host ends where it stands.
    pub fn crash(&mut self, host: &str) {
        self.sim.crash(host);
        match self.node(host) {
            Some(node) => node.crash(),
            None => self.authority.crash(),
        }
    }

    /// The process on a host is told to end.
    pub fn stop(&mut self, host: &str) {
        match self.node(host) {
            Some(node) => node.stop(),
            None => self.authority.stop(),
        }
    }

    /// And is started again.
    pub fn restart(&mut self, host: &str) {
        self.sim.bounce(host);
    }

    fn node(&self, host: &str) -> Option<Arc<Node>> {
        self.nodes.iter().find(|node| node.name == host).cloned()
    }

    /// Ordered, Monotonic, HonestFreshness and NoFalseNegative, at this moment.
    fn judge(&mut self) {
        for node in &self.nodes {
            let Some(replica) = node.replica() else { continue };
            let status = replica.status();
            assert_eq!(status.counts.divergences, 0, "{}: nobody lies here", node.name);
            let Some(position) = status.position else { continue };
            let start = node.starts();
            let before = self.seen.insert(node.name.clone(), (start, position.revision));
            if let Some((_, before)) = before.filter(|(same, _)| *same == start) {
                assert!(position.revision >= before, "{} went back from {before} to {}", node.name, position.revision);
            }
            // It says that it heard from the authority so long ago: what was acknowledged before then it must have.
            let heard = self.now.saturating_sub(status.staleness.saturating_add(CLOCK_SKEW_MAX + GRAIN));
            let known = self.commits.partition_point(|commit| commit.at < heard);
            if let Some(commit) = known.checked_sub(1).and_then(|last| self.commits.get(last)) {
                assert!(
                    commit.revision <= position.revision,
                    "{} claims a staleness of {:?} and lacks {}, acknowledged {:?} ago",
                    node.name,
                    status.staleness,
                    commit.revision,
                    self.now - commit.at
                );
            }
            let has = self.commits.partition_point(|commit| commit.revision <= position.revision);
            if let Some(commit) = has.checked_sub(1).and_then(|last| self.commits.get(last)) {
                assert!(is_revoked(&replica, &commit.subject), "{} misses {}", node.name, commit.subject);
            }
        }
    }

    /// Whether everybody runs, is live, and has all that was committed.
    pub fn has_converged(&self) -> bool {
        let Some(head) = self.authority.hub().map(|hub| hub.head_point()) else { return false };
        self.nodes.iter().all(|node| {
            node.replica().is_some_and(|replica| {
                let status = replica.status();
                status.state == FollowerState::Live
                    && status.position.is_some_and(|position| position.revision == head.revision)
                    && status.digest == head.digest
            })
        })
    }

    /// Convergent, NoFalseNegative and NoFalsePositive, once faults are over.
    /// How long it took.
    pub fn assert_converges(&mut self, limit: Duration) -> Duration {
        let took = self.run_until("everybody has what was committed", limit, |world| world.has_converged());
        for replica in self.nodes.iter().filter_map(|node| node.replica()) {
            for subject in 0..self.subjects {
                assert!(is_revoked(&replica, &format!("user-{subject}")), "user-{subject} is missed");
            }
            assert_eq!(replica.check(&claims("nobody"), None).verdict, Verdict::NotRevoked);
        }
        took
    }

    /// How everybody is, for a failed test.
    pub fn describe(&self) -> String {
        let head = self.authority.hub().map(|hub| hub.head_point().revision);
        let mut text = format!("at {:?}, the authority at {head:?}", self.now);
        for node in &self.nodes {
            text += &match node.replica().map(|replica| replica.status()) {
                Some(status) => format!(
                    "\n{}: {}, {:?}, staleness {:?}, {:?}",
                    node.name,
                    status.state.name(),
                    status.position.map(|position| position.revision),
                    status.staleness,
                    status.counts
                ),
                None => format!("\n{}: down", node.name),
            };
        }
        text
    }
}

pub fn is_revoked(replica: &Replica, subject: &str) -> bool {
    matches!(replica.check(&claims(subject), None).verdict, Verdict::Revoked(_))
}

fn claims(subject: &str) -> Claims {
    let mut claims = Claims::new();
    claims.push("sub", subject, false);
    claims
}

/// Something with this probability.
pub fn chance(random: &mut Random, probability: f64) -> bool {
    (random.next_u64() >> 11) as f64 / ((1_u64 << 53) as f64) < probability
}

/// A fleet of one leaf that has caught up.
fn sound() -> World {
    let mut world = World::new(8);
    world.add("leaf", Role::Leaf, &[AUTHORITY]);
    world.assert_converges(Duration::from_secs(30));
    world.revoke(1).unwrap();
    world.assert_converges(Duration::from_secs(30));
    world
}

#[test]
#[should_panic(expected = "claims a staleness of")]
fn a_replica_that_claims_to_be_fresher_than_it_is_does_not_pass() {
    let mut world = sound();
    world.commits.push(Commit { revision: Revision(1000), subject: "user-0".into(), at: world.now });
    world.run_for(Duration::from_secs(10));
}

#[test]
#[should_panic(expected = "went back from")]
fn a_replica_that_goes_back_does_not_pass() {
    let mut world = sound();
    world.seen.insert("leaf".into(), (1, Revision(1000)));
    world.run_for(Duration::from_secs(1));
}

#[test]
#[should_panic(expected = "misses somebody else")]
fn a_replica_that_misses_a_revocation_does_not_pass() {
    let mut world = sound();
    world.commits.last_mut().unwrap().subject = "somebody else".into();
    world.run_for(Duration::from_secs(1));
}

#[test]
#[should_panic(expected = "everybody has what was committed: not within")]
fn a_fleet_that_does_not_converge_does_not_pass() {
    let mut world = sound();
    world.sim.partition(AUTHORITY, "leaf");
    world.revoke(1).unwrap();
    world.assert_converges(Duration::from_secs(20));
}
