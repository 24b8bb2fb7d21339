//! Negative probes of the filter beside those of its peers: same keys, already hashed, same false-positive rate.

#![allow(clippy::print_stdout, reason = "a bench prints")]

mod table;

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

use bloomfilter::Bloom;
use fastbloom::AtomicBloomFilter;
use rescind::revocation::Fingerprint;
use rescind::revocation::filter::Filter;
use table::{Target, fingerprint, nanos, row};

/// The rate of the split-block filter at 16 bits per key.
const FALSE_POSITIVES: f64 = 0.0013;
const PROBES: usize = 2_000_000;

/// Keys are hashed already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are words")
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

fn main() {
    println!("negative filter probes, ns (this machine's cache: {})", cache());
    for keys in [100_000u64, 1_000_000, 10_000_000] {
        compare(keys);
    }
}

fn compare(keys: u64) {
    let ours = Filter::with_capacity(keys as usize);
    let fast = AtomicBloomFilter::with_false_pos(FALSE_POSITIVES)
        .hasher(BuildHasherDefault::<Identity>::default())
        .expected_items(keys as usize);
    let mut classic = Bloom::<u64>::new_for_fp_rate(keys as usize, FALSE_POSITIVES).expect("a rate within (0, 1)");
    for key in (0..keys).map(fingerprint) {
        ours.insert(key);
        fast.insert_hash(key.0[0]);
        classic.set(&key.0[0]);
    }
    let strangers: Vec<Fingerprint> = (keys..keys + PROBES as u64).map(fingerprint).collect();
    let rate = |errors: usize| errors as f64 * 100.0 / PROBES as f64;
    let count = |contains: &dyn Fn(&Fingerprint) -> bool| rate(strangers.iter().filter(|key| contains(key)).count());
    println!(
        "{keys} keys, false positives: ours {:.3} %, fastbloom {:.3} %, bloomfilter {:.3} %",
        count(&|key| ours.contains(*key)),
        count(&|key| fast.contains_hash(key.0[0])),
        count(&|key| classic.check(&key.0[0])),
    );
    let ours = nanos(PROBES, || {
        black_box(strangers.iter().filter(|key| ours.contains(**key)).count());
    });
    let fast = nanos(PROBES, || {
        black_box(strangers.iter().filter(|key| fast.contains_hash(key.0[0])).count());
    });
    let classic = nanos(PROBES, || {
        black_box(strangers.iter().filter(|key| classic.check(&key.0[0])).count());
    });
    row(&format!("{keys} keys, ours"), ours, " ns", Target::None);
    row(&format!("{keys} keys, fastbloom (atomic)"), fast, " ns", Target::None);
    row(&format!("{keys} keys, bloomfilter"), classic, " ns", Target::None);
    let target = |least| if keys == 1_000_000 { Target::AtLeast(least) } else { Target::None };
    row(&format!("{keys} keys, times as fast as bloomfilter"), classic / ours, "x", target(3.0));
    row(&format!("{keys} keys, times as fast as fastbloom"), fast / ours, "x", target(1.3));
}

fn cache() -> String {
    let size = |index: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        std::fs::read_to_string(path).map_or_else(|_| "?".into(), |size| size.trim().to_owned())
    };
    format!("L1 {}, L2 {}, L3 {}", size(0), size(2), size(3))
}
