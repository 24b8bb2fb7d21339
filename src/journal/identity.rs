//! Who a journal is: its epoch and the epoch's secrets.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::revocation::{DecodeError, Epoch, Reader, Revision, RevocationId, SetKey, UnixMillis};

/// The format that this program writes, and the latest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// What is fixed when a journal is created. `Debug` hides the secrets, dropping wipes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The history that the journal holds.
    pub epoch: Epoch,
    /// The epoch this one was restored from, and the last revision taken over.
    pub parent: Option<(Epoch, Revision)>,
    /// The key of the epoch's fingerprints and digests.
    pub set_key: SetKey,
    /// What the authority's signing key is made of.
    pub signing_seed: SigningSeed,
    /// The journal's format.
    pub format_version: u32,
    /// The wall clock at creation.
    pub created_at: UnixMillis,
}

/// The 32 secret bytes of an Ed25519 key (RFC 8032 §5.1.5).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SigningSeed([u8; 32]);

impl SigningSeed {
    /// The seed made of these (random) bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to make the key of.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SigningSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSeed(hidden)")
    }
}

impl Identity {
    /// A first identity: generation 1, no parent, everything else drawn from the system's randomness.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(created_at: UnixMillis) -> Result<Self, getrandom::Error> {
        let mut random = zeroize::Zeroizing::new([0; 64]);
        getrandom::fill(&mut *random)?;
        let mut reader = Reader::new(&*random);
        let mut take = || reader.array().unwrap_or([0; 16]);
        let (epoch, set_key, seed) = (take(), take(), [take(), take()]);
        let mut signing_seed = [0; 32];
        signing_seed[..16].copy_from_slice(&seed[0]);
        signing_seed[16..].copy_from_slice(&seed[1]);
        Ok(Self {
            epoch: Epoch { generation: 1, id: epoch },
            parent: None,
            set_key: SetKey::new(set_key),
            signing_seed: SigningSeed::new(signing_seed),
            format_version: FORMAT_VERSION,
            created_at,
        })
    }

    /// The id of the revocation at `index` of `revision`: it keeps the prefix of the epoch that accepted it.
    #[must_use]
    pub fn revocation_id(&self, revision: Revision, index: u32) -> RevocationId {
        let epoch = match &self.parent {
            Some((parent, last)) if revision <= *last => parent,
            _ => &self.epoch,
        };
        RevocationId { epoch_prefix: epoch.prefix(), revision, index }
    }

    /// u32le format ‖ u64le generation ‖ 16 B epoch ‖ u8 has parent ‖ (u64le generation ‖ 16 B epoch ‖ u64le revision) ‖
    /// 16 B set key ‖ 32 B signing seed ‖ u64le created at (ms).
    pub(super) fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = zeroize::Zeroizing::new(Vec::with_capacity(128));
        out.extend_from_slice(&self.format_version.to_le_bytes());
        encode_epoch(&self.epoch, &mut out);
        out.push(u8::from(self.parent.is_some()));
        if let Some((epoch, revision)) = &self.parent {
            encode_epoch(epoch, &mut out);
            out.extend_from_slice(&revision.0.to_le_bytes());
        }
        out.extend_from_slice(self.set_key.expose());
        out.extend_from_slice(self.signing_seed.expose());
        out.extend_from_slice(&self.created_at.0.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format_version = reader.u32()?;
        let epoch = read_epoch(&mut reader)?;
        let parent = match reader.u8()? {
            0 => None,
            1 => Some((read_epoch(&mut reader)?, Revision(reader.u64()?))),
            _ => return Err(DecodeError::Invalid("parent flag")),
        };
        let identity = Self {
            epoch,
            parent,
            set_key: SetKey::new(reader.array()?),
            signing_seed: SigningSeed::new(reader.array()?),
            format_version,
            created_at: UnixMillis(reader.u64()?),
        };
        reader.finish()?;
        Ok(identity)
    }

    /// What the first record's checksum is chained to, so that no record of another journal fits.
    pub(super) fn anchor(&self) -> [u8; 32] {
        Sha256::new().chain_update(b"rescind/journal/1\0").chain_update(&*self.encode()).finalize().into()
    }
}

fn encode_epoch(epoch: &Epoch, out: &mut Vec<u8>) {
    out.extend_from_slice(&epoch.generation.to_le_bytes());
    out.extend_from_slice(&epoch.id);
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<Epoch, DecodeError> {
    Ok(Epoch { generation: reader.u64()?, id: reader.array()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_round_trip_and_hide_their_secrets() {
        let mut identity = Identity::generate(UnixMillis(7)).unwrap();
        identity.parent = Some((Epoch { generation: 3, id: [9; 16] }, Revision(11)));
        assert_eq!(Identity::decode(&identity.encode()), Ok(identity.clone()));
        assert!(format!("{identity:?}").contains("SigningSeed(hidden)"));
        assert_ne!(identity.set_key, Identity::generate(UnixMillis(7)).unwrap().set_key);
    }

    #[test]
    fn ids_keep_the_prefix_of_the_epoch_that_accepted_them() {
        let mut identity = Identity::generate(UnixMillis(7)).unwrap();
        identity.parent = Some((Epoch { generation: 0, id: [9; 16] }, Revision(11)));
        assert_eq!(identity.revocation_id(Revision(11), 0).epoch_prefix, 0x0909_0909);
        assert_eq!(identity.revocation_id(Revision(12), 0).epoch_prefix, identity.epoch.prefix());
    }
}
