//! Servers in processes of their own, so that their memory can be told from everybody else's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rescind::wire::pb;
use rescind::wire::pb::revocation_service_client::RevocationServiceClient;
use tonic::transport::Channel;

/// A child process; ends with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// A line of `/proc/PID/status`, in KiB.
    pub(crate) fn kib(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    /// Waits until the process has nothing to do: what it does in the background would be counted as growth.
    pub(crate) fn until_idle(&self) {
        /// Of a hundred a second.
        const TICKS_IDLE: u64 = 4;
        let ticks = || -> u64 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            let fields = stat.rsplit(')').next().unwrap();
            fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
        };
        let begin = Instant::now();
        loop {
            let before = ticks();
            std::thread::sleep(Duration::from_secs(1));
            if ticks() - before <= TICKS_IDLE {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(180), "the server is always busy");
        }
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> f64 {
        self.kib("VmRSS:")
    }
}

/// A server under test, or its peer.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    ops: Option<SocketAddr>,
    /// Removed after the process is gone.
    dir: Option<tempfile::TempDir>,
}

impl Server {
    /// The bare peer.
    pub(crate) fn bare() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child = command.arg("role=bare").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process: Process(child), address: line.trim().parse().unwrap(), ops: None, dir: None }
    }

    /// `rescind serve` with no data, ready.
    pub(crate) fn real() -> Self {
        let dir = tempfile::tempdir_in("target").unwrap();
        Self::start(dir)
    }

    /// `rescind agent`, which follows `upstream`; ready.
    pub(crate) fn relay_of(upstream: &Self) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(["agent", "--name", "relay", "--upstream", &upstream.url()]);
        Self::spawn(command, None)
    }

    /// The same data, in another process.
    pub(crate) fn restarted(mut self) -> Self {
        let dir = self.dir.take().unwrap();
        drop(self);
        Self::start(dir)
    }

    fn start(dir: tempfile::TempDir) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rescind"));
        command.args(["serve", "--data-dir"]).arg(dir.path());
        Self::spawn(command, Some(dir))
    }

    fn spawn(mut command: Command, dir: Option<tempfile::TempDir>) -> Self {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, ops) = (port(), port());
        command.args(["--listen", &address.to_string(), "--ops-listen", &ops.to_string()]);
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let server = Self { process: Process(child), address, ops: Some(ops), dir };
        server.until_ready();
        server
    }

    fn until_ready(&self) {
        let begin = Instant::now();
        while !self.is_ready().unwrap_or(false) {
            assert!(begin.elapsed() < Duration::from_secs(60), "the server does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(self.ops.unwrap())?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A write, seen from the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) revision: u64,
    pub(crate) sent: Instant,
    pub(crate) acknowledged: Instant,
}

/// A caller that revokes, on a thread that nobody else uses.
pub(crate) struct Writer {
    runtime: tokio::runtime::Runtime,
    caller: Caller,
    written: u64,
}

enum Caller {
    Real(RevocationServiceClient<Channel>),
    Bare(h2::client::SendRequest<Bytes>, u64),
}

impl Writer {
    /// Connects to `server`.
    pub(crate) fn to(server: &Server) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let caller = if server.ops.is_some() {
            let client = runtime.block_on(RevocationServiceClient::connect(server.url())).unwrap();
            Caller::Real(client.max_decoding_message_size(64 << 20))
        } else {
            let connect = async {
                let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
                socket.set_nodelay(true).unwrap();
                let (client, connection) = h2::client::handshake(socket).await.unwrap();
                tokio::spawn(connection);
                client
            };
            Caller::Bare(runtime.block_on(connect), 0)
        };
        Self { runtime, caller, written: 0 }
    }

    /// Revokes so many tokens in one request, or publishes a frame.
    pub(crate) fn write(&mut self, count: u64) -> Written {
        let from = self.written;
        self.written += count;
        let sent = Instant::now();
        let revision = match &mut self.caller {
            Caller::Real(client) => {
                let revocations = (from..from + count).map(revocation).collect();
                let request = pb::RevokeRequest { revocations, ..Default::default() };
                let answer = self.runtime.block_on(client.revoke(request)).unwrap();
                answer.into_inner().position.unwrap().revision
            }
            Caller::Bare(client, revision) => {
                *revision += 1;
                self.runtime.block_on(async {
                    let request = http::Request::post("http://localhost/publish").body(()).unwrap();
                    let (response, _) = client.clone().ready().await.unwrap().send_request(request, true).unwrap();
                    response.await.unwrap();
                });
                *revision
            }
        };
        Written { revision, sent, acknowledged: Instant::now() }
    }

    /// Makes so many such writes, one after the other.
    pub(crate) fn write_times(&mut self, times: u64, count: u64) {
        for _ in 0..times {
            self.write(count);
        }
    }

    /// Writes one at a time, `per_second`, for so long.
    pub(crate) fn write_steadily(&mut self, per_second: u32, during: Duration) -> Vec<Written> {
        let (begin, pause) = (Instant::now(), Duration::from_secs(1) / per_second);
        let writes = (during.as_secs_f64() * f64::from(per_second)) as u32;
        let write = |turn| {
            std::thread::sleep((pause * turn).saturating_sub(begin.elapsed()));
            self.write(1)
        };
        (0..writes).map(write).collect()
    }
}

fn revocation(n: u64) -> pb::Revocation {
    let claims = vec![pb::Claim { name: "jti".into(), value: format!("fleet-{n:012x}") }];
    pb::Revocation { target: Some(pb::revocation::Target::Selector(pb::Selector { claims })), ..Default::default() }
}
