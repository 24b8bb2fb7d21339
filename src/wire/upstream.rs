//! A server reached over gRPC: one connection that carries one subscription and nothing else, so that no other call
//! shares its windows.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use super::pb;
use super::pb::replication_service_client::ReplicationServiceClient;
use crate::replica::{Connection, OUTGOING_FRAMES, ServerUrl, Upstream, UpstreamError};
use crate::replication::frames::{FRAME_BYTES_MAX, ToSubscriber};
use crate::revocation::ports::Pending;

pub use crate::replica::UrlError;

/// How long a server may take to accept a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may be silent before it is probed, and then how long the answer may take: a peer that vanished
/// is noticed although nothing is sent to it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What the server may send ahead of the reader, in bytes: a snapshot at full speed over a long way, and no more memory.
const WINDOW_BYTES: u32 = 2 << 20;
/// The largest frame sent, in bytes: a part of a roster.
const OUTGOING_BYTES_MAX: usize = 16 << 10;

/// A server to subscribe to.
#[derive(Clone, Debug)]
pub struct GrpcUpstream {
    name: String,
    endpoint: Endpoint,
}

impl GrpcUpstream {
    /// The server at a URL: `http`, a host, and a port if it is not 80; or `unix:` and the path of its socket.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        url.parse().map(|url: ServerUrl| Self::at(&url))
    }

    /// The same with the URL already read.
    #[must_use]
    pub fn at(url: &ServerUrl) -> Self {
        let endpoint = endpoint(url)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        Self { name: url.to_string(), endpoint }
    }

    /// Connects over what `dial` opens instead of a socket of this machine, with the same limits.
    ///
    /// # Errors
    /// When `dial` fails, or nothing answers in time.
    #[doc(hidden)]
    pub async fn connect_over<D, F, I>(&self, dial: D) -> Result<Connection, UpstreamError>
    where
        D: Fn(Uri) -> F + Send + 'static,
        F: Future<Output = io::Result<I>> + Send + 'static,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connector = tower::service_fn(move |uri| {
            let dialled = dial(uri);
            async move { dialled.await.map(TokioIo::new) }
        });
        opened(self.endpoint.connect_with_connector(connector).await)
    }
}

/// How a server is reached, without limits on how long that may take.
#[must_use]
pub fn endpoint(url: &ServerUrl) -> Endpoint {
    let endpoint = match url {
        ServerUrl::Http(uri) | ServerUrl::Https(uri) => Endpoint::from(uri.clone()),
        ServerUrl::Unix(path) => Endpoint::from_shared(path.to_string()).expect("a path that was read from text"),
    };
    endpoint.user_agent(concat!("rescind/", env!("CARGO_PKG_VERSION"))).expect("a header value")
}

impl Upstream for GrpcUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> Pending<'_, Result<Connection, UpstreamError>> {
        Box::pin(async move { opened(self.endpoint.connect().await) })
    }
}

fn opened(channel: Result<Channel, tonic::transport::Error>) -> Result<Connection, UpstreamError> {
    channel.map(subscribe).map_err(|error| UpstreamError::Unreachable(innermost(&error)))
}

/// Begins the call. The server may answer only after Hello, which the caller has yet to send: the answer is waited for
/// with the first frame.
fn subscribe(channel: Channel) -> Connection {
    let mut client = ReplicationServiceClient::new(channel)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(OUTGOING_BYTES_MAX);
    let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
    let requests = ReceiverStream::new(frames).map(|frame| pb::SubscribeRequest::from(&frame));
    let call = Box::pin(async move { client.subscribe(requests).await });
    Connection { outgoing, incoming: Box::pin(Incoming::Calling(call)) }
}

/// The server's side of a call.
enum Incoming {
    Calling(Pending<'static, Result<Response<Streaming<pb::SubscribeResponse>>, Status>>),
    Streaming(Box<Streaming<pb::SubscribeResponse>>),
}

impl Stream for Incoming {
    type Item = Result<ToSubscriber, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Self::Calling(call) => match ready!(call.as_mut().poll(context)) {
                    Ok(response) => *self = Self::Streaming(Box::new(response.into_inner())),
                    Err(status) => return Poll::Ready(Some(Err(lost(&status)))),
                },
                Self::Streaming(stream) => {
                    let message = ready!(Pin::new(stream.as_mut()).poll_next(context));
                    return Poll::Ready(message.map(frame));
                }
            }
        }
    }
}

fn frame(message: Result<pb::SubscribeResponse, Status>) -> Result<ToSubscriber, UpstreamError> {
    let message = message.map_err(|status| lost(&status))?;
    ToSubscriber::try_from(message).map_err(|error| UpstreamError::Malformed(error.to_string()))
}

/// What a status means: whether the server said it, or the transport.
fn lost(status: &Status) -> UpstreamError {
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal => {
            UpstreamError::Unreachable(innermost(status))
        }
        // Said by the codec at this end: the message is larger than any frame.
        Code::OutOfRange => UpstreamError::Malformed(status.message().to_owned()),
        code => UpstreamError::Refused(format!("{code:?}: {}", status.message())),
    }
}

/// What the system said, without the layers around it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_unreachable_and_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = GrpcUpstream::new(&url).unwrap().connect().await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Unreachable(why) if why.contains("refused")), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_on_is_unreachable_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let upstream = GrpcUpstream::new(&format!("unix:{}", path.display())).unwrap();
        assert_eq!(upstream.name(), format!("unix:{}", path.display()));
        let missing = upstream.connect().await.unwrap_err();
        assert!(matches!(&missing, UpstreamError::Unreachable(why) if why.contains("No such file")), "{missing}");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let stale = upstream.connect().await.unwrap_err();
        assert!(matches!(&stale, UpstreamError::Unreachable(why) if why.contains("refused")), "{stale}");
    }
}
