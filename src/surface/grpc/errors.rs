//! Every refusal as a gRPC status: the code, a message for people, and `google.rpc` details for programs.
//!
//! `ErrorInfo.reason` names the refusal; `BadRequest` the fields that are wrong or not permitted; `QuotaFailure` the limit; `RetryInfo` when a
//! retry makes sense.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::revocation::ports::{CredentialError, FindError, OperateError, PolicyError, PropagationError, WriteError};
use crate::security::access::{Denial, DenialReason};
use crate::surface::ask::Refusal;
use crate::surface::reason::{DOMAIN, RETRY_DELAY, reason};
use crate::surface::violations::Violations;

/// The status that tells a refusal.
pub(crate) fn status(refusal: &Refusal) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason(refusal), DOMAIN, []);
    let code = match refusal {
        Refusal::Invalid(violations) => invalid(&mut details, violations),
        Refusal::Write(error) => match error {
            WriteError::Invalid(violations) => {
                let violations = Violations::from(violations.clone());
                return status(&Refusal::Invalid(violations));
            }
            WriteError::NotPermitted { violations } => {
                let violations = Violations::from(violations.clone());
                invalid(&mut details, &violations);
                return Status::with_error_details(Code::PermissionDenied, violations.to_string(), details);
            }
            WriteError::TooManyShapes { .. } => quota(&mut details, "shapes", error),
            WriteError::TooManyEntries { .. } => quota(&mut details, "max_entries", error),
            WriteError::RequestIdReused => Code::AlreadyExists,
            WriteError::Overloaded => retry(&mut details),
            WriteError::NotTheAuthority { .. } => Code::FailedPrecondition,
            WriteError::Unavailable(_) => Code::Unavailable,
            WriteError::OutcomeUnknown(_) => retry(&mut details),
        },
        Refusal::Find(error) => match error {
            FindError::Invalid(violations) => {
                let violations = Violations::from(violations.clone());
                return status(&Refusal::Invalid(violations));
            }
            FindError::NotTheAuthority { .. } => Code::FailedPrecondition,
            FindError::Behind { .. } => retry(&mut details),
            FindError::Unavailable(_) => Code::Unavailable,
        },
        Refusal::Operate(error) => match error {
            OperateError::Busy => retry(&mut details),
            OperateError::Unavailable(_) => Code::Unavailable,
            OperateError::Pruned { .. } => Code::FailedPrecondition,
            OperateError::Unsupported => Code::Unimplemented,
        },
        Refusal::Propagation(error) => match error {
            PropagationError::Invalid(violations) => {
                let violations = Violations::from(violations.clone());
                return status(&Refusal::Invalid(violations));
            }
            PropagationError::Overloaded => retry(&mut details),
            PropagationError::UnknownMember => Code::NotFound,
            PropagationError::MemberConnected | PropagationError::NotAuthority => Code::FailedPrecondition,
        },
        Refusal::Denied(denial) => denied(&mut details, denial),
        Refusal::TooManyConnections(_) => quota(&mut details, "connections", refusal),
        Refusal::Credential(CredentialError::TooMany) => quota(&mut details, "credentials", refusal),
        Refusal::Credential(CredentialError::NotFound | CredentialError::Write(_)) => Code::NotFound,
        Refusal::Exposed => Code::FailedPrecondition,
        Refusal::Policy(PolicyError::OtherVersion { .. } | PolicyError::LeavesBehind { .. }) => {
            Code::FailedPrecondition
        }
        Refusal::Policy(PolicyError::NoSuchVersion { .. } | PolicyError::Write(_)) => Code::NotFound,
        Refusal::NoPolicy | Refusal::NotFound => Code::NotFound,
    };
    Status::with_error_details(code, refusal.to_string(), details)
}

fn invalid(details: &mut ErrorDetails, violations: &Violations) -> Code {
    let fields = violations.told().iter().map(|v| FieldViolation::new(&v.field, &v.description));
    details.set_bad_request(fields.collect::<Vec<_>>());
    Code::InvalidArgument
}

fn quota(details: &mut ErrorDetails, subject: &str, error: &impl std::fmt::Display) -> Code {
    details.add_quota_failure_violation(subject, error.to_string());
    Code::ResourceExhausted
}

fn denied(details: &mut ErrorDetails, denial: &Denial) -> Code {
    if let Some(retry_after) = denial.retry_after {
        details.set_retry_info(Some(retry_after));
    }
    match denial.reason {
        DenialReason::TooManyRequests | DenialReason::TooManyWrites { .. } => Code::ResourceExhausted,
        DenialReason::NoSuchCall => Code::Unimplemented,
        DenialReason::Role { .. } | DenialReason::Member | DenialReason::Scope => Code::PermissionDenied,
        DenialReason::Missing
        | DenialReason::Malformed
        | DenialReason::Unknown
        | DenialReason::Expired
        | DenialReason::Conflict => Code::Unauthenticated,
    }
}

fn retry(details: &mut ErrorDetails) -> Code {
    details.set_retry_info(Some(RETRY_DELAY));
    Code::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::ports::Violation;
    use crate::revocation::{Position, Revision, Shape, TestedClaim};

    #[test]
    fn each_refusal_has_its_code_and_reason() {
        let here = Position { epoch: [0; 16], revision: Revision(1) };
        let shape = Shape::new(["sub"], TestedClaim::Iat).unwrap();
        let wrong = || vec![Violation { field: "f".into(), description: "d".into() }];
        for (refusal, code, reason) in [
            (Refusal::Invalid(wrong().into()), Code::InvalidArgument, "INVALID_REQUEST"),
            (WriteError::Invalid(wrong()).into(), Code::InvalidArgument, "INVALID_REQUEST"),
            (WriteError::NotPermitted { violations: wrong() }.into(), Code::PermissionDenied, "NOT_PERMITTED"),
            (WriteError::TooManyShapes { active: vec![shape] }.into(), Code::ResourceExhausted, "TOO_MANY_SHAPES"),
            (WriteError::TooManyEntries { limit: 7 }.into(), Code::ResourceExhausted, "TOO_MANY_ENTRIES"),
            (WriteError::RequestIdReused.into(), Code::AlreadyExists, "REQUEST_ID_REUSED"),
            (WriteError::Overloaded.into(), Code::Unavailable, "OVERLOADED"),
            (WriteError::Unavailable("disk full".into()).into(), Code::Unavailable, "WRITES_REFUSED"),
            (WriteError::OutcomeUnknown("stopped".into()).into(), Code::Unavailable, "OUTCOME_UNKNOWN"),
            (FindError::Invalid(wrong()).into(), Code::InvalidArgument, "INVALID_REQUEST"),
            (FindError::Behind { indexed_through: here }.into(), Code::Unavailable, "INDEX_BEHIND"),
            (FindError::Unavailable("rebuilding".into()).into(), Code::Unavailable, "INDEX_UNAVAILABLE"),
            (
                WriteError::NotTheAuthority { upstream: "u".into() }.into(),
                Code::FailedPrecondition,
                "NOT_THE_AUTHORITY",
            ),
            (FindError::NotTheAuthority { upstream: "u".into() }.into(), Code::FailedPrecondition, "NOT_THE_AUTHORITY"),
            (OperateError::Busy.into(), Code::Unavailable, "OPERATION_BUSY"),
            (OperateError::Pruned { oldest: Revision(7) }.into(), Code::FailedPrecondition, "REVISION_PRUNED"),
            (CredentialError::TooMany.into(), Code::ResourceExhausted, "TOO_MANY_CREDENTIALS"),
            (CredentialError::NotFound.into(), Code::NotFound, "UNKNOWN_CREDENTIAL"),
            (CredentialError::Write(WriteError::Overloaded).into(), Code::Unavailable, "OVERLOADED"),
            (Refusal::Exposed, Code::FailedPrecondition, "PLAINTEXT"),
            (OperateError::Unavailable("disk full".into()).into(), Code::Unavailable, "OPERATION_UNAVAILABLE"),
            (OperateError::Unsupported.into(), Code::Unimplemented, "UNSUPPORTED"),
            (PropagationError::Invalid(wrong()).into(), Code::InvalidArgument, "INVALID_REQUEST"),
            (PropagationError::Overloaded.into(), Code::Unavailable, "OVERLOADED"),
            (PropagationError::UnknownMember.into(), Code::NotFound, "UNKNOWN_MEMBER"),
            (PropagationError::MemberConnected.into(), Code::FailedPrecondition, "MEMBER_CONNECTED"),
            (PropagationError::NotAuthority.into(), Code::FailedPrecondition, "NOT_AUTHORITY"),
            (Refusal::NotFound, Code::NotFound, "NOT_FOUND"),
        ] {
            let status = status(&refusal);
            assert_eq!(status.code(), code, "{refusal}");
            assert_eq!(status.get_error_details().error_info().unwrap().reason, reason);
            assert_eq!(status.message(), refusal.to_string());
        }
    }

    #[test]
    fn the_fullest_refusal_fits_into_the_trailers_that_clients_accept() {
        const TRAILER_BYTES_MAX: usize = 8 * 1024;
        let wrong = (0..100).map(|n| Violation { field: format!("revocations[{n}]"), description: "x".repeat(200) });
        let status = status(&WriteError::Invalid(wrong.collect()).into());
        assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), 14);
        let bytes = status.message().len() + status.details().len().div_ceil(3) * 4;
        assert!(bytes < TRAILER_BYTES_MAX, "{bytes}");
    }
}
