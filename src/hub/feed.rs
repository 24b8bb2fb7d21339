//! The hub as subscriptions see it.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Hub, Logged, moment};
use crate::replication::frames::{DeltaFrame, GoAwayReason, NodeId, ToSubscriber};
use crate::replication::source::{Guest, Head, HistoryError, Origin, Seat, SnapshotOffer, SnapshotPermit};
use crate::replication::{Cursor, Feed, LogPoint, LogRead, Moment, Signature, Source};
use crate::revocation::{Delta, Digest, Revision};

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

    fn has_verification(&self) -> bool {
        self.state.read().has_verification
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

impl Hub {
    /// One signature covers all that is read at once.
    fn sign_logged(&self, logged: &Logged) -> Result<Option<Signature>, HistoryError> {
        let delta = Delta::decode(&logged.canonical).map_err(|error| HistoryError::Unavailable(error.to_string()))?;
        let Delta { revision, source_time, floor, digest_after: digest, .. } = delta;
        Ok(self.sign(&LogPoint { revision, digest, chain: logged.chain, floor }, source_time))
    }
}

impl Feed for Hub {
    fn now(&self) -> Moment {
        moment(&self.clock)
    }

    fn join(&self, guest: Guest) -> Result<Box<dyn Seat>, GoAwayReason> {
        self.registry.join(guest, self.clock.wall())
    }

    fn read_history(&self, from: Revision, bytes_max: usize) -> Result<Vec<(Revision, DeltaFrame)>, HistoryError> {
        let oldest = Revision(self.oldest.load(Ordering::Acquire));
        if from < oldest {
            return Err(HistoryError::Compacted(from));
        }
        let logged = self.history.deltas(from, bytes_max)?;
        let signature = logged.last().map(|last| self.sign_logged(last)).transpose()?.flatten();
        let unsigned =
            |Logged { revision, canonical, .. }| (revision, DeltaFrame { canonical, signature: None, ack_now: false });
        let mut frames: Vec<_> = logged.into_iter().map(unsigned).collect();
        if let Some((_, last)) = frames.last_mut() {
            last.signature = signature;
        }
        Ok(frames)
    }
}
