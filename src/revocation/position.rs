//! Where in the log something stands: an epoch and a revision in it.

use std::fmt;
use std::str::FromStr;

/// A committed batch of whole requests; contiguous within an epoch, from 1. Zero is the empty state before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One unbroken history of the log. A restored backup starts another, of a higher generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// Grows by one with each new epoch; a lower one is never followed.
    pub generation: u64,
    /// Random, so that two epochs of the same generation can be told apart.
    pub id: [u8; 16],
}

/// The most epochs an epoch descends from: how often a journal can be restored.
pub const ANCESTORS_MAX: usize = 16;

/// An epoch that another descends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The epoch.
    pub epoch: Epoch,
    /// The last of its revisions that was taken over.
    pub last: Revision,
}

impl Epoch {
    /// The first eight hexadecimal digits of the id, as revocation ids begin.
    #[must_use]
    pub fn prefix(&self) -> u32 {
        u32::from_be_bytes([self.id[0], self.id[1], self.id[2], self.id[3]])
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({}, {self})", self.generation)
    }
}

/// A bookmark in the log, written `"<epoch id, 32 hex digits>:<revision>"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The id of the epoch ([`Epoch::id`]).
    pub epoch: [u8; 16],
    /// The revision within it.
    pub revision: Revision,
}

/// Why a text is not a [`Position`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is 32 hexadecimal digits, a colon and a decimal revision")]
pub struct PositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.epoch.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ":{}", self.revision)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hex, revision) = text.split_once(':').ok_or(PositionError)?;
        if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PositionError);
        }
        let mut epoch = [0; 16];
        for (byte, pair) in epoch.iter_mut().zip(0..) {
            *byte = u8::from_str_radix(&hex[pair * 2..pair * 2 + 2], 16).map_err(|_| PositionError)?;
        }
        if revision.is_empty() || !revision.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PositionError);
        }
        let revision = Revision(revision.parse().map_err(|_| PositionError)?);
        Ok(Self { epoch, revision })
    }
}

/// Names one accepted revocation: `"<epoch8>-<revision>-<index>"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId {
    /// The first 32 bits of the epoch id ([`Epoch::prefix`]).
    pub epoch_prefix: u32,
    /// The revision that accepted it.
    pub revision: Revision,
    /// Its place among the revocations of that revision, from 0.
    pub index: u32,
}

/// Why a text is not a [`RevocationId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a revocation id is eight hexadecimal digits, a revision and an index, joined by dashes")]
pub struct RevocationIdError;

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.epoch_prefix, self.revision, self.index)
    }
}

impl FromStr for RevocationId {
    type Err = RevocationIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let (Some(prefix), Some(revision), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(RevocationIdError);
        };
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if prefix.len() != 8 || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) || !digits(revision) || !digits(index) {
            return Err(RevocationIdError);
        }
        Ok(Self {
            epoch_prefix: u32::from_str_radix(prefix, 16).map_err(|_| RevocationIdError)?,
            revision: Revision(revision.parse().map_err(|_| RevocationIdError)?),
            index: index.parse().map_err(|_| RevocationIdError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_ids_round_trip_through_text() {
        let position = Position { epoch: [0xab; 16], revision: Revision(42) };
        assert_eq!(position.to_string().parse(), Ok(position));
        let id = RevocationId { epoch_prefix: 0x00ab_cdef, revision: Revision(7), index: 3 };
        assert_eq!(id.to_string(), "00abcdef-7-3");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn malformed_positions_and_ids_are_refused() {
        for text in ["", ":", "ab:1", "zz:1", &format!("{}:", "ab".repeat(16)), &format!("{}:+1", "ab".repeat(16))] {
            assert_eq!(text.parse::<Position>(), Err(PositionError), "{text}");
        }
        for text in ["", "00abcdef-1", "00abcdef-1-2-3", "00abcdef-+1-2", "abc-1-2", "00abcdef--2"] {
            assert_eq!(text.parse::<RevocationId>(), Err(RevocationIdError), "{text}");
        }
    }
}
