//! A real OpenID provider as a process of its own: oidc-provider on Node, over HTTPS. See tests/node/issuer.mjs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::pki::{TestAuthority, TestIdentity};
use super::server::free_port;
use super::{skip, wait_until};

/// Node reads a hundred packages on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The provider, killed when its owner goes.
pub(crate) struct Issuer {
    address: SocketAddr,
    modules: PathBuf,
    identity: TestIdentity,
    log: PathBuf,
    child: Option<Child>,
}

impl Issuer {
    /// A provider with a certificate of this authority. `None` only where nobody set Node up and nobody relies on it.
    pub(crate) fn start(authority: &TestAuthority) -> Option<Self> {
        let modules = std::env::var_os("RESCIND_TEST_NODE").map(PathBuf::from);
        assert!(modules.is_some() || std::env::var_os("CI").is_none(), "RESCIND_TEST_NODE must be set where CI is");
        let Some(modules) = modules else {
            skip("RESCIND_TEST_NODE is not set; `make test` sets it");
            return None;
        };
        let identity = authority.issue("issuer", &["localhost"]);
        let (address, log) = (free_port(), authority.path("issuer.log"));
        let mut issuer = Self { address, modules, identity, log, child: None };
        issuer.run();
        Some(issuer)
    }

    fn run(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/issuer.mjs");
        let log = std::fs::File::create(&self.log).unwrap();
        let mut command = Command::new("node");
        command.arg(script).arg(&self.modules).arg(self.address.port().to_string());
        command.arg(&self.identity.certificate).arg(&self.identity.private_key);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        wait_until("the provider is ready", START_LIMIT, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            let said = std::fs::read_to_string(&self.log).unwrap();
            assert!(ended.is_none(), "the provider ended with {ended:?}:\n{said}");
            said.lines().any(|line| line == "ready").then_some(())
        });
    }

    /// `iss`.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- the provider said\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// An OAuth client, of another making than ours: see tests/python/oauth.py.
pub(crate) struct OAuthClient {
    python: PathBuf,
    ca: PathBuf,
}

impl OAuthClient {
    /// One that trusts this authority; `None` as [`super::python`].
    pub(crate) fn trusting(authority: &TestAuthority) -> Option<Self> {
        Some(Self { python: super::python()?, ca: authority.ca() })
    }

    /// What comes of it.
    pub(crate) fn ask(&self, what: &str, mut with: Value) -> Value {
        with["do"] = what.into();
        with["ca"] = json!(self.ca);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/oauth.py");
        let output = Command::new(&self.python).arg(script).arg(with.to_string()).output().unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
