//! Gateways ask over the router, in both forms.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};
use prost::Message as _;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::*;
use crate::clock::{Clock, ManualTime};
use crate::revocation::ports::{Pending, VerificationPolicies};
use crate::revocation::verification::{KeySource, RouteClass, VersionedPolicy};
use crate::revocation::{Cutoff, Hit, Shape, TestedClaim, UnixMillis, UnknownCause, Verdict, VerificationPolicy};
use crate::security::access::{Access, Options as AccessOptions};
use crate::security::audit::Denials;
use crate::security::credential::{Minted, mint};
use crate::security::tls::ClientFiles;
use crate::security::{CertificateNames, IssuerDocuments};
use crate::surface::testing::FakeNode;
use crate::surface::{self, Door, Surface};
use crate::token::Verifier;
use crate::token::keys::KeyRing;
use crate::token::testing::{ISS, NOW, TestKey, issuer, payload};

struct Applied(Arc<VersionedPolicy>);

impl VerificationPolicies for Applied {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        Some(Arc::clone(&self.0))
    }

    fn changed(&self, _: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        Box::pin(std::future::pending())
    }
}

struct House {
    app: Router,
    node: Arc<FakeNode>,
    key: TestKey,
    gate: Minted,
    _dir: tempfile::TempDir,
}

/// Behind a door: a gate with a credential, and one with a certificate.
fn house(asks: bool) -> House {
    let key = TestKey::new("k1");
    let class = RouteClass {
        name: "orders".into(),
        issuers: vec![],
        audiences: vec![],
        scopes: vec!["orders.read".into()],
        claims: vec![],
    };
    let policy = VerificationPolicy::new(vec![issuer(KeySource::Inline(key.set()))], vec![class]).unwrap();
    let applied = Arc::new(Applied(Arc::new(VersionedPolicy { version: 1, policy })));
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(NOW * 1000)));
    let documents = Arc::new(IssuerDocuments::trusting(ClientFiles::default()));
    let keys = KeyRing::new(documents, tokio::runtime::Handle::current());
    let node = FakeNode::new();
    let verifier = Verifier::new(applied, node.clone(), keys, clock.clone());
    let node_with = surface::Node { verifier: Some(verifier), ..node.node() };

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("principals.toml");
    let gate = mint().unwrap();
    let principals = format!(
        "[[principal]]\nname = 'gate'\ncredential = '{}'\nroles = ['check']\n\
         [[principal]]\nname = 'envoy'\ncertificate = 'dns:envoy.example'\nroles = ['check']\n",
        gate.hashed()
    );
    std::fs::write(&path, principals).unwrap();
    let access =
        Access::open(AccessOptions { principals: path, requests_per_second: 1000 }, None, None, clock).unwrap();
    let door = if asks { Door::asking(access, Arc::<Denials>::default()) } else { Door::default() };
    let app = Surface::behind(door, node_with, &surface::Options::default(), Routes::default()).app;
    House { app, node, key, gate, _dir: dir }
}

/// What a gateway was told: status, challenge, subject.
type Told = (u16, Option<String>, Option<String>);

impl House {
    fn good(&self) -> String {
        self.key.token(r#","jti":"7","scope":"orders.read","client_id":"app""#)
    }

    async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        self.app.clone().oneshot(request).await.unwrap()
    }

    async fn forward(&self, query: &str, headers: &[(&str, &str)]) -> Told {
        let mut request = Request::get(format!("/authz{query}")).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        told(&self.send(request.body(Body::empty()).unwrap()).await)
    }

    async fn forward_shown(&self, names: &str, headers: &[(&str, &str)]) -> Told {
        let names = CertificateNames { dns_names: vec![names.to_owned()], ..CertificateNames::default() };
        let mut request = Request::get("/authz?class=orders").header("host", "localhost").extension(Arc::new(names));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        told(&self.send(request.body(Body::empty()).unwrap()).await)
    }

    async fn envoy(&self, message: &CheckRequest) -> CheckResponse {
        let message = message.encode_to_vec();
        let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        let request = Request::post("/envoy.service.auth.v3.Authorization/Check")
            .version(http::Version::HTTP_2)
            .header(CONTENT_TYPE, "application/grpc");
        let response = self.send(request.body(Body::from(frame)).unwrap()).await;
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        CheckResponse::decode(&body[5..]).unwrap()
    }
}

fn told(response: &http::Response<Body>) -> Told {
    let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), text(WWW_AUTHENTICATE.as_str()), text("x-rescind-subject"))
}

fn hit() -> Verdict {
    let shape = Shape::new(["jti"], TestedClaim::Iat).unwrap();
    Verdict::Revoked(Hit { shape, cutoff: Cutoff::UNBOUNDED })
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn forward_auth_lets_a_good_token_pass_and_says_who_it_is() {
    let house = house(false);
    let authorization = bearer(&house.good());
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
        let request = Request::builder().method(method).uri("/authz?class=orders").header("host", "localhost");
        let request = request.header(AUTHORIZATION, &authorization).header("origin", "https://shop.example");
        let response = house.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let values = IDENTITY.map(|name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()));
        let expires = (NOW + 600).to_string();
        let expected = [Some(ISS), Some("ada"), Some("app"), Some("orders.read"), Some(&*expires)];
        assert_eq!(values, expected.map(|value| value.map(str::to_owned)));
    }
}

#[tokio::test]
async fn forward_auth_says_of_everything_what_it_is_even_if_it_is_nothing() {
    let house = house(false);
    let authorization = bearer(&house.key.token(r#","scope":"orders.read""#));
    let request = Request::get("/authz?class=orders").header("host", "localhost").header(AUTHORIZATION, &authorization);
    let response = house.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().get("x-rescind-client-id").unwrap(), "", "or what the user sent would stay");
}

#[tokio::test]
async fn forward_auth_answers_every_other_token_with_401_or_403() {
    let house = house(false);
    let good = house.good();
    let of = async |authorization: Option<&str>| {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        house.forward("?class=orders", &headers).await
    };
    let (status, challenge, _) = of(None).await;
    assert_eq!((status, challenge.as_deref()), (401, Some(r#"Bearer realm="orders""#)));
    for (token, expected, error) in [
        (house.key.token(""), 403, "insufficient_scope"),
        (TestKey::new("k1").token(r#","scope":"orders.read""#), 401, "invalid_token"),
        ("opaque".to_owned(), 401, "invalid_token"),
        ("a b".to_owned(), 401, "invalid_request"),
        (String::new(), 401, "invalid_request"),
    ] {
        let (status, challenge, subject) = of(Some(&bearer(&token))).await;
        assert_eq!((status, subject), (expected, None), "{token}");
        assert!(challenge.unwrap().contains(&format!("error=\"{error}\"")), "{token}");
    }
    assert_eq!(house.forward("", &[("authorization", &bearer(&good)), ("authorization", &bearer(&good))]).await.0, 401);
    *house.node.verdict.lock() = hit();
    let (status, challenge, _) = of(Some(&bearer(&good))).await;
    assert_eq!(status, 401);
    assert!(challenge.unwrap().contains("invalid_token"));
}

#[tokio::test]
async fn what_cannot_be_told_is_answered_as_the_gateway_wants_it() {
    let house = house(false);
    let authorization = bearer(&house.good());
    let of = async |query: &str| house.forward(query, &[("authorization", &authorization)]).await.0;
    assert_eq!(of("?class=orders").await, 200);
    *house.node.verdict.lock() = Verdict::Unknown(UnknownCause::Stale);
    assert_eq!(of("?class=orders").await, 503);
    assert_eq!(of("?class=orders&unknown=403").await, 403);
    assert_eq!(of("?unknown=401&class=orders").await, 401);
    *house.node.verdict.lock() = Verdict::NotRevoked;
    assert_eq!(
        of("?class=no-such-class").await,
        503,
        "a class that the policy does not have is not a class without rules"
    );
    assert_eq!(of("?class=").await, 503, "nor is one without a name");
    assert_eq!(of("").await, 200, "without a class a good token is enough");
    for query in ["?class=orders&class=x", "?unknown=200", "?unknown=403&unknown=401", "?klass=orders", "?class"] {
        assert!([400, 503].contains(&of(query).await), "{query}");
    }
    assert_eq!(of(&format!("?class={}", "x".repeat(600))).await, 400);
}

#[tokio::test]
async fn a_gateways_credential_and_a_users_token_are_never_taken_for_each_other() {
    let house = house(true);
    let (gate, user) = (bearer(house.gate.text.as_str()), bearer(&house.good()));
    // The gateway shows a credential: the user's token is forwarded beside it.
    let both = [("authorization", gate.as_str()), ("x-forwarded-authorization", user.as_str())];
    assert_eq!(house.forward("?class=orders", &both).await.0, 200);
    let (status, challenge, _) = house.forward("?class=orders", &[("authorization", &gate)]).await;
    assert_eq!((status, challenge.as_deref()), (401, Some(r#"Bearer realm="orders""#)), "no token of the user");
    // A user who reaches the port by himself is no gateway, whatever he forwards.
    let (status, challenge, _) = house.forward("?class=orders", &[("authorization", &user)]).await;
    assert_eq!((status, challenge.as_deref()), (401, Some(r#"Bearer realm="rescind""#)));
    assert_eq!(house.forward("?class=orders", &[("x-forwarded-authorization", &user)]).await.0, 401);

    // The gateway shows a certificate: `authorization` is the user's, and what he forwards himself is nothing.
    let shown = async |headers: &[(&str, &str)]| house.forward_shown("envoy.example", headers).await;
    assert_eq!(shown(&[("authorization", &user)]).await.0, 200);
    assert_eq!(shown(&[("x-forwarded-authorization", &user)]).await.0, 401);
    let thief = bearer(&TestKey::new("k1").token(r#","scope":"orders.read""#));
    assert_eq!(shown(&[("authorization", &thief), ("x-forwarded-authorization", &user)]).await.0, 401);
    assert_eq!(shown(&[("authorization", &gate), ("x-forwarded-authorization", &user)]).await.0, 401);
    // A certificate that stands for nobody changes nothing: everybody has one in a mesh.
    assert_eq!(house.forward_shown("other.example", &both).await.0, 200);
    assert_eq!(house.forward_shown("other.example", &[("authorization", &user)]).await.0, 401);
}

fn ruling(response: &CheckResponse) -> (i32, u16, Vec<(String, String)>) {
    let pairs = |headers: &[envoy_types::pb::envoy::config::core::v3::HeaderValueOption]| {
        let headers = headers.iter().filter_map(|option| option.header.clone());
        headers.map(|header| (header.key, header.value)).collect::<Vec<_>>()
    };
    let code = response.status.as_ref().unwrap().code;
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => (code, 200, pairs(&ok.headers)),
        HttpResponse::DeniedResponse(denied) => {
            (code, denied.status.as_ref().unwrap().code as u16, pairs(&denied.headers))
        }
        HttpResponse::ErrorResponse(_) => panic!("nothing answers so"),
    }
}

#[tokio::test]
async fn envoy_is_told_the_same() {
    let house = house(false);
    let good = bearer(&house.key.token(r#","scope":"orders.read""#));
    let ask = async |authorization: &str, extensions: &[(&str, &str)]| {
        house
            .envoy(&envoy::request(&[("authorization", authorization), ("x-rescind-subject", "eve")], extensions))
            .await
    };
    let orders = [("rescind_class", "orders")];
    let passed = ask(&good, &orders).await;
    let (code, _, headers) = ruling(&passed);
    assert_eq!(code, 0);
    assert!(headers.contains(&("x-rescind-subject".to_owned(), "ada".to_owned())), "{headers:?}");
    let HttpResponse::OkResponse(ok) = passed.http_response.unwrap() else { unreachable!() };
    assert_eq!(ok.headers_to_remove, ["x-rescind-client-id"], "what the user sent of himself goes");

    for (authorization, expected) in [
        (bearer("opaque"), (16, 401)),
        (bearer(&house.key.token("")), (7, 403)),
        ("Bearer a,Bearer b".to_owned(), (3, 400)),
        (String::new(), (16, 401)),
    ] {
        let (code, status, headers) = ruling(&ask(&authorization, &orders).await);
        assert_eq!((code, status), expected, "{authorization}");
        assert!(
            headers
                .iter()
                .any(|(name, value)| name == "www-authenticate" && value.starts_with("Bearer realm=\"orders\""))
        );
    }
    let (code, status, headers) = ruling(&ask(&good, &[("rescind_class", "none")]).await);
    assert_eq!((code, status, headers.len()), (14, 503, 1));
    let unknown = [("rescind_class", "none"), ("rescind_unknown", "403")];
    assert_eq!(ruling(&ask(&good, &unknown).await).1, 403);
    *house.node.verdict.lock() = hit();
    assert_eq!(ruling(&ask(&good, &orders).await).1, 401);
}

#[tokio::test]
async fn envoys_own_verification_is_taken_only_where_the_route_says_so() {
    let house = house(false);
    let claims: serde_json::Value = serde_json::from_str(&payload(r#","scope":"orders.read""#)).unwrap();
    let with_claims = |extensions: &[(&str, &str)]| {
        let mut request = envoy::request(&[], extensions);
        let payload = Value { kind: Some(Kind::StructValue(of_json(&claims))) };
        let filter = Struct { fields: [("verified".to_owned(), payload)].into() };
        let metadata = request.attributes.as_mut().unwrap().metadata_context.get_or_insert_default();
        metadata.filter_metadata.insert("envoy.filters.http.jwt_authn".to_owned(), filter);
        request
    };
    let class = ("rescind_class", "orders");
    let status = async |request: CheckRequest| ruling(&house.envoy(&request).await).1;
    assert_eq!(status(with_claims(&[class, ("rescind_claims", "verified")])).await, 200);
    assert_eq!(status(with_claims(&[class])).await, 401, "they are not looked at");
    assert_eq!(status(with_claims(&[class, ("rescind_claims", "other")])).await, 401, "there are none of that name");
    *house.node.verdict.lock() = Verdict::Unknown(UnknownCause::Incomplete("header.kid".into()));
    assert_eq!(status(with_claims(&[class, ("rescind_claims", "verified")])).await, 503);
}

fn of_json(json: &serde_json::Value) -> Struct {
    let kind = |value: &serde_json::Value| match value {
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        other => Kind::StringValue(other.as_str().unwrap().to_owned()),
    };
    let fields = json.as_object().unwrap().iter();
    Struct { fields: fields.map(|(name, value)| (name.clone(), Value { kind: Some(kind(value)) })).collect() }
}

#[tokio::test]
async fn without_a_policy_nothing_passes() {
    let node = FakeNode::new();
    let app = Surface::new(node.node(), &surface::Options::default(), Routes::default()).app;
    let request = Request::get("/authz").header("host", "localhost").header(AUTHORIZATION, "Bearer a.b.c");
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("NO_POLICY"));
}

#[test]
fn identities_are_made_fit_for_headers() {
    for (text, expected) in [
        ("auth0|5f7c", "auth0|5f7c"),
        ("zoë", "zo%C3%AB"),
        ("a\r\nset-cookie: x", "a%0D%0Aset-cookie: x"),
        ("100%", "100%25"),
        (" a b ", "%20a%20b%20"),
        ("\u{0}", "%00"),
    ] {
        assert_eq!(header_text(text), expected);
        assert!(http::HeaderValue::try_from(header_text(text)).is_ok());
    }
}
