//! The course of a subscription: deltas, heartbeats, and what to do when one of them cannot be true.

use super::Follower;
use super::action::{Action, Alarm};
use super::fault::{DisconnectReason, Divergence, ResyncFault};
use super::incoming::Incoming;
use super::kept::Verified;
use super::link::Phase;
use super::replicated::Step;
use crate::replication::frames::{DeltaFrame, Heartbeat, ToSubscriber};
use crate::replication::moment::Moment;
use crate::replication::signature::Statement;
use crate::revocation::{Applied, Delta, Revision, UnixMillis};

/// How many entries a heartbeat lets the sweep look at: a little work every second.
const SWEEP_ENTRIES: usize = 4096;

impl Follower {
    /// Handles a frame after Welcome; whether it asks for an ack at once.
    pub(super) fn handle_stream(&mut self, now: Moment, frame: ToSubscriber) -> bool {
        match frame {
            ToSubscriber::SnapshotBegin(begin) => self.handle_snapshot_begin(&begin),
            ToSubscriber::SnapshotChunk(chunk) => self.handle_snapshot_chunk(now, &chunk),
            ToSubscriber::SnapshotEnd(end) => self.handle_snapshot_end(now, &end),
            ToSubscriber::Delta(delta) => {
                self.handle_delta(now, &delta);
                return delta.ack_now;
            }
            ToSubscriber::Heartbeat(heartbeat) => {
                self.handle_heartbeat(now, &heartbeat);
                return heartbeat.ack_now;
            }
            // Handled before.
            ToSubscriber::Welcome(_) | ToSubscriber::GoAway(_) => {}
        }
        false
    }

    fn handle_delta(&mut self, now: Moment, frame: &DeltaFrame) {
        let delta = match Delta::decode(&frame.canonical) {
            Ok(delta) => delta,
            Err(cause) => return self.break_off(DisconnectReason::Malformed { frame: "delta", cause }),
        };
        match &mut self.incoming {
            None if self.divergence.is_none() => self.apply(&delta, frame),
            None | Some(Incoming::Listening) => self.merge(&delta),
            Some(Incoming::Beside(beside, provenance)) => {
                let result = beside.apply(&delta, &frame.canonical);
                if let (Ok(Step::Applied(_)), Some(provenance)) = (&result, provenance) {
                    provenance.deltas.push(beside.kept(&delta, frame));
                }
                self.merge(&delta);
                match result {
                    Ok(step) => {
                        self.note(step, delta.revision);
                        self.swap_if_not_older(now);
                    }
                    Err(divergence) => self.fail_resync_at(None, ResyncFault::Unfit(divergence)),
                }
            }
            Some(Incoming::Expected | Incoming::Building(..) | Incoming::Skipping) => {
                self.merge(&delta);
                self.break_off(DisconnectReason::Unexpected { frame: "delta" });
            }
        }
    }

    /// Applies a delta to what is served.
    fn apply(&mut self, delta: &Delta, frame: &DeltaFrame) {
        let Some(held) = &mut self.held else { return };
        let room = self.options.entries_max.saturating_sub(held.writer().entries());
        if delta.upserts.len() as u64 > room {
            let entries = held.writer().entries().saturating_add(delta.upserts.len() as u64);
            return self.refuse_size(self.options.entries_max, entries);
        }
        match held.apply(delta, &frame.canonical) {
            Ok(step) => {
                self.over_limit = false;
                if self.options.keeps && matches!(step, Step::Applied(_)) {
                    let kept = held.kept(delta, frame);
                    self.actions.push_back(Action::Verified(Verified::Delta(kept)));
                }
                self.note(step, delta.revision);
                self.caught_up_once |= self.is_caught_up();
            }
            Err(divergence) => {
                self.diverge(divergence.clone());
                self.merge(delta);
                self.break_off(DisconnectReason::Diverged(divergence));
            }
        }
    }

    /// Once diverged, takes over what a delta of the same epoch revokes.
    fn merge(&mut self, delta: &Delta) {
        let link_epoch = self.link_epoch();
        let Some(held) = self.held.as_mut().filter(|held| Some(held.epoch()) == link_epoch) else { return };
        if self.divergence.is_none() {
            return;
        }
        // A delta that cannot be merged breaks its own rules: there is nothing in it to be trusted.
        if let Ok(applied) = held.merge(delta) {
            self.begin_rebuild(applied);
        }
    }

    fn handle_heartbeat(&mut self, now: Moment, heartbeat: &Heartbeat) {
        let Phase::Following(link) = &self.phase else { return };
        let statement = Statement {
            protocol: link.protocol,
            epoch: link.epoch,
            revision: heartbeat.revision,
            digest: heartbeat.digest,
            chain: heartbeat.chain,
            floor: heartbeat.floor,
            source_time: heartbeat.source_time,
        };
        let key = link.public_key;
        let signed = key.verify_heartbeat(&statement, &heartbeat.signature).is_ok();
        let subject = match &mut self.incoming {
            None if self.divergence.is_none() => self.held.as_mut(),
            Some(Incoming::Beside(beside, _)) => Some(&mut **beside),
            // Nothing here that it could prove.
            None | Some(Incoming::Listening) => return,
            Some(Incoming::Expected | Incoming::Building(..) | Incoming::Skipping) => {
                return self.break_off(DisconnectReason::Unexpected { frame: "heartbeat" });
            }
        };
        let Some(subject) = subject else { return };
        let outcome = match signed {
            true => subject.prove(heartbeat),
            false => Err(Divergence::Signature { revision: heartbeat.revision }),
        };
        match outcome {
            Ok(proves) => {
                subject.sweep(SWEEP_ENTRIES);
                self.pinned = Some(key);
                self.head = self.head.max(heartbeat.revision);
                if heartbeat.ack_now {
                    self.acks.handle_waiting(heartbeat.revision);
                }
                if proves {
                    self.handle_proof(now, heartbeat.revision, heartbeat.source_time);
                    if self.options.keeps && self.incoming.is_none() {
                        self.actions.push_back(Action::Verified(Verified::Word(heartbeat.clone())));
                    }
                }
            }
            Err(divergence) if self.incoming.is_some() => {
                self.fail_resync_at(None, ResyncFault::Unfit(divergence));
            }
            Err(divergence) => {
                self.diverge(divergence.clone());
                self.break_off(DisconnectReason::Diverged(divergence));
            }
        }
    }

    /// The authority signed for exactly the state that is held, or made beside.
    fn handle_proof(&mut self, now: Moment, revision: Revision, source_time: UnixMillis) {
        let Phase::Following(link) = &mut self.phase else { return };
        if source_time > link.sender.source_time {
            // Said after the Welcome: the log ended here then, whatever head the server had claimed.
            link.head = link.head.min(revision);
            self.head = revision;
            self.swap_if_not_older(now);
        }
        if self.incoming.is_none() {
            self.handle_word(now, revision, source_time);
            self.caught_up_once |= self.is_caught_up();
        }
    }

    /// The authority's signed word about exactly what is served.
    pub(super) fn handle_word(&mut self, now: Moment, revision: Revision, source_time: UnixMillis) {
        let Phase::Following(link) = &mut self.phase else { return };
        if !self.freshness.handle_word(now, revision, source_time, link.sender) {
            return;
        }
        self.suspect = false;
        link.word_at = now.boot;
        if revision >= link.head && link.live_since.is_none() {
            link.live_since = Some(now.boot);
        }
    }

    fn note(&mut self, step: Step, revision: Revision) {
        self.head = self.head.max(revision);
        if let Step::Applied(applied) = step {
            self.begin_rebuild(applied);
        }
    }

    fn begin_rebuild(&mut self, applied: Applied) {
        if let Some(rebuild) = applied.rebuild {
            self.actions.push_back(Action::Rebuild(rebuild));
        }
    }

    /// From here on nothing is taken back, and nothing counts as verified or fresh.
    fn diverge(&mut self, divergence: Divergence) {
        self.raise(Alarm::Diverged(divergence.clone()));
        self.divergence = Some(divergence);
        self.resyncs_failed = 0;
    }
}
