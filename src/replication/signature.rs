//! What the authority signs: where it stands and when, and the bytes of a snapshot.
//!
//! A relay holds the set key and can compute any digest; only the authority can sign one. Together with the chain, a
//! relay can delay, but neither drop, invent nor freshen.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::revocation::{Chain, Digest, Epoch, Minute, Revision, UnixMillis};

const HEARTBEAT_DOMAIN: &[u8; 20] = b"rescind/heartbeat/1\0";
const SNAPSHOT_DOMAIN: &[u8; 19] = b"rescind/snapshot/1\0";

/// An Ed25519 public key (RFC 8032), as it is pinned. Not necessarily a valid point.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An Ed25519 signature (RFC 8032), not necessarily valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// The signature was not made by that key over that statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify under the pinned key")]
pub struct BadSignature;

/// The authority's signing key. `Debug` hides it and dropping wipes it.
pub struct Signer(SigningKey);

/// What one signature is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The protocol version.
    pub protocol: u32,
    /// The epoch.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    /// The digest at the revision.
    pub digest: Digest,
    /// The chain at the revision.
    pub chain: Chain,
    /// The expiry floor at the revision.
    pub floor: Minute,
    /// Of a heartbeat: the authority's time when it signs. Of a snapshot: the time that its revision stated.
    pub source_time: UnixMillis,
}

impl Statement {
    /// The bytes signed for a heartbeat: `"rescind/heartbeat/1\0"` ‖ u32le protocol ‖ u64le epoch generation ‖ 16 B epoch
    /// id ‖ u64le revision ‖ u128le digest ‖ 32 B chain ‖ u32le floor (min) ‖ u64le source time (ms).
    #[must_use]
    pub fn heartbeat_bytes(&self) -> Vec<u8> {
        self.encode(HEARTBEAT_DOMAIN)
    }

    /// The bytes signed for a snapshot: `"rescind/snapshot/1\0"`, the same fields, and its SHA-256.
    #[must_use]
    pub fn snapshot_bytes(&self, sha256: &[u8; 32]) -> Vec<u8> {
        let mut bytes = self.encode(SNAPSHOT_DOMAIN);
        bytes.extend_from_slice(sha256);
        bytes
    }

    fn encode(&self, domain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(domain);
        out.extend_from_slice(&self.protocol.to_le_bytes());
        out.extend_from_slice(&self.epoch.generation.to_le_bytes());
        out.extend_from_slice(&self.epoch.id);
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.digest.to_bytes());
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(&self.floor.bits().to_le_bytes());
        out.extend_from_slice(&self.source_time.0.to_le_bytes());
        out
    }
}

impl Signer {
    /// The key made of this (random) seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What replicas pin.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes of a domain of their own.
    pub(super) fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }

    /// Signs a heartbeat.
    #[must_use]
    pub fn sign_heartbeat(&self, statement: &Statement) -> Signature {
        self.sign(&statement.heartbeat_bytes())
    }

    /// Signs a snapshot.
    #[must_use]
    pub fn sign_snapshot(&self, statement: &Statement, sha256: &[u8; 32]) -> Signature {
        self.sign(&statement.snapshot_bytes(sha256))
    }
}

impl PublicKey {
    /// Verifies a heartbeat, strictly (no small-order keys, no malleable signatures).
    ///
    /// # Errors
    /// When the signature was not made by this key over this statement.
    pub fn verify_heartbeat(&self, statement: &Statement, signature: &Signature) -> Result<(), BadSignature> {
        self.verify(&statement.heartbeat_bytes(), signature)
    }

    /// Verifies a snapshot, strictly.
    ///
    /// # Errors
    /// As [`PublicKey::verify_heartbeat`].
    pub fn verify_snapshot(
        &self,
        statement: &Statement,
        sha256: &[u8; 32],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        self.verify(&statement.snapshot_bytes(sha256), signature)
    }

    /// Verifies bytes of a domain of their own, strictly.
    pub(super) fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        key.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(&signature.0)).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(hidden)")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is not a [`PublicKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a public key is 64 hexadecimal digits, as rescind status shows it")]
pub struct PublicKeyError;

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PublicKeyError);
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(0..) {
            *byte = u8::from_str_radix(&text[pair * 2..pair * 2 + 2], 16).map_err(|_| PublicKeyError)?;
        }
        Ok(Self(key))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_reads_back_what_it_shows() {
        let key = PublicKey([0xa5; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "a5", &"g5".repeat(32), &"a5".repeat(33), &"é".repeat(32)] {
            assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyError), "{text}");
        }
    }

    fn statement() -> Statement {
        Statement {
            protocol: 1,
            epoch: Epoch { generation: 2, id: [3; 16] },
            revision: Revision(4),
            digest: Digest::from_bytes([5; 16]),
            chain: Chain([6; 32]),
            floor: Minute::from_bits(7),
            source_time: UnixMillis(8),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes are part of the protocol: a change here is a new protocol version.
    #[test]
    fn statements_have_golden_bytes() {
        let fields = [
            "01000000",
            "0200000000000000",
            &"03".repeat(16),
            "0400000000000000",
            &"05".repeat(16),
            &"06".repeat(32),
            "07000000",
            "0800000000000000",
        ]
        .concat();
        let heartbeat = format!("{}{fields}", hex(b"rescind/heartbeat/1\0"));
        assert_eq!(hex(&statement().heartbeat_bytes()), heartbeat);
        let snapshot = format!("{}{fields}{}", hex(b"rescind/snapshot/1\0"), "09".repeat(32));
        assert_eq!(hex(&statement().snapshot_bytes(&[9; 32])), snapshot);
    }

    #[test]
    fn signatures_have_golden_bytes() {
        let signer = Signer::from_seed(&[1; 32]);
        assert_eq!(signer.public_key().to_string(), "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
        assert_eq!(hex(&signer.sign_heartbeat(&statement()).0), GOLDEN_HEARTBEAT);
        assert_eq!(hex(&signer.sign_snapshot(&statement(), &[9; 32]).0), GOLDEN_SNAPSHOT);
    }

    // Computed by Python's `cryptography` from the bytes above.
    const GOLDEN_HEARTBEAT: &str = concat!(
        "829db57ebc162d354214315ebce8ba475cb2c9cbde5156360d37c5c3363ec5f9",
        "f49c3f84b8a0e4ec6cf9519fd89a1a3d4d5c97243651c0b2de88eaab23a09501",
    );
    const GOLDEN_SNAPSHOT: &str = concat!(
        "e3c9551802ef8a20b40bf1da5ccddb910d6e6479c21d63d11ce1d02bf0a3f0f5",
        "3d81ea59e9603ee082275f3bd3df85ff8055ddbbca2b892c3d7dbed3599c7b01",
    );

    #[test]
    fn a_signature_is_valid_for_its_statement_kind_and_key_only() {
        let signer = Signer::from_seed(&[1; 32]);
        let key = signer.public_key();
        let signature = signer.sign_heartbeat(&statement());
        assert_eq!(key.verify_heartbeat(&statement(), &signature), Ok(()));
        let fresher = Statement { source_time: UnixMillis(9), ..statement() };
        assert_eq!(key.verify_heartbeat(&fresher, &signature), Err(BadSignature));
        assert_eq!(key.verify_snapshot(&statement(), &[9; 32], &signature), Err(BadSignature));
        let other = Signer::from_seed(&[2; 32]).public_key();
        assert_eq!(other.verify_heartbeat(&statement(), &signature), Err(BadSignature));
        assert_eq!(PublicKey([0; 32]).verify_heartbeat(&statement(), &signature), Err(BadSignature));
    }

    #[test]
    fn the_signer_does_not_show_itself() {
        assert_eq!(format!("{:?}", Signer::from_seed(&[7; 32])), "Signer(hidden)");
    }
}
