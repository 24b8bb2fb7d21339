//! What a service uses: a replica that follows an authority, behind one façade.
//!
//! A [`Client`] follows in the background and answers checks from memory: no I/O, no lock and, for a token that is not
//! revoked, no allocation. It goes on answering when the authority is gone, and says how old its knowledge is.
//!
//! For services on axum and tonic, [`layer`] does the rest: it verifies tokens by the verification policy in force, then asks
//! here, and answers. [`Client::verifier`] is the same without HTTP.
//!
//! Where you verify the signature yourself, with a JWT library and keys you trust, ask here whether the token was taken back:
//! the checks of a [`Client`] do **not** verify it.
//!
//! ```no_run
//! use std::time::Duration;
//! use rescind::client::{Client, Verdict};
//!
//! # async fn example(token: &str, kid: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder(["http://127.0.0.1:7009"]).name("orders").connect()?;
//! client.ready(Duration::from_secs(10)).await?;
//!
//! // For each request, once the signature was verified under the key named `kid`:
//! let answer = client.check_verified(token, kid)?;
//! match answer.verdict {
//!     Verdict::NotRevoked => println!("serve it"),
//!     Verdict::Revoked(hit) => println!("401: revoked by {}", hit.shape),
//!     Verdict::Unknown(cause) => println!("503: cannot tell ({cause})"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | the replica | a token that no entry matches |
//! |---|---|
//! | has never had a verified set | `Unknown`: `NEVER_SYNCED` |
//! | is staler than `max_staleness` | `NotRevoked`, loudly; `Unknown`: `STALE` if the authority or the client says deny |
//! | differs from the authority | `Unknown`: `DIVERGED`, until it has a verified set again |
//! | may not hold so many entries | `Unknown`: `OVER_LIMIT` |
//! | has stopped: its last client was dropped or shut down | `Unknown`: `STALE`, whatever policies say |
//!
//! A token that an entry matches is revoked in any case.

mod builder;
mod following;
pub mod layer;
mod scratch;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use crate::replica::SERVERS_MAX;
pub use builder::{Builder, ClientError};

pub use crate::replica::cache::CacheError;
pub use crate::replica::{Event, FollowerState, FollowerStatus, NotReady, Observe, PublicKey, ReplicaStatus};
pub use crate::revocation::ports::{Answer, VerificationPolicies};
pub use crate::revocation::verification::{VerificationPolicy, VersionedPolicy};
pub use crate::revocation::{Claims, LifetimePolicy, Position, UnknownCause, Verdict, WhenStale};
pub use crate::security::tls::{ClientFiles, ClientIdentity};
pub use crate::security::{Bearer, BearerError, ClientSecurityError};
pub use crate::token::{Allowed, Challenge, ClaimsError, Decision, Denied, Reason, TokenError, Unclear, Verifier};

use crate::clock::Clock;
use crate::replica::{Driver, Replica};
use crate::token::TokenKind;
use crate::token::keys::KeyRing;
use following::Following;

/// A replica that follows an authority in the background. Cheap to clone; when the last clone is dropped, it stops:
/// clones of [`Client::replica`] do not keep it going, and know no token for not revoked from then on.
#[derive(Clone, Debug)]
pub struct Client {
    driver: Arc<Driver>,
    /// Of the issuers in the verification policy; none are fetched before there is a verifier.
    keys: KeyRing,
    clock: Clock,
}

impl Client {
    /// Begins a client of these servers, tried in turn: `https://host:port`, `http://host:port` or `unix:/path` each.
    pub fn builder<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Builder {
        Builder::new(urls.into_iter().map(Into::into).collect())
    }

    /// Waits until it has once caught up with a server. Call it before serving; it is no error to go on without.
    ///
    /// # Errors
    /// When it has not `within` that time; it goes on trying.
    pub async fn ready(&self, within: Duration) -> Result<(), NotReady> {
        self.replica().ready(within).await
    }

    /// Waits until it has come as far as `position`, as a write returned it.
    ///
    /// # Errors
    /// When it has not `within` that time.
    pub async fn reached(&self, position: Position, within: Duration) -> Result<(), NotReady> {
        self.replica().reached(position, within).await
    }

    /// Whether a token with these claims is revoked. Keep the claims and reuse them: then a miss allocates nothing.
    #[must_use]
    pub fn check(&self, claims: &Claims) -> Answer {
        self.replica().check(claims, None)
    }

    /// As [`Client::check`], from a set that has come at least as far as `position`: otherwise a miss is unknown
    /// (`BEHIND`).
    #[must_use]
    pub fn check_at_least(&self, claims: &Claims, position: Position) -> Answer {
        self.replica().check(claims, Some(position))
    }

    /// Whether a token is revoked: a JWT if it has exactly two dots, opaque otherwise. Verifies no signature.
    ///
    /// # Errors
    /// When it is not a token; refuse it.
    pub fn check_token(&self, token: &str) -> Result<Answer, TokenError> {
        scratch::with(|parser, claims| {
            parser.parse_token(claims, token.as_bytes(), TokenKind::Detect)?;
            Ok(self.check(claims))
        })
    }

    /// Whether a JWT is revoked whose signature was verified under the key named `kid`: revocations of a key
    /// (`header.kid`) are looked up under that name, whatever the token says of itself.
    ///
    /// # Errors
    /// When it is not a token; refuse it.
    pub fn check_verified(&self, token: &str, kid: &str) -> Result<Answer, TokenError> {
        scratch::with(|parser, claims| {
            parser.parse_token(claims, token.as_bytes(), TokenKind::Detect)?;
            claims.replace("header.kid", kid);
            Ok(self.check(claims))
        })
    }

    /// Whether a token with this payload is revoked, where only its parts can be seen, as behind a proxy that verified it.
    /// The payload is the whole of it. Where an active revocation needs a part that is not given (the header, or the
    /// token itself for its hash), a miss is unknown (`INCOMPLETE`).
    ///
    /// # Errors
    /// When either is not acceptable JSON.
    pub fn check_json(&self, payload: &[u8], header: Option<&[u8]>) -> Result<Answer, ClaimsError> {
        scratch::with(|parser, claims| {
            parser.parse_claims(claims, payload, header)?;
            Ok(self.check(claims))
        })
    }

    /// What verifies a token by the verification policy in force, then checks it, and decides: see [`layer`] for services on axum
    /// or tonic, and [`Verifier::decide`] for others. All verifiers of a client share the issuers' keys, which are fetched
    /// from now on. Keeps the client going as a clone does.
    pub fn verifier(&self) -> Verifier {
        let following = Arc::new(Following(Arc::clone(&self.driver)));
        let verifier = Verifier::new(following.clone(), following, self.keys.clone(), self.clock.clone());
        // So that the first token need not wait for keys.
        let _ = verifier.policy();
        verifier
    }

    /// How the replica is: for health checks and metrics.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        self.replica().status()
    }

    /// Sees the status after each change; a slow reader sees the latest only.
    /// [`Builder::observe`] is told of every single revision.
    #[must_use]
    pub fn on_change(&self) -> watch::Receiver<FollowerStatus> {
        self.replica().subscribe()
    }

    /// The verification policy that is in force; `None`: there is none, or no set yet. Takes no lock.
    #[must_use]
    pub fn verification(&self) -> Option<Arc<VersionedPolicy>> {
        self.replica().verification()
    }

    /// Sees the verification policy after each change; a slow reader sees the latest only.
    #[must_use]
    pub fn on_verification(&self) -> watch::Receiver<Option<Arc<VersionedPolicy>>> {
        self.replica().verifications()
    }

    /// What it checks with, for code that asks through [`crate::revocation::ports::Checks`]. Keep the client as long as that
    /// asks: when the last one is dropped, misses are unknown (`STALE`).
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        self.driver.replica()
    }

    /// Stops: says goodbye to the server and waits, about a second at most, for the background task to end. While other
    /// clones live this only drops one; dropping the last one stops too, without waiting. Whatever
    /// still asks the replica gets `Unknown` for misses from then on.
    pub async fn shutdown(self) {
        if let Some(driver) = Arc::into_inner(self.driver) {
            driver.shutdown().await;
        }
    }
}
