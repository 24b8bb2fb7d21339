//! Listening: one port for gRPC (HTTP/2 with prior knowledge) and HTTP, in clear or in TLS, and the bounds of every
//! connection.
//!
//! Stopping lets every request that has begun finish, for as long as [`Bounds::stop_grace`]; then connections are cut.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::address::Address;
use super::budget::{Admitted, Arriving, Class, REQUESTS_MAX, Shed, no_room};
use super::connections::{Connections, Ending, Limits, Midway, Open, Taken, UnderWay, WATCHES_MAX};
use super::guard::is_grpc;
use super::handshake::{CurrentTls, HandshakeError, shake};
use super::peer::{Encrypted, Peer};
use super::preface::Prefaced;
use super::socket::{Refused, Socket};
use crate::security::CertificateNames;
use crate::security::tls::ServerTls;

/// Requests under way on one connection. hyper's own default, which its builder drops when told nothing.
const STREAMS_MAX: u32 = 200;
/// Streams reset by this side for the far end's errors, per connection: beyond it the connection is closed
/// (RUSTSEC-2024-0003).
const LOCAL_ERROR_RESETS_MAX: usize = 1024;
/// Streams the far end opened and reset before they were answered, per connection (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// A header section, in bytes: a 16 KiB bearer token and some room.
const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// Header fields of one HTTP/1 request.
const HEADER_FIELDS_MAX: usize = 64;
/// The read buffer of an HTTP/1 connection, in bytes: holds one header section.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Above this much, in bytes, nothing more is taken from the body of a slow HTTP/2 response. What is taken counts whole,
/// so that large chunks flow all the same; small ones take a place of some 330 bytes each beside their own.
const SEND_BUFFER_BYTES_MAX: usize = 2 * 1024;
/// An idle HTTP/2 connection is asked for a sign of life this often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// and closed when none comes for so long.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first bytes of a connection and an HTTP/1 request head may take; also closes idle HTTP/1 connections.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What has begun on a connection that is to leave may take so long; whoever answers GOAWAY needs a few round trips.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// What lasts, and is no subscription: its answer begins at once and ends when the caller likes.
const WATCHES: [&str; 3] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// The pause after an accept failed for want of descriptors or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most connections at once. Each takes about 25 KiB.
    pub connections: Limits,
    /// The most requests under way at once.
    pub requests_max: usize,
    /// How long requests that have begun may take once the server stops: 10 s by default, less than the 30 s that
    /// service managers wait before they kill.
    pub stop_grace: Duration,
}

impl Bounds {
    /// The default bounds with so many connections.
    #[must_use]
    pub fn connections(connections_max: usize) -> Self {
        Self {
            connections: Limits::of(connections_max),
            requests_max: REQUESTS_MAX,
            stop_grace: Duration::from_secs(10),
        }
    }
}

/// Why nothing can be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error("{address} is taken by another process; choose another with {flag} {}", address.form())]
    Taken {
        /// The address asked for.
        address: Address,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A file that is no socket is where the socket was to be.
    #[error("{address} ({flag}) is there already and is no socket; it is left alone")]
    NotSocket {
        /// The address asked for.
        address: Address,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// Anything else.
    #[error("cannot listen on {address} ({flag})")]
    Io {
        /// The address asked for.
        address: Address,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket that serves nothing yet. The file of a Unix socket is removed once it is served no more, or on drop.
pub struct Listener {
    socket: Socket,
    address: Address,
    connections: Arc<Connections>,
    tls: Option<Secured>,
}

/// How a listener speaks TLS.
#[derive(Clone)]
struct Secured {
    current: CurrentTls,
    /// What tells that a certificate was taken back.
    trust: Option<Arc<ServerTls>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_secured = self.tls.is_some();
        f.debug_struct("Listener")
            .field("address", &self.address)
            .field("is_secured", &is_secured)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds `address`, which the user sets by `flag`. Connections wait until [`Listener::serve`].
    ///
    /// # Errors
    /// When the address is taken or cannot be bound.
    pub async fn bind(address: Address, flag: &'static str) -> Result<Self, BindError> {
        match Socket::bind(&address).await {
            Ok((socket, address)) => Ok(Self { socket, address, connections: Arc::default(), tls: None }),
            Err(Refused::Taken) => Err(BindError::Taken { address, flag }),
            Err(Refused::NotSocket) => Err(BindError::NotSocket { address, flag }),
            Err(Refused::Io(source)) => Err(BindError::Io { address, flag, source }),
        }
    }

    /// Speaks TLS only, with what `tls` says at each handshake. A Unix socket stays in clear: its file's permissions guard
    /// it, and nothing leaves this machine.
    #[must_use]
    pub fn secured(mut self, tls: Option<CurrentTls>) -> Self {
        let tls = tls.filter(|_| self.address.tcp().is_some());
        self.tls = tls.map(|current| Secured { current, trust: None });
        self
    }

    /// Ends a connection once the certificate that it has shown is not accepted any more by `trust`.
    #[must_use]
    pub fn recalling(mut self, trust: Arc<ServerTls>) -> Self {
        self.tls = self.tls.map(|tls| Secured { trust: Some(trust), ..tls });
        self
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// The address bound; tells the port when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its connections, counted from when it serves.
    #[must_use]
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// Answers with `app`. Returns once `stop` is cancelled and all connections are closed, at most
    /// [`Bounds::stop_grace`] later.
    pub async fn serve(self, app: Router, bounds: Bounds, stop: CancellationToken) {
        accept_all(self.socket, self.tls, app, bounds, self.connections, stop).await;
    }
}

/// Where connections come from: a bound socket, or a network that a test makes.
#[doc(hidden)]
pub trait Accept: Send + Sync {
    /// A connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and who is at its far end.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Connection, Peer)>> + Send;
}

/// What [`Listener::serve`] does with its socket, in clear. `from` is dropped before connections are waited for.
#[doc(hidden)]
pub async fn serve_from<A: Accept>(
    from: A,
    app: Router,
    bounds: Bounds,
    counted: Arc<Connections>,
    stop: CancellationToken,
) {
    accept_all(from, None, app, bounds, counted, stop).await;
}

async fn accept_all<A: Accept>(
    from: A,
    tls: Option<Secured>,
    app: Router,
    bounds: Bounds,
    counted: Arc<Connections>,
    stop: CancellationToken,
) {
    counted.limit(bounds.connections);
    counted.budget().limit(bounds.requests_max);
    let mut connections = JoinSet::new();
    let builder = Arc::new(builder());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = from.accept() => accepted,
        };
        match accepted {
            Ok((connection, peer)) => {
                // Dropped, hence closed, where there is no place.
                let Some(open) = counted.admit(peer) else { continue };
                let (app, builder, stop, tls) = (app.clone(), Arc::clone(&builder), stop.clone(), tls.clone());
                connections.spawn(async move {
                    let far = Far { peer, names: None, is_encrypted: false };
                    match tls {
                        None => serve_connection(connection, far, app, &builder, open, stop).await,
                        Some(tls) => secure_connection(connection, &tls, far, app, &builder, open, stop).await,
                    }
                });
            }
            Err(error) => {
                let made_room = counted.make_room();
                tracing::warn!(%error, made_room, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(from);
    let closed = timeout(bounds.stop_grace, async { while connections.join_next().await.is_some() {} }).await;
    if closed.is_err() {
        tracing::warn!(connections = connections.len(), "connections are cut");
        connections.shutdown().await;
    }
}

/// What is known of a connection's far end.
struct Far {
    peer: Peer,
    /// Of the certificate that it has shown, if it has.
    names: Option<Arc<CertificateNames>>,
    is_encrypted: bool,
}

/// The same behind a handshake.
async fn secure_connection<I>(
    io: I,
    tls: &Secured,
    far: Far,
    app: Router,
    builder: &auto::Builder<TokioExecutor>,
    open: Open,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut watch = open.watch();
    // Before the handshake, so that no change after it is missed.
    let trust = tls.trust.as_ref().map(|trust| (trust, trust.changes()));
    let shaken = tokio::select! {
        shaken = shake((tls.current)(), io) => shaken,
        // However it has to end: nothing was begun.
        _ = watch.ending() => return,
        () = stop.cancelled() => return,
    };
    let peer = far.peer;
    match shaken {
        // In a box, so that connections in clear do not pay for its room.
        Ok((io, names)) => {
            let recall = open.recall();
            let shown = trust
                .and_then(|(trust, changes)| Some((trust, changes, trust.shown(io.get_ref().1.peer_certificates())?)));
            let far = Far { peer, names, is_encrypted: true };
            let served = Box::pin(serve_connection(io, far, app, builder, open, stop));
            let Some((trust, changes, shown)) = shown else { return served.await };
            let taken_back = async {
                trust.taken_back(&shown, changes).await;
                tracing::info!(%peer, "a connection is closed: the certificate that it has shown was taken back");
                recall.end();
            };
            tokio::pin!(served);
            tokio::select! {
                () = &mut served => {}
                () = taken_back => served.await,
            }
        }
        Err(HandshakeError::Failed { failure, why }) => {
            open.note_handshake(failure);
            if let Some(left_out) = open.admit_line() {
                tracing::info!(%peer, why, left_out, "a TLS handshake failed");
            }
        }
        Err(HandshakeError::Gone(error)) => tracing::debug!(%peer, %error, "left during the TLS handshake"),
    }
}

/// Serves one connection to its end, whatever it runs over.
async fn serve_connection<I>(
    io: I,
    far: Far,
    app: Router,
    builder: &auto::Builder<TokioExecutor>,
    open: Open,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Far { peer, names, is_encrypted } = far;
    let midway = Midway::default();
    let mut watch = open.watch();
    let io = Prefaced::within(io, HEAD_TIMEOUT, midway.clone());
    let (asked, proof, budget) = (midway.clone(), open.proof(), open.budget());
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        if is_encrypted {
            request.extensions_mut().insert(Encrypted);
        }
        if let Some(names) = &names {
            request.extensions_mut().insert(Arc::clone(names));
        }
        request.extensions_mut().insert(proof.clone());
        // HTTP/2 asks an idle connection for a sign of life; one that gives none is broken.
        let asked = (request.version() < Version::HTTP_2).then(|| asked.clone());
        let under_way = open.begin_request();
        // Counted here, not when the answer is first polled: what waits for a processor is under way too.
        let admitted = budget.admit(Class::of(request.uri().path()));
        // In a box, because hyper keeps its room for as long as the response lasts.
        Box::pin(answer(app.clone(), request, asked, admitted, under_way))
    });
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    // `None`: it was cut.
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        ending = watch.ending() => match ending {
            Ending::Cut => None,
            Ending::Leave => {
                connection.as_mut().graceful_shutdown();
                timeout(LEAVE_WITHIN, connection).await.ok()
            }
        },
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => Some(ended),
                // Whoever watches was told, and need not be waited for.
                () = open.only_watched() => timeout(LEAVE_WITHIN, connection).await.ok(),
            }
        }
    };
    match ended {
        Some(Err(error)) if open.note(&*error, &midway) => {
            if let Some(left_out) = open.admit_line() {
                tracing::info!(%peer, error, left_out, "a connection was closed for what came over it");
            }
        }
        Some(Err(error)) => tracing::debug!(%peer, error, "connection ended"),
        Some(Ok(())) | None => {}
    }
}

/// Answers one request, if there is room for it.
async fn answer(
    app: Router,
    request: Request<Incoming>,
    asked: Option<Midway>,
    admitted: Result<Admitted, Shed>,
    mut under_way: UnderWay,
) -> Result<Response<Taken>, Infallible> {
    let class = Class::of(request.uri().path());
    // A subscription has limits of its own, in both directions, and lasts.
    let is_lasting = class == Class::Subscription;
    let response = match admitted {
        Ok(_) if WATCHES.contains(&request.uri().path()) && !under_way.begin_watch() => {
            let detail = format!("a connection has at most {WATCHES_MAX} streams of health and reflection");
            no_room(detail, is_grpc(request.headers()))
        }
        Ok(admitted) => {
            let request = match is_lasting {
                true => request.map(Body::new),
                false => request.map(|body| Body::new(Arriving::new(body, admitted.ticket()))),
            };
            let Ok(response) = app.oneshot(request).await;
            response
        }
        Err(shed) => shed.response(is_grpc(request.headers())),
    };
    if let Some(asked) = asked {
        asked.end();
    }
    Ok(response.map(|body| Taken::new(body, under_way, !is_lasting)))
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADER_FIELDS_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    builder
}
