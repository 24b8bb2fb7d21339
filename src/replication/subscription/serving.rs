//! After Welcome: snapshot, backlog, log.

use std::collections::VecDeque;

use super::{BATCH_BYTES, Mode, STALLED_AFTER, Stage, Step, Subscription};
use crate::replication::frames::{DeltaFrame, GoAwayReason, SnapshotBegin, SnapshotReason, ToSubscriber};
use crate::replication::log::{Cursor, LogRead};
use crate::replication::moment::Moment;
use crate::replication::source::{HistoryError, SnapshotOffer, SnapshotPermit, Source};
use crate::revocation::Revision;

/// Room for so many frames is kept when a batch was sent.
const BATCH_FRAMES_KEPT: usize = 8;

impl Subscription {
    pub(super) fn begin_snapshot(
        &mut self,
        now: Moment,
        reason: SnapshotReason,
        offer: SnapshotOffer,
        permit: SnapshotPermit,
        source: &dyn Source,
    ) {
        let SnapshotOffer { id, revision, entries, chunks, header } = offer;
        let begin = SnapshotBegin { reason, id, revision, entries, chunks, header };
        self.batch.push_back((source.encode(&ToSubscriber::SnapshotBegin(begin)), self.cursor));
        self.mode = if reason == SnapshotReason::Lagged { Mode::Lagging } else { Mode::CatchingUp };
        self.stage = Stage::Snapshot { id, revision, next: 0, chunks, since: now.boot, _permit: permit };
    }

    pub(super) fn poll_snapshot(&mut self, source: &dyn Source) -> Option<Step> {
        if let Some(step) = self.take_batched() {
            return Some(step);
        }
        let Stage::Snapshot { id, revision, next, chunks, .. } = &mut self.stage else { return None };
        let Some(frame) = source.snapshot_frame(*id, *next) else {
            self.begin_go_away(GoAwayReason::Overloaded, "the snapshot was replaced; it took too long to send");
            return None;
        };
        if next == chunks {
            (self.cursor, self.sent) = (Cursor { revision: *revision, beat: 0 }, self.sent.max(*revision));
            self.mode = Mode::CatchingUp;
            self.stage = Stage::Streaming { reading: false };
        } else {
            *next += 1;
        }
        Some(Step::Send(frame))
    }

    pub(super) fn poll_streaming(&mut self, source: &dyn Source) -> Option<Step> {
        if let Some(step) = self.take_batched() {
            return Some(step);
        }
        let wait = Step::Wait { until: self.heard_at + STALLED_AFTER };
        let Stage::Streaming { reading } = &mut self.stage else { return None };
        if *reading {
            return Some(wait);
        }
        match source.read(self.cursor, BATCH_BYTES) {
            LogRead::Frames(frames) if frames.is_empty() => {
                self.mode = Mode::Live;
                Some(wait)
            }
            LogRead::Frames(frames) => {
                self.batch.extend(frames);
                None
            }
            LogRead::BeforeLog if self.cursor.revision.next() >= source.oldest() => {
                *reading = true;
                self.mode = Mode::CatchingUp;
                Some(Step::ReadHistory { from: self.cursor.revision.next(), bytes_max: BATCH_BYTES })
            }
            LogRead::BeforeLog => {
                self.owe_snapshot(SnapshotReason::Lagged);
                None
            }
        }
    }

    /// Deltas from the history; if it does not go on where the cursor stands, a snapshot will.
    pub(super) fn handle_backlog(
        &mut self,
        result: Result<Vec<(Revision, DeltaFrame)>, HistoryError>,
        source: &dyn Source,
    ) {
        self.stage = Stage::Streaming { reading: false };
        let mut cursor = self.cursor;
        for (revision, delta) in result.unwrap_or_default() {
            if revision != cursor.revision.next() {
                break;
            }
            cursor.revision = revision;
            self.batch.push_back((source.encode(&ToSubscriber::Delta(delta)), cursor));
        }
        if self.batch.is_empty() {
            self.owe_snapshot(SnapshotReason::Lagged);
        }
    }

    pub(super) fn take_batched(&mut self) -> Option<Step> {
        let (frame, cursor) = self.batch.pop_front()?;
        if self.batch.is_empty() && self.batch.capacity() > BATCH_FRAMES_KEPT {
            // Most subscribers catch up once and then take one frame at a time.
            self.batch = VecDeque::new();
        }
        self.cursor = cursor;
        self.sent = self.sent.max(cursor.revision);
        Some(Step::Send(frame))
    }
}
