//! How long a restart takes until checks are answered from the cache on disk: read, verified, and served.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rescind::clock::Clock;
use rescind::replica::{Driver, DriverOptions, FollowerOptions, FollowerState, Keep, NodeId, cache};
use rescind::replication::follower::{Descent, FollowerState as State, Provenance, SetSwap, SignedSnapshot};
use rescind::replication::frames::SnapshotEnd;
use rescind::replication::signature::Statement;
use rescind::replication::{Follower, Lineage, Signer};
use rescind::revocation::{
    Built, Chain, Cutoff, Epoch, Fingerprint, Minute, PackedEntry, Policy, Revision, RevocationSet, Selector, SetKey,
    SnapshotBuilder, SnapshotEntry, SnapshotState, TestedClaim, UnixMillis,
};

const ENTRIES: u64 = 1_000_000;
const TARGET: Duration = Duration::from_millis(500);
const RUNS: usize = 5;

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    fill(dir.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begun = Instant::now();
        let follower = FollowerOptions::leaf(NodeId([1; 16]), "bench", 1);
        let cache = cache::open(dir.path(), follower.entries_max, Clock::system())?;
        let options = DriverOptions {
            follower,
            upstreams: Vec::new(),
            clock: Clock::system(),
            observer: None,
            keepers: Vec::new(),
            below: None,
            cache: Some(cache),
        };
        let driver = Driver::spawn(options, runtime.handle());
        let mut statuses = driver.replica().subscribe();
        runtime.block_on(statuses.wait_for(|status| status.state == FollowerState::Warm))?;
        times.push(begun.elapsed());
        assert_eq!(driver.replica().status().entries, ENTRIES);
        runtime.block_on(driver.shutdown());
    }
    times.sort_unstable();
    let median = times[RUNS / 2];
    let verdict = if median <= TARGET { "met" } else { "MISSED" };
    writeln!(
        io::stdout(),
        "cold start from a cache of {ENTRIES} entries: median {:.3} s, worst {:.3} s of {RUNS} runs; target {:.1} s: {verdict}",
        median.as_secs_f64(),
        times[RUNS - 1].as_secs_f64(),
        TARGET.as_secs_f64(),
    )?;
    Ok(())
}

/// Writes a cache as a replica's keeper does.
fn fill(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let (key, signer) = (SetKey::new([1; 16]), Signer::from_seed(&[2; 32]));
    let epoch = Epoch { generation: 1, id: [3; 16] };
    let policy = Policy::default();
    let floor = Minute::from_bits(1);
    let shape = Selector::new([("jti", "any")], TestedClaim::Iat)?.shape();
    let state = SnapshotState { revision: Revision(9), floor, policy, shapes: vec![shape], verification: None };
    let mut sorted: BTreeMap<Fingerprint, PackedEntry> = BTreeMap::new();
    for index in 0..ENTRIES {
        let selector = Selector::new([("jti", index.to_string().as_str())], TestedClaim::Iat)?;
        sorted.insert(key.fingerprint(&selector), PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false));
    }
    let mut builder = SnapshotBuilder::new(&key, state);
    let mut chunks = Vec::new();
    for (fingerprint, entry) in sorted {
        chunks.extend(builder.push(&SnapshotEntry { fingerprint, entry, exceptions: Vec::new() })?);
    }
    let Built { last, header, sha256 } = builder.finish();
    chunks.extend(last);
    let statement = Statement {
        protocol: 1,
        epoch,
        revision: Revision(9),
        digest: header.digest,
        chain: Chain([4; 32]),
        floor,
        source_time: UnixMillis(5),
    };
    let end = SnapshotEnd {
        revision: statement.revision,
        digest: statement.digest,
        chain: statement.chain,
        sha256,
        signature: signer.sign_snapshot(&statement, &sha256),
        source_time: statement.source_time,
    };
    let descent = Descent {
        epoch,
        lineage: Lineage::sign(&signer, epoch, Vec::new()),
        set_key: key.clone(),
        public_key: signer.public_key(),
    };
    let snapshot = Arc::new(SignedSnapshot { header, chunks, end });
    let (_, set) = RevocationSet::create(key, policy, floor);
    let provenance = Some(Box::new(Provenance { descent, snapshot, deltas: Vec::new() }));
    let swap = SetSwap { set, epoch, epoch_change: None, provenance };
    let status = Follower::new(FollowerOptions::leaf(NodeId([1; 16]), "bench", 1)).status();
    assert_eq!(status.state, State::Init);
    let mut keeper = cache::open(dir, u64::MAX, Clock::system())?.into_keeper();
    keeper.handle_swap(&swap, &status);
    Ok(())
}
