//! A server reached over gRPC: one connection that carries one subscription and nothing else, so that no other call
//! shares its windows.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Uri;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use super::pb;
use super::pb::replication_service_client::ReplicationServiceClient;
use crate::replica::{Connection, OUTGOING_FRAMES, Upstream, UpstreamError};
use crate::replication::frames::{FRAME_BYTES_MAX, ToSubscriber};
use crate::revocation::ports::Pending;

/// How long a server may take to accept a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may be silent before it is probed, and then how long the answer may take: a peer that vanished
/// is noticed although nothing is sent to it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What the server may send ahead of the reader, in bytes: a snapshot at full speed over a long way, and no more memory.
const WINDOW_BYTES: u32 = 2 << 20;
/// The largest frame sent, in bytes: a Hello with a full path, or an ack with all laggards.
const OUTGOING_BYTES_MAX: usize = 16 << 10;

/// Why a URL does not name a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not the URL of a server; expected one such as http://127.0.0.1:7009, without path or query")]
pub struct UrlError {
    /// What was given.
    pub given: String,
}

/// A server to subscribe to.
#[derive(Clone, Debug)]
pub struct GrpcUpstream {
    name: String,
    endpoint: Endpoint,
}

impl GrpcUpstream {
    /// The server at a URL: `http`, a host, and a port if it is not 80.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError { given: url.to_owned() };
        let uri: Uri = url.trim().parse().map_err(|_| malformed())?;
        let bare = uri.path() == "/" && uri.query().is_none();
        let has_userinfo = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if uri.scheme_str() != Some("http") || !bare || has_userinfo {
            return Err(malformed());
        }
        let name = uri.to_string().trim_end_matches('/').to_owned();
        let endpoint = Endpoint::from(uri)
            .user_agent(concat!("rescind/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| malformed())?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        Ok(Self { name, endpoint })
    }
}

impl Upstream for GrpcUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> Pending<'_, Result<Connection, UpstreamError>> {
        Box::pin(async move {
            let channel = self.endpoint.connect().await;
            let channel = channel.map_err(|error| UpstreamError::Unreachable(innermost(&error)))?;
            Ok(subscribe(channel))
        })
    }
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

    #[test]
    fn only_urls_of_servers_are_taken() {
        for url in ["http://127.0.0.1:7009", "http://[::1]:7009/", " http://rescind.internal:7009"] {
            assert!(GrpcUpstream::new(url).is_ok(), "{url}");
        }
        for url in ["", "127.0.0.1:7009", "https://a:1", "http://a/b", "http://a/?q", "http://u:p@a:1", "unix:/a"] {
            assert_eq!(GrpcUpstream::new(url).unwrap_err().given, url);
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable_and_says_why() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = GrpcUpstream::new(&url).unwrap().connect().await.unwrap_err();
        assert!(matches!(&error, UpstreamError::Unreachable(why) if why.contains("refused")), "{error}");
    }
}
