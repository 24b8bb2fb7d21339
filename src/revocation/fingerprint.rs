//! The keyed 128-bit hash of a selector: all that a replica ever learns of it.
//!
//! Encoding (`docs/design/fingerprint.md`): SipHash-2-4-128 under the set key of
//! `"rescind/fp/1\0"` ‖ u8 pair count ‖ for each pair, sorted by name bytes: u16le length ‖ name ‖ u16le length ‖ value.
//! A selector that tests `auth_time` has one more pair, last and counted: the name `@auth_time` with an empty value,
//! which no claim can have.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::selector::{Selector, Shape, TestedClaim};

const DOMAIN: &[u8] = b"rescind/fp/1\0";
const AUTH_TIME_MARK: &[u8] = b"@auth_time";

/// The secret 16 bytes under which an epoch's fingerprints and digests are computed.
///
/// Whoever holds it can test guesses at what is revoked. `Debug` hides it and dropping wipes it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SetKey([u8; 16]);

impl SetKey {
    /// The key made of these (random) bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storage and for authenticated subscribers only.
    #[must_use]
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// The fingerprint of a selector.
    #[must_use]
    pub fn fingerprint(&self, selector: &Selector) -> Fingerprint {
        let mut hasher = FingerprintHasher::new(self, &selector.shape());
        for (name, value) in selector.pairs() {
            hasher.pair(name, value);
        }
        hasher.finish()
    }

    /// The keyed hash of `bytes` under a domain of its own, as the digest uses it.
    #[must_use]
    pub(super) fn hash128(&self, domain: &[u8], bytes: &[u8]) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(domain);
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }
}

impl fmt::Debug for SetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetKey(hidden)")
    }
}

/// A selector's keyed hash: two words, little-endian when written as bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fingerprint(pub [u64; 2]);

impl Fingerprint {
    /// The 16 bytes, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }

    /// The inverse of [`Fingerprint::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let whole = u128::from_le_bytes(bytes);
        Self([whole as u64, (whole >> 64) as u64])
    }
}

/// A prefix only: with the key, a whole fingerprint would confirm a guess.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:04x}…)", self.0[0] as u16)
    }
}

/// The hash of a shape's constant beginning, ready to be cloned and fed the values of many tokens.
#[derive(Clone)]
pub(super) struct FingerprintHasher {
    hasher: SipHasher24,
    tested: TestedClaim,
}

impl FingerprintHasher {
    /// Begins a fingerprint of this shape. Its pairs must follow in the shape's order.
    pub(super) fn new(key: &SetKey, shape: &Shape) -> Self {
        let mut hasher = SipHasher24::new_with_key(&key.0);
        hasher.write(DOMAIN);
        let mark = u8::from(shape.tested() == TestedClaim::AuthTime);
        hasher.write(&[shape.names().len() as u8 + mark]);
        Self { hasher, tested: shape.tested() }
    }

    /// Feeds the next pair. Name and value are within their limits, hence below 2^16 bytes.
    #[inline]
    pub(super) fn pair(&mut self, name: &str, value: &str) {
        self.name(name);
        self.value(value);
    }

    #[inline]
    pub(super) fn name(&mut self, name: &str) {
        self.hasher.write_u16((name.len() as u16).to_le());
        self.hasher.write(name.as_bytes());
    }

    #[inline]
    pub(super) fn value(&mut self, value: &str) {
        self.hasher.write_u16((value.len() as u16).to_le());
        self.hasher.write(value.as_bytes());
    }

    #[inline]
    pub(super) fn finish(mut self) -> Fingerprint {
        if self.tested == TestedClaim::AuthTime {
            self.hasher.write(&(AUTH_TIME_MARK.len() as u16).to_le_bytes());
            self.hasher.write(AUTH_TIME_MARK);
            self.hasher.write(&0u16.to_le_bytes());
        }
        let hash = self.hasher.finish128();
        Fingerprint([hash.h1, hash.h2])
    }
}
