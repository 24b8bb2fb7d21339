//! Callers: so many requests a second whatever becomes of them, or one after the other as fast as they are answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tonic::transport::Endpoint;

/// Checks in a second at the agent, and for how long.
const CHECKS_PER_SECOND: u32 = 2_000;
/// Requests in a second through Envoy: far below what it can, so that latency is not queueing.
const PACED_PER_SECOND: u32 = 200;
const PACED: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);
/// Connections to a gateway.
const CONNECTIONS: usize = 16;
pub(crate) const CLOSED: Duration = Duration::from_secs(10);

/// Milliseconds.
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Latency {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        Self { p50: seconds[seconds.len() / 2] * 1e3, p99: seconds[seconds.len() * 99 / 100] * 1e3 }
    }
}

/// Asks an agent as Envoy does.
pub(crate) async fn ext_authz(node: SocketAddr, tokens: &[String]) -> Latency {
    let channel = Endpoint::from_shared(format!("http://{node}")).unwrap().connect().await.unwrap();
    let requests: Arc<Vec<CheckRequest>> = Arc::new(tokens.iter().map(|token| check_request(token)).collect());
    at_rate(CHECKS_PER_SECOND, |n, took| {
        let (mut client, requests) = (AuthorizationClient::new(channel.clone()), Arc::clone(&requests));
        async move {
            let request = requests[n % requests.len()].clone();
            let begun = Instant::now();
            let answer = client.check(request).await.unwrap().into_inner();
            let _ = took.try_send(begun.elapsed().as_secs_f64());
            assert_eq!(answer.status.unwrap().code, 0);
        }
    })
    .await
}

fn check_request(authorization: &str) -> CheckRequest {
    let http = HttpRequest {
        method: "GET".into(),
        path: "/orders/7".into(),
        headers: [("authorization".to_owned(), authorization.to_owned())].into(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        request: Some(Request { time: None, http: Some(http) }),
        context_extensions: [("rescind_class".to_owned(), "orders".to_owned())].into(),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

/// Requests at a steady rate through a gateway.
pub(crate) async fn paced(gateway: SocketAddr, path: &'static str, tokens: &[String]) -> Latency {
    let connections = connect(gateway).await;
    let tokens: Arc<[String]> = tokens.into();
    at_rate(PACED_PER_SECOND, |n, took| {
        let (connection, tokens) = (Arc::clone(&connections[n % CONNECTIONS]), Arc::clone(&tokens));
        async move {
            let mut connection = connection.lock().await;
            let begun = Instant::now();
            get(&mut connection, gateway, path, &tokens[n % tokens.len()]).await;
            let _ = took.try_send(begun.elapsed().as_secs_f64());
        }
    })
    .await
}

/// Requests answered in a second, with one under way on each connection.
pub(crate) async fn closed(gateway: SocketAddr, path: &'static str, tokens: &[String]) -> f64 {
    let answered = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let callers = connect(gateway).await.into_iter().enumerate().map(|(n, connection)| {
        let (answered, token) = (Arc::clone(&answered), tokens[n % tokens.len()].clone());
        tokio::spawn(async move {
            let mut connection = connection.lock().await;
            while begun.elapsed() < CLOSED {
                get(&mut connection, gateway, path, &token).await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    answered.load(Ordering::Relaxed) as f64 / CLOSED.as_secs_f64()
}

async fn connect(gateway: SocketAddr) -> Vec<Arc<Mutex<SendRequest<Empty<Bytes>>>>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Arc::new(Mutex::new(dial(gateway).await)));
    }
    connections
}

async fn dial(gateway: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(gateway).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(connection: &mut SendRequest<Empty<Bytes>>, gateway: SocketAddr, path: &str, token: &str) {
    let request = hyper::Request::get(path).header("host", gateway.to_string()).header("authorization", token);
    // nginx ends a connection after its 1,000th request.
    if connection.ready().await.is_err() {
        *connection = dial(gateway).await;
    }
    let response = connection.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
}

/// Sends so many a second, however long the earlier ones take; what they took once warm. A thread keeps the pace: the
/// runtime's own timers are as coarse as what is measured.
async fn at_rate<F>(per_second: u32, mut send: impl FnMut(usize, mpsc::Sender<f64>) -> F) -> Latency
where
    F: Future<Output = ()> + Send + 'static,
{
    let (ticks, mut ticked) = mpsc::channel(per_second as usize);
    let pace = Duration::from_secs(1) / per_second;
    let count = ((WARM_UP + PACED).as_secs() * u64::from(per_second)) as usize;
    let keeper = std::thread::spawn(move || {
        let begun = Instant::now();
        for n in 0..count {
            std::thread::sleep((begun + pace * n as u32).saturating_duration_since(Instant::now()));
            ticks.blocking_send(n).unwrap();
        }
    });
    let (took, mut taken) = mpsc::channel(count);
    while let Some(n) = ticked.recv().await {
        tokio::spawn(send(n, took.clone()));
    }
    drop(took);
    keeper.join().unwrap();
    let mut all = Vec::with_capacity(count);
    while let Some(seconds) = taken.recv().await {
        all.push(seconds);
    }
    assert_eq!(all.len(), count, "all were answered");
    Latency::of(all.split_off((WARM_UP.as_secs() * u64::from(per_second)) as usize))
}
