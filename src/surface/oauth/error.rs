//! Errors as OAuth has them (RFC 6749 §5.2, RFC 6750 §3.1): every refusal in one place.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::{JSON, NO_STORE};
use crate::revocation::ports::WriteError;
use crate::security::access::{Denial, DenialReason};
use crate::surface::ask::Refusal;
use crate::surface::body::BodyError;
use crate::surface::budget::Late;
use crate::token::Unclear;

/// When a harmless request may be tried again, in seconds.
const RETRY_SECONDS: u64 = 1;
/// The same for what does not pass by itself: a full disk, a full set.
const RETRY_LATER_SECONDS: u64 = 30;

/// What is answered in place of what was asked for.
#[derive(Clone, Debug)]
pub(in crate::surface) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    /// In seconds.
    retry_after: Option<u64>,
    challenge: Challenge,
}

/// What a client is told to prove who it is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Challenge {
    None,
    /// Whatever there is.
    Any,
    /// Another bearer credential than it brought.
    Bearer,
}

/// Whether a client brought a bearer credential, which has errors of its own.
pub(in crate::surface) fn is_bearer(authorization: &HeaderValue) -> bool {
    authorization.as_bytes().get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"bearer "))
}

impl OAuthError {
    fn new(status: StatusCode, error: &'static str, description: String) -> Self {
        Self { status, error, description, retry_after: None, challenge: Challenge::None }
    }

    /// The request is wrong.
    pub(super) fn invalid(description: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// Of a method that there is not.
    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "this path takes another method".to_owned())
    }

    /// Of a token that cannot be verified by anybody but who made it (RFC 7009 §2.2.1).
    pub(super) fn unsupported_token_type() -> Self {
        let description = "only signed JWTs are revoked here; an opaque token is revoked by POST /v1/revocations";
        Self::new(StatusCode::BAD_REQUEST, "unsupported_token_type", description.to_owned())
    }

    /// It cannot be told whether a token is good.
    pub(super) fn unclear(unclear: &Unclear) -> Self {
        Self::unavailable(format!("it cannot be told now: {}", unclear.name()), RETRY_SECONDS)
    }

    /// No public URL is configured.
    pub(super) fn no_metadata() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "oauth.public_url is not configured".to_owned())
    }

    fn unavailable(description: String, retry_after: u64) -> Self {
        let retry_after = Some(retry_after);
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description) }
    }

    /// Of somebody whom the door does not let in.
    pub(in crate::surface) fn at_door(refusal: &Refusal, is_bearer: bool) -> Self {
        match refusal {
            Refusal::Denied(denial) => Self::denied(denial, is_bearer),
            refusal => refusal.clone().into(),
        }
    }

    fn denied(denial: &Denial, is_bearer: bool) -> Self {
        let error = |status, error| Self::new(status, error, denial.to_string());
        match denial.reason {
            DenialReason::Missing
            | DenialReason::Malformed
            | DenialReason::Unknown
            | DenialReason::Expired
            | DenialReason::Conflict => match is_bearer {
                true => Self { challenge: Challenge::Bearer, ..error(StatusCode::UNAUTHORIZED, "invalid_token") },
                false => Self { challenge: Challenge::Any, ..error(StatusCode::UNAUTHORIZED, "invalid_client") },
            },
            DenialReason::Role { .. } if is_bearer => {
                Self { challenge: Challenge::Bearer, ..error(StatusCode::FORBIDDEN, "insufficient_scope") }
            }
            DenialReason::Role { .. } | DenialReason::Member | DenialReason::Scope => {
                error(StatusCode::FORBIDDEN, "unauthorized_client")
            }
            DenialReason::NoSuchCall => error(StatusCode::NOT_FOUND, "not_found"),
            DenialReason::TooManyRequests | DenialReason::TooManyWrites { .. } => {
                let retry_after = denial.retry_after.map(|wait| wait.as_millis().div_ceil(1000).max(1) as u64);
                Self { retry_after, ..error(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable") }
            }
            DenialReason::Unclear => Self::unavailable(denial.to_string(), RETRY_SECONDS),
        }
    }
}

impl From<Refusal> for OAuthError {
    fn from(refusal: Refusal) -> Self {
        let description = refusal.to_string();
        match refusal {
            Refusal::Denied(denial) => Self::denied(&denial, false),
            Refusal::Invalid(_) => Self::invalid(description),
            Refusal::Write(error) => match error {
                WriteError::Invalid(_) | WriteError::RequestIdReused => Self::invalid(description),
                WriteError::NotPermitted { .. } => Self::new(StatusCode::FORBIDDEN, "unauthorized_client", description),
                WriteError::NotTheAuthority { .. } => {
                    Self::new(StatusCode::MISDIRECTED_REQUEST, "not_the_authority", description)
                }
                WriteError::Overloaded | WriteError::OutcomeUnknown(_) => Self::unavailable(description, RETRY_SECONDS),
                WriteError::TooManyShapes { .. } | WriteError::TooManyEntries { .. } | WriteError::Unavailable(_) => {
                    Self::unavailable(description, RETRY_LATER_SECONDS)
                }
            },
            Refusal::TooManyConnections(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", description)
            }
            // No answer to what is asked here.
            Refusal::Find(_)
            | Refusal::Operate(_)
            | Refusal::Propagation(_)
            | Refusal::Credential(_)
            | Refusal::Policy(_)
            | Refusal::NoPolicy
            | Refusal::Exposed
            | Refusal::NotFound => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", description),
        }
    }
}

impl From<BodyError> for OAuthError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { bytes_max } => {
                let description = format!("a form has at most {bytes_max} bytes");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", description)
            }
            BodyError::Unreadable => Self::invalid("the body could not be read".to_owned()),
            BodyError::Late(Late::Slow) => {
                Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", Late::Slow.detail())
            }
            BodyError::Late(late @ (Late::Displaced | Late::Large)) => Self::unavailable(late.detail(), RETRY_SECONDS),
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.error, "error_description": described(&self.description) });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(CACHE_CONTROL, NO_STORE);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        challenge(headers, self.challenge, self.error);
        response
    }
}

fn challenge(headers: &mut HeaderMap, challenge: Challenge, error: &'static str) {
    const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"rescind\", charset=\"UTF-8\"");
    const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"rescind\"");
    match challenge {
        Challenge::None => {}
        Challenge::Any => {
            headers.append(WWW_AUTHENTICATE, BASIC);
            headers.append(WWW_AUTHENTICATE, BEARER);
        }
        Challenge::Bearer => {
            let value = format!("Bearer realm=\"rescind\", error=\"{error}\"");
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(&value).unwrap_or(BEARER));
        }
    }
}

/// In the characters that a description may have (RFC 6749 §5.2).
fn described(text: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(plain).collect()
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.description)
    }
}
