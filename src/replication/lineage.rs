//! Which epochs an epoch goes on from, and how far: signed, since a replica lets go of what it held in a lost future of
//! them by this alone.

use super::frames::Held;
use super::signature::{BadSignature, PublicKey, Signature, Signer};
use crate::revocation::{Ancestor, Epoch};

const DOMAIN: &[u8; 18] = b"rescind/lineage/1\0";

/// The ancestors of an epoch, its parent first, with the authority's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// None, for a first epoch; at most [`crate::revocation::ANCESTORS_MAX`].
    pub ancestors: Vec<Ancestor>,
    /// Over [`Lineage::bytes`].
    pub signature: Signature,
}

impl Lineage {
    /// Signs for the ancestors of `epoch`.
    #[must_use]
    pub fn sign(signer: &Signer, epoch: Epoch, ancestors: Vec<Ancestor>) -> Self {
        let signature = signer.sign(&Self::bytes(epoch, &ancestors));
        Self { ancestors, signature }
    }

    /// Verifies that the authority says so of `epoch`.
    ///
    /// # Errors
    /// When the signature was not made by this key over these ancestors of that epoch.
    pub fn verify(&self, key: &PublicKey, epoch: Epoch) -> Result<(), BadSignature> {
        key.verify(&Self::bytes(epoch, &self.ancestors), &self.signature)
    }

    /// Whether the epoch goes on from a state of an earlier one: it has all that was revoked there.
    #[must_use]
    pub fn goes_on_from(&self, held: &Held) -> bool {
        self.last_of(held.epoch).is_some_and(|ancestor| held.revision <= ancestor.last)
    }

    /// Whether that epoch is an ancestor, of which a part at least was taken over.
    #[must_use]
    pub fn knows(&self, epoch: Epoch) -> bool {
        self.last_of(epoch).is_some()
    }

    /// How many revisions of a state of another epoch were not taken over: all, where that epoch is no ancestor.
    #[must_use]
    pub fn lost_of(&self, held: &Held) -> u64 {
        let taken = self.last_of(held.epoch).map_or(0, |ancestor| ancestor.last.0);
        held.revision.0.saturating_sub(taken)
    }

    fn last_of(&self, epoch: Epoch) -> Option<&Ancestor> {
        self.ancestors.iter().find(|ancestor| ancestor.epoch == epoch)
    }

    /// The bytes signed: `"rescind/lineage/1\0"` ‖ u64le generation ‖ 16 B epoch id ‖ u8 count ‖ per ancestor u64le
    /// generation ‖ 16 B id ‖ u64le last revision.
    #[must_use]
    pub fn bytes(epoch: Epoch, ancestors: &[Ancestor]) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 32 * ancestors.len());
        let put_epoch = |out: &mut Vec<u8>, epoch: Epoch| {
            out.extend_from_slice(&epoch.generation.to_le_bytes());
            out.extend_from_slice(&epoch.id);
        };
        out.extend_from_slice(DOMAIN);
        put_epoch(&mut out, epoch);
        out.push(ancestors.len() as u8);
        for ancestor in ancestors {
            put_epoch(&mut out, ancestor.epoch);
            out.extend_from_slice(&ancestor.last.0.to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::{Digest, Revision};

    fn epoch(generation: u64) -> Epoch {
        Epoch { generation, id: [generation as u8; 16] }
    }

    fn lineage() -> Lineage {
        let ancestor = |generation, last| Ancestor { epoch: epoch(generation), last: Revision(last) };
        Lineage::sign(&Signer::from_seed(&[1; 32]), epoch(3), vec![ancestor(2, 40), ancestor(1, 25)])
    }

    /// Computed by Python's `cryptography`; a change here is a new protocol version.
    #[test]
    fn a_lineage_has_golden_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let Lineage { ancestors, signature } = lineage();
        let expected = [
            &hex(b"rescind/lineage/1\0"),
            "0300000000000000",
            &"03".repeat(16),
            "02",
            "0200000000000000",
            &"02".repeat(16),
            "2800000000000000",
            "0100000000000000",
            &"01".repeat(16),
            "1900000000000000",
        ]
        .concat();
        assert_eq!(hex(&Lineage::bytes(epoch(3), &ancestors)), expected);
        assert_eq!(hex(&signature.0), GOLDEN);
    }

    const GOLDEN: &str = concat!(
        "a5368807cf79fd5b35fc38ac43be20c3d1fc06aaac1f5830bfa526c779fcfbe6",
        "8c4e1fbfc6120b9681f629345981d0b27f74e5d8d3117ab308494b618517110e",
    );

    #[test]
    fn a_lineage_is_believed_for_its_epoch_and_ancestors_only() {
        let key = Signer::from_seed(&[1; 32]).public_key();
        let lineage = lineage();
        assert_eq!(lineage.verify(&key, epoch(3)), Ok(()));
        assert_eq!(lineage.verify(&key, epoch(4)), Err(BadSignature));
        let mut longer = lineage.clone();
        longer.ancestors[0].last = Revision(41);
        assert_eq!(longer.verify(&key, epoch(3)), Err(BadSignature));
        let none = Lineage { ancestors: Vec::new(), ..lineage };
        assert_eq!(none.verify(&key, epoch(3)), Err(BadSignature));
    }

    #[test]
    fn an_epoch_goes_on_from_its_parent_and_from_ancestors_as_far_as_they_were_taken_over() {
        let lineage = lineage();
        let cases = [(2, 40, true, 0), (2, 41, false, 1), (1, 25, true, 0), (1, 30, false, 5), (7, 3, false, 3)];
        for (generation, revision, goes_on, lost) in cases {
            let held = Held { epoch: epoch(generation), revision: Revision(revision), digest: Digest::default() };
            assert_eq!((lineage.goes_on_from(&held), lineage.lost_of(&held)), (goes_on, lost), "{held:?}");
        }
    }
}
