//! A server reached over gRPC: one connection that carries one subscription and nothing else, so that no other call
//! shares its windows.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Endpoint;
use tonic::{Code, Response, Status, Streaming};

use super::dial::{CONNECT_TIMEOUT, Calls, DialError, Dialler, endpoint};
use super::pb;
use super::pb::replication_service_client::ReplicationServiceClient;
use crate::replica::{Connection, InClear, OUTGOING_FRAMES, ServerUrl, Upstream, UpstreamError};
use crate::replication::frames::{FRAME_BYTES_MAX, ToSubscriber};
use crate::revocation::ports::Pending;
use crate::security::{ClientSecurity, on_one_line};

pub use crate::replica::UrlError;

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
    url: ServerUrl,
    dialler: Dialler,
}

impl GrpcUpstream {
    /// The server at a URL: `https` or `http`, a host, and a port if it is not 443 or 80; or `unix:` and the path of its
    /// socket. Trusts whom the system trusts and shows nothing.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        url.parse().map(|url: ServerUrl| Self::at(&url))
    }

    /// The same with the URL already read.
    #[must_use]
    pub fn at(url: &ServerUrl) -> Self {
        Self { name: url.to_string(), url: url.clone(), dialler: Dialler::plain(url.clone()) }
    }

    /// The same with what the client trusts and shows; read again for each connection.
    ///
    /// # Errors
    /// When a credential would be sent where others can read it.
    pub fn secured(url: &ServerUrl, security: Arc<ClientSecurity>) -> Result<Self, InClear> {
        Ok(Self { name: url.to_string(), url: url.clone(), dialler: Dialler::new(url.clone(), security)? })
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
        let endpoint = shaped(endpoint(&self.url)).connect_timeout(CONNECT_TIMEOUT);
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok(subscribe(Calls::over(channel))),
            Err(error) => Err(UpstreamError::Unreachable(innermost(&error))),
        }
    }
}

/// What a subscription wants of its connection.
fn shaped(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
}

impl Upstream for GrpcUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> Pending<'_, Result<Connection, UpstreamError>> {
        Box::pin(async move {
            self.dialler.dial(shaped).await.map(subscribe).map_err(|error| match error {
                DialError::Denied(why) => UpstreamError::Refused(why),
                error @ (DialError::Tls(_) | DialError::Credential(_) | DialError::Unreachable(_)) => {
                    UpstreamError::Unreachable(on_one_line(&error))
                }
            })
        })
    }
}

/// Begins the call. The server may answer only after Hello, which the caller has yet to send: the answer is waited for
/// with the first frame.
fn subscribe(calls: Calls) -> Connection {
    let mut client = ReplicationServiceClient::new(calls)
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
