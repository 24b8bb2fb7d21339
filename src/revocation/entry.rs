//! What the set stores for one fingerprint, and how revocations of one selector merge into it.
//!
//! # Invariants
//! - E1. Merging is a maximum: order and duplication of revocations do not matter.
//! - E2. An exception e is kept only while its reach m_e lies below the entry's cutoff M: a token matching e is revoked
//!   iff its time ≤ m_e, any other iff its time ≤ M.

use super::fingerprint::Fingerprint;
use super::selector::Shape;
use super::time::{Cutoff, Minute};

/// The most exceptions one revocation, and so one entry, may carry.
pub const EXCEPTIONS_MAX: usize = 4;

/// Cutoff, expiry and flags in eight bytes.
///
/// Bits, from the lowest: 34 cutoff, 28 expiry minute, 1 "has exceptions", 1 reserved (zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedEntry(u64);

/// The reserved bit of a [`PackedEntry`] was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry has its reserved bit set")]
pub struct PackedEntryError;

impl PackedEntry {
    const EXPIRY_SHIFT: u32 = 34;
    const EXCEPTIONS: u64 = 1 << 62;
    const RESERVED: u64 = 1 << 63;

    /// Packs the three.
    #[must_use]
    pub fn new(cutoff: Cutoff, expiry: Minute, has_exceptions: bool) -> Self {
        let flag = if has_exceptions { Self::EXCEPTIONS } else { 0 };
        Self(cutoff.bits() | u64::from(expiry.bits()) << Self::EXPIRY_SHIFT | flag)
    }

    /// The latest issue time it reaches.
    #[inline]
    #[must_use]
    pub fn cutoff(self) -> Cutoff {
        Cutoff::from_bits(self.0)
    }

    /// When it may be forgotten.
    #[inline]
    #[must_use]
    pub fn expiry(self) -> Minute {
        Minute::from_bits((self.0 >> Self::EXPIRY_SHIFT) as u32)
    }

    /// Whether the side table holds exceptions to it.
    #[inline]
    #[must_use]
    pub fn has_exceptions(self) -> bool {
        self.0 & Self::EXCEPTIONS != 0
    }

    /// The eight bytes as a word; little-endian on wire and disk.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`PackedEntry::bits`].
    ///
    /// # Errors
    /// When the reserved bit is set.
    pub fn from_bits(bits: u64) -> Result<Self, PackedEntryError> {
        if bits & Self::RESERVED == 0 { Ok(Self(bits)) } else { Err(PackedEntryError) }
    }
}

/// One exception kept by an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// The claim names of the sparing selector (its tested time is always `iat` and means nothing).
    pub shape: Shape,
    /// The fingerprint of the sparing selector.
    pub fingerprint: Fingerprint,
    /// The cutoff that still reaches a spared token; `None`: it is spared even if its tested time is missing.
    pub reach: Option<Cutoff>,
}

/// The merged state of all live revocations of one selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The latest issue time it reaches.
    pub cutoff: Cutoff,
    /// When it may be forgotten.
    pub expiry: Minute,
    /// At most [`EXCEPTIONS_MAX`], sorted, each with a reach below `cutoff`.
    pub exceptions: Vec<Exception>,
}

/// One accepted revocation, as far as the set is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The latest issue time it reaches.
    pub cutoff: Cutoff,
    /// When it may be forgotten.
    pub expiry: Minute,
    /// The selectors it spares, at most [`EXCEPTIONS_MAX`], unique.
    pub spares: Vec<(Shape, Fingerprint)>,
}

impl Entry {
    /// The entry after one more revocation of its selector.
    #[must_use]
    pub fn merge(existing: Option<&Entry>, mark: &Mark) -> Self {
        let old_cutoff = existing.map(|entry| entry.cutoff);
        let kept = existing.map_or(&[][..], |entry| &entry.exceptions);
        let spares = |e: &Exception| mark.spares.iter().any(|(s, f)| *f == e.fingerprint && *s == e.shape);
        let mut exceptions: Vec<Exception> = match old_cutoff {
            Some(old) if mark.cutoff == old => kept.iter().filter(|e| spares(e)).cloned().collect(),
            Some(old) if mark.cutoff < old => kept
                .iter()
                .map(|e| {
                    let reach = if spares(e) { e.reach } else { e.reach.max(Some(mark.cutoff)) };
                    Exception { reach, ..e.clone() }
                })
                .collect(),
            _ => mark
                .spares
                .iter()
                .map(|(shape, fingerprint)| {
                    let before = kept.iter().find(|e| e.fingerprint == *fingerprint && e.shape == *shape);
                    let reach = before.map_or(old_cutoff, |e| e.reach);
                    Exception { shape: shape.clone(), fingerprint: *fingerprint, reach }
                })
                .collect(),
        };
        exceptions.sort_unstable();
        exceptions.dedup();
        Self {
            cutoff: old_cutoff.map_or(mark.cutoff, |old| old.max(mark.cutoff)),
            expiry: existing.map_or(mark.expiry, |entry| entry.expiry.max(mark.expiry)),
            exceptions,
        }
    }

    /// The eight bytes of the exact map.
    #[must_use]
    pub fn packed(&self) -> PackedEntry {
        PackedEntry::new(self.cutoff, self.expiry, !self.exceptions.is_empty())
    }
}
