//! The whole system in one process and one thread: clients, the authority's commit path on a disk that fails, and
//! replicas behind a link that delays, repeats, cuts, corrupts and lies.
//!
//! Time is virtual and every choice comes from a seed, which a failure prints. What happens is recorded; afterwards one
//! validator per promise looks at the record. `docs/design/simulation.md` says more.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and seeds are printed")]

mod acting;
mod authority;
mod cache;
mod client;
mod connection;
mod faults;
mod history;
mod liar;
mod link;
mod mishaps;
mod model;
mod mutations;
mod net;
mod node;
mod operator;
mod token;
mod validators;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use faults::Faults;
use history::{Event, History, Proven};
use world::World;

/// Runs a world of this seed, and every validator over what happened in it.
fn check(seed: u64, faults: Faults) -> History {
    let history = World::new(seed, faults).run();
    for (name, validate) in validators::ALL {
        if let Err(violation) = validate(&history) {
            panic!("seed {seed}, {faults:?}: {name} is violated: {violation}");
        }
    }
    history
}

/// Sums up what runs came across, so that a test which meets no fault is seen to test nothing.
fn run_seeds(seeds: Range<u64>, faults: impl Fn(u64) -> Faults) -> Met {
    let (mut met, mut failed) = (Met::default(), Vec::new());
    for seed in seeds.clone() {
        match catch_unwind(AssertUnwindSafe(|| check(seed, faults(seed)))) {
            Ok(history) => met.add(&history),
            Err(_) => failed.push(seed),
        }
        if (seed + 1 - seeds.start).is_multiple_of(100) {
            println!("{} seeds run, failing: {failed:?}", seed + 1 - seeds.start);
        }
    }
    println!("seeds {seeds:?}: {met:?}");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
    met
}

#[derive(Debug, Default)]
struct Met {
    revisions: u64,
    acknowledged: u64,
    repeated: u64,
    unclear: u64,
    resumed: u64,
    snapshots: u64,
    lagged: u64,
    lost: u64,
    diverged: u64,
    refused: u64,
    recovered: u64,
    pruned: u64,
    damaged: u64,
    lied: u64,
    parted: u64,
    restored: u64,
    warmed: u64,
    residues: u64,
    history_lost: u64,
    complete: u64,
    bounded: u64,
}

impl Met {
    fn add(&mut self, history: &History) {
        self.revisions += history.epochs.values().map(|epoch| epoch.len() as u64).sum::<u64>();
        self.acknowledged += history.acknowledged().count() as u64;
        self.repeated += history.acknowledged().filter(|(_, answer)| answer.repeated).count() as u64;
        self.unclear += history.count(|event| matches!(event, Event::Unclear));
        self.resumed += history.count(|event| matches!(event, Event::Welcomed { resumed: true, .. }));
        self.snapshots += history.count(|event| matches!(event, Event::Swapped { .. }));
        self.lagged += history.count(|event| matches!(event, Event::Lagged));
        self.lost += history.count(|event| matches!(event, Event::Lost));
        self.diverged += history.count(|event| matches!(event, Event::Diverged));
        self.refused += history.count(|event| matches!(event, Event::Refused));
        self.recovered += history.count(|event| matches!(event, Event::Recovered));
        self.pruned += history.count(|event| matches!(event, Event::Pruned));
        self.damaged += history.count(|event| matches!(event, Event::Damaged));
        self.lied += history.count(|event| matches!(event, Event::Lied));
        self.parted += history.count(|event| matches!(event, Event::Parted));
        self.restored += history.count(|event| matches!(event, Event::Restored));
        self.warmed += history.count(|event| matches!(event, Event::Warmed));
        self.residues += history.observed().filter(|(_, seen)| !seen.residues.is_empty()).count() as u64;
        let proven = |is: fn(&Proven) -> bool| history.count(|event| matches!(event, Event::Proven(told) if is(told)));
        self.complete += proven(|told| told.complete);
        self.bounded += proven(|told| told.dead_by.is_some());
        self.history_lost += history.count(|event| matches!(event, Event::HistoryLost { told: 1.., .. }));
    }
}

const fn every(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// `SEEDS=1000` runs that many; `SEED=17` runs that one.
#[test]
fn every_promise_holds_under_a_mixture_of_all_faults() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => run_seeds(seed..seed + 1, Faults::of),
        None => run_seeds(0..number("SEEDS").unwrap_or(60), Faults::of),
    };
}

#[test]
fn every_promise_holds_on_a_link_that_only_delays() {
    let faults = Faults { delay_max: Duration::from_millis(300), ..Faults::NONE };
    let met = run_seeds(10_000..10_012, |_| faults);
    assert!(met.resumed == 0 && met.diverged == 0 && met.lost == 0 && met.snapshots >= 24, "{met:?}");
}

#[test]
fn every_promise_holds_while_connections_are_lost_and_readers_are_slow() {
    let faults = Faults {
        delay_max: Duration::from_millis(100),
        cut_every: every(5),
        repeat: 0.05,
        short_history: true,
        stall_every: every(6),
        ..Faults::NONE
    };
    let met = run_seeds(20_000..20_020, |_| faults);
    assert!(met.lost > 40 && met.resumed > 20 && met.diverged == 0, "{met:?}");
}

#[test]
fn every_promise_holds_while_the_authority_crashes_on_a_failing_disk() {
    let faults = Faults { crash_every: every(4), disk_every: every(4), lose_answer: 0.1, ..Faults::NONE };
    let met = run_seeds(30_000..30_020, |_| faults);
    assert!(met.recovered > 65 && met.repeated > 13 && met.unclear > 65 && met.diverged == 0, "{met:?}");
}

#[test]
fn every_promise_holds_while_clocks_step_entries_expire_and_the_journal_is_pruned() {
    let faults = Faults {
        night_every: every(4),
        step_every: every(6),
        skew_max: Duration::from_millis(400),
        restart_every: every(6),
        crash_every: every(8),
        ..Faults::NONE
    };
    let met = run_seeds(40_000..40_020, |_| faults);
    assert!(met.pruned > 6, "{met:?}");
}

#[test]
fn the_authority_recovers_from_the_snapshot_before_a_damaged_one_although_the_journal_is_pruned() {
    let faults = Faults { night_every: every(2), crash_every: every(2), damage: 0.8, ..Faults::NONE };
    let met = run_seeds(60_000..60_012, |_| faults);
    assert!(met.pruned > 6 && met.damaged > 30, "{met:?}");
}

#[test]
fn frames_that_are_corrupted_vanish_or_lie_are_noticed_and_never_hide_a_revocation() {
    let faults = Faults { cut_every: every(5), corrupt: 0.01, lose: 0.005, lie: 0.4, ..Faults::NONE };
    let met = run_seeds(50_000..50_020, |_| faults);
    assert!(met.diverged > 20 && met.refused > 20 && met.lied > 50, "{met:?}");
}

#[test]
fn what_is_proven_dead_everywhere_is_accepted_nowhere() {
    let faults = Faults {
        delay_max: Duration::from_millis(100),
        cached: 0.5,
        cut_every: every(4),
        stall_every: every(6),
        part_every: every(5),
        restart_every: every(4),
        crash_every: every(6),
        policy_every: every(8),
        skew_max: Duration::from_millis(400),
        ..Faults::NONE
    };
    let met = run_seeds(100_000..100_016, |_| faults);
    assert!(met.complete > 30 && met.bounded > 30, "{met:?}");
}

#[test]
fn nothing_that_a_relay_forges_takes_effect() {
    let faults = Faults { relays: 1, lie: 0.6, cut_every: every(3), restart_every: every(8), ..Faults::NONE };
    let met = run_seeds(90_000..90_012, |_| faults);
    assert!(met.diverged > 28 && met.refused > 55 && met.lied > 280, "{met:?}");
}

#[test]
fn every_promise_holds_below_relays_that_end_begin_again_and_are_out_of_reach() {
    let faults = Faults {
        relays: 2,
        cached: 0.5,
        delay_max: Duration::from_millis(100),
        part_every: every(4),
        restart_every: every(5),
        cut_every: every(8),
        crash_every: every(10),
        ..Faults::NONE
    };
    let met = run_seeds(70_000..70_014, |seed| Faults { short_history: seed % 2 == 0, ..faults });
    assert!(met.parted > 65 && met.resumed > 65 && met.warmed > 20 && met.diverged == 0, "{met:?}");
}

#[test]
fn a_restored_backup_takes_nothing_back_from_those_who_had_heard_of_more() {
    let faults = Faults {
        cached: 0.5,
        backup_every: every(2),
        restore_every: every(4),
        restart_every: every(6),
        cut_every: every(6),
        ..Faults::NONE
    };
    let met = run_seeds(80_000..80_014, |seed| Faults { relays: (seed % 3) as usize, ..faults });
    assert!(met.restored > 13 && met.residues > 130 && met.history_lost > 13 && met.diverged == 0, "{met:?}");
}

#[test]
fn the_same_seed_makes_the_same_history() {
    for seed in 0..8 {
        let (once, again) = (World::new(seed, Faults::of(seed)).run(), World::new(seed, Faults::of(seed)).run());
        assert_eq!(once.trace(), again.trace(), "seed {seed}");
    }
}
