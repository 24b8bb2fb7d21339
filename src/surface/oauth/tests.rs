//! Over the router: the examples of the RFCs, every kind of token, every kind of client.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::Options;
use crate::clock::{Clock, ManualTime};
use crate::revocation::ports::{Following, Pending, Target, VerificationPolicies, Violation, WriteError};
use crate::revocation::verification::{KeySource, RouteClass, VersionedPolicy};
use crate::revocation::{Cutoff, Hit, Shape, TestedClaim, UnixMillis, UnknownCause, Verdict, VerificationPolicy};
use crate::security::access::{self, Access};
use crate::security::audit::Denials;
use crate::security::credential::{Minted, mint};
use crate::surface::door::Door;
use crate::surface::testing::FakeNode;
use crate::surface::{self, Surface};
use crate::token::Verifier;
use crate::token::keys::{Fetch, FetchError, Fetching, KeyRing};
use crate::token::testing::{NOW, TestKey, issuer};

struct Nowhere;

impl Fetch for Nowhere {
    fn get<'a>(&'a self, _: &'a str) -> Fetching<'a> {
        Box::pin(async { Err(FetchError::Status(404)) })
    }
}

struct Policies(Option<Arc<VersionedPolicy>>);

impl VerificationPolicies for Policies {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        self.0.clone()
    }

    fn changed(&self, _: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        Box::pin(std::future::pending())
    }
}

struct House {
    app: Router,
    node: Arc<FakeNode>,
    key: TestKey,
    resource: Minted,
    login: Minted,
    _dir: tempfile::TempDir,
}

fn orders() -> RouteClass {
    let scopes = vec!["orders.read".to_owned()];
    RouteClass { name: "orders".to_owned(), issuers: vec![], audiences: vec![], scopes, claims: vec![] }
}

/// A resource server introspects, login revokes; the keys of the issuer are in its policy.
async fn house_with(options: Options, keys: Option<KeySource>, asks: bool) -> House {
    let (key, dir) = (TestKey::new("k1"), tempfile::tempdir().unwrap());
    let (resource, login) = (mint().unwrap(), mint().unwrap());
    let principals = format!(
        "[[principal]]\nname = 'api server'\ncredential = '{}'\nroles = ['introspect']\n\
         [[principal]]\nname = 'login'\ncredential = '{}'\nroles = ['revoke']\nwrites_per_minute = 3\n",
        resource.hashed(),
        login.hashed()
    );
    let path = dir.path().join("principals.toml");
    std::fs::write(&path, principals).unwrap();
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(NOW * 1000)));
    let open = access::Options { principals: path, requests_per_second: 1000 };
    let access = Access::open(open, None, None, clock.clone()).unwrap();
    let door = if asks { Door::asking(access, Arc::<Denials>::default()) } else { Door::default() };
    let node = FakeNode::new();
    let keys = keys.unwrap_or_else(|| KeySource::Inline(key.set()));
    let policy = VerificationPolicy::new(vec![issuer(keys)], vec![orders()]).unwrap();
    let policy = VersionedPolicy { version: 1, policy };
    let ring = KeyRing::new(Arc::new(Nowhere), tokio::runtime::Handle::current());
    let verifier = Verifier::new(Arc::new(Policies(Some(Arc::new(policy)))), node.clone(), ring, clock);
    let answering = surface::ask::Node { verifier: Some(verifier), ..node.node() };
    let options = surface::Options { oauth: options, ..surface::Options::default() };
    let app = Surface::behind(door, answering, &options, Routes::default()).app;
    House { app, node, key, resource, login, _dir: dir }
}

async fn house() -> House {
    house_with(Options::default(), None, true).await
}

fn basic(name: &str, minted: &Minted) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{}", minted.text.as_str())))
}

impl House {
    async fn post(&self, path: &str, authorization: Option<&str>, form: &str) -> http::Response<Body> {
        let mut request = Request::post(path)
            .header("host", "localhost")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.app.clone().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap()
    }

    async fn introspect(&self, form: &str) -> (StatusCode, String) {
        let answer = self.post("/oauth2/introspect", Some(&basic("api+server", &self.resource)), form).await;
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        (answer.status(), text(answer).await)
    }

    async fn revoke(&self, form: &str) -> http::Response<Body> {
        self.post("/oauth2/revoke", Some(&basic("login", &self.login)), form).await
    }

    fn says(&self, verdict: Verdict) {
        *self.node.verdict.lock() = verdict;
    }
}

async fn text(answer: http::Response<Body>) -> String {
    String::from_utf8(to_bytes(answer.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap()
}

async fn error(answer: http::Response<Body>) -> String {
    let body: Value = serde_json::from_str(&text(answer).await).unwrap();
    assert!(body["error_description"].is_string(), "{body}");
    body["error"].as_str().unwrap().to_owned()
}

fn hit() -> Verdict {
    let shape = Shape::new(["iss", "jti"], TestedClaim::Iat).unwrap();
    Verdict::Revoked(Hit { shape, cutoff: Cutoff::UNBOUNDED })
}

const INACTIVE: &str = r#"{"active":false}"#;

#[tokio::test]
async fn an_active_token_is_told_with_its_claims() {
    let house = house().await;
    let more = r#","jti":"7","scope":"orders.read x","client_id":"l238j323ds-23ij4","nbf":1699999999,"username":"jdoe","extra":1"#;
    let (status, body) = house.introspect(&format!("token={}", house.key.token(more))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    let expected = json!({
        "active": true, "token_type": "Bearer", "scope": "orders.read x", "client_id": "l238j323ds-23ij4",
        "username": "jdoe", "sub": "ada", "aud": "api", "iss": "https://issuer.example", "jti": "7",
        "exp": NOW + 600, "iat": NOW, "nbf": 1_699_999_999,
    });
    assert_eq!(told, expected, "and no other claim");
    let bound = house.key.token(r#","cnf":{"jkt":"thumb"},"aud2":1"#);
    let (_, body) = house.introspect(&format!("token={bound}&token_type_hint=nonsense")).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&told["token_type"], &told["cnf"]["jkt"]), (&"DPoP".into(), &"thumb".into()));
}

#[tokio::test]
async fn of_any_other_token_nothing_is_told_but_that_it_is_not_active() {
    let house = house().await;
    let good = house.key.token("");
    let damaged = format!("{}A", &good[..good.len() - 2]);
    let old =
        house.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, r#"{"iss":"https://issuer.example","aud":"api","exp":5}"#);
    let elsewhere = house
        .key
        .token_of(r#"{"alg":"ES256","kid":"k1"}"#, r#"{"iss":"https://issuer.example","aud":"x","exp":99999999999}"#);
    let stranger = TestKey::new("k1").token("");
    let unsigned = house.key.token_of(r#"{"alg":"none"}"#, r#"{"iss":"https://issuer.example"}"#);
    // The token of RFC 7662 §2.1, and one of RFC 7009 §2.1.
    let examples = ["mF_9.B5f-4.1JqM", "2YotnFZFEjr1zCsicMWpAA", "45ghiukldjahdnhzdauz"].map(str::to_owned);
    for token in [damaged, old, elsewhere, stranger, unsigned].into_iter().chain(examples) {
        assert_eq!(house.introspect(&format!("token={token}")).await, (StatusCode::OK, INACTIVE.to_owned()), "{token}");
    }
    house.says(hit());
    assert_eq!(house.introspect(&format!("token={good}")).await, (StatusCode::OK, INACTIVE.to_owned()), "revoked");
}

#[tokio::test]
async fn a_class_of_routes_is_asked_for_by_the_request_or_by_the_configuration() {
    for (default, given, scope, expected) in [
        (None, "", "", true),
        (None, "&class=orders", "", false),
        (None, "&class=orders", "orders.read", true),
        (Some("orders"), "", "", false),
        (Some("orders"), "", "orders.read", true),
    ] {
        let options = Options { class: default.map(str::to_owned), ..Options::default() };
        let house = house_with(options, None, true).await;
        let token = house.key.token(&format!(r#","scope":"{scope}""#));
        let (status, body) = house.introspect(&format!("token={token}{given}")).await;
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, told["active"].as_bool()), (StatusCode::OK, Some(expected)), "{default:?} {given} {scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_503_and_never_active() {
    let house = house().await;
    let good = format!("token={}", house.key.token(""));
    let unclear = |answer: &(StatusCode, String)| {
        assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.1.contains("temporarily_unavailable") && !answer.1.contains("active"), "{}", answer.1);
    };
    unclear(&house.introspect(&format!("{good}&class=nothing")).await);
    for cause in [UnknownCause::Stale, UnknownCause::TooManyCandidates] {
        house.says(Verdict::Unknown(cause));
        unclear(&house.introspect(&good).await);
    }
    let waiting =
        house_with(Options::default(), Some(KeySource::Url("https://issuer.example/keys".into())), true).await;
    unclear(&waiting.introspect(&format!("token={}", waiting.key.token(""))).await);
}

#[tokio::test]
async fn clients_prove_who_they_are_by_basic_or_bearer_and_are_told_how_if_not() {
    let house = house().await;
    let form = format!("token={}", house.key.token(""));
    let bearer = |minted: &Minted| format!("Bearer {}", minted.text.as_str());
    for accepted in [
        basic("api+server", &house.resource),
        basic("api%20server", &house.resource),
        basic("api server", &house.resource),
        bearer(&house.resource),
    ] {
        let answer = house.post("/oauth2/introspect", Some(&accepted), &form).await;
        assert_eq!(answer.status(), StatusCode::OK, "{accepted}");
    }
    let other = mint().unwrap();
    let basics = "basic realm=\"rescind\", charset=\"utf-8\" bearer realm=\"rescind\"";
    for (authorization, status, error_code, challenge) in [
        (None, 401, "invalid_client", basics),
        (Some(basic("login", &house.resource)), 401, "invalid_client", basics),
        (Some(basic("api+server", &other)), 401, "invalid_client", basics),
        (Some("Basic s6BhdRkqt3".to_owned()), 401, "invalid_client", basics),
        (Some("Digest x".to_owned()), 401, "invalid_client", basics),
        (Some(bearer(&other)), 401, "invalid_token", "bearer realm=\"rescind\", error=\"invalid_token\""),
        (Some("Bearer ey.ey.ey".to_owned()), 401, "invalid_token", "bearer realm=\"rescind\", error=\"invalid_token\""),
        (Some(basic("login", &house.login)), 403, "unauthorized_client", ""),
        (
            Some(bearer(&house.login)),
            403,
            "insufficient_scope",
            "bearer realm=\"rescind\", error=\"insufficient_scope\"",
        ),
    ] {
        let answer = house.post("/oauth2/introspect", authorization.as_deref(), &form).await;
        let told: Vec<&str> =
            answer.headers().get_all(WWW_AUTHENTICATE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(told.join(" ").to_lowercase(), challenge, "{authorization:?}");
        assert_eq!((answer.status().as_u16(), error(answer).await.as_str()), (status, error_code), "{authorization:?}");
    }
    let elsewhere = house.post("/v1/check", Some(&basic("api+server", &house.resource)), "{}").await;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED, "Basic is for OAuth clients only");
}

#[tokio::test]
async fn a_bad_request_is_told_as_oauth_has_it() {
    let house = house().await;
    for form in ["", "token=", "token=a&token=b", "token=%zz", "token=a&client_secret=b"] {
        let answer = house.post("/oauth2/introspect", Some(&basic("api+server", &house.resource)), form).await;
        assert_eq!(
            (answer.status(), error(answer).await.as_str()),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            "{form}"
        );
        let answer = house.revoke(form).await;
        assert_eq!(
            (answer.status(), error(answer).await.as_str()),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            "{form}"
        );
    }
    let long = format!("token={}", "a".repeat(crate::token::TOKEN_BYTES_MAX + 5000));
    assert_eq!(house.introspect(&long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let json = Request::post("/oauth2/revoke")
        .header("host", "localhost")
        .header(CONTENT_TYPE, "application/json")
        .header(AUTHORIZATION, basic("login", &house.login));
    let answer = house.app.clone().oneshot(json.body(Body::from("{}")).unwrap()).await.unwrap();
    assert_eq!((answer.status(), error(answer).await.as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
}

#[tokio::test]
async fn a_token_that_verifies_is_revoked_by_its_address() {
    let house = house().await;
    let token = house.key.token(r#","jti":"7""#);
    for verdict in [Verdict::NotRevoked, hit(), Verdict::Unknown(UnknownCause::TooManyCandidates)] {
        house.says(verdict.clone());
        let answer = house.revoke(&format!("token={token}&token_type_hint=access_token")).await;
        assert_eq!((answer.status(), text(answer).await.as_str()), (StatusCode::OK, ""), "{verdict:?}");
        let asked = house.node.revokes.lock().remove(0);
        assert_eq!((asked.caller.principal.as_str(), asked.items.len()), ("login", 1));
        let Target::Token { selector, exp } = &asked.items[0].target else { panic!("by something else") };
        let pairs: Vec<_> = selector.pairs().collect();
        assert_eq!(pairs, [("iss", "https://issuer.example"), ("jti", "7")]);
        assert_eq!(exp.map(|exp| exp.0), Some(NOW + 600));
    }
    let answer = house.revoke(&format!("token={token}")).await;
    assert!(answer.headers().contains_key(RETRY_AFTER));
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "three in a minute were granted");
}

#[tokio::test]
async fn nothing_is_written_of_a_token_that_does_not_verify() {
    let house = house().await;
    let stranger = TestKey::new("k1").token(r#","jti":"7""#);
    let old =
        house.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, r#"{"iss":"https://issuer.example","aud":"api","exp":5}"#);
    for token in [stranger.as_str(), old.as_str(), "mF_9.B5f-4.1JqM", "a.b.c"] {
        let answer = house.revoke(&format!("token={token}")).await;
        assert_eq!((answer.status(), text(answer).await.as_str()), (StatusCode::OK, ""), "{token}");
    }
    // The example of RFC 7009 §2.1 is an opaque refresh token; §2.2.1 has the error for it.
    for opaque in ["45ghiukldjahdnhzdauz&token_type_hint=refresh_token", "a.b.c.d.e"] {
        let answer = house.revoke(&format!("token={opaque}")).await;
        let told = (answer.status(), error(answer).await);
        assert_eq!(told, (StatusCode::BAD_REQUEST, "unsupported_token_type".to_owned()), "{opaque}");
    }
    assert!(house.node.revokes.lock().is_empty());
}

#[tokio::test]
async fn each_refusal_of_the_write_has_its_error() {
    let violations = vec![Violation { field: "f".into(), description: "needs the role \"admin\"".into() }];
    let upstream = "https://authority.example".to_owned();
    for (refusal, status, error_code, retry) in [
        (WriteError::Overloaded, 503, "temporarily_unavailable", Some("1")),
        (WriteError::OutcomeUnknown("stopped".into()), 503, "temporarily_unavailable", Some("1")),
        (WriteError::Unavailable("disk full".into()), 503, "temporarily_unavailable", Some("30")),
        (WriteError::TooManyEntries { limit: 1 }, 503, "temporarily_unavailable", Some("30")),
        (WriteError::NotPermitted { violations }, 403, "unauthorized_client", None),
        (WriteError::NotTheAuthority { upstream }, 421, "not_the_authority", None),
    ] {
        let house = house().await;
        *house.node.write_error.lock() = Some(refusal.clone());
        let answer = house.revoke(&format!("token={}", house.key.token(r#","jti":"7""#))).await;
        let retry_after = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), retry_after.as_deref()), (status, retry), "{refusal}");
        let body = text(answer).await;
        assert!(body.contains(error_code) && !body.contains('\\'), "{body}");
    }
}

#[tokio::test]
async fn an_agent_refuses_to_revoke_and_says_whom_to_ask_before_it_looks_at_the_token() {
    let house = house().await;
    *house.node.following.lock() = Some(Following {
        upstream: "https://authority.example".into(),
        state: "following",
        lag: 0,
        ready: true,
        stale: false,
        deny_when_stale: false,
        max_staleness: Duration::from_secs(300),
        residues: 0,
        trouble: None,
    });
    let answer = house.revoke("token=a.b.c").await;
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let body = text(answer).await;
    assert!(body.contains("not_the_authority") && body.contains("https://authority.example"), "{body}");
    assert!(house.node.revokes.lock().is_empty());
}

async fn metadata(house: &House) -> (StatusCode, Value) {
    let request = Request::get("/.well-known/oauth-authorization-server").header("host", "localhost");
    let answer = house.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status();
    (status, serde_json::from_str(&text(answer).await).unwrap())
}

#[tokio::test]
async fn the_metadata_says_what_is_served() {
    let options = Options { public_url: "https://rescind.example/".parse().ok(), by_certificate: true, class: None };
    let house = house_with(options.clone(), None, true).await;
    let expected = json!({
        "issuer": "https://rescind.example",
        "response_types_supported": ["none"],
        "introspection_endpoint": "https://rescind.example/oauth2/introspect",
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "tls_client_auth", "Bearer"],
        "revocation_endpoint": "https://rescind.example/oauth2/revoke",
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "tls_client_auth"],
    });
    assert_eq!(metadata(&house).await, (StatusCode::OK, expected));
    let open = house_with(options, None, false).await;
    assert_eq!(metadata(&open).await.1["revocation_endpoint_auth_methods_supported"], json!(["none"]));
    assert_eq!(metadata(&self::house().await).await.0, StatusCode::NOT_FOUND, "no public URL");
}

#[test]
fn a_public_url_is_https_or_this_machine_and_nothing_else() {
    for (text, url) in [
        ("https://rescind.example", "https://rescind.example"),
        ("https://x.example:8443/tenant/", "https://x.example:8443/tenant"),
        ("http://127.0.0.1:7009", "http://127.0.0.1:7009"),
        ("http://[::1]:7009/", "http://[::1]:7009"),
    ] {
        assert_eq!(text.parse::<super::PublicUrl>().unwrap().to_string(), url);
    }
    let long = format!("https://x.example/{}", "a".repeat(super::PUBLIC_URL_BYTES_MAX));
    for wrong in
        ["", "x", "http://x.example", "https://", "https://u@x.example", "https://x?a", "https://x#a", "ftp://x", &long]
    {
        assert!(wrong.parse::<super::PublicUrl>().is_err(), "{wrong}");
    }
}
