//! Asking other servers, while the one that is followed does not hear the authority.
//!
//! It is kept meanwhile: if the authority is down, nobody hears it, and a fleet that runs from server to server helps
//! nobody. Only a server that has heard the authority later is worth moving to.

use std::time::Duration;

use super::action::Action;
use super::fault::DisconnectReason;
use super::link::Phase;
use super::{Follower, Replicated};
use crate::replication::backoff::Backoff;
use crate::replication::frames::{Hello, Welcome, WelcomeMode};
use crate::replication::moment::Moment;

/// When to ask next.
#[derive(Debug)]
pub(super) struct Probes {
    backoff: Backoff,
    next_at: Option<Duration>,
}

impl Probes {
    pub(super) fn new(seed: u64) -> Self {
        Self { backoff: Backoff::new(seed.rotate_left(32)), next_at: None }
    }

    /// The authority was heard.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
        self.next_at = None;
    }
}

impl Follower {
    /// Once the authority was not heard for too long, other servers are asked now and then.
    pub(super) fn probe_if_suspect(&mut self, now: Moment) {
        let Phase::Following(link) = &self.phase else { return };
        if link.live_since.is_none() || now.since(link.word_at) <= link.dead_after {
            return;
        }
        self.suspect = true;
        if self.probes.next_at.is_some_and(|at| now.boot < at) {
            return;
        }
        self.probes.next_at = Some(now.boot + self.probes.backoff.handle_failure());
        let held = self.held.as_ref().map(Replicated::held);
        let hello = Hello { probe: true, ..self.hello(held) };
        self.actions.push_back(Action::Probe(Box::new(hello)));
    }

    /// What another server answered to a probe. Whether it is to be moved to: [`Action::Connect`] then means that one.
    pub fn handle_probed(&mut self, now: Moment, welcome: &Welcome) -> bool {
        let follows = matches!(&self.phase, Phase::Following(link) if link.live_since.is_some());
        // What would follow is not decided yet.
        let judged = self.judge(&Welcome { mode: WelcomeMode::Snapshot, ..welcome.clone() });
        if !self.suspect || !follows || judged.is_err() {
            return false;
        }
        // A time that cannot be was not heard from the authority.
        let offered = self.sender_freshness(now, welcome).source_time;
        let moves = self.freshness.word().is_none_or(|word| offered > word.source_time);
        if moves {
            self.break_off(DisconnectReason::Moved);
        }
        moves
    }
}
