//! The real binary as its users meet it: real tokens, four ways to ask, a demonstration that checks itself.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::path::Path;
use std::process::Command;

use common::caller::{Caller, Outcome, claims, revocation};
use common::server::{BINARY, Server, command};
use common::{example, guard, python};
use serde_json::json;

fn run_script(script: &str) {
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut command = Command::new(python);
    command.arg(script).args(["--bin", BINARY, "--service"]).arg(example::build("service"));
    guard::hand_to(&mut command);
    let ran = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}\n{}\n{}", ran.status, text(&ran.stdout), text(&ran.stderr));
    println!("{}", text(&ran.stdout));
}

#[test]
fn grpc_json_the_command_line_and_a_replica_agree_on_real_tokens() {
    run_script("tests/python/agree.py");
}

#[test]
fn the_demonstration_holds_at_every_step() {
    run_script("scripts/demo.py");
}

#[test]
fn whoever_shows_nothing_is_served_only_where_the_tests_run_plain() {
    let server = Server::start();
    let mut unknown = command(&["status", "--server", &server.url()]);
    let unknown = unknown.env_remove("RESCIND_CREDENTIAL_FILE").output().unwrap();
    let in_clear = command(&["status", "--server", &format!("http://{}", server.direct)]).output().unwrap();
    let known = server.cli(&["status"], b"");
    let expected = if guard::is_on() { (Some(5), Some(4)) } else { (Some(0), Some(0)) };
    assert_eq!((unknown.status.code(), in_clear.status.code()), expected, "{unknown:?} {in_clear:?}");
    assert_eq!(known.status.code(), Some(0), "{known:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_ends_well_and_comes_back_where_it_was() {
    let mut server = Server::start();
    let reply = Caller::new(server.listen).revoke(vec![revocation(&[("sid", "S1")])]).await.unwrap();
    let position = reply.position.unwrap();

    assert_eq!(server.stop().code(), Some(0), "{}", server.log_text());
    server.restart();

    let caller = Caller::new(server.listen);
    let session = claims(&json!({ "sid": "S1" }));
    assert_eq!(caller.check(session).await.unwrap(), Outcome::Revoked);
    let standing = caller.standing().await;
    assert!(standing.revision >= position.revision, "{standing:?}, acknowledged {position:?}");
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let running = Server::start();
    let (listen, ops) = (running.listen.to_string(), common::server::free_port().to_string());
    let data = tempfile::tempdir().unwrap();
    let ran = command(&["serve", "--listen", &listen, "--ops-listen", &ops, "--data-dir"]).arg(data.path()).output();
    let ran = ran.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains(&listen) && said.contains("--listen"), "{said}");
}

#[test]
fn other_machines_are_let_in_only_when_told_so() {
    let data = tempfile::tempdir().unwrap();
    let ran = command(&["serve", "--listen", "0.0.0.0:0", "--data-dir"]).arg(data.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("--insecure"), "{said}");
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rescind.toml");
    let text = "[agent]\nupstreams = ['http://file:1']\nlisten = '127.0.0.1:1'\nname = 'file'\ncache_dir = '/file'\n";
    std::fs::write(&file, text).unwrap();
    let mut check = command(&["config", "check", "--agent", "--name", "flag", "--config"]);
    check.arg(&file).env("RESCIND_UPSTREAM", "http://a:1,unix:/run/b").env("RESCIND_LISTEN", "unix:/run/c");
    let ran = check.env("RESCIND_NAME", "environment").output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let shown = String::from_utf8(ran.stdout).unwrap();
    let words: Vec<&str> = shown.split_whitespace().collect();
    for (key, value) in [
        ("agent.upstreams", "http://a:1,unix:/run/b"),
        ("agent.listen", "unix:/run/c"),
        ("agent.name", "flag"),
        ("agent.cache_dir", "/file"),
    ] {
        assert!(words.windows(2).any(|pair| pair == [key, value]), "{key} is not {value} in\n{shown}");
    }
}
