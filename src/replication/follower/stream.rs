//! The course of a subscription: deltas, heartbeats, and what to do when one of them cannot be true.

use super::Follower;
use super::action::{Action, Alarm};
use super::fault::{DisconnectReason, Divergence, ResyncFault};
use super::incoming::Incoming;
use super::kept::Verified;
use super::link::Phase;
use super::pending::Waiting;
use super::replicated::{Fit, Next, Replicated};
use crate::replication::frames::{DeltaFrame, Heartbeat, PROTOCOL_SIGNED, ToSubscriber};
use crate::replication::moment::Moment;
use crate::revocation::{Applied, Delta, Revision, UnixMillis};

/// How many entries a heartbeat lets the sweep look at: a little work every second.
const SWEEP_ENTRIES: usize = 4096;
/// While catching up, the most deltas that wait for the next signature to be verified,
const UNVERIFIED_MAX: usize = 256;
/// and the most bytes of them.
const UNVERIFIED_BYTES_MAX: usize = 1 << 20;

/// What became of deltas that are signed for.
enum Taken {
    /// They were applied.
    Whole,
    /// More entries than may be held here.
    OverLimit { entries: u64 },
}

/// What deltas and words are about: the set made beside, if there is one, else the one that is served.
fn subject_of<'a>(held: &'a mut Option<Replicated>, incoming: &'a mut Option<Incoming>) -> Option<&'a mut Replicated> {
    match incoming {
        None => held.as_mut(),
        Some(Incoming::Beside(beside, _)) => Some(beside),
        Some(_) => None,
    }
}

impl Follower {
    /// Handles a frame after Welcome; whether it asks for an ack at once.
    pub(super) fn handle_stream(&mut self, now: Moment, frame: ToSubscriber) -> bool {
        match frame {
            ToSubscriber::SnapshotBegin(begin) => self.handle_snapshot_begin(&begin),
            ToSubscriber::SnapshotChunk(chunk) => self.handle_snapshot_chunk(now, &chunk),
            ToSubscriber::SnapshotEnd(end) => self.handle_snapshot_end(now, &end),
            ToSubscriber::Delta(delta) => {
                let ack_now = delta.ack_now;
                self.handle_delta(now, delta);
                return ack_now;
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

    fn handle_delta(&mut self, now: Moment, frame: DeltaFrame) {
        let delta = match Delta::decode(&frame.canonical) {
            Ok(delta) => delta,
            Err(cause) => return self.break_off(DisconnectReason::Malformed { frame: "delta", cause }),
        };
        self.merge(&delta);
        match &self.incoming {
            Some(Incoming::Expected | Incoming::Building(..) | Incoming::Skipping) => {
                self.break_off(DisconnectReason::Unexpected { frame: "delta" });
            }
            // Beyond merging it there is nothing that it goes on from.
            Some(Incoming::Listening) => {}
            None if self.divergence.is_some() => {}
            None | Some(Incoming::Beside(..)) => self.receive(now, delta, frame),
        }
    }

    /// Keeps a delta until the authority has signed for it: at once, if it came signed.
    fn receive(&mut self, now: Moment, delta: Delta, frame: DeltaFrame) {
        let Phase::Following(link) = &self.phase else { return };
        // Whoever has much to catch up with need not verify every signature: the last one covers the others.
        let is_behind = delta.revision < link.head;
        let Some(subject) = subject_of(&mut self.held, &mut self.incoming) else { return };
        match subject.expects(&delta) {
            Ok(Fit::Known) => return,
            Ok(Fit::Next) => {}
            Err(divergence) => return self.contradict(divergence, Some(&delta)),
        }
        if subject.push(delta, frame).is_err() {
            return self.break_off(DisconnectReason::Unsigned);
        }
        let pending = subject.pending();
        let may_wait = is_behind && pending.len() < UNVERIFIED_MAX && pending.bytes() < UNVERIFIED_BYTES_MAX;
        if !may_wait && let Some(word) = pending.last().and_then(Waiting::word) {
            self.handle_signed(now, &word);
        }
    }

    /// Once diverged, takes over what a delta of the same epoch revokes.
    fn merge(&mut self, delta: &Delta) {
        let link_epoch = self.link_epoch();
        let Some(held) = self.held.as_mut().filter(|held| Some(held.epoch()) == link_epoch) else { return };
        if self.divergence.is_none() {
            return;
        }
        // Nobody has signed for it: it must not fill the memory either. What is left out is unknown like all else.
        let entries = held.writer().entries().saturating_add(delta.upserts.len() as u64);
        if entries > self.options.entries_max {
            return self.note_over_limit(self.options.entries_max, entries);
        }
        // A delta that cannot be merged breaks its own rules: there is nothing in it to be trusted.
        if let Ok(applied) = held.merge(delta) {
            self.begin_rebuild(applied);
        }
    }

    fn handle_heartbeat(&mut self, now: Moment, heartbeat: &Heartbeat) {
        match &self.incoming {
            Some(Incoming::Expected | Incoming::Building(..) | Incoming::Skipping) => {
                self.break_off(DisconnectReason::Unexpected { frame: "heartbeat" });
            }
            // Nothing here that it could prove.
            Some(Incoming::Listening) => {}
            None if self.divergence.is_some() => {}
            None | Some(Incoming::Beside(..)) => {
                let proves = self.handle_signed(now, heartbeat);
                if let Some(subject) = subject_of(&mut self.held, &mut self.incoming) {
                    subject.sweep(SWEEP_ENTRIES);
                }
                if proves && self.options.keeps && self.incoming.is_none() {
                    self.actions.push_back(Action::Verified(Verified::Word(heartbeat.clone())));
                }
            }
        }
    }

    /// Takes a word of the authority about a state that is held, or that follows once what waits is applied. Whether it
    /// proves what is held now.
    fn handle_signed(&mut self, now: Moment, word: &Heartbeat) -> bool {
        let Phase::Following(link) = &self.phase else { return false };
        let key = link.public_key;
        let statement = word.statement(PROTOCOL_SIGNED, link.epoch);
        let Some(subject) = subject_of(&mut self.held, &mut self.incoming) else { return false };
        let covered = match key.verify_heartbeat(&statement, &word.signature) {
            Ok(()) => subject.covered(word),
            Err(_) => Err(Divergence::Signature { revision: word.revision }),
        };
        match covered.and_then(|count| self.apply_pending(count, word)) {
            Ok(Taken::Whole) => {}
            Ok(Taken::OverLimit { entries }) => {
                self.refuse_size(self.options.entries_max, entries);
                return false;
            }
            Err(divergence) => {
                self.contradict(divergence, None);
                return false;
            }
        }
        let Some(subject) = subject_of(&mut self.held, &mut self.incoming) else { return false };
        let proves = subject.verified().0 == word.revision;
        self.pinned = Some(key);
        self.head = self.head.max(word.revision);
        if word.ack_now {
            self.acks.handle_waiting(word.revision);
        }
        if proves {
            self.handle_proof(now, word.revision, word.source_time);
        }
        proves
    }

    /// Applies the first `count` of what waits, which `word` covers.
    fn apply_pending(&mut self, count: usize, word: &Heartbeat) -> Result<Taken, Divergence> {
        for _ in 0..count {
            let Some(subject) = subject_of(&mut self.held, &mut self.incoming) else { break };
            let entries = subject.entries_after_next();
            if entries > self.options.entries_max {
                return Ok(Taken::OverLimit { entries });
            }
            let Some(Next { delta, applied, mut kept }) = subject.apply_next()? else { break };
            let entries = subject.writer().entries();
            // Its own signature was verified if it is the word's.
            kept.signature = kept.signature.filter(|own| *own == word.signature);
            self.begin_rebuild(applied);
            match &mut self.incoming {
                Some(Incoming::Beside(_, Some(provenance))) => provenance.deltas.push(kept),
                Some(_) => {}
                None => {
                    self.actions.push_back(Action::Applied { delta, entries });
                    if self.options.keeps {
                        self.actions.push_back(Action::Verified(Verified::Delta(kept)));
                    }
                }
            }
        }
        self.over_limit = false;
        Ok(Taken::Whole)
    }

    /// What came contradicts what is held, or what is made beside.
    fn contradict(&mut self, divergence: Divergence, by: Option<&Delta>) {
        if self.incoming.is_some() {
            return self.fail_resync_at(None, ResyncFault::Unfit(divergence));
        }
        self.diverge(divergence.clone());
        let Some(held) = &mut self.held else { return };
        let came: Vec<_> = held.take_pending().into_iter().chain(by.cloned()).collect();
        came.iter().for_each(|delta| self.merge(delta));
        self.break_off(DisconnectReason::Diverged(divergence));
    }

    /// The authority signed for exactly the state that is held, or made beside.
    fn handle_proof(&mut self, now: Moment, revision: Revision, source_time: UnixMillis) {
        let Phase::Following(link) = &mut self.phase else { return };
        if source_time > link.sender.source_time {
            // Said after the Welcome: the log ended here then, whatever head the server had claimed.
            link.head = link.head.min(revision);
            self.head = revision;
        }
        self.swap_if_not_older(now);
        if self.incoming.is_none() {
            self.handle_word(now, revision, source_time);
            self.caught_up_once |= self.is_caught_up();
        }
    }

    /// The authority's signed word about exactly what is served. On its way to the server's head a replica may hold less than
    /// every other one has by now: what it holds counts as no fresher than before, until it has caught up.
    pub(super) fn handle_word(&mut self, now: Moment, revision: Revision, source_time: UnixMillis) {
        if !self.is_caught_up() {
            return;
        }
        let Phase::Following(link) = &mut self.phase else { return };
        if !self.freshness.handle_word(now, revision, source_time, link.sender) {
            return;
        }
        if link.is_prompt(now, source_time) {
            self.suspect = false;
            self.probes.reset();
            link.word_at = now.boot;
        }
        if revision >= link.head && link.live_since.is_none() {
            link.live_since = Some(now.boot);
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
