//! Reading the core's binary encodings: little-endian, length-prefixed, every count bounded before it is believed.

#[cfg(test)]
mod tests;

use super::entry::PackedEntry;
use super::fingerprint::Fingerprint;
use super::selector::Shape;
use super::time::Minute;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("ends early")]
    EndsEarly,
    /// Bytes are left over behind the value.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A count over its limit.
    #[error("more than {limit} {what}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A field with a value it cannot have.
    #[error("invalid: {0}")]
    Invalid(&'static str),
}

/// Takes values off the front of a slice.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::EndsEarly`], as for all that follow.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(DecodeError::EndsEarly)?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(DecodeError::EndsEarly)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A u32 count of items of at least `item_bytes` each, refused over `limit` or when the bytes cannot hold them.
    ///
    /// # Errors
    /// [`DecodeError::TooMany`], or as [`Reader::take`].
    pub fn count(&mut self, limit: usize, item_bytes: usize, what: &'static str) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > limit {
            return Err(DecodeError::TooMany { what, limit });
        }
        if count * item_bytes > self.rest.len() {
            return Err(DecodeError::EndsEarly);
        }
        Ok(count)
    }

    /// A fingerprint.
    ///
    /// # Errors
    /// As [`Reader::take`].
    pub fn fingerprint(&mut self) -> Result<Fingerprint, DecodeError> {
        Ok(Fingerprint::from_bytes(self.array()?))
    }

    /// A packed entry.
    ///
    /// # Errors
    /// When its reserved bit is set, or as [`Reader::take`].
    pub fn entry(&mut self) -> Result<PackedEntry, DecodeError> {
        PackedEntry::from_bits(self.u64()?).map_err(|_| DecodeError::Invalid("entry"))
    }

    /// A minute, as a u32.
    ///
    /// # Errors
    /// When it does not fit 28 bits, or as [`Reader::take`].
    pub fn minute(&mut self) -> Result<Minute, DecodeError> {
        let bits = self.u32()?;
        if bits > Minute::NEVER.bits() {
            return Err(DecodeError::Invalid("minute"));
        }
        Ok(Minute::from_bits(bits))
    }

    /// A shape.
    ///
    /// # Errors
    /// When it is not canonical.
    pub fn shape(&mut self) -> Result<Shape, DecodeError> {
        Shape::decode(&mut self.rest).map_err(|_| DecodeError::Invalid("shape"))
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] when bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}
