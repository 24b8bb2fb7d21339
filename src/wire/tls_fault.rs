//! What went wrong with TLS, in words for people, and whose fault it was.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why a server cannot be talked to in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsFault {
    why: String,
    is_denial: bool,
}

impl TlsFault {
    /// What an error of a TLS stream means.
    pub(super) fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        let is_denial = matches!(cause, Some(Error::AlertReceived(alert)) if is_of_certificate(*alert));
        let why = match cause {
            Some(cause) => describe(cause),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it closed the connection during the TLS handshake".to_owned()
            }
            None => error.to_string(),
        };
        Self { why, is_denial }
    }

    /// What was expected to be HTTP in clear is TLS.
    fn speaks_tls() -> Self {
        Self { why: "it speaks TLS: use https://".to_owned(), is_denial: false }
    }

    /// Whether the server refused this client, and not the other way around.
    pub(super) fn is_denial(&self) -> bool {
        self.is_denial
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for TlsFault {}

fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by none of the authorities that are trusted here; name the file of its \
             authority's certificate"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            let seconds = time.as_secs().saturating_sub(not_after.as_secs());
            format!("its certificate expired {seconds} seconds ago")
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { .. }) => {
            "its certificate is not valid yet, or the clock of this machine is wrong".to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let names = if presented.is_empty() { "any name".to_owned() } else { presented.join(", ") };
            let only = if presented.is_empty() { "nor for" } else { "but for" };
            format!("its certificate is not for {}, {only} {names}", expected.to_str())
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS; is it an http:// server?".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => "it asks for a client certificate".to_owned(),
        Error::AlertReceived(alert) if is_of_certificate(*alert) => {
            format!("it refuses this client's certificate ({})", words(*alert))
        }
        Error::AlertReceived(alert) => format!("it refuses the TLS handshake ({alert:?})"),
        error => error.to_string(),
    }
}

/// Whether a server says so of a client's certificate (RFC 8446 §6.2).
fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

fn words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRevoked => "it was taken back".to_owned(),
        AlertDescription::CertificateExpired => "it has expired".to_owned(),
        AlertDescription::UnknownCA => "the server does not know its authority".to_owned(),
        alert => format!("{alert:?}"),
    }
}

/// Whether a server's first bytes are a TLS record (RFC 8446 §5.1): the alert with which it answers HTTP in clear. As the head
/// of an HTTP/2 frame they would announce one of more than a megabyte, before any settings allow it.
fn is_tls(first: &[u8]) -> bool {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    const MAJOR_VERSION: u8 = 3;
    matches!(first, [ALERT | HANDSHAKE, MAJOR_VERSION, ..])
}

/// A stream that keeps what TLS said when it broke, or that there is TLS where none was expected: the layers above pass on no
/// more than that it broke.
#[derive(Debug)]
pub(super) struct Noted<S> {
    stream: S,
    fault: Arc<OnceLock<TlsFault>>,
    /// In clear, and nothing came yet.
    is_clear_and_new: bool,
}

impl<S> Noted<S> {
    pub(super) fn new(stream: S, fault: Arc<OnceLock<TlsFault>>) -> Self {
        Self { stream, fault, is_clear_and_new: false }
    }

    /// One that is not in TLS.
    pub(super) fn in_clear(stream: S, fault: Arc<OnceLock<TlsFault>>) -> Self {
        Self { stream, fault, is_clear_and_new: true }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let came = &into.filled()[before..];
        if self.is_clear_and_new && !came.is_empty() {
            self.is_clear_and_new = false;
            if is_tls(came) {
                let _ = self.fault.set(TlsFault::speaks_tls());
            }
        }
        if let Poll::Ready(Err(error)) = &read
            && error.get_ref().is_some_and(|cause| cause.is::<Error>())
        {
            // Of several the first tells why.
            let _ = self.fault.set(TlsFault::of(error));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn check(error: Error, part: &str, is_denial: bool) {
        let fault = TlsFault::of(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(fault.to_string().contains(part), "{part:?} is missing in: {fault}");
        assert_eq!(fault.is_denial(), is_denial, "{fault}");
    }

    #[test]
    fn what_is_wrong_with_a_server_is_no_denial() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext { time: at(100), not_after: at(40) };
        check(expired.into(), "expired 60 seconds ago", false);
        check(CertificateError::UnknownIssuer.into(), "none of the authorities", false);
        let expected = ServerName::try_from("a.example").unwrap();
        let presented = vec!["b.example".to_owned()];
        let other = CertificateError::NotValidForNameContext { expected, presented };
        check(other.into(), "not for a.example, but for b.example", false);
        check(Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS", false);
        check(Error::AlertReceived(AlertDescription::ProtocolVersion), "ProtocolVersion", false);
    }

    #[tokio::test]
    async fn only_the_first_bytes_of_a_server_in_clear_tell_that_it_speaks_tls() {
        use tokio::io::AsyncReadExt as _;
        for (came, is_noted) in [
            (&[21, 3, 3, 0, 2, 2, 10][..], true),
            (&[22, 3, 1], true),
            (&[0, 0, 18, 4, 0], false),
            (b"HTTP/1.1 400", false),
            (&[0, 21, 3, 3], false),
            (&[], false),
        ] {
            let fault = Arc::new(OnceLock::new());
            let mut stream = Noted::in_clear(came, Arc::clone(&fault));
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            assert_eq!(fault.get().is_some(), is_noted, "{came:?}");
        }
    }

    #[test]
    fn what_a_server_says_of_a_client_is_a_denial() {
        for (alert, part) in [
            (AlertDescription::CertificateRequired, "asks for a client certificate"),
            (AlertDescription::CertificateExpired, "has expired"),
            (AlertDescription::CertificateRevoked, "taken back"),
            (AlertDescription::UnknownCA, "does not know its authority"),
        ] {
            check(Error::AlertReceived(alert), part, true);
        }
    }
}
