//! An honest authority in memory: what it commits, signs and offers, at every revision.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rescind::replication::frames::{
    DeltaFrame, Heartbeat, PROTOCOL, PROTOCOL_SIGNED, SnapshotBegin, SnapshotEnd, SnapshotReason, ToSubscriber,
    Welcome, WelcomeMode,
};
use rescind::replication::signature::Statement;
use rescind::replication::{Lineage, LogPoint, Signer};
use rescind::revocation::{
    Built, Chain, Claims, Cutoff, Delta, Digest, Epoch, Fingerprint, Minute, PackedEntry, Policy, Revision,
    RevocationSet, Selector, SetKey, SetWriter, SnapshotBuilder, SnapshotEntry, SnapshotState, TestedClaim, UnixMillis,
};

/// The time at which everything begins.
pub const T0: u64 = 1_700_000_000_000;
/// How many subjects there are.
pub const SUBJECTS: u8 = 4;
pub const EPOCH: Epoch = Epoch { generation: 3, id: [3; 16] };

pub fn set_key() -> SetKey {
    SetKey::new([7; 16])
}

pub fn signer() -> Signer {
    Signer::from_seed(&[9; 32])
}

/// The state after one revision.
#[derive(Clone)]
pub struct Commit {
    pub canonical: Bytes,
    pub digest: Digest,
    pub chain: Chain,
    pub floor: Minute,
    /// Whom it revokes.
    pub live: BTreeMap<Fingerprint, u8>,
}

pub struct Authority {
    signer: Signer,
    writer: SetWriter,
    /// Of each revision, from 0.
    pub history: Vec<Commit>,
    pub wall: UnixMillis,
}

pub fn claims(subject: u8) -> Claims {
    let mut claims = Claims::new();
    claims.push("sub", &subject.to_string(), false);
    claims
}

fn selector(subject: u8) -> Selector {
    Selector::new([("sub", subject.to_string())], TestedClaim::Iat).expect("a selector")
}

fn entry() -> PackedEntry {
    PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false)
}

impl Authority {
    pub fn new() -> Self {
        let (writer, _) = RevocationSet::create(set_key(), Policy::default(), Minute::from_bits(1));
        let empty = Commit {
            canonical: Bytes::new(),
            digest: writer.digest(),
            chain: Chain::default(),
            floor: writer.floor(),
            live: BTreeMap::new(),
        };
        Self { signer: signer(), writer, history: vec![empty], wall: UnixMillis(T0) }
    }

    /// Revokes a subject, or takes that back.
    pub fn commit(&mut self, subject: u8, undo: bool) {
        let (revision, fingerprint) = (self.head().next(), set_key().fingerprint(&selector(subject)));
        let mut live = self.at(self.head()).live.clone();
        let mut delta = Delta::empty(revision, self.wall, self.writer.floor());
        if self.writer.shapes().is_empty() {
            delta.shapes_added = vec![selector(subject).shape()];
        }
        if undo {
            if live.remove(&fingerprint).is_some() {
                delta.removals = vec![fingerprint];
            }
        } else {
            delta.upserts = vec![(fingerprint, entry())];
            live.insert(fingerprint, subject);
        }
        delta.digest_after = self.writer.stage(&delta).expect("it fits");
        let applied = self.writer.apply(&delta).expect("it fits");
        assert_eq!(applied.stamp.digest, delta.digest_after);
        let canonical = Bytes::from(delta.encode());
        let chain = self.at(self.head()).chain.next(&canonical);
        self.history.push(Commit { canonical, digest: delta.digest_after, chain, floor: delta.floor, live });
    }

    pub fn head(&self) -> Revision {
        Revision(self.history.len() as u64 - 1)
    }

    /// The state at a revision of the history.
    pub fn at(&self, revision: Revision) -> &Commit {
        &self.history[usize::try_from(revision.0).expect("a revision of the history")]
    }

    pub fn point(&self, revision: Revision) -> LogPoint {
        let Commit { digest, chain, floor, .. } = *self.at(revision);
        LogPoint { revision, digest, chain, floor }
    }

    fn statement(&self, revision: Revision, source_time: UnixMillis) -> Statement {
        let LogPoint { revision, digest, chain, floor } = self.point(revision);
        Statement { protocol: PROTOCOL_SIGNED, epoch: EPOCH, revision, digest, chain, floor, source_time }
    }

    pub fn lineage(&self) -> Lineage {
        Lineage::sign(&self.signer, EPOCH, Vec::new())
    }

    pub fn welcome(&self, mode: WelcomeMode) -> ToSubscriber {
        ToSubscriber::Welcome(Box::new(Welcome {
            protocol: PROTOCOL,
            epoch: EPOCH,
            lineage: self.lineage(),
            set_key: set_key(),
            mode,
            head: self.head(),
            oldest: Revision(1),
            source_time: self.wall,
            source_age: Duration::ZERO,
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            policy: *self.writer.policy(),
            path: Vec::new(),
            public_key: self.signer.public_key(),
        }))
    }

    /// The delta that leads to a revision; with its signature if it states its own time, as it does when it is new.
    pub fn delta(&self, revision: Revision, signed: bool) -> ToSubscriber {
        let canonical = self.at(revision).canonical.clone();
        let signature = signed.then(|| {
            let stated = Delta::decode(&canonical).map_or(self.wall, |delta| delta.source_time);
            self.signer.sign_heartbeat(&self.statement(revision, stated))
        });
        ToSubscriber::Delta(DeltaFrame { canonical, signature, ack_now: false })
    }

    pub fn heartbeat(&self, revision: Revision) -> ToSubscriber {
        let Statement { digest, chain, floor, source_time, .. } = self.statement(revision, self.wall);
        let signature = self.signer.sign_heartbeat(&self.statement(revision, self.wall));
        ToSubscriber::Heartbeat(Heartbeat { revision, source_time, digest, chain, floor, ack_now: false, signature })
    }

    /// Begin, chunks and end of a snapshot of a revision; before the first shape there is none.
    pub fn snapshot(&self, revision: Revision) -> Vec<ToSubscriber> {
        let commit = self.at(revision);
        let shapes = if revision.0 == 0 { Vec::new() } else { vec![selector(0).shape()] };
        let state = SnapshotState {
            revision,
            floor: commit.floor,
            policy: *self.writer.policy(),
            shapes,
            verification: self.writer.verification().cloned(),
        };
        let mut builder = SnapshotBuilder::new(&set_key(), state);
        for fingerprint in commit.live.keys() {
            let entry = SnapshotEntry { fingerprint: *fingerprint, entry: entry(), exceptions: Vec::new() };
            assert_eq!(builder.push(&entry), Ok(None), "a few entries fit one chunk");
        }
        let Built { last, header, sha256 } = builder.finish();
        assert_eq!(header.digest, commit.digest, "the snapshot is of this revision");
        let statement = self.statement(revision, self.wall);
        let begin = SnapshotBegin {
            reason: SnapshotReason::Empty,
            id: revision.0,
            revision,
            entries: header.entries,
            chunks: header.chunks,
            header: header.encode().into(),
        };
        let end = SnapshotEnd {
            revision,
            digest: commit.digest,
            chain: commit.chain,
            sha256,
            signature: self.signer.sign_snapshot(&statement, &sha256),
            source_time: self.wall,
        };
        let chunks = last.into_iter().map(ToSubscriber::SnapshotChunk);
        [ToSubscriber::SnapshotBegin(begin)].into_iter().chain(chunks).chain([ToSubscriber::SnapshotEnd(end)]).collect()
    }
}
