//! The answer to a check. Unknown is never silently turned into either of the others.

use std::fmt;

use super::selector::Shape;
use super::time::Cutoff;

/// Whether a presented token is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// No live revocation matches it.
    NotRevoked,
    /// A live revocation matches it.
    Revoked(Hit),
    /// It cannot be told; policy decides what that means.
    Unknown(UnknownCause),
}

/// What revoked a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The claim names of the selector (never the values).
    pub shape: Shape,
    /// The latest issue time it reaches, for this token.
    pub cutoff: Cutoff,
}

/// Why a miss cannot be called "not revoked".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownCause {
    /// The replica has never held a verified set.
    NeverSynced,
    /// The last word from the authority is older than policy accepts, or the replica has stopped.
    Stale,
    /// The replica has not reached the position the caller asked for.
    Behind,
    /// The replica's set does not equal the authority's.
    Diverged,
    /// The set is larger than the replica may hold.
    OverLimit,
    /// The caller could not see this part of the token, and an active shape needs it.
    Incomplete(String),
    /// The token yields more candidates than are probed.
    TooManyCandidates,
    /// The token lives longer than entries are kept.
    BeyondHorizon,
}

impl UnknownCause {
    /// The name used on every surface, in metrics and in the protocol.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NeverSynced => "NEVER_SYNCED",
            Self::Stale => "STALE",
            Self::Behind => "BEHIND",
            Self::Diverged => "DIVERGED",
            Self::OverLimit => "OVER_LIMIT",
            Self::Incomplete(_) => "INCOMPLETE",
            Self::TooManyCandidates => "TOO_MANY_CANDIDATES",
            Self::BeyondHorizon => "BEYOND_HORIZON",
        }
    }
}

impl fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete(part) => write!(f, "INCOMPLETE ({part})"),
            _ => f.write_str(self.name()),
        }
    }
}
