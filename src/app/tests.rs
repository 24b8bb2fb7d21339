//! Starting, stopping and refusing to start a server.

use crate::config::ServerConfig;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::*;
use crate::clock::Clock;
use crate::config::{Overrides, StatePlaces};
use crate::revocation::ports::WriteError;
use crate::revocation::{Claims, UnknownCause, Verdict};
use crate::surface::testing::FakeNode;
use crate::surface::{self, Surface};
use crate::telemetry::Metrics;
use crate::wire::pb;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

fn config() -> ServerConfig {
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (listen, ops_listen) = (Some(any.into()), Some(any));
    let overrides = Overrides { listen, ops_listen, data_dir: Some("/data".into()), ..Overrides::default() };
    ServerConfig::load(&overrides, &StatePlaces::default()).unwrap()
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn both_ports_answer_until_told_to_stop_and_writes_are_counted() {
    let (node, metrics, stop) = (FakeNode::new(), Arc::new(Metrics::new("0")), CancellationToken::new());
    let front = Front::bind(&config()).await.unwrap();
    let (listen, ops_listen) = (front.listen().clone(), front.ops_listen().tcp().unwrap());
    let counted = metered(node.node(), &metrics, &Clock::system());
    let surface = Surface::new(counted, &config().surface, Routes::default());
    let served = tokio::spawn(front.serve(surface, node.clone(), Arc::default(), metrics, stop.clone()));

    let mut client = RevocationServiceClient::connect(format!("http://{listen}")).await.unwrap();
    let claims = vec![pb::Claim { name: "sub".into(), value: "a".into() }];
    let target = Some(pb::revocation::Target::Selector(pb::Selector { claims }));
    let revocation = pb::Revocation { target, ..Default::default() };
    let request = pb::RevokeRequest { revocations: vec![revocation; 3], ..Default::default() };
    client.revoke(request.clone()).await.unwrap();
    client.revoke(pb::RevokeRequest { dry_run: true, ..request.clone() }).await.unwrap();
    *node.write_error.lock() = Some(WriteError::Unavailable("disk full".into()));
    client.revoke(request).await.unwrap_err();

    let text = get(ops_listen, "/metrics").await;
    for line in [
        "rescind_revocations_total 3",
        "rescind_write_requests_total{outcome=\"accepted\"} 1",
        "rescind_write_requests_total{outcome=\"dry_run\"} 1",
        "rescind_write_requests_total{outcome=\"unavailable\"} 1",
        "rescind_live_entries 1152921504606846976",
        "rescind_index_lag_revisions 2",
        "rescind_staleness_seconds 1.5",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(get(ops_listen, "/readyz").await.ends_with("ready\n"));
    drop(client);
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    assert!(TcpStream::connect(ops_listen).await.is_err());
}

#[test]
fn reasons_have_the_names_of_the_metrics() {
    use crate::replica::Break;
    use crate::replication::frames::GoAwayReason;
    use crate::surface::HandshakeFailure;
    use crate::telemetry::{
        CONNECTIONS_CLOSED, CONNECTIONS_REFUSED, DECISIONS_DENIED, DECISIONS_UNCLEAR, HANDSHAKE_FAILURES,
        REQUEST_CLASSES, SENT_AWAY, UPSTREAM_BREAKS,
    };
    assert_eq!(HandshakeFailure::ALL.map(HandshakeFailure::name), HANDSHAKE_FAILURES);
    assert_eq!((surface::REFUSED, surface::CLOSED), (CONNECTIONS_REFUSED, CONNECTIONS_CLOSED));
    assert_eq!(surface::CLASSES, REQUEST_CLASSES);
    assert_eq!(GoAwayReason::ALL.map(GoAwayReason::name), SENT_AWAY);
    assert_eq!(Break::ALL.map(Break::name), UPSTREAM_BREAKS);
    assert_eq!((crate::token::Reason::NAMES, crate::token::Unclear::NAMES), (DECISIONS_DENIED, DECISIONS_UNCLEAR));
    assert_eq!(crate::security::access::DenialReason::NAMES, crate::telemetry::REQUESTS_DENIED);
    for (index, (reason, why)) in GoAwayReason::ALL.into_iter().zip(Break::ALL).enumerate() {
        assert_eq!((reason as usize, why as usize), (index, index));
    }
}

#[test]
fn checks_are_counted_by_verdict_and_cause() {
    let (node, metrics) = (FakeNode::new(), Arc::new(Metrics::new("0")));
    let counted = metered(node.node(), &metrics, &Clock::system());
    for cause in [
        UnknownCause::NeverSynced,
        UnknownCause::Stale,
        UnknownCause::Behind,
        UnknownCause::Diverged,
        UnknownCause::OverLimit,
        UnknownCause::Incomplete("header.kid".into()),
        UnknownCause::TooManyCandidates,
        UnknownCause::BeyondHorizon,
    ] {
        let name = cause.name();
        *node.verdict.lock() = Verdict::Unknown(cause);
        counted.checks.check(&Claims::new(), None);
        let line = format!("rescind_checks_total{{verdict=\"unknown\",cause=\"{name}\"}} 1");
        assert!(metrics.render().contains(&line), "{line}");
    }
    node.beyond_horizon.store(true, std::sync::atomic::Ordering::SeqCst);
    (0..3).for_each(|_| drop(counted.checks.check(&Claims::new(), None)));
    assert!(metrics.render().contains("rescind_beyond_horizon_tokens_total 3"));
}

#[tokio::test]
async fn a_taken_port_is_noticed_at_once() {
    let front = Front::bind(&config()).await.unwrap();
    let second = ServerConfig { ops_listen: front.listen().tcp().unwrap(), ..config() };
    assert!(Front::bind(&second).await.unwrap_err().to_string().contains("--ops-listen"));
}
