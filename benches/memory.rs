//! Bytes per entry, filter included: at ten million, and at the worst size between five and twenty.
//!
//! Resident memory of the process over its start, so everything counts: tables, filters, locks, the allocator's waste.

mod table;

use rescind::revocation::{Cutoff, Delta, Minute, PackedEntry, Policy, RevocationSet, SetKey, SetWriter, UnixMillis};
use table::{Target, fingerprint, resident_bytes, row};

const STEP: u64 = 20_000;

fn main() {
    let (mut writer, _set) = RevocationSet::create(SetKey::new([7; 16]), Policy::default(), Minute::default());
    let start = resident_bytes();
    let mut worst = (0.0, 0);
    let mut entries = 0;
    while entries < 20_000_000 {
        add(&mut writer, entries);
        entries += STEP;
        if entries % 100_000 != 0 {
            continue;
        }
        let each = (resident_bytes() - start) as f64 / entries as f64;
        if entries >= 5_000_000 && each > worst.0 {
            worst = (each, entries);
        }
        match entries {
            10_000_000 => row("memory per entry at 10,000,000 entries", each, " B", Target::AtMost(48.0)),
            1_000_000 | 5_000_000 | 20_000_000 => {
                row(&format!("memory per entry at {entries} entries"), each, " B", Target::None);
            }
            _ => {}
        }
    }
    let what = format!("memory per entry, worst between 5,000,000 and 20,000,000 (at {})", worst.1);
    row(&what, worst.0, " B", Target::AtMost(60.0));
}

fn add(writer: &mut SetWriter, first: u64) {
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    let mut delta = Delta::empty(writer.revision().next(), UnixMillis(0), Minute::default());
    delta.upserts = (first..first + STEP).map(|n| (fingerprint(n), entry)).collect();
    delta.upserts.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
    delta.digest_after = writer.stage(&delta).expect("a well-formed delta");
    if let Some(rebuild) = writer.apply(&delta).expect("the digest just staged").rebuild {
        rebuild.run();
    }
}
