//! A fleet under a mixture of faults, from a seed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rescind::replication::Random;
use rescind::replication::frames::Role;

use super::world::{AUTHORITY, World, chance};

/// How long faults go on.
const FAULTS: Duration = Duration::from_secs(25);
/// Between two decisions.
const ROUND: Duration = Duration::from_millis(250);
/// How long everybody may take to have everything, once faults are over: dead connections are noticed within 10 s, and
/// the next attempt is made within 10 s more; so it goes at each of two hops.
const QUIET: Duration = Duration::from_secs(60);
/// Links that are cut or held.
const LINKS: [(&str, &str); 8] = [
    (AUTHORITY, "relay-1"),
    (AUTHORITY, "relay-2"),
    ("relay-1", "leaf-1"),
    ("relay-2", "leaf-1"),
    ("relay-1", "leaf-2"),
    ("relay-2", "leaf-2"),
    ("relay-1", "leaf-3"),
    (AUTHORITY, "leaf-3"),
];
const HOSTS: [&str; 6] = [AUTHORITY, "relay-1", "relay-2", "leaf-1", "leaf-2", "leaf-3"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fair,
    Held,
    Cut,
    /// Cut in one direction.
    Deaf,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_fleet_under_a_mixture_of_faults_converges_and_never_goes_back() {
    match number("SEED") {
        Some(seed) => drop(run(seed)),
        None => {
            let connections: u64 = (0..number("SEEDS").unwrap_or(20)).map(run).sum();
            assert!(connections > 0, "faults that lose nobody a connection are none");
        }
    }
}

/// One story; how many connections were made again in it.
fn run(seed: u64) -> u64 {
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let mut world = World::new(seed);
    world.add("relay-1", Role::Relay, &[AUTHORITY]);
    world.add_cached("relay-2", Role::Relay, &[AUTHORITY]);
    world.add("leaf-1", Role::Leaf, &["relay-1", "relay-2"]);
    world.add_cached("leaf-2", Role::Leaf, &["relay-2", "relay-1"]);
    world.add("leaf-3", Role::Leaf, &[AUTHORITY, "relay-1"]);
    let (mut weather, mut down) = ([Weather::Fair; LINKS.len()], [false; HOSTS.len()]);
    while world.elapsed() < FAULTS {
        if chance(&mut random, 0.6) {
            world.revoke(1 + random.next_u64() % 40);
        }
        for (link, weather) in LINKS.iter().zip(&mut weather) {
            change_weather(&mut world, &mut random, *link, weather);
        }
        for (host, is_down) in HOSTS.iter().zip(&mut down) {
            crash_or_restart(&mut world, &mut random, host, is_down);
        }
        for node in &world.nodes {
            let is_slow = node.is_slow.load(Ordering::Relaxed);
            if chance(&mut random, if is_slow { 0.1 } else { 0.02 }) {
                node.is_slow.store(!is_slow, Ordering::Relaxed);
            }
        }
        world.run_for(ROUND);
    }
    for ((a, b), weather) in LINKS.iter().zip(&weather) {
        match weather {
            Weather::Fair => {}
            Weather::Held => world.sim.release(*a, *b),
            Weather::Cut | Weather::Deaf => world.sim.repair(*a, *b),
        }
    }
    for (host, _) in HOSTS.iter().zip(&down).filter(|(_, is_down)| **is_down) {
        world.restart(host);
    }
    world.nodes.iter().for_each(|node| node.is_slow.store(false, Ordering::Relaxed));
    world.run_until("the authority is up", QUIET, |world| world.revoke(1).is_some());
    let took = world.assert_converges(QUIET);
    let statuses = world.nodes.iter().filter_map(|node| Some(node.replica()?.status().counts));
    let again = statuses.map(|counts| counts.connections.saturating_sub(1)).sum();
    println!("  {} revisions, {again} connections made again, converged after {took:?}", world.revisions());
    again
}

fn change_weather(world: &mut World, random: &mut Random, (a, b): (&'static str, &'static str), now: &mut Weather) {
    let next = match now {
        Weather::Fair if chance(random, 0.015) => Weather::Held,
        Weather::Fair if chance(random, 0.015) => Weather::Cut,
        Weather::Fair if chance(random, 0.01) => Weather::Deaf,
        Weather::Held | Weather::Cut | Weather::Deaf if chance(random, 0.1) => Weather::Fair,
        _ => return,
    };
    match (*now, next) {
        (_, Weather::Held) => world.sim.hold(a, b),
        (_, Weather::Cut) => world.sim.partition(a, b),
        (_, Weather::Deaf) => world.sim.partition_oneway(a, b),
        (Weather::Held, Weather::Fair) => world.sim.release(a, b),
        (_, Weather::Fair) => world.sim.repair(a, b),
    }
    *now = next;
}

fn crash_or_restart(world: &mut World, random: &mut Random, host: &'static str, is_down: &mut bool) {
    if *is_down && chance(random, 0.15) {
        world.restart(host);
        *is_down = false;
    } else if !*is_down && chance(random, 0.01) {
        if chance(random, 0.3) {
            world.stop(host);
        } else {
            world.crash(host);
        }
        *is_down = true;
    }
}
