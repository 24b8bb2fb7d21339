//! Through axum, by HTTP/1.1.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use super::*;

/// A service that says who asks, and whether it can see the token.
async fn serve(stage: &Stage, layer: VerifyLayer) -> SocketAddr {
    let reached = Arc::clone(&stage.reached);
    let greet = move |request: Request<Body>| async move {
        reached.fetch_add(1, Ordering::SeqCst);
        let who = request.extensions().get::<Allowed>().and_then(|allowed| allowed.subject.clone());
        let token = if request.headers().contains_key(AUTHORIZATION) { "a token" } else { "no token" };
        format!("{}, {token}", who.unwrap_or("nobody".to_owned()))
    };
    let router = Router::new().fallback(greet).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// (status, `WWW-Authenticate`, body) for a request with these `Authorization` headers.
async fn get(address: SocketAddr, path: &str, headers: &[&str]) -> (u16, String, String) {
    let client: HttpClient<_, Empty<Bytes>> = HttpClient::builder(TokioExecutor::new()).build_http();
    let mut request = Request::get(format!("http://{address}{path}"));
    for header in headers {
        request = request.header(AUTHORIZATION, *header);
    }
    let response = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
    let challenge = response.headers().get(WWW_AUTHENTICATE);
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

async fn status(address: SocketAddr, token: &str) -> u16 {
    get(address, "/", &[&format!("Bearer {token}")]).await.0
}

#[tokio::test]
async fn only_a_good_token_comes_through_and_says_whose_it_is() {
    let stage = Stage::set().await;
    let layer = stage.layer();
    let tally = Arc::clone(layer.tally());
    let address = serve(&stage, layer).await;
    let good = stage.good();
    let answer = get(address, "/", &[&format!("Bearer {good}")]).await;
    assert_eq!(answer, (200, String::new(), "ada, a token".to_owned()));

    let past = BEGIN.0 / 1000 - 10;
    let invalid = r#"error="invalid_token""#;
    for (headers, expected_status, expected_challenge, reason) in [
        (vec![], 401, r#"Bearer realm="orders""#, "missing"),
        (vec!["Basic YTpi".to_owned()], 401, r#"Bearer realm="orders""#, "missing"),
        (vec!["Bearer a b".to_owned()], 400, r#"error="invalid_request""#, "unreadable"),
        (vec![format!("Bearer {good}"); 2], 400, r#"error="invalid_request""#, "unreadable"),
        (vec!["Bearer a.b.c".to_owned()], 401, invalid, "malformed"),
        (vec![bearer(&stage, json!({ "scope": "read", "exp": past }))], 401, invalid, "expired"),
        (vec![bearer(&stage, json!({ "scope": "read", "aud": "other" }))], 401, invalid, "audience"),
        (vec![bearer(&stage, json!({ "scope": "read", "sub": "mallory" }))], 401, invalid, "revoked"),
        (vec![format!("Bearer {}", Mint::new("k1").token(json!({ "scope": "read" })))], 401, invalid, "signature"),
        (vec![bearer(&stage, json!({ "scope": "write" }))], 403, r#"error="insufficient_scope""#, "scope"),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let before = tally.refused(reason);
        let (status, challenge, body) = get(address, "/", &headers).await;
        assert_eq!((status, body.as_str()), (expected_status, ""), "{reason}");
        assert!(challenge.starts_with(r#"Bearer realm="orders""#), "{reason}: {challenge}");
        assert!(challenge.contains(expected_challenge), "{reason}: {challenge}");
        assert_eq!(tally.refused(reason), before + 1, "{reason}: {tally:?}");
        assert_eq!(challenge.ends_with(r#", scope="read""#), reason == "scope", "{challenge}");
    }
    assert_eq!((stage.reached(), tally.allowed()), (1, 1));
}

fn bearer(stage: &Stage, claims: Value) -> String {
    format!("Bearer {}", stage.mint.token(claims))
}

#[tokio::test]
async fn revocations_and_policies_count_from_the_next_request_on() {
    let mut stage = Stage::set().await;
    let address = serve(&stage, stage.layer()).await;
    let (good, eve) = (stage.good(), stage.mint.token(json!({ "sub": "eve", "scope": "read" })));
    assert_eq!((status(address, &good).await, status(address, &eve).await), (200, 200));
    stage.revoke("eve").await;
    assert_eq!((status(address, &good).await, status(address, &eve).await), (200, 401));

    stage.apply(policy_of(&stage.mint, "admin")).await;
    assert_eq!(status(address, &good).await, 403);
    let admin = stage.mint.token(json!({ "scope": "admin" }));
    assert_eq!(status(address, &admin).await, 200);

    // Another key at the issuer: tokens of the old one are forgeries now.
    let next = Mint::new("k2");
    stage.apply(policy_of(&next, "read")).await;
    assert_eq!(
        (status(address, &good).await, status(address, &next.token(json!({ "scope": "read" }))).await),
        (401, 200)
    );

    stage.apply(VerificationPolicy::new(vec![], vec![]).unwrap()).await;
    assert_eq!(status(address, &good).await, 503, "there is no such class any more");
}

#[tokio::test]
async fn without_an_authority_it_goes_on_until_it_is_too_stale_to_tell() {
    let mut stage = Stage::set().await;
    let layer = stage.layer();
    let tally = Arc::clone(layer.tally());
    let address = serve(&stage, layer).await;
    let (good, revoked) = (stage.good(), stage.mint.token(json!({ "sub": "mallory", "scope": "read" })));
    stage.kill_authority().await;
    assert_eq!((status(address, &good).await, status(address, &revoked).await), (200, 401));
    stage.grow_stale();
    let (status_now, challenge, _) = get(address, "/", &[&format!("Bearer {good}")]).await;
    assert_eq!((status_now, challenge.as_str()), (503, ""), "it is not about the token");
    assert_eq!(status(address, &revoked).await, 401, "what is revoked stays so");
    assert_eq!(tally.reasons(), [("STALE", 1), ("revoked", 2)]);
    assert_eq!(stage.reached(), 1);
}

#[tokio::test]
async fn a_verifier_keeps_its_client_going() {
    let stage = Stage::set().await;
    let (good, layer) = (stage.good(), stage.layer());
    let address = serve(&stage, layer).await;
    let Stage { client, peer, .. } = stage;
    client.shutdown().await;
    assert_eq!(status(address, &good).await, 200);
    assert!(peer.unwrap().is_heard());
}

#[tokio::test]
async fn each_request_can_ask_for_something_else() {
    let stage = Stage::set().await;
    let route = |parts: &Parts| match parts.uri.path() {
        "/healthz" => Route::Open,
        "/me" => Route::Token,
        path => Route::from(path[1..].to_owned()),
    };
    let address = serve(&stage, VerifyLayer::by(stage.client.verifier(), route)).await;
    let plain = bearer(&stage, json!({}));
    let with_scope = bearer(&stage, json!({ "scope": "read" }));
    for (path, headers, expected) in [
        ("/healthz", vec![], 200),
        ("/healthz", vec!["Bearer a b"], 200),
        ("/me", vec![], 401),
        ("/me", vec![plain.as_str()], 200),
        ("/orders", vec![plain.as_str()], 403),
        ("/orders", vec![with_scope.as_str()], 200),
        ("/invoices", vec![with_scope.as_str()], 503),
    ] {
        assert_eq!(get(address, path, &headers).await.0, expected, "{path}");
    }
}

#[tokio::test]
async fn the_service_does_not_see_the_token_if_it_is_not_to() {
    let stage = Stage::set().await;
    let address = serve(&stage, stage.layer().removing_header()).await;
    let (status, _, body) = get(address, "/", &[&format!("Bearer {}", stage.good())]).await;
    assert_eq!((status, body.as_str()), (200, "ada, no token"));
}

#[tokio::test]
async fn an_observer_lets_everything_through_and_counts_what_it_would_not() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_env_filter("rescind=trace").with_writer(log.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let mut stage = Stage::set().await;
    let layer = stage.layer().observing();
    let tally = Arc::clone(layer.tally());
    let address = serve(&stage, layer).await;
    let good = format!("Bearer {}", stage.good());
    let revoked = bearer(&stage, json!({ "sub": "mallory", "scope": "read" }));
    for (headers, expected) in [
        (vec![good.as_str()], "ada, a token"),
        (vec![], "nobody, no token"),
        (vec![revoked.as_str()], "nobody, a token"),
        (vec![good.as_str(), good.as_str()], "nobody, a token"),
    ] {
        assert_eq!(get(address, "/", &headers).await, (200, String::new(), expected.to_owned()));
    }
    stage.kill_authority().await;
    stage.grow_stale();
    assert_eq!(get(address, "/", &[&good]).await.2, "nobody, a token");
    assert_eq!(tally.allowed(), 1);
    assert_eq!(tally.reasons(), [("STALE", 1), ("missing", 1), ("revoked", 1), ("unreadable", 1)]);
    assert_eq!(stage.reached(), 5);

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    assert_eq!(log.matches("a request would be refused, and is let through").count(), 4, "{log}");
    let payload = revoked.split('.').nth(1).unwrap();
    for secret in ["mallory", "eyJ", payload] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

/// Where lines of the log go.
#[derive(Clone, Default)]
struct Log(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
