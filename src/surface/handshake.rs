//! The TLS handshake of a connection, before anything of HTTP is read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, Error, InvalidMessage, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::security::CertificateNames;

/// How long a handshake may take: some round trips over a long way, and a busy machine at either end.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the far end may take to read why its handshake failed, and to close.
const LINGER: Duration = Duration::from_secs(1);
/// What is read from it meanwhile, in bytes: its first flight, and some requests.
const LINGER_BYTES_MAX: u64 = 64 << 10;

/// The configuration of the next handshake.
pub type CurrentTls = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Why a handshake failed, in a word: for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It took too long.
    TimedOut,
    /// What came was no TLS: somebody called `http://` here.
    Plaintext,
    /// The client's certificate is missing or not accepted.
    Certificate,
    /// The client ended it: it does not accept this server's certificate, most likely.
    Refused,
    /// Anything else: no version or algorithm in common, or no TLS that anybody understands.
    Protocol,
}

impl HandshakeFailure {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::TimedOut, Self::Plaintext, Self::Certificate, Self::Refused, Self::Protocol];

    /// Its name in the metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Plaintext => "plaintext",
            Self::Certificate => "certificate",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }
}

/// Why a connection has no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The far end went away, as probes do.
    #[error("the far end went away")]
    Gone(#[source] io::Error),
    /// It failed.
    #[error("{why}")]
    Failed {
        /// In a word.
        failure: HandshakeFailure,
        /// For people.
        why: String,
    },
}

/// Agrees on TLS, and whose certificate the client has shown.
pub(super) async fn shake<I>(
    config: Arc<ServerConfig>,
    io: I,
) -> Result<(TlsStream<I>, Option<Arc<CertificateNames>>), HandshakeError>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |failure, why: String| HandshakeError::Failed { failure, why };
    let accepted = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(io).into_fallible()).await;
    let stream = match accepted {
        Err(_) => return Err(failed(HandshakeFailure::TimedOut, format!("no handshake within {HANDSHAKE_TIMEOUT:?}"))),
        Ok(Err((error, io))) => match error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
            None => return Err(HandshakeError::Gone(error)),
            Some(cause) => {
                let error = failed(failure_of(cause), said(cause));
                linger(io).await;
                return Err(error);
            }
        },
        Ok(Ok(stream)) => stream,
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let names = shown.map(|certificate| Arc::new(CertificateNames::of(certificate)));
    Ok((stream, names))
}

/// Closes a connection so that the alert arrives. What the far end has sent meanwhile must be read: if it is thrown away,
/// the system resets the connection, and the far end may never see why.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let read_off = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // It is closed in any case.
    let _ = timeout(LINGER, read_off).await;
}

fn failure_of(error: &Error) -> HandshakeFailure {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => HandshakeFailure::Plaintext,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) | Error::NoCertificatesPresented => {
            HandshakeFailure::Certificate
        }
        Error::AlertReceived(_) => HandshakeFailure::Refused,
        _ => HandshakeFailure::Protocol,
    }
}

fn said(error: &Error) -> String {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what came is not TLS: this port is for https:// only".to_owned()
        }
        Error::AlertReceived(AlertDescription::UnknownCA) => {
            "the client does not trust the authority of this server's certificate".to_owned()
        }
        Error::AlertReceived(alert) => format!("the client refused: {alert:?}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
