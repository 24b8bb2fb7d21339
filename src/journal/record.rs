//! What one revision wrote down: the accepted requests, in clear, and the delta they came to.

use std::fmt;
use std::sync::Arc;

use super::credential::CredentialChange;
use crate::revocation::ports::AppliedPolicy;
use crate::revocation::{
    CHANGES_MAX, Chain, DecodeError, Mark, Minute, Policy, Revision, RevocationId, Selector, UnixMillis,
};

/// The longest principal, in bytes.
pub const PRINCIPAL_BYTES_MAX: usize = 512;
/// The longest peer address, in bytes.
pub const PEER_BYTES_MAX: usize = 128;
/// The longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// The longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// The most revocations, undone revocations or extensions in one record: as many as a delta has room for.
pub const REVOCATIONS_MAX: usize = CHANGES_MAX;
/// The longest record, in bytes: many requests of 1 MiB, few enough that reading one back is no event.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// One revision, as kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub revision: Revision,
    /// The chain over all canonical deltas up to and with this one.
    pub chain_after: Chain,
    /// What was asked.
    pub body: Body,
    /// What it came to: the canonical bytes of the [`crate::revocation::Delta`] of this revision.
    pub delta: Vec<u8>,
}

/// What a revision is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A server started and recovered; committed before it published anything.
    Start {
        /// The version of the program, at most 255 bytes.
        build: String,
        /// Its wall clock.
        wall_time: UnixMillis,
    },
    /// Nothing but the time moved.
    Tick,
    /// The logged policy changed.
    Policy {
        /// The policy from now on.
        policy: Policy,
        /// Who changed it.
        actor: String,
        /// From where; empty: from the configuration.
        peer: String,
    },
    /// Requests were accepted, at least one.
    Requests(Vec<Request>),
    /// Live default expiries were extended, because a lifetime in the policy is about to be raised.
    Extend(Vec<Extension>),
    /// Credentials came or went.
    Credentials(CredentialChange),
    /// A verification policy was applied.
    Verification(Arc<AppliedPolicy>),
}

/// One accepted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub principal: String,
    /// From where.
    pub peer: String,
    /// The caller's id for it, by which a repeat is known.
    pub request_id: Option<String>,
    /// The SHA-256 of what was asked, so that the same id with another body is told apart.
    pub body_hash: [u8; 32],
    /// The wall clock when it came in.
    pub received_at: UnixMillis,
    /// What it does.
    pub action: Action,
}

/// What a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Revokes. Revocations count across the whole revision, from 0: that is the index in their ids.
    Revoke(Vec<Revocation>),
    /// Takes revocations back.
    Reinstate(Vec<Reinstatement>),
}

/// One accepted revocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub selector: Selector,
    /// Cutoff, expiry, and the shape and fingerprint of each of `exceptions`, in the same order.
    pub mark: Mark,
    /// What it spares.
    pub exceptions: Vec<Selector>,
    /// Where its expiry comes from.
    pub expiry_basis: ExpiryBasis,
    /// Why, for the audit trail; may be empty.
    pub reason: String,
    /// The token handed in was expired already: accepted, and nothing came of it.
    pub already_expired: bool,
    /// Its selector had live revocations already.
    pub merged: bool,
}

/// Where a revocation's expiry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpiryBasis {
    /// The request stated it.
    Given,
    /// `max_token_lifetime`.
    TokenLifetime,
    /// `max_session_lifetime`.
    SessionLifetime,
    /// The `exp` of the token handed in.
    TokenExp,
    /// It has none.
    Never,
}

impl ExpiryBasis {
    /// Its number on disk.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Given => 0,
            Self::TokenLifetime => 1,
            Self::SessionLifetime => 2,
            Self::TokenExp => 3,
            Self::Never => 4,
        }
    }

    /// The inverse of [`ExpiryBasis::code`].
    ///
    /// # Errors
    /// When no basis has this number.
    pub fn from_code(code: u8) -> Result<Self, DecodeError> {
        Ok(match code {
            0 => Self::Given,
            1 => Self::TokenLifetime,
            2 => Self::SessionLifetime,
            3 => Self::TokenExp,
            4 => Self::Never,
            _ => return Err(DecodeError::Invalid("expiry basis")),
        })
    }
}

/// One accepted reinstatement.
#[derive(Clone, PartialEq, Eq)]
pub struct Reinstatement {
    /// Whose revocations.
    pub selector: Selector,
    /// The one that was named; `None`: all live ones.
    pub only: Option<RevocationId>,
    /// The live revocations that it undid.
    pub undone: Vec<RevocationId>,
    /// Why, for the audit trail; may be empty.
    pub reason: String,
}

/// One revocation's new expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The revocation.
    pub id: RevocationId,
    /// What it revokes.
    pub selector: Selector,
    /// When it may be forgotten from now on.
    pub expiry: Minute,
}

/// Why a record cannot be kept, or bytes are not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field over its limit.
    #[error("{what} has {given} {unit}, at most {limit} fit")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What is counted.
        unit: &'static str,
        /// The most.
        limit: usize,
        /// How many there are.
        given: usize,
    },
    /// The exceptions and the mark do not belong together.
    #[error("a revocation spares {spares} selectors and lists {exceptions}")]
    Exceptions {
        /// In the mark.
        spares: usize,
        /// In clear.
        exceptions: usize,
    },
    /// The delta is that of another revision, or none.
    #[error("the delta is not that of the record's revision")]
    ForeignDelta,
    /// A credential was created by somebody else, or at another time, than its record.
    #[error("the credential is not the one of its record")]
    ForeignCredential,
    /// The version of the record's format is not known.
    #[error("record format {0} is not known")]
    Version(u8),
    /// The bytes are damaged.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The offset of `source_time` in a canonical delta, behind the revision.
const SOURCE_TIME_AT: usize = 8;
/// The offset of the floor in a canonical delta.
const FLOOR_AT: usize = 16;

impl Record {
    /// The raw time of the server that wrote it; may step back. Zero when the delta is too short to hold one.
    #[must_use]
    pub fn source_time(&self) -> UnixMillis {
        UnixMillis(self.delta_word(SOURCE_TIME_AT).map_or(0, u64::from_le_bytes))
    }

    /// The expiry floor after it.
    #[must_use]
    pub fn floor(&self) -> Minute {
        Minute::from_bits(self.delta_word(FLOOR_AT).map_or(0, u32::from_le_bytes))
    }

    /// Its revocations, each with the request it came in and its index in the revision.
    pub fn revocations(&self) -> impl Iterator<Item = (u32, &Request, &Revocation)> {
        let requests = match &self.body {
            Body::Requests(requests) => &requests[..],
            _ => &[],
        };
        let all = requests.iter().flat_map(|request| {
            let revocations = match &request.action {
                Action::Revoke(revocations) => &revocations[..],
                Action::Reinstate(_) => &[],
            };
            revocations.iter().map(move |revocation| (request, revocation))
        });
        (0..).zip(all).map(|(index, (request, revocation))| (index, request, revocation))
    }

    pub(super) fn delta_word<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.delta.get(at..)?.first_chunk().copied()
    }
}

/// Hides what identifies people.
impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation")
            .field("selector", &self.selector)
            .field("mark", &self.mark)
            .field("exceptions", &self.exceptions)
            .field("expiry_basis", &self.expiry_basis)
            .field("already_expired", &self.already_expired)
            .finish_non_exhaustive()
    }
}

/// Hides the reason: people write names into it.
impl fmt::Debug for Reinstatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reinstatement")
            .field("selector", &self.selector)
            .field("only", &self.only)
            .field("undone", &self.undone)
            .finish_non_exhaustive()
    }
}
