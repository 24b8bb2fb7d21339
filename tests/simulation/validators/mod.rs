//! One validator per promise of `docs/design/simulation.md`, each over the whole of what was recorded.

mod answers;
mod dead;
mod journal;
mod progress;
mod safety;
mod standing;

use super::history::{AUTHORITY, History, Observed, Record};

pub type Validator = fn(&History) -> Result<(), String>;

pub const ALL: [(&str, Validator); 17] = [
    ("Durable", journal::durable),
    ("HistoryLost", journal::history_lost),
    ("ReadYourWrites", answers::read_your_writes),
    ("Ordered", progress::ordered),
    ("Unique", progress::unique),
    ("Gapless", progress::gapless),
    ("Atomic", answers::atomic),
    ("Resumable", progress::resumable),
    ("Bookmarkable", progress::bookmarkable),
    ("Monotonic", progress::monotonic),
    ("Convergent", standing::convergent),
    ("HonestFreshness", standing::honest_freshness),
    ("Isolation", standing::isolation),
    ("FailSafe", safety::fail_safe),
    ("NoFalseNegative", answers::no_false_negative),
    ("ProvablyDead", dead::provably_dead),
    ("NoFalsePositive", safety::no_false_positive),
];

fn unheard_of(record: &Record, seen: &Observed) -> String {
    format!("{} at {:?} is at {:?}, which never was", name(record.node), record.at, seen.at)
}

fn name(node: usize) -> String {
    if node == AUTHORITY { "the authority".to_owned() } else { format!("node {node}") }
}
