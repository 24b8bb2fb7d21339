//! The checksum that binds each record to all before it.

use sha2::{Digest as _, Sha256};

use crate::revocation::Revision;

/// SHA-256(checksum before ‖ u64le revision ‖ bytes).
pub type Checksum = [u8; 32];

/// The checksum of the record of `revision` that follows one whose checksum is `before`.
#[must_use]
pub fn link(before: &Checksum, revision: Revision, bytes: &[u8]) -> Checksum {
    Sha256::new().chain_update(before).chain_update(revision.0.to_le_bytes()).chain_update(bytes).finalize().into()
}

/// The checksum that a carried revocation is kept with; it stands alone.
pub(super) fn of_carried(bytes: &[u8]) -> Checksum {
    Sha256::new().chain_update(b"rescind/carried/1\0").chain_update(bytes).finalize().into()
}
