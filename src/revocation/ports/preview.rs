//! What a dry run of a revocation tells beside its outcome.

use crate::revocation::{Cutoff, Minute, RevocationId};

/// What a revocation would come to, together with the rest of its request and what is in force already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The live revocations of the same selector, oldest first, as far as they are shown.
    pub merges_with: Vec<RevocationId>,
    /// How many more there are, of those that can be undone one by one.
    pub merges_with_more: usize,
    /// The cutoff that would be in force.
    pub cutoff: Cutoff,
    /// When the entry might be forgotten.
    pub expiry: Minute,
}

/// The most ids that one [`Preview`] shows: as many as a person reads.
pub const PREVIEW_IDS_MAX: usize = 16;
/// The most ids that all previews of a reply show together, so that it stays below the 4 MiB that gRPC clients accept.
pub const PREVIEWS_IDS_MAX: usize = 10_000;
