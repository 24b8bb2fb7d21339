//! Why somebody was not let in, as it is told to him and as it is written down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::book::Identity;
use crate::revocation::ports::CredentialId;
use crate::security::call::{Call, Need};
use crate::security::principals::Principal;

/// A refusal. What it says is safe to answer: no secret, and nothing of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
    /// Who it was, as far as he proved or claimed.
    pub claimed: Claimed,
    /// What he asked for; `None` until that is known, and for what is no call.
    pub call: Option<Call>,
    /// When it may be tried again, if that would help.
    pub retry_after: Option<Duration>,
    /// It may be otherwise with newer keys of this issuer.
    pub keys_of: Option<String>,
}

/// Why. Each has a label in `rescind_requests_denied_total` and a name in the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// No certificate and no credential.
    Missing,
    /// What stands in `authorization` is no credential and no token.
    Malformed,
    /// A credential or certificate that is nobody's, or a wrong secret.
    Unknown,
    /// The credential's time is over.
    Expired,
    /// Certificate and credential are those of two principals.
    Conflict,
    /// The principal may not do that.
    Role {
        /// Who may.
        need: Need,
    },
    /// There is no such call.
    NoSuchCall,
    /// More requests in a second than are allowed.
    TooManyRequests,
    /// More writes in a minute than were granted.
    TooManyWrites {
        /// So many were granted.
        limit: u32,
    },
    /// The member id belongs to another principal.
    Member,
    /// The grant does not reach what was to be written.
    Scope,
    /// It cannot be told whether the token is good: its issuer's keys are not known, or this node's set cannot tell.
    Unclear,
}

/// Who it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing to go by.
    Nobody,
    /// He named a credential and did not prove to hold it.
    Credential(CredentialId),
    /// He proved to be this principal.
    Principal(Arc<Principal>),
}

impl DenialReason {
    /// The labels, in the order of [`DenialReason::index`].
    pub const NAMES: [&'static str; 12] = [
        "missing",
        "malformed",
        "unknown",
        "expired",
        "conflict",
        "role",
        "no_such_call",
        "too_many_requests",
        "too_many_writes",
        "member",
        "scope",
        "unclear",
    ];

    /// Its place among the labels.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Malformed => 1,
            Self::Unknown => 2,
            Self::Expired => 3,
            Self::Conflict => 4,
            Self::Role { .. } => 5,
            Self::NoSuchCall => 6,
            Self::TooManyRequests => 7,
            Self::TooManyWrites { .. } => 8,
            Self::Member => 9,
            Self::Scope => 10,
            Self::Unclear => 11,
        }
    }

    /// Its label.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Whether it is not known who asks.
    #[must_use]
    pub fn is_unauthenticated(self) -> bool {
        match self {
            Self::Missing | Self::Malformed | Self::Unknown | Self::Expired | Self::Conflict => true,
            Self::Role { .. }
            | Self::NoSuchCall
            | Self::TooManyRequests
            | Self::TooManyWrites { .. }
            | Self::Member
            | Self::Scope
            | Self::Unclear => false,
        }
    }
}

impl Denial {
    pub(super) fn nobody(reason: DenialReason, claimed: Claimed) -> Self {
        Self { reason, claimed, call: None, retry_after: None, keys_of: None }
    }

    pub(super) fn too_much(reason: DenialReason, claimed: Claimed, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::nobody(reason, claimed) }
    }

    /// Of somebody who came in some other way than by the door.
    #[must_use]
    pub fn unseen(reason: DenialReason) -> Self {
        Self::nobody(reason, Claimed::Nobody)
    }

    /// Somebody who is known may not do what needs more.
    #[must_use]
    pub fn role(identity: &Identity, need: Need) -> Self {
        Self::nobody(DenialReason::Role { need }, identity.claimed())
    }

    /// Somebody who is known came as a member that is another's.
    #[must_use]
    pub fn member(identity: &Identity) -> Self {
        Self::nobody(DenialReason::Member, identity.claimed())
    }

    /// Somebody who is known was to write what his grant does not reach.
    #[must_use]
    pub fn scope(identity: &Identity) -> Self {
        Self::nobody(DenialReason::Scope, identity.claimed())
    }

    /// Somebody who is known asked for what there is not.
    #[must_use]
    pub fn no_such_call(identity: &Identity) -> Self {
        Self::nobody(DenialReason::NoSuchCall, identity.claimed())
    }

    /// The same for this call.
    #[must_use]
    pub fn of(self, call: Call) -> Self {
        Self { call: Some(call), ..self }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            DenialReason::Missing => f.write_str(
                "this server answers principals only: present a client certificate, or authorization: Bearer with a \
                 credential (rsc_…) or a token of an issuer that is trusted here",
            ),
            DenialReason::Malformed => f.write_str(
                "what stands in authorization is no credential: once Bearer, a space, and the text beginning rsc_, or a \
                 token of an issuer that is trusted here",
            ),
            DenialReason::Unknown => f.write_str("what was presented is not accepted here"),
            DenialReason::Expired => f.write_str("the credential has expired"),
            DenialReason::Conflict => {
                f.write_str("what was presented stands for two principals; it must stand for one")
            }
            DenialReason::Role { need } => {
                write!(f, "this needs the role {need}; {} has {}", self.claimed, Roles(&self.claimed))
            }
            DenialReason::NoSuchCall => f.write_str("there is no such call"),
            DenialReason::TooManyRequests => write!(f, "too many requests of {} at once; retry later", self.claimed),
            DenialReason::TooManyWrites { limit } => write!(
                f,
                "{} may write {limit} revocations and reinstatements in any minute, and this would be more",
                self.claimed
            ),
            DenialReason::Member => f.write_str("this member id is that of another principal's process"),
            DenialReason::Unclear => f.write_str("it cannot be told now whether the token is good; retry later"),
            DenialReason::Scope => write!(f, "the grant of {} does not reach what was to be written", self.claimed),
        }
    }
}

impl std::error::Error for Denial {}

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Credential(id) => write!(f, "credential {id}"),
            Self::Principal(principal) => write!(f, "{:?}", principal.name),
        }
    }
}

struct Roles<'a>(&'a Claimed);

impl fmt::Display for Roles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claimed::Principal(principal) = self.0 else { return f.write_str("none") };
        for (index, role) in principal.grant.roles.iter().enumerate() {
            write!(f, "{}{role}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
