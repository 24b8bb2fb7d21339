//! Refusals as problem details (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::decode::DecodeError;
use crate::revocation::ports::{CredentialError, FindError, OperateError, PolicyError, PropagationError, WriteError};
use crate::security::access::DenialReason;
use crate::surface::ask::Refusal;
use crate::surface::budget::Late;
use crate::surface::reason::{OVERLOADED, reason};
use crate::surface::violations::Violations;

/// When a refused but harmless request may be tried again.
const RETRY_SECONDS: u64 = 1;

/// A problem details answer. Its `type` is `urn:rescind:problem:` and the refusal's reason.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    reason: &'static str,
    detail: String,
    violations: Violations,
    /// In whole seconds.
    retry_after: Option<u64>,
    challenge: bool,
}

impl Problem {
    /// A problem without wrong fields.
    pub(crate) fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            detail: detail.into(),
            violations: Violations::default(),
            retry_after: None,
            challenge: false,
        }
    }

    fn invalid(violations: Violations) -> Self {
        Self::of_fields(StatusCode::BAD_REQUEST, "INVALID_REQUEST", violations)
    }

    fn of_fields(status: StatusCode, reason: &'static str, violations: Violations) -> Self {
        let violations = violations.renamed(json_field);
        let detail = violations.to_string();
        Self { violations, ..Self::new(status, reason, detail) }
    }

    fn and_retry(self) -> Self {
        Self { retry_after: Some(RETRY_SECONDS), ..self }
    }

    /// The HTTP status.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (reason, detail) = (reason(&refusal), refusal.to_string());
        let problem = |status| Self::new(status, reason, detail);
        match refusal {
            Refusal::Invalid(violations) => Self::invalid(violations),
            Refusal::Write(error) => match error {
                WriteError::Invalid(violations) => Self::invalid(violations.into()),
                WriteError::NotPermitted { violations } => {
                    Self::of_fields(StatusCode::FORBIDDEN, reason, violations.into())
                }
                WriteError::TooManyShapes { .. } | WriteError::TooManyEntries { .. } => {
                    problem(StatusCode::INSUFFICIENT_STORAGE)
                }
                WriteError::RequestIdReused => problem(StatusCode::CONFLICT),
                WriteError::NotTheAuthority { .. } => problem(StatusCode::MISDIRECTED_REQUEST),
                WriteError::Unavailable(_) => problem(StatusCode::SERVICE_UNAVAILABLE),
                WriteError::Overloaded | WriteError::OutcomeUnknown(_) => {
                    problem(StatusCode::SERVICE_UNAVAILABLE).and_retry()
                }
            },
            Refusal::Find(error) => match error {
                FindError::Invalid(violations) => Self::invalid(violations.into()),
                FindError::NotTheAuthority { .. } => problem(StatusCode::MISDIRECTED_REQUEST),
                FindError::Behind { .. } => problem(StatusCode::SERVICE_UNAVAILABLE).and_retry(),
                FindError::Unavailable(_) => problem(StatusCode::SERVICE_UNAVAILABLE),
            },
            Refusal::Operate(error) => match error {
                OperateError::Busy => problem(StatusCode::SERVICE_UNAVAILABLE).and_retry(),
                OperateError::Unavailable(_) => problem(StatusCode::SERVICE_UNAVAILABLE),
                OperateError::Pruned { .. } => problem(StatusCode::GONE),
                OperateError::Unsupported => problem(StatusCode::NOT_IMPLEMENTED),
            },
            Refusal::Propagation(error) => match error {
                PropagationError::Invalid(violations) => Self::invalid(violations.into()),
                PropagationError::Overloaded => problem(StatusCode::SERVICE_UNAVAILABLE).and_retry(),
                PropagationError::UnknownMember => problem(StatusCode::NOT_FOUND),
                PropagationError::MemberConnected | PropagationError::NotAuthority => problem(StatusCode::CONFLICT),
            },
            Refusal::Denied(denial) => Self {
                retry_after: denial.retry_after.map(|wait| wait.as_millis().div_ceil(1000).max(1) as u64),
                challenge: denial.reason.is_unauthenticated(),
                ..problem(denied(denial.reason))
            },
            Refusal::TooManyConnections(_) => problem(StatusCode::TOO_MANY_REQUESTS),
            Refusal::Credential(CredentialError::TooMany) => problem(StatusCode::INSUFFICIENT_STORAGE),
            Refusal::Credential(CredentialError::NotFound | CredentialError::Write(_)) => {
                problem(StatusCode::NOT_FOUND)
            }
            Refusal::Exposed => problem(StatusCode::CONFLICT),
            Refusal::Policy(PolicyError::OtherVersion { .. } | PolicyError::LeavesBehind { .. }) => {
                problem(StatusCode::CONFLICT)
            }
            Refusal::Policy(PolicyError::NoSuchVersion { .. } | PolicyError::Write(_)) => {
                problem(StatusCode::NOT_FOUND)
            }
            Refusal::NoPolicy | Refusal::NotFound => problem(StatusCode::NOT_FOUND),
        }
    }
}

fn denied(reason: DenialReason) -> StatusCode {
    match reason {
        DenialReason::Missing
        | DenialReason::Malformed
        | DenialReason::Unknown
        | DenialReason::Expired
        | DenialReason::Conflict => StatusCode::UNAUTHORIZED,
        DenialReason::Role { .. } | DenialReason::Member | DenialReason::Scope => StatusCode::FORBIDDEN,
        DenialReason::NoSuchCall => StatusCode::NOT_FOUND,
        DenialReason::TooManyRequests | DenialReason::TooManyWrites { .. } => StatusCode::TOO_MANY_REQUESTS,
    }
}

impl From<Late> for Problem {
    fn from(late: Late) -> Self {
        match late {
            Late::Slow => Self::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", late.detail()),
            Late::Displaced | Late::Large => overloaded(late.detail()),
        }
    }
}

/// There is no room now.
pub(crate) fn overloaded(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED, detail).and_retry()
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Syntax { .. } => Self::new(StatusCode::BAD_REQUEST, "INVALID_JSON", error.to_string()),
            DecodeError::Form(violations) => Self::invalid(violations),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:rescind:problem:{}", self.reason.to_ascii_lowercase().replace('_', "-")),
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let told = self.violations.told().iter();
        let told: Vec<_> = told.map(|v| json!({ "field": v.field, "description": v.description })).collect();
        if !told.is_empty() {
            body["violations"] = told.into();
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"rescind\""));
        }
        response
    }
}

/// The JSON spelling of a message's field: times carry no unit in their name, a selector is one object.
fn json_field(field: &str) -> String {
    let field = field.split_once(".claims[").map_or(field, |(selector, _)| selector);
    for (message, json) in [
        ("cutoff_seconds", "cutoff"),
        ("expires_at_seconds", "expires_at"),
        ("accepted_from_seconds", "accepted_from"),
        ("accepted_before_seconds", "accepted_before"),
        ("at_least.epoch", "at_least"),
        ("token.token", "token"),
        ("token.opaque_token", "opaque_token"),
        ("token.claims", "claims"),
    ] {
        if let Some(parents) = field.strip_suffix(message) {
            return format!("{parents}{json}");
        }
    }
    field.to_owned()
}
