//! `rescind serve` as a process of its own, killed when its owner goes.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::disk::Disk;
use super::{guard, http, wait_until};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_rescind");
/// A start may replay a journal on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Ports below the range that the kernel takes for outgoing connections: a client that keeps calling a dead server on
/// this machine must never connect to itself.
const PORT_FIRST: u16 = 10_000;
const PORT_COUNT: u16 = 10_000;

/// A server with its ports and its data.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where tests connect by hand.
    pub(crate) listen: SocketAddr,
    /// Where it listens: the same, unless it is guarded.
    pub(crate) direct: SocketAddr,
    is_guarded: bool,
    pub(crate) ops: SocketAddr,
    pub(crate) data_dir: PathBuf,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    /// Last: emptied after the process is gone.
    _dir: TempDir,
}

impl Server {
    /// A fresh server, ready.
    pub(crate) fn start() -> Self {
        Self::start_with(None, &[])
    }

    /// The same with its data elsewhere, and more flags.
    pub(crate) fn start_with(data_dir: Option<&Path>, flags: &[&str]) -> Self {
        let mut server = Self::prepare(data_dir, flags);
        server.restart();
        server
    }

    /// One whose data is on a watched disk.
    pub(crate) fn start_on(disk: &Disk) -> Self {
        let config = disk.busy_config();
        let flags = ["--config", config.to_str().unwrap()];
        let mut server = Self::prepare(Some(&disk.files().join("data")), &flags);
        server.set_environment(disk.environment());
        server.restart();
        server
    }

    /// The server, not started.
    pub(crate) fn prepare(data_dir: Option<&Path>, flags: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("rescind-test-").tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let guarded = guard::guarded_flags(&flags, dir.path());
        let (direct, is_guarded) = (free_port(), guarded.is_some());
        Self {
            listen: if is_guarded { guard::tunnel(direct) } else { direct },
            direct,
            is_guarded,
            ops: free_port(),
            data_dir: data_dir.map_or_else(|| dir.path().join("data"), Path::to_owned),
            flags: guarded.unwrap_or(flags),
            environment: Vec::new(),
            log: dir.path().join("log"),
            child: None,
            _dir: dir,
        }
    }

    /// What every start from now on finds in its environment.
    pub(crate) fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Starts it with the same data and ports, and waits until it is ready.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "stop it first");
        self.child = Some(self.command().spawn().unwrap());
        wait_until("the server is ready", START_LIMIT, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", self.log_text());
            http::get(self.ops, "/readyz").filter(|answer| answer.status == 200)
        });
    }

    /// Starts it where it is expected to refuse; what it said and how it ended.
    pub(crate) fn refused_start(&self) -> Output {
        let mut child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the server refuses to start", START_LIMIT, || child.try_wait().unwrap());
        }));
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        assert!(deadline.is_ok(), "it started: {output:?}");
        output
    }

    /// kill -9: no destructor, no flush, no goodbye.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, as a service manager sends it; how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait_until("the server stops", START_LIMIT, || child.try_wait().unwrap())
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Everything it has written, over all starts.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where callers connect, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.is_guarded { guard::scheme() } else { "http" }, self.direct)
    }

    /// Runs the command line against it.
    pub(crate) fn cli(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        use std::io::Write as _;
        let mut command = command(arguments);
        command.args(["--server", &self.url()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may refuse its flags before it reads anything.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    fn command(&self) -> Command {
        let log = || -> File { OpenOptions::new().create(true).append(true).open(&self.log).unwrap() };
        let mut command = command(&["serve"]);
        command.args(["--listen", &self.direct.to_string(), "--ops-listen", &self.ops.to_string()]);
        command.arg("--data-dir").arg(&self.data_dir).args(&self.flags);
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log()).stderr(log());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            println!("--- the server's last lines\n{}", tail.join("\n"));
        }
    }
}

/// The binary without what the environment would tell it.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RESCIND_") {
            command.env_remove(name);
        }
    }
    guard::set_environment(&mut command);
    command
}

/// A port that nobody listens on, and that no other test of this process was given.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() as u16).wrapping_mul(37);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(turn < PORT_COUNT, "no free port");
        let port = PORT_FIRST + offset.wrapping_add(turn) % PORT_COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
