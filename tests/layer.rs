//! A service behind the library's layer, beside a real authority: tokens by PyJWT, policies by the command line.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use common::server::{Server, free_port};
use common::{example, guard, http, python, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// An issuer: keys in a folder, tokens by PyJWT.
struct Issuer {
    python: PathBuf,
    dir: TempDir,
}

impl Issuer {
    fn new(python: PathBuf) -> Self {
        Self { python, dir: tempfile::tempdir().unwrap() }
    }

    fn jwks(&self) -> PathBuf {
        self.dir.path().join("jwks.json")
    }

    /// A token for `api` with the scope `orders.read`, and with these claims in place of or beside the usual ones.
    fn token(&self, claims: Value) -> String {
        let mut all = json!({ "aud": "api", "scope": "orders.read" });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/mint.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg("--keys").arg(self.dir.path()).arg("--jwks").arg(self.jwks());
        let minted = command.args(["--claims", &all.to_string()]).output().unwrap();
        assert!(minted.status.success(), "{minted:?}");
        String::from_utf8(minted.stdout).unwrap().trim().to_owned()
    }
}

/// The example service, ended with its owner.
struct Guarded {
    address: SocketAddr,
    process: Child,
}

impl Guarded {
    fn start(upstream: &str, flags: &[&str]) -> Self {
        let address = free_port();
        let mut command = Command::new(example::build("guarded"));
        command.args(["--listen", &address.to_string(), "--server", upstream]).args(flags);
        guard::set_environment(&mut command);
        let guarded = Self { address, process: command.spawn().unwrap() };
        wait_until("the service answers", LIMIT, || http::get(address, "/healthz").filter(|said| said.status == 200));
        guarded
    }

    fn get(&self, token: Option<&str>) -> http::Response {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        http::send(self.address, "GET", "/", &headers, b"").unwrap()
    }

    fn status(&self, token: &str) -> u16 {
        self.get(Some(token)).status
    }

    fn becomes(&self, token: &str, expected: u16) {
        wait_until(&format!("the answer is {expected}"), LIMIT, || (self.status(token) == expected).then_some(()));
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn policy(issuer: &Issuer, scope: &str) -> String {
    format!(
        "[[issuer]]\niss = 'https://issuer.example'\naudiences = ['api']\nalgorithms = ['ES256']\nkeys_file = '{}'\n\
         [[class]]\nname = 'orders'\nscopes = ['{scope}']\n",
        issuer.jwks().display()
    )
}

fn done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_service_follows_policies_and_revocations_and_outlives_the_authority() {
    let Some(python) = python() else { return };
    let issuer = Issuer::new(python.clone());
    let (good, eve) = (issuer.token(json!({})), issuer.token(json!({ "sub": "eve" })));
    let forged = Issuer::new(python).token(json!({}));
    let mut server = Server::start();
    let service = Guarded::start(&server.url(), &[]);
    assert_eq!(service.status(&good), 503, "without a policy nothing can be told");

    done(&server.cli(&["policy", "apply", "-"], policy(&issuer, "orders.read").as_bytes()));
    service.becomes(&good, 200);
    for (what, token, expected, challenge) in [
        ("missing", None, 401, r#"bearer realm="example""#),
        ("malformed", Some("a.b.c".to_owned()), 401, "invalid_token"),
        ("unreadable", Some("a b".to_owned()), 400, "invalid_request"),
        ("forged", Some(forged), 401, "invalid_token"),
        ("expired", Some(issuer.token(json!({ "iat": 1, "exp": 2 }))), 401, "invalid_token"),
        ("for another", Some(issuer.token(json!({ "aud": "other" }))), 401, "invalid_token"),
        ("from another", Some(issuer.token(json!({ "iss": "https://evil.example" }))), 401, "invalid_token"),
        ("without scope", Some(issuer.token(json!({ "scope": null }))), 403, r#"scope="orders.read""#),
    ] {
        let answer = service.get(token.as_deref());
        assert_eq!((answer.status, answer.body.as_str()), (expected, ""), "{what}: {answer:?}");
        assert!(answer.head.contains("www-authenticate: bearer") && answer.head.contains(challenge), "{answer:?}");
    }

    assert_eq!(service.status(&eve), 200);
    done(&server.cli(&["revoke", "--sub", "eve"], b""));
    service.becomes(&eve, 401);
    assert_eq!(service.get(Some(&good)).json()["sub"].as_str().map(|sub| sub.starts_with("user-")), Some(true));

    done(&server.cli(&["policy", "apply", "-"], policy(&issuer, "orders.admin").as_bytes()));
    service.becomes(&good, 403);
    done(&server.cli(&["policy", "revert", "1"], b""));
    service.becomes(&good, 200);

    server.kill();
    assert_eq!((service.status(&good), service.status(&eve)), (200, 401), "it goes on alone");
    server.restart();
    done(&server.cli(&["policy", "revert", "2"], b""));
    service.becomes(&good, 403);
}

#[test]
fn a_service_that_observes_refuses_nobody_and_says_whom_it_would() {
    let Some(python) = python() else { return };
    let issuer = Issuer::new(python);
    let (good, expired) = (issuer.token(json!({})), issuer.token(json!({ "iat": 1, "exp": 2 })));
    let server = Server::start();
    done(&server.cli(&["policy", "apply", "-"], policy(&issuer, "orders.read").as_bytes()));
    let service = Guarded::start(&server.url(), &["--observe"]);
    let subject = |token: Option<&str>| service.get(token).json()["sub"].is_string();
    assert!(subject(Some(&good)));
    assert!(!subject(Some(&expired)) && !subject(None));
    let refused = http::get(service.address, "/would-refuse").unwrap().json();
    assert_eq!(refused, json!({ "expired": 1, "missing": 1 }));
}
