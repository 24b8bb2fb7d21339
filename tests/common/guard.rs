//! The same tests with TLS and authentication on: `RESCIND_TEST_SECURE=1`.
//!
//! Servers and agents then speak TLS only and ask everybody who he is. The command line, agents and clients reach them by
//! `https://`, with a certificate or a credential of their own. What tests send by hand goes through a [`tunnel`]: to the
//! test a plain address, on the wire TLS with a client certificate. A server whose test configures TLS or authentication by
//! itself is left as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rescind::client::{Builder, Client};
use rescind::security::credential::mint;
use rescind::security::tls::{ClientFiles, ClientIdentity, ClientTls};
use rescind::security::{BearerSource, ClientSecurity};
use rescind::wire::upstream::GrpcUpstream;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::pki::{TestAuthority, TestIdentity};

const OPS: &str = "spiffe://example.org/ops";
const RELAY: &str = "spiffe://example.org/relay";

/// What everybody trusts and shows; made once for each test process.
struct Guard {
    ca: PathBuf,
    server: TestIdentity,
    ops: TestIdentity,
    relay: TestIdentity,
    principals: PathBuf,
    credential: PathBuf,
    runtime: tokio::runtime::Runtime,
    authority: TestAuthority,
}

/// Whether servers are guarded.
pub(crate) fn is_on() -> bool {
    guard().is_some()
}

fn guard() -> Option<&'static Guard> {
    static GUARD: OnceLock<Option<Guard>> = OnceLock::new();
    GUARD.get_or_init(|| std::env::var_os("RESCIND_TEST_SECURE").map(|_| Guard::new())).as_ref()
}

impl Guard {
    fn new() -> Self {
        let authority = TestAuthority::new("test authority");
        let minted = mint().unwrap();
        let principals = format!(
            "[[principal]]\nname = 'ops'\ncertificate = '{OPS}'\ncredential = '{}'\nroles = ['admin']\n\
             [[principal]]\nname = 'relay'\ncertificate = '{RELAY}'\nroles = ['relay']\n",
            minted.hashed()
        );
        let credential = authority.write("ops.credential", minted.text.as_str());
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&credential, owner_only).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self {
            ca: authority.ca(),
            server: authority.issue("server", &["localhost", "127.0.0.1"]),
            ops: authority.issue("ops", &[OPS]),
            relay: authority.issue("relay", &[RELAY]),
            principals: authority.write("principals.toml", principals),
            credential,
            runtime,
            authority,
        }
    }

    fn sections(&self) -> String {
        format!(
            "\n[tls]\ncertificate = '{}'\nprivate_key = '{}'\nclient_ca = '{}'\n[authentication]\nprincipals = '{}'\n",
            self.server.certificate.display(),
            self.server.private_key.display(),
            self.ca.display(),
            self.principals.display()
        )
    }

    fn files(&self) -> ClientFiles {
        let TestIdentity { certificate, private_key } = self.ops.clone();
        ClientFiles { authorities: Some(self.ca.clone()), identity: Some(ClientIdentity { certificate, private_key }) }
    }
}

/// The flags of a server or an agent with what guards it, written to a file in `dir`; `None` where nothing is to be guarded.
pub(crate) fn guarded_flags(flags: &[String], dir: &Path) -> Option<Vec<String>> {
    let guard = guard()?;
    let given = flags.iter().position(|flag| flag == "--config");
    let text = given.map_or_else(String::new, |at| std::fs::read_to_string(&flags[at + 1]).unwrap());
    if text.contains("[tls]") || text.contains("[authentication]") {
        return None;
    }
    let path = dir.join("guarded.toml");
    std::fs::write(&path, text + &guard.sections()).unwrap();
    let mut flags = flags.to_vec();
    if let Some(at) = given {
        flags.drain(at..at + 2);
    }
    flags.extend(["--config".to_owned(), path.display().to_string()]);
    Some(flags)
}

/// What an agent shows upstream.
pub(crate) fn upstream_flags() -> Vec<String> {
    let Some(guard) = guard() else { return Vec::new() };
    let flags = [
        ("--upstream-ca-file", &guard.ca),
        ("--upstream-certificate-file", &guard.relay.certificate),
        ("--upstream-key-file", &guard.relay.private_key),
    ];
    flags.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).collect()
}

/// What the command line shows: a credential.
pub(crate) fn set_environment(command: &mut Command) {
    if let Some(guard) = guard() {
        command.env("RESCIND_CA_FILE", &guard.ca).env("RESCIND_CREDENTIAL_FILE", &guard.credential);
    }
}

/// Tells a script how to secure the servers that it starts, and what to show them.
pub(crate) fn hand_to(command: &mut Command) {
    let Some(guard) = guard() else { return };
    let config = guard.authority.write("script.toml", guard.sections());
    command.env("SECURED_CONFIG", config).env("SECURED_CA", &guard.ca);
    command.env("SECURED_CERTIFICATE", &guard.ops.certificate).env("SECURED_KEY", &guard.ops.private_key);
    command.env("SECURED_CREDENTIAL_FILE", &guard.credential);
}

/// `http` or `https`.
pub(crate) fn scheme() -> &'static str {
    if is_on() { "https" } else { "http" }
}

/// A client of these servers: over TCP with a certificate, over a Unix socket with a credential.
pub(crate) fn client(urls: impl IntoIterator<Item = String>) -> Builder {
    let urls: Vec<String> = urls.into_iter().collect();
    let Some(guard) = guard() else { return Client::builder(urls) };
    Client::builder(urls).tls(guard.files()).credential_file(&guard.credential)
}

/// The same for a subscription by hand.
pub(crate) fn upstream(url: &str) -> GrpcUpstream {
    let Some(guard) = guard() else { return GrpcUpstream::new(url).unwrap() };
    let security = ClientSecurity::of(guard.files(), Some(BearerSource::File(guard.credential.clone())));
    GrpcUpstream::secured(&url.parse().unwrap(), Arc::new(security)).unwrap()
}

/// A plain address on this machine whose connections go on to `target` in TLS, from the address that they came from. It
/// lasts as long as the test process.
pub(crate) fn tunnel(target: SocketAddr) -> SocketAddr {
    let Some(guard) = guard() else { return target };
    let tls = TlsConnector::from(ClientTls::of(guard.files()).current().unwrap());
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    guard.runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((near, from)) = listener.accept().await {
            tokio::spawn(pass(near, from, target, tls.clone()));
        }
    });
    listen
}

async fn pass(mut near: TcpStream, from: SocketAddr, target: SocketAddr, tls: TlsConnector) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from.ip(), 0).into())?;
    let far = socket.connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut far = tls.connect("localhost".try_into().expect("a name"), far).await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
