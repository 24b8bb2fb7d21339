//! One revision's change to the state, as every replica applies it.
//!
//! Upserts carry the resulting entry, not the operation: replicas overwrite, never merge, and replay is a no-op.
//! The canonical bytes are what the journal keeps, what the chain runs over, and what `docs/design/protocol.md` states.

use std::sync::Arc;

use super::codec::{DecodeError, Reader};
use super::digest::Digest;
use super::entry::{EXCEPTIONS_MAX, Exception, PackedEntry};
use super::fingerprint::Fingerprint;
use super::policy::Policy;
use super::position::Revision;
use super::selector::Shape;
use super::time::{Cutoff, Minute, UnixMillis};
use super::verification::VersionedPolicy;

/// The most upserts and removals one delta may hold: twice the largest request, so that requests share revisions.
pub const CHANGES_MAX: usize = 20_000;
/// A logged policy follows.
const HAS_POLICY: u8 = 1;
/// A verification policy follows. Deltas without one have the bytes that they had before there were any.
const HAS_VERIFICATION: u8 = 1 << 1;

/// The change made by exactly one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The revision that makes it.
    pub revision: Revision,
    /// The wall clock of the server that wrote it; may step back.
    pub source_time: UnixMillis,
    /// The expiry floor after it; never lower than before.
    pub floor: Minute,
    /// Shapes that become active, sorted.
    pub shapes_added: Vec<Shape>,
    /// Shapes that have no live entry left, sorted.
    pub shapes_retired: Vec<Shape>,
    /// The resulting entries, sorted by fingerprint, unique.
    pub upserts: Vec<(Fingerprint, PackedEntry)>,
    /// The exceptions of exactly those upserts whose flag says so, in the order of the upserts.
    pub extended: Vec<Vec<Exception>>,
    /// Entries taken away, sorted by fingerprint, unique, none of them an upsert.
    pub removals: Vec<Fingerprint>,
    /// The logged policy, when it changes.
    pub policy: Option<Policy>,
    /// The verification policy, when it changes.
    pub verification: Option<Arc<VersionedPolicy>>,
    /// The digest of the state after it.
    pub digest_after: Digest,
}

impl Delta {
    /// A change of nothing but the time.
    #[must_use]
    pub fn empty(revision: Revision, source_time: UnixMillis, floor: Minute) -> Self {
        Self {
            revision,
            source_time,
            floor,
            shapes_added: Vec::new(),
            shapes_retired: Vec::new(),
            upserts: Vec::new(),
            extended: Vec::new(),
            removals: Vec::new(),
            policy: None,
            verification: None,
            digest_after: Digest::default(),
        }
    }

    /// The canonical bytes.
    ///
    /// u64le revision ‖ u64le source time (ms) ‖ u32le floor (min) ‖ u8 count ‖ shapes added ‖ u8 count ‖ shapes retired ‖
    /// u32le count ‖ upserts (16 B fingerprint ‖ u64le entry) ‖ for each upsert with the exceptions flag: exceptions ‖
    /// u32le count ‖ removals (16 B) ‖ u8 what follows (bit 0: a logged policy, bit 1: a
    /// verification policy) ‖ logged policy ‖ verification policy ([`VersionedPolicy::encode`]) ‖ u128le digest after.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.upserts.len() * 24 + self.removals.len() * 16);
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.source_time.0.to_le_bytes());
        out.extend_from_slice(&self.floor.bits().to_le_bytes());
        for shapes in [&self.shapes_added, &self.shapes_retired] {
            out.push(shapes.len() as u8);
            shapes.iter().for_each(|shape| shape.encode(&mut out));
        }
        out.extend_from_slice(&(self.upserts.len() as u32).to_le_bytes());
        for (fingerprint, entry) in &self.upserts {
            out.extend_from_slice(&fingerprint.to_bytes());
            out.extend_from_slice(&entry.bits().to_le_bytes());
        }
        self.extended.iter().for_each(|exceptions| encode_exceptions(exceptions, &mut out));
        out.extend_from_slice(&(self.removals.len() as u32).to_le_bytes());
        for fingerprint in &self.removals {
            out.extend_from_slice(&fingerprint.to_bytes());
        }
        let verification = if self.verification.is_some() { HAS_VERIFICATION } else { 0 };
        out.push(u8::from(self.policy.is_some()) | verification);
        if let Some(policy) = &self.policy {
            out.extend_from_slice(&policy.encode());
        }
        if let Some(verification) = &self.verification {
            out.extend_from_slice(&verification.encode());
        }
        out.extend_from_slice(&self.digest_after.to_bytes());
        out
    }

    /// The inverse of [`Delta::encode`]: accepts canonical bytes only.
    ///
    /// # Errors
    /// When the bytes end early, go on too long, are out of order, or break a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let revision = Revision(reader.u64()?);
        let source_time = UnixMillis(reader.u64()?);
        let floor = reader.minute()?;
        let shapes_added = read_shapes(&mut reader)?;
        let shapes_retired = read_shapes(&mut reader)?;
        let mut delta = Self { shapes_added, shapes_retired, ..Self::empty(revision, source_time, floor) };
        let count = reader.count(CHANGES_MAX, 24, "upserts")?;
        for _ in 0..count {
            let entry = (reader.fingerprint()?, reader.entry()?);
            delta.upserts.push(entry);
        }
        for _ in delta.upserts.iter().filter(|(_, entry)| entry.has_exceptions()) {
            delta.extended.push(read_exceptions(&mut reader)?);
        }
        let count = reader.count(CHANGES_MAX, 16, "removals")?;
        for _ in 0..count {
            delta.removals.push(reader.fingerprint()?);
        }
        let follows = reader.u8()?;
        if follows & !(HAS_POLICY | HAS_VERIFICATION) != 0 {
            return Err(DecodeError::Invalid("policy flags"));
        }
        if follows & HAS_POLICY != 0 {
            delta.policy = Some(Policy::read(&mut reader)?);
        }
        if follows & HAS_VERIFICATION != 0 {
            delta.verification = Some(Arc::new(VersionedPolicy::read(&mut reader)?));
        }
        delta.digest_after = Digest::from_bytes(reader.array()?);
        reader.finish()?;
        delta.validate()?;
        Ok(delta)
    }

    /// The exceptions of the upserts, each beside its fingerprint.
    pub fn extended_entries(&self) -> impl Iterator<Item = (Fingerprint, &[Exception])> {
        let flagged = self.upserts.iter().filter(|(_, entry)| entry.has_exceptions());
        flagged.zip(&self.extended).map(|((fingerprint, _), exceptions)| (*fingerprint, exceptions.as_slice()))
    }

    /// Checks the order, uniqueness and limits stated on the fields. Decoding did; a delta made by hand may not have.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn validate(&self) -> Result<(), DecodeError> {
        if self.upserts.len() > CHANGES_MAX || self.removals.len() > CHANGES_MAX {
            return Err(DecodeError::TooMany { what: "changes", limit: CHANGES_MAX });
        }
        if !self.upserts.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Invalid("upserts are not sorted and unique"));
        }
        if !self.removals.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::Invalid("removals are not sorted and unique"));
        }
        if self.removals.iter().any(|f| self.upserts.binary_search_by_key(f, |(u, _)| *u).is_ok()) {
            return Err(DecodeError::Invalid("an upsert is also a removal"));
        }
        for shapes in [&self.shapes_added, &self.shapes_retired] {
            if !shapes.is_sorted_by(|a, b| a < b) {
                return Err(DecodeError::Invalid("shapes are not sorted and unique"));
            }
        }
        if self.upserts.iter().filter(|(_, entry)| entry.has_exceptions()).count() != self.extended.len() {
            return Err(DecodeError::Invalid("exceptions do not match their flags"));
        }
        self.extended.iter().try_for_each(|exceptions| validate_exceptions(exceptions))
    }
}

/// Appends u8 count ‖ per exception: shape ‖ 16 B fingerprint ‖ u64le reach (34 bits; all 64 set: none).
pub fn encode_exceptions(exceptions: &[Exception], out: &mut Vec<u8>) {
    out.push(exceptions.len() as u8);
    for exception in exceptions {
        exception.shape.encode(out);
        out.extend_from_slice(&exception.fingerprint.to_bytes());
        out.extend_from_slice(&exception.reach.map_or(u64::MAX, Cutoff::bits).to_le_bytes());
    }
}

/// The inverse of [`encode_exceptions`].
///
/// # Errors
/// When the bytes are not canonical.
pub fn read_exceptions(reader: &mut Reader<'_>) -> Result<Vec<Exception>, DecodeError> {
    let count = reader.u8()?;
    let mut exceptions = Vec::with_capacity(EXCEPTIONS_MAX);
    for _ in 0..count {
        let shape = reader.shape()?;
        let fingerprint = reader.fingerprint()?;
        let reach = match reader.u64()? {
            u64::MAX => None,
            bits if bits <= Cutoff::UNBOUNDED.bits() => Some(Cutoff::from_bits(bits)),
            _ => return Err(DecodeError::Invalid("exception reach")),
        };
        exceptions.push(Exception { shape, fingerprint, reach });
        if exceptions.len() > EXCEPTIONS_MAX {
            return Err(DecodeError::TooMany { what: "exceptions", limit: EXCEPTIONS_MAX });
        }
    }
    validate_exceptions(&exceptions)?;
    Ok(exceptions)
}

fn validate_exceptions(exceptions: &[Exception]) -> Result<(), DecodeError> {
    if exceptions.is_empty() || exceptions.len() > EXCEPTIONS_MAX {
        return Err(DecodeError::Invalid("number of exceptions"));
    }
    if !exceptions.is_sorted_by(|a, b| (&a.shape, a.fingerprint) < (&b.shape, b.fingerprint)) {
        return Err(DecodeError::Invalid("exceptions are not sorted and unique"));
    }
    Ok(())
}

fn read_shapes(reader: &mut Reader<'_>) -> Result<Vec<Shape>, DecodeError> {
    let count = reader.u8()?;
    (0..count).map(|_| reader.shape()).collect()
}
