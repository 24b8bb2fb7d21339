//! The beginning of a subscription: what a Welcome may say, and what it agrees on.

use std::time::Duration;

use super::action::{Action, Alarm};
use super::fault::{DisconnectReason, Refusal};
use super::freshness::SenderFreshness;
use super::incoming::Incoming;
use super::kept::{Descent, Verified};
use super::{Follower, Replicated};
use crate::replication::frames::{GoAway, ProtocolRange, Welcome, WelcomeMode};
use crate::replication::lineage::Lineage;
use crate::replication::moment::Moment;
use crate::replication::signature::PublicKey;
use crate::revocation::{Epoch, Policy, Revision, SetKey, UnixMillis};

/// The server decides how soon it counts as dead, within these bounds.
const DEAD_AFTER_MIN: Duration = Duration::from_millis(500);
const DEAD_AFTER_MAX: Duration = Duration::from_secs(60);

/// The connection's part of the state.
#[derive(Debug)]
pub(super) enum Phase {
    Disconnected,
    /// Hello was said.
    Greeting {
        since: Duration,
    },
    Following(Box<Link>),
}

/// What Welcome agreed on, and what became of the subscription since.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) epoch: Epoch,
    pub(super) lineage: Lineage,
    pub(super) set_key: SetKey,
    pub(super) public_key: PublicKey,
    /// The server's head at Welcome.
    pub(super) head: Revision,
    pub(super) sender: SenderFreshness,
    pub(super) dead_after: Duration,
    /// When it began to get what it lacks.
    pub(super) behind_since: Duration,
    /// When the last frame came that was no heartbeat.
    pub(super) frame_at: Duration,
    /// When the last signed news came.
    pub(super) word_at: Duration,
    /// The least that boot time was ahead of the time stated by a word, in ms: the next one is compared with it.
    pub(super) least_ahead: i128,
    pub(super) live_since: Option<Duration>,
    /// When a follower that diverged for good tries again.
    pub(super) resync_at: Option<Duration>,
}

impl Link {
    /// Whether a word came as fast as words over this connection can: a sender may hold them back ever longer, each of them
    /// news.
    pub(super) fn is_prompt(&mut self, now: Moment, source_time: UnixMillis) -> bool {
        let ahead = now.boot.as_millis() as i128 - i128::from(source_time.0);
        self.least_ahead = self.least_ahead.min(ahead);
        ahead - self.least_ahead <= self.dead_after.as_millis() as i128
    }

    /// The log that is followed.
    pub(super) fn descent(&self) -> Descent {
        let Self { epoch, lineage, set_key, public_key, .. } = self;
        Descent { epoch: *epoch, lineage: lineage.clone(), set_key: set_key.clone(), public_key: *public_key }
    }
}

impl Follower {
    pub(super) fn handle_welcome(&mut self, now: Moment, welcome: Welcome) {
        if let Err(refusal) = self.judge(&welcome) {
            if let Some(alarm) = self.alarm_of(&refusal, &welcome) {
                self.raise(alarm);
            }
            return self.break_off(DisconnectReason::Refused(refusal));
        }
        let sender = self.sender_freshness(now, &welcome);
        let same_epoch = self.held.as_ref().is_some_and(|held| held.epoch() == welcome.epoch);
        self.head = if same_epoch { self.head.max(welcome.head) } else { welcome.head };
        self.warm = false;
        self.incoming = (welcome.mode == WelcomeMode::Snapshot).then_some(Incoming::Expected);
        if self.options.keeps {
            self.actions.push_back(Action::Verified(Verified::Path(welcome.path)));
        }
        self.phase = super::Phase::Following(Box::new(Link {
            epoch: welcome.epoch,
            lineage: welcome.lineage,
            set_key: welcome.set_key,
            public_key: welcome.public_key,
            head: welcome.head,
            sender,
            dead_after: welcome.dead_after.clamp(DEAD_AFTER_MIN, DEAD_AFTER_MAX),
            behind_since: now.boot,
            frame_at: now.boot,
            word_at: now.boot,
            least_ahead: i128::MAX,
            live_since: None,
            resync_at: None,
        }));
        self.caught_up_once |= self.is_caught_up();
    }

    pub(super) fn handle_go_away(&mut self, away: &GoAway) {
        self.break_off(DisconnectReason::GoAway(away.clone()));
    }

    /// The epoch of the subscription under way.
    pub(super) fn link_epoch(&self) -> Option<Epoch> {
        match &self.phase {
            super::Phase::Following(link) => Some(link.epoch),
            _ => None,
        }
    }

    /// What the server says of its own freshness is not signed, and only makes what comes from it look older. A time that
    /// cannot be is no reason to call everything old.
    pub(super) fn sender_freshness(&self, now: Moment, welcome: &Welcome) -> SenderFreshness {
        // The Welcome's policy is its sender's word.
        let policy = self.held.as_ref().map_or_else(Policy::default, |held| *held.writer().policy());
        let skew = u64::try_from(policy.clock_skew_max.as_millis()).unwrap_or(u64::MAX);
        let is_possible = welcome.source_time.0 <= now.wall.0.saturating_add(skew);
        let source_time = if is_possible { welcome.source_time } else { UnixMillis(0) };
        SenderFreshness { source_time, age: welcome.source_age, at: now.boot }
    }

    pub(super) fn judge(&self, welcome: &Welcome) -> Result<(), Refusal> {
        if !ProtocolRange::SPOKEN.contains(welcome.protocol) {
            return Err(Refusal::Protocol(welcome.protocol));
        }
        if welcome.path.contains(&self.options.subscriber) {
            return Err(Refusal::Loop);
        }
        if self.pinned.is_some_and(|pinned| pinned != welcome.public_key) {
            return Err(Refusal::OtherKey);
        }
        self.judge_epoch(welcome)?;
        welcome.lineage.verify(&welcome.public_key, welcome.epoch).map_err(|_| Refusal::Lineage)
    }

    fn judge_epoch(&self, welcome: &Welcome) -> Result<(), Refusal> {
        let resumes = welcome.mode == WelcomeMode::Resume;
        let Some(held) = &self.held else {
            return if resumes { Err(Refusal::NothingToResume) } else { Ok(()) };
        };
        if welcome.epoch.generation < held.epoch().generation {
            return Err(Refusal::OldEpoch(welcome.epoch));
        }
        if welcome.epoch.generation > held.epoch().generation {
            return if resumes { Err(Refusal::NothingToResume) } else { Ok(()) };
        }
        self.judge_same_generation(welcome, held, resumes)
    }

    fn judge_same_generation(&self, welcome: &Welcome, held: &Replicated, resumes: bool) -> Result<(), Refusal> {
        if welcome.epoch.id != held.epoch().id {
            return Err(Refusal::ForkedEpoch(welcome.epoch));
        }
        if welcome.set_key != *held.writer().key() {
            return Err(Refusal::OtherSetKey);
        }
        if resumes && self.divergence.is_some() {
            return Err(Refusal::NothingToResume);
        }
        let applied = held.verified().0;
        if welcome.head < applied {
            return Err(Refusal::Behind { head: welcome.head, applied });
        }
        Ok(())
    }

    fn alarm_of(&self, refusal: &Refusal, welcome: &Welcome) -> Option<Alarm> {
        let followed = self.held.as_ref().map(Replicated::epoch);
        match (refusal, followed) {
            (Refusal::OldEpoch(offered), Some(followed)) => Some(Alarm::OldEpoch { followed, offered: *offered }),
            (Refusal::ForkedEpoch(offered), Some(followed)) => Some(Alarm::ForkedEpoch { followed, offered: *offered }),
            (Refusal::OtherKey, _) => self.pinned.map(|pinned| Alarm::OtherKey { pinned, offered: welcome.public_key }),
            _ => None,
        }
    }
}
