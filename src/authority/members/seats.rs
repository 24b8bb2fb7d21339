//! What subscriptions tell the roster.

use super::{Entry, Place, Roster, RosterMember};
use crate::journal::MEMBERS_MAX;
use crate::replication::frames::{Ack, Hello, NodeId, PolicyInForce};
use crate::replication::propagation::{looser, loosest};
use crate::replication::source::Members;
use crate::revocation::ports::Pending;

impl Members for Roster {
    fn handle_hello(&self, seat: u64, hello: &Hello) -> Option<Pending<'static, ()>> {
        let logged = PolicyInForce::of(&self.shared.set.policy());
        let mut book = self.shared.book.lock();
        let is_new = !book.members.contains_key(&hello.subscriber);
        if is_new && book.members.len() >= MEMBERS_MAX {
            book.unlisted.insert(seat);
            tracing::error!(limit = MEMBERS_MAX, "a subscriber is not remembered: too many members");
            return None;
        }
        let id = hello.subscriber;
        let place = Place::Seat(seat);
        let (name, role) = (hello.name.clone(), hello.role);
        let member = RosterMember { id, name, role, policy: logged, subtree: None, place };
        let entry = book.members.entry(id).or_insert(Entry { member, stored: None });
        entry.member.place = place;
        entry.member.name.clone_from(&hello.name);
        entry.member.role = hello.role;
        // Until it says, it may be doing what it did before, or what the log says.
        entry.member.policy = looser(entry.member.policy, logged);
        if entry.stored == Some(entry.member.policy) {
            return None;
        }
        self.shared.mark(&mut book, id);
        Some(self.shared.admission(&book))
    }

    fn handle_ack(&self, seat: u64, member: NodeId, ack: &Ack) {
        let mut book = self.shared.book.lock();
        let Some(entry) = book.members.get_mut(&member).filter(|entry| entry.member.place == Place::Seat(seat)) else {
            return;
        };
        if entry.member.subtree != ack.subtree {
            entry.member.subtree.clone_from(&ack.subtree);
        }
        let Some(own) = ack.policy else { return };
        entry.member.policy = loosest(own, ack.subtree.as_ref());
        if entry.stored != Some(entry.member.policy) {
            self.shared.mark(&mut book, member);
        }
    }

    fn handle_leave(&self, seat: u64, member: NodeId, goodbye: bool) {
        let (at, since) = (self.shared.clock.wall(), self.shared.clock.boot().0);
        let mut book = self.shared.book.lock();
        if book.unlisted.remove(&seat) && !goodbye {
            book.lost = book.lost.saturating_add(1);
        }
        // It may have taken another seat meanwhile.
        let Some(entry) = book.members.get_mut(&member).filter(|entry| entry.member.place == Place::Seat(seat)) else {
            return;
        };
        if goodbye {
            book.members.remove(&member);
            self.shared.mark(&mut book, member);
        } else {
            entry.member.place = Place::CutOff { at, since, at_start: false };
        }
    }
}
