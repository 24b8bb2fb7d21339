//! The door in front of every call: finds out who asks, and turns away those who may not.
//!
//! It stands before the routes, so that no service can be reached around it. What is no call is answered here and goes no
//! further, so that a route that is missing in the table of calls is closed, not open.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::AUTHORIZATION;
use tokio::time::timeout;

use super::ask::Refusal;
use super::asker::{Asker, ShownBy};
use super::authz;
use super::connections::Proof;
use super::guard::is_grpc;
use super::http::{Problem, fallback};
use super::oauth::{self, OAuthError};
use super::peer::Peer;
use crate::security::CertificateNames;
use crate::security::access::{Access, Brought, Denial, Identity};
use crate::security::audit::Denials;
use crate::security::call::Call;
use crate::security::log_limit::LogLimit;

/// So much of what a refused caller sends, in bytes, is taken before he is answered, and for so long: over HTTP/2 there are
/// clients (curl 7.88 among them) that lose an answer which overtakes their body.
const REFUSED_BODY_BYTES_MAX: usize = 64 << 10;
const REFUSED_BODY_WITHIN: Duration = Duration::from_secs(1);

/// How callers are let in. Clones are the same door.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// `None`: everybody may do everything.
    access: Option<Arc<Access>>,
    denied: Arc<Denied>,
}

#[derive(Debug, Default)]
struct Denied {
    denials: Arc<Denials>,
    logged: LogLimit,
}

impl Door {
    /// A door that asks, and notes whom it turns away.
    #[must_use]
    pub fn asking(access: Arc<Access>, denials: Arc<Denials>) -> Self {
        Self { access: Some(access), denied: Arc::new(Denied { denials, logged: LogLimit::default() }) }
    }

    /// Whether callers are asked who they are.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.access.is_some()
    }

    /// What there is to know of who is let in; `None` when nobody is asked.
    pub(super) fn access(&self) -> Option<&Arc<Access>> {
        self.access.as_ref()
    }

    /// Counts writes of somebody who was let in.
    pub(super) fn count_writes(
        &self,
        identity: &Identity,
        count: usize,
        call: Call,
        peer: Peer,
    ) -> Result<(), Refusal> {
        let Some(access) = &self.access else { return Ok(()) };
        access.count_writes(identity, count).map_err(|denial| self.refuse(denial.of(call), peer))
    }

    /// Notes a denial; what is answered.
    pub(super) fn refuse(&self, denial: Denial, peer: Peer) -> Refusal {
        self.note(&denial, peer);
        Refusal::Denied(Box::new(denial))
    }

    /// Notes a denial that is answered in some other way.
    pub(super) fn note(&self, denial: &Denial, peer: Peer) {
        self.denied.denials.note(denial.clone(), peer.to_string());
        if let Some(left_out) = self.denied.logged.admit() {
            let (reason, call) = (denial.reason.name(), denial.call.map(Call::name));
            tracing::info!(who = %denial.claimed, %peer, call, reason, left_out, "a request was denied");
        }
    }

    /// Somebody who is known is told that there is no such call; others are not told even that.
    fn no_such_call(&self, identity: Option<Arc<Identity>>, peer: Peer) {
        if let Some(identity) = identity {
            let _ = self.refuse(Denial::no_such_call(&identity), peer);
        }
    }
}

/// Who sends a request; `None` when that is for everybody. Where there is no call, who it is matters all the same.
fn look(access: &Access, call: Option<Call>, request: &Request) -> Result<Option<Arc<Identity>>, Denial> {
    let mut brought = brought(request, call.is_some_and(Call::is_oauth));
    if is_for_another(request) && brought.certificate.is_some_and(|certificate| access.knows(certificate)) {
        (brought.authorization, brought.is_repeated) = (None, false);
    }
    match call {
        Some(call) => access.admit(call, brought),
        None => access.identify(brought).map(Some),
    }
}

/// Answers those who may not; hands on the others, with who they are.
pub(super) async fn door(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let peer = Peer::of(request.extensions());
    let call = Call::at(request.uri().path());
    let asker = match door.access.clone() {
        None => Asker::anybody(peer),
        Some(access) => {
            let mut looked = look(&access, call, &request);
            let keys_of = looked.as_mut().err().and_then(|denial| denial.keys_of.take());
            if let Some(issuer) = keys_of
                && access.newer_keys(&issuer).await
            {
                looked = look(&access, call, &request);
            }
            match (looked.map_err(|denial| door.refuse(denial, peer)), call) {
                (Err(refusal), _) => return answer(request, call, refusal).await,
                (Ok(identity), None) => {
                    door.no_such_call(identity, peer);
                    let (head, body) = request.into_parts();
                    if !is_grpc(&head.headers) {
                        take(body).await;
                    }
                    return fallback(Request::from_parts(head, Body::empty())).await;
                }
                (Ok(None), Some(_)) => return next.run(request).await,
                (Ok(Some(identity)), Some(_)) => {
                    if let Err(refusal) = prove(&request, &identity) {
                        return answer(request, call, refusal).await;
                    }
                    Asker::known(identity, door, peer)
                }
            }
        }
    };
    // The secret goes no further than it is needed.
    if !is_for_another(&request) || asker.shown_by() == ShownBy::Credential {
        request.headers_mut().remove(AUTHORIZATION);
    }
    request.extensions_mut().insert(asker);
    next.run(request).await
}

/// Whether a gateway asks about what somebody else sent: `authorization` may then be that other's.
fn is_for_another(request: &Request) -> bool {
    request.uri().path() == authz::PATH
}

fn brought(request: &Request, may_be_basic: bool) -> Brought<'_> {
    let mut authorizations = request.headers().get_all(AUTHORIZATION).into_iter();
    let authorization = authorizations.next().map(http::HeaderValue::as_bytes);
    let is_repeated = authorizations.next().is_some();
    let certificate = request.extensions().get::<Arc<CertificateNames>>().map(AsRef::as_ref);
    Brought { certificate, authorization, is_repeated, may_be_basic }
}

/// The connection is this principal's from now on, if it is nobody's yet.
fn prove(request: &Request, identity: &Identity) -> Result<(), Refusal> {
    let proof = request.extensions().get::<Proof>();
    Ok(proof.map_or(Ok(()), |proof| proof.prove(identity.name()))?)
}

/// In the form that the caller speaks. gRPC has no trouble with an answer that comes before all was said.
async fn answer(request: Request, call: Option<Call>, refusal: Refusal) -> Response {
    if is_grpc(request.headers()) {
        return super::grpc::status(&refusal).into_http::<axum::body::Body>();
    }
    let is_bearer = request.headers().get(AUTHORIZATION).is_some_and(oauth::is_bearer);
    take(request.into_body()).await;
    match call {
        Some(call) if call.is_oauth() => OAuthError::at_door(&refusal, is_bearer).into_response(),
        _ => Problem::from(refusal).into_response(),
    }
}

/// Takes what a refused caller sends, or the beginning of it.
async fn take(body: Body) {
    let _ = timeout(REFUSED_BODY_WITHIN, to_bytes(body, REFUSED_BODY_BYTES_MAX)).await;
}

#[cfg(test)]
mod tests;
