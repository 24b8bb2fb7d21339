//! The names of refusals: the same in gRPC's `ErrorInfo.reason` and in the `type` of a JSON problem.

use std::time::Duration;

use super::ask::Refusal;
use crate::revocation::ports::{CredentialError, FindError, OperateError, PolicyError, PropagationError, WriteError};
use crate::security::access::DenialReason;

/// Who gives the reasons their meaning.
pub(crate) const DOMAIN: &str = "rescind";
/// The reason of a refusal for want of room.
pub(crate) const OVERLOADED: &str = "OVERLOADED";
/// When a refused but harmless request may be tried again.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The reason that says a write may or may not have been accepted.
pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// The name of a refusal, stable for programs.
pub(crate) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Invalid(_)
        | Refusal::Write(WriteError::Invalid(_))
        | Refusal::Find(FindError::Invalid(_))
        | Refusal::Propagation(PropagationError::Invalid(_)) => "INVALID_REQUEST",
        Refusal::Write(WriteError::NotPermitted { .. }) => "NOT_PERMITTED",
        Refusal::Write(WriteError::TooManyShapes { .. }) => "TOO_MANY_SHAPES",
        Refusal::Write(WriteError::TooManyEntries { .. }) => "TOO_MANY_ENTRIES",
        Refusal::Write(WriteError::RequestIdReused) => "REQUEST_ID_REUSED",
        Refusal::Write(WriteError::Overloaded) => OVERLOADED,
        Refusal::Write(WriteError::Unavailable(_)) => "WRITES_REFUSED",
        Refusal::Write(WriteError::OutcomeUnknown(_)) => OUTCOME_UNKNOWN,
        Refusal::Find(FindError::Behind { .. }) => "INDEX_BEHIND",
        Refusal::Find(FindError::Unavailable(_)) => "INDEX_UNAVAILABLE",
        Refusal::Write(WriteError::NotTheAuthority { .. }) | Refusal::Find(FindError::NotTheAuthority { .. }) => {
            "NOT_THE_AUTHORITY"
        }
        Refusal::Operate(OperateError::Busy) => "OPERATION_BUSY",
        Refusal::Operate(OperateError::Unavailable(_)) => "OPERATION_UNAVAILABLE",
        Refusal::Operate(OperateError::Pruned { .. }) => "REVISION_PRUNED",
        Refusal::Operate(OperateError::Unsupported) => "UNSUPPORTED",
        Refusal::Propagation(PropagationError::Overloaded) => OVERLOADED,
        Refusal::Propagation(PropagationError::UnknownMember) => "UNKNOWN_MEMBER",
        Refusal::Propagation(PropagationError::MemberConnected) => "MEMBER_CONNECTED",
        Refusal::Propagation(PropagationError::NotAuthority) => "NOT_AUTHORITY",
        Refusal::Denied(denial) => match denial.reason {
            DenialReason::Missing
            | DenialReason::Malformed
            | DenialReason::Unknown
            | DenialReason::Expired
            | DenialReason::Conflict => "UNAUTHENTICATED",
            DenialReason::Role { .. } => "ROLE_NEEDED",
            DenialReason::Member => "MEMBER_OF_ANOTHER",
            DenialReason::Scope => "NOT_PERMITTED",
            DenialReason::NoSuchCall => "NO_SUCH_CALL",
            DenialReason::TooManyRequests => "TOO_MANY_REQUESTS",
            DenialReason::TooManyWrites { .. } => "TOO_MANY_WRITES",
        },
        Refusal::TooManyConnections(_) => "TOO_MANY_CONNECTIONS",
        Refusal::Credential(CredentialError::TooMany) => "TOO_MANY_CREDENTIALS",
        Refusal::Credential(CredentialError::NotFound | CredentialError::Write(_)) => "UNKNOWN_CREDENTIAL",
        Refusal::Exposed => "PLAINTEXT",
        Refusal::Policy(PolicyError::OtherVersion { .. }) => "OTHER_POLICY_VERSION",
        Refusal::Policy(PolicyError::LeavesBehind { .. }) => "LEAVES_MEMBERS_BEHIND",
        Refusal::Policy(PolicyError::NoSuchVersion { .. } | PolicyError::Write(_)) => "UNKNOWN_POLICY_VERSION",
        Refusal::NoPolicy => "NO_POLICY",
        Refusal::NotFound => "NOT_FOUND",
    }
}
