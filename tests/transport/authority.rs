//! The authority as a server runs it, on a simulated host: recovery from a disk in memory, commit path, hub, and the
//! gRPC surface. Commits are made when the test says so, so that none of them races with virtual time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rescind::app::JournalHistory;
use rescind::authority::manual::{self, ManualAuthority};
use rescind::authority::{Image, Options, Publish, Published};
use rescind::clock::{Clock, ManualTime};
use rescind::hub::{self, Hub};
use rescind::journal::memory::MemoryDisk;
use rescind::journal::{Identity, Journal as _, JournalReader, SigningSeed};
use rescind::replication::frames::NodeId;
use rescind::replication::{LogPoint, Signer};
use rescind::revocation::ports::{Caller, CutoffChoice, ExpiryChoice, Revoke, RevokeRequest, Target};
use rescind::revocation::{Epoch, Grant, Policy, Revision, Selector, SetKey, TestedClaim, UnixMillis};
use rescind::surface::{Bounds, SentAway, serve_from, subscribe_service};
use rescind::wire::replication::GrpcEncoder;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::network::SimListener;

/// When the simulation begins, on every clock.
pub const BEGIN: UnixMillis = UnixMillis(1_767_225_600_000);
/// The skew that replicas allow for.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);
/// The shared log: short, so that a slow reader falls out of it.
const LOG_BYTES_MAX: usize = 8 << 10;

/// What outlives a crash, and the run there is.
pub struct Authority {
    pub time: Arc<ManualTime>,
    disk: MemoryDisk,
    reader: Arc<dyn JournalReader>,
    identity: Identity,
    folder: TempDir,
    running: Mutex<Option<Running>>,
}

struct Running {
    hub: Arc<Hub>,
    manual: ManualAuthority,
    sent_away: Arc<SentAway>,
    stop: CancellationToken,
}

struct Outlet(Arc<Hub>);

impl Publish for Outlet {
    fn publish(&self, published: Published) {
        self.0.append(published).unwrap();
    }

    fn offer_snapshot(&self, image: Arc<Image>) {
        self.0.offer_snapshot(image);
    }

    fn pruned(&self, oldest: Revision) {
        self.0.set_oldest(oldest);
    }
}

/// Few enough that a backlog takes several reads.
const HISTORY_RECORDS_MAX: usize = 64;

impl Authority {
    pub fn new() -> Arc<Self> {
        let identity = Identity {
            epoch: Epoch { generation: 3, id: [0xe0; 16] },
            ancestors: Vec::new(),
            set_key: SetKey::new([0x5e; 16]),
            signing_seed: SigningSeed::new([0x51; 32]),
            format_version: 1,
            created_at: BEGIN,
        };
        let disk = MemoryDisk::new(identity.clone());
        let reader = disk.open().unwrap().reader().unwrap();
        let (time, folder) = (ManualTime::starting_at(BEGIN), tempfile::tempdir().unwrap());
        Arc::new(Self { time, disk, reader, identity, folder, running: Mutex::new(None) })
    }

    pub fn clock(&self) -> Clock {
        Clock::manual(Arc::clone(&self.time))
    }

    /// The software of its host: recovers and serves until it is stopped or crashes.
    pub async fn run(self: Arc<Self>) -> turmoil::Result {
        let options = Options {
            policy: Policy { clock_skew_max: CLOCK_SKEW_MAX, ..Policy::default() },
            snapshot_bytes_min: 2048,
            ..Options::new(self.folder.path().to_owned(), self.clock())
        };
        let recovered = manual::recover(options, Box::new(self.disk.open()?))?;
        let state = recovered.state();
        let start = hub::Start {
            node: NodeId([0xaa; 16]),
            epoch: self.identity.epoch,
            ancestors: Vec::new(),
            set_key: self.identity.set_key.clone(),
            signer: Signer::from_seed(self.identity.signing_seed.expose()),
            point: LogPoint {
                revision: state.revision(),
                digest: state.digest(),
                chain: state.chain(),
                floor: state.floor(),
            },
            policy: state.policy(),
            has_verification: state.policies().version() > 0,
            oldest: self.reader.oldest()?,
        };
        let options = hub::Options { log_bytes_max: LOG_BYTES_MAX, ..hub::Options::default() };
        let history = Arc::new(JournalHistory::new(Arc::clone(&self.reader), HISTORY_RECORDS_MAX));
        let hub = Hub::new(options, start, self.clock(), Arc::new(GrpcEncoder), history);
        hub.prepare(&recovered.image)?;
        let manual = ManualAuthority::start(recovered, Arc::new(Outlet(Arc::clone(&hub))));
        let feeding = tokio::spawn(Arc::clone(&hub).run());
        let service = subscribe_service(Arc::clone(&hub));
        let sent_away = service.sent_away();
        let app = Routes::new(service).prepare().into_axum_router();
        let listener = SimListener::bind().await?;
        let stop = CancellationToken::new();
        *self.running.lock() = Some(Running { hub, manual, sent_away, stop: stop.clone() });
        serve_from(listener, app, Bounds::connections(1000), Arc::default(), stop).await;
        feeding.await?;
        Ok(())
    }

    /// It is gone, as far as the test is concerned.
    pub fn crash(&self) {
        *self.running.lock() = None;
    }

    /// Says goodbye to its subscribers and ends.
    pub fn stop(&self) {
        if let Some(running) = self.running.lock().take() {
            running.hub.stop();
            running.stop.cancel();
        }
    }

    /// Whom this run has sent away.
    pub fn sent_away(&self) -> Option<Arc<SentAway>> {
        self.running.lock().as_ref().map(|running| Arc::clone(&running.sent_away))
    }

    pub fn hub(&self) -> Option<Arc<Hub>> {
        self.running.lock().as_ref().map(|running| Arc::clone(&running.hub))
    }

    /// Revokes subjects in one revision; `None` while it is down.
    pub fn revoke(&self, subjects: &[String]) -> Option<Revision> {
        let mut running = self.running.lock();
        let running = running.as_mut()?;
        let items = subjects.iter().map(|subject| Revoke {
            target: Target::Selector(Selector::new([("sub", subject.as_str())], TestedClaim::Iat).unwrap()),
            cutoff: CutoffChoice::Unbounded,
            expiry: ExpiryChoice::Never,
            exceptions: Vec::new(),
            reason: String::new(),
        });
        let mut asked = running.manual.revoke(RevokeRequest {
            caller: Caller { principal: "test".into(), peer: "test".into(), grant: Grant::everything() },
            request_id: None,
            body_hash: [0; 32],
            items: items.collect(),
            dry_run: false,
            any_issuer: false,
            confirmed: true,
        });
        running.manual.step();
        let reply = asked.poll().expect("a step decides what is queued").expect("nothing refuses it");
        Some(reply.position.expect("no dry run").revision)
    }
}
