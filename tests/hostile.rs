//! Strangers that try to use a server up: connections, streams, frames, bodies and responses. Beside each of them an honest
//! caller goes on asking, and is answered every time; memory stays within a bound, and metrics tell what was refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::caller::{Caller, Outcome, claims};
use common::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Ended, HEADERS, Http2, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame,
};
use common::pki::TestAuthority;
use common::server::Server;
use common::{http, metric, resident_bytes, wait_until};
use rescind::wire::pb;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use socket2::{Domain, Socket, Type};

const LIMIT: Duration = Duration::from_secs(20);
const CHECK: &str = "/rescind.v1.CheckService/CheckToken";
const CHECK_MANY: &str = "/rescind.v1.CheckService/CheckTokens";
/// What any of the attacks here may cost in memory, in bytes: what is let in, and what an allocator keeps of it.
const GROWTH_MAX: u64 = 64 << 20;
/// HTTP/2's ENHANCE_YOUR_CALM.
const CALM: u32 = 0xb;
/// A server that takes nothing for so long has stopped reading what it cannot answer.
const BLOCKED_AFTER: Duration = Duration::from_millis(500);
/// Checks on an old connection, and on a new one each, that have to succeed while an attack lasts.
const HONEST_CHECKS: u64 = 40;

/// A server, and an honest caller that asks all the time.
struct Scene {
    server: Server,
    memory: u64,
    honest: Honest,
    _config: tempfile::TempDir,
}

/// Asks on a connection of its own, and on a new one each time, in turn.
struct Honest {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    caller: Option<JoinHandle<()>>,
}

impl Scene {
    fn new(limits: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rescind.toml");
        std::fs::write(&path, format!("[limits]\n{limits}")).unwrap();
        let server = Server::start_with(None, &["--config", path.to_str().unwrap()]);
        let honest = Honest::begin(server.listen);
        honest.go_on();
        let memory = resident_bytes(server.pid());
        Self { server, memory, honest, _config: dir }
    }

    fn metric(&self, name: &str) -> u64 {
        metric(self.server.ops, name) as u64
    }

    fn closed(&self, reason: &str) -> u64 {
        self.metric(&format!("rescind_connections_closed_total{{reason=\"{reason}\"}}"))
    }

    fn refused(&self, reason: &str) -> u64 {
        self.metric(&format!("rescind_connections_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Holds that the honest caller is answered while the attack goes on, and that the server stays small and whole.
    fn assert_served(&mut self) {
        self.honest.go_on();
        let grown = resident_bytes(self.server.pid()).saturating_sub(self.memory);
        println!("{} KiB more in memory", grown >> 10);
        assert!(grown <= GROWTH_MAX, "it grew by {grown} B");
        assert!(self.server.is_alive());
        let log = self.server.log_text();
        assert!(!log.contains("panicked"), "{log}");
    }

    fn end(mut self) {
        self.assert_served();
        self.honest.end();
    }
}

impl Honest {
    fn begin(server: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (until, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let caller = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let caller = runtime.block_on(async { Caller::new(server) });
            while !until.load(Ordering::Relaxed) {
                let token = claims(&serde_json::json!({ "sub": "alice" }));
                assert_eq!(runtime.block_on(caller.check(token)).unwrap(), Outcome::NotRevoked);
                let answer = http::post(server, "/v1/check", "{\"claims\":{\"payload\":{\"sub\":\"alice\"}}}");
                assert_eq!(answer.status, 200, "{answer:?}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answered, caller: Some(caller) }
    }

    /// Waits until it was answered some more times.
    fn go_on(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        wait_until("the honest caller is answered", LIMIT, || {
            assert!(self.caller.as_ref().is_some_and(|caller| !caller.is_finished()), "a check failed");
            (self.answered.load(Ordering::Relaxed) >= before + HONEST_CHECKS).then_some(())
        });
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.caller.take().unwrap().join().unwrap();
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A connection from an address of this machine.
fn connect_from(last: u8, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&server.into(), LIMIT).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// A check that is answered, and the connection kept.
fn ask<S: Read + Write>(mut stream: S) -> std::io::Result<S> {
    let body = "{\"claims\":{\"payload\":{\"sub\":\"bob\"}}}";
    let request = format!(
        "POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    assert_eq!(&status, b"HTTP/1.1 200");
    Ok(stream)
}

/// A gRPC message.
fn message(message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes
}

fn check_of(count: usize) -> pb::CheckTokensRequest {
    let presented = claims(&serde_json::json!({ "sub": "bob" }));
    let tokens = vec![pb::PresentedToken { presented: Some(presented) }; count];
    pb::CheckTokensRequest { tokens, at_least: None }
}

/// Sends until the server takes no more, or ends the connection; reads what it says, unless it is to be stuck with it.
fn flood(
    mut connection: Http2,
    is_read: bool,
    bytes: impl Fn(&mut Http2, u32) -> Vec<u8>,
    times: u32,
) -> Option<Ended> {
    connection.write_within(BLOCKED_AFTER);
    let reading = is_read.then(|| {
        let reader = connection.reader();
        std::thread::spawn(move || reader.end())
    });
    for turn in 0..times {
        let bytes = bytes(&mut connection, turn);
        if connection.send(&bytes).is_err() {
            break;
        }
    }
    reading.map(|reading| {
        connection.hang_up();
        reading.join().unwrap()
    })
}

#[test]
fn a_slow_loris_makes_room_for_others() {
    let mut scene = Scene::new("connections = 400\nconnections_unproven = 100");
    let address = scene.server.listen;
    let mut held: Vec<TcpStream> = Vec::new();
    for turn in 0..600_u32 {
        let mut stream = connect_from(2, address);
        // Nothing at all; the head of a request that goes on and on; a body that never comes.
        let begun: &[u8] = match turn % 3 {
            0 => b"",
            1 => b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nX-",
            _ => b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        };
        let _ = stream.write_all(begun);
        held.push(stream);
    }
    for drip in 0..3 {
        for stream in &mut held {
            let _ = stream.write_all(b"a");
        }
        println!("drip {drip}");
        scene.assert_served();
    }
    assert!(scene.metric("rescind_connections_unproven") <= 100);
    // Beside those of the honest caller that had not come to an answer yet.
    assert!(scene.closed("unproven") >= 500, "{}", scene.closed("unproven"));
    scene.end();
}

#[test]
fn a_flood_from_one_address_takes_no_place_from_another() {
    let mut scene = Scene::new("connections = 64\nconnections_per_address = 32");
    let address = scene.server.listen;
    // Proven, so that none of them makes room for the next.
    let held: Vec<TcpStream> = (0..64).filter_map(|_| ask(connect_from(2, address)).ok()).collect();
    assert_eq!(held.len(), 32, "as many as one address may have");
    assert_eq!(scene.refused("address"), 32);
    scene.assert_served();
    drop(held);
    wait_until("there is room again", LIMIT, || ask(connect_from(2, address)).ok());
    scene.end();
}

#[test]
fn a_flood_from_many_addresses_closes_its_own() {
    let mut scene = Scene::new("connections = 512\nconnections_unproven = 128");
    let address = scene.server.listen;
    let mut held = Vec::new();
    for round in 0..10 {
        for last in 2..102 {
            held.push(connect_from(last, address));
        }
        println!("round {round}: {} closed", scene.closed("unproven"));
        scene.assert_served();
    }
    assert!(scene.metric("rescind_connections_unproven") <= 128);
    assert!(scene.closed("unproven") >= 1000 - 128);
    scene.end();
}

#[test]
fn a_full_house_that_is_in_use_refuses_strangers_and_serves_its_own() {
    let mut scene = Scene::new("connections = 16\nconnections_unproven = 16\nconnections_per_address = 12");
    let address = scene.server.listen;
    let mut refused = 0;
    let held: Vec<TcpStream> = (2..32)
        .filter_map(|last| {
            let asked = ask(connect_from(last, address));
            refused += u64::from(asked.is_err());
            asked.ok()
        })
        .take(13)
        .collect();
    assert_eq!((held.len(), refused), (13, 0), "with the two of the honest caller there is one place left");
    scene.assert_served();
    scene.end();
}

/// CVE-2023-44487: streams that are opened and reset at once.
#[test]
fn a_reset_storm_ends_the_connection() {
    let mut scene = Scene::new("");
    for _ in 0..4 {
        let storm = |connection: &mut Http2, _| {
            let mut bytes = connection.call();
            bytes.extend(frame(RST_STREAM, 0, connection.last_stream(), &8_u32.to_be_bytes()));
            bytes
        };
        let ended = flood(Http2::connect(scene.server.listen, CHECK), true, storm, 100_000).unwrap();
        assert_eq!(ended, Ended::GoAway(CALM));
        scene.assert_served();
    }
    assert_eq!(scene.metric("rescind_connections_broken_total"), 4);
    scene.end();
}

/// CVE-2025-8671: the server is made to reset the streams itself.
#[test]
fn streams_that_the_server_is_made_to_reset_end_the_connection() {
    let mut scene = Scene::new("");
    let storm = |connection: &mut Http2, _| {
        let mut bytes = connection.call();
        // More than a window can be (RFC 9113 §6.9.1): an error of the stream, not of the connection.
        bytes.extend(frame(WINDOW_UPDATE, 0, connection.last_stream(), &0x7fff_ffff_u32.to_be_bytes()));
        bytes
    };
    let ended = flood(Http2::connect(scene.server.listen, CHECK), true, storm, 100_000).unwrap();
    assert_eq!(ended, Ended::GoAway(CALM));
    assert_eq!(scene.metric("rescind_connections_broken_total"), 1);
    scene.assert_served();
    scene.end();
}

/// CVE-2024-27316: a head without end.
#[test]
fn a_head_without_end_ends_the_connection() {
    let mut scene = Scene::new("");
    let storm = |connection: &mut Http2, turn| match turn {
        0 => {
            let mut bytes = connection.call();
            bytes[4] &= !END_HEADERS;
            bytes
        }
        _ => {
            let mut block = vec![0x00, 3, b'x', b'-', b'a', 120];
            block.extend([b'y'; 120]);
            frame(CONTINUATION, 0, connection.last_stream(), &block.repeat(100))
        }
    };
    let ended = flood(Http2::connect(scene.server.listen, CHECK), true, storm, 10_000).unwrap();
    assert!(matches!(ended, Ended::GoAway(_)), "{ended:?}");
    assert_eq!(scene.metric("rescind_connections_broken_total"), 1);
    scene.assert_served();
    scene.end();
}

/// Frames that want an answer, from somebody who reads none: the server stops reading, and holds nothing back.
#[test]
fn a_flood_of_pings_and_settings_is_not_queued() {
    let mut scene = Scene::new("");
    for is_read in [true, false] {
        for (kind, payload) in [(PING, vec![0; 8]), (SETTINGS, [0_u8, 3, 0, 0, 0, 100].repeat(100))] {
            let bytes = frame(kind, 0, 0, &payload).repeat(100);
            flood(Http2::connect(scene.server.listen, CHECK), is_read, |_, _| bytes.clone(), 2_000);
            scene.assert_served();
        }
    }
    scene.end();
}

/// h2 has a warning for each of these.
#[test]
fn answers_that_nobody_asked_for_do_not_fill_the_log() {
    const ACK: u8 = 1;
    let scene = Scene::new("");
    let before = scene.server.log_text().len();
    let bytes = frame(PING, ACK, 0, &[0; 8]).repeat(100);
    flood(Http2::connect(scene.server.listen, CHECK), true, |_, _| bytes.clone(), 100);
    let said = scene.server.log_text().len() - before;
    assert!(said < 10_000, "{said} bytes of log for 10,000 frames");
}

/// Requests of many frames of one byte each, and of frames of nothing.
#[test]
fn bodies_in_tiny_frames_cost_little() {
    let mut scene = Scene::new("");
    let body = message(&check_of(10));
    for empty in [false, true] {
        let mut connection = Http2::connect(scene.server.listen, CHECK_MANY);
        for _ in 0..50 {
            let mut bytes = connection.call();
            let stream = connection.last_stream();
            for byte in &body {
                bytes.extend(frame(DATA, 0, stream, &[*byte]));
                if empty {
                    bytes.extend(frame(DATA, 0, stream, &[]).repeat(20));
                }
            }
            bytes.extend(frame(DATA, END_STREAM, stream, &[]));
            if connection.send(&bytes).is_err() {
                break;
            }
        }
        scene.assert_served();
    }
    scene.end();
}

/// Large answers for which nobody makes room.
#[test]
fn answers_that_are_not_taken_stay_within_bounds() {
    let mut scene = Scene::new("");
    let body = message(&check_of(200));
    let mut held = Vec::new();
    for window in [0_u32, 1, 100] {
        let mut connection = Http2::connect(scene.server.listen, CHECK_MANY);
        let setting = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
        connection.send(&frame(SETTINGS, 0, 0, &setting)).unwrap();
        for _ in 0..100 {
            let mut bytes = connection.call();
            bytes.extend(frame(DATA, END_STREAM, connection.last_stream(), &body));
            connection.send(&bytes).unwrap();
        }
        held.push(connection);
        scene.assert_served();
    }
    scene.end();
}

/// Calls whose messages never come, more than there may be requests: they step aside for those that do.
#[test]
fn calls_without_their_messages_take_no_place_from_others() {
    let mut scene = Scene::new("requests = 512");
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut connection = Http2::connect(scene.server.listen, CHECK);
        for _ in 0..150 {
            connection.open().unwrap();
        }
        held.push(connection);
        scene.assert_served();
    }
    wait_until("the slowest are refused", LIMIT, || {
        (scene.metric("rescind_requests_shed_total{class=\"check\"}") >= 8 * 150 - 512).then_some(())
    });
    assert!(scene.metric("rescind_requests_under_way") <= 512);
    scene.end();
}

/// Watches of health, which everybody may have without saying who he is and which never end, and streams of reflection.
#[test]
fn watches_stay_within_bounds() {
    let mut scene = Scene::new("");
    let mut held = Vec::new();
    for round in 0..100 {
        let path = match round % 2 {
            0 => "/grpc.health.v1.Health/Watch",
            _ => "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        };
        let mut connection = Http2::connect(scene.server.listen, path);
        for _ in 0..200 {
            let mut bytes = connection.call();
            // What is watched: everything. Reflection waits for more.
            let is_all = if round % 2 == 0 { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, is_all, connection.last_stream(), &[0; 5]));
            connection.send(&bytes).unwrap();
        }
        let last = connection.last_stream();
        assert!(connection.is_refused(last), "the last one got no answer");
        held.push(connection);
    }
    scene.assert_served();
    scene.end();
}

/// The first bytes of a handshake, and then one at a time: whoever shakes hands in one go is served beside them.
#[test]
fn handshakes_that_drip_make_room_for_others() {
    let authority = TestAuthority::new("authority");
    let identity = authority.issue("server", &["localhost"]);
    let config = format!(
        "[limits]\nconnections = 400\nconnections_unproven = 100\n[tls]\ncertificate = {:?}\nprivate_key = {:?}\n",
        identity.certificate, identity.private_key
    );
    let config = authority.write("rescind.toml", config);
    let mut server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
    let memory = resident_bytes(server.pid());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
    let mut held: Vec<TcpStream> = Vec::new();
    for round in 0..3 {
        for _ in 0..200 {
            let mut stream = connect_from(2, server.listen);
            // A record of a handshake of 512 bytes, of a ClientHello of 508.
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).unwrap();
            held.push(stream);
        }
        for stream in &mut held {
            let _ = stream.write_all(&[0]);
        }
        for _ in 0..10 {
            let session = rustls::ClientConnection::new(Arc::clone(&client), "localhost".try_into().unwrap()).unwrap();
            ask(rustls::StreamOwned::new(session, connect_from(1, server.listen))).unwrap();
        }
        println!("round {round}: {} held", held.len());
    }
    let closed = metric(server.ops, "rescind_connections_closed_total{reason=\"unproven\"}") as u64;
    assert!(closed >= 500, "{closed}");
    assert!(metric(server.ops, "rescind_connections_unproven") as u64 <= 100);
    assert!(resident_bytes(server.pid()).saturating_sub(memory) <= GROWTH_MAX);
    assert!(server.is_alive() && !server.log_text().contains("panicked"));
}

/// A head that is too large, in both protocols, and one of too many fields.
#[test]
fn heads_beyond_their_bounds_are_refused() {
    let scene = Scene::new("");
    let address = scene.server.listen;
    let long = "y".repeat(70_000);
    let many: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "y")).collect();
    let json = ("Content-Type", "application/json");
    for headers in [&[json, ("x-long", long.as_str())][..], &many] {
        let answer = http::send(address, "POST", "/v1/check", headers, b"{}").unwrap();
        assert_eq!(answer.status, 431, "{answer:?}");
    }
    let mut connection = Http2::connect(address, CHECK);
    let mut reader = connection.reader();
    let mut block = vec![0x00, 3, b'x', b'-', b'a', 0x7f, 0x81, 0x7f];
    block.extend(vec![b'y'; 0x7f + 1 + 0x7f * 128]);
    let head = connection.call();
    let stream = connection.last_stream();
    let mut bytes = frame(HEADERS, 0, stream, &head[9..]);
    for part in block.repeat(3).chunks(16_000) {
        bytes.extend(frame(CONTINUATION, 0, stream, part));
    }
    bytes.extend(frame(CONTINUATION, END_HEADERS, stream, &[]));
    let _ = connection.send(&bytes);
    assert!(reader.is_refused(stream), "the head is refused");
    scene.end();
}
