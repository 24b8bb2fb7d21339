//! Two readers that hit all the time beside the writer: does the writer get through?

mod table;

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use rescind::revocation::exact::ExactMap;
use rescind::revocation::{Cutoff, Fingerprint, Minute, PackedEntry};
use table::{Target, fingerprint, mix, row};

const ENTRIES: u64 = 1_000_000;
/// Fingerprints that are written over and over; none of them is read.
const WRITTEN: u64 = 300_000;
/// How long each storm lasts: a starved writer may never end a fixed number of writes.
const STORM: Duration = Duration::from_secs(5);

/// Fingerprints are uniform already: their first word is the hash.
#[derive(Default)]
struct FirstWord(u64);

impl Hasher for FirstWord {
    fn finish(&self) -> u64 {
        self.0
    }
    /// An array of words arrives as its length, then as its bytes.
    fn write(&mut self, bytes: &[u8]) {
        if let (16, Some(word)) = (bytes.len(), bytes.first_chunk()) {
            self.0 = u64::from_le_bytes(*word);
        }
    }
    fn write_usize(&mut self, _: usize) {}
}

type Dash = DashMap<Fingerprint, PackedEntry, BuildHasherDefault<FirstWord>>;

fn main() {
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    let dash = Dash::default();
    let ours = ExactMap::default();
    for n in 0..ENTRIES {
        dash.insert(fingerprint(n), entry);
        ours.upsert(fingerprint(n), entry, &[]);
    }
    let dash_write = |n| _ = dash.insert(fingerprint(n), entry);
    let ours_write = |n| _ = ours.upsert(fingerprint(n), entry, &[]);
    let dash_hit = |n| dash.get(&fingerprint(n)).is_some();
    let ours_hit = |n| ours.find(fingerprint(n)).is_some();
    let dash_alone = write_for(STORM, &dash_write);
    let ours_alone = write_for(STORM, &ours_write);
    let dash_rates = storm(&dash_write, &dash_hit);
    let ours_rates = storm(&ours_write, &ours_hit);
    for (name, alone, (writes, hits)) in
        [("dashmap", dash_alone, dash_rates), ("sharded hashbrown", ours_alone, ours_rates)]
    {
        row(&format!("{name}: writes per second, alone"), alone, "", Target::None);
        row(&format!("{name}: writes per second beside two hitting readers"), writes, "", Target::None);
        row(&format!("{name}: hits per second of both readers"), hits, "", Target::None);
    }
    row("writes beside readers, ours / dashmap", ours_rates.0 / dash_rates.0, "x", Target::AtLeast(1.0));
    row("writes per second beside two hitting readers, ours", ours_rates.0, "", Target::AtLeast(100_000.0));
}

/// Writes and hits per second while both go on.
fn storm(write: &dyn Fn(u64), hit: &(dyn Fn(u64) -> bool + Sync)) -> (f64, f64) {
    let done = AtomicBool::new(false);
    let hits = AtomicU64::new(0);
    let writes = std::thread::scope(|scope| {
        for reader in 0..2 {
            let (done, hits) = (&done, &hits);
            scope.spawn(move || {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    count += u64::from(hit(mix(2 * count + reader) % ENTRIES));
                }
                hits.fetch_add(count, Ordering::Relaxed);
            });
        }
        let writes = write_for(STORM, write);
        done.store(true, Ordering::Relaxed);
        writes
    });
    (writes, hits.into_inner() as f64 / STORM.as_secs_f64())
}

/// Writes per second, one after the other, for so long.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn write_for(time: Duration, write: &dyn Fn(u64)) -> f64 {
    let begin = Instant::now();
    let mut writes = 0u64;
    while begin.elapsed() < time {
        (0..16).for_each(|n| write(ENTRIES + mix(writes + n) % WRITTEN));
        writes += 16;
    }
    writes as f64 / begin.elapsed().as_secs_f64()
}
