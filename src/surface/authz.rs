//! What gateways ask: may this request go on?
//!
//! ```text
//! Envoy ── ext_authz, gRPC ──┐
//! nginx, Caddy, Traefik ─────┴─▶ token, route class ──▶ Verifier ──▶ go on, with who it is | 401 | 403 | cannot tell
//!            forward auth, HTTP
//! ```
//!
//! Whose token it is, is the user's business; who asks, the gateway's, and the door has seen to that. The two are never taken
//! for each other:
//!
//! # Invariants
//! - Z1. Where the gateway shows an API credential in `Authorization`, the user's token is in `X-Forwarded-Authorization`, which
//!   the gateway sets; where it shows a certificate, or is not asked who it is, in `Authorization`. Which of them it is, no
//!   header of the user decides.
//! - Z2. What says who a user is ([`IDENTITY`]) is what this answer says, or nothing: of each of them it says something, if only
//!   that it is empty or goes; and a gateway removes what the user sent.
//! - Z3. Cannot tell is an answer of its own, never "go on".

mod envoy;
mod forward;
mod metadata;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, StatusCode};

pub(super) use envoy::service;
pub(super) use forward::{PATH, router};

use super::ask::Desk;
use crate::token::{Allowed, Bearer, Decision, Unclear};

/// The headers that say who a user is, in the order of [`identity`].
pub(crate) const IDENTITY: [&str; 5] =
    ["x-rescind-issuer", "x-rescind-subject", "x-rescind-client-id", "x-rescind-scope", "x-rescind-expires"];
/// Where the user's token is when the gateway has `Authorization` for itself.
pub(super) const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-authorization");
/// What a gateway may have answered in place of 503 when it cannot be told, beside what the server is configured for.
const UNKNOWN_STATUSES: [StatusCode; 3] =
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE];

/// What a gateway is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// The request goes on, with these values of [`IDENTITY`].
    Pass([Option<String>; IDENTITY.len()]),
    /// It does not.
    Stop {
        status: StatusCode,
        /// The value of `WWW-Authenticate`.
        challenge: Option<String>,
        /// A JSON object for whoever sent the request.
        body: String,
    },
}

impl Desk {
    /// Rules on a request that brought `bearer` to a class of routes.
    pub(super) async fn rule(&self, bearer: Bearer<'_>, class: Option<&str>, unknown: StatusCode) -> Ruling {
        let decision = match &self.node.verifier {
            Some(verifier) => verifier.decide(bearer, class).await,
            None => Decision::Unclear(Unclear::NoPolicy),
        };
        match decision {
            Decision::Allowed(allowed) => Ruling::Pass(identity(&allowed)),
            Decision::Denied(denied) => {
                let challenge = denied.challenge;
                let realm = class.filter(|class| is_plain(class)).unwrap_or("rescind");
                Ruling::Stop {
                    status: StatusCode::from_u16(challenge.status).unwrap_or(StatusCode::UNAUTHORIZED),
                    body: body(challenge.error.unwrap_or("unauthorized"), challenge.description),
                    challenge: Some(challenge.www_authenticate(realm)),
                }
            }
            Decision::Unclear(unclear) => {
                let description = format!("it cannot be told whether the access token is good: {}", unclear.name());
                Ruling::Stop {
                    status: unknown,
                    challenge: None,
                    body: body("temporarily_unavailable", Some(&description)),
                }
            }
        }
    }
}

/// The values of [`IDENTITY`].
fn identity(allowed: &Allowed) -> [Option<String>; IDENTITY.len()] {
    let scope = allowed.scopes.join(" ");
    [
        Some(header_text(&allowed.issuer)),
        allowed.subject.as_deref().map(header_text),
        allowed.client_id.as_deref().map(header_text),
        (!scope.is_empty()).then(|| header_text(&scope)),
        allowed.expires_at.map(|at| at.0.to_string()),
    ]
}

/// A text as it can stand in a header: whatever is not printable ASCII, and `%`, percent-encoded (RFC 3986 §2.1).
fn header_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    // Spaces at the ends would be lost.
    if out.starts_with(' ') || out.ends_with(' ') { out.replace(' ', "%20") } else { out }
}

/// Whether a name can stand in a quoted string as it is.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn body(error: &str, description: Option<&str>) -> String {
    match description {
        Some(description) => serde_json::json!({ "error": error, "error_description": description }).to_string(),
        None => serde_json::json!({ "error": error }).to_string(),
    }
}

/// The status that a gateway wants for what cannot be told; `None`: none that it can have.
fn unknown_status(text: &str) -> Option<StatusCode> {
    UNKNOWN_STATUSES.into_iter().find(|status| status.as_str() == text)
}

/// The user's token among the headers of a request for which a gateway asks.
fn presented<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Bearer<'h> {
    Bearer::of(headers.get_all(name).iter().map(http::HeaderValue::as_bytes))
}
