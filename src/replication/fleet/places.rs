//! Taking members from one place to another. Whoever does, notes that they changed.

use super::{Below, Fleet, Member};
use crate::replication::frames::NodeId;
use crate::replication::moment::Moment;

impl Fleet {
    pub(super) fn touch(&mut self, id: NodeId) {
        self.changes += 1;
        if let Some(member) = self.members.get_mut(&id) {
            member.change = self.changes;
        }
        self.changed.insert(id);
    }

    pub(super) fn touch_all(&mut self) {
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        ids.into_iter().for_each(|id| self.touch(id));
    }

    pub(super) fn remove(&mut self, now: Moment, id: NodeId) {
        self.cut_below(now, id);
        self.orphan_below(id);
        self.leave_below(id);
        self.clear_beside(id);
        if let Some(mut heard) = self.members.remove(&id).and_then(|member| member.heard) {
            self.refused -= heard.close();
            self.lost = self.lost.saturating_add(heard.unlisted());
        }
        self.touch(id);
    }

    pub(super) fn note_joined(&mut self, id: NodeId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.joined = member.change;
        }
    }

    /// It is here now, whatever the relay that had it says of its stay there from here on.
    pub(super) fn end_stay(&mut self, id: NodeId) {
        let below = self.members.get(&id).and_then(|member| member.below).filter(|below| below.present);
        if let Some(Below { via: Some(via), stay, .. }) = below
            && let Some(heard) = self.members.get_mut(&via).and_then(|relay| relay.heard.as_mut())
        {
            heard.end_stay(id, stay);
        }
        self.leave_below(id);
        let beside = self.members.get_mut(&id).map(|member| std::mem::take(&mut member.beside));
        for (via, word) in beside.into_iter().flatten() {
            if let Some(heard) = self.members.get_mut(&via).and_then(|relay| relay.heard.as_mut()) {
                heard.end_stay(id, word.below.stay);
            }
            self.unlink(via, id);
        }
    }

    /// It has no place below a relay.
    pub(super) fn leave_below(&mut self, id: NodeId) {
        let below = self.members.get_mut(&id).and_then(|member| member.below.take());
        if let Some(via) = below.and_then(|below| below.via) {
            self.unlink(via, id);
        }
    }

    pub(super) fn unlink(&mut self, via: NodeId, id: NodeId) {
        if let Some(ids) = self.below.get_mut(&via) {
            ids.remove(&id);
            if ids.is_empty() {
                self.below.remove(&via);
            }
        }
    }

    /// All below a relay are cut off, until it tells of them again.
    pub(super) fn cut_below(&mut self, now: Moment, relay: NodeId) {
        for id in self.below.get(&relay).cloned().unwrap_or_default() {
            if self.end_beside(relay, id) {
                continue;
            }
            let is_via = |member: &Member| member.seat.is_none() && member.is_present_below();
            if self.members.get(&id).is_some_and(is_via) && self.fall_back(now, id) {
                continue;
            }
            let Some(member) = self.members.get_mut(&id) else { continue };
            let was_present = member.is_present_below();
            if let Some(below) = &mut member.below {
                below.present = false;
            }
            if was_present && member.seat.is_none() {
                member.begin_cut(now);
                self.touch(id);
            }
        }
    }

    /// Nobody tells of them any more.
    pub(super) fn orphan_below(&mut self, relay: NodeId) {
        for id in self.below.remove(&relay).unwrap_or_default() {
            if let Some(place) = self.members.get_mut(&id).and_then(|member| member.below.as_mut()) {
                place.via = None;
            }
            self.touch(id);
        }
    }
}
