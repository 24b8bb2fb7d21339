//! A service that takes back tokens on demand: it verifies a JWT locally, then asks its own memory whether the token was
//! revoked. Copy it.
//!
//! ```text
//! cargo run --example service -- --listen 127.0.0.1:8080 --server http://127.0.0.1:7009 --jwks jwks.json
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/
//! ```
//!
//! | answer | when |
//! |---|---|
//! | 200, with the token's subject | the signature verifies, the token is valid now, and it is not revoked |
//! | 401, with `WWW-Authenticate` (RFC 6750 §3) | there is no token, it does not verify, or it is revoked |
//! | 503 | it verifies, but nothing can be said about its revocation |

#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rescind::client::{Client, Verdict};
use serde_json::{Value, json};

/// How long to wait for the set of revocations before serving without it (as 503).
const READY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The Rescind servers to follow; one on this machine may be the path of its Unix socket, as in
    /// unix:/run/rescind.sock.
    #[arg(long, value_name = "URL[,URL…]", default_value = "http://127.0.0.1:7009", value_delimiter = ',')]
    server: Vec<String>,
    /// Trust servers of these authorities (PEM) only.
    #[arg(long, value_name = "FILE", env = "RESCIND_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Show this certificate (PEM) to servers that ask for one.
    #[arg(long, value_name = "FILE", env = "RESCIND_CERTIFICATE_FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", env = "RESCIND_KEY_FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,
    /// Show the API credential in this file, which only its owner may read.
    #[arg(long, value_name = "FILE", env = "RESCIND_CREDENTIAL_FILE")]
    credential_file: Option<PathBuf>,
    /// The issuer's public keys (RFC 7517), each with its `kid`.
    #[arg(long, value_name = "FILE")]
    jwks: PathBuf,
    /// The only issuer to accept tokens from.
    #[arg(long)]
    issuer: Option<String>,
    /// This service's name in tokens' `aud`.
    #[arg(long)]
    audience: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let keys = Key::read_all(&arguments)?;
    let mut builder = Client::builder(arguments.server).name("example service");
    if let Some(authorities) = arguments.ca_file {
        builder = builder.ca_file(authorities);
    }
    if let (Some(certificate), Some(key)) = (arguments.certificate_file, arguments.key_file) {
        builder = builder.certificate_files(certificate, key);
    }
    if let Some(credential) = arguments.credential_file {
        builder = builder.credential_file(credential);
    }
    let client = builder.connect()?;
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    // Without the set every answer would be 503: better to be late than to refuse.
    if let Err(error) = client.ready(READY_WITHIN).await {
        println!("serving all the same: {error}");
    }
    println!("listening on http://{}", listener.local_addr()?);
    let service =
        Router::new().route("/", get(greet)).with_state(Verifier { keys: keys.into(), client: client.clone() });
    axum::serve(listener, service).with_graceful_shutdown(interrupted()).await?;
    client.shutdown().await;
    Ok(())
}

async fn interrupted() {
    // Without a signal handler the process ends at once, which is fine too.
    let _ = tokio::signal::ctrl_c().await;
}

/// What the service does. [`Caller`] in the arguments is all that protects it.
async fn greet(Caller { subject }: Caller) -> Json<Value> {
    Json(json!({ "sub": subject }))
}

/// Somebody with a token that verifies and is not revoked.
struct Caller {
    subject: Value,
}

/// What [`Caller`] is extracted with.
#[derive(Clone)]
struct Verifier {
    keys: std::sync::Arc<[Key]>,
    client: Client,
}

/// Why a request is not served.
enum Refusal {
    /// It has no bearer token.
    NoToken,
    /// Its token is not, or no longer, to be accepted.
    Invalid(&'static str),
    /// Nothing can be said about its token now.
    Unknown(String),
}

impl FromRequestParts<Verifier> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, verifier: &Verifier) -> Result<Self, Refusal> {
        verifier.verify(bearer_token(&parts.headers).ok_or(Refusal::NoToken)?)
    }
}

impl Verifier {
    fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let (key, claims) = self.verify_signature(token).ok_or(Refusal::Invalid("the token is invalid"))?;
        // The key that verified, not the one that the token names: a leaked key can be revoked by its name.
        let answer =
            self.client.check_verified(token, &key.kid).map_err(|_| Refusal::Invalid("the token is invalid"))?;
        match answer.verdict {
            Verdict::NotRevoked => Ok(Caller { subject: claims["sub"].clone() }),
            Verdict::Revoked(_) => Err(Refusal::Invalid("the token is revoked")),
            Verdict::Unknown(cause) => Err(Refusal::Unknown(cause.to_string())),
        }
    }

    /// The key that verifies the token, and its claims. A token that names a key is verified by that one only.
    fn verify_signature(&self, token: &str) -> Option<(&Key, Value)> {
        let named = decode_header(token).ok()?.kid;
        let candidates = self.keys.iter().filter(|key| named.as_ref().is_none_or(|kid| *kid == key.kid));
        candidates.into_iter().find_map(|key| {
            let verified = decode(token, &key.public, &key.validation).ok()?;
            Some((key, verified.claims))
        })
    }
}

/// A public key, and everything that a token under it must satisfy.
struct Key {
    kid: String,
    public: DecodingKey,
    /// Allows exactly one algorithm: the token's header has no say in it (RFC 8725 §3.1).
    validation: Validation,
}

impl Key {
    fn read_all(arguments: &Arguments) -> anyhow::Result<Vec<Self>> {
        let path: &Path = &arguments.jwks;
        let read = || -> anyhow::Result<Vec<Self>> {
            let set: JwkSet = serde_json::from_slice(&std::fs::read(path)?)?;
            ensure!(!set.keys.is_empty(), "it holds no keys");
            set.keys.iter().map(|jwk| Self::new(jwk, arguments)).collect()
        };
        read().with_context(|| format!("cannot use the keys in {}", path.display()))
    }

    fn new(jwk: &Jwk, arguments: &Arguments) -> anyhow::Result<Self> {
        let kid = jwk.common.key_id.clone().context("a key has no kid")?;
        let algorithm = algorithm(jwk).with_context(|| format!("key {kid:?} is not for RS256, ES256 or EdDSA"))?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = arguments.audience.is_some();
        if let Some(audience) = &arguments.audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if let Some(issuer) = &arguments.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        Ok(Self { public: DecodingKey::from_jwk(jwk)?, kid, validation })
    }
}

/// The one algorithm of a key: what it says, if that fits its type.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let natural = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    match jwk.common.key_algorithm {
        Some(stated) => Algorithm::try_from(stated).ok().filter(|stated| *stated == natural),
        None => Some(natural),
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1); `None` unless there is exactly one such header.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            // RFC 6750 §3.1: no error code for a request without a token.
            Self::NoToken => {
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer realm=\"example\"")]).into_response()
            }
            Self::Invalid(why) => {
                let challenge =
                    format!("Bearer realm=\"example\", error=\"invalid_token\", error_description=\"{why}\"");
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)], why).into_response()
            }
            Self::Unknown(cause) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("cannot tell whether the token is revoked: {cause}"))
                    .into_response()
            }
        }
    }
}
