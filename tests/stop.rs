//! A stop under load: every request is answered or refused, and nothing that was accepted is lost.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::caller::{Caller, Outcome, claims, revocation};
use common::server::{BINARY, Server};
use rescind::wire::pb;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

const WRITERS: usize = 8;
const ROUNDS: usize = 3;
/// Acknowledgements before the stop: enough for it to come in the middle of others.
const BEFORE_STOP: usize = 40;
const LIMIT: Duration = Duration::from_secs(30);

/// What became of one request.
struct Sent {
    jti: String,
    request: pb::RevokeRequest,
    acknowledged: bool,
}

struct Round {
    acknowledged: AtomicUsize,
    stop_now: Notify,
}

/// Writes until the server refuses or is gone.
async fn write(caller: Caller, name: String, round: Arc<Round>) -> Vec<Sent> {
    let mut all = Vec::new();
    for n in 0.. {
        let jti = format!("{name}-{n}");
        let revocations = vec![revocation(&[("jti", &jti)])];
        let request = pb::RevokeRequest { revocations, request_id: jti.clone(), ..pb::RevokeRequest::default() };
        let acknowledged = caller.revocations().revoke(request.clone()).await.is_ok();
        all.push(Sent { jti, request, acknowledged });
        if !acknowledged {
            break;
        }
        if round.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 >= BEFORE_STOP {
            round.stop_now.notify_one();
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing() {
    let mut server = Server::start();
    for round_number in 0..ROUNDS {
        let round = Arc::new(Round { acknowledged: AtomicUsize::new(0), stop_now: Notify::new() });
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let name = format!("{round_number}-{writer}");
            writers.spawn(write(Caller::new(server.listen), name, Arc::clone(&round)));
        }
        tokio::time::timeout(LIMIT, round.stop_now.notified()).await.expect("writes are acknowledged");
        let status = tokio::task::block_in_place(|| server.stop());
        assert!(status.success(), "{status:?}: {}", server.log_text());
        let mut all = Vec::new();
        let joined = async {
            while let Some(written) = writers.join_next().await {
                all.extend(written.unwrap());
            }
        };
        tokio::time::timeout(LIMIT, joined).await.expect("every request is answered or refused");
        assert!(!server.log_text().contains("connections are cut"), "{}", server.log_text());

        server.restart();
        let caller = Caller::new(server.listen);
        for sent in all {
            if sent.acknowledged {
                let presented = claims(&json!({ "jti": sent.jti }));
                assert_eq!(caller.check(presented).await.unwrap(), Outcome::Revoked, "{} was lost", sent.jti);
            } else {
                // Within its bound, a stop answers whatever it accepts: what was refused was not.
                let again = caller.revocations().revoke(sent.request).await.unwrap().into_inner();
                assert!(!again.repeated_request, "{} was accepted and its caller not told", sent.jti);
            }
        }
    }
}

/// Modes are set when files are made, whatever the umask of whoever runs the command.
#[test]
fn a_backup_is_its_owners_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;

    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("backup");
    let script = format!("umask 0; exec {BINARY} journal backup {} --server {}", to.display(), server.url());
    let mut shell = std::process::Command::new("sh");
    common::guard::set_environment(&mut shell);
    let done = shell.args(["-c", &script]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&to), 0o700);
    for file in ["journal.sqlite", "manifest"] {
        assert_eq!(mode(&to.join(file)), 0o600, "{file}");
    }
}

/// The whole way: made, used by nobody yet, listed, exported, verified, revoked.
#[test]
fn a_credential_is_kept_over_a_restart_and_its_making_is_in_the_audit_trail() {
    let mut server = Server::start();
    let text = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let made = server.cli(&["credential", "create", "--name", "gateway", "--role", "check"], b"");
    assert!(made.status.success(), "{made:?}");
    let secret = text(&made).trim().to_owned();
    let id = secret[4..20].to_owned();
    let dir = server.data_dir.display().to_string();
    let verified = common::server::command(&["journal", "verify", "--data-dir", &dir]).output().unwrap();
    assert!(verified.status.success(), "beside the server: {verified:?}");
    let status: serde_json::Value = serde_json::from_str(&text(&server.cli(&["status", "--json"], b""))).unwrap();
    let head = status["audit_head"].as_str().unwrap().to_owned();
    server.stop();
    server.restart();
    let listed = text(&server.cli(&["credential", "list"], b""));
    assert!(listed.contains(&id) && listed.contains("gateway"), "{listed}");
    assert!(server.cli(&["credential", "revoke", &id], b"").status.success());
    assert_eq!(text(&server.cli(&["credential", "list"], b"")), "");
    let expected = common::server::command(&["journal", "verify", "--data-dir", &dir, "--expect", &head]);
    let expected = { expected }.output().unwrap();
    assert!(expected.status.success(), "{expected:?}");
    let online = text(&server.cli(&["journal", "export"], b""));
    let offline = common::server::command(&["journal", "export", "--data-dir", &dir]).output().unwrap();
    assert_eq!(online, text(&offline));
    for part in ["\"create_credential\"", "\"revoke_credential\"", &id, "\"gateway\""] {
        assert!(online.contains(part), "{part} is missing in {online}");
    }
    let digits = &secret[21..];
    for place in [&online, &listed, &server.log_text()] {
        assert!(!place.contains(digits), "the secret is told again");
    }
}
