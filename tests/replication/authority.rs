//! An authority without a journal on disk: a hub, and a history in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rescind::authority::{Image, Published};
use rescind::clock::{Clock, ManualTime};
use rescind::hub::{self, Hub};
use rescind::replication::frames::NodeId;
use rescind::replication::source::HistoryError;
use rescind::replication::{LogPoint, Random, Signer};
use rescind::revocation::{
    Chain, Cutoff, Delta, Digest, Epoch, Fingerprint, Minute, PackedEntry, Policy, Revision, RevocationSet, Selector,
    SetKey, SetWriter, SnapshotBuilder, SnapshotEntry, SnapshotState, TestedClaim, UnixMillis,
};
use rescind::wire::replication::GrpcEncoder;

/// Subjects that may be revoked.
pub const SUBJECTS: u32 = 24;
/// The skew that replicas allow for.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);
/// The wall clock at the start, in minutes.
const START_MINUTE: u32 = 29_000_000;

pub struct Authority {
    pub hub: Arc<Hub>,
    writer: SetWriter,
    chain: Chain,
    key: SetKey,
    entries: BTreeMap<u32, Minute>,
    records: Arc<Records>,
    log_bytes_max: usize,
    short_history: bool,
    clock: Clock,
}

#[derive(Default)]
struct Records(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    base: u64,
    deltas: Vec<Bytes>,
}

impl hub::History for Records {
    fn deltas(&self, from: Revision, bytes_max: usize) -> Result<Vec<(Revision, Bytes)>, HistoryError> {
        let kept = self.0.lock();
        let skip = from.0.checked_sub(kept.base + 1).ok_or(HistoryError::Compacted(from))?;
        let mut bytes = 0;
        let mut found = Vec::new();
        for (index, delta) in kept.deltas.iter().enumerate().skip(skip as usize) {
            found.push((Revision(kept.base + 1 + index as u64), delta.clone()));
            bytes += delta.len();
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }
}

impl Authority {
    pub fn new(time: &Arc<ManualTime>, random: &mut Random, short_history: bool) -> Self {
        let key = SetKey::new(random.next_u64().to_le_bytes().repeat(2).try_into().unwrap());
        let clock = Clock::manual(Arc::clone(time));
        let floor = Minute::at(START_MINUTE - 60).unwrap();
        let (writer, _) = RevocationSet::create(key.clone(), policy(), floor);
        let records = Arc::new(Records::default());
        let log_bytes_max = if short_history { 3_000 } else { 12_000 };
        let point = LogPoint { revision: Revision(0), digest: writer.digest(), chain: Chain::default(), floor };
        let start = hub::Start {
            node: NodeId([0xaa; 16]),
            epoch: Epoch { generation: 5, id: [7; 16] },
            parent: None,
            set_key: key.clone(),
            signer: Signer::from_seed(&[random.next_u64() as u8; 32]),
            point,
            policy: policy(),
            oldest: Revision(1),
        };
        let options = hub::Options { log_bytes_max, snapshots_max: 2, ..hub::Options::default() };
        let hub = Hub::new(options, start, clock.clone(), Arc::new(GrpcEncoder), records.clone());
        let chain = Chain::default();
        let authority =
            Self { hub, writer, chain, key, entries: BTreeMap::new(), records, log_bytes_max, short_history, clock };
        authority.cut_snapshot();
        authority
    }

    pub fn digest(&self) -> Digest {
        self.writer.digest()
    }

    pub fn revision(&self) -> Revision {
        self.writer.revision()
    }

    /// The subjects revoked now.
    pub fn revoked(&self) -> BTreeSet<u32> {
        let floor = self.writer.floor();
        self.entries.iter().filter(|(_, expiry)| **expiry > floor).map(|(subject, _)| *subject).collect()
    }

    /// Commits a revision of some revocations and reinstatements, at times a move of the floor.
    pub fn commit(&mut self, random: &mut Random) {
        let wall = self.clock.wall();
        let revision = self.writer.revision().next();
        let floor = self.writer.floor().bits() + u32::from(random.next_u64().is_multiple_of(8));
        let mut delta = Delta::empty(revision, wall, Minute::at(floor).unwrap());
        if revision == Revision(1) {
            delta.shapes_added = vec![selector(0).shape()];
        }
        let mut upserts = BTreeMap::new();
        let mut removals = BTreeSet::new();
        for _ in 0..=random.next_u64() % 4 {
            let subject = (random.next_u64() % u64::from(SUBJECTS)) as u32;
            let fingerprint = self.key.fingerprint(&selector(subject));
            if upserts.contains_key(&fingerprint) || removals.contains(&fingerprint) {
                continue;
            }
            if self.revoked().contains(&subject) && random.next_u64().is_multiple_of(2) {
                removals.insert(fingerprint);
                self.entries.remove(&subject);
            } else {
                let expiry = Minute::at(floor + 1 + (random.next_u64() % 30) as u32).unwrap();
                upserts.insert(fingerprint, PackedEntry::new(Cutoff::UNBOUNDED, expiry, false));
                self.entries.insert(subject, expiry);
            }
        }
        delta.upserts = upserts.into_iter().collect();
        delta.removals = removals.into_iter().collect();
        delta.digest_after = self.writer.stage(&delta).unwrap();
        if let Some(rebuild) = self.writer.apply(&delta).unwrap().rebuild {
            rebuild.run();
        }
        self.publish(&delta, wall);
    }

    fn publish(&mut self, delta: &Delta, source_time: UnixMillis) {
        let canonical = Bytes::from(delta.encode());
        self.chain = self.chain.next(&canonical);
        self.records.0.lock().deltas.push(canonical.clone());
        let (floor, digest, chain) = (delta.floor, delta.digest_after, self.chain);
        let published =
            Published { revision: delta.revision, source_time, floor, policy: policy(), canonical, digest, chain };
        self.hub.append(published).unwrap();
    }

    /// Cuts a snapshot when one is due, and prunes what the history need not keep.
    pub fn tend(&mut self) {
        let newest = self.hub.snapshot_revision().unwrap_or_default();
        let due = self.hub.bytes_since(newest).is_none_or(|bytes| bytes > self.log_bytes_max as u64 / 2);
        if due && newest < self.writer.revision() {
            self.cut_snapshot();
        }
        if self.short_history {
            let oldest = self.hub.snapshot_revision().unwrap_or_default().next();
            let mut kept = self.records.0.lock();
            let gone = oldest.0.saturating_sub(kept.base + 1).min(kept.deltas.len() as u64);
            kept.deltas.drain(..gone as usize);
            kept.base += gone;
            self.hub.set_oldest(Revision(kept.base + 1));
        }
    }

    fn cut_snapshot(&self) {
        let state = SnapshotState {
            revision: self.writer.revision(),
            floor: self.writer.floor(),
            policy: *self.writer.policy(),
            shapes: self.writer.shapes().to_vec(),
        };
        let mut rows: Vec<(Fingerprint, Minute)> = (self.entries.iter())
            .map(|(subject, expiry)| (self.key.fingerprint(&selector(*subject)), *expiry))
            .collect();
        rows.sort_unstable();
        let mut builder = SnapshotBuilder::new(&self.key, state);
        let mut chunks = Vec::new();
        for (fingerprint, expiry) in rows {
            let entry = PackedEntry::new(Cutoff::UNBOUNDED, expiry, false);
            chunks.extend(builder.push(&SnapshotEntry { fingerprint, entry, exceptions: Vec::new() }).unwrap());
        }
        let built = builder.finish();
        assert_eq!(built.header.digest, self.writer.digest(), "the model and the set differ");
        chunks.extend(built.last);
        let (header, sha256) = (built.header, built.sha256);
        let image = Image { header, chunks, sha256, chain: self.chain, source_time: self.clock.wall() };
        // Busy while joiners are on an older one: the next attempt will do.
        let _ = self.hub.prepare(&image);
    }
}

/// The selector of a subject.
pub fn selector(subject: u32) -> Selector {
    Selector::new([("sub", subject_name(subject).as_str())], TestedClaim::Iat).unwrap()
}

/// The wall clock at the start.
pub fn start() -> UnixMillis {
    UnixMillis(Duration::from_secs(u64::from(START_MINUTE) * 60).as_millis() as u64)
}

/// The `sub` of a subject.
pub fn subject_name(subject: u32) -> String {
    format!("user-{subject}")
}

/// A small skew, since all clocks here are one: what the wall clock shows of staleness is then told.
fn policy() -> Policy {
    Policy { clock_skew_max: CLOCK_SKEW_MAX, ..Policy::default() }
}
