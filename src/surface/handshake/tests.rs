//! Listeners in TLS: what they agree on, what they pass on, what they turn away.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::security::testing::{TestAuthority, TestIdentity};
use crate::security::tls::{ClientAuthority, ClientFiles, ClientIdentity, ClientTls, ServerFiles, ServerTls};
use crate::surface::{Address, Bounds, Connections, Listener};

/// A listener that answers with the names it was shown.
struct Served {
    address: SocketAddr,
    connections: Arc<Connections>,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Served {
    async fn start(ca: &TestAuthority) -> Self {
        let server = ca.issue("server", &["localhost"]);
        let clients = Some(ClientAuthority { authorities: ca.ca(), revoked: None, is_required: false });
        let files = ServerFiles { certificate: server.certificate, private_key: server.private_key, clients };
        let tls = ServerTls::load(files, Clock::system()).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(any.into(), "--listen").await.unwrap();
        let listener = listener.secured(Some(Arc::new(move || tls.callers())));
        assert!(listener.is_secured());
        let (address, connections) = (listener.address().tcp().unwrap(), listener.connections());
        let app = Router::new().fallback(|request: Request| async move {
            let names = request.extensions().get::<Arc<CertificateNames>>();
            names.map_or("nobody".to_owned(), |names| names.uris.join(","))
        });
        let stop = CancellationToken::new();
        let done = tokio::spawn(listener.serve(app, Bounds::connections(10), stop.clone()));
        Self { address, connections, stop, done }
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(5), self.done).await.unwrap().unwrap();
    }

    /// Waits until a failure of this kind was counted, and no other.
    async fn check_failed(&self, failure: HandshakeFailure) {
        let mut expected = [0; HandshakeFailure::ALL.len()];
        expected[failure as usize] = 1;
        let counted = async {
            while self.connections.handshakes_failed() != expected || self.connections.open() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let limit = HANDSHAKE_TIMEOUT * 2;
        assert!(timeout(limit, counted).await.is_ok(), "{:?}", self.connections.handshakes_failed());
    }
}

fn client(ca: &TestAuthority, identity: Option<TestIdentity>, protocols: &[&[u8]]) -> TlsConnector {
    let identity =
        identity.map(|TestIdentity { certificate, private_key }| ClientIdentity { certificate, private_key });
    let tls = ClientTls::of(ClientFiles { authorities: Some(ca.ca()), identity });
    let mut config = ClientConfig::clone(&tls.current().unwrap());
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn http_1_1_is_answered_with_the_names_that_were_shown() {
    let ca = TestAuthority::new("ca");
    let served = Served::start(&ca).await;
    for (identity, expected) in
        [(None, "nobody"), (Some(ca.issue("client", &["spiffe://example/orders"])), "spiffe://example/orders")]
    {
        let stream = TcpStream::connect(served.address).await.unwrap();
        let mut stream = client(&ca, identity, &[b"http/1.1"]).connect(localhost(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn http_2_is_agreed_on_and_answered() {
    let ca = TestAuthority::new("ca");
    let served = Served::start(&ca).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let connector = client(&ca, Some(ca.issue("client", &["spiffe://example/orders"])), &[b"h2", b"http/1.1"]);
    let stream = connector.connect(localhost(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "spiffe://example/orders");
    drop((sender, body));
    served.stop().await;
    connection.abort();
}

#[tokio::test]
async fn no_protocol_in_common_is_refused() {
    let ca = TestAuthority::new("ca");
    let served = Served::start(&ca).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    client(&ca, None, &[b"smtp"]).connect(localhost(), stream).await.map(drop).unwrap_err();
    served.check_failed(HandshakeFailure::Protocol).await;
    served.stop().await;
}

#[tokio::test]
async fn plain_text_is_closed_and_counted_as_such() {
    let ca = TestAuthority::new("ca");
    for text in ["GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let served = Served::start(&ca).await;
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Reset or closed: either way nothing of HTTP comes.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        served.check_failed(HandshakeFailure::Plaintext).await;
        served.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_distrusts_the_server_and_one_that_is_distrusted_are_told_apart() {
    let (ca, foreign) = (TestAuthority::new("ca"), TestAuthority::new("foreign"));
    let served = Served::start(&ca).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    client(&foreign, None, &[b"h2"]).connect(localhost(), stream).await.map(drop).unwrap_err();
    served.check_failed(HandshakeFailure::Refused).await;
    served.stop().await;

    let served = Served::start(&ca).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    let unknown = foreign.issue("client", &["spiffe://example/orders"]);
    // In TLS 1.3 the client is through before the server has looked.
    let mut stream = client(&ca, Some(unknown), &[b"h2"]).connect(localhost(), stream).await.unwrap();
    stream.read_u8().await.unwrap_err();
    served.check_failed(HandshakeFailure::Certificate).await;
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_in_time() {
    let ca = TestAuthority::new("ca");
    let served = Served::start(&ca).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed");
    served.check_failed(HandshakeFailure::TimedOut).await;
    served.stop().await;
}

#[tokio::test]
async fn a_handshake_under_way_does_not_hold_up_the_end() {
    let ca = TestAuthority::new("ca");
    let served = Served::start(&ca).await;
    let stream = TcpStream::connect(served.address).await.unwrap();
    while served.connections.open() == 0 {
        tokio::task::yield_now().await;
    }
    served.stop().await;
    drop(stream);
}

#[tokio::test]
async fn a_unix_socket_stays_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let address: Address = format!("unix:{}", dir.path().join("s").display()).parse().unwrap();
    let ca = TestAuthority::new("ca");
    let server = ca.issue("server", &["localhost"]);
    let files = ServerFiles { certificate: server.certificate, private_key: server.private_key, clients: None };
    let tls = ServerTls::load(files, Clock::system()).unwrap();
    let listener = Listener::bind(address, "--listen").await.unwrap().secured(Some(Arc::new(move || tls.callers())));
    assert!(!listener.is_secured());
}

#[test]
fn failures_have_a_name_each() {
    for (error, name) in [
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), "plaintext"),
        (Error::InvalidCertificate(CertificateError::Revoked), "certificate"),
        (Error::NoCertificatesPresented, "certificate"),
        (Error::AlertReceived(AlertDescription::UnknownCA), "refused"),
        (Error::NoApplicationProtocol, "protocol"),
    ] {
        assert_eq!(failure_of(&error).name(), name, "{error}");
    }
    for (index, failure) in HandshakeFailure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, index);
    }
}
