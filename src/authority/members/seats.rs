//! What subscriptions tell the roster.

use super::{MEMBERS_MAX, Roster};
use crate::replication::fleet::RosterFault;
use crate::replication::frames::{self, Ack, Hello, NodeId, PolicyInForce};
use crate::replication::source::{Guest, Members, NotItsOwner};
use crate::replication::subscription::Mode;
use crate::revocation::WhenStale;
use crate::revocation::ports::Pending;

impl Members for Roster {
    fn handle_hello(
        &self,
        seat: u64,
        guest: &Guest,
        hello: &Hello,
    ) -> Result<Option<Pending<'static, ()>>, NotItsOwner> {
        // One that does not say may have started with break-glass.
        let unsaid = |logged: PolicyInForce| match hello.policy {
            Some(policy) => policy.looser(logged),
            None => PolicyInForce { when_stale: WhenStale::ServeStale, ..logged },
        };
        let (logged, skew) = (PolicyInForce::of(&self.shared.set.policy()), self.shared.skew());
        let unsaid = unsaid(logged);
        let ((listed, stored), admission) = self.shared.change_and_wait(|book, now| {
            book.fleet.make_room(now, skew);
            let listed = book.fleet.handle_hello(now, seat, guest, hello, unsaid);
            (listed, book.is_stored(hello.subscriber))
        });
        let listed = listed?;
        if !listed {
            tracing::error!(limit = MEMBERS_MAX, "a subscriber is not remembered: too many members");
        }
        Ok((listed && !stored).then_some(admission))
    }

    fn handle_ack(&self, seat: u64, member: NodeId, ack: &Ack) {
        self.shared.change(|book, _| book.fleet.handle_ack(seat, member, ack));
    }

    fn handle_roster(&self, seat: u64, member: NodeId, roster: &frames::Roster) -> Result<(), RosterFault> {
        let skew = self.shared.skew();
        self.shared.change(|book, now| {
            book.fleet.make_room(now, skew);
            book.fleet.handle_roster(now, seat, member, roster)
        })
    }

    fn handle_mode(&self, seat: u64, member: NodeId, mode: Mode) {
        self.shared.change(|book, _| book.fleet.handle_mode(seat, member, mode));
    }

    fn handle_leave(&self, seat: u64, member: NodeId, goodbye: bool) {
        self.shared.change(|book, now| book.fleet.handle_leave(now, seat, member, goodbye));
    }
}
