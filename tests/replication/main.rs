//! Both ends of the agreement in one process, joined by a link that delays, repeats, cuts and corrupts.
//!
//! Time is virtual and every choice comes from a seed, which a failure prints. What happens is recorded; afterwards one
//! validator per promise looks at the record.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod authority;
mod history;
mod link;
mod replica;
mod validators;
mod world;

use std::time::Duration;

use history::History;
use world::{Faults, World};

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
fn run_seeds(seeds: std::ops::Range<u64>, faults: Faults) -> Met {
    let mut met = Met::default();
    for seed in seeds.clone() {
        met.add(&check(seed, faults));
    }
    println!("seeds {seeds:?}, {faults:?}: {met:?}");
    met
}

#[derive(Debug, Default)]
struct Met {
    revisions: u64,
    resumed: u64,
    snapshots: u64,
    lagged: u64,
    lost: u64,
    diverged: u64,
    refused: u64,
}

impl Met {
    fn add(&mut self, history: &History) {
        self.revisions += history.published.len() as u64;
        self.resumed += history.count(|event| matches!(event, history::Event::Welcomed { resumed: true, .. }));
        self.snapshots += history.count(|event| matches!(event, history::Event::Swapped { .. }));
        self.lagged += history.count(|event| matches!(event, history::Event::Lagged));
        self.lost += history.count(|event| matches!(event, history::Event::Lost));
        self.diverged += history.count(|event| matches!(event, history::Event::Diverged));
        self.refused += history.count(|event| matches!(event, history::Event::Refused));
    }
}

#[test]
fn every_promise_holds_on_a_link_that_only_delays() {
    let met = run_seeds(0..60, Faults { delay_max: Duration::from_millis(300), ..Faults::NONE });
    assert!(met.resumed == 0 && met.diverged == 0 && met.lost == 0 && met.snapshots >= 120, "{met:?}");
}

#[test]
fn every_promise_holds_while_connections_are_lost() {
    let faults =
        Faults { delay_max: Duration::from_millis(200), cut_every: Some(Duration::from_secs(4)), ..Faults::NONE };
    let met = run_seeds(1000..1100, faults);
    assert!(met.lost > 200 && met.resumed > 100 && met.diverged == 0, "{met:?}");
}

#[test]
fn every_promise_holds_while_frames_are_repeated_and_the_history_is_short() {
    let faults = Faults {
        delay_max: Duration::from_millis(100),
        cut_every: Some(Duration::from_secs(5)),
        repeat: 0.05,
        short_history: true,
        stall_every: Some(Duration::from_secs(6)),
        ..Faults::NONE
    };
    let met = run_seeds(2000..2080, faults);
    assert!(met.lagged > 10 && met.snapshots > 200, "{met:?}");
}

#[test]
fn corrupted_frames_end_in_divergence_or_refusal_and_never_hide_a_revocation() {
    let faults = Faults {
        delay_max: Duration::from_millis(100),
        cut_every: Some(Duration::from_secs(8)),
        corrupt: 0.02,
        ..Faults::NONE
    };
    let met = run_seeds(3000..3100, faults);
    assert!(met.diverged > 50 && met.refused > 50, "{met:?}");
}

#[test]
fn the_same_seed_makes_the_same_history() {
    let faults = Faults { cut_every: Some(Duration::from_secs(3)), corrupt: 0.02, ..Faults::NONE };
    let (once, again) = (World::new(7, faults).run(), World::new(7, faults).run());
    assert_eq!(format!("{:?}", once.events), format!("{:?}", again.events));
}
