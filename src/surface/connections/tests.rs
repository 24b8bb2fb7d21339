//! When connections end, over streams in memory and in virtual time.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_stream::pending;
use tokio_util::sync::CancellationToken;

use super::place::UNTAKEN_PERIOD;
use super::table::IDLE_SPARED;
use super::watch::{FIRST_REQUEST_WITHIN, IDLE_MAX};
use super::*;
use crate::surface::{Accept, Bounds, serve_from};

/// Longer than any connection may live without reason.
const LONG: Duration = Duration::from_secs(3600);
const LARGE_BYTES: usize = 100_000;

/// Connections as a test makes them.
struct Wire(tokio::sync::Mutex<mpsc::Receiver<DuplexStream>>);

impl Accept for Wire {
    type Connection = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, Peer)> {
        match self.0.lock().await.recv().await {
            Some(near) => Ok((near, Peer::from("192.0.2.1:1".parse::<SocketAddr>().unwrap()))),
            None => std::future::pending().await,
        }
    }
}

struct Served {
    connections: Arc<Connections>,
    wire: mpsc::Sender<DuplexStream>,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Served {
    fn start(limits: Limits) -> Self {
        let app = Router::new()
            .route("/v1/check", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
            .route("/large", get(|| async { "x".repeat(LARGE_BYTES) }))
            .route("/never", get(std::future::pending::<()>))
            .route("/grpc.health.v1.Health/Watch", get(|| async { Body::from_stream(pending::<io::Result<Bytes>>()) }))
            .layer(from_fn(prove_who_is_answered));
        let (connections, stop) = (Arc::<Connections>::default(), CancellationToken::new());
        let (wire, accepted) = mpsc::channel(1);
        let bounds = Bounds { connections: limits, ..Bounds::connections(limits.total) };
        let from = Wire(tokio::sync::Mutex::new(accepted));
        let done = tokio::spawn(serve_from(from, app, bounds, Arc::clone(&connections), stop.clone()));
        Self { connections, wire, stop, done }
    }

    async fn connect(&self) -> DuplexStream {
        let (far, near) = duplex(1 << 20);
        self.wire.send(near).await.unwrap();
        far
    }

    /// An HTTP/2 connection that gives `window` bytes for a response, and its end.
    async fn connect_http2(&self, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
        let far = self.connect().await;
        let (requests, connection) =
            h2::client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(far).await.unwrap();
        (requests, tokio::spawn(connection))
    }

    fn count(&self, reason: &str) -> u64 {
        let closed = CLOSED.iter().position(|name| *name == reason).map(|index| self.connections.closed()[index]);
        let refused = REFUSED.iter().position(|name| *name == reason).map(|index| self.connections.refused()[index]);
        closed.or(refused).expect("a known reason")
    }

    async fn stop(self) {
        self.stop.cancel();
        self.done.await.unwrap();
        assert_eq!((self.connections.open(), self.connections.unproven()), (0, 0));
    }
}

fn ask(path: &str) -> Request<()> {
    Request::builder()
        .method(if path == "/v1/check" { "POST" } else { "GET" })
        .uri(format!("http://h{path}"))
        .body(())
        .unwrap()
}

/// A request that is answered whole.
async fn answered(requests: &SendRequest<Bytes>, path: &str) -> usize {
    let mut requests = requests.clone().ready().await.unwrap();
    let (response, _) = requests.send_request(ask(path), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut bytes = 0;
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        bytes += part.len();
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_nothing_is_sent_away() {
    let served = Served::start(Limits::of(8));
    let begun = Instant::now();
    let (_requests, end) = served.connect_http2(65_535).await;
    end.await.unwrap().unwrap();
    assert!((FIRST_REQUEST_WITHIN..FIRST_REQUEST_WITHIN * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!((served.count("first_request"), served.connections.broken()), (1, 0));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_told_to_go_and_one_in_use_is_not() {
    let served = Served::start(Limits::of(8));
    let (idle, idle_end) = served.connect_http2(65_535).await;
    let (used, used_end) = served.connect_http2(65_535).await;
    let (never, _) = used.clone().ready().await.unwrap().send_request(ask("/never"), true).unwrap();
    assert_eq!(answered(&idle, "/large").await, LARGE_BYTES);
    let begun = Instant::now();
    idle_end.await.unwrap().unwrap();
    assert!((IDLE_MAX..IDLE_MAX * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(timeout(LONG, never).await.is_err(), "still under way");
    assert!(!used_end.is_finished());
    assert_eq!(served.count("idle"), 1);
    served.stop().await;
}

/// By a window of nothing, and by one that is large enough for the head of a part.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_taken_ends_the_connection() {
    for window in [0, 1, 2000] {
        let served = Served::start(Limits::of(8));
        let (requests, end) = served.connect_http2(window).await;
        let (response, _) = requests.clone().ready().await.unwrap().send_request(ask("/large"), true).unwrap();
        let _body = response.await.unwrap();
        let begun = Instant::now();
        let _ = end.await.unwrap();
        assert!(begun.elapsed() <= UNTAKEN_PERIOD * 3, "{window}: {:?}", begun.elapsed());
        assert_eq!(served.count("untaken"), 1, "{window}");
        served.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_taken_slowly_is_left_alone() {
    let served = Served::start(Limits::of(8));
    let (requests, end) = served.connect_http2(16 << 10).await;
    let (response, _) = requests.clone().ready().await.unwrap().send_request(ask("/large"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let (mut bytes, begun) = (0, Instant::now());
    while let Some(part) = body.data().await {
        bytes += part.as_ref().unwrap().len();
        tokio::time::sleep(UNTAKEN_PERIOD).await;
        body.flow_control().release_capacity(part.unwrap().len()).unwrap();
    }
    assert_eq!(bytes, LARGE_BYTES);
    assert!(begun.elapsed() > UNTAKEN_PERIOD * 3);
    assert!(!end.is_finished());
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_closes_the_oldest_of_itself_and_nobody_who_was_answered() {
    let served = Served::start(Limits { total: 8, unproven: 2, per_address: 8, per_principal: 8 });
    let (honest, end) = served.connect_http2(65_535).await;
    answered(&honest, "/v1/check").await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(served.connect().await);
    }
    for connection in &mut flood[..18] {
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0, "it was closed");
    }
    answered(&honest, "/v1/check").await;
    assert!(!end.is_finished());
    assert_eq!((served.connections.unproven(), served.count("unproven")), (2, 18));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_house_refuses_whoever_comes_until_somebody_is_idle() {
    let served = Served::start(Limits { per_address: 2, ..Limits::of(2) });
    let mut busy = Vec::new();
    for _ in 0..2 {
        let (requests, end) = served.connect_http2(65_535).await;
        answered(&requests, "/v1/check").await;
        busy.push((requests, end));
    }
    assert_eq!(served.connect().await.read(&mut [0]).await.unwrap(), 0, "it was closed");
    assert_eq!(served.count("address"), 1);
    tokio::time::sleep(IDLE_SPARED).await;
    let (requests, _) = served.connect_http2(65_535).await;
    assert_eq!(answered(&requests, "/large").await, LARGE_BYTES);
    assert_eq!(served.count("displaced"), 1);
    // The first of the two was told to go.
    busy.swap_remove(0).1.await.unwrap().unwrap();
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_proves_nothing_to_the_listener() {
    let served = Served::start(Limits::of(8));
    let (requests, _end) = served.connect_http2(65_535).await;
    answered(&requests, "/no-such-path").await;
    assert_eq!(served.connections.unproven(), 1);
    answered(&requests, "/v1/check").await;
    assert_eq!((served.connections.unproven(), served.connections.open()), (0, 1));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let served = Served::start(Limits::of(8));
    let mut far = served.connect().await;
    far.write_all(b"POST /v1/check HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nxx").await.unwrap();
    let begun = Instant::now();
    let mut answer = vec![0; 12];
    far.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 400");
    assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_few_watches_and_those_that_are_over_count_no_more() {
    let served = Served::start(Limits::of(4));
    let (mut requests, _connection) = served.connect_http2(1 << 16).await;
    let mut watch = async || {
        requests = requests.clone().ready().await.unwrap();
        let request = Request::get("http://localhost/grpc.health.v1.Health/Watch").body(()).unwrap();
        requests.send_request(request, true).unwrap().0.await.unwrap()
    };
    let mut watches = Vec::new();
    for _ in 0..WATCHES_MAX {
        watches.push(watch().await);
    }
    assert!(watches.iter().all(|watch| watch.status() == 200));
    assert_eq!(watch().await.status(), 503);
    watches.pop();
    let again = timeout(LONG, async { while watch().await.status() != 200 {} }).await;
    assert!(again.is_ok(), "the place of one that is over is free");
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_does_not_hold_a_server_up_that_stops() {
    let served = Served::start(Limits::of(4));
    let (requests, _connection) = served.connect_http2(1 << 16).await;
    let mut watching = requests.clone().ready().await.unwrap();
    let request = Request::get("http://localhost/grpc.health.v1.Health/Watch").body(()).unwrap();
    let _watch = watching.send_request(request, true).unwrap().0.await.unwrap();
    let mut asking = requests.clone().ready().await.unwrap();
    let request = Request::post("http://localhost/v1/check").body(()).unwrap();
    let (answer, mut body) = asking.send_request(request, false).unwrap();
    let stopping = Instant::now();
    served.stop.cancel();
    tokio::time::sleep(Duration::from_secs(3)).await;
    body.send_data("x".into(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200, "what had begun is answered");
    served.stop().await;
    let took = stopping.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}
