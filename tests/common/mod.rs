//! What the acceptance tests share: the real binary as a process, and plain callers of it.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stderr, reason = "a test tells what it cannot do here")]

pub(crate) mod agent;
pub(crate) mod caller;
pub(crate) mod disk;
pub(crate) mod example;
pub(crate) mod gateway;
pub(crate) mod guard;
pub(crate) mod house;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod issuer;
pub(crate) mod liar;
pub(crate) mod load;
pub(crate) mod origin;
pub(crate) mod pki;
pub(crate) mod power;
pub(crate) mod provider;
pub(crate) mod proxy;
pub(crate) mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rescind::clock::Clock;
use rescind::replication::frames::{Hello, NodeId, ProtocolRange, Role};
use rescind::revocation::Revision;

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Looks until `condition` has a value; panics with `what` after `limit`.
pub(crate) fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let begun = clock.boot();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(clock.boot().since(begun) < limit, "{what}: not within {limit:?}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The Python with the test's packages. `None` only where nobody set it up and nobody relies on it.
pub(crate) fn python() -> Option<PathBuf> {
    let python = std::env::var_os("RESCIND_TEST_PYTHON").map(PathBuf::from);
    assert!(python.is_some() || std::env::var_os("CI").is_none(), "RESCIND_TEST_PYTHON must be set where CI is");
    if python.is_none() {
        skip("RESCIND_TEST_PYTHON is not set; `make test` sets it");
    }
    python
}

/// How many rounds a test of faults runs: `RESCIND_FAULT_ROUNDS`, else `usual`.
pub(crate) fn rounds(usual: usize) -> usize {
    let given = std::env::var("RESCIND_FAULT_ROUNDS").ok();
    given.map_or(usual, |rounds| rounds.parse().expect("RESCIND_FAULT_ROUNDS is a number"))
}

/// What a subscriber says first that holds nothing.
pub(crate) fn hello(subscriber: NodeId, name: &str, role: Role) -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber,
        name: name.to_owned(),
        role,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: false,
        policy: None,
    }
}

/// Says loudly that a test did not run.
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("\n***** SKIPPED {test}: {why} *****\n");
}

/// A source of numbers that a seed repeats (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `RESCIND_TEST_SEED`, else by the clock; says which.
    pub(crate) fn seeded() -> Self {
        let given = std::env::var("RESCIND_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
        let seed = given.unwrap_or_else(|| Clock::system().wall().0);
        eprintln!("seed: RESCIND_TEST_SEED={seed}");
        Self(seed)
    }

    /// An independent source.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `range`.
    pub(crate) fn from(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }
}

/// A number among the metrics of a process, by its name and labels.
pub(crate) fn metric(ops: SocketAddr, name: &str) -> f64 {
    let body = http::get(ops, "/metrics").expect("it answers").body;
    let line = body.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {body}"))
}

/// What a process keeps in memory, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
