//! From Hello to Welcome: whether the subscriber can go on from what it holds.

use super::{FUTURE_WAIT, SNAPSHOT_WAIT, Stage, Step, Subscription, TOO_OLD};
use crate::replication::frames::{
    DeltaFrame, GoAwayReason, Held, Hello, PROTOCOL, PROTOCOL_OF_VERIFICATION, ProtocolRange, SnapshotReason,
    ToSubscriber, Welcome, WelcomeMode,
};
use crate::replication::log::Cursor;
use crate::replication::moment::Moment;
use crate::replication::source::{HistoryError, Source};
use crate::revocation::{Digest, Revision};

/// The digest after a revision is the last part of its canonical delta.
const DIGEST_BYTES: usize = 16;

impl Subscription {
    /// Why whoever says this Hello is sent away at once, and is no subscriber; `None` when it is one.
    #[must_use]
    pub fn refusal(hello: &Hello, source: &dyn Source) -> Option<(GoAwayReason, &'static str)> {
        let origin = source.origin();
        match ProtocolRange::SPOKEN.common(hello.protocol) {
            None => return Some((GoAwayReason::Protocol, "this server speaks protocols 1 and 2")),
            Some(spoken) if spoken < PROTOCOL_OF_VERIFICATION && source.has_verification() => {
                return Some((GoAwayReason::Protocol, TOO_OLD));
            }
            Some(_) => {}
        }
        if hello.subscriber == origin.node || hello.path.contains(&origin.node) {
            return Some((GoAwayReason::Loop, "this server lies below the subscriber"));
        }
        let is_newer = !hello.probe && hello.held.is_some_and(|held| held.epoch.generation > origin.epoch.generation);
        is_newer.then_some((GoAwayReason::OldEpoch, "the subscriber follows a newer epoch"))
    }

    pub(super) fn handle_hello(&mut self, now: Moment, hello: Box<Hello>, source: &dyn Source) {
        self.heard_at = now.boot;
        let origin = source.origin();
        if let Some((reason, detail)) = Self::refusal(&hello, source) {
            return self.begin_go_away(reason, detail);
        }
        if hello.probe {
            self.push_welcome(now, WelcomeMode::Resume, source);
            self.stage = Stage::Answered;
            return;
        }
        let Some(held) = hello.held else { return self.owe_snapshot(SnapshotReason::Empty) };
        if held.epoch != origin.epoch {
            self.history_lost = origin.lineage.lost_of(&held);
            return self.owe_snapshot(SnapshotReason::OtherEpoch);
        }
        if held.revision > source.head(now).revision {
            self.stage = Stage::AwaitingHead { hello, until: now.boot + FUTURE_WAIT };
            return;
        }
        self.compare(now, hello, held, source);
    }

    /// The history says what it has.
    pub fn handle_history(
        &mut self,
        now: Moment,
        result: Result<Vec<(Revision, DeltaFrame)>, HistoryError>,
        source: &dyn Source,
    ) {
        match &self.stage {
            Stage::Comparing { hello, .. } => {
                let held = hello.held;
                self.handle_compared(now, held, result, source);
            }
            Stage::Streaming { reading: true } => self.handle_backlog(result, source),
            _ => {}
        }
    }

    pub(super) fn poll_awaiting_head(&mut self, now: Moment, source: &dyn Source) -> Option<Step> {
        let Stage::AwaitingHead { hello, until } = &self.stage else { return None };
        let held = hello.held?;
        if source.head(now).revision >= held.revision {
            let hello = hello.clone();
            self.compare(now, hello, held, source);
            return None;
        }
        if now.boot < *until {
            return Some(Step::Wait { until: *until });
        }
        self.begin_go_away(GoAwayReason::BehindSubscriber, "the subscriber is ahead of this server");
        None
    }

    pub(super) fn poll_comparing(&mut self) -> Step {
        match &mut self.stage {
            Stage::Comparing { hello, asked } if !*asked => {
                *asked = true;
                let from = hello.held.map_or(Revision(0), |held| held.revision);
                Step::ReadHistory { from, bytes_max: super::BATCH_BYTES }
            }
            _ => Step::Wait { until: self.heard_at + super::STALLED_AFTER },
        }
    }

    /// A snapshot will be sent as soon as there is one and it is admitted.
    pub(super) fn owe_snapshot(&mut self, reason: SnapshotReason) {
        self.batch.clear();
        let welcomed = matches!(self.stage, Stage::Streaming { .. } | Stage::Snapshot { .. });
        self.stage = Stage::AwaitingSnapshot { reason, since: None, welcomed };
    }

    pub(super) fn poll_awaiting_snapshot(&mut self, now: Moment, source: &dyn Source) -> Option<Step> {
        let Stage::AwaitingSnapshot { reason, since, welcomed } = &mut self.stage else { return None };
        let until = *since.get_or_insert(now.boot) + SNAPSHOT_WAIT;
        let (reason, welcomed) = (*reason, *welcomed);
        // Deltas must follow it; one that is too old will be replaced soon.
        let usable = source.snapshot().filter(|offer| offer.revision.next() >= source.oldest());
        let Some(offer) = usable else {
            if now.boot < until {
                return Some(Step::Wait { until });
            }
            self.begin_go_away(GoAwayReason::Overloaded, "no snapshot yet");
            return None;
        };
        let Some(permit) = source.admit_snapshot() else {
            self.begin_go_away(GoAwayReason::Overloaded, "too many snapshots are under way");
            return None;
        };
        if !welcomed {
            self.push_welcome(now, WelcomeMode::Snapshot, source);
        }
        self.begin_snapshot(now, reason, offer, permit, source);
        None
    }

    fn compare(&mut self, now: Moment, hello: Box<Hello>, held: Held, source: &dyn Source) {
        match source.digest_at(held.revision) {
            Some(digest) if digest == held.digest => self.resume(now, held.revision, source),
            Some(_) => self.owe_snapshot(SnapshotReason::DigestDiffers),
            None if held.revision >= source.oldest() => self.stage = Stage::Comparing { hello, asked: false },
            None => self.owe_snapshot(SnapshotReason::Compacted),
        }
    }

    fn handle_compared(
        &mut self,
        now: Moment,
        held: Option<Held>,
        result: Result<Vec<(Revision, DeltaFrame)>, HistoryError>,
        source: &dyn Source,
    ) {
        let first = result.ok().and_then(|deltas| deltas.into_iter().next());
        let digest = first.filter(|(revision, _)| Some(*revision) == held.map(|held| held.revision));
        match (digest.and_then(|(_, delta)| digest_after(&delta.canonical)), held) {
            (Some(digest), Some(held)) if digest == held.digest => self.resume(now, held.revision, source),
            (Some(_), _) => self.owe_snapshot(SnapshotReason::DigestDiffers),
            (None, _) => self.owe_snapshot(SnapshotReason::Compacted),
        }
    }

    fn resume(&mut self, now: Moment, revision: Revision, source: &dyn Source) {
        self.cursor = Cursor { revision, beat: 0 };
        self.sent = revision;
        self.push_welcome(now, WelcomeMode::Resume, source);
        self.stage = Stage::Streaming { reading: false };
    }

    fn push_welcome(&mut self, now: Moment, mode: WelcomeMode, source: &dyn Source) {
        let (origin, head) = (source.origin(), source.head(now));
        let welcome = Welcome {
            protocol: self.speaks.min(PROTOCOL),
            epoch: origin.epoch,
            lineage: origin.lineage.clone(),
            set_key: origin.set_key.clone(),
            mode,
            head: head.revision,
            oldest: source.oldest(),
            source_time: head.source_time,
            source_age: head.source_age,
            heartbeat_interval: origin.heartbeat_interval,
            dead_after: origin.dead_after,
            policy: head.policy,
            path: source.path(),
            public_key: origin.public_key,
        };
        let frame = source.encode(&ToSubscriber::Welcome(Box::new(welcome)));
        self.batch.push_back((frame, self.cursor));
        self.heard_at = now.boot;
    }
}

fn digest_after(canonical: &[u8]) -> Option<Digest> {
    canonical.last_chunk::<DIGEST_BYTES>().map(|bytes| Digest::from_bytes(*bytes))
}
