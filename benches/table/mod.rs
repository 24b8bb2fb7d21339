//! What the benches share: one line per measurement, and keys that are the same in every run.
#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a bench reads the clock and prints")]

pub(crate) mod checks;

use std::time::Instant;

use rescind::revocation::Fingerprint;

/// A target that a ratio or a size must meet.
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Printed for comparison.
    None,
}

/// Prints one line of the table.
pub(crate) fn row(what: &str, measured: f64, unit: &str, target: Target) {
    let (text, met) = match target {
        Target::AtLeast(least) => (format!(">= {least}{unit}"), Some(measured >= least)),
        Target::AtMost(most) => (format!("<= {most}{unit}"), Some(measured <= most)),
        Target::None => (String::new(), None),
    };
    let met = met.map_or("", |met| if met { "ok" } else { "MISS" });
    println!("{what:<72} {:>12} {text:>12} {met}", format!("{measured:.2}{unit}"));
}

/// Nanoseconds per call of `work`, which makes `calls` of them: the median of seven rounds, after one to warm up.
/// Counts the time that this thread ran, where the system tells it, so that busy neighbours matter less.
pub(crate) fn nanos(calls: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut rounds: Vec<f64> = (0..7)
        .map(|_| {
            let (begin, ran) = (Instant::now(), thread_nanos());
            work();
            let took = match (ran, thread_nanos()) {
                (Some(begin), Some(end)) => (end - begin) as f64,
                _ => begin.elapsed().as_nanos() as f64,
            };
            took / calls as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// How long this thread has run, in nanoseconds (Linux; anywhere else unknown). Exact to a scheduler tick.
fn thread_nanos() -> Option<u64> {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Seconds that `work` takes.
pub(crate) fn seconds(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64()
}

/// The finaliser of SplitMix64: uniform words from a counter.
pub(crate) fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The fingerprint numbered `n`.
pub(crate) fn fingerprint(n: u64) -> Fingerprint {
    Fingerprint([mix(2 * n), mix(2 * n + 1)])
}

/// Resident memory of this process, in bytes (Linux; anywhere else zero).
pub(crate) fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
