//! From the acknowledgement of a revoke to its being visible in a subscribed replica in another process.
//!
//! Three processes: the real server, this one that revokes, and a copy of this one that holds a replica and looks until
//! the token is revoked. Both read the same machine's wall clock.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

mod table;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rescind::client::{Claims, Client, Verdict};
use rescind::wire::pb;
use rescind::wire::pb::revocation_service_client::RevocationServiceClient;
use table::{Target, row};

const ROUNDS: usize = 1000;
/// Between two revokes, so that each is alone.
const PAUSE: Duration = Duration::from_millis(3);

/// Ends the process with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn now_micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// Reads token ids, and says for each when the replica has it revoked.
async fn replica(server: &str) {
    let client = Client::builder([server]).name("bench").connect().unwrap();
    client.ready(Duration::from_secs(20)).await.unwrap();
    println!("ready");
    let mut claims = Claims::new();
    for jti in std::io::stdin().lock().lines() {
        let jti = jti.unwrap();
        claims.clear();
        claims.push("jti", &jti, false);
        println!("watching");
        while !matches!(client.check(&claims).verdict, Verdict::Revoked(_)) {
            std::thread::yield_now();
        }
        println!("{}", now_micros());
    }
}

async fn measure() {
    let dir = tempfile::tempdir_in("target").unwrap();
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (listen, ops) = (port(), port());
    let _server = Owned(
        Command::new(env!("CARGO_BIN_EXE_rescind"))
            .args(["serve", "--listen", &listen, "--ops-listen", &ops, "--data-dir"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let url = format!("http://{listen}");
    let mut revoker = loop {
        match RevocationServiceClient::connect(url.clone()).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let mut replica = Owned(
        Command::new(std::env::current_exe().unwrap())
            .arg(format!("replica={url}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut said = BufReader::new(replica.0.stdout.take().unwrap()).lines();
    let mut ask = replica.0.stdin.take().unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "ready");

    let mut delays = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let jti = format!("propagation-{round}");
        writeln!(ask, "{jti}").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "watching");
        let claims = vec![pb::Claim { name: "jti".into(), value: jti }];
        let selector = pb::revocation::Target::Selector(pb::Selector { claims });
        let revocations = vec![pb::Revocation { target: Some(selector), ..Default::default() }];
        revoker.revoke(pb::RevokeRequest { revocations, ..Default::default() }).await.unwrap();
        let acknowledged = now_micros();
        let visible: u128 = said.next().unwrap().unwrap().parse().unwrap();
        delays.push(visible.saturating_sub(acknowledged) as f64 / 1000.0);
        tokio::time::sleep(PAUSE).await;
    }
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((ROUNDS - 1) as f64 * share) as usize];
    row("acknowledged -> visible in another process's replica, p50", at(0.5), " ms", Target::AtMost(1.0));
    row("acknowledged -> visible in another process's replica, p99", at(0.99), " ms", Target::AtMost(10.0));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = std::env::args().find_map(|arg| arg.strip_prefix("replica=").map(str::to_owned));
    match server {
        Some(server) => runtime.block_on(replica(&server)),
        None => runtime.block_on(measure()),
    }
}
