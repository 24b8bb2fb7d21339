//! Who is let in, and what the others are told: over the router, in both forms.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};
use prost::Message as _;
use tonic::Code;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::*;
use crate::clock::{Clock, ManualTime};
use crate::revocation::UnixMillis;
use crate::security::access::{DenialReason, Options};
use crate::security::credential::{Minted, mint};
use crate::surface::testing::FakeNode;
use crate::surface::{self, Surface};
use crate::wire::pb;

struct House {
    app: Router,
    node: Arc<FakeNode>,
    denials: Arc<Denials>,
    gate: Minted,
    root: Minted,
    _dir: tempfile::TempDir,
}

/// The gate checks, jobs revoke (twice a minute), root does everything.
fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("principals.toml");
    let (gate, root) = (mint().unwrap(), mint().unwrap());
    let principals = format!(
        "[[principal]]\nname = 'gate'\ncredential = '{}'\nroles = ['check']\n\
         [[principal]]\nname = 'jobs'\ncertificate = 'dns:jobs.example'\nroles = ['revoke']\nwrites_per_minute = 2\n\
         [[principal]]\nname = 'branch'\ncertificate = 'dns:branch.example'\nroles = ['admin']\nissuers = ['b']\n\
         [[principal]]\nname = 'root'\ncredential = '{}'\nroles = ['admin']\n",
        gate.hashed(),
        root.hashed()
    );
    std::fs::write(&path, principals).unwrap();
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(1_700_000_000_000)));
    let access = Access::open(Options { principals: path, requests_per_second: 50 }, None, None, clock).unwrap();
    let (node, denials) = (FakeNode::new(), Arc::<Denials>::default());
    let door = Door::asking(access, Arc::clone(&denials));
    let app = Surface::behind(door, node.node(), &surface::Options::default(), Routes::default()).app;
    House { app, node, denials, gate, root, _dir: dir }
}

fn bearer(minted: &Minted) -> String {
    format!("Bearer {}", minted.text.as_str())
}

impl House {
    async fn post(&self, path: &str, authorization: Option<&str>, body: &str) -> http::Response<Body> {
        let mut request = Request::post(path).header("host", "localhost").header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> http::Response<Body> {
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// The code, the message and the headers of a gRPC call that is refused before it is read.
    async fn grpc(&self, path: &str, authorization: Option<&str>) -> (Code, String) {
        let mut request = Request::post(path).version(http::Version::HTTP_2).header(CONTENT_TYPE, "application/grpc");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let message = pb::RevokeRequest::default().encode_to_vec();
        let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        let response = self.send(request.body(Body::from(frame)).unwrap()).await;
        let status = tonic::Status::from_header_map(response.headers());
        status.map_or((Code::Ok, String::new()), |status| (status.code(), status.message().to_owned()))
    }

    fn counted(&self, reason: DenialReason) -> u64 {
        self.denials.counts()[reason.index()]
    }
}

async fn text(response: http::Response<Body>) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap()
}

const CHECK: &str = "{\"token\":\"a\"}";
const REVOKE: &str = "{\"revocations\":[{\"selector\":{\"sub\":\"alice\"}}]}";

#[tokio::test]
async fn whoever_brings_nothing_is_told_how_to_and_nothing_else() {
    let house = house();
    for path in ["/v1/check", "/v1/revocations", "/v1/nothing", "/"] {
        let response = house.post(path, None, CHECK).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer realm=\"rescind\"");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(text(response).await.contains("urn:rescind:problem:unauthenticated"));
    }
    for path in ["/rescind.v1.CheckService/CheckToken", "/rescind.v1.Nothing/Nothing"] {
        assert_eq!(house.grpc(path, None).await.0, Code::Unauthenticated, "{path}");
    }
    assert!(house.node.checked_subjects.lock().is_empty() && house.node.revokes.lock().is_empty());
    assert_eq!(house.counted(DenialReason::Missing), 6);
}

#[tokio::test]
async fn nothing_tells_an_id_that_exists_from_one_that_does_not() {
    let house = house();
    let stranger = mint().unwrap();
    let wrong_secret = format!("Bearer {}{}", &house.gate.text[..21], &stranger.text[21..]);
    let known = house.post("/v1/check", Some(&wrong_secret), CHECK).await;
    let unknown = house.post("/v1/check", Some(&bearer(&stranger)), CHECK).await;
    assert_eq!((known.status(), unknown.status()), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    assert_eq!(text(known).await, text(unknown).await);
    assert_eq!(house.counted(DenialReason::Unknown), 2);
}

#[tokio::test]
async fn a_principal_may_what_its_role_says_and_is_told_what_it_lacks() {
    let house = house();
    let gate = bearer(&house.gate);
    assert_eq!(house.post("/v1/check", Some(&gate), CHECK).await.status(), StatusCode::OK);
    let denied = house.post("/v1/revocations", Some(&gate), REVOKE).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    let told = text(denied).await;
    assert!(told.contains("this needs the role revoke; \\\"gate\\\" has check"), "{told}");
    let (code, told) = house.grpc("/rescind.v1.AdminService/Backup", Some(&gate)).await;
    assert_eq!((code, told.as_str()), (Code::PermissionDenied, "this needs the role admin; \"gate\" has check"));
    assert!(house.node.revokes.lock().is_empty());
    assert_eq!(house.counted(DenialReason::Role { need: Call::Backup.need() }), 2);
}

#[tokio::test]
async fn the_audit_trail_knows_the_principal_and_not_the_address() {
    let house = house();
    let response = house.post("/v1/revocations", Some(&bearer(&house.root)), REVOKE).await;
    assert_eq!(response.status(), StatusCode::OK);
    let revokes = house.node.revokes.lock();
    assert_eq!(revokes[0].caller.principal, "root");
    assert!(revokes[0].caller.grant.roles.allow(crate::revocation::grant::Role::Admin));
}

#[tokio::test]
async fn writes_are_counted_by_item_and_a_dry_run_is_none() {
    let house = house();
    let names = crate::security::CertificateNames { uris: vec![], dns_names: vec!["jobs.example".into()] };
    let names = Arc::new(names);
    let revoke = async |items: usize, dry_run: bool| {
        let items = vec!["{\"selector\":{\"sub\":\"alice\"}}"; items].join(",");
        let body = format!("{{\"revocations\":[{items}],\"dry_run\":{dry_run}}}");
        let request = Request::post("/v1/revocations").header("host", "localhost");
        let request = request.header(CONTENT_TYPE, "application/json").extension(Arc::clone(&names));
        house.send(request.body(Body::from(body)).unwrap()).await
    };
    assert_eq!(revoke(2, true).await.status(), StatusCode::OK);
    assert_eq!(revoke(3, false).await.headers().get(RETRY_AFTER), None, "it never fits");
    assert_eq!(revoke(2, false).await.status(), StatusCode::OK);
    let refused = revoke(1, false).await;
    assert_eq!(
        (refused.status(), &refused.headers()[RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"61".parse().unwrap())
    );
    assert!(text(refused).await.contains("may write 2 revocations and reinstatements in any minute"));
    assert_eq!(revoke(2, true).await.status(), StatusCode::OK);
    assert_eq!(house.counted(DenialReason::TooManyWrites { limit: 0 }), 2);
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let house = house();
    let gate = bearer(&house.gate);
    for _ in 0..50 {
        assert_eq!(house.post("/v1/check", Some(&gate), CHECK).await.status(), StatusCode::OK);
    }
    let refused = house.post("/v1/check", Some(&gate), CHECK).await;
    assert_eq!(
        (refused.status(), &refused.headers()[RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    assert_eq!(house.grpc("/rescind.v1.CheckService/CheckToken", Some(&gate)).await.0, Code::ResourceExhausted);
    let other = house.post("/v1/check", Some(&bearer(&house.root)), CHECK).await;
    assert_eq!(other.status(), StatusCode::OK, "others are not held back");
}

#[tokio::test]
async fn what_is_no_call_goes_no_further_whoever_asks() {
    let house = house();
    let root = bearer(&house.root);
    let response = house.post("/v1/nothing", Some(&root), CHECK).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(house.grpc("/rescind.v1.AdminService/Nothing", Some(&root)).await.0, Code::Unimplemented);
    assert_eq!(house.counted(DenialReason::NoSuchCall), 2);
    let request = Request::builder().method(Method::GET).uri("/v1/check").header("host", "localhost");
    let response = house.send(request.header(AUTHORIZATION, &root).body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    let house = house();
    let (code, _) = house.grpc("/grpc.health.v1.Health/Watch", None).await;
    assert_eq!(code, Code::Ok);
}

#[test]
fn a_request_that_came_around_the_door_is_nobodys() {
    assert!(Asker::of(&http::Extensions::new()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_body_but_not_for_ever() {
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio_stream::{StreamExt as _, iter, pending};
    let house = house();
    let taken = Arc::new(AtomicU32::new(0));
    let nobody = ("/v1/check", "Bearer rsc_", StatusCode::UNAUTHORIZED);
    let lost = ("/v1/checks", &*bearer(&house.gate), StatusCode::NOT_FOUND);
    for ((path, authorization, expected), parts, is_endless) in
        [(nobody, 3, false), (nobody, 3, true), (nobody, 1000, false), (lost, 3, true), (lost, 1000, false)]
    {
        taken.store(0, Ordering::Relaxed);
        let count = Arc::clone(&taken);
        let parts_taken = iter(0..parts).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(vec![b' '; 1024])
        });
        let body = match is_endless {
            true => Body::from_stream(parts_taken.chain(pending())),
            false => Body::from_stream(parts_taken),
        };
        let request = Request::post(path).header("host", "localhost").header(CONTENT_TYPE, "application/json");
        let request = request.header(AUTHORIZATION, authorization);
        let response = house.send(request.body(body).unwrap()).await;
        assert_eq!(response.status(), expected);
        let most = (REFUSED_BODY_BYTES_MAX / 1024) as u32 + 1;
        assert_eq!(taken.load(Ordering::Relaxed), parts.min(most), "{path} {parts} {is_endless}");
    }
}

#[tokio::test]
async fn a_write_beyond_the_grant_is_noted_with_its_call() {
    let house = house();
    let violations = vec![crate::revocation::ports::Violation { field: "a".into(), description: "b".into() }];
    *house.node.write_error.lock() = Some(crate::revocation::ports::WriteError::NotPermitted { violations });
    let denied = house.post("/v1/revocations", Some(&bearer(&house.root)), REVOKE).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    assert_eq!(house.counted(DenialReason::Scope), 1);
}

#[tokio::test]
async fn an_admin_with_bounds_hands_on_no_more_than_he_has() {
    let house = house();
    let uri = http::Uri::from_static("http://localhost");
    let mut client = pb::admin_service_client::AdminServiceClient::with_origin(house.app.clone(), uri);
    let names = crate::security::CertificateNames { uris: vec![], dns_names: vec!["branch.example".into()] };
    let names = Arc::new(names);
    let mut create = async |role: &str, issuers: &[&str]| {
        let issuers = issuers.iter().map(|issuer| (*issuer).to_owned()).collect();
        let grant = Some(pb::Grant { roles: vec![role.into()], issuers, ..pb::Grant::default() });
        let message = pb::CreateCredentialRequest { name: "new".into(), grant, expiry: None };
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(Peer::Unix);
        request.extensions_mut().insert(Arc::clone(&names));
        client.create_credential(request).await.map(drop).map_err(|status| (status.code(), status.message().to_owned()))
    };
    for (role, issuers) in [("admin", &[][..]), ("revoke", &[]), ("admin", &["b", "c"])] {
        let (code, message) = create(role, issuers).await.unwrap_err();
        assert_eq!(code, Code::PermissionDenied);
        assert!(message.contains("grant.issuers: goes beyond that of the caller"), "{message}");
    }
    assert_eq!(house.counted(DenialReason::Scope), 3);
    assert_eq!((create("check", &[]).await, create("admin", &["b"]).await), (Ok(()), Ok(())));
    assert_eq!(house.node.credentials.lock().len(), 2);
}
