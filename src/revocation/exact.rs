//! The exact map behind the filter: which fingerprints are held, and how far each reaches.
//!
//! Shards of a hash table under fair locks: one writer, many readers, and readers that hit all the time cannot starve
//! the writer. Readers come here only after a filter hit. A shard also keeps the exceptions of its entries, so that an
//! entry and its exceptions are always read as one.
//!
//! Does not know what is live: an expired entry stays until it is swept.
//!
//! # Memory
//! A hash table doubles. Were all shards alike they would double together, and the set would need twice the memory at
//! once. Their shares of the keys therefore grow from the first to the last by a factor of two, evenly on a logarithmic
//! scale: at any size as many shards have just doubled as are about to.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

use super::entry::{Exception, PackedEntry};
use super::fingerprint::Fingerprint;
use super::sync::RwLock;
use super::time::Minute;

/// Enough that a shard of a large set is copied in well under a millisecond when it doubles. A model has two: each lock
/// multiplies what must be tried.
pub(super) const SHARDS: usize = if cfg!(loom) { 2 } else { 256 };

/// Fingerprints and their entries; shared by one writer and any number of readers.
pub struct ExactMap {
    routes: Routes,
    shards: Box<[RwLock<Shard>]>,
}

/// On a cache line of its own, so that taking one shard's lock does not slow its neighbours.
#[derive(Default)]
#[repr(align(64))]
struct Shard {
    entries: HashTable<Slot>,
    exceptions: BTreeMap<Fingerprint, Arc<[Exception]>>,
}

type Slot = (Fingerprint, PackedEntry);

/// An entry with its exceptions, read as one.
#[derive(Clone, Debug)]
pub struct Found {
    /// Cutoff, expiry and flags.
    pub entry: PackedEntry,
    /// What it spares; `None` unless its flag says so.
    pub exceptions: Option<Arc<[Exception]>>,
}

impl Found {
    /// What it spares.
    #[must_use]
    pub fn exceptions(&self) -> &[Exception] {
        self.exceptions.as_deref().unwrap_or_default()
    }
}

/// What sweeping one shard came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Swept {
    pub(super) examined: usize,
    pub(super) reclaimed: usize,
}

impl Default for ExactMap {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl ExactMap {
    /// An empty map with room for `entries`.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        let routes = Routes::new();
        let shard = |index| {
            let share = (entries as f64 * routes.share(index)).ceil() as usize;
            RwLock::new(Shard { entries: HashTable::with_capacity(share), exceptions: BTreeMap::new() })
        };
        let shards = (0..SHARDS).map(shard).collect();
        Self { routes, shards }
    }

    /// The entry under a fingerprint, expired or not.
    #[must_use]
    pub fn find(&self, fingerprint: Fingerprint) -> Option<Found> {
        let shard = self.shard(fingerprint).read();
        let (_, entry) = *shard.entries.find(hash(&fingerprint), |slot| slot.0 == fingerprint)?;
        let exceptions = entry.has_exceptions().then(|| shard.exceptions.get(&fingerprint).cloned()).flatten();
        Some(Found { entry, exceptions })
    }

    /// Puts an entry in the place of what was there; whether nothing was.
    pub fn upsert(&self, fingerprint: Fingerprint, entry: PackedEntry, exceptions: &[Exception]) -> bool {
        let mut shard = self.shard(fingerprint).write();
        if entry.has_exceptions() {
            shard.exceptions.insert(fingerprint, exceptions.into());
        } else {
            shard.exceptions.remove(&fingerprint);
        }
        match shard.entries.entry(hash(&fingerprint), |slot| slot.0 == fingerprint, |slot| hash(&slot.0)) {
            TableEntry::Occupied(mut place) => {
                place.get_mut().1 = entry;
                false
            }
            TableEntry::Vacant(place) => {
                place.insert((fingerprint, entry));
                true
            }
        }
    }

    /// Takes an entry away; whether it was there.
    pub fn remove(&self, fingerprint: Fingerprint) -> bool {
        let mut shard = self.shard(fingerprint).write();
        shard.exceptions.remove(&fingerprint);
        let place = shard.entries.find_entry(hash(&fingerprint), |slot| slot.0 == fingerprint);
        place.map(|place| place.remove()).is_ok()
    }

    /// How many entries it holds, the expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().entries.len()).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what the filter looks at of each entry of one shard that expires after `floor`.
    pub(super) fn copy_filter_words(&self, shard: usize, floor: Minute, words: &mut Vec<u64>) {
        let shard = self.shards[shard].read();
        words.extend(shard.entries.iter().filter(|slot| slot.1.expiry() > floor).map(|slot| slot.0.0[0]));
    }

    /// Takes away the entries of one shard that expire at or before `floor`, and gives back memory it no longer needs.
    pub(super) fn sweep(&self, shard: usize, floor: Minute) -> Swept {
        let shard = &mut *self.shards[shard].write();
        let examined = shard.entries.len();
        let exceptions = &mut shard.exceptions;
        shard.entries.retain(|(fingerprint, entry)| {
            let live = entry.expiry() > floor;
            if !live && entry.has_exceptions() {
                exceptions.remove(fingerprint);
            }
            live
        });
        let left = shard.entries.len();
        if left < shard.entries.capacity() / 4 {
            shard.entries.shrink_to(left * 2, |slot| hash(&slot.0));
        }
        Swept { examined, reclaimed: examined - left }
    }

    fn shard(&self, fingerprint: Fingerprint) -> &RwLock<Shard> {
        &self.shards[self.routes.shard(fingerprint)]
    }
}

/// The place within a shard. The shard is chosen by the other word, so that the two are independent.
#[inline]
fn hash(fingerprint: &Fingerprint) -> u64 {
    fingerprint.0[0]
}

/// Which shard a fingerprint belongs to: ranges of its second word, shard i's of weight 2^(i / [`SHARDS`]).
struct Routes {
    /// Where each shard's range begins.
    begins: [u32; SHARDS],
    /// For each cell of the word's range the shard that its first value belongs to. Cells are smaller than ranges, so
    /// that the shard of any value is this one or the next.
    cells: [u8; CELLS],
}

const CELLS: usize = 1024;
const CELL_SHIFT: u32 = 32 - CELLS.trailing_zeros();

impl Routes {
    fn new() -> Self {
        let begins: [u32; SHARDS] = std::array::from_fn(|index| {
            let fraction = (index as f64 / SHARDS as f64).exp2() - 1.0;
            (fraction * 2f64.powi(32)) as u32
        });
        let cells = std::array::from_fn(|cell| {
            let first = (cell as u32) << CELL_SHIFT;
            (begins.partition_point(|begin| *begin <= first) - 1) as u8
        });
        Self { begins, cells }
    }

    #[inline]
    fn shard(&self, fingerprint: Fingerprint) -> usize {
        let value = (fingerprint.0[1] >> 32) as u32;
        let shard = usize::from(self.cells[(value >> CELL_SHIFT) as usize]);
        match self.begins.get(shard + 1) {
            Some(next) if *next <= value => shard + 1,
            _ => shard,
        }
    }

    /// The part of all keys that belongs to a shard.
    fn share(&self, shard: usize) -> f64 {
        let end = self.begins.get(shard + 1).map_or(2f64.powi(32), |end| f64::from(*end));
        (end - f64::from(self.begins[shard])) / 2f64.powi(32)
    }
}
