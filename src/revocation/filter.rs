//! The split-block Bloom filter in front of the exact map: one cache line read tells most tokens that nothing is held
//! against them.
//!
//! The layout is that of Apache Parquet's split-block filter: blocks of 256 bits, in each of whose eight 32-bit words a
//! key sets one bit. Keys are fingerprints, already uniform, so nothing is hashed again.
//!
//! Does not remove: bits are only ever set, and a filter that has gathered garbage is replaced by a new one.
//!
//! # Invariants
//! - F1. A key that was inserted is contained from then on, whoever else inserts at the same time.
//! - F2. Readers take no lock and no reader waits for a writer.

use super::fingerprint::Fingerprint;
use super::sync::{AtomicU64, Ordering};

/// Bits per key at capacity: 0.13 % false positives.
pub const BITS_PER_KEY: usize = 16;

const BLOCK_BITS: usize = 256;
/// Keys per block at capacity.
const BLOCK_KEYS: usize = BLOCK_BITS / BITS_PER_KEY;
/// Block numbers have 32 bits: 64 Gi keys, far beyond any set.
const BLOCKS_MAX: usize = u32::MAX as usize;

/// The odd multipliers of the Parquet specification, one for each 32-bit word of a block.
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// A set of fingerprints that may err by containing too much, never too little.
pub struct Filter {
    blocks: Box<[Block]>,
}

/// 256 bits as four words, each two words of the layout; aligned so that it never straddles two cache lines.
#[derive(Default)]
#[repr(align(32))]
struct Block([AtomicU64; 4]);

/// A probe whose block has been asked for and not yet been waited for.
#[derive(Clone, Copy, Default)]
pub struct Probe {
    block: u32,
    key: u32,
    first_word: u64,
}

impl Filter {
    /// An empty filter that holds `keys` keys at [`BITS_PER_KEY`]. More may be inserted; it then errs more often.
    #[must_use]
    pub fn with_capacity(keys: usize) -> Self {
        let blocks = keys.div_ceil(BLOCK_KEYS).clamp(1, BLOCKS_MAX);
        Self { blocks: (0..blocks).map(|_| Block::default()).collect() }
    }

    /// How many keys it holds at [`BITS_PER_KEY`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.blocks.len() * BLOCK_KEYS
    }

    /// Adds a key. Any number of threads may.
    pub fn insert(&self, fingerprint: Fingerprint) {
        self.insert_word(fingerprint.0[0]);
    }

    /// Adds the key whose fingerprint begins with `word`: the filter looks at no more of it.
    pub(super) fn insert_word(&self, word: u64) {
        let (block, key) = self.locate(word);
        for (index, bits) in self.blocks[block as usize].0.iter().enumerate() {
            bits.fetch_or(mask(key, index), Ordering::Relaxed);
        }
    }

    /// Whether the key may have been inserted; `false` is certain.
    #[inline]
    #[must_use]
    pub fn contains(&self, fingerprint: Fingerprint) -> bool {
        let (block, key) = self.locate(fingerprint.0[0]);
        let words = &self.blocks[block as usize].0;
        (0..words.len()).all(|index| holds(words[index].load(Ordering::Relaxed), key, index))
    }

    /// Starts a probe: asks memory for the block. Begin all probes of a check before ending the first, and their cache
    /// misses overlap.
    #[inline]
    #[must_use]
    pub fn begin(&self, fingerprint: Fingerprint) -> Probe {
        let (block, key) = self.locate(fingerprint.0[0]);
        Probe { block, key, first_word: self.blocks[block as usize].0[0].load(Ordering::Relaxed) }
    }

    /// Ends a probe begun on this filter: whether the key may have been inserted; `false` is certain.
    #[inline]
    #[must_use]
    pub fn end(&self, probe: Probe) -> bool {
        let words = &self.blocks[probe.block as usize].0;
        holds(probe.first_word, probe.key, 0)
            && (1..words.len()).all(|index| holds(words[index].load(Ordering::Relaxed), probe.key, index))
    }

    /// The block by multiply-shift of the upper half, so that any number of blocks does; the key is the lower half.
    #[inline]
    fn locate(&self, word: u64) -> (u32, u32) {
        let block = ((word >> 32) * self.blocks.len() as u64) >> 32;
        (block as u32, word as u32)
    }
}

#[inline]
fn holds(bits: u64, key: u32, index: usize) -> bool {
    let mask = mask(key, index);
    bits & mask == mask
}

/// The two bits that `key` sets in word `index` of its block.
#[inline]
fn mask(key: u32, index: usize) -> u64 {
    let bit = |salt: u32| key.wrapping_mul(salt) >> 27;
    1 << bit(SALTS[index * 2]) | 1 << (32 + bit(SALTS[index * 2 + 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A uniform key from a counter (the finaliser of SplitMix64).
    fn key(counter: u64) -> Fingerprint {
        let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Fingerprint([z ^ (z >> 31), 0])
    }

    #[test]
    fn inserted_keys_are_always_contained() {
        for capacity in [0, 1, 17, 1000, 4099] {
            let filter = Filter::with_capacity(capacity);
            (0..5000).map(key).for_each(|k| filter.insert(k));
            for k in (0..5000).map(key) {
                assert!(filter.contains(k) && filter.end(filter.begin(k)), "capacity {capacity}, {k:?}");
            }
        }
    }

    #[test]
    fn errs_for_one_key_in_seven_hundred_at_capacity() {
        const KEYS: u64 = 100_000;
        let filter = Filter::with_capacity(KEYS as usize);
        (0..KEYS).map(key).for_each(|k| filter.insert(k));
        let errors = (KEYS..KEYS * 11).map(key).filter(|k| filter.contains(*k)).count();
        assert!((500..2500).contains(&errors), "{errors} of {} strangers", KEYS * 10);
        let split = (KEYS..KEYS * 11).map(key).filter(|k| filter.end(filter.begin(*k))).count();
        assert_eq!(split, errors);
    }

    #[test]
    fn two_writers_lose_no_key() {
        let filter = Filter::with_capacity(64);
        std::thread::scope(|scope| {
            for half in 0..2 {
                let filter = &filter;
                scope.spawn(move || (0..2000).map(|k| key(k * 2 + half)).for_each(|k| filter.insert(k)));
            }
        });
        assert!((0..4000).map(key).all(|k| filter.contains(k)));
    }
}
