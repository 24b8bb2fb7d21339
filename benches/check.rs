//! The check on the miss path: against one random cache-line read, and against the exact map alone.

mod table;

use std::hint::black_box;

use rescind::revocation::exact::ExactMap;
use rescind::revocation::{Cutoff, Minute, PackedEntry};
use table::checks::{FIVE, TOKENS, check, each_token, filled};
use table::{Target, fingerprint, mix, nanos, row};

fn main() {
    // `cargo bench --bench check -- 100000` measures one size only.
    let asked: Vec<u64> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![100_000, 1_000_000, 10_000_000] } else { asked };
    for entries in sizes {
        let one = filled(entries, &FIVE[..1]);
        let check_one = check(&one);
        drop(one);
        let five = filled(entries, &FIVE);
        let check_five = check(&five);
        drop(five);
        let line = cache_line_read(entries as usize * 24);
        let map_five = map_alone(entries);
        let largest = entries == 10_000_000;
        row(&format!("{entries} entries, check, 1 shape, miss"), check_one, " ns", Target::None);
        row(&format!("{entries} entries, one random cache-line read, isolated"), line, " ns", Target::None);
        let target = |most| if largest { Target::AtMost(most) } else { Target::None };
        row(&format!("{entries} entries, 1 shape / cache-line read"), check_one / line, "x", target(2.0));
        row(&format!("{entries} entries, check, 5 shapes, miss"), check_five, " ns", Target::None);
        row(&format!("{entries} entries, exact map alone, 5 shapes"), map_five, " ns", Target::None);
        row(&format!("{entries} entries, 5 shapes / map alone"), check_five / map_five, "x", target(0.5));
    }
}

/// Reads that depend on each other, so that none overlaps the next.
fn cache_line_read(bytes: usize) -> f64 {
    let lines = bytes / 64;
    let array: Vec<[u64; 8]> = (0..lines as u64).map(|n| [mix(n); 8]).collect();
    nanos(TOKENS, || {
        let mut at = 0usize;
        for step in 0..TOKENS as u64 {
            let word = array[at][0] ^ step;
            at = (((mix(word) >> 32) * lines as u64) >> 32) as usize;
        }
        black_box(at);
    })
}

/// The same fingerprints, computed the same way, each looked up in the map before the next is computed.
fn map_alone(entries: u64) -> f64 {
    let map = ExactMap::with_capacity(entries as usize);
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    (0..entries).for_each(|n| _ = map.upsert(fingerprint(n), entry, &[]));
    let shapes = filled(0, &FIVE);
    each_token(|claims| {
        let mut is_hit = false;
        shapes.for_each_candidate(claims, |_, fingerprint| is_hit |= map.find(fingerprint).is_some());
        is_hit
    })
}
