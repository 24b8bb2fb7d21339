//! What an OAuth authorization server offers beside tokens: introspection (RFC 7662), revocation (RFC 7009), and what it says
//! of itself (RFC 8414).
//!
//! ```text
//! form ──▶ token ──▶ verifier ──▶ active, with its claims │ {"active":false} │ 503
//!                        └──────▶ the revoke call by token, as everywhere
//! ```
//!
//! # Invariants
//! - O1. `active` is only ever said of a token that was verified by the policy in force and checked. What cannot be told is 503.
//! - O2. Of a token that is not active nothing is told but that (RFC 7662 §2.2).
//! - O3. Nothing is written of a token that does not verify: nobody fills the set with made-up ones.

mod error;
mod form;
mod introspection;
mod metadata;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

pub(super) use error::{OAuthError, is_bearer};
pub use metadata::{PUBLIC_URL_BYTES_MAX, PublicUrl, PublicUrlError};

use super::ask::{Desk, Refusal};
use super::asker::Asker;
use crate::revocation::ports::WriteError;
use crate::token::{Bearer, Decision, Denied, Reason, Refused, Unclear};
use crate::wire::pb;
use form::Form;

const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";
const METADATA: &str = "/.well-known/oauth-authorization-server";
/// What the audit trail says why.
const REASON: &str = "revoked by the OAuth revocation endpoint";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// How these endpoints answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Where clients reach this server; without it, nothing is said of it.
    pub public_url: Option<PublicUrl>,
    /// The class of routes whose rules make a token active, unless the request names another; `None`: the rules that every
    /// class has.
    pub class: Option<String>,
    /// Clients may prove who they are by certificate.
    pub by_certificate: bool,
}

#[derive(Clone)]
pub(super) struct Endpoints {
    pub(super) desk: Desk,
    pub(super) options: Options,
}

impl Endpoints {
    async fn decide(&self, token: &str, class: Option<&str>) -> Decision {
        match &self.desk.node.verifier {
            Some(verifier) => verifier.decide(Bearer::Token(token), class).await,
            None => Decision::Unclear(Unclear::NoPolicy),
        }
    }
}

pub(super) fn router(endpoints: Endpoints) -> Router {
    Router::new()
        .route(INTROSPECT, post(introspect))
        .route(REVOKE, post(revoke))
        .route(METADATA, get(metadata))
        .method_not_allowed_fallback(async || OAuthError::method())
        .with_state(endpoints)
}

async fn introspect(State(endpoints): State<Endpoints>, request: Request) -> Result<Response, OAuthError> {
    let form = Form::read(request).await?;
    let token = form.needed("token")?;
    let class = form.value("class").or(endpoints.options.class.as_deref());
    match endpoints.decide(token, class).await {
        Decision::Allowed(allowed) => Ok(json(introspection::active(&allowed))),
        Decision::Denied(_) => Ok(json(introspection::INACTIVE.to_owned())),
        Decision::Unclear(unclear) => Err(OAuthError::unclear(&unclear)),
    }
}

async fn revoke(State(endpoints): State<Endpoints>, request: Request) -> Result<Response, OAuthError> {
    let asker = Asker::of(request.extensions())?;
    let form = Form::read(request).await?;
    let token = form.needed("token")?;
    let desk = &endpoints.desk;
    if let Some(following) = desk.node.reports.status().following {
        return Err(Refusal::from(WriteError::NotTheAuthority { upstream: following.upstream }).into());
    }
    match endpoints.decide(token, None).await {
        // One that is revoked is revoked once more: what revokes it now may be taken back.
        Decision::Allowed(_)
        | Decision::Denied(Denied { reason: Reason::Revoked(_), .. })
        | Decision::Unclear(Unclear::Verdict(_)) => {
            desk.revoke(by_token(token), &asker).await?;
        }
        Decision::Denied(Denied { reason: Reason::Refused(Refused::NotSigned), .. }) => {
            return Err(OAuthError::unsupported_token_type());
        }
        Decision::Denied(_) => {}
        Decision::Unclear(unclear) => return Err(OAuthError::unclear(&unclear)),
    }
    Ok((StatusCode::OK, [(CACHE_CONTROL, NO_STORE)]).into_response())
}

fn by_token(token: &str) -> pb::RevokeRequest {
    let target = Some(pb::revocation::Target::Token(token.to_owned()));
    let revocation = pb::Revocation { target, reason: REASON.to_owned(), ..Default::default() };
    pb::RevokeRequest { revocations: vec![revocation], ..Default::default() }
}

async fn metadata(State(endpoints): State<Endpoints>) -> Response {
    match &endpoints.options.public_url {
        Some(url) => json(metadata::document(url, &endpoints)),
        None => OAuthError::no_metadata().into_response(),
    }
}

fn json(body: String) -> Response {
    ([(CONTENT_TYPE, JSON), (CACHE_CONTROL, NO_STORE)], body).into_response()
}
