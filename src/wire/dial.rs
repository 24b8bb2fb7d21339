//! Reaching a server: over TCP or a Unix socket, in TLS where its URL says so, with what the client shows of itself.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt as _};

use super::tls_fault::{Noted, TlsFault};
use crate::replica::{InClear, ServerUrl, host};
use crate::security::tls::TlsError;
use crate::security::{BearerFileError, ClientSecurity};

/// How long a server may take to accept a TCP connection,
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// and then to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A server, and how it is reached.
#[derive(Clone, Debug)]
pub struct Dialler {
    url: ServerUrl,
    security: Arc<ClientSecurity>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// This client's TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// This client's credential cannot be used.
    #[error(transparent)]
    Credential(#[from] BearerFileError),
    /// The server wants another certificate of this client, or one at all.
    #[error("{0}")]
    Denied(String),
    /// Nobody answers there, or nobody who is to be trusted.
    #[error("{0}")]
    Unreachable(String),
}

impl Dialler {
    /// Reads nothing and connects nowhere yet.
    ///
    /// # Errors
    /// When a credential would be sent where others can read it.
    pub fn new(url: ServerUrl, security: Arc<ClientSecurity>) -> Result<Self, InClear> {
        if security.has_credential() {
            url.require_confidential()?;
        }
        Ok(Self { url, security })
    }

    /// Whom it reaches when it is told nothing else: without a credential, trusting whom the system trusts.
    #[must_use]
    pub fn plain(url: ServerUrl) -> Self {
        Self { url, security: Arc::default() }
    }

    /// Connects with what the files say now; `shape` sets what the caller wants of the connection.
    ///
    /// # Errors
    /// When files cannot be used, or the server cannot be reached, is not to be trusted, or refuses.
    pub async fn dial(&self, shape: impl FnOnce(Endpoint) -> Endpoint) -> Result<Calls, DialError> {
        let security = Arc::clone(&self.security);
        let is_tls = matches!(self.url, ServerUrl::Https(_));
        // Reads files; and this machine's list of authorities, which may be long.
        let read = tokio::task::spawn_blocking(move || {
            let tls = is_tls.then(|| security.tls().current()).transpose()?;
            Ok::<_, DialError>((tls, security.credential()?))
        });
        let (tls, credential) = read.await.map_err(|error| DialError::Unreachable(error.to_string()))??;
        let bearer = credential.map(|credential| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", credential.expose())).expect("printable ASCII");
            value.set_sensitive(true);
            value
        });
        let endpoint = shape(endpoint(&self.url)).connect_timeout(CONNECT_TIMEOUT);
        let fault = Arc::new(OnceLock::new());
        let channel = match tls {
            None if matches!(self.url, ServerUrl::Unix(_)) => endpoint.connect().await,
            None => {
                let noted = Arc::clone(&fault);
                let dial = tower::service_fn(move |uri| clear(uri, Arc::clone(&noted)));
                endpoint.connect_with_connector(dial).await
            }
            Some(config) => {
                let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT + HANDSHAKE_TIMEOUT);
                let (connector, fault) = (TlsConnector::from(config), Arc::clone(&fault));
                let dial = tower::service_fn(move |uri| secure(uri, connector.clone(), Arc::clone(&fault)));
                endpoint.connect_with_connector(dial).await
            }
        };
        match channel {
            Ok(channel) => Ok(Calls { channel, bearer, fault }),
            Err(error) => Err(fault.get().map_or_else(|| failed(&error), of_fault)),
        }
    }
}

/// How a server is reached, without limits on how long that may take.
pub(super) fn endpoint(url: &ServerUrl) -> Endpoint {
    let endpoint = match url {
        ServerUrl::Http(uri) | ServerUrl::Https(uri) => Endpoint::from(uri.clone()),
        ServerUrl::Unix(path) => Endpoint::from_shared(path.to_string()).expect("a path that was read from text"),
    };
    endpoint.user_agent(concat!("rescind/", env!("CARGO_PKG_VERSION"))).expect("a header value").tcp_nodelay(true)
}

async fn tcp(uri: Uri) -> Result<TcpStream, BoxError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Ok(tcp.oneshot(uri).await?.into_inner())
}

async fn clear(uri: Uri, fault: Arc<OnceLock<TlsFault>>) -> Result<TokioIo<Noted<TcpStream>>, BoxError> {
    Ok(TokioIo::new(Noted::in_clear(tcp(uri).await?, fault)))
}

async fn secure(
    uri: Uri,
    connector: TlsConnector,
    fault: Arc<OnceLock<TlsFault>>,
) -> Result<TokioIo<Noted<TlsStream<TcpStream>>>, BoxError> {
    let name = ServerName::try_from(host(&uri).to_owned())?;
    let stream = tcp(uri).await?;
    match timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(TokioIo::new(Noted::new(stream, fault))),
        Ok(Err(error)) => Err(TlsFault::of(&error).into()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time").into()),
    }
}

fn of_fault(fault: &TlsFault) -> DialError {
    match fault.is_denial() {
        true => DialError::Denied(fault.to_string()),
        false => DialError::Unreachable(fault.to_string()),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> DialError {
    let mut cause = error;
    loop {
        if let Some(fault) = cause.downcast_ref::<TlsFault>() {
            return of_fault(fault);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return DialError::Unreachable(cause.to_string()),
        }
    }
}

/// A connection that calls are made over, each with the client's credential.
#[derive(Clone)]
pub struct Calls {
    channel: Channel,
    bearer: Option<HeaderValue>,
    /// What the server said against the client's certificate: in TLS 1.3 only after the handshake, when the first call is
    /// under way. Or that it speaks TLS where the client does not.
    fault: Arc<OnceLock<TlsFault>>,
}

impl Calls {
    /// Calls over a channel that somebody else has opened.
    pub(super) fn over(channel: Channel) -> Self {
        Self { channel, bearer: None, fault: Arc::default() }
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("has_bearer", &self.bearer.is_some()).finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(context).map_err(|error| said(&self.fault, error))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        let (call, fault) = (self.channel.call(request), Arc::clone(&self.fault));
        Box::pin(async move { call.await.map_err(|error| said(&fault, error)) })
    }
}

/// The server's own word about the certificate, where there is one, instead of what came of it.
fn said(fault: &OnceLock<TlsFault>, error: tonic::transport::Error) -> BoxError {
    match fault.get() {
        Some(fault) if fault.is_denial() => Status::unauthenticated(fault.to_string()).into(),
        Some(fault) => Status::unavailable(fault.to_string()).into(),
        None => error.into(),
    }
}
