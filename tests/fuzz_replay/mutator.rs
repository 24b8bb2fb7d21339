//! A small mutator: the same seed makes the same inputs, on every machine.

/// Numbers at which decoders turn.
const NUMBERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    1 << 28,
    (1 << 34) - 1,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 53,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Pieces of the texts that are read.
const WORDS: [&str; 40] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    ".",
    "-",
    "null",
    "true",
    "1e999",
    "-0",
    "0.5",
    "\\u0000",
    "\\ud800",
    "é",
    "\u{0}",
    "header",
    "header.kid",
    "token_sha256",
    "iat",
    "exp",
    "auth_time",
    "claims",
    "payload",
    "selector",
    "token",
    "unix:",
    "http://",
    "/../",
    "now-",
    "9999-12-31T23:59:60Z",
    "+14:00",
    "e30",
    "_-",
    "\n",
    "[[principal]]",
    "18446744073709551616",
    "\u{feff}",
];

/// How many changes one input gets at most.
const CHANGES_MAX: u64 = 4;

pub struct Mutator<'a> {
    state: u64,
    seeds: &'a [&'a [u8]],
    bytes_max: usize,
}

impl<'a> Mutator<'a> {
    pub fn new(seed: u64, seeds: &'a [&'a [u8]], bytes_max: usize) -> Self {
        Self { state: seed, seeds, bytes_max }
    }

    /// A seed, changed.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut bytes = self.seed().to_vec();
        for _ in 0..1 + self.below(CHANGES_MAX) {
            self.change(&mut bytes);
        }
        bytes.truncate(self.bytes_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let length = bytes.len() as u64;
        let at = self.below(length + 1) as usize;
        match self.below(10) {
            // A bit, a byte.
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            // The beginning, or all but a piece.
            2 => bytes.truncate(at),
            3 => {
                let end = (at + 1 + self.below(16) as usize).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            // A piece of another seed, or of this one again.
            4 => {
                let other = self.seed();
                let from = self.below(other.len() as u64 + 1) as usize;
                let piece = &other[from..(from + 1 + self.below(64) as usize).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            5 => {
                let from = self.below(length + 1) as usize;
                let piece = bytes[from..(from + 1 + self.below(32) as usize).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            // A number of one to eight bytes, either way round.
            6 | 7 => {
                let mut number =
                    NUMBERS[self.below(NUMBERS.len() as u64) as usize].wrapping_add(self.below(3)).to_le_bytes();
                let width = 1 << self.below(4);
                if self.below(2) == 0 {
                    number[..width].reverse();
                }
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            // A length that says a little more or less.
            8 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(self.below(5) as u8).wrapping_sub(2),
            _ => {
                let word = WORDS[self.below(WORDS.len() as u64) as usize];
                let end = if self.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.bytes());
            }
        }
    }

    fn seed(&mut self) -> &'a [u8] {
        self.seeds[self.below(self.seeds.len() as u64) as usize]
    }

    /// A number below `limit` (SplitMix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
