//! Comparing and joining entries by what they revoke.
//!
//! An entry revokes a token up to its *reach*: the cutoff, or the lowest reach of the exceptions that the token matches.
//! `None` reaches nothing at all.

use crate::revocation::entry::{EXCEPTIONS_MAX, Exception, PackedEntry};
use crate::revocation::time::Cutoff;

/// An entry with its exceptions, borrowed.
#[derive(Clone, Copy)]
pub(super) struct Strength<'a> {
    pub(super) entry: PackedEntry,
    pub(super) exceptions: &'a [Exception],
}

impl Strength<'_> {
    /// How far it reaches a token that matches `exception` and no other.
    fn reach(&self, exception: &Exception) -> Option<Cutoff> {
        let cutoff = Some(self.entry.cutoff());
        let same = |e: &&Exception| e.fingerprint == exception.fingerprint && e.shape == exception.shape;
        self.exceptions.iter().find(same).map_or(cutoff, |e| e.reach.min(cutoff))
    }

    /// Whether it revokes everything that `other` does, and for as long.
    pub(super) fn covers(&self, other: Strength<'_>) -> bool {
        self.entry.cutoff() >= other.entry.cutoff()
            && self.entry.expiry() >= other.entry.expiry()
            && self.exceptions.iter().all(|e| self.reach(e) >= other.reach(e))
    }

    /// The least entry that covers both. Exceptions over the limit are dropped, which revokes more, never less.
    pub(super) fn union(&self, other: Strength<'_>) -> (PackedEntry, Vec<Exception>) {
        let cutoff = self.entry.cutoff().max(other.entry.cutoff());
        let expiry = self.entry.expiry().max(other.entry.expiry());
        let mut exceptions: Vec<Exception> = (self.exceptions.iter().chain(other.exceptions))
            .map(|e| Exception { reach: self.reach(e).max(other.reach(e)), ..e.clone() })
            .filter(|e| e.reach < Some(cutoff))
            .collect();
        exceptions.sort_unstable();
        exceptions.dedup();
        exceptions.truncate(EXCEPTIONS_MAX);
        (PackedEntry::new(cutoff, expiry, !exceptions.is_empty()), exceptions)
    }
}
