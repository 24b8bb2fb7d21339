//! Certificates and keys of both ends, and the list of authorities, replaced again and again while a server is used: no
//! check fails, no subscription ends, and a bad file changes nothing.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::agent::Agent;
use common::caller::{Outcome, claims};
use common::pki::{TestAuthority, TestIdentity, between};
use common::server::Server;
use common::{metric, wait_until};
use rescind::client::{Client, Event};
use rescind::security::ClientSecurity;
use rescind::security::tls::{ClientFiles, ClientIdentity};
use rescind::wire::pb::check_service_client::CheckServiceClient;
use rescind::wire::{Calls, Dialler, pb};

/// Times that everything is replaced.
const ROTATIONS: i32 = 12;
/// Callers with a connection that lasts, and callers with a new one for each check.
const LASTING: usize = 4;
const FRESH: usize = 2;
/// A change is looked for every few seconds, and counts once it was seen twice, unless the server is told.
const LIMIT: Duration = Duration::from_secs(30);
const OPS: &str = "spiffe://example.org/ops";

/// A server that asks for certificates, and the files that are replaced.
struct Rotated {
    server: Server,
    ca: TestAuthority,
    other: TestAuthority,
    own: TestIdentity,
    /// Whom clients trust: that does not change.
    trusted: PathBuf,
    authorities: PathBuf,
}

impl Rotated {
    fn start() -> Self {
        let (ca, other) = (TestAuthority::new("ca"), TestAuthority::new("other"));
        let server = ca.issue_with("server", &["localhost"], between(2020, 2039));
        let own = ca.issue("client", &[OPS]);
        let (trusted, authorities) = (ca.ca(), ca.path("clients.pem"));
        std::fs::copy(&trusted, &authorities).unwrap();
        let principals = format!("[[principal]]\nname = 'ops'\ncertificate = '{OPS}'\nroles = ['admin']\n");
        let principals = ca.write("principals.toml", principals);
        let config = format!(
            "[tls]\ncertificate = '{}'\nprivate_key = '{}'\nclient_ca = '{}'\nrequire_client_certificate = true\n\
             [authentication]\nprincipals = '{}'\n",
            server.certificate.display(),
            server.private_key.display(),
            authorities.display(),
            principals.display()
        );
        let config = ca.write("rescind.toml", config);
        let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
        Self { server, ca, other, own, trusted, authorities }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.server.listen.port())
    }

    fn files(&self) -> ClientFiles {
        let TestIdentity { certificate, private_key } = self.own.clone();
        ClientFiles {
            authorities: Some(self.trusted.clone()),
            identity: Some(ClientIdentity { certificate, private_key }),
        }
    }

    fn dialler(&self, security: &Arc<ClientSecurity>) -> Dialler {
        Dialler::new(self.url().parse().unwrap(), Arc::clone(security)).unwrap()
    }

    /// New keys and certificates for both ends, the server's good until the end of a later year each time; and one more
    /// authority among those who may sign clients', or one less.
    fn replace(&self, turn: i32) {
        self.ca.issue_with("server", &["localhost"], between(2020, 2040 + turn));
        self.ca.issue("client", &[OPS]);
        let mut trusted = std::fs::read(&self.trusted).unwrap();
        if turn % 2 == 0 {
            trusted.extend(std::fs::read(self.other.ca()).unwrap());
        }
        std::fs::write(&self.authorities, trusted).unwrap();
    }

    /// Replaces, and waits until new connections are shown what is new.
    fn rotate(&self, turn: i32, is_told: bool) {
        let before = self.expiry();
        self.replace(turn);
        if is_told {
            self.tell();
        }
        wait_until("the new certificate is in force", LIMIT, || {
            (self.expiry() > before + 300.0 * 86_400.0).then_some(())
        });
    }

    fn tell(&self) {
        let pid = self.server.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    fn expiry(&self) -> f64 {
        metric(self.server.ops, "rescind_tls_certificate_expiry_seconds")
    }

    fn failures(&self) -> f64 {
        metric(self.server.ops, "rescind_reload_failures_total{files=\"tls\"}")
    }
}

async fn check(calls: Calls) {
    let token = Some(pb::PresentedToken { presented: Some(claims(&serde_json::json!({ "sub": "alice" }))) });
    let request = pb::CheckTokenRequest { token, at_least: None };
    let answer = CheckServiceClient::new(calls).check_token(request).await.expect("a check fails").into_inner();
    assert_eq!(Outcome::of(&answer), Outcome::NotRevoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_while_certificates_keys_and_authorities_are_replaced() {
    let rotated = Rotated::start();
    let security = Arc::new(ClientSecurity::of(rotated.files(), None));
    // From then on a file that is half written changes nothing.
    security.check().unwrap();
    let (stop, checks) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..LASTING + FRESH {
        let (dialler, stop, checks) = (rotated.dialler(&security), Arc::clone(&stop), Arc::clone(&checks));
        callers.spawn(async move {
            let lasting = dialler.dial(|endpoint| endpoint).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                let calls = match caller < LASTING {
                    true => lasting.clone(),
                    false => dialler.dial(|endpoint| endpoint).await.expect("a new connection fails"),
                };
                check(calls).await;
                checks.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let disconnects = Arc::<AtomicU64>::default();
    let lost = Arc::clone(&disconnects);
    let client = Client::builder([rotated.url()]).name("follows").tls(rotated.files());
    let client = client.observe(move |event: Event<'_>, _: &_| {
        if let Event::Disconnected { .. } = event {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    });
    let client = client.connect().unwrap();
    client.ready(LIMIT).await.unwrap();

    tokio::task::block_in_place(|| {
        for turn in 0..ROTATIONS {
            // Now and then nobody tells the server, and it sees for itself.
            rotated.rotate(turn, turn % 4 != 3);
            if turn % 5 == 0 {
                let (in_force, failures) = (rotated.expiry(), rotated.failures());
                rotated.ca.write("server.pem", "-----BEGIN CERTIFICATE-----\nnothing\n");
                rotated.tell();
                wait_until("the bad file is noticed", LIMIT, || (rotated.failures() > failures).then_some(()));
                assert!((rotated.expiry() - in_force).abs() < 60.0, "what was in force stays");
            }
            let before = checks.load(Ordering::Relaxed);
            wait_until("checks go on", LIMIT, || {
                assert_eq!(callers.len(), LASTING + FRESH);
                (checks.load(Ordering::Relaxed) > before + 100).then_some(())
            });
        }
    });
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    println!("{} checks, {ROTATIONS} rotations", checks.load(Ordering::Relaxed));
    assert_eq!(disconnects.load(Ordering::Relaxed), 0, "a subscription ended");
    assert_eq!(metric(rotated.server.ops, "rescind_subscribers"), 1.0);
    client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_new_certificate_at_its_next_connection() {
    let rotated = Rotated::start();
    let security = Arc::new(ClientSecurity::of(rotated.files(), None));
    let dialler = rotated.dialler(&security);
    check(dialler.dial(|endpoint| endpoint).await.unwrap()).await;
    // Of another authority, which the server does not know yet: what is shown now is refused.
    let foreign = rotated.other.issue("client", &[OPS]);
    let put = |identity: &TestIdentity| {
        std::fs::copy(&identity.certificate, &rotated.own.certificate).unwrap();
        std::fs::copy(&identity.private_key, &rotated.own.private_key).unwrap();
    };
    put(&foreign);
    let refused = async {
        match dialler.dial(|endpoint| endpoint).await {
            Ok(calls) => CheckServiceClient::new(calls).check_token(pb::CheckTokenRequest::default()).await.is_err(),
            Err(_) => true,
        }
    };
    assert!(refused.await, "the new one is shown, and foreign");
    tokio::task::block_in_place(|| rotated.rotate(0, true));
    put(&foreign);
    check(dialler.dial(|endpoint| endpoint).await.unwrap()).await;
}

#[test]
fn an_agent_counts_files_that_cannot_be_used_and_shows_what_is_new_at_its_next_connection() {
    const FAILURES: &str = "rescind_reload_failures_total{files=\"upstream\"}";
    const RELOADS: &str = "rescind_reloads_total{files=\"upstream\"}";
    let mut rotated = Rotated::start();
    let [trusted, certificate, key] =
        [&rotated.trusted, &rotated.own.certificate, &rotated.own.private_key].map(|path| path.to_str().unwrap());
    let flags = ["--upstream-ca-file", trusted, "--upstream-certificate-file", certificate, "--upstream-key-file", key];
    let mut agent = Agent::prepare("rotated", &[&rotated.url()], &flags);
    agent.start();
    let put = |identity: &TestIdentity| {
        std::fs::copy(&identity.certificate, &rotated.own.certificate).unwrap();
        std::fs::copy(&identity.private_key, &rotated.own.private_key).unwrap();
    };

    std::fs::write(&rotated.own.certificate, "nothing\n").unwrap();
    agent.signal("-HUP");
    wait_until("the bad file is counted", LIMIT, || (agent.metric(FAILURES) > 0.0).then_some(()));
    // What was in force is still shown.
    rotated.server.kill();
    rotated.server.restart();
    agent.wait_live();

    // Of another authority, which the server does not know: that it is refused proves that it is shown.
    let before = agent.metric(RELOADS);
    put(&rotated.other.issue("foreign", &[OPS]));
    agent.signal("-HUP");
    wait_until("the new files are in force", LIMIT, || (agent.metric(RELOADS) > before).then_some(()));
    agent.wait_live();
    rotated.server.kill();
    rotated.server.restart();
    let refused = "rescind_tls_handshake_failures_total{reason=\"certificate\"}";
    wait_until("the foreign certificate is refused", LIMIT, || {
        (metric(rotated.server.ops, refused) > 0.0).then_some(())
    });

    put(&rotated.ca.issue("next", &[OPS]));
    wait_until("the next one is let in", LIMIT, || (agent.metric("rescind_staleness_seconds") < 3.0).then_some(()));
    wait_until("it follows", LIMIT, || (metric(rotated.server.ops, "rescind_subscribers") == 1.0).then_some(()));
}
