//! `rescind agent` as a process of its own, killed when its owner goes.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::server::{command, free_port};
use super::{guard, http, metric, wait_until};

const START_LIMIT: Duration = Duration::from_secs(30);

/// An agent with its ports, its cache and its log.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    /// Where callers connect, as a URL.
    pub(crate) url: String,
    pub(crate) listen: Option<SocketAddr>,
    /// Where it listens: the same, unless it is guarded.
    pub(crate) direct: Option<SocketAddr>,
    pub(crate) ops: SocketAddr,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    dir: TempDir,
}

impl Agent {
    /// An agent on TCP, not started.
    pub(crate) fn prepare(name: &str, upstreams: &[&str], flags: &[&str]) -> Self {
        let listen = free_port();
        let url = format!("{}://{listen}", guard::scheme());
        Self::on(name, url, Some(listen), &listen.to_string(), upstreams, flags)
    }

    /// An agent on a Unix socket, not started.
    pub(crate) fn prepare_unix(name: &str, upstreams: &[&str], flags: &[&str]) -> Self {
        let mut agent = Self::on(name, String::new(), None, "", upstreams, flags);
        let address = format!("unix:{}", agent.dir.path().join("socket").display());
        agent.flags[1].clone_from(&address);
        agent.url = address;
        agent
    }

    fn on(
        name: &str,
        url: String,
        listen: Option<SocketAddr>,
        address: &str,
        upstreams: &[&str],
        flags: &[&str],
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("rescind-agent-").tempdir().unwrap();
        let ops = free_port();
        let upstreams = upstreams.join(",");
        let ops_text = ops.to_string();
        let own = ["--listen", address, "--ops-listen", &ops_text, "--upstream", &upstreams, "--name", name];
        let mut flags: Vec<String> = own.iter().chain(flags).map(ToString::to_string).collect();
        flags.extend(guard::upstream_flags());
        let (direct, listen) = (listen, listen.map(guard::tunnel));
        let flags = guard::guarded_flags(&flags, dir.path()).unwrap_or(flags);
        Self { name: name.to_owned(), url, listen, direct, ops, flags, environment: Vec::new(), child: None, dir }
    }

    /// Gives it other upstreams, before it is started.
    pub(crate) fn follow(&mut self, upstreams: &[&str]) {
        self.flags[5] = upstreams.join(",");
    }

    /// What every start from now on finds in its environment.
    pub(crate) fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Starts it, and waits until it has caught up.
    pub(crate) fn start(&mut self) {
        self.start_cold();
        self.wait_ready();
    }

    /// Starts it, and waits until it runs.
    pub(crate) fn start_cold(&mut self) {
        assert!(self.child.is_none(), "stop it first");
        let log = || OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = command(&["agent"]);
        command.envs(self.environment.iter().cloned());
        command.args(&self.flags).stdin(Stdio::null()).stdout(log()).stderr(log());
        self.child = Some(command.spawn().unwrap());
        self.wait_for("/livez");
    }

    /// Waits until it has caught up.
    pub(crate) fn wait_ready(&mut self) {
        self.wait_for("/readyz");
    }

    /// Waits until it has heard the authority's own word.
    pub(crate) fn wait_live(&self) {
        wait_until(&format!("{} is live", self.name), START_LIMIT, || {
            (self.metric("rescind_staleness_seconds") < 3.0).then_some(())
        });
    }

    fn wait_for(&mut self, path: &str) {
        wait_until(&format!("{} answers {path}", self.name), START_LIMIT, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended with {ended:?}:\n{}", self.name, self.log_text());
            http::get(self.ops, path).filter(|answer| answer.status == 200)
        });
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// SIGSTOP, SIGCONT and the like.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Everything it has written, over all starts.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A number of its metrics.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(self.ops, name)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            println!("--- the last lines of {}\n{}", self.name, tail.join("\n"));
        }
    }
}
