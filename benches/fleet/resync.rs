//! A hub without an authority, which forgets its history on demand, and the replica that must be sent everything again.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rescind::authority::Image;
use rescind::client::Client;
use rescind::clock::Clock;
use rescind::hub::{self, Hub};
use rescind::replication::frames::NodeId;
use rescind::replication::source::HistoryError;
use rescind::replication::{LogPoint, Signer};
use rescind::revocation::{
    Chain, Cutoff, Epoch, Fingerprint, Minute, PackedEntry, Policy, Revision, SetKey, SnapshotBuilder, SnapshotEntry,
    SnapshotState, UnixMillis,
};
use rescind::surface::{Bounds, Listener, subscribe_service};
use rescind::wire::replication::GrpcEncoder;
use tokio_util::sync::CancellationToken;

use crate::table::fingerprint;

/// What the hub starts from first, and then: nothing between them is kept.
pub(crate) const REVISIONS: [u64; 2] = [10, 20];

const FLOOR: u32 = 1;
const EXPIRY: u32 = 1 << 25;

struct NoHistory;

impl hub::History for NoHistory {
    fn deltas(&self, from: Revision, _: usize) -> Result<Vec<hub::Logged>, HistoryError> {
        Err(HistoryError::Compacted(from))
    }
}

/// Serves subscriptions in this process.
pub(crate) struct Origin {
    entries: u64,
    address: SocketAddr,
    hub: Arc<Hub>,
    stop: CancellationToken,
    runtime: tokio::runtime::Runtime,
}

fn image(key: &SetKey, entries: u64, revision: u64) -> Image {
    let mut sorted: Vec<Fingerprint> = (0..entries).map(fingerprint).collect();
    sorted.sort_unstable();
    let state = SnapshotState {
        revision: Revision(revision),
        floor: Minute::from_bits(FLOOR),
        policy: Policy::default(),
        shapes: Vec::new(),
        verification: None,
    };
    let mut builder = SnapshotBuilder::new(key, state);
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::from_bits(EXPIRY), false);
    let mut chunks = Vec::new();
    for fingerprint in sorted {
        let entry = SnapshotEntry { fingerprint, entry, exceptions: Vec::new() };
        chunks.extend(builder.push(&entry).unwrap());
    }
    let built = builder.finish();
    chunks.extend(built.last);
    Image { header: built.header, chunks, sha256: built.sha256, chain: Chain::default(), source_time: UnixMillis(1) }
}

impl Origin {
    /// Serves so many entries at `revision`.
    pub(crate) fn serve(entries: u64, revision: u64) -> Self {
        Self::serve_at("127.0.0.1:0".parse().unwrap(), entries, revision)
    }

    fn serve_at(address: SocketAddr, entries: u64, revision: u64) -> Self {
        let key = SetKey::new([5; 16]);
        let image = image(&key, entries, revision);
        let point = LogPoint {
            revision: Revision(revision),
            digest: image.header.digest,
            chain: image.chain,
            floor: image.header.state.floor,
        };
        let start = hub::Start {
            node: NodeId([1; 16]),
            epoch: Epoch { generation: 1, id: [2; 16] },
            ancestors: Vec::new(),
            set_key: key,
            signer: Signer::from_seed(&[3; 32]),
            point,
            policy: Policy::default(),
            has_verification: false,
            oldest: Revision(revision + 1),
        };
        let hub = Hub::new(hub::Options::default(), start, Clock::system(), Arc::new(GrpcEncoder), Arc::new(NoHistory));
        hub.prepare(&image).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(Listener::bind(address.into(), "--listen")).unwrap();
        let address = listener.address().tcp().expect("it is TCP");
        let app = tonic::service::Routes::new(subscribe_service(hub.clone())).prepare().into_axum_router();
        let stop = CancellationToken::new();
        let bounds = Bounds { stop_grace: Duration::from_secs(1), ..Bounds::connections(10) };
        runtime.spawn(listener.serve(app, bounds, stop.clone()));
        runtime.spawn(hub.clone().run());
        Self { entries, address, hub, stop, runtime }
    }

    /// Comes back at the same address, further on and without its history.
    pub(crate) fn go_on_from(self, revision: u64) -> Self {
        let (entries, address) = (self.entries, self.address);
        drop(self);
        Self::serve_at(address, entries, revision)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.hub.stop();
        self.stop.cancel();
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_secs(2)).await });
    }
}

fn own_kib(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn say(number: f64) {
    println!("{number}");
    std::io::stdout().flush().unwrap();
}

/// The replica: says its cold start in seconds, its steady memory and, once it has been sent everything again, its peak
/// in KiB.
pub(crate) async fn follow(url: &str) {
    let begin = Instant::now();
    let client = Client::builder([url]).name("bench").connect().unwrap();
    client.ready(Duration::from_secs(60)).await.unwrap();
    say(begin.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The high-water mark begins again here.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    say(own_kib("VmRSS:"));
    let mut changes = client.on_change();
    changes.wait_for(|status| status.revision >= Revision(REVISIONS[1])).await.unwrap();
    say(own_kib("VmHWM:"));
}
