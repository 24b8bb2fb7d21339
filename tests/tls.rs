//! TLS between real processes: who gets in, and what the command line says where nobody does.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::agent::Agent;
use common::pki::{TestAuthority, TestIdentity, between, numbered};
use common::server::{Server, command};
use common::{metric, wait_until};
use rescind::client::{Client, Event};

/// A server with a certificate of `ca`, and more lines under `[tls]`.
fn server(ca: &TestAuthority, identity: &TestIdentity, lines: &str) -> Server {
    let config = ca.write("rescind.toml", tls_section(identity, lines));
    Server::start_with(None, &["--config", config.to_str().unwrap()])
}

fn tls_section(identity: &TestIdentity, lines: &str) -> String {
    let (certificate, private_key) = (identity.certificate.display(), identity.private_key.display());
    format!("[tls]\ncertificate = '{certificate}'\nprivate_key = '{private_key}'\n{lines}")
}

/// Tells a process to read its files again.
fn hup(pid: u32) {
    let sent = std::process::Command::new("kill").args(["-HUP", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A client's flags.
fn flags(ca: &Path, identity: Option<&TestIdentity>) -> Vec<String> {
    let mut flags = vec!["--ca-file".to_owned(), ca.display().to_string()];
    if let Some(identity) = identity {
        flags.extend(["--certificate-file".to_owned(), identity.certificate.display().to_string()]);
        flags.extend(["--key-file".to_owned(), identity.private_key.display().to_string()]);
    }
    flags
}

/// `rescind status` at the server.
fn status(server: &Server, flags: &[String]) -> Output {
    let url = format!("https://localhost:{}", server.listen.port());
    command(&["status", "--server", &url]).args(flags).output().unwrap()
}

/// Asserts that the command fails so, with one line that holds all of `parts`.
fn check_failed(output: &Output, exit: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
}

fn check_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_command_line_is_served_in_tls_and_says_why_where_it_is_not() {
    let (ca, foreign) = (TestAuthority::new("ca"), TestAuthority::new("foreign"));
    let server = server(&ca, &ca.issue("server", &["localhost"]), "");
    check_done(&status(&server, &flags(&ca.ca(), None)));
    let url = format!("https://localhost:{}", server.listen.port());
    check_failed(
        &status(&server, &flags(&foreign.ca(), None)),
        4,
        &[&url, "none of the authorities", "authority's certificate"],
    );
    // By another name of the same place.
    let by_address =
        command(&["status", "--server", &format!("https://{}", server.listen)]).args(flags(&ca.ca(), None)).output();
    check_failed(&by_address.unwrap(), 4, &["not for 127.0.0.1", "localhost"]);
    let plain = command(&["status", "--server", &server.url()]).output().unwrap();
    check_failed(&plain, 4, &["it speaks TLS: use https://"]);
    wait_until("the log says what came", Duration::from_secs(5), || {
        server.log_text().contains("what came is not TLS").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_clear_is_told_that_a_server_speaks_tls() {
    let ca = TestAuthority::new("ca");
    let server = server(&ca, &ca.issue("server", &["localhost"]), "");
    let told = Arc::<Mutex<String>>::default();
    let noted = Arc::clone(&told);
    let client = Client::builder([server.url()]).observe(move |event: Event<'_>, _: &_| {
        if let Event::Disconnected { reason, .. } = event {
            reason.clone_into(&mut noted.lock().unwrap());
        }
    });
    let client = client.connect().unwrap();
    tokio::task::block_in_place(|| {
        wait_until("it is told", Duration::from_secs(10), || {
            told.lock().unwrap().contains("it speaks TLS: use https://").then_some(())
        });
    });
    client.shutdown().await;
}

#[test]
fn a_server_in_clear_is_named_as_one() {
    let ca = TestAuthority::new("ca");
    // Configured so that it stays in clear when the others do not.
    let principals = ca.write("principals.toml", "");
    let config = ca.write("clear.toml", format!("[authentication]\nprincipals = '{}'\n", principals.display()));
    let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
    check_failed(&status(&server, &flags(&ca.ca(), None)), 4, &["does not speak TLS", "http://"]);
}

#[test]
fn an_expired_server_is_named_with_how_long_ago() {
    let ca = TestAuthority::new("ca");
    let server = server(&ca, &ca.issue_with("server", &["localhost"], between(2000, 2001)), "");
    assert!(server.log_text().contains("THE CERTIFICATE HAS EXPIRED"), "{}", server.log_text());
    check_failed(&status(&server, &flags(&ca.ca(), None)), 4, &["its certificate expired", "seconds ago"]);
}

#[test]
fn a_client_that_a_server_refuses_is_denied() {
    let (ca, foreign) = (TestAuthority::new("ca"), TestAuthority::new("foreign"));
    let clients = format!(
        "client_ca = '{}'\nclient_crl = '{}'\nrequire_client_certificate = true",
        ca.ca().display(),
        ca.revoke(&[2], 2100).display()
    );
    let server = server(&ca, &ca.issue("server", &["localhost"]), &clients);
    let good = ca.issue_with("good", &["spiffe://example/good"], numbered(1));
    check_done(&status(&server, &flags(&ca.ca(), Some(&good))));
    check_failed(&status(&server, &flags(&ca.ca(), None)), 5, &["asks for a client certificate"]);
    for (identity, part) in [
        (foreign.issue("unknown", &["spiffe://example/good"]), "does not know its authority"),
        (ca.issue_with("revoked", &["spiffe://example/bad"], numbered(2)), "taken back"),
        (ca.issue_with("expired", &["spiffe://example/old"], between(2000, 2001)), "has expired"),
    ] {
        check_failed(&status(&server, &flags(&ca.ca(), Some(&identity))), 5, &["this client's certificate", part]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_taken_back_ends_its_connections_and_no_others() {
    const CLOSED: &str = "rescind_connections_closed_total{reason=\"certificate\"}";
    let ca = TestAuthority::new("ca");
    let clients = format!(
        "client_ca = '{}'\nclient_crl = '{}'\nrequire_client_certificate = true",
        ca.ca().display(),
        ca.revoke(&[9], 2100).display()
    );
    let server = server(&ca, &ca.issue("server", &["localhost"]), &clients);
    let identities =
        [1, 2].map(|serial| ca.issue_with(&format!("{serial}"), &["spiffe://example/a"], numbered(serial)));
    let follow = async |identity: &TestIdentity| {
        let lost = Arc::<AtomicBool>::default();
        let (url, noted) = (format!("https://localhost:{}", server.listen.port()), Arc::clone(&lost));
        let client = Client::builder([url]).name("follows").ca_file(ca.ca());
        let client = client.certificate_files(&identity.certificate, &identity.private_key);
        let client = client.observe(move |event: Event<'_>, _: &_| {
            if let Event::Disconnected { .. } = event {
                noted.store(true, Ordering::Relaxed);
            }
        });
        let client = client.connect().unwrap();
        client.ready(Duration::from_secs(20)).await.unwrap();
        (client, lost)
    };
    let (kept, is_kept_lost) = follow(&identities[0]).await;
    let (gone, is_gone_lost) = follow(&identities[1]).await;
    check_done(&status(&server, &flags(&ca.ca(), Some(&identities[1]))));

    tokio::task::block_in_place(|| {
        ca.revoke(&[2, 9], 2100);
        hup(server.pid());
        wait_until("its connection is ended", Duration::from_secs(10), || {
            is_gone_lost.load(Ordering::Relaxed).then_some(())
        });
        let refused = status(&server, &flags(&ca.ca(), Some(&identities[1])));
        check_failed(&refused, 5, &["this client's certificate", "taken back"]);
        // Read again and replaced, and a list that is past its next update: nothing speaks against the other one.
        let reloads = || metric(server.ops, "rescind_reloads_total{files=\"tls\"}");
        let before = reloads();
        ca.revoke(&[2, 9], 2021);
        hup(server.pid());
        wait_until("the next list is in force", Duration::from_secs(10), || (reloads() > before).then_some(()));
        let refused = status(&server, &flags(&ca.ca(), Some(&identities[0])));
        assert_eq!(refused.status.code(), Some(5), "nobody new is let in with an old list: {refused:?}");
    });
    assert!(!is_kept_lost.load(Ordering::Relaxed), "the other one was ended, too");
    assert_eq!((metric(server.ops, CLOSED), metric(server.ops, "rescind_subscribers")), (1.0, 1.0));
    kept.shutdown().await;
    gone.shutdown().await;
}

fn credential(ca: &TestAuthority, mode: u32) -> PathBuf {
    let path = ca.write("credential", "rsc_00_secret\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_credential_stays_where_nobody_else_reads_it() {
    let ca = TestAuthority::new("ca");
    let run = |url: &str, path: &Path| {
        command(&["status", "--server", url, "--credential-file", path.to_str().unwrap()]).output().unwrap()
    };
    let kept = credential(&ca, 0o600);
    check_failed(&run("http://192.0.2.1:7009", &kept), 2, &["not sent to http://192.0.2.1:7009 in clear"]);
    let mut watch = command(&["watch", "--server", "http://192.0.2.1:7009", "--credential-file"]);
    check_failed(&watch.arg(&kept).output().unwrap(), 2, &["not sent to http://192.0.2.1:7009 in clear"]);
    let open = credential(&ca, 0o644);
    check_failed(&run("http://127.0.0.1:1", &open), 2, &["mode 0644", "chmod 600"]);
    for said in [run("http://127.0.0.1:1", &kept), run("http://192.0.2.1:7009", &kept)] {
        assert!(!String::from_utf8_lossy(&said.stderr).contains("secret"), "{said:?}");
    }
}

#[test]
fn files_of_a_client_that_cannot_be_used_are_named() {
    let ca = TestAuthority::new("ca");
    let [one, other] = ["one", "other"].map(|name| ca.issue(name, &["a"]));
    let mixed = TestIdentity { certificate: one.certificate, private_key: other.private_key };
    let run = |flags: &[String]| command(&["status", "--server", "https://127.0.0.1:1"]).args(flags).output().unwrap();
    check_failed(&run(&flags(&ca.ca(), Some(&mixed))), 2, &["other.key", "does not belong", "one.pem"]);
    check_failed(&run(&flags(Path::new("/nowhere"), None)), 2, &["cannot read /nowhere"]);
}

#[test]
fn an_agent_follows_in_mutual_tls_and_serves_tls_itself() {
    let ca = TestAuthority::new("ca");
    let clients = format!("client_ca = '{}'\nrequire_client_certificate = true", ca.ca().display());
    let server = server(&ca, &ca.issue("server", &["localhost"]), &clients);
    let [own, caller] = ["agent", "caller"].map(|name| ca.issue(name, &["localhost", "spiffe://example/agent"]));
    let config = ca.write("agent.toml", tls_section(&own, ""));
    let upstream = format!("https://localhost:{}", server.listen.port());
    let (authority, certificate, key) = (ca.ca(), own.certificate.clone(), own.private_key.clone());
    let shown = [
        "--upstream-ca-file",
        authority.to_str().unwrap(),
        "--upstream-certificate-file",
        certificate.to_str().unwrap(),
        "--upstream-key-file",
        key.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let mut agent = Agent::prepare("agent", &[&upstream], &shown);
    agent.start();
    let revoked =
        command(&["revoke", "--jti", "a", "--server", &upstream]).args(flags(&ca.ca(), Some(&caller))).output();
    check_done(&revoked.unwrap());
    let url = format!("https://localhost:{}", agent.listen.unwrap().port());
    wait_until("the agent knows it", Duration::from_secs(10), || {
        let mut check = command(&["check", "--claims-file", "-", "--server", &url]);
        check.args(flags(&ca.ca(), None)).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = check.spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), br#"{"jti":"a"}"#).unwrap();
        (child.wait().unwrap().code() == Some(1)).then_some(())
    });
}

#[test]
fn what_a_start_cannot_use_is_told_by_it_and_by_config_check() {
    let ca = TestAuthority::new("ca");
    let [one, other] = ["one", "other"].map(|name| ca.issue(name, &["localhost"]));
    let mixed = TestIdentity { certificate: one.certificate, private_key: other.private_key };
    let config = ca.write("rescind.toml", tls_section(&mixed, ""));
    let config = config.to_str().unwrap();
    let refused = Server::prepare(None, &["--config", config]).refused_start();
    check_failed(&refused, 2, &["other.key", "does not belong", "one.pem"]);
    let checked = command(&["config", "check", "--config", config]).env("HOME", "/nowhere").output().unwrap();
    check_failed(&checked, 2, &["other.key", "does not belong", "one.pem"]);
    let good = ca.issue("good", &["localhost"]);
    let config = ca.write("rescind.toml", tls_section(&good, ""));
    let checked = command(&["config", "check", "--config", config.to_str().unwrap()]).env("HOME", "/nowhere").output();
    let said = String::from_utf8(checked.unwrap().stdout).unwrap();
    assert!(said.contains("valid until") && said.contains("good.pem"), "{said}");
}

#[test]
fn sighup_ends_neither_a_server_nor_an_agent() {
    let mut server = Server::start();
    let mut agent = Agent::prepare("agent", &[&server.url()], &[]);
    agent.start();
    hup(server.pid());
    hup(agent.pid());
    wait_until("both have heard it", Duration::from_secs(10), || {
        let heard = |log: String| log.contains("told to read files again");
        (heard(server.log_text()) && heard(agent.log_text())).then_some(())
    });
    assert!(server.is_alive() && agent.is_alive());
}
