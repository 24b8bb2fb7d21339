//! What ten thousand hostile connections do to an honest caller of a real server: a third say nothing, a third send the
//! head of a request byte by byte, a third open and reset streams. Whatever the server closes is opened again at once.
//!
//! The attackers run on the same machine, at a pace that leaves the server a processor: what is measured is what the server
//! lets them take, not how fast this machine can fill its own queues.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

#[path = "../table/mod.rs"]
mod table;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rescind::wire::pb;
use rescind::wire::pb::check_service_client::CheckServiceClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use table::{Target, row};

const CONNECTIONS: usize = 10_000;
/// Source addresses: one has too few ports.
const ADDRESSES: usize = 20;
/// Connections that are looked at, and asked or opened again, in each turn of an attacker.
const PER_TURN: usize = 20;
const TURN: Duration = Duration::from_millis(10);
const CHECKS: usize = 5_000;
const CHECK_PAUSE: Duration = Duration::from_millis(1);
/// As documented: about 25 KiB a connection.
const GROWTH_MIB_MAX: f64 = (CONNECTIONS * 25) as f64 / 1024.0;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct Server {
    child: Child,
    listen: SocketAddr,
    ops: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir_in("target").unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, ops) = (port(), port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(["serve", "--listen", &listen.to_string(), "--ops-listen", &ops.to_string(), "--data-dir"]);
        let child = command.arg(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, listen, ops, _dir: dir };
        let begun = Instant::now();
        while !server.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect(self.ops).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    }

    fn resident_mib(&self) -> f64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4.0 / 1024.0
    }
}

/// What an attacker keeps.
struct Attack {
    server: SocketAddr,
    held: Vec<Option<TcpStream>>,
    stream: Vec<u32>,
    opened: Arc<AtomicU64>,
}

impl Attack {
    fn connect(&self, index: usize) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let last = 2 + (index % ADDRESSES) as u8;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        socket.connect_timeout(&self.server.into(), Duration::from_secs(1))?;
        let mut stream = TcpStream::from(socket);
        let begun: &[u8] = match index % 3 {
            0 => b"",
            1 => b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nX-",
            _ => PREFACE,
        };
        stream.write_all(begun)?;
        stream.set_nonblocking(true)?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    /// Looks after one connection.
    fn turn(&mut self, index: usize) {
        let is_gone = match &mut self.held[index] {
            None => true,
            Some(stream) => {
                let mut said = [0; 512];
                let is_closed = match stream.read(&mut said) {
                    Ok(0) => true,
                    Err(error) => error.kind() != ErrorKind::WouldBlock,
                    Ok(_) => false,
                };
                let bytes = match index % 3 {
                    0 => Vec::new(),
                    1 => b"a".to_vec(),
                    _ => resets(&mut self.stream[index]),
                };
                let is_stuck = stream.write_all(&bytes).is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
                is_closed || is_stuck
            }
        };
        if is_gone {
            self.stream[index] = 1;
            // The old one first: there are only so many descriptors.
            self.held[index] = None;
            self.held[index] = self.connect(index).ok();
        }
    }
}

/// A call that is opened and reset, some times: HEADERS with fields of the static table only, and RST_STREAM.
fn resets(next: &mut u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..5 {
        let stream = next.to_be_bytes();
        *next += 2;
        bytes.extend([0, 0, 4, 1, 4]);
        bytes.extend(stream);
        bytes.extend([0x83, 0x86, 0x84, 0x81]);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(stream);
        bytes.extend(8_u32.to_be_bytes());
    }
    bytes
}

/// Checks one after the other; how long each took, in microseconds, in order.
fn checks(server: SocketAddr) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = CheckServiceClient::connect(format!("http://{server}")).await.unwrap();
        let presented = pb::presented_token::Presented::OpaqueToken("an honest token".to_owned());
        let token = Some(pb::PresentedToken { presented: Some(presented) });
        let mut took = Vec::with_capacity(CHECKS);
        for _ in 0..CHECKS {
            let begun = Instant::now();
            let request = pb::CheckTokenRequest { token: token.clone(), at_least: None };
            client.check_token(request).await.expect("an honest check succeeds");
            took.push(begun.elapsed().as_secs_f64() * 1e6);
            tokio::time::sleep(CHECK_PAUSE).await;
        }
        took.sort_by(f64::total_cmp);
        took
    })
}

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let server = Server::start();
    let calm = checks(server.listen);
    let memory = server.resident_mib();

    let (stop, opened) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let (until, count, listen) = (Arc::clone(&stop), Arc::clone(&opened), server.listen);
    let attacker = std::thread::spawn(move || {
        let held = (0..CONNECTIONS).map(|_| None).collect();
        let mut attack = Attack { server: listen, held, stream: vec![1; CONNECTIONS], opened: count };
        let mut next = 0;
        while !until.load(Ordering::Relaxed) {
            let is_filling = attack.opened.load(Ordering::Relaxed) < CONNECTIONS as u64;
            for _ in 0..PER_TURN {
                attack.turn(next);
                next = (next + 1) % CONNECTIONS;
            }
            if !is_filling {
                std::thread::sleep(TURN);
            }
        }
    });
    while opened.load(Ordering::Relaxed) < CONNECTIONS as u64 {
        assert!(!attacker.is_finished());
        std::thread::sleep(Duration::from_millis(20));
    }
    let attacked = checks(server.listen);
    let grown = server.resident_mib() - memory;
    let p99 = |took: &[f64]| took[took.len() * 99 / 100];
    row("honest check, p99, nobody else there", p99(&calm), " us", Target::None);
    row("honest check, p99, 10,000 hostile connections", p99(&attacked), " us", Target::None);
    row("  compared", p99(&attacked) / p99(&calm), "x", Target::AtMost(3.0));
    row("memory for them, while they attack", grown, " MiB", Target::AtMost(GROWTH_MIB_MAX));
    row("hostile connections opened", opened.load(Ordering::Relaxed) as f64, "", Target::None);
    let closed = server.metric("rescind_connections_closed_total{reason=\"unproven\"}");
    row("  closed to make room", closed, "", Target::None);
    row("  open at the end", server.metric("rescind_connections "), "", Target::None);
    stop.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
}
