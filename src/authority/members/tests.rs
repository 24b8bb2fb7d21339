//! The roster: who becomes a member, who stays one, who runs out.

use super::*;
use crate::clock::ManualTime;
use crate::journal::{MemberChange, StoredMember};
use crate::replication::frames::{self, Ack, Hello, PolicyInForce, ProtocolRange, Role, RosterEntry};
use crate::replication::source::Members as _;
use crate::revocation::{Digest, Minute, Policy, Revision, SetKey, UnixMillis, WhenStale};

const SKEW: Duration = Duration::from_secs(30);
const DENY: PolicyInForce = PolicyInForce { max_staleness: Duration::from_secs(60), when_stale: WhenStale::Deny };

const EPOCH: Epoch = Epoch { generation: 1, id: [7; 16] };

struct World {
    dir: tempfile::TempDir,
    time: Arc<ManualTime>,
}

impl World {
    fn new() -> Self {
        let time = ManualTime::starting_at(UnixMillis(1_700_000_000_000));
        Self { dir: tempfile::tempdir().unwrap(), time }
    }

    /// A server's start. The logged policy denies after 60 s.
    fn start(&self) -> Arc<Roster> {
        self.start_of(false)
    }

    fn start_of(&self, has_past: bool) -> Arc<Roster> {
        let policy = Policy {
            max_staleness: DENY.max_staleness,
            when_stale: DENY.when_stale,
            clock_skew_max: SKEW,
            ..Policy::default()
        };
        let (_, set) = parts(policy);
        Roster::open(self.dir.path(), EPOCH, has_past, set, Clock::manual(Arc::clone(&self.time))).unwrap()
    }
}

fn parts(policy: Policy) -> (crate::revocation::SetWriter, Arc<RevocationSet>) {
    let (writer, set) = RevocationSet::create(SetKey::new([5; 16]), policy, Minute::from_bits(7));
    (writer, set)
}

fn hello(id: u8) -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId([id; 16]),
        name: format!("member {id}"),
        role: Role::Leaf,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: false,
        policy: Some(DENY),
    }
}

fn ack(policy: PolicyInForce) -> Ack {
    Ack {
        applied: Revision(1),
        digest: Digest::default(),
        ready: true,
        policy: Some(policy),
        subtree: None,
        source_time: UnixMillis(0),
    }
}

async fn join(roster: &Roster, seat: u64, id: u8) -> bool {
    let admission = roster.handle_hello(seat, &"address".into(), &hello(id)).unwrap();
    let waited = admission.is_some();
    if let Some(admission) = admission {
        admission.await;
    }
    waited
}

fn standings(roster: &Roster) -> Vec<(u8, bool)> {
    roster.list(None, 100).iter().map(|member| (member.id.0[0], member.place == Place::CutOff)).collect()
}

#[tokio::test]
async fn a_member_is_durable_before_it_is_welcomed() {
    let world = World::new();
    let roster = world.start();
    assert!(join(&roster, 1, 8).await, "a new member waits");
    assert_eq!(roster.trouble(), None);
    let (_, stored) = MemberTable::open(world.dir.path(), &[]).unwrap();
    assert_eq!(stored.len(), 1, "and is in the table then");
}

#[tokio::test]
async fn a_log_with_a_past_and_no_table_had_followers_nobody_knows() {
    assert_eq!(standings(&World::new().start()), []);
    let world = World::new();
    let roster = world.start_of(true);
    assert_eq!(standings(&roster), [(0, true)]);
    assert_eq!(roster.name_of(NodeId([0; 16])), UNKNOWN);
    assert!(!roster.report(Revision(1), Vec::new()).is_complete());
    roster.stop();
    let roster = world.start_of(true);
    assert_eq!(standings(&roster), [(0, true)], "it is in the table");
    assert_eq!(roster.forget(None, UNKNOWN).await, Forgot::Members(1));
    roster.stop();
    assert_eq!(standings(&world.start_of(true)), [], "once and for all");
}

#[tokio::test]
async fn one_that_is_stored_under_the_same_policy_waits_for_nothing() {
    let world = World::new();
    let roster = world.start();
    join(&roster, 1, 8).await;
    roster.handle_leave(1, NodeId([8; 16]), false);
    assert!(!join(&roster, 2, 8).await);
    assert_eq!(standings(&roster), [(8, false)]);
}

#[tokio::test]
async fn one_that_does_not_say_what_it_does_is_taken_to_serve_stale_until_its_first_ack() {
    let world = World::new();
    let roster = world.start();
    let silent = Hello { policy: None, ..hello(8) };
    roster.handle_hello(1, &"address".into(), &silent).unwrap().unwrap().await;
    let policy = |roster: &Roster| roster.list(None, 1)[0].about.policy;
    assert_eq!(policy(&roster), PolicyInForce { when_stale: WhenStale::ServeStale, ..DENY }, "break-glass, perhaps");
    roster.handle_ack(1, NodeId([8; 16]), &ack(DENY));
    assert_eq!(policy(&roster), DENY);
}

#[tokio::test]
async fn a_goodbye_ends_the_membership_and_a_cut_does_not() {
    let world = World::new();
    let roster = world.start();
    join(&roster, 1, 1).await;
    join(&roster, 2, 2).await;
    roster.handle_leave(1, NodeId([1; 16]), true);
    roster.handle_leave(2, NodeId([2; 16]), false);
    assert_eq!(standings(&roster), [(2, true)]);
    roster.stop();
    assert_eq!(standings(&world.start()), [(2, true)]);
}

#[tokio::test]
async fn after_a_start_members_are_cut_off_until_they_are_back() {
    let world = World::new();
    let roster = world.start();
    join(&roster, 1, 1).await;
    join(&roster, 2, 2).await;
    drop(roster);
    let roster = world.start();
    assert_eq!(standings(&roster), [(1, true), (2, true)]);
    join(&roster, 1, 2).await;
    assert_eq!(standings(&roster), [(1, true), (2, false)]);
}

#[tokio::test]
async fn one_that_denies_when_stale_runs_out_and_one_that_serves_stale_never_does() {
    let world = World::new();
    let roster = world.start();
    join(&roster, 1, 1).await;
    join(&roster, 2, 2).await;
    roster.handle_ack(2, NodeId([2; 16]), &ack(PolicyInForce { when_stale: WhenStale::ServeStale, ..DENY }));
    roster.handle_leave(1, NodeId([1; 16]), false);
    roster.handle_leave(2, NodeId([2; 16]), false);
    world.time.advance(DENY.max_staleness + SKEW);
    assert_eq!(standings(&roster), [(1, true), (2, true)]);
    world.time.advance(Duration::from_millis(1));
    assert_eq!(standings(&roster), [(2, true)]);
    world.time.advance(Duration::from_secs(1 << 30));
    assert_eq!(roster.cut_off(), 1);
    assert_eq!(roster.forget(None, "member 2").await, Forgot::Members(1));
    drop(roster);
    assert_eq!(standings(&world.start()), []);
}

#[tokio::test]
async fn an_old_seat_that_is_left_late_does_not_cut_off_who_has_a_new_one() {
    let world = World::new();
    let roster = world.start();
    join(&roster, 1, 8).await;
    join(&roster, 2, 8).await;
    roster.handle_leave(1, NodeId([8; 16]), true);
    assert_eq!(standings(&roster), [(8, false)]);
    roster.handle_leave(2, NodeId([8; 16]), false);
    assert_eq!(standings(&roster), [(8, true)]);
}

#[tokio::test]
async fn a_connected_member_is_not_forgotten() {
    let world = World::new();
    let roster = world.start();
    join(&roster, 1, 8).await;
    assert_eq!(roster.forget(Some(NodeId([8; 16])), "").await, Forgot::Connected);
    assert_eq!(roster.forget(None, "member 9").await, Forgot::Nobody);
}

#[tokio::test]
async fn without_a_table_everybody_is_served_and_the_trouble_told() {
    let world = World::new();
    std::fs::write(world.dir.path().join("members.sqlite"), [1; 4096]).unwrap();
    let roster = world.start();
    join(&roster, 1, 8).await;
    assert_eq!(standings(&roster), [(8, false)]);
    assert!(roster.trouble().unwrap().contains("members.sqlite"));
}

#[tokio::test]
async fn a_full_table_serves_who_comes_and_says_so_until_their_goodbye() {
    let world = World::new();
    let member = |n: u128| StoredMember {
        id: (n << 64).to_be_bytes(),
        name: String::new(),
        relay: false,
        max_staleness: DENY.max_staleness,
        when_stale: DENY.when_stale,
        owner: None,
        parent: None,
        via: None,
        heard: None,
    };
    let puts: Vec<MemberChange> = (1..=MEMBERS_MAX as u128).map(|n| MemberChange::Put(member(n))).collect();
    MemberTable::open(world.dir.path(), &[]).unwrap().0.write(&puts).unwrap();
    let roster = world.start();
    assert_eq!(roster.trouble(), None);
    assert!(!join(&roster, 9, 200).await, "it is served without waiting");
    assert!(roster.trouble().unwrap().contains("not remembered"));
    roster.handle_leave(9, NodeId([200; 16]), true);
    assert_eq!(roster.trouble(), None);
    join(&roster, 10, 201).await;
    roster.handle_leave(10, NodeId([201; 16]), false);
    assert!(roster.trouble().is_some(), "it was cut off, and nobody remembers it");
    world.time.advance(DENY.max_staleness + SKEW + Duration::from_millis(1));
    join(&roster, 11, 202).await;
    assert!(standings(&roster).contains(&(202, false)), "those that ran out make room");
}

fn below(id: u8, change: u64, connected: bool) -> RosterEntry {
    let about = About {
        name: format!("member {id}"),
        role: Role::Leaf,
        version: String::new(),
        address: String::new(),
        since: UnixMillis(1),
        reconnect_reason: String::new(),
        policy: DENY,
        acked: Revision(1),
        ready: connected,
        mode: None,
        source_time: UnixMillis(1),
    };
    RosterEntry { id: NodeId([id; 16]), parent: NodeId([1; 16]), change, joined: change, connected, about }
}

fn told(begins: bool, complete: u64, entries: Vec<RosterEntry>) -> frames::Roster {
    let (epoch, complete) = (Some(EPOCH.id), Some(complete));
    frames::Roster { memory: u64::MAX, begins, complete, epoch, entries, gone: Vec::new(), unlisted: 0 }
}

/// A relay in seat 1, and 2 and 3 below it.
async fn relay(roster: &Roster) {
    let relay = Hello { role: Role::Relay, ..hello(1) };
    if let Some(admission) = roster.handle_hello(1, &"address".into(), &relay).unwrap() {
        admission.await;
    }
}

#[tokio::test]
async fn those_below_relays_are_missed_after_a_restart_and_forgotten_for_good() {
    let world = World::new();
    let roster = world.start();
    relay(&roster).await;
    let report = told(true, 3, vec![below(2, 1, true), below(3, 2, true), below(4, 3, false)]);
    roster.handle_roster(1, NodeId([1; 16]), &report).unwrap();
    assert_eq!(standings(&roster), [(1, false), (2, false), (3, false), (4, true)]);
    assert_eq!(roster.forget(None, "member 1/member 2").await, Forgot::Connected);
    assert_eq!(roster.forget(None, "member 1/member 4").await, Forgot::Members(1));
    assert_eq!(roster.trouble(), None, "all of it is durable");
    drop(roster);
    let roster = world.start();
    assert_eq!(standings(&roster), [(1, true), (2, true), (3, true)]);
    assert_eq!(roster.name_of(NodeId([3; 16])), "member 1/member 3");
    relay(&roster).await;
    let report = told(true, 3, vec![below(2, 1, true), below(3, 2, true), below(4, 3, false)]);
    roster.handle_roster(1, NodeId([1; 16]), &report).unwrap();
    assert_eq!(standings(&roster), [(1, false), (2, false), (3, false)]);
    let found = roster.report(Revision(1), Vec::new());
    assert_eq!((found.total, found.laggards.ids), (3, vec![NodeId([1; 16])]));
}

#[tokio::test]
async fn those_below_a_relay_stay_when_it_says_goodbye() {
    let world = World::new();
    let roster = world.start();
    relay(&roster).await;
    roster.handle_roster(1, NodeId([1; 16]), &told(true, 1, vec![below(2, 1, true)])).unwrap();
    roster.handle_leave(1, NodeId([1; 16]), true);
    assert_eq!(standings(&roster), [(2, true)]);
    roster.stop();
    assert_eq!(standings(&world.start()), [(2, true)]);
    world.time.advance(DENY.max_staleness + SKEW + Duration::from_millis(1));
    assert_eq!(standings(&roster), []);
}
