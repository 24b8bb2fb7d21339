//! Both protocols on one port, over a listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::ops::{self, Ops};
use super::testing::{FakeNode, HERE, ID};
use super::*;
use crate::wire::pb;
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::check_service_client::CheckServiceClient;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

/// A served surface; stopped on drop.
struct Served {
    node: Arc<FakeNode>,
    address: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<()>,
    surface: Surface,
}

impl Served {
    async fn start() -> Self {
        Self::start_within(Bounds::connections(8)).await
    }

    async fn start_within(bounds: Bounds) -> Self {
        let node = FakeNode::new();
        let options = Options { data_dir: "/data".into(), ..Options::default() };
        let surface = Surface::new(node.node(), &options, Routes::default());
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
        let (address, stop) = (listener.address().tcp().unwrap(), CancellationToken::new());
        let done = tokio::spawn(listener.serve(surface.app.clone(), bounds, stop.clone()));
        Self { node, address, stop, done, surface }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// The answer to a raw HTTP/1.1 request, whole.
    async fn http1(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn by_sub(sub: &str) -> pb::Revocation {
    let claims = vec![pb::Claim { name: "sub".into(), value: sub.into() }];
    let target = Some(pb::revocation::Target::Selector(pb::Selector { claims }));
    pb::Revocation { target, ..pb::Revocation::default() }
}

fn token(text: &str) -> pb::PresentedToken {
    pb::PresentedToken { presented: Some(pb::presented_token::Presented::Token(text.into())) }
}

#[tokio::test]
async fn one_port_speaks_grpc_and_json() {
    let served = Served::start().await;
    let mut client = RevocationServiceClient::new(served.channel().await);
    let request = pb::RevokeRequest { revocations: vec![by_sub("alice")], ..Default::default() };
    let reply = client.revoke(request).await.unwrap().into_inner();
    assert_eq!(reply.outcomes[0].id, ID.to_string());
    assert_eq!(reply.outcomes[0].tokens_valid_from_seconds, reply.outcomes[0].cutoff_seconds.map(|c| c + 1));

    let body = "{\"revocations\":[{\"selector\":{\"sub\":\"alice\"}}]}";
    let answer = served
        .http1(&format!(
            "POST /v1/revocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(&HERE.to_string()), "{answer}");

    let asked = served.node.revokes.lock();
    assert_eq!(asked[0].body_hash, asked[1].body_hash, "the twins are the same request");
    assert_eq!(asked[0].caller.principal, "anonymous@127.0.0.1");
    assert_eq!(asked[0].caller, asked[1].caller);
}

#[tokio::test]
async fn every_service_answers() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut check = CheckServiceClient::new(channel.clone());
    let tokens = vec![token("a"), token("b")];
    let many = check.check_tokens(pb::CheckTokensRequest { tokens, at_least: None }).await.unwrap().into_inner();
    assert_eq!(many.responses.len(), 2);

    let mut revocations = RevocationServiceClient::new(channel.clone());
    let get = |id: String| pb::GetRevocationRequest { id, at_least: None };
    let found = revocations.get_revocation(get(ID.to_string())).await.unwrap().into_inner();
    assert_eq!(found.revocation.unwrap().id, ID.to_string());
    assert_eq!(revocations.get_revocation(get("abababab-9-9".into())).await.unwrap_err().code(), Code::NotFound);
    let list = revocations.list_revocations(pb::ListRevocationsRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.revocations.len(), list.next_page_token.as_str()), (1, "next"));

    let mut admin = AdminServiceClient::new(channel.clone());
    let status = admin.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.data_dir.as_str(), status.subscribers, status.insecure), ("/data", 2, false));

    use tonic_health::pb::health_check_response::ServingStatus as Health;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    for (serving, expected) in [(true, Health::Serving), (false, Health::NotServing)] {
        served.surface.set_serving(serving).await;
        for service in ["", "rescind.v1.CheckService"] {
            let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
            assert_eq!(health.check(request).await.unwrap().into_inner().status(), expected);
        }
    }
}

#[tokio::test]
async fn wrong_requests_carry_the_fields_as_details() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut check = CheckServiceClient::new(channel.clone());
    let short = Some(pb::Position { epoch: vec![], revision: 1 });
    let cases = [
        (vec![], None, "tokens", "1 to 1000, 0 given"),
        (vec![token("a"); 1001], None, "tokens", "1 to 1000, 1001 given"),
        (vec![token("a"), token("a.b.!")], None, "tokens[1].token", "base64url"),
        (vec![pb::PresentedToken::default()], None, "tokens[0]", "one of token, opaque_token and claims"),
        (vec![token("a")], short, "at_least.epoch", "16 bytes, 0 given"),
    ];
    for (tokens, at_least, field, part) in cases {
        let status = check.check_tokens(pb::CheckTokensRequest { tokens, at_least }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(violation.description.contains(part), "{part:?} is missing in {:?}", violation.description);
    }
    assert_eq!(check.check_token(pb::CheckTokenRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_full_batch_is_answered_and_a_larger_one_refused_by_its_limit() {
    let served = Served::start().await;
    let mut client = RevocationServiceClient::new(served.channel().await);
    let batch = |count: usize, value: &str| pb::RevokeRequest {
        revocations: vec![by_sub(value); count],
        ..pb::RevokeRequest::default()
    };
    let full = client.revoke(batch(10_000, &"x".repeat(80))).await.unwrap().into_inner();
    assert_eq!(full.outcomes.len(), 10_000);
    let large = client.revoke(batch(1100, &"x".repeat(1024))).await.unwrap_err();
    assert_eq!(large.code(), Code::InvalidArgument);
    assert!(large.message().contains("1048576"), "{large}");
    let enormous = client.revoke(batch(5000, &"x".repeat(1024))).await.unwrap_err();
    assert_eq!(enormous.code(), Code::OutOfRange);
    assert!(enormous.message().contains("4194304"), "{enormous}");
}

#[tokio::test]
async fn a_browser_on_this_machine_is_kept_out() {
    let served = Served::start().await;
    let request = |headers: &str| format!("POST /v1/check HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    for (headers, status) in [
        ("host: evil.example\r\n", "421"),
        ("host: 127.0.0.1\r\norigin: http://evil.example\r\n", "403"),
        ("host: 127.0.0.1\r\ncontent-type: application/grpc\r\n", "505"),
        ("host: 127.0.0.1\r\ncontent-type: text/plain\r\n", "415"),
    ] {
        let answer = served.http1(&request(headers)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers} {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented() {
    let served = Served::start().await;
    let mut client = tonic::client::Grpc::new(served.channel().await);
    client.ready().await.unwrap();
    let path = ::http::uri::PathAndQuery::from_static("/rescind.v1.NoService/None");
    let codec = tonic_prost::ProstCodec::<pb::GetStatusRequest, pb::GetStatusResponse>::default();
    let refused = client.unary(tonic::Request::new(pb::GetStatusRequest {}), path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_taken_port_says_so_and_what_to_pass() {
    let first = Listener::bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
    let refused = Listener::bind(first.address().clone(), "--ops-listen").await.unwrap_err();
    let expected =
        format!("{} is taken by another process; choose another with --ops-listen HOST:PORT", first.address());
    assert_eq!(refused.to_string(), expected);
}

#[tokio::test]
async fn stopping_lets_a_request_that_has_begun_finish() {
    let mut served = Served::start().await;
    served.node.gate.forget_permits(usize::MAX);
    let channel = served.channel().await;
    let request = pb::RevokeRequest { revocations: vec![by_sub("a")], ..Default::default() };
    let mut client = RevocationServiceClient::new(channel);
    let under_way = tokio::spawn(async move { client.revoke(request).await });
    while !served.node.waits_at_gate() {
        tokio::task::yield_now().await;
    }
    served.stop.cancel();
    served.node.gate.add_permits(1);
    assert!(under_way.await.unwrap().is_ok());
    (&mut served.done).await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_request_without_end() {
    let stop_grace = Duration::from_millis(50);
    let mut served = Served::start_within(Bounds { stop_grace, ..Bounds::connections(8) }).await;
    served.node.gate.forget_permits(usize::MAX);
    let mut client = RevocationServiceClient::new(served.channel().await);
    let request = pb::RevokeRequest { revocations: vec![by_sub("a")], ..Default::default() };
    let under_way = tokio::spawn(async move { client.revoke(request).await });
    while !served.node.waits_at_gate() {
        tokio::task::yield_now().await;
    }
    served.stop.cancel();
    (&mut served.done).await.unwrap();
    assert!(under_way.await.unwrap().is_err());
}

#[tokio::test]
async fn one_that_asks_nothing_makes_room_for_another() {
    let served = Served::start_within(Bounds::connections(1)).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    let second = served.http1("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(second.starts_with("HTTP/1.1 404 "), "{second}");
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "it was closed");
}

/// One connection, and no more.
struct One(parking_lot::Mutex<Option<tokio::io::DuplexStream>>);

impl Accept for One {
    type Connection = tokio::io::DuplexStream;

    async fn accept(&self) -> std::io::Result<(Self::Connection, Peer)> {
        let near = self.0.lock().take();
        match near {
            Some(near) => Ok((near, Peer::Unknown)),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_held_against_a_connection_in_the_middle_of_a_request_only() {
    let whole = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for (sent, broken) in [("", 0), (whole, 0), ("GET / HT", 1), (&whole[..whole.len() - 2], 1)] {
        let (mut far, near) = tokio::io::duplex(1 << 12);
        let (counted, stop) = (Arc::<Connections>::default(), CancellationToken::new());
        let from = One(parking_lot::Mutex::new(Some(near)));
        let bounds = Bounds::connections(2);
        let served = tokio::spawn(serve_from(from, Router::new(), bounds, Arc::clone(&counted), stop.clone()));
        far.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        stop.cancel();
        served.await.unwrap();
        assert_eq!((counted.open(), counted.broken()), (0, broken), "{sent:?}");
    }
}

#[tokio::test]
async fn operators_see_metrics_and_why_the_server_is_degraded() {
    use tower::ServiceExt;
    let node = FakeNode::new();
    let stop = CancellationToken::new();
    let metrics: ops::RenderMetrics = Arc::new(|| "# EOF\n".to_owned());
    let app = ops::router(Ops { metrics, reports: node.clone(), stop: stop.clone() });
    let get = async |path: &str, accept: &str| {
        let request = ::http::Request::get(path).header("accept", accept).body(axum::body::Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(get("/livez", "*/*").await, (200, "ok\n".to_owned()));
    assert_eq!(get("/metrics", "*/*").await, (200, "# EOF\n".to_owned()));
    assert_eq!(get("/readyz", "*/*").await, (200, "ready\n".to_owned()));
    *node.writes_refused.lock() = Some("disk full".into());
    assert_eq!(get("/readyz", "*/*").await, (200, "ready\nwrites are refused: disk full\n".to_owned()));
    let json = "{\"ready\":true,\"reasons\":[\"writes are refused: disk full\"]}";
    assert_eq!(get("/readyz", "application/json").await, (200, json.to_owned()));
    (*node.writes_refused.lock(), *node.members_trouble.lock()) = (None, Some("no table".into()));
    assert_eq!(get("/readyz", "*/*").await, (200, "ready\nsubscribers may be missed unseen: no table\n".to_owned()));
    stop.cancel();
    assert_eq!(get("/readyz", "*/*").await.0, 503);
}
