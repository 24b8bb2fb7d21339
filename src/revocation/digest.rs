//! The running digest of the state, and the chain over its history.
//!
//! The digest is a sum modulo 2^128 of a keyed hash of each part of the state: constant work per change, and the same
//! whatever the order. It finds faults; it proves nothing against somebody who holds the key: the signed chain does.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::delta::encode_exceptions;
use super::entry::{Exception, PackedEntry};
use super::fingerprint::{Fingerprint, SetKey};
use super::policy::Policy;
use super::selector::Shape;
use super::time::Minute;
use super::verification::VersionedPolicy;

const DOMAIN: &[u8] = b"rescind/digest/1\0";

/// A sum of keyed hashes; 16 bytes, little-endian.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// This digest with a part added.
    #[must_use]
    pub fn plus(self, part: Digest) -> Self {
        Self(self.0.wrapping_add(part.0))
    }

    /// This digest with a part taken away.
    #[must_use]
    pub fn minus(self, part: Digest) -> Self {
        Self(self.0.wrapping_sub(part.0))
    }

    /// The 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The inverse of [`Digest::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }

    /// The part of one live entry with its exceptions: 1 ‖ fingerprint ‖ u64le entry ‖ exceptions if flagged.
    #[must_use]
    pub fn of_entry(key: &SetKey, fingerprint: Fingerprint, entry: PackedEntry, exceptions: &[Exception]) -> Self {
        let mut plain = [1; 25];
        plain[1..17].copy_from_slice(&fingerprint.to_bytes());
        plain[17..].copy_from_slice(&entry.bits().to_le_bytes());
        if !entry.has_exceptions() {
            return Self(key.hash128(DOMAIN, &plain));
        }
        let mut bytes = plain.to_vec();
        encode_exceptions(exceptions, &mut bytes);
        Self(key.hash128(DOMAIN, &bytes))
    }

    /// The part of one active shape: 2 ‖ shape.
    #[must_use]
    pub fn of_shape(key: &SetKey, shape: &Shape) -> Self {
        let mut bytes = vec![2];
        shape.encode(&mut bytes);
        Self(key.hash128(DOMAIN, &bytes))
    }

    /// The part of the expiry floor: 3 ‖ u32le minute.
    #[must_use]
    pub fn of_floor(key: &SetKey, floor: Minute) -> Self {
        let mut bytes = [3; 5];
        bytes[1..].copy_from_slice(&floor.bits().to_le_bytes());
        Self(key.hash128(DOMAIN, &bytes))
    }

    /// The part of the logged policy: 4 ‖ policy.
    #[must_use]
    pub fn of_policy(key: &SetKey, policy: &Policy) -> Self {
        let mut bytes = vec![4];
        bytes.extend_from_slice(&policy.encode());
        Self(key.hash128(DOMAIN, &bytes))
    }

    /// The part of the verification policy: 5 ‖ its encoding; nothing when there is none.
    #[must_use]
    pub fn of_verification(key: &SetKey, verification: Option<&VersionedPolicy>) -> Self {
        let Some(verification) = verification else { return Self::default() };
        let mut bytes = vec![5];
        bytes.extend_from_slice(&verification.encode());
        Self(key.hash128(DOMAIN, &bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:032x})", self.0)
    }
}

/// SHA-256 over the canonical delta of each revision and the chain before it. All zero before the first revision.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain after a revision whose canonical delta is `delta`: SHA-256(this ‖ delta).
    #[must_use]
    pub fn next(&self, delta: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(delta).finalize().into())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain(")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}
