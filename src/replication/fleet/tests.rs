//! Who is where, whose word counts, and who stays missed.

use super::*;
use crate::replication::frames::{ProtocolRange, ROSTER_MAX, Roster};
use crate::replication::propagation::Standing;
use crate::revocation::{Digest, UnixMillis};

const EPOCH: [u8; 16] = [7; 16];
const DENY: PolicyInForce = PolicyInForce { max_staleness: Duration::from_secs(60), when_stale: WhenStale::Deny };
const SERVE: PolicyInForce = PolicyInForce { max_staleness: Duration::from_secs(5), when_stale: WhenStale::ServeStale };
const R1: NodeId = NodeId([0xa1; 16]);
const R2: NodeId = NodeId([0xa2; 16]);

fn at(seconds: u64) -> Moment {
    Moment { boot: Duration::from_secs(seconds), wall: UnixMillis(1_700_000_000_000 + seconds * 1000) }
}

fn leaf(number: u8) -> NodeId {
    NodeId([number; 16])
}

fn hello(id: NodeId, role: Role, name: &str) -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: id,
        name: name.to_owned(),
        role,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: "1".to_owned(),
        probe: false,
        policy: None,
    }
}

fn ack(applied: u64, subtree: Option<Subtree>) -> Ack {
    let (applied, digest) = (Revision(applied), Digest::default());
    Ack { applied, digest, ready: true, policy: Some(DENY), subtree, source_time: UnixMillis(0) }
}

/// With the relays 1 and 2 in seats 1 and 2, on revision 10, each having told that nobody is below it.
fn fleet() -> Fleet {
    let mut fleet = Fleet::new(None, 100_000);
    fleet.set_epoch(EPOCH);
    for (seat, relay, name) in [(1, R1, "r1"), (2, R2, "r2")] {
        join(&mut fleet, seat, relay, Role::Relay, name);
        fleet.handle_ack(seat, relay, &ack(10, Some(Subtree::default())));
        fleet.handle_roster(at(0), seat, relay, &part(seat, true, Some(0))).unwrap();
    }
    fleet
}

fn join(fleet: &mut Fleet, seat: u64, id: NodeId, role: Role, name: &str) {
    assert!(fleet.handle_hello(at(0), seat, &"10.0.0.1:1".into(), &hello(id, role, name), DENY).unwrap());
}

fn part(memory: u64, begins: bool, complete: Option<u64>) -> Roster {
    Roster { memory, begins, complete, epoch: Some(EPOCH), entries: Vec::new(), gone: Vec::new(), unlisted: 0 }
}

fn entry(number: u8, parent: NodeId, change: u64, connected: bool) -> RosterEntry {
    let about = About {
        name: format!("leaf{number}"),
        role: Role::Leaf,
        version: "1".to_owned(),
        address: "10.0.0.2:2".to_owned(),
        since: at(0).wall,
        reconnect_reason: String::new(),
        policy: DENY,
        acked: Revision(9),
        ready: connected,
        mode: connected.then_some(Mode::Live),
        source_time: at(0).wall,
    };
    RosterEntry { id: leaf(number), parent, change, joined: if connected { change } else { 1 }, connected, about }
}

/// A relay, which is also the number of its memory, tells of changes up to `complete`.
fn tell(fleet: &mut Fleet, relay: u64, complete: u64, entries: &[RosterEntry], gone: &[u8]) {
    let id = if relay == 1 { R1 } else { R2 };
    let gone = gone.iter().map(|number| leaf(*number)).collect();
    let roster = Roster { entries: entries.to_vec(), gone, ..part(relay, false, Some(complete)) };
    fleet.handle_roster(at(1), relay, id, &roster).unwrap();
}

fn acknowledge(fleet: &mut Fleet, relay: u64, subscribers: u64, applied_min: u64, changes: u64) {
    let id = if relay == 1 { R1 } else { R2 };
    let subtree = Subtree {
        subscribers,
        ready: subscribers,
        applied_min: Revision(applied_min),
        laggards: Vec::new(),
        loosest_policy: Some(DENY),
        changes,
    };
    fleet.handle_ack(relay, id, &ack(10, Some(subtree)));
}

fn place(fleet: &Fleet, number: u8) -> Option<(Place, Option<NodeId>)> {
    fleet.members.get(&leaf(number)).map(|member| (member.place(), member.parent()))
}

fn applied(fleet: &Fleet, number: u8) -> Option<Revision> {
    fleet.applied(&fleet.members[&leaf(number)])
}

#[test]
fn an_ack_counts_for_those_below_that_it_knows_of_and_for_nobody_else() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    assert_eq!(applied(&fleet, 1), Some(Revision(9)), "as it was told itself");
    acknowledge(&mut fleet, 1, 1, 12, 1);
    assert_eq!(applied(&fleet, 1), Some(Revision(12)));
    tell(&mut fleet, 1, 2, &[entry(2, R1, 2, true)], &[]);
    assert_eq!(applied(&fleet, 2), Some(Revision(9)), "the ack does not know of it");
    assert_eq!(applied(&fleet, 1), Some(Revision(9)), "nor whether it still counts the other");
    acknowledge(&mut fleet, 1, 2, 13, 2);
    assert_eq!((applied(&fleet, 1), applied(&fleet, 2)), (Some(Revision(13)), Some(Revision(13))));
    assert_eq!(fleet.name_of(leaf(2)), "r1/leaf2");
}

#[test]
fn one_below_that_is_not_ready_is_not_vouched_for() {
    let mut fleet = fleet();
    let mut unready = entry(1, R1, 1, true);
    unready.about.ready = false;
    tell(&mut fleet, 1, 1, &[unready], &[]);
    acknowledge(&mut fleet, 1, 1, 12, 1);
    assert_eq!(applied(&fleet, 1), Some(Revision(9)));
}

#[test]
fn positions_of_another_epoch_count_for_nothing() {
    let mut fleet = fleet();
    let old = Roster { epoch: Some([8; 16]), entries: vec![entry(1, R1, 1, true)], ..part(1, false, Some(1)) };
    fleet.handle_roster(at(1), 1, R1, &old).unwrap();
    acknowledge(&mut fleet, 1, 1, 12, 1);
    assert_eq!(applied(&fleet, 1), Some(Revision(0)));
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    assert_eq!(applied(&fleet, 1), Some(Revision(12)));
    fleet.set_epoch([8; 16]);
    assert_eq!(applied(&fleet, 1), Some(Revision(0)));
}

#[test]
fn one_below_is_cut_off_until_it_is_back_and_gone_by_a_goodbye() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 2, &[entry(1, R1, 1, true), entry(2, R1, 2, true)], &[]);
    tell(&mut fleet, 1, 4, &[entry(1, R1, 3, false)], &[2]);
    assert_eq!((place(&fleet, 1), place(&fleet, 2)), (Some((Place::CutOff, Some(R1))), None));
    assert_eq!(fleet.cut_off(), 1);
    tell(&mut fleet, 1, 5, &[entry(1, R1, 5, true)], &[]);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R1))));
}

#[test]
fn whoever_moves_leaves_no_ghost_in_whatever_order_that_is_heard() {
    for here_first in [true, false] {
        let mut fleet = fleet();
        tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
        if here_first {
            join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
            tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
        } else {
            tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
            join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
        }
        assert_eq!(place(&fleet, 1), Some((Place::Seat(9), None)));
        // What the relay says again of it is old news.
        tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
        fleet.handle_leave(at(2), 9, leaf(1), true);
        tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
        assert_eq!(place(&fleet, 1), None);
    }
}

#[test]
fn a_goodbye_here_before_the_old_relay_notices_leaves_no_ghost() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
    fleet.handle_leave(at(2), 9, leaf(1), true);
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    assert_eq!(place(&fleet, 1), None, "its position, told once more");
    tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
    assert_eq!(place(&fleet, 1), None);
    tell(&mut fleet, 1, 3, &[entry(1, R1, 3, true)], &[]);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R1))), "it is back");
}

#[test]
fn a_second_of_the_same_id_neither_hides_nor_erases_the_first() {
    let mut fleet = fleet();
    join(&mut fleet, 8, leaf(1), Role::Leaf, "leaf1");
    fleet.handle_ack(8, leaf(1), &ack(4, None));
    join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
    assert_eq!(applied(&fleet, 1), Some(Revision(0)), "the second said nothing yet");
    fleet.handle_ack(9, leaf(1), &ack(10, None));
    assert_eq!(applied(&fleet, 1), Some(Revision(4)), "the lower of both");
    fleet.handle_ack(8, leaf(1), &Ack { policy: Some(SERVE), ..ack(5, None) });
    fleet.handle_ack(9, leaf(1), &ack(10, None));
    assert_eq!(applied(&fleet, 1), Some(Revision(5)));
    assert_eq!(fleet.members[&leaf(1)].about.policy, DENY.looser(SERVE), "the looser of both");
    fleet.handle_leave(at(2), 9, leaf(1), true);
    assert_eq!((place(&fleet, 1), applied(&fleet, 1)), (Some((Place::Seat(8), None)), Some(Revision(5))));
    fleet.handle_leave(at(3), 8, leaf(1), false);
    assert_eq!(place(&fleet, 1), Some((Place::CutOff, None)));
}

#[test]
fn whoever_sat_here_before_stops_counting_once_that_seat_is_left() {
    let mut fleet = fleet();
    join(&mut fleet, 8, leaf(1), Role::Leaf, "leaf1");
    fleet.handle_ack(8, leaf(1), &Ack { policy: Some(SERVE), ..ack(4, None) });
    join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
    fleet.handle_ack(9, leaf(1), &ack(10, None));
    fleet.handle_leave(at(2), 8, leaf(1), false);
    fleet.handle_ack(9, leaf(1), &ack(10, None));
    assert_eq!(applied(&fleet, 1), Some(Revision(10)));
    assert_eq!(fleet.members[&leaf(1)].about.policy, DENY);
    fleet.handle_leave(at(3), 9, leaf(1), true);
    assert_eq!(place(&fleet, 1), None);
}

#[test]
fn between_relays_the_later_news_counts() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    tell(&mut fleet, 2, 1, &[entry(1, R2, 1, true)], &[]);
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R2))), "a position told again is no news");
    tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R2))));
    tell(&mut fleet, 1, 3, &[], &[1]);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R2))), "it ran out where it is no longer");
    tell(&mut fleet, 2, 2, &[entry(1, R2, 2, false)], &[]);
    assert_eq!(place(&fleet, 1), Some((Place::CutOff, Some(R2))));
}

#[test]
fn a_seat_that_is_lost_late_does_not_cut_off_who_went_below_a_relay() {
    let mut fleet = fleet();
    join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    assert_eq!(place(&fleet, 1), Some((Place::Seat(9), None)), "what is seen here counts");
    fleet.handle_leave(at(2), 9, leaf(1), false);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R1))));
}

#[test]
fn those_below_a_relay_are_cut_off_with_it_however_it_went() {
    for goodbye in [true, false] {
        let mut fleet = fleet();
        tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
        fleet.handle_leave(at(2), 1, R1, goodbye);
        assert_eq!(place(&fleet, 1), Some((Place::CutOff, Some(R1))));
        assert_eq!(fleet.members.contains_key(&R1), !goodbye);
    }
}

#[test]
fn a_relay_that_remembers_brings_back_those_it_has_and_lets_go_of_those_that_left() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 3, &[entry(1, R1, 1, true), entry(2, R1, 2, true), entry(3, R1, 3, false)], &[]);
    assert_eq!(fleet.forget(at(2), None, "r1/leaf3"), Forgot::Members(1));
    fleet.handle_leave(at(2), 1, R1, false);
    join(&mut fleet, 1, R1, Role::Relay, "r1");
    assert_eq!(place(&fleet, 1).unwrap().0, Place::CutOff, "it has not said anything yet");
    let first = Roster { entries: vec![entry(1, R1, 1, true)], ..part(1, true, None) };
    fleet.handle_roster(at(3), 1, R1, &first).unwrap();
    assert_eq!(place(&fleet, 2).unwrap().0, Place::CutOff, "the report goes on");
    let last = Roster { entries: vec![entry(3, R1, 3, false)], ..part(1, false, Some(4)) };
    fleet.handle_roster(at(3), 1, R1, &last).unwrap();
    assert_eq!(place(&fleet, 1).unwrap().0, Place::Below);
    assert_eq!(place(&fleet, 2), None, "it said goodbye meanwhile");
    assert_eq!(place(&fleet, 3), None, "it stays forgotten");
}

#[test]
fn a_relay_that_remembers_nothing_clears_nobody() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 2, &[entry(1, R1, 1, true), entry(2, R1, 2, true)], &[]);
    fleet.handle_leave(at(2), 1, R1, false);
    join(&mut fleet, 1, R1, Role::Relay, "r1");
    fleet.handle_roster(at(3), 1, R1, &part(77, true, Some(0))).unwrap();
    assert_eq!(fleet.cut_off(), 2);
    let back = Roster { entries: vec![entry(1, R1, 1, true)], ..part(77, false, Some(1)) };
    fleet.handle_roster(at(3), 1, R1, &back).unwrap();
    assert_eq!(place(&fleet, 1).unwrap().0, Place::Below);
    assert_eq!(place(&fleet, 2), Some((Place::CutOff, Some(R1))));
}

#[test]
fn what_is_kept_over_a_restart_tells_old_news_from_new() {
    let mut before = fleet();
    tell(&mut before, 1, 3, &[entry(1, R1, 1, true), entry(2, R1, 2, true), entry(3, R1, 3, false)], &[]);
    assert_eq!(before.forget(at(2), Some(leaf(3)), ""), Forgot::Members(1));
    let ids: Vec<NodeId> = before.members().map(|(id, _)| id).collect();
    let mut after = Fleet::new(None, 100);
    after.set_epoch(EPOCH);
    after.restore(at(10), ids.iter().filter_map(|id| before.kept(*id)));
    assert_eq!(after.cut_off(), 4);
    assert_eq!(after.name_of(leaf(1)), "r1/leaf1");
    join(&mut after, 1, R1, Role::Relay, "r1");
    let all = Roster { entries: vec![entry(1, R1, 1, true), entry(3, R1, 3, false)], ..part(1, true, Some(3)) };
    after.handle_roster(at(11), 1, R1, &all).unwrap();
    assert_eq!(place(&after, 1).unwrap().0, Place::Below);
    assert_eq!((place(&after, 2), place(&after, 3)), (None, None));
}

#[test]
fn one_that_denies_runs_out_from_when_it_was_last_there() {
    let skew = Duration::from_secs(30);
    let mut fleet = fleet();
    let serves = RosterEntry { about: About { policy: SERVE, ..entry(2, R1, 2, true).about }, ..entry(2, R1, 2, true) };
    tell(&mut fleet, 1, 4, &[entry(1, R1, 3, false), RosterEntry { connected: false, change: 4, ..serves }], &[]);
    fleet.expire(at(91), skew);
    assert!(place(&fleet, 1).is_some());
    // It was there again, and only its going is heard of.
    let again = Roster { entries: vec![entry(1, R1, 6, false)], ..part(1, false, Some(6)) };
    fleet.handle_roster(at(91), 1, R1, &again).unwrap();
    fleet.expire(at(181), skew);
    assert!(place(&fleet, 1).is_some());
    fleet.expire(at(182), skew);
    assert_eq!(place(&fleet, 1), None);
    assert!(place(&fleet, 2).is_some(), "it serves stale");
    assert_eq!(fleet.forget(at(183), None, "leaf2"), Forgot::Members(1));
}

#[test]
fn until_it_says_otherwise_it_does_what_it_did_elsewhere() {
    let mut fleet = fleet();
    join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
    fleet.handle_ack(9, leaf(1), &Ack { policy: Some(SERVE), ..ack(9, None) });
    fleet.handle_leave(at(1), 9, leaf(1), false);
    let mut fresh = entry(1, R1, 1, true);
    (fresh.about.acked, fresh.about.ready) = (Revision(0), false);
    tell(&mut fleet, 1, 1, &[fresh], &[]);
    assert_eq!(fleet.members[&leaf(1)].about.policy.when_stale, WhenStale::ServeStale);
    tell(&mut fleet, 1, 2, &[entry(1, R1, 2, true)], &[]);
    assert_eq!(fleet.members[&leaf(1)].about.policy, DENY);
}

#[test]
fn a_logged_policy_that_gets_looser_loosens_everybody_until_they_say_what_they_do_there() {
    let mut fleet = fleet();
    fleet.handle_logged(Revision(1), DENY);
    join(&mut fleet, 9, leaf(1), Role::Leaf, "leaf1");
    fleet.handle_ack(9, leaf(1), &ack(10, None));
    tell(&mut fleet, 1, 1, &[entry(2, R1, 1, true)], &[]);
    let policy = |fleet: &Fleet, number| fleet.members[&leaf(number)].about.policy.when_stale;
    assert_eq!((policy(&fleet, 1), policy(&fleet, 2)), (WhenStale::Deny, WhenStale::Deny));
    fleet.handle_logged(Revision(11), SERVE);
    assert_eq!((policy(&fleet, 1), policy(&fleet, 2)), (WhenStale::ServeStale, WhenStale::ServeStale));
    fleet.handle_ack(9, leaf(1), &ack(10, None));
    tell(&mut fleet, 1, 1, &[entry(2, R1, 1, true)], &[]);
    assert_eq!((policy(&fleet, 1), policy(&fleet, 2)), (WhenStale::ServeStale, WhenStale::ServeStale), "not yet there");
    fleet.handle_ack(9, leaf(1), &ack(11, None));
    let mut there = entry(2, R1, 2, true);
    there.about.acked = Revision(11);
    tell(&mut fleet, 1, 2, &[there], &[]);
    assert_eq!((policy(&fleet, 1), policy(&fleet, 2)), (WhenStale::Deny, WhenStale::Deny), "by a policy of their own");
    fleet.handle_logged(Revision(12), DENY);
    assert_eq!(policy(&fleet, 1), WhenStale::Deny, "a stricter one loosens nobody");
}

#[test]
fn a_roster_that_does_not_begin_or_never_ends_is_refused() {
    let mut fleet = fleet();
    fleet.handle_leave(at(1), 1, R1, false);
    join(&mut fleet, 1, R1, Role::Relay, "r1");
    assert_eq!(fleet.handle_roster(at(1), 1, R1, &part(1, false, Some(0))), Err(RosterFault::NotBegun));
    fleet.handle_roster(at(1), 1, R1, &part(1, true, Some(0))).unwrap();
    assert_eq!(fleet.handle_roster(at(1), 1, R1, &part(2, false, Some(0))), Err(RosterFault::NotBegun));
    let many = |from: u64, count: u64| {
        let entries = (from..from + count).map(|number| {
            let id = NodeId(u128::from(number + 1).to_be_bytes());
            RosterEntry { id, ..entry(1, R1, number + 1, true) }
        });
        Roster { entries: entries.collect(), ..part(1, false, None) }
    };
    let limit = ROSTER_MAX as u64;
    fleet.handle_roster(at(1), 1, R1, &many(0, limit)).unwrap();
    assert_eq!(fleet.handle_roster(at(1), 1, R1, &many(limit, 1)), Err(RosterFault::TooMany));
}

#[test]
fn whoever_cannot_be_listed_is_counted() {
    let mut fleet = Fleet::new(None, 2);
    fleet.set_epoch(EPOCH);
    join(&mut fleet, 1, R1, Role::Relay, "r1");
    let both =
        Roster { entries: vec![entry(1, R1, 1, true), entry(2, R1, 2, true)], unlisted: 3, ..part(1, true, Some(2)) };
    fleet.handle_roster(at(1), 1, R1, &both).unwrap();
    assert_eq!((fleet.unlisted_below(), place(&fleet, 2)), (4, None));
    assert!(!fleet.handle_hello(at(1), 9, &"".into(), &hello(leaf(9), Role::Leaf, ""), DENY).unwrap());
    assert_eq!(fleet.subtree().subscribers, 2 + 4 + 1);
    fleet.handle_leave(at(1), 9, leaf(9), false);
    assert_eq!(fleet.unlisted(), 1, "nobody remembers it");
    tell(&mut fleet, 1, 4, &[], &[1]);
    tell(&mut fleet, 1, 4, &[entry(2, R1, 2, true)], &[]);
    assert_eq!((fleet.unlisted_below(), place(&fleet, 2).unwrap().0), (0, Place::Below));
}

#[test]
fn those_without_room_are_told_apart_within_bounds_and_as_long_as_their_relay_sits_here() {
    let id = |number: u64| NodeId(u128::from(number + 1).to_be_bytes());
    let mut fleet = Fleet::new(None, 3);
    fleet.set_epoch(EPOCH);
    let limit = ROSTER_MAX as u64;
    for relay in 1..=3 {
        let sender = NodeId([0xa0 + relay as u8; 16]);
        join(&mut fleet, relay, sender, Role::Relay, "r");
        let entries = (0..limit)
            .map(|number| RosterEntry { id: id(relay * limit + number), ..entry(1, sender, number + 1, true) });
        let all = Roster { entries: entries.collect(), ..part(relay, true, Some(limit)) };
        // For relays alone.
        fleet.members_max = fleet.members.len();
        fleet.handle_roster(at(1), relay, sender, &all).unwrap();
        fleet.members_max += 1;
    }
    assert_eq!((fleet.refused, fleet.unlisted_below()), (roster::REFUSED_MAX, 3 * limit));
    fleet.handle_leave(at(2), 1, R1, false);
    assert_eq!((fleet.refused, fleet.unlisted_below()), (ROSTER_MAX, 3 * limit), "they are counted all the same");
    fleet.handle_leave(at(2), 2, R2, true);
    assert_eq!((fleet.refused, fleet.unlisted()), (0, limit));
    join(&mut fleet, 1, R1, Role::Relay, "r");
    fleet.handle_roster(at(3), 1, R1, &part(1, true, Some(limit))).unwrap();
    assert_eq!(fleet.unlisted_below(), limit, "the report says who is there now");
}

#[test]
fn a_relay_that_names_nobody_vouches_for_nobody() {
    let mut fleet = Fleet::new(None, 10);
    fleet.set_epoch(EPOCH);
    join(&mut fleet, 1, R1, Role::Relay, "r1");
    acknowledge(&mut fleet, 1, 5, 12, 5);
    assert_eq!(fleet.unlisted_below(), 5);
    assert_eq!(
        fleet.counted().map(|counted| counted.standing).collect::<Vec<_>>(),
        [Standing::Connected(Revision(10))]
    );
}

#[test]
fn a_subtree_sums_up_everybody_and_points_at_those_behind() {
    let mut fleet = Fleet::new(Some(leaf(0x77)), 10);
    fleet.set_epoch(EPOCH);
    assert_eq!(fleet.subtree(), Subtree { changes: 0, ..Subtree::default() });
    join(&mut fleet, 1, R1, Role::Relay, "r1");
    join(&mut fleet, 3, leaf(3), Role::Leaf, "leaf3");
    let roster = Roster { entries: vec![entry(1, R1, 1, true), entry(0x77, R1, 1, true)], ..part(1, true, Some(1)) };
    fleet.handle_roster(at(1), 1, R1, &roster).unwrap();
    acknowledge(&mut fleet, 1, 1, 10, 1);
    fleet.handle_ack(3, leaf(3), &Ack { policy: Some(SERVE), ..ack(7, None) });
    let sum = fleet.subtree();
    assert_eq!((sum.subscribers, sum.ready, sum.applied_min), (3, 3, Revision(7)), "itself is not below itself");
    assert_eq!(sum.laggards, [leaf(3)]);
    assert_eq!(sum.loosest_policy, Some(DENY.looser(SERVE)));
    assert_eq!(sum.changes, fleet.changes());
    assert_eq!(fleet.below_counts()[&R1], (1, 1));
    let told = fleet.entry(leaf(1), leaf(0x77)).unwrap();
    assert_eq!((told.parent, told.about.acked), (R1, Revision(10)));
    assert_eq!(fleet.entry(leaf(3), leaf(0x77)).unwrap().parent, leaf(0x77));
}

#[test]
fn a_relay_that_counts_without_end_is_counted_up_to_the_end() {
    let mut fleet = fleet();
    let roster = Roster { unlisted: u64::MAX, ..part(1, false, Some(1)) };
    fleet.handle_roster(at(1), 1, R1, &roster).unwrap();
    assert_eq!((fleet.unlisted_below(), fleet.subtree().subscribers), (u64::MAX, u64::MAX));
    let mut fleet = self::fleet();
    acknowledge(&mut fleet, 2, u64::MAX, 10, u64::MAX);
    assert_eq!(fleet.subtree().subscribers, u64::MAX);
}

#[test]
fn an_id_is_that_of_the_principal_who_came_with_it_first_until_it_goes() {
    let mut fleet = Fleet::new(None, 10);
    let guest = |principal: Option<&str>| Guest { principal: principal.map(Into::into), ..Guest::from("10.0.0.1") };
    let come = |fleet: &mut Fleet, seat, principal| {
        fleet.handle_hello(at(seat), seat, &guest(principal), &hello(leaf(1), Role::Leaf, "a"), DENY)
    };
    assert_eq!(come(&mut fleet, 1, None), Ok(true), "nobody was asked yet");
    assert_eq!(come(&mut fleet, 2, Some("gate")), Ok(true));
    fleet.handle_leave(at(3), 1, leaf(1), false);
    fleet.take_changed();
    assert_eq!(come(&mut fleet, 4, Some("mallory")), Err(NotItsOwner));
    assert!(fleet.take_changed().is_empty(), "nothing was changed");
    assert_eq!(fleet.members().next().map(|(_, member)| member.place()), Some(Place::Seat(2)));
    fleet.handle_leave(at(5), 2, leaf(1), false);
    assert_eq!(come(&mut fleet, 6, Some("mallory")), Err(NotItsOwner), "it is cut off, and still the gate's");

    let kept = fleet.kept(leaf(1)).unwrap();
    let mut restarted = Fleet::new(None, 10);
    restarted.restore(at(7), [kept]);
    assert_eq!(come(&mut restarted, 8, Some("mallory")), Err(NotItsOwner), "over a restart, too");
    assert_eq!(come(&mut restarted, 9, None), Ok(true), "of a server that asks nobody");
    restarted.handle_leave(at(9), 9, leaf(1), false);
    assert_eq!(come(&mut restarted, 10, Some("gate")), Ok(true));
    restarted.handle_leave(at(11), 10, leaf(1), true);
    assert_eq!(come(&mut restarted, 12, Some("mallory")), Ok(true), "it has said goodbye");
}

#[test]
fn a_relay_that_claims_a_member_of_another_neither_advances_nor_erases_it() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    let mut claimed = entry(1, R2, 1, true);
    claimed.about.acked = Revision(50);
    tell(&mut fleet, 2, 1, &[claimed], &[]);
    acknowledge(&mut fleet, 2, 1, 60, 1);
    assert_eq!(applied(&fleet, 1), Some(Revision(9)), "the lower word counts");
    let told = fleet.entry(leaf(1), leaf(0x77)).unwrap();
    assert_eq!(told.about.acked, Revision(9), "and is what is told above");
    let unready = RosterEntry {
        about: About { ready: false, policy: SERVE, ..entry(1, R1, 2, true).about },
        ..entry(1, R1, 1, true)
    };
    tell(&mut fleet, 1, 2, &[RosterEntry { change: 2, ..unready }], &[]);
    let member = &fleet.members[&leaf(1)];
    assert_eq!((member.is_ready(), member.policy().when_stale), (false, WhenStale::ServeStale));
    tell(&mut fleet, 2, 2, &[], &[1]);
    assert_eq!(place(&fleet, 1), Some((Place::Below, Some(R1))), "gone from there, and not from here");
    assert_eq!(applied(&fleet, 1), Some(Revision(9)));
    tell(&mut fleet, 1, 3, &[], &[1]);
    assert_eq!(place(&fleet, 1), None);
    assert!(fleet.below.is_empty());
}

#[test]
fn whoever_moved_to_another_relay_goes_with_a_goodbye_there_once_the_former_has_noticed() {
    let mut fleet = fleet();
    tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
    tell(&mut fleet, 2, 1, &[entry(1, R2, 1, true)], &[]);
    tell(&mut fleet, 1, 2, &[entry(1, R1, 2, false)], &[]);
    tell(&mut fleet, 2, 2, &[], &[1]);
    assert_eq!(place(&fleet, 1), None);
    assert!(fleet.below.is_empty());
}

#[test]
fn a_relay_that_leaves_leaves_its_members_to_the_other_that_has_them() {
    for (relay, seat, other) in [(R1, 1, R2), (R2, 2, R1)] {
        let mut fleet = fleet();
        tell(&mut fleet, 1, 1, &[entry(1, R1, 1, true)], &[]);
        tell(&mut fleet, 2, 1, &[entry(1, R2, 1, true)], &[]);
        fleet.handle_leave(at(2), seat, relay, false);
        assert_eq!(place(&fleet, 1), Some((Place::Below, Some(other))));
    }
}
