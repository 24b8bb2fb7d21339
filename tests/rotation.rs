//! Certificates, keys and authorities replaced again and again while a server is used: no check fails, no subscription
//! ends, and a bad file changes nothing.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::pki::{TestAuthority, TestIdentity};
use common::server::{Server, command};
use common::{metric, wait_until};
use rescind::client::{Client, Event, FollowerStatus, Observe};
use rescind::revocation::ports::Pending;
use rescind::security::ClientSecurity;
use rescind::security::tls::{ClientFiles, ClientIdentity};
use rescind::wire::pb::check_service_client::CheckServiceClient;
use rescind::wire::{Calls, Dialler, pb};

/// Times that everything is replaced.
const ROTATIONS: u64 = 20;
/// Callers with a connection that lasts, and callers with a new one for each check.
const LASTING: usize = 4;
const FRESH: usize = 2;
/// A reload is looked for every few seconds, unless the server is told.
const RELOAD_LIMIT: Duration = Duration::from_secs(20);

/// A server that asks for certificates, with files that are replaced, and what its clients show.
struct Rotated {
    server: Server,
    identity: TestIdentity,
    authorities: PathBuf,
    ca: TestAuthority,
}

impl Rotated {
    fn start() -> Self {
        let ca = TestAuthority::new("ca");
        let identity = ca.issue("server", &["localhost"]);
        let authorities = ca.ca();
        let config = format!(
            "[tls]\ncertificate = '{}'\nprivate_key = '{}'\nclient_ca = '{}'\nrequire_client_certificate = true",
            identity.certificate.display(),
            identity.private_key.display(),
            authorities.display()
        );
        let config = ca.write("rescind.toml", config);
        let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
        Self { server, identity, authorities, ca }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.server.listen.port())
    }

    fn client_files(&self, own: &TestIdentity) -> ClientFiles {
        let identity = ClientIdentity { certificate: own.certificate.clone(), private_key: own.private_key.clone() };
        ClientFiles { authorities: Some(self.authorities.clone()), identity: Some(identity) }
    }

    fn reloads(&self) -> (f64, f64) {
        let of = |name| metric(self.server.ops, &format!("rescind_{name}_total{{files=\"tls\"}}"));
        (of("reloads"), of("reload_failures"))
    }

    /// SIGHUP.
    fn tell(&self) {
        let pid = self.server.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    /// The serial number of the certificate that a new connection is shown.
    fn check_shown(&self, expected: &Path) {
        let expected = std::fs::read(expected).unwrap();
        wait_until("the new certificate is shown", RELOAD_LIMIT, || (self.shown() == expected).then_some(()));
    }

    /// The certificate that a new connection is shown, as PEM.
    fn shown(&self) -> Vec<u8> {
        let address = self.server.listen.to_string();
        let output = std::process::Command::new("openssl")
            .args(["s_client", "-connect", &address, "-servername", "localhost", "-showcerts"])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        output.stdout
    }
}
