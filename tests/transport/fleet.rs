//! Fleets that meet one fault at a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rescind::replica::FollowerState;
use rescind::replication::frames::Role;

use super::world::{AUTHORITY, World, is_revoked};

const LIMIT: Duration = Duration::from_secs(40);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_relay_that_stops_sends_its_subscribers_to_the_next_one_where_they_were() {
    let mut world = World::new(1);
    let first = world.add("first", Role::Relay, &[AUTHORITY]);
    world.add("second", Role::Relay, &[AUTHORITY]);
    world.assert_converges(LIMIT);
    let leaf = world.add("leaf", Role::Leaf, &["first", "second"]);
    world.revoke(3);
    world.assert_converges(LIMIT);
    assert_eq!(first.hub().unwrap().subscriber_count(), 1);
    first.stop();
    let revision = world.revoke(3).unwrap();
    // Within the window of 10 s that GoAway names, and not because the relay had fallen silent.
    let moved = world.run_until("the leaf has moved", seconds(12), |_| {
        leaf.replica().unwrap().status().position.is_some_and(|position| position.revision >= revision)
    });
    let counts = leaf.replica().unwrap().status().counts;
    assert_eq!((counts.connections, counts.snapshots), (2, 1), "it resumed, at the first attempt, after {moved:?}");
    world.restart("first");
    world.assert_converges(LIMIT);
}

#[test]
fn a_link_that_goes_dead_is_noticed_by_both_ends() {
    let mut world = World::new(2);
    let relay = world.add("relay", Role::Relay, &[AUTHORITY]);
    world.assert_converges(LIMIT);
    let leaf = world.add("leaf", Role::Leaf, &["relay", AUTHORITY]);
    world.assert_converges(LIMIT);
    assert_eq!(relay.hub().unwrap().subscriber_count(), 1);
    world.sim.hold("relay", "leaf");
    let moved = world.run_until("the leaf follows the authority", seconds(20), |world| {
        let hub = world.authority.hub().unwrap();
        hub.subscriber_count() == 2 && leaf.replica().unwrap().status().state == FollowerState::Live
    });
    assert!(moved >= seconds(3), "it waited for dead_after, not {moved:?}");
    // Nothing is ever heard of it again: HTTP/2's own signs of life are what is missed.
    let noticed =
        world.run_until("the relay lets it go", seconds(31), |_| relay.hub().unwrap().subscriber_count() == 0);
    assert!(moved + noticed >= seconds(10), "after {noticed:?}");
    world.sim.release("relay", "leaf");
    world.assert_converges(LIMIT);
}

#[test]
fn staleness_grows_by_the_clock_below_a_relay_that_is_cut_off() {
    let mut world = World::new(3);
    world.add("relay", Role::Relay, &[AUTHORITY]);
    let leaf = world.add("leaf", Role::Leaf, &["relay"]);
    world.run_for(seconds(1));
    world.revoke(1);
    world.assert_converges(LIMIT);
    world.sim.partition(AUTHORITY, "relay");
    let staleness = |leaf: &super::node::Node| leaf.replica().unwrap().status().staleness;
    let before = staleness(&leaf);
    world.revoke(1);
    world.run_for(seconds(25));
    let grown = staleness(&leaf);
    assert!(grown >= before + seconds(24) && grown < before + seconds(27), "from {before:?} to {grown:?}");
    world.sim.repair(AUTHORITY, "relay");
    world.assert_converges(LIMIT);
    assert!(staleness(&leaf) < seconds(5));
}

#[test]
fn words_that_were_held_on_their_way_make_nobody_fresher_than_they_are() {
    let mut world = World::new(4);
    let leaf = world.add("leaf", Role::Leaf, &[AUTHORITY]);
    world.run_for(seconds(1));
    world.revoke(1);
    world.assert_converges(LIMIT);
    let before = leaf.replica().unwrap().status().counts.connections;
    for _ in 0..5 {
        world.sim.hold(AUTHORITY, "leaf");
        world.revoke(1);
        world.run_for(Duration::from_millis(1900));
        world.sim.release(AUTHORITY, "leaf");
        world.run_for(Duration::from_millis(1300));
    }
    world.assert_converges(LIMIT);
    assert_eq!(leaf.replica().unwrap().status().counts.connections, before, "none of that was worth a new connection");
}

#[test]
fn a_leaf_starts_from_its_cache_while_the_authority_is_dead_and_goes_on_from_there() {
    let mut world = World::new(5);
    let leaf = world.add_cached("leaf", Role::Leaf, &[AUTHORITY]);
    world.run_for(seconds(1));
    world.revoke(5);
    world.assert_converges(LIMIT);
    world.crash(AUTHORITY);
    world.crash("leaf");
    world.restart("leaf");
    world.run_until("the leaf is warm", seconds(5), |_| {
        leaf.replica().is_some_and(|replica| is_revoked(&replica, "user-4"))
    });
    let status = leaf.replica().unwrap().status();
    assert_eq!(status.staleness, Duration::MAX, "nobody was heard yet");
    assert!(!status.ready);
    world.restart(AUTHORITY);
    world.run_until("the authority is back", LIMIT, |world| world.revoke(1).is_some());
    world.assert_converges(LIMIT);
    assert_eq!(leaf.replica().unwrap().status().counts.snapshots, 1, "the one from disk: it resumed");
}

/// Sixty replicas on one authority.
#[test]
fn a_storm_of_reconnects_resumes_everybody_without_a_snapshot() {
    let mut world = World::new(6);
    let leaves: Vec<_> = (0..60).map(|n| world.add(&format!("leaf-{n}"), Role::Leaf, &[AUTHORITY])).collect();
    world.run_for(seconds(1));
    world.revoke(20);
    world.assert_converges(LIMIT);
    let connections = |world: &World| -> u64 {
        world.nodes.iter().map(|node| node.replica().unwrap().status().counts.connections).sum()
    };
    let before = connections(&world);
    world.crash(AUTHORITY);
    world.run_for(seconds(5));
    world.restart(AUTHORITY);
    world.run_until("the authority is back", LIMIT, |world| world.revoke(1).is_some());
    world.assert_converges(LIMIT);
    for leaf in &leaves {
        assert_eq!(leaf.replica().unwrap().status().counts.snapshots, 1, "{} had to begin anew", leaf.name);
    }
    // Everybody came back with a few attempts, spread out.
    let attempts = connections(&world) - before;
    assert!((60..=240).contains(&attempts), "{attempts} connections");
}

#[test]
fn a_slow_reader_falls_behind_alone_and_catches_up() {
    let mut world = World::new(7);
    let slow = world.add("slow", Role::Leaf, &[AUTHORITY]);
    let quick = world.add("quick", Role::Leaf, &[AUTHORITY]);
    world.run_for(seconds(1));
    world.revoke(1);
    world.assert_converges(LIMIT);
    slow.is_slow.store(true, Ordering::Relaxed);
    let mut late = Duration::ZERO;
    for _ in 0..100 {
        let revision = world.revoke(2).unwrap();
        late = late.max(world.run_until("the quick one has it", seconds(1), |_| {
            quick.replica().unwrap().status().position.is_some_and(|position| position.revision >= revision)
        }));
    }
    let revision = |node: &super::node::Node| node.replica().unwrap().status().position.unwrap().revision.0;
    assert!(revision(&slow) + 20 < revision(&quick), "{} is not slow", revision(&slow));
    assert!(late <= Duration::from_millis(200), "the quick one waited {late:?}");
    slow.is_slow.store(false, Ordering::Relaxed);
    world.assert_converges(LIMIT);
}
