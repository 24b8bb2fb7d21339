//! A tower layer that lets requests with a good token through: for axum and tonic servers alike.
//!
//! The token is that of `Authorization: Bearer` (RFC 6750 §2.1), and of no other place. What it must be follows the verification
//! policy that the authority has in force: another policy counts from the next request on.
//!
//! | the request | over HTTP | over gRPC |
//! |---|---|---|
//! | has a token that is genuine, meant for this and not revoked | goes on, with [`Allowed`] in its extensions | the same |
//! | has none, or authenticates in another way | 401 | `UNAUTHENTICATED` |
//! | has several, or something that is no token | 400 `invalid_request` | `UNAUTHENTICATED` |
//! | has one that is not accepted or is revoked: it is not told why | 401 `invalid_token` | `UNAUTHENTICATED` |
//! | has one without what the class of routes asks for | 403 `insufficient_scope` | `PERMISSION_DENIED` |
//! | cannot be decided about: no policy, no such class, no keys, no set that is fresh enough | 503 | `UNAVAILABLE` |
//!
//! Refusals carry `WWW-Authenticate` (RFC 6750 §3) where they are about the token, and have no body. A refused request does not
//! reach the service.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use rescind::client::Client;
//! # use rescind::client::layer::{Route, VerifyLayer};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder(["http://127.0.0.1:7009"]).name("orders").connect()?;
//! client.ready(Duration::from_secs(10)).await?;
//!
//! // One class for all routes below it …
//! let layer = VerifyLayer::new(client.verifier(), "orders").realm("orders")?;
//!
//! // … or one for each request. `Router::layer` of axum and `Server::layer` of tonic take either.
//! let layer = VerifyLayer::by(client.verifier(), |parts| match parts.uri.path() {
//!     "/healthz" => Route::Open,
//!     path if path.starts_with("/admin/") => Route::from("admin"),
//!     _ => Route::from("orders"),
//! });
//! # Ok(())
//! # }
//! ```

mod answer;
mod tally;
#[cfg(all(test, feature = "server"))]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use tower::{Layer, Service};

pub use tally::Tally;

use crate::revocation::ports::Pending;
use crate::token::{Allowed, Bearer, Decision, Verifier};
use answer::Refusal;

/// The longest realm, in bytes.
pub const REALM_BYTES_MAX: usize = 128;

/// What a request asks of its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nothing: the request goes on as it is.
    Open,
    /// That it is good; no class of routes says more.
    Token,
    /// What this class of the policy asks. One that the policy does not have lets nobody through.
    Class(Cow<'static, str>),
}

/// A realm that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("realm: 1 to {REALM_BYTES_MAX} printable ASCII characters without '\"' and '\\', {given} bytes given")]
pub struct RealmError {
    /// Its length in bytes.
    pub given: usize,
}

/// Puts [`Verify`] in front of services. Keeps its client following for as long as it lives, or what it made.
#[derive(Clone)]
pub struct VerifyLayer(Gate);

/// A service behind its [`VerifyLayer`].
#[derive(Clone, Debug)]
pub struct Verify<S> {
    service: S,
    gate: Gate,
}

/// Decides about requests. Clones share the tally.
#[derive(Clone)]
struct Gate {
    verifier: Verifier,
    route: Arc<dyn Fn(&Parts) -> Route + Send + Sync>,
    realm: Arc<str>,
    /// Lets everything through.
    observes: bool,
    removes_header: bool,
    tally: Arc<Tally>,
}

impl VerifyLayer {
    /// Asks the same of every request.
    #[must_use]
    pub fn new(verifier: Verifier, route: impl Into<Route>) -> Self {
        let route = route.into();
        Self::by(verifier, move |_| route.clone())
    }

    /// Asks of each request what `route` says. It sees everything but the body, before the token was looked at.
    #[must_use]
    pub fn by(verifier: Verifier, route: impl Fn(&Parts) -> Route + Send + Sync + 'static) -> Self {
        Self(Gate {
            verifier,
            route: Arc::new(route),
            realm: Arc::from("service"),
            observes: false,
            removes_header: false,
            tally: Arc::default(),
        })
    }

    /// What `WWW-Authenticate` calls the realm; `service` unless it is set.
    ///
    /// # Errors
    /// When it is empty, longer than [`REALM_BYTES_MAX`], or could not be quoted.
    pub fn realm(mut self, realm: &str) -> Result<Self, RealmError> {
        let is_plain = realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        if realm.is_empty() || realm.len() > REALM_BYTES_MAX || !is_plain {
            return Err(RealmError { given: realm.len() });
        }
        self.0.realm = Arc::from(realm);
        Ok(self)
    }

    /// Lets every request through, and logs and counts what would become of it: to see what a policy would do before it does.
    /// Where a token would not be accepted, the service finds no [`Allowed`] in the request.
    #[must_use]
    pub fn observing(mut self) -> Self {
        self.0.observes = true;
        self
    }

    /// Takes `Authorization` away once it was decided about, so that the service cannot hand the token on. Left by default.
    #[must_use]
    pub fn removing_header(mut self) -> Self {
        self.0.removes_header = true;
        self
    }

    /// What became of requests, of all services behind this layer and its clones.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.0.tally
    }
}

impl Gate {
    /// Lets a request on, perhaps with something more or less in its head.
    async fn admit(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let route = (self.route)(parts);
        let class = match &route {
            Route::Open => return Ok(()),
            Route::Token => None,
            Route::Class(name) => Some(name.as_ref()),
        };
        let values = parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let decision = self.verifier.decide(Bearer::of(values), class).await;
        self.tally.count(&decision, class, self.observes);
        if self.removes_header {
            parts.headers.remove(AUTHORIZATION);
        }
        match decision {
            Decision::Allowed(allowed) => {
                parts.extensions.insert::<Allowed>(*allowed);
                Ok(())
            }
            _ if self.observes => Ok(()),
            Decision::Denied(denied) => Err(Refusal::denied(&denied.challenge, &self.realm, parts)),
            Decision::Unclear(_) => Err(Refusal::unclear(parts)),
        }
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, service: S) -> Verify<S> {
        Verify { service, gate: self.0.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for Verify<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pending<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that said that it is ready is called; a clone of it need not be.
        let clone = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match gate.admit(&mut parts).await {
                Ok(()) => service.call(Request::from_parts(parts, body)).await,
                Err(refusal) => Ok(refusal.into_response()),
            }
        })
    }
}

impl From<&'static str> for Route {
    fn from(class: &'static str) -> Self {
        Self::Class(Cow::Borrowed(class))
    }
}

impl From<String> for Route {
    fn from(class: String) -> Self {
        Self::Class(Cow::Owned(class))
    }
}

impl fmt::Debug for VerifyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyLayer").field(&self.0).finish()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Gate");
        shown.field("realm", &self.realm).field("observes", &self.observes);
        shown.field("removes_header", &self.removes_header).finish_non_exhaustive()
    }
}
