//! The hub as subscriptions see it.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Hub, moment};
use crate::replication::frames::{GoAwayReason, NodeId, ToSubscriber};
use crate::replication::source::{Head, HistoryError, Origin, Seat, SnapshotOffer, SnapshotPermit};
use crate::replication::{Cursor, Feed, LogRead, Moment, Source};
use crate::revocation::{Digest, Revision};

impl Source for Hub {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn path(&self) -> Vec<NodeId> {
        self.path.read().clone()
    }

    fn head(&self, now: Moment) -> Head {
        let state = self.state.read();
        let point = state.log.head();
        Head {
            revision: point.revision,
            digest: point.digest,
            policy: state.policy,
            source_time: state.stated.source_time,
            source_age: state.stated.age.saturating_add(now.since(state.stated.at)),
        }
    }

    fn oldest(&self) -> Revision {
        Hub::oldest(self)
    }

    fn digest_at(&self, revision: Revision) -> Option<Digest> {
        self.state.read().log.point_at(revision).map(|point| point.digest)
    }

    fn read(&self, cursor: Cursor, bytes_max: usize) -> LogRead {
        self.state.read().log.read(cursor, bytes_max)
    }

    fn snapshot(&self) -> Option<SnapshotOffer> {
        self.snapshots.lock().newest()
    }

    fn snapshot_frame(&self, id: u64, index: u32) -> Option<Bytes> {
        self.snapshots.lock().frame(id, index)
    }

    fn admit_snapshot(&self) -> Option<SnapshotPermit> {
        self.snapshots.lock().admit(self.options.snapshots_max)
    }

    fn encode(&self, frame: &ToSubscriber) -> Bytes {
        self.encoder.encode(frame)
    }
}

impl Feed for Hub {
    fn now(&self) -> Moment {
        moment(&self.clock)
    }

    fn join(&self, address: &str) -> Result<Box<dyn Seat>, GoAwayReason> {
        self.registry.join(address, self.clock.wall())
    }

    fn read_history(&self, from: Revision, bytes_max: usize) -> Result<Vec<(Revision, Bytes)>, HistoryError> {
        let oldest = Revision(self.oldest.load(Ordering::Acquire));
        if from < oldest {
            return Err(HistoryError::Compacted(from));
        }
        self.history.deltas(from, bytes_max)
    }
}
