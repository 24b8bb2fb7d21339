//! Real servers of axum and tonic behind the layer, and a client of an authority in miniature.

mod over_grpc;
mod over_http;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::client::{Client, Position};
use crate::clock::{Clock, ManualTime};
use crate::replica::Upstream;
use crate::replica::testing::{Authority, BEGIN, Peer, Server, WelcomeMode};
use crate::revocation::verification::{Algorithm, Issuer, KeySource, RouteClass, TokenType, VerificationPolicy};
use crate::revocation::{Policy, WhenStale};

const ISS: &str = "https://issuer.example";
/// For what happens in other tasks: far more than it takes, even on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// An issuer with a P-256 key, whose tokens another library makes.
struct Mint {
    kid: String,
    pair: rcgen::KeyPair,
}

/// A client that follows, and what it follows.
struct Stage {
    client: Client,
    authority: Authority,
    server: Arc<Server>,
    peer: Option<Peer>,
    time: Arc<ManualTime>,
    mint: Mint,
    /// Requests that came to the service behind the layer.
    reached: Arc<AtomicUsize>,
}

impl Mint {
    fn new(kid: &str) -> Self {
        Self { kid: kid.to_owned(), pair: rcgen::KeyPair::generate().unwrap() }
    }

    fn key_set(&self) -> String {
        let point = &self.pair.public_key_raw()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y }] }).to_string()
    }

    /// A token for `api`, good for a day, with these claims in place of, or beside, the usual ones.
    fn token(&self, claims: Value) -> String {
        let now = BEGIN.0 / 1000;
        let mut all = json!({ "iss": ISS, "aud": "api", "sub": "ada", "iat": now, "exp": now + 86_400 });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(self.kid.clone()),
            ..Header::new(jsonwebtoken::Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &all, &EncodingKey::from_ec_der(&self.pair.serialize_der())).unwrap()
    }
}

/// Accepts tokens of this issuer for `api`; `orders` asks for a scope.
fn policy_of(mint: &Mint, scope: &str) -> VerificationPolicy {
    let issuer = Issuer {
        iss: ISS.to_owned(),
        audiences: vec!["api".to_owned()],
        algorithms: vec![Algorithm::ES256],
        types: vec![TokenType::AccessToken],
        leeway_seconds: 0,
        keys: KeySource::Inline(mint.key_set()),
    };
    let class = RouteClass {
        name: "orders".to_owned(),
        issuers: vec![],
        audiences: vec![],
        scopes: vec![scope.to_owned()],
        claims: vec![],
    };
    VerificationPolicy::new(vec![issuer], vec![class]).unwrap()
}

impl Stage {
    /// The authority has revoked `mallory`, and accepts tokens with the scope `read`.
    async fn set() -> Self {
        let (server, mut peers) = Server::new("server");
        let time = ManualTime::starting_at(BEGIN);
        let builder = Client::builder(["unused"]).clock(Clock::manual(Arc::clone(&time)));
        let client = builder.start(vec![Arc::clone(&server) as Arc<dyn Upstream>]).unwrap();
        let mint = Mint::new("k1");
        let mut authority = Authority::new(1, Policy { when_stale: WhenStale::Deny, ..Policy::default() });
        authority.revoke("mallory");
        authority.verify_by(policy_of(&mint, "read"));
        let mut peer = peers.recv().await.unwrap();
        peer.hello().await;
        peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
        peer.send(authority.snapshot(BEGIN)).await;
        client.ready(SOON).await.unwrap();
        Self { client, authority, server, peer: Some(peer), time, mint, reached: Arc::default() }
    }

    fn layer(&self) -> VerifyLayer {
        VerifyLayer::new(self.client.verifier(), "orders").realm("orders").unwrap()
    }

    fn good(&self) -> String {
        self.mint.token(json!({ "scope": "read write" }))
    }

    async fn revoke(&mut self, sub: &str) {
        let frame = self.authority.revoke(sub);
        self.publish(frame).await;
    }

    async fn apply(&mut self, policy: VerificationPolicy) {
        let frame = self.authority.verify_by(policy);
        self.publish(frame).await;
    }

    async fn publish(&mut self, frame: crate::replication::frames::ToSubscriber) {
        self.peer.as_ref().unwrap().send([frame]).await;
        let position = Position { epoch: self.authority.epoch.id, revision: self.authority.revision() };
        self.client.reached(position, SOON).await.unwrap();
    }

    /// The authority is gone, and does not come back.
    async fn kill_authority(&mut self) {
        self.server.refuse(true);
        let mut statuses = self.client.on_change();
        let before = statuses.borrow_and_update().state;
        self.peer = None;
        let changed = statuses.wait_for(|status| status.state != before);
        tokio::time::timeout(SOON, changed).await.expect("it is noticed").unwrap();
    }

    /// As long as it takes for the set to be older than policy accepts.
    fn grow_stale(&self) {
        self.time.advance(Policy::default().max_staleness + Duration::from_secs(60));
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

#[test]
fn a_realm_is_short_and_can_be_quoted() {
    let realm = |realm: &str| {
        let (policies, keys) = (Arc::new(NoNode), Arc::new(NoNode));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let keys = crate::token::keys::KeyRing::new(keys, runtime.handle().clone());
        let verifier = Verifier::new(policies.clone(), policies, keys, Clock::system());
        VerifyLayer::new(verifier, Route::Token).realm(realm).map(drop)
    };
    assert_eq!(realm("orders of ACME, 2nd floor"), Ok(()));
    for bad in ["", "a\"b", "a\\b", "a\nb", "é", &"x".repeat(REALM_BYTES_MAX + 1)] {
        assert_eq!(realm(bad), Err(RealmError { given: bad.len() }), "{bad:?}");
    }
}

/// Knows nothing and is not asked.
struct NoNode;

impl crate::revocation::ports::Checks for NoNode {
    fn check(&self, _: &crate::revocation::Claims, _: Option<Position>) -> crate::revocation::ports::Answer {
        unreachable!("nothing is checked without a policy")
    }
}

impl crate::revocation::ports::VerificationPolicies for NoNode {
    fn current(&self) -> Option<Arc<crate::revocation::VersionedPolicy>> {
        None
    }

    fn changed(
        &self,
        _: Option<Arc<crate::revocation::VersionedPolicy>>,
    ) -> Pending<'_, Option<Arc<crate::revocation::VersionedPolicy>>> {
        Box::pin(std::future::pending())
    }
}

impl crate::token::keys::Fetch for NoNode {
    fn get<'a>(&'a self, _: &'a str) -> crate::token::keys::Fetching<'a> {
        Box::pin(std::future::pending())
    }
}
