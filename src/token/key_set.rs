//! An issuer's public keys: a JWK set (RFC 7517), and what a signature is verified with.
//!
//! Keys that are for something else, of a kind that is not known, too weak, or malformed are passed over, as RFC 7517 §5 asks;
//! a set as a whole is refused for its size only, or for being none. What a token says of keys (`jwk`, `jku`, `x5u`, `x5c`) is
//! never looked at.

#[cfg(test)]
mod tests;

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

use crate::revocation::verification::Algorithm;

/// The largest JWK set, in bytes.
pub const KEY_SET_BYTES_MAX: usize = 1 << 20;
/// The most keys in a set, usable or not: large providers publish ten.
pub const KEYS_MAX: usize = 256;
/// The most keys that are tried for a token without `kid`.
const TRIED_MAX: usize = 8;
/// The lengths of an RSA modulus, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Public keys of one issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// Why there is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is too long.
    #[error("a key set has at most {KEY_SET_BYTES_MAX} bytes, {bytes} given")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It has too many keys.
    #[error("a key set has at most {KEYS_MAX} keys, {keys} given")]
    TooMany {
        /// How many it has.
        keys: usize,
    },
    /// It is no JWK set.
    #[error("not a JWK set, at line {line}, column {column}")]
    Malformed {
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// It has no key that could verify a signature.
    #[error("no key of the set can verify a signature: {keys} passed over")]
    NoneUsable {
        /// How many it has.
        keys: usize,
    },
}

/// A public key.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    kind: Kind,
    material: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Parses a JWK set.
    ///
    /// # Errors
    /// When it is none, is too large, or has no key of use.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLong { bytes: json.len() });
        }
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| KeySetError::Malformed { line: error.line(), column: error.column() })?;
        let given = document.keys.len();
        if given > KEYS_MAX {
            return Err(KeySetError::TooMany { keys: given });
        }
        let keys: Vec<Key> = document.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() { Err(KeySetError::NoneUsable { keys: given }) } else { Ok(Self { keys }) }
    }

    /// How many keys it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The keys that may have signed a token: with its `kid`, where it has one.
    pub(super) fn candidates<'a>(&'a self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &'a Key> {
        let named = move |key: &&Key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        self.keys.iter().filter(named).filter(move |key| key.fits(algorithm)).take(TRIED_MAX)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        kind_of(algorithm) == self.kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether `signature` over `message` is this key's.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self.material.kind(), algorithm) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, _) => rsa_parameters(algorithm).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).verify(message, signature).is_ok()
            }
            (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES384) => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, bytes).verify(message, signature).is_ok()
            }
            (DecodingKeyKind::SecretOrDer(bytes), Algorithm::EdDSA) => {
                UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature).is_ok()
            }
            (DecodingKeyKind::SecretOrDer(_), _) => false,
        }
    }
}

fn kind_of(algorithm: Algorithm) -> Kind {
    match algorithm {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512 => Kind::Rsa,
        Algorithm::ES256 => Kind::P256,
        Algorithm::ES384 => Kind::P384,
        Algorithm::EdDSA => Kind::Ed25519,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => None,
    }
}

/// A key that can verify signatures; `None` for any other.
fn key(json: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    if common.key_operations.as_ref().is_some_and(|ops| !ops.contains(&KeyOperations::Verify)) {
        return None;
    }
    let algorithm = match &common.key_algorithm {
        None => None,
        Some(only) => Some(Algorithm::named(&only.to_string())?),
    };
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Kind::Rsa,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Kind::P256,
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => Kind::P384,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Kind::Ed25519,
        _ => return None,
    };
    if algorithm.is_some_and(|only| kind_of(only) != kind) {
        return None;
    }
    let material = sound(kind, DecodingKey::from_jwk(&jwk).ok()?)?;
    Some(Key { kid: jwk.common.key_id, algorithm, kind, material })
}

/// A key of the length that its kind has, so that it is not found out at the first signature.
fn sound(kind: Kind, material: DecodingKey) -> Option<DecodingKey> {
    let is_long = |bytes: usize| matches!(material.kind(), DecodingKeyKind::SecretOrDer(point) if point.len() == bytes);
    match kind {
        Kind::Rsa => {
            let DecodingKeyKind::RsaModulusExponent { n, e } = material.kind() else { return None };
            // Some write a zero in front (RFC 7518 §6.3.1 forbids it).
            let [n, e] = [n, e].map(|number| &number[number.iter().take_while(|byte| **byte == 0).count()..]);
            let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
            RSA_BITS.contains(&bits).then(|| DecodingKey::from_rsa_raw_components(n, e))
        }
        Kind::P256 => is_long(65).then_some(material),
        Kind::P384 => is_long(97).then_some(material),
        Kind::Ed25519 => is_long(32).then_some(material),
    }
}
