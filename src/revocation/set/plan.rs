//! What a delta would do to the set: validated and computed whole before anything is touched.

use std::collections::BTreeSet;

use super::strength::Strength;
use super::writer::SetWriter;
use crate::revocation::SHAPES_MAX;
use crate::revocation::codec::DecodeError;
use crate::revocation::delta::Delta;
use crate::revocation::digest::Digest;
use crate::revocation::entry::{Exception, PackedEntry};
use crate::revocation::fingerprint::{Fingerprint, SetKey};
use crate::revocation::position::Revision;
use crate::revocation::selector::Shape;
use crate::revocation::time::Minute;

/// A validated delta, resolved against the state it is for.
pub(super) struct Plan<'d> {
    /// The digest of the state after it.
    pub(super) digest: Digest,
    /// What happens to each entry it names.
    pub(super) steps: Vec<Step<'d>>,
    /// The shapes after it, when they change.
    pub(super) shapes: Option<Vec<Shape>>,
    /// Whether some token that was revoked no longer is.
    pub(super) weakens: bool,
}

/// What happens to one entry.
pub(super) struct Step<'d> {
    pub(super) fingerprint: Fingerprint,
    /// Its part in the ledger, if it is live before.
    pub(super) before: Option<Part>,
    /// The entry and its part in the ledger, if it is live after.
    pub(super) after: Option<(PackedEntry, &'d [Exception], Part)>,
    pub(super) weakens: bool,
}

/// What an entry contributes to the ledger.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) expiry: Minute,
    pub(super) digest: Digest,
}

/// Why a delta does not fit the set. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// The set has it already: a replay, to be ignored.
    #[error("revision {given} is not after {current}")]
    Stale {
        /// The set's revision.
        current: Revision,
        /// The delta's.
        given: Revision,
    },
    /// Revisions in between are missing.
    #[error("revision {given} does not follow {current}")]
    Gap {
        /// The set's revision.
        current: Revision,
        /// The delta's.
        given: Revision,
    },
    /// The delta breaks a rule that concerns it alone.
    #[error("malformed delta: {0}")]
    Malformed(#[from] DecodeError),
    /// The floor would step back, or take everything away.
    #[error("the expiry floor cannot move from minute {} to {}", current.bits(), given.bits())]
    Floor {
        /// The set's floor.
        current: Minute,
        /// The delta's.
        given: Minute,
    },
    /// A shape is added that is active.
    #[error("shape ({0}) is already active")]
    ShapeAlreadyActive(Shape),
    /// A shape is retired that is not active.
    #[error("shape ({0}) is not active")]
    ShapeNotActive(Shape),
    /// More shapes than may be active at once.
    #[error("at most {limit} shapes may be active, {given} would be")]
    TooManyShapes {
        /// The limit.
        limit: usize,
        /// How many there would be.
        given: usize,
    },
    /// The version of its verification policy does not follow the one in force.
    #[error("version {given} of the verification policy does not follow {current}")]
    VerificationVersion {
        /// The version in force; 0: there is none.
        current: u64,
        /// The delta's.
        given: u64,
    },
    /// The state after it is not the one that its author had.
    #[error("revision {revision} ends with another digest than its author's")]
    DigestMismatch {
        /// The delta's revision.
        revision: Revision,
    },
}

impl<'d> Plan<'d> {
    pub(super) fn new(writer: &SetWriter, delta: &'d Delta) -> Result<Self, StageError> {
        let current = writer.revision();
        if delta.revision <= current {
            return Err(StageError::Stale { current, given: delta.revision });
        }
        if delta.revision != current.next() {
            return Err(StageError::Gap { current, given: delta.revision });
        }
        delta.validate()?;
        if delta.floor < writer.floor() || delta.floor == Minute::NEVER {
            return Err(StageError::Floor { current: writer.floor(), given: delta.floor });
        }
        if let Some(given) = delta.verification.as_ref().map(|verification| verification.version) {
            let current = writer.verification().map_or(0, |verification| verification.version);
            if current.checked_add(1) != Some(given) {
                return Err(StageError::VerificationVersion { current, given });
            }
        }
        let shapes = shapes_after(writer.shapes(), delta)?;
        let steps = steps(writer, delta);
        let digest = digest_after(writer, delta, shapes.as_deref(), &steps);
        let floor_expires = writer.ledger().live_above(delta.floor) != writer.ledger().live();
        let weakens = floor_expires || !delta.shapes_retired.is_empty() || steps.iter().any(|step| step.weakens);
        Ok(Self { digest, steps, shapes, weakens })
    }
}

/// The upserts with their exceptions.
pub(super) fn upserts(delta: &Delta) -> impl Iterator<Item = (Fingerprint, PackedEntry, &[Exception])> {
    let mut extended = delta.extended.iter();
    delta.upserts.iter().map(move |(fingerprint, entry)| {
        let exceptions = if entry.has_exceptions() { extended.next().map_or(&[][..], Vec::as_slice) } else { &[] };
        (*fingerprint, *entry, exceptions)
    })
}

fn shapes_after(active: &[Shape], delta: &Delta) -> Result<Option<Vec<Shape>>, StageError> {
    if delta.shapes_added.is_empty() && delta.shapes_retired.is_empty() {
        return Ok(None);
    }
    let mut shapes: BTreeSet<&Shape> = active.iter().collect();
    for shape in &delta.shapes_added {
        if !shapes.insert(shape) {
            return Err(StageError::ShapeAlreadyActive(shape.clone()));
        }
    }
    for shape in &delta.shapes_retired {
        if !shapes.remove(shape) {
            return Err(StageError::ShapeNotActive(shape.clone()));
        }
    }
    if shapes.len() > SHAPES_MAX {
        return Err(StageError::TooManyShapes { limit: SHAPES_MAX, given: shapes.len() });
    }
    Ok(Some(shapes.into_iter().cloned().collect()))
}

fn steps<'d>(writer: &SetWriter, delta: &'d Delta) -> Vec<Step<'d>> {
    let key = writer.key();
    let upserts = upserts(delta).map(|(fingerprint, entry, exceptions)| {
        let found = writer.find_live(fingerprint);
        let live_after = entry.expiry() > delta.floor;
        let strength = Strength { entry, exceptions };
        let weakens = found.as_ref().is_some_and(|old| {
            !live_after || !strength.covers(Strength { entry: old.entry, exceptions: old.exceptions() })
        });
        let before = found.map(|old| Part {
            expiry: old.entry.expiry(),
            digest: Digest::of_entry(key, fingerprint, old.entry, old.exceptions()),
        });
        let after = live_after.then(|| {
            let digest = Digest::of_entry(key, fingerprint, entry, exceptions);
            (entry, exceptions, Part { expiry: entry.expiry(), digest })
        });
        Step { fingerprint, before, after, weakens }
    });
    let removals = delta.removals.iter().map(|fingerprint| {
        let before = writer.find_live(*fingerprint).map(|old| Part {
            expiry: old.entry.expiry(),
            digest: Digest::of_entry(key, *fingerprint, old.entry, old.exceptions()),
        });
        Step { fingerprint: *fingerprint, weakens: before.is_some(), before, after: None }
    });
    upserts.chain(removals).collect()
}

/// The floor takes whole minutes away; what it leaves of the entries named is exchanged one by one.
fn digest_after(writer: &SetWriter, delta: &Delta, shapes: Option<&[Shape]>, steps: &[Step<'_>]) -> Digest {
    let mut entries = writer.ledger().live_above(delta.floor);
    for step in steps {
        if let Some(part) = step.before.filter(|part| part.expiry > delta.floor) {
            entries.take(part.digest);
        }
        if let Some((_, _, part)) = step.after {
            entries.add(part.digest);
        }
    }
    let key = writer.key();
    let shapes = shapes.map_or(writer.shapes_digest(), |shapes| digest_of_shapes(key, shapes));
    let policy = delta.policy.map_or(writer.policy_digest(), |policy| Digest::of_policy(key, &policy));
    let verification = match &delta.verification {
        Some(verification) => Digest::of_verification(key, Some(verification)),
        None => writer.verification_digest(),
    };
    entries.digest.plus(shapes).plus(policy).plus(verification).plus(Digest::of_floor(key, delta.floor))
}

pub(super) fn digest_of_shapes(key: &SetKey, shapes: &[Shape]) -> Digest {
    shapes.iter().fold(Digest::default(), |sum, shape| sum.plus(Digest::of_shape(key, shape)))
}
