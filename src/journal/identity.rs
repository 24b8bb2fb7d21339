//! Who a journal is: its epoch and the epoch's secrets.

use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::revocation::{
    ANCESTORS_MAX, Ancestor, DecodeError, Epoch, Reader, Revision, RevocationId, SetKey, UnixMillis,
};

/// The format that this program writes, and the latest it reads.
pub const FORMAT_VERSION: u32 = 3;

/// What is fixed when a journal is created or restored. `Debug` hides the secrets, dropping wipes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The history that the journal holds.
    pub epoch: Epoch,
    /// The epochs that this one descends from, its parent first. Neither generations nor revisions rise along it.
    pub ancestors: Vec<Ancestor>,
    /// The key of the fingerprints and digests; descendants keep it.
    pub set_key: SetKey,
    /// What the authority's signing key is made of.
    pub signing_seed: SigningSeed,
    /// The format in which the journal was created. What it has now is said beside: all records are bound to these bytes.
    pub format_version: u32,
    /// The wall clock when the oldest of these epochs began: what its first revision was decided on.
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
            ancestors: Vec::new(),
            set_key: SetKey::new(set_key),
            signing_seed: SigningSeed::new(signing_seed),
            format_version: FORMAT_VERSION,
            created_at,
        })
    }

    /// The identity of a journal that goes on from this one after `last`, as an epoch of its own. It keeps the keys.
    ///
    /// # Errors
    /// When it would descend from more than [`ANCESTORS_MAX`] epochs, or when there is no randomness to be had.
    pub fn descend(&self, last: Revision) -> Result<Self, DescendError> {
        if self.ancestors.len() >= ANCESTORS_MAX {
            return Err(DescendError::TooOften);
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(DescendError::Random)?;
        let mut child = self.clone();
        child.epoch = Epoch { generation: self.epoch.generation.saturating_add(1), id };
        child.ancestors.insert(0, Ancestor { epoch: self.epoch, last });
        Ok(child)
    }

    /// The epoch this one was restored from.
    #[must_use]
    pub fn parent(&self) -> Option<Ancestor> {
        self.ancestors.first().copied()
    }

    /// The id of the revocation at `index` of `revision`: it keeps the prefix of the epoch that accepted it.
    #[must_use]
    pub fn revocation_id(&self, revision: Revision, index: u32) -> RevocationId {
        RevocationId { epoch_prefix: accepted_by(self.epoch, &self.ancestors, revision).prefix(), revision, index }
    }

    /// Whether `revision` of `epoch` is part of this journal's history: a revision of its own, or one taken over.
    #[must_use]
    pub fn takes_over(&self, epoch: Epoch, revision: Revision) -> bool {
        epoch == self.epoch
            || self.ancestors.iter().any(|ancestor| ancestor.epoch == epoch && revision <= ancestor.last)
    }

    /// u32le format ‖ u64le generation ‖ 16 B epoch ‖ u8 ancestors ‖ (u64le generation ‖ 16 B epoch ‖ u64le last revision
    /// taken over) each ‖ 16 B set key ‖ 32 B signing seed ‖ u64le created at (ms).
    pub(crate) fn encode(&self) -> zeroize::Zeroizing<Vec<u8>> {
        let mut out = zeroize::Zeroizing::new(Vec::with_capacity(96 + 32 * self.ancestors.len()));
        out.extend_from_slice(&self.format_version.to_le_bytes());
        encode_epoch(&self.epoch, &mut out);
        out.push(self.ancestors.len() as u8);
        for ancestor in &self.ancestors {
            encode_epoch(&ancestor.epoch, &mut out);
            out.extend_from_slice(&ancestor.last.0.to_le_bytes());
        }
        out.extend_from_slice(self.set_key.expose());
        out.extend_from_slice(self.signing_seed.expose());
        out.extend_from_slice(&self.created_at.0.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format_version = reader.u32()?;
        let epoch = read_epoch(&mut reader)?;
        let count = usize::from(reader.u8()?);
        if count > ANCESTORS_MAX {
            return Err(DecodeError::TooMany { what: "ancestors", limit: ANCESTORS_MAX });
        }
        let mut ancestors: Vec<Ancestor> = Vec::with_capacity(count);
        let mut younger = (epoch.generation, Revision(u64::MAX));
        for _ in 0..count {
            let ancestor = Ancestor { epoch: read_epoch(&mut reader)?, last: Revision(reader.u64()?) };
            if ancestor.epoch.generation >= younger.0 || ancestor.last > younger.1 {
                return Err(DecodeError::Invalid("ancestors are out of order"));
            }
            younger = (ancestor.epoch.generation, ancestor.last);
            ancestors.push(ancestor);
        }
        let identity = Self {
            epoch,
            ancestors,
            set_key: SetKey::new(reader.array()?),
            signing_seed: SigningSeed::new(reader.array()?),
            format_version,
            created_at: UnixMillis(reader.u64()?),
        };
        reader.finish()?;
        Ok(identity)
    }

    /// What the first record's checksum is chained to, so that no record of another journal fits: of the oldest epoch,
    /// which is where that record was written.
    pub(super) fn anchor(&self) -> [u8; 32] {
        let mut oldest = self.clone();
        if let Some(ancestor) = oldest.ancestors.last() {
            oldest.epoch = ancestor.epoch;
            oldest.ancestors.clear();
        }
        Sha256::new().chain_update(b"rescind/journal/1\0").chain_update(&*oldest.encode()).finalize().into()
    }

    /// Binds a restored journal's ancestors to the anchor. `None` without ancestors: the anchor then covers everything.
    pub(super) fn lineage(&self) -> Option<[u8; 32]> {
        let hash = Sha256::new().chain_update(b"rescind/lineage/1\0").chain_update(self.anchor());
        (!self.ancestors.is_empty()).then(|| hash.chain_update(&*self.encode()).finalize().into())
    }
}

/// Why no epoch can descend from an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescendError {
    /// It has too many ancestors.
    #[error("the journal has been restored {ANCESTORS_MAX} times, which is as often as its format can tell")]
    TooOften,
    /// The system has no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The epoch that accepted `revision`, in a history that ends in `epoch`.
#[must_use]
pub fn accepted_by(epoch: Epoch, ancestors: &[Ancestor], revision: Revision) -> Epoch {
    let oldest = ancestors.iter().rev().find(|ancestor| revision <= ancestor.last);
    oldest.map_or(epoch, |ancestor| ancestor.epoch)
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

    fn restored() -> Identity {
        let first = Identity::generate(UnixMillis(7)).unwrap();
        first.descend(Revision(11)).unwrap().descend(Revision(20)).unwrap()
    }

    #[test]
    fn identities_round_trip_and_hide_their_secrets() {
        let first = Identity::generate(UnixMillis(7)).unwrap();
        let child = first.descend(Revision(11)).unwrap();
        for identity in [&first, &child, &restored()] {
            assert_eq!(Identity::decode(&identity.encode()).as_ref(), Ok(identity));
        }
        assert_eq!((first.encode().len(), child.encode().len()), (85, 117), "as before there were ancestors");
        assert!(format!("{first:?}").contains("SigningSeed(hidden)"));
        assert_ne!(first.set_key, Identity::generate(UnixMillis(7)).unwrap().set_key);
    }

    #[test]
    fn a_descendant_keeps_keys_and_anchor_and_has_an_epoch_of_its_own() {
        let first = Identity::generate(UnixMillis(7)).unwrap();
        let child = first.descend(Revision(11)).unwrap();
        assert_eq!((child.epoch.generation, child.anchor()), (2, first.anchor()));
        assert_ne!(child.epoch.id, first.epoch.id);
        assert_eq!(child.parent(), Some(Ancestor { epoch: first.epoch, last: Revision(11) }));
        assert_eq!((&child.set_key, &child.signing_seed), (&first.set_key, &first.signing_seed));
        assert_eq!(first.lineage(), None);
        assert_ne!(child.lineage(), first.descend(Revision(11)).unwrap().lineage());
    }

    #[test]
    fn ids_keep_the_prefix_of_the_epoch_that_accepted_them() {
        let identity = restored();
        let prefix = |revision| identity.revocation_id(Revision(revision), 0).epoch_prefix;
        let [parent, first] = identity.ancestors[..] else { panic!("two ancestors") };
        assert_eq!([prefix(1), prefix(11)], [first.epoch.prefix(); 2]);
        assert_eq!([prefix(12), prefix(20)], [parent.epoch.prefix(); 2]);
        assert_eq!(prefix(21), identity.epoch.prefix());
        assert!(identity.takes_over(first.epoch, Revision(11)) && !identity.takes_over(first.epoch, Revision(12)));
    }

    #[test]
    fn ancestors_out_of_order_or_too_many_are_refused() {
        let mut identity = restored();
        identity.ancestors.swap(0, 1);
        assert!(Identity::decode(&identity.encode()).is_err());
        let mut identity = Identity::generate(UnixMillis(7)).unwrap();
        for last in 1..=ANCESTORS_MAX {
            identity = identity.descend(Revision(last as u64)).unwrap();
        }
        assert_eq!(Identity::decode(&identity.encode()).as_ref(), Ok(&identity));
        assert_eq!(identity.descend(Revision(99)), Err(DescendError::TooOften));
    }
}
