//! How far everybody has come.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fleet, Heard, Member, Place};
use crate::replication::frames::{LAGGARDS_MAX, NodeId, PATH_MAX, Role, Subtree};
use crate::replication::propagation::{Counted, Standing};
use crate::revocation::Revision;

impl Fleet {
    /// What it has applied at least; `None` when it is cut off.
    ///
    /// Of one below a relay that is what it was last said to have acknowledged, or what the relay's ack vouches for all of
    /// those that are ready, if that counts the same ones that are known here (T3).
    #[must_use]
    pub fn applied(&self, member: &Member) -> Option<Revision> {
        match member.place() {
            Place::Seat(_) => Some(member.earlier.values().fold(member.about.acked, |least, it| least.min(it.acked))),
            Place::CutOff => None,
            Place::Below => {
                let newest = self.come(member.below?.via, member.about.ready, member.about.acked);
                let beside = member.beside.iter().map(|(via, word)| self.come(Some(*via), word.ready, word.acked));
                Some(beside.fold(newest, Revision::min))
            }
        }
    }

    /// Everybody, to be counted.
    pub fn counted(&self) -> impl Iterator<Item = Counted> {
        self.members.iter().map(|(id, member)| Counted {
            id: *id,
            standing: self.applied(member).map_or(Standing::CutOff, Standing::Connected),
            policy: member.policy(),
        })
    }

    /// Who is said to be furthest behind, by the relays here.
    #[must_use]
    pub fn furthest_behind(&self) -> BTreeSet<NodeId> {
        let subtrees = self.members.values().filter_map(|member| member.subtree.as_ref());
        subtrees.flat_map(|subtree| subtree.laggards.iter().copied()).collect()
    }

    /// How many are cut off.
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        self.members.values().filter(|member| !member.is_connected()).count() as u64
    }

    /// How many of those who sat here are not listed.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.lost.saturating_add(self.unlisted.len() as u64)
    }

    /// How many more there are below relays than those that are listed.
    #[must_use]
    pub fn unlisted_below(&self) -> u64 {
        let missing = self.members.iter().map(|(id, member)| self.missing(*id, member));
        missing.fold(0, u64::saturating_add)
    }

    /// Of each relay, how many are known below it, and how many of them are ready.
    #[must_use]
    pub fn below_counts(&self) -> BTreeMap<NodeId, (u64, u64)> {
        let mut counts = BTreeMap::<NodeId, (u64, u64)>::new();
        for member in self.members.values().filter(|member| member.is_connected()) {
            let mut parent = member.parent();
            for _ in 0..PATH_MAX {
                let Some(relay) = parent else { break };
                let count = counts.entry(relay).or_default();
                *count = (count.0 + 1, count.1 + u64::from(member.is_ready()));
                parent = self.members.get(&relay).and_then(Member::parent);
            }
        }
        counts
    }

    /// Everybody who is connected, here and below, summed up for the next relay or the authority above.
    #[must_use]
    pub fn subtree(&self) -> Subtree {
        let unlisted = (self.unlisted.len() as u64).saturating_add(self.unlisted_below());
        let mut sum = Subtree {
            subscribers: unlisted,
            applied_min: Revision(u64::MAX),
            changes: self.changes,
            ..Subtree::default()
        };
        let mut behind = BTreeSet::new();
        let mut head = Revision(0);
        for (id, member) in &self.members {
            let Some(applied) = self.applied(member) else { continue };
            sum.subscribers = sum.subscribers.saturating_add(1);
            let (policy, ready) = (member.policy(), member.is_ready());
            sum.loosest_policy = Some(sum.loosest_policy.map_or(policy, |loosest| loosest.looser(policy)));
            head = head.max(applied);
            if ready {
                sum.ready += 1;
                sum.applied_min = sum.applied_min.min(applied);
            }
            behind.insert((applied, ready, *id));
            if behind.len() > LAGGARDS_MAX {
                behind.pop_last();
            }
        }
        if sum.ready == 0 {
            sum.applied_min = Revision(0);
        }
        let is_behind = |(applied, ready, _): &(Revision, bool, NodeId)| !ready || *applied < head;
        sum.laggards = behind.into_iter().filter(is_behind).map(|(_, _, id)| id).collect();
        sum
    }

    /// What one has applied by the word of a relay, or by what that vouches for.
    fn come(&self, via: Option<NodeId>, ready: bool, acked: Revision) -> Revision {
        let relay = via.filter(|_| ready).and_then(|via| self.members.get(&via));
        relay.and_then(|relay| self.vouched(relay)).map_or(acked, |vouched| vouched.max(acked))
    }

    /// What all below a relay that are ready have applied, if its ack counts those that are known here.
    fn vouched(&self, relay: &Member) -> Option<Revision> {
        let (subtree, heard) = (relay.subtree.as_ref()?, relay.heard.as_ref()?);
        (relay.seat.is_some() && heard.is_complete(self.epoch, subtree.changes)).then_some(subtree.applied_min)
    }

    fn missing(&self, id: NodeId, relay: &Member) -> u64 {
        let told = relay.heard.as_ref().map_or(0, Heard::unlisted);
        let Some(subtree) = relay.subtree.as_ref().filter(|_| relay.about.role == Role::Relay) else { return told };
        // An ack that is older than what was told counts those who are gone since.
        if relay.heard.as_ref().is_some_and(|heard| heard.changes() >= subtree.changes) {
            return told;
        }
        let ids = self.below.get(&id).into_iter().flatten();
        let listed = ids.filter(|id| self.members.get(id).is_some_and(Member::is_present_below)).count();
        told.max(subtree.subscribers.saturating_sub(listed as u64))
    }
}
