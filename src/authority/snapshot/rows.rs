//! One entry of the authority's snapshot: the entry, its shape, and the revocations behind it, as bytes.
//!
//! u128 fingerprint ‖ u64le entry ‖ u8 shape (its place in the header's table) ‖ exceptions, if flagged ‖ what stands
//! behind it: u8 kind; 0: one (u64le revision ‖ u32le index ‖ u8 basis); 1: several (u8 has base ‖ base ‖ u16le count ‖
//! per revocation: u64le revision ‖ u32le index ‖ u8 basis ‖ u64le entry bits ‖ u8 spares ‖ per spare: shape ‖ u128
//! fingerprint). A base is u64le entry ‖ exceptions, if flagged.

use crate::journal::ExpiryBasis;
use crate::revocation::{
    DecodeError, EXCEPTIONS_MAX, Entry, Exception, Fingerprint, Mark, PackedEntry, Reader, Revision, Shape,
    encode_exceptions, read_exceptions,
};

use crate::authority::ledger::{Live, LiveRevocation, Place, Stack, UNDOABLE_PER_SELECTOR_MAX};

/// A live entry with everything behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRow {
    /// Whose.
    pub fingerprint: Fingerprint,
    /// The claim names of its selector.
    pub shape: Shape,
    /// The entry.
    pub entry: Entry,
    /// What stands behind it.
    pub live: Live,
}

impl LiveRow {
    /// Appends the row; `shapes` is the header's table, which holds the row's shape.
    pub fn encode(&self, shapes: &[Shape], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint.to_bytes());
        encode_entry(&self.entry, out);
        let slot = shapes.binary_search(&self.shape).expect("the shape of a live entry is active");
        out.push(slot as u8);
        match &self.live {
            Live::One { revision, index, basis } => {
                out.push(0);
                encode_place(Place { revision: *revision, index: *index }, *basis, out);
            }
            Live::Many(stack) => {
                out.push(1);
                encode_stack(stack, out);
            }
        }
    }

    /// The row at the front of `reader`.
    ///
    /// # Errors
    /// When the bytes are not a row.
    pub fn decode(reader: &mut Reader<'_>, shapes: &[Shape]) -> Result<Self, DecodeError> {
        let fingerprint = reader.fingerprint()?;
        let entry = read_entry(reader)?;
        let shape = shapes.get(usize::from(reader.u8()?)).ok_or(DecodeError::Invalid("shape of a row"))?.clone();
        let live = match reader.u8()? {
            0 => {
                let (place, basis) = read_place(reader)?;
                Live::one(place, basis)
            }
            1 => Live::Many(Box::new(read_stack(reader)?)),
            _ => return Err(DecodeError::Invalid("kind of a row")),
        };
        Ok(Self { fingerprint, shape, entry, live })
    }
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.packed().bits().to_le_bytes());
    if !entry.exceptions.is_empty() {
        encode_exceptions(&entry.exceptions, out);
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let packed = reader.entry()?;
    let exceptions: Vec<Exception> = if packed.has_exceptions() { read_exceptions(reader)? } else { Vec::new() };
    Ok(Entry { cutoff: packed.cutoff(), expiry: packed.expiry(), exceptions })
}

fn encode_stack(stack: &Stack, out: &mut Vec<u8>) {
    out.push(u8::from(stack.base.is_some()));
    if let Some(base) = &stack.base {
        encode_entry(base, out);
    }
    out.extend_from_slice(&(stack.items.len() as u16).to_le_bytes());
    for item in &stack.items {
        encode_place(item.place, item.basis, out);
        out.extend_from_slice(&PackedEntry::new(item.mark.cutoff, item.mark.expiry, false).bits().to_le_bytes());
        out.push(item.mark.spares.len() as u8);
        for (shape, fingerprint) in &item.mark.spares {
            shape.encode(out);
            out.extend_from_slice(&fingerprint.to_bytes());
        }
    }
}

fn read_stack(reader: &mut Reader<'_>) -> Result<Stack, DecodeError> {
    let base = match reader.u8()? {
        0 => None,
        1 => Some(read_entry(reader)?),
        _ => return Err(DecodeError::Invalid("base flag")),
    };
    let count = usize::from(reader.u16()?);
    if count > UNDOABLE_PER_SELECTOR_MAX {
        return Err(DecodeError::TooMany { what: "revocations of one selector", limit: UNDOABLE_PER_SELECTOR_MAX });
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let (place, basis) = read_place(reader)?;
        let packed = reader.entry()?;
        let spares = usize::from(reader.u8()?);
        if spares > EXCEPTIONS_MAX {
            return Err(DecodeError::TooMany { what: "exceptions", limit: EXCEPTIONS_MAX });
        }
        let spares = (0..spares).map(|_| Ok((reader.shape()?, reader.fingerprint()?))).collect::<Result<_, _>>()?;
        items.push(LiveRevocation {
            place,
            mark: Mark { cutoff: packed.cutoff(), expiry: packed.expiry(), spares },
            basis,
        });
    }
    Ok(Stack { base, items })
}

fn encode_place(place: Place, basis: ExpiryBasis, out: &mut Vec<u8>) {
    out.extend_from_slice(&place.revision.0.to_le_bytes());
    out.extend_from_slice(&place.index.to_le_bytes());
    out.push(basis.code());
}

fn read_place(reader: &mut Reader<'_>) -> Result<(Place, ExpiryBasis), DecodeError> {
    let place = Place { revision: Revision(reader.u64()?), index: reader.u32()? };
    Ok((place, ExpiryBasis::from_code(reader.u8()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::{Cutoff, Minute, TestedClaim, UnixSeconds};

    #[test]
    fn rows_round_trip() {
        let shapes =
            vec![Shape::new(["jti"], TestedClaim::Iat).unwrap(), Shape::new(["sub"], TestedClaim::AuthTime).unwrap()];
        let mark = Mark {
            cutoff: Cutoff::at(UnixSeconds(10)).unwrap(),
            expiry: Minute::at(9).unwrap(),
            spares: vec![(shapes[0].clone(), Fingerprint([1, 2]))],
        };
        let entry = Entry::merge(None, &mark);
        let place = Place { revision: Revision(7), index: 3 };
        let one = Live::one(place, ExpiryBasis::TokenExp);
        let item = LiveRevocation { place, mark, basis: ExpiryBasis::Never };
        let several = Live::Many(Box::new(Stack { base: Some(entry.clone()), items: vec![item.clone(), item] }));
        let mut bytes = Vec::new();
        let rows = [one, several].map(|live| LiveRow {
            fingerprint: Fingerprint([5, 6]),
            shape: shapes[1].clone(),
            entry: entry.clone(),
            live,
        });
        rows.iter().for_each(|row| row.encode(&shapes, &mut bytes));
        let mut reader = Reader::new(&bytes);
        for row in rows {
            assert_eq!(LiveRow::decode(&mut reader, &shapes), Ok(row));
        }
        assert_eq!(reader.finish(), Ok(()));
    }
}
