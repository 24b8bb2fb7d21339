//! The authority as a server runs it, on a disk in memory: recovery, commit path, snapshots and hub, stepped by the world.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rescind::app::JournalHistory;
use rescind::authority::manual::{self, ManualAuthority};
use rescind::authority::members::Roster;
use rescind::authority::{Image, Options, Publish, Published, RecoverError};
use rescind::clock::{Clock, ManualTime};
use rescind::hub::{self, Hub};
use rescind::journal::memory::MemoryDisk;
use rescind::journal::{Identity, Journal as _, JournalReader, SigningSeed};
use rescind::replication::frames::NodeId;
use rescind::replication::source::Members;
use rescind::replication::{LogPoint, Random, Signer};
use rescind::revocation::ports::{Answer, Caller};
use rescind::revocation::{Digest, Epoch, Grant, Policy, Position, Revision, SetKey, UnixMillis, WhenStale};
use rescind::wire::replication::GrpcEncoder;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::history::Point;
use super::model::Model;
use super::token;

/// The skew that replicas allow for.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);
/// The wall clock at the start, in minutes.
const START_MINUTE: u64 = 29_000_000;
/// The fewest bytes of deltas between two snapshots.
const SNAPSHOT_BYTES_MIN: u64 = 1500;

/// What outlives a crash, and the run there is.
pub struct Authority {
    pub disk: MemoryDisk,
    pub model: Model,
    /// What it is configured with, as of the next start.
    pub policy: Policy,
    folder: TempDir,
    time: Arc<ManualTime>,
    identity: Identity,
    backup: Option<Backup>,
    reader: Arc<dyn JournalReader>,
    log_bytes_max: usize,
    /// The last snapshot that was damaged.
    damaged: Option<PathBuf>,
    pub running: Option<Running>,
}

/// What is said of a revision.
pub struct Told {
    pub complete: bool,
    pub dead_by: Option<Duration>,
}

/// A copy of everything durable, as it was.
struct Backup {
    disk: MemoryDisk,
    snapshots: TempDir,
    model: Model,
}

/// One run.
pub struct Running {
    pub hub: Arc<Hub>,
    pub manual: ManualAuthority,
    outlet: Arc<Outlet>,
    roster: Arc<Roster>,
    reader: Arc<dyn JournalReader>,
    epoch: Epoch,
    /// No revision before this one is in the shared log.
    log_start: Revision,
}

/// Publishes to the hub, and keeps the snapshot that it has no room for yet.
struct Outlet {
    hub: Arc<Hub>,
    waiting: Mutex<Option<Arc<Image>>>,
}

impl Publish for Outlet {
    fn publish(&self, published: Published) {
        self.hub.append(published).unwrap();
    }

    fn offer_snapshot(&self, image: Arc<Image>) {
        *self.waiting.lock() = Some(image);
    }

    fn pruned(&self, oldest: Revision) {
        self.hub.set_oldest(oldest);
    }
}

/// Few enough that a backlog takes several reads.
const HISTORY_RECORDS_MAX: usize = 64;

impl Authority {
    pub fn new(random: &mut Random, time: Arc<ManualTime>, log_bytes_max: usize) -> Self {
        let mut half = || random.next_u64().to_le_bytes();
        let identity = Identity {
            epoch: Epoch { generation: 5, id: [half(), half()].concat().try_into().unwrap() },
            ancestors: Vec::new(),
            set_key: SetKey::new([half(), half()].concat().try_into().unwrap()),
            signing_seed: SigningSeed::new([half(), half(), half(), half()].concat().try_into().unwrap()),
            format_version: 1,
            created_at: time_start(),
        };
        let disk = MemoryDisk::new(identity.clone());
        let reader = disk.open().unwrap().reader().unwrap();
        let model = Model::new(identity.clone());
        Self {
            disk,
            model,
            policy: policy(),
            folder: folder(),
            time,
            identity,
            backup: None,
            reader,
            log_bytes_max,
            damaged: None,
            running: None,
        }
    }

    /// Recovers, and goes on.
    pub fn start(&mut self) -> Result<(), RecoverError> {
        let clock = Clock::manual(Arc::clone(&self.time));
        let options = Options {
            policy: self.policy,
            audit_retention: Duration::from_secs(3600),
            snapshot_bytes_min: SNAPSHOT_BYTES_MIN,
            ..Options::new(self.folder.path().to_owned(), clock.clone())
        };
        let recovered = manual::recover(options, Box::new(self.disk.open()?))?;
        let state = recovered.state();
        if self.model.history.is_empty() {
            self.model.begin(recovered.image.header.digest, start());
        }
        let start = hub::Start {
            node: NodeId([0xaa; 16]),
            epoch: self.identity.epoch,
            ancestors: self.identity.ancestors.clone(),
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
        let log_start = start.point.revision;
        let options = hub::Options { log_bytes_max: self.log_bytes_max, snapshots_max: 2, ..hub::Options::default() };
        let hub = Hub::new(
            options,
            start,
            clock,
            Arc::new(GrpcEncoder),
            Arc::new(JournalHistory::new(Arc::clone(&self.reader), HISTORY_RECORDS_MAX)),
        );
        let waiting = Mutex::new(Some(Arc::clone(&recovered.image)));
        let outlet = Arc::new(Outlet { hub: Arc::clone(&hub), waiting });
        let has_past = recovered.has_past;
        let manual = ManualAuthority::start(recovered, Arc::clone(&outlet) as Arc<dyn Publish>);
        let clock = Clock::manual(Arc::clone(&self.time));
        let roster =
            Roster::open(self.folder.path(), self.identity.epoch, has_past, Arc::clone(manual.set()), clock).unwrap();
        hub.set_members(Arc::clone(&roster) as Arc<dyn Members>);
        let reader = Arc::clone(&self.reader);
        let running = Running { hub, manual, outlet, roster, reader, epoch: self.identity.epoch, log_start };
        running.prepare();
        self.running = Some(running);
        Ok(())
    }

    /// The process ends where it stands.
    pub fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.roster.stop();
        }
    }

    /// Copies what is durable.
    pub fn back_up(&mut self) {
        let snapshots = folder();
        copy_snapshots(self.folder.path(), snapshots.path());
        self.backup =
            Some(Backup { disk: self.disk.copy(self.identity.clone()), snapshots, model: self.model.clone() });
    }

    /// Replaces what there is by the copy, as an epoch that descends from it. The process is not running. Where the copy
    /// ends; `None` when there is none.
    pub fn restore(&mut self, random: &mut Random) -> Option<Point> {
        let Backup { disk, snapshots, mut model } = self.backup.take()?;
        let last = disk.open().ok()?.head();
        let restored = Point { generation: model.generation(), revision: last };
        let mut identity = disk.open().ok()?.identity().clone().descend(last).ok()?;
        identity.epoch.id =
            [random.next_u64().to_le_bytes(), random.next_u64().to_le_bytes()].concat().try_into().ok()?;
        model.descend(identity.clone());
        self.disk = disk.copy(identity.clone());
        self.reader = self.disk.open().ok()?.reader().ok()?;
        (self.folder, self.damaged) = (folder(), None);
        copy_snapshots(snapshots.path(), self.folder.path());
        (self.identity, self.model) = (identity, model);
        Some(restored)
    }

    /// The newest snapshot loses its end, if it is newer than the last one that did. Whether there is one.
    pub fn damage_snapshot(&mut self) -> bool {
        let folder = std::fs::read_dir(self.folder.path().join("snapshots")).unwrap();
        let newest =
            folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == "snapshot").max();
        let Some(newest) = newest.filter(|newest| self.damaged.as_ref().is_none_or(|damaged| damaged < newest)) else {
            return false;
        };
        let bytes = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
        self.damaged = Some(newest);
        true
    }

    /// Takes what became durable into the model.
    pub fn follow_log(&mut self, at: Duration) {
        for record in self.reader.read(self.model.revision().next(), usize::MAX, usize::MAX).unwrap() {
            self.model.apply(&record, at);
        }
    }

    /// The first revision that the journal still has.
    pub fn oldest(&self) -> Revision {
        self.reader.oldest().unwrap()
    }

    pub fn log_bytes_max(&self) -> usize {
        self.log_bytes_max
    }
}

impl Running {
    /// Keeps no revision that the newest snapshot has.
    pub fn forget_history(&self) {
        self.hub.set_oldest(self.hub.snapshot_revision().unwrap_or_default().next());
    }

    /// Gives the hub the snapshot that waits, if it has room.
    pub fn prepare(&self) {
        let Some(image) = self.outlet.waiting.lock().take() else { return };
        match self.hub.prepare(&image) {
            Err(hub::OfferError::Busy) => {
                self.outlet.waiting.lock().get_or_insert(image);
            }
            other => other.unwrap(),
        }
    }

    /// How much the shared log holds, in bytes.
    pub fn log_bytes(&mut self) -> u64 {
        loop {
            match self.hub.bytes_since(self.log_start) {
                Some(bytes) => return bytes,
                None => self.log_start = self.log_start.next(),
            }
        }
    }

    /// Gives up what the epochs before this one revoked and this one lacks. Whether it was accepted.
    pub fn accept_loss(&mut self) -> bool {
        let caller = Caller { principal: "operator".into(), peer: "sim".into(), grant: Grant::everything() };
        self.manual.accept_loss(caller, self.epoch.generation - 1).is_ok()
    }

    pub fn check(&self, token: u32, at_least: Position) -> (Answer, Point) {
        let now = self.hub_wall().seconds();
        let answer = Answer::fresh(self.manual.set().check(&token::claims(token), now), self.epoch, Some(at_least));
        let answered = Point { generation: self.epoch.generation, revision: answer.position.revision };
        (answer, answered)
    }

    pub fn revoked(&self) -> BTreeSet<u32> {
        let now = self.hub_wall().seconds();
        let is_revoked = |token: &u32| self.manual.set().check(&token::claims(*token), now).hit.is_some();
        token::all().filter(is_revoked).collect()
    }

    pub fn stamp(&self) -> (Point, Digest) {
        let stamp = self.manual.set().stamp();
        (Point { generation: self.epoch.generation, revision: stamp.revision }, stamp.digest)
    }

    /// What the authority would answer to somebody who waits for a revision.
    pub fn propagation(&self, revision: Revision, runtime: &Runtime) -> Told {
        // Whoever joined below a relay is on its way to the disk.
        runtime.block_on(self.roster.durable());
        let found = self.roster.report(revision, Vec::new());
        let trouble = self.roster.trouble();
        let in_doubt = trouble.is_some() || self.manual.clock_in_doubt().is_some();
        let bounded = found.loosest.filter(|_| found.serve_stale == 0 && !in_doubt);
        let dead_by = bounded.filter(|loosest| loosest.when_stale == WhenStale::Deny).map(|loosest| {
            let record = self.reader.record(revision).ok().flatten();
            let committed = record.map_or_else(|| self.hub_wall(), |record| record.source_time());
            let skew = self.manual.set().policy().clock_skew_max;
            Duration::from_secs((Duration::from_millis(committed.0) + loosest.max_staleness + 2 * skew).as_secs() + 1)
        });
        Told { complete: found.is_complete() && trouble.is_none(), dead_by }
    }

    /// How this epoch writes a position.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn hub_wall(&self) -> UnixMillis {
        rescind::replication::Feed::now(&*self.hub).wall
    }
}

/// Time at the start.
pub fn start() -> Duration {
    Duration::from_secs(START_MINUTE * 60)
}

pub fn time_start() -> UnixMillis {
    UnixMillis(start().as_millis() as u64)
}

/// In memory where there is such a place: nothing here survives the process, and thousands of syncs take long.
fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() }.unwrap()
}

fn copy_snapshots(from: &Path, to: &Path) {
    let to = to.join("snapshots");
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from.join("snapshots")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A small skew, so that what the wall clock shows of staleness is told; a short grace, so that entries expire.
pub fn policy() -> Policy {
    Policy { clock_skew_max: CLOCK_SKEW_MAX, expiry_grace: Duration::from_secs(60), ..Policy::default() }
}
