//! Words of relays beside the newest: a relay in a seat here that still has a member is not overruled by another one.

use super::{Below, Fleet, Member};
use crate::replication::frames::{About, NodeId, PolicyInForce, RosterEntry};
use crate::replication::moment::Moment;
use crate::revocation::Revision;

/// Words of a member beside the newest: more relays have it at once only where somebody lies.
pub(super) const BESIDE_MAX: usize = 3;

/// What a relay that has the member said of it last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) below: Below,
    pub(super) acked: Revision,
    pub(super) ready: bool,
    pub(super) policy: PolicyInForce,
}

impl Member {
    /// Ready, as all say who have it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.about.ready && self.beside.values().all(|word| word.ready)
    }

    /// The loosest that anybody says who has it.
    #[must_use]
    pub fn policy(&self) -> PolicyInForce {
        self.beside.values().fold(self.about.policy, |policy, word| policy.looser(word.policy))
    }
}

impl Fleet {
    /// Whether another relay that sits here has the member, and too many do already.
    pub(super) fn is_contested_too_often(&self, relay: NodeId, id: NodeId) -> bool {
        self.members.get(&id).is_some_and(|member| {
            member.beside.len() >= BESIDE_MAX && member.below.is_some_and(|below| below.via != Some(relay))
        })
    }

    /// Another relay's word comes: the one of now stays beside it while its relay sits here. Whether it does.
    pub(super) fn set_beside(&mut self, id: NodeId) -> bool {
        let Some(member) = self.members.get(&id).filter(|member| member.seat.is_none()) else { return false };
        let Some(below) = member.below.filter(|below| below.present) else { return false };
        let Some(via) = below.via.filter(|via| self.members.get(via).is_some_and(|relay| relay.seat.is_some())) else {
            return false;
        };
        let About { acked, ready, policy, .. } = member.about;
        if let Some(member) = self.members.get_mut(&id) {
            member.beside.insert(via, Word { below, acked, ready, policy });
        }
        true
    }

    /// A relay whose word is beside the newest says more of its member.
    pub(super) fn update_beside(&mut self, relay: NodeId, report: u64, entry: &RosterEntry, about: &About) {
        let Some(member) = self.members.get_mut(&entry.id) else { return };
        let Some(word) = member.beside.get_mut(&relay) else { return };
        word.below.report = report;
        let before = (word.ready, word.policy);
        (word.acked, word.ready, word.policy) = (about.acked, about.ready, about.policy);
        if before == (word.ready, word.policy) {
            self.moved.insert(entry.id);
        } else {
            self.touch(entry.id);
        }
    }

    /// A relay's word beside the newest ends. Whether there was one.
    pub(super) fn end_beside(&mut self, relay: NodeId, id: NodeId) -> bool {
        let ended = self.members.get_mut(&id).and_then(|member| member.beside.remove(&relay)).is_some();
        if ended {
            self.unlink(relay, id);
            self.touch(id);
        }
        ended
    }

    /// The newest word ends: one that was beside it counts alone. Whether there was one.
    pub(super) fn fall_back(&mut self, now: Moment, id: NodeId) -> bool {
        let Some((_, word)) = self.members.get_mut(&id).and_then(|member| member.beside.pop_last()) else {
            return false;
        };
        self.leave_below(id);
        if let Some(member) = self.members.get_mut(&id) {
            member.below = Some(word.below);
            member.cut_off = None;
            member.about.since = now.wall;
            (member.about.acked, member.about.ready, member.about.policy) = (word.acked, word.ready, word.policy);
        }
        self.touch(id);
        self.note_joined(id);
        true
    }

    /// No relay has it any more but the newest to tell of it.
    pub(super) fn clear_beside(&mut self, id: NodeId) {
        let beside = self.members.get_mut(&id).map(|member| std::mem::take(&mut member.beside));
        beside.into_iter().flatten().for_each(|(via, _)| self.unlink(via, id));
    }
}
