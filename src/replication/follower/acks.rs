//! When to acknowledge: at most once a second, or at once when asked.

use std::time::Duration;

use super::link::Phase;
use super::{Action, Follower};
use crate::replication::frames::{Ack, PolicyInForce, Subtree, ToServer};
use crate::replication::moment::Moment;
use crate::revocation::{Digest, Revision, UnixMillis};

/// Between two acks that nobody asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is owed to the server.
#[derive(Debug, Default)]
pub(super) struct Acks {
    owed: bool,
    at_once: bool,
    sent_at: Option<Duration>,
    /// Somebody waits for this revision; 0: nobody does.
    waited_for: Revision,
}

impl Acks {
    pub(super) fn handle_frame(&mut self, ack_now: bool) {
        self.owed = true;
        self.at_once |= ack_now;
    }

    /// Somebody waits until everything below has come this far.
    pub(super) fn handle_waiting(&mut self, revision: Revision) {
        self.waited_for = self.waited_for.max(revision);
    }

    pub(super) fn handle_subtree(&mut self, subtree: &Subtree) {
        self.owed = true;
        self.at_once |= self.waited_for > Revision(0);
        if subtree.ready == subtree.subscribers && subtree.applied_min >= self.waited_for {
            self.waited_for = Revision(0);
        }
    }

    fn is_due(&self, now: Moment) -> bool {
        self.owed && (self.at_once || self.sent_at.is_none_or(|at| now.since(at) >= INTERVAL))
    }
}

impl Follower {
    pub(super) fn send_due_ack(&mut self, now: Moment) {
        if !matches!(self.phase, Phase::Following(_)) || !self.acks.is_due(now) {
            return;
        }
        self.acks = Acks { owed: false, at_once: false, sent_at: Some(now.boot), ..std::mem::take(&mut self.acks) };
        let ack = self.ack();
        self.actions.push_back(Action::Send(ToServer::Ack(ack)));
    }

    /// What is done when stale. With nothing held, only what does not depend on the log is known.
    pub(super) fn policy_in_force(&self) -> Option<PolicyInForce> {
        let (local, break_glass) = (self.options.local_policy, self.options.break_glass);
        let logged = self.held.as_ref().map(|held| *held.writer().policy());
        logged.map(|logged| PolicyInForce::resolve(&logged, local, break_glass)).or(local.filter(|_| !break_glass))
    }

    /// What this subscription has brought about: nothing, as long as what is served came from elsewhere.
    fn ack(&self) -> Ack {
        let streamed = self.incoming.is_none() && self.divergence.is_none();
        let held = self.held.as_ref().filter(|held| streamed && self.link_epoch() == Some(held.epoch()));
        let (applied, digest) = held.map_or((Revision(0), Digest::default()), |held| held.verified());
        let policy = self.policy_in_force();
        let source_time = self.freshness.word().map_or(UnixMillis(0), |word| word.source_time);
        let ready = held.is_some() && self.is_caught_up();
        Ack { applied, digest, ready, policy, subtree: self.subtree.clone(), source_time }
    }
}
