//! Revocations that outlive their records.

use super::record::Revocation;
use crate::revocation::{Minute, Revision, RevocationId, UnixMillis};

/// Where a revocation stands in its epoch; orders as they were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationKey {
    /// The revision that accepted it.
    pub revision: Revision,
    /// Its index there.
    pub index: u32,
}

/// A revocation whose record is pruned, with all that the audit needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its id, as it always was.
    pub id: RevocationId,
    /// When it may be forgotten, as of the pruning; later [`super::Body::Extend`] records are not counted in.
    pub expiry: Minute,
    /// Who asked for it.
    pub principal: String,
    /// From where.
    pub peer: String,
    /// When the request came in.
    pub received_at: UnixMillis,
    /// The revocation as it was accepted.
    pub revocation: Revocation,
}

impl Carried {
    /// Where it stands.
    #[must_use]
    pub fn key(&self) -> RevocationKey {
        RevocationKey { revision: self.id.revision, index: self.id.index }
    }
}
