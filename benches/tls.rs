//! What TLS costs a check: the same calls to two real servers, one in plaintext that asks nobody, one that asks for a client
//! certificate, verifies it and looks up whose it is. Connections are kept; rounds of one and the other take turns, and
//! what is compared is the median of their ratios.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

#[path = "../tests/common/pki.rs"]
mod pki;
#[path = "table/mod.rs"]
mod table;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pki::TestAuthority;
use rescind::security::ClientSecurity;
use rescind::security::tls::{ClientFiles, ClientIdentity};
use rescind::wire::pb::check_service_client::CheckServiceClient;
use rescind::wire::{Calls, Dialler, pb};
use table::{Target, row};
use tempfile::TempDir;

const ROUNDS: usize = 7;
/// Calls one after the other in a round, for their latency.
const CHECKS: usize = 2_000;
/// Connections of a round for the throughput, and calls that are under way on each.
const CONNECTIONS: usize = 4;
const UNDER_WAY: usize = 8;
const ROUND: Duration = Duration::from_secs(1);
/// A server answers at once; a busy machine starts one slowly.
const START_LIMIT: Duration = Duration::from_secs(60);
/// What the secured server must reach of the other.
const LEAST: f64 = 0.85;
const CALLER: &str = "spiffe://example.org/caller";

struct Server {
    child: Child,
    listen: SocketAddr,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(config: &str) -> Self {
        let dir = tempfile::tempdir_in("target").unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, ops) = (port(), port());
        let file = dir.path().join("rescind.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(["serve", "--listen", &listen.to_string(), "--ops-listen", &ops.to_string()]);
        command.arg("--config").arg(file).arg("--data-dir").arg(dir.path().join("data"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, listen, _dir: dir };
        let begun = Instant::now();
        while !is_ready(ops) {
            assert!(begun.elapsed() < START_LIMIT, "the server does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

fn is_ready(ops: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(ops) else { return false };
    let mut answer = String::new();
    let asked = socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    asked.is_ok() && socket.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// A server in TLS that knows one caller, and how he reaches it.
fn secured(ca: &TestAuthority) -> (Server, Dialler) {
    let (identity, own) = (ca.issue("server", &["localhost"]), ca.issue("caller", &[CALLER]));
    let principals = format!("[[principal]]\nname = 'caller'\ncertificate = '{CALLER}'\nroles = ['check']\n");
    let config = format!(
        "[tls]\ncertificate = '{}'\nprivate_key = '{}'\nclient_ca = '{}'\nrequire_client_certificate = true\n\
         [authentication]\nprincipals = '{}'\nrequests_per_second = 1000000\n",
        identity.certificate.display(),
        identity.private_key.display(),
        ca.ca().display(),
        ca.write("principals.toml", principals).display()
    );
    let server = Server::start(&config);
    let files = ClientFiles {
        authorities: Some(ca.ca()),
        identity: Some(ClientIdentity { certificate: own.certificate, private_key: own.private_key }),
    };
    let url = format!("https://localhost:{}", server.listen.port()).parse().unwrap();
    let dialler = Dialler::new(url, Arc::new(ClientSecurity::of(files, None))).unwrap();
    (server, dialler)
}

async fn check(client: &mut CheckServiceClient<Calls>) {
    let presented = pb::presented_token::Presented::OpaqueToken("an honest token".to_owned());
    let token = Some(pb::PresentedToken { presented: Some(presented) });
    client.check_token(pb::CheckTokenRequest { token, at_least: None }).await.expect("a check succeeds");
}

/// Kept connections to one server.
struct Callers(Vec<CheckServiceClient<Calls>>);

impl Callers {
    async fn connect(dialler: &Dialler) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let calls = dialler.dial(|endpoint| endpoint).await.unwrap();
            clients.push(CheckServiceClient::new(calls));
        }
        Self(clients)
    }

    /// Median and 99th percentile of calls one after the other, in microseconds.
    async fn latency(&mut self) -> [f64; 2] {
        let mut took = Vec::with_capacity(CHECKS);
        for _ in 0..CHECKS {
            let begun = Instant::now();
            check(&mut self.0[0]).await;
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        took.sort_by(f64::total_cmp);
        [took[CHECKS / 2], took[CHECKS * 99 / 100]]
    }

    /// Calls answered in a second.
    async fn throughput(&self) -> f64 {
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for client in self.0.iter().flat_map(|client| std::iter::repeat_n(client, UNDER_WAY)) {
            let mut client = client.clone();
            tasks.spawn(async move {
                let mut answered = 0_u64;
                while begun.elapsed() < ROUND {
                    check(&mut client).await;
                    answered += 1;
                }
                answered
            });
        }
        let answered: u64 = tasks.join_all().await.into_iter().sum();
        answered as f64 / begun.elapsed().as_secs_f64()
    }

    /// Median, 99th percentile, throughput.
    async fn round(&mut self) -> [f64; 3] {
        let [median, p99] = self.latency().await;
        [median, p99, self.throughput().await]
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let ca = TestAuthority::new("bench");
    let (_secured, over_tls) = secured(&ca);
    let plain = Server::start("");
    let in_clear = Dialler::plain(format!("http://{}", plain.listen).parse().unwrap());
    let (mut tls, mut clear) = (Callers::connect(&over_tls).await, Callers::connect(&in_clear).await);
    // To warm up.
    tls.round().await;
    clear.round().await;
    let (mut of_clear, mut of_tls) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Neither is always the first.
        if round % 2 == 0 {
            of_clear.push(clear.round().await);
            of_tls.push(tls.round().await);
        } else {
            of_tls.push(tls.round().await);
            of_clear.push(clear.round().await);
        }
    }
    for (index, (what, unit)) in
        [("check, p50", " us"), ("check, p99", " us"), ("checks, 4 connections, 32 under way", "/s")]
            .into_iter()
            .enumerate()
    {
        let of = |rounds: &[[f64; 3]]| -> Vec<f64> { rounds.iter().map(|round| round[index]).collect() };
        let (clear, tls) = (of(&of_clear), of(&of_tls));
        // More is better in all three.
        let ratio = |(clear, tls): (&f64, &f64)| if unit == "/s" { tls / clear } else { clear / tls };
        let ratios = clear.iter().zip(&tls).map(ratio).collect();
        row(&format!("{what}, plaintext, nobody asked"), median(clear), unit, Target::None);
        row(&format!("{what}, client certificate and authentication"), median(tls), unit, Target::None);
        row("  compared, of plaintext", median(ratios), "x", Target::AtLeast(LEAST));
    }
}
