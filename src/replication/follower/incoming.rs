//! A snapshot on its way: built beside the set that is served, and swapped in only when all of it is proven.

use std::fmt;
use std::sync::Arc;

use super::action::{Action, Alarm, EpochChange, SetSwap};
use super::fault::{DisconnectReason, ResyncFault};
use super::kept::{Provenance, SignedSnapshot};
use super::link::Phase;
use super::{Follower, RESYNCS_MAX, Replicated};
use crate::replication::frames::{PROTOCOL_SIGNED, SnapshotBegin, SnapshotEnd};
use crate::replication::moment::Moment;
use crate::replication::signature::{PublicKey, Statement};
use crate::revocation::{Epoch, SetBuilder, SnapshotChunk, SnapshotError, SnapshotHeader};

/// What is made beside the set that is served.
pub(super) enum Incoming {
    /// A snapshot is to come.
    Expected,
    /// It is coming.
    /// Its chunks are kept if somebody wants to serve or store them.
    Building(Box<SetBuilder>, Vec<SnapshotChunk>),
    /// It failed; the rest of it is passed over.
    Skipping,
    /// It is proven, but older than what is served: it goes on by deltas until it is not.
    Beside(Box<Replicated>, Option<Box<Provenance>>),
    /// It failed, and what comes is merged into what is served until another attempt is due.
    Listening,
}

impl Follower {
    pub(super) fn handle_snapshot_begin(&mut self, begin: &SnapshotBegin) {
        let Phase::Following(link) = &mut self.phase else { return };
        // Only whoever was live begins to lag; another snapshot, and another, is no progress.
        if link.live_since.take().is_some() {
            link.behind_since = link.frame_at;
        }
        if let Some(Incoming::Building(..) | Incoming::Skipping) = self.incoming {
            return self.break_off(DisconnectReason::Unexpected { frame: "snapshot_begin" });
        }
        let header = match SnapshotHeader::decode(&begin.header) {
            Ok(header) => header,
            Err(cause) => return self.fail_resync_at(None, SnapshotError::from(cause).into()),
        };
        if let Some(what) = contradiction(begin, &header) {
            return self.fail_resync_at(None, ResyncFault::Inconsistent(what));
        }
        match SetBuilder::begin(link.set_key.clone(), header, self.options.entries_max) {
            Ok(builder) => self.incoming = Some(Incoming::Building(Box::new(builder), Vec::new())),
            Err(SnapshotError::TooManyEntries { limit, given }) => self.refuse_size(limit, given),
            Err(error) => self.fail_resync_at(None, error.into()),
        }
    }

    pub(super) fn handle_snapshot_chunk(&mut self, now: Moment, chunk: &SnapshotChunk) {
        match &mut self.incoming {
            Some(Incoming::Building(builder, chunks)) => match builder.load(chunk) {
                Ok(()) if self.options.keeps => chunks.push(chunk.clone()),
                Ok(()) => {}
                Err(error) => self.fail_resync_at(Some(now), error.into()),
            },
            Some(Incoming::Skipping) => {}
            _ => self.break_off(DisconnectReason::Unexpected { frame: "snapshot_chunk" }),
        }
    }

    pub(super) fn handle_snapshot_end(&mut self, now: Moment, end: &SnapshotEnd) {
        let (builder, chunks) = match self.incoming.take() {
            Some(Incoming::Building(builder, chunks)) => (builder, chunks),
            Some(Incoming::Skipping) => {
                self.incoming = Some(Incoming::Listening);
                return;
            }
            _ => return self.break_off(DisconnectReason::Unexpected { frame: "snapshot_end" }),
        };
        let Phase::Following(link) = &self.phase else { return };
        let header = builder.header().clone();
        match verify(link.epoch, &link.public_key, *builder, end) {
            Ok(replicated) => {
                self.pinned = Some(link.public_key);
                self.over_limit = false;
                let provenance = self.options.keeps.then(|| {
                    let snapshot = Arc::new(SignedSnapshot { header, chunks, end: end.clone() });
                    Box::new(Provenance { descent: link.descent(), snapshot, deltas: Vec::new() })
                });
                self.incoming = Some(Incoming::Beside(Box::new(replicated), provenance));
                self.swap_if_not_older(now);
                if self.incoming.is_none() {
                    self.handle_word(now, end.revision, end.source_time);
                }
            }
            Err(fault) => {
                self.fail_resync_at(Some(now), fault);
                if matches!(self.incoming, Some(Incoming::Skipping)) {
                    self.incoming = Some(Incoming::Listening);
                }
            }
        }
    }

    /// Swaps the set made beside in, once that takes nothing back that was verified or heard of.
    pub(super) fn swap_if_not_older(&mut self, now: Moment) {
        let Phase::Following(link) = &self.phase else { return };
        let Some(Incoming::Beside(beside, _)) = &self.incoming else { return };
        let least = self.held.as_ref().and_then(|held| match &self.divergence {
            None if held.epoch() == beside.epoch() => Some(held.verified().0),
            // Revisions go on over epochs: what it goes on from is not to be taken back on the way.
            None if link.lineage.goes_on_from(&held.held()) => Some(held.verified().0),
            // Whatever was merged in since was published before the server said Welcome.
            Some(_) if held.epoch() == beside.epoch() => Some(held.verified().0.max(link.head)),
            // What is held stays in force beside it.
            None | Some(_) => None,
        });
        if least.is_some_and(|least| beside.verified().0 < least) {
            return;
        }
        let Some(Incoming::Beside(beside, provenance)) = self.incoming.take() else { return };
        self.swap(now, *beside, provenance);
    }

    fn swap(&mut self, now: Moment, next: Replicated, provenance: Option<Box<Provenance>>) {
        let epoch_change = self.held.as_ref().filter(|held| held.epoch() != next.epoch()).map(|held| {
            let from = held.held();
            let goes_on = matches!(&self.phase, Phase::Following(link) if link.lineage.goes_on_from(&from));
            EpochChange { from, to: next.epoch(), ancestor: goes_on && self.divergence.is_none() }
        });
        if epoch_change.is_some() {
            // It begins anew, as far as that epoch is concerned.
            self.freshness.forget();
            self.caught_up_once = false;
        }
        let set = Arc::clone(next.writer().set());
        self.actions.push_back(Action::Swap(SetSwap { set, epoch: next.epoch(), epoch_change, provenance }));
        self.held = Some(next);
        self.divergence = None;
        self.resyncs_failed = 0;
        self.resync_backoff.reset();
        if let Phase::Following(link) = &mut self.phase {
            link.word_at = now.boot;
        }
        self.caught_up_once |= self.is_caught_up();
    }

    /// A resync came to nothing. What is served stays as it is.
    pub(super) fn fail_resync_at(&mut self, now: Option<Moment>, fault: ResyncFault) {
        self.resyncs_failed = self.resyncs_failed.saturating_add(1);
        let attempts = self.resyncs_failed;
        if attempts >= RESYNCS_MAX {
            self.raise(Alarm::ResyncFailing { attempts });
        }
        let wait = self.resync_backoff.handle_failure();
        match (&mut self.phase, now) {
            (Phase::Following(link), Some(now)) if self.divergence.is_some() && attempts >= RESYNCS_MAX => {
                link.resync_at = Some(now.boot + wait.max(LISTEN_MIN));
                self.incoming = Some(Incoming::Skipping);
            }
            _ => self.break_off(DisconnectReason::ResyncFailed(fault)),
        }
    }

    pub(super) fn refuse_size(&mut self, limit: u64, entries: u64) {
        self.note_over_limit(limit, entries);
        self.break_off(DisconnectReason::OverLimit);
    }

    /// There is more than may be held; said once.
    pub(super) fn note_over_limit(&mut self, limit: u64, entries: u64) {
        if !self.over_limit {
            self.raise(Alarm::OverLimit { limit, entries });
        }
        self.over_limit = true;
    }

    pub(super) fn raise(&mut self, alarm: Alarm) {
        self.actions.push_back(Action::Alarm(alarm));
    }
}

/// A follower that diverged for good listens at least so long before it asks for everything again.
const LISTEN_MIN: std::time::Duration = std::time::Duration::from_secs(5);

fn contradiction(begin: &SnapshotBegin, header: &SnapshotHeader) -> Option<&'static str> {
    if begin.revision != header.state.revision {
        return Some("revisions");
    }
    if begin.entries != header.entries {
        return Some("entry counts");
    }
    (begin.chunks != header.chunks).then_some("chunk counts")
}

/// Everything that makes a snapshot believable: count, digest and hash by the builder, the rest by the signature.
pub(super) fn verify(
    epoch: Epoch,
    public_key: &PublicKey,
    builder: SetBuilder,
    end: &SnapshotEnd,
) -> Result<Replicated, ResyncFault> {
    let header = builder.header();
    if header.state.revision != end.revision {
        return Err(ResyncFault::Inconsistent("revisions"));
    }
    if header.digest != end.digest {
        return Err(ResyncFault::Inconsistent("digests"));
    }
    let statement = Statement {
        protocol: PROTOCOL_SIGNED,
        epoch,
        revision: end.revision,
        digest: end.digest,
        chain: end.chain,
        floor: header.state.floor,
        source_time: end.source_time,
    };
    public_key.verify_snapshot(&statement, &end.sha256, &end.signature).map_err(|_| ResyncFault::Signature)?;
    let (writer, _) = builder.finish(end.sha256)?;
    Ok(Replicated::new(epoch, writer, end.chain))
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expected => "Expected",
            Self::Building(..) => "Building",
            Self::Skipping => "Skipping",
            Self::Beside(..) => "Beside",
            Self::Listening => "Listening",
        })
    }
}
