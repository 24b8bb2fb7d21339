//! The façade: settings, and what it makes of tokens.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::replica::Upstream;
use crate::replica::testing::{Authority, BEGIN, Peer, Server, WelcomeMode};
use crate::revocation::Policy;

fn jwt(header: &str, payload: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", encode(header), encode(payload), encode("signature"))
}

/// A client of an authority that has revoked `mallory`.
async fn client() -> (Client, Peer) {
    let (server, mut peers) = Server::new("server");
    let time = crate::clock::ManualTime::starting_at(BEGIN);
    let builder = Client::builder(["unused"]).clock(crate::clock::Clock::manual(time));
    let client = builder.start(vec![server as Arc<dyn Upstream>]).unwrap();
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let mut peer = peers.recv().await.unwrap();
    peer.hello().await;
    peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
    peer.send(authority.snapshot(BEGIN)).await;
    client.ready(Duration::from_secs(1)).await.unwrap();
    (client, peer)
}

#[tokio::test(start_paused = true)]
async fn tokens_claims_and_json_are_checked_alike() {
    let (client, _peer) = client().await;
    for (sub, revoked) in [("mallory", true), ("alice", false)] {
        let payload = format!(r#"{{"sub":"{sub}","iat":{0},"exp":{0}}}"#, BEGIN.0 / 1000);
        let token = jwt(r#"{"alg":"ES256","kid":"k1"}"#, &payload);
        let mut claims = Claims::new();
        claims.push("sub", sub, false);
        let answers = [
            client.check_token(&token).unwrap(),
            client.check_verified(&token, "k1").unwrap(),
            client.check_json(payload.as_bytes(), None).unwrap(),
            client.check(&claims),
        ];
        for answer in answers {
            assert_eq!(matches!(answer.verdict, Verdict::Revoked(_)), revoked, "{sub}: {answer:?}");
        }
    }
    assert!(client.check_token("a.b.c").is_err());
    assert!(client.check_json(b"[]", None).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_outlives_its_client_does_not_say_not_revoked() {
    let (client, _peer) = client().await;
    let replica = Arc::clone(client.replica());
    let mut claims = Claims::new();
    claims.push("sub", "alice", false);
    assert_eq!(replica.check(&claims, None).verdict, Verdict::NotRevoked);
    let mut statuses = client.on_change();
    drop(client);
    let ended = tokio::time::timeout(Duration::from_secs(1), statuses.wait_for(|status| !status.ready)).await;
    assert!(matches!(ended, Ok(Ok(_))), "the task ends by itself");
    assert_eq!(replica.check(&claims, None).verdict, Verdict::Unknown(UnknownCause::Stale));
}

#[tokio::test]
async fn wrong_settings_are_refused_before_anything_starts() {
    let connect = |urls: &[&str]| Client::builder(urls.iter().copied()).connect().map(drop);
    assert!(matches!(connect(&[]), Err(ClientError::Servers { given: 0 })));
    assert!(matches!(connect(&["http://a:1"; 17]), Err(ClientError::Servers { given: 17 })));
    assert!(matches!(connect(&["http://a:1", "b"]), Err(ClientError::Url(_))));
    let long = Client::builder(["http://a:1"]).name("x".repeat(129)).connect().map(drop);
    assert!(matches!(long, Err(ClientError::Name { given: 129 })));
    let obeyed = Client::builder(["http://a:1"]).name("a\x1b[2J").connect().map(drop);
    assert!(matches!(obeyed, Err(ClientError::Name { given: 5 })));
}

#[tokio::test]
async fn a_cache_directory_that_is_in_use_is_an_error() {
    let dir = tempfile::TempDir::new().unwrap();
    let client = || Client::builder(["http://127.0.0.1:1"]).disk_cache(dir.path()).connect();
    let first = client().unwrap();
    let second = client().map(drop);
    assert!(matches!(second, Err(ClientError::Cache(CacheError::Locked { .. }))), "{second:?}");
    first.shutdown().await;
    client().unwrap();
}

#[test]
fn outside_a_runtime_it_says_so() {
    let client = Client::builder(["http://127.0.0.1:1"]).connect().map(drop);
    assert!(matches!(client, Err(ClientError::NoRuntime)));
}
