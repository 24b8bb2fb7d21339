//! Fetches what issuers publish: discovery documents and key sets, over HTTPS.
//!
//! Rare and small, so each fetch has a connection of its own, with the TLS files as they are then. Redirects are not followed:
//! keys come from where they are said to be, or not at all.

use std::sync::Arc;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::spawn_blocking;

use super::file::on_one_line;
use super::tls::{ClientFiles, ClientTls};
use crate::token::KEY_SET_BYTES_MAX;
use crate::token::keys::{Fetch, FetchError, Fetched, Fetching};

/// Fetches over HTTPS, and over HTTP where the policy allows it.
#[derive(Debug)]
pub struct IssuerDocuments {
    tls: Arc<ClientTls>,
}

impl IssuerDocuments {
    /// Trusts whom these files say: the system's authorities, unless others are named.
    #[must_use]
    pub fn trusting(files: ClientFiles) -> Self {
        Self { tls: Arc::new(ClientTls::of(files)) }
    }
}

impl Fetch for IssuerDocuments {
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        Box::pin(get(Arc::clone(&self.tls), url))
    }
}

async fn get(tls: Arc<ClientTls>, url: &str) -> Result<Fetched, FetchError> {
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| unreachable_by(&error))?;
    // It reads files.
    let config = spawn_blocking(move || tls.current()).await.map_err(|error| unreachable_by(&error))?;
    let mut config = rustls::ClientConfig::clone(&*config.map_err(|error| unreachable_by(&error))?);
    // The connector says by itself what it speaks.
    config.alpn_protocols.clear();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(uri).header(http::header::ACCEPT, "application/json").body(Empty::new());
    let request = request.map_err(|error| unreachable_by(&error))?;
    let response = client.request(request).await.map_err(|error| unreachable_by(&error))?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let max_age = max_age(response.headers());
    let body = Limited::new(response.into_body(), KEY_SET_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return FetchError::TooLarge { limit: KEY_SET_BYTES_MAX };
        }
        unreachable_by(&*error)
    })?;
    Ok(Fetched { body: body.to_bytes().to_vec(), max_age })
}

fn unreachable_by(error: &(dyn std::error::Error + 'static)) -> FetchError {
    FetchError::Unreachable(on_one_line(error))
}

/// How long an answer may be kept: `max-age`, and no time at all when it must not be stored.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut found = None;
    for directive in values.flat_map(|value| value.split(',')).map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        let (name, seconds) = directive.split_once('=').unwrap_or_default();
        if name.eq_ignore_ascii_case("max-age") {
            found = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::security::testing::TestAuthority;
    use crate::security::tls::{ServerFiles, ServerTls};

    /// Answers one request after the other with these bytes.
    async fn serve(answer: Vec<u8>, tls: Option<ServerTls>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                match &tls {
                    None => answer_one(socket, &answer).await,
                    Some(tls) => {
                        let acceptor = tokio_rustls::TlsAcceptor::from(tls.operators());
                        if let Ok(stream) = acceptor.accept(socket).await {
                            answer_one(stream, &answer).await;
                        }
                    }
                }
            }
        });
        address
    }

    async fn answer_one(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    }

    fn response(head: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
    }

    async fn fetch(files: ClientFiles, url: &str) -> Result<Fetched, FetchError> {
        IssuerDocuments::trusting(files).get(url).await
    }

    #[tokio::test]
    async fn a_document_comes_with_how_long_it_may_be_kept() {
        for (control, expected) in [
            ("cache-control: public, max-age=300", Some(300)),
            ("cache-control: max-age=\"300\"", Some(300)),
            ("cache-control: max-age=300, no-store", Some(0)),
            ("cache-control: no-cache", Some(0)),
            ("cache-control: max-age=often", None),
            ("x: y", None),
        ] {
            let address = serve(response(&format!("200 OK\r\n{control}"), "{}"), None).await;
            let fetched = fetch(ClientFiles::default(), &format!("http://{address}/keys")).await.unwrap();
            assert_eq!(
                (fetched.body, fetched.max_age),
                (b"{}".to_vec(), expected.map(Duration::from_secs)),
                "{control}"
            );
        }
    }

    #[tokio::test]
    async fn anything_but_a_document_is_an_error_that_says_what_came() {
        let moved = response("302 Found\r\nlocation: http://127.0.0.1:1/", "");
        let long = response("200 OK", &"x".repeat(KEY_SET_BYTES_MAX + 1));
        for (answer, expected) in [
            (moved, FetchError::Status(302)),
            (response("404 Not Found", "no"), FetchError::Status(404)),
            (response("503 Busy", ""), FetchError::Status(503)),
            (long, FetchError::TooLarge { limit: KEY_SET_BYTES_MAX }),
        ] {
            let address = serve(answer, None).await;
            assert_eq!(fetch(ClientFiles::default(), &format!("http://{address}/")).await, Err(expected));
        }
        let address = serve(b"SSH-2.0-x\r\n".to_vec(), None).await;
        let refused = fetch(ClientFiles::default(), &format!("http://{address}/")).await;
        assert!(matches!(refused, Err(FetchError::Unreachable(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn only_an_authority_that_is_trusted_vouches_for_an_issuer() {
        let authority = TestAuthority::new("issuers");
        let identity = authority.issue("issuer", &["localhost"]);
        let files = ServerFiles { certificate: identity.certificate, private_key: identity.private_key, clients: None };
        let tls = ServerTls::load(files, crate::clock::Clock::system()).unwrap();
        let address = serve(response("200 OK", "{}"), Some(tls)).await;
        let url = format!("https://localhost:{}/keys", address.port());
        let trusted = ClientFiles { authorities: Some(authority.ca()), ..ClientFiles::default() };
        assert_eq!(fetch(trusted.clone(), &url).await.map(|fetched| fetched.body), Ok(b"{}".to_vec()));
        let other = TestAuthority::new("others");
        let others = ClientFiles { authorities: Some(other.ca()), ..ClientFiles::default() };
        let refused = fetch(others, &url).await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{refused}");
        let by_address = fetch(trusted, &format!("https://{address}/keys")).await.unwrap_err().to_string();
        assert!(by_address.contains("not valid for"), "{by_address}");
    }
}
