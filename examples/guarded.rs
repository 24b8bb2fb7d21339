//! A service whose routes are behind Rescind's layer: tokens are verified by the policy that the authority has in force, and
//! checked in memory. Copy it.
//!
//! ```text
//! cargo run --example guarded -- --listen 127.0.0.1:8080 --server http://127.0.0.1:7009 --class orders
//! curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/
//! ```
//!
//! | answer | when |
//! |---|---|
//! | 200, with who asks | the token is genuine, meant for this, has what the class asks for, and is not revoked |
//! | 401, 403, 400, with `WWW-Authenticate` (RFC 6750 §3) | it is not, or there is none |
//! | 503 | it cannot be told: no policy was applied, or the set is too old |
//!
//! `/healthz` asks for no token. With `--observe` everything passes; `/would-refuse` tells how many would not have, by reason.

#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Json, Router};
use clap::Parser;
use rescind::client::layer::{Tally, VerifyLayer};
use rescind::client::{Allowed, Client};
use serde_json::{Value, json};

/// How long to wait for the set of revocations before serving without it (as 503).
const READY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The Rescind servers to follow.
    #[arg(long, value_name = "URL[,URL…]", default_value = "http://127.0.0.1:7009", value_delimiter = ',')]
    server: Vec<String>,
    /// Trust servers of these authorities (PEM) only.
    #[arg(long, value_name = "FILE", env = "RESCIND_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Show the API credential in this file, which only its owner may read.
    #[arg(long, value_name = "FILE", env = "RESCIND_CREDENTIAL_FILE")]
    credential_file: Option<PathBuf>,
    /// Trust issuers' servers of these authorities (PEM) only.
    #[arg(long, value_name = "FILE")]
    issuer_ca_file: Option<PathBuf>,
    /// The class of the verification policy that says what a token needs here.
    #[arg(long, default_value = "orders")]
    class: String,
    /// Let everything through, and count what would be refused.
    #[arg(long)]
    observe: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut builder = Client::builder(arguments.server).name("guarded example");
    if let Some(authorities) = arguments.ca_file {
        builder = builder.ca_file(authorities);
    }
    if let Some(credential) = arguments.credential_file {
        builder = builder.credential_file(credential);
    }
    if let Some(authorities) = arguments.issuer_ca_file {
        builder = builder.issuer_ca_file(authorities);
    }
    let client = builder.connect()?;
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    // Without the set every answer would be 503: better to be late than to refuse.
    if let Err(error) = client.ready(READY_WITHIN).await {
        println!("serving all the same: {error}");
    }
    let mut guard = VerifyLayer::new(client.verifier(), arguments.class).realm("example")?;
    if arguments.observe {
        guard = guard.observing();
    }
    let tally = Arc::clone(guard.tally());
    println!("listening on http://{}", listener.local_addr()?);
    // What is added after the layer is not behind it.
    let service = Router::new()
        .route("/", get(greet))
        .layer(guard)
        .route("/would-refuse", get(refused).with_state(tally))
        .route("/healthz", get(|| async { "ok" }));
    axum::serve(listener, service).with_graceful_shutdown(interrupted()).await?;
    client.shutdown().await;
    Ok(())
}

async fn interrupted() {
    // Without a signal handler the process ends at once, which is fine too.
    let _ = tokio::signal::ctrl_c().await;
}

/// What the service does: with the caller if its token is accepted, without one where the layer only observes.
async fn greet(caller: Option<Extension<Allowed>>) -> Json<Value> {
    let caller = caller.map(|Extension(allowed)| allowed);
    Json(json!({ "sub": caller.as_ref().and_then(|caller| caller.subject.as_deref()) }))
}

async fn refused(State(tally): State<Arc<Tally>>) -> Json<Value> {
    Json(tally.reasons().into_iter().map(|(reason, count)| (reason.to_owned(), Value::from(count))).collect())
}
