//! Who has applied a revision, from what all members are known to have applied: plain values in, a report out.
//!
//! # Invariants
//! - G1. `applied` is a lower bound: nobody is counted without having said so, or a relay for all below it.
//! - G2. `applied + laggards + cut_off = total`: nobody is left out, nobody counted twice.
//! - G3. Nobody at all is not a success: an empty report is never complete.

use std::collections::BTreeSet;
use std::time::Duration;

use super::frames::{NodeId, PolicyInForce};
use crate::revocation::{Revision, WhenStale};

/// The most names told of laggards, and of members that are cut off.
pub const NAMES_MAX: usize = 16;

/// Somebody who ought to be following.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Who.
    pub id: NodeId,
    /// Whether it is there.
    pub standing: Standing,
    /// What it does when stale.
    pub policy: PolicyInForce,
}

/// Whether a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is, and checks from this revision on. Readiness adds nothing: an ack names the set that checks are answered
    /// from, ready or not.
    Connected(Revision),
    /// It went without a goodbye: it may go on answering from what it holds.
    CutOff,
}

/// At most [`NAMES_MAX`] members to be named, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The first ones.
    pub ids: Vec<NodeId>,
    /// All, named or not.
    pub count: u64,
}

impl Named {
    fn add(&mut self, id: NodeId) {
        if self.ids.len() < NAMES_MAX {
            self.ids.push(id);
        }
        self.count = self.count.saturating_add(1);
    }

    /// How many are not named.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.count.saturating_sub(self.ids.len() as u64)
    }
}

/// How far a revision has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everybody, those below relays too.
    pub total: u64,
    /// Of them known to have applied it.
    pub applied: u64,
    /// Connected, and not known to have applied it.
    pub laggards: Named,
    /// Gone without a goodbye.
    pub cut_off: Named,
    /// The loosest of what they do when stale; `None` when there is nobody.
    pub loosest: Option<PolicyInForce>,
    /// How many go on answering however stale they are.
    pub serve_stale: u64,
}

impl Report {
    /// Whether all of them have applied it. Never of nobody.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total > 0 && self.applied == self.total
    }

    fn count_policy(&mut self, policy: PolicyInForce, members: u64) {
        self.loosest = Some(self.loosest.map_or(policy, |loosest| loosest.looser(policy)));
        if policy.when_stale == WhenStale::ServeStale {
            self.serve_stale = self.serve_stale.saturating_add(members);
        }
    }
}

/// How far `revision` has come among these members, and `unlisted` more of whom nothing is known. Of the laggards those
/// that are said to be furthest behind are named first.
#[must_use]
pub fn report(
    members: impl IntoIterator<Item = Counted>,
    unlisted: u64,
    furthest_behind: &BTreeSet<NodeId>,
    revision: Revision,
) -> Report {
    let mut report = Report::default();
    let mut first = Vec::new();
    for Counted { id, standing, policy } in members {
        report.total = report.total.saturating_add(1);
        report.count_policy(policy, 1);
        match standing {
            Standing::CutOff => report.cut_off.add(id),
            Standing::Connected(applied) if applied >= revision => report.applied = report.applied.saturating_add(1),
            Standing::Connected(_) => {
                report.laggards.add(id);
                if first.len() < NAMES_MAX && furthest_behind.contains(&id) {
                    first.push(id);
                }
            }
        }
    }
    if unlisted > 0 {
        report.total = report.total.saturating_add(unlisted);
        report.laggards.count = report.laggards.count.saturating_add(unlisted);
        report.count_policy(UNKNOWN, unlisted);
    }
    if !first.is_empty() {
        let rest = std::mem::take(&mut report.laggards.ids);
        let rest = rest.into_iter().filter(|id| !furthest_behind.contains(id));
        report.laggards.ids = first.into_iter().chain(rest).take(NAMES_MAX).collect();
    }
    report
}

/// What is assumed of those of whom nothing is known.
const UNKNOWN: PolicyInForce = PolicyInForce { max_staleness: Duration::ZERO, when_stale: WhenStale::ServeStale };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const R: Revision = Revision(10);
    const DENY: PolicyInForce = PolicyInForce { max_staleness: Duration::from_secs(60), when_stale: WhenStale::Deny };
    const SERVE: PolicyInForce =
        PolicyInForce { max_staleness: Duration::from_secs(5), when_stale: WhenStale::ServeStale };

    fn id(number: u8) -> NodeId {
        NodeId([number; 16])
    }

    fn member(number: u8, standing: Standing) -> Counted {
        Counted { id: id(number), standing, policy: DENY }
    }

    fn on(applied: u64) -> Standing {
        Standing::Connected(Revision(applied))
    }

    fn told(members: &[Counted]) -> Report {
        report(members.iter().copied(), 0, &BTreeSet::new(), R)
    }

    #[test]
    fn nobody_is_not_a_success() {
        assert!(!told(&[]).is_complete());
        assert_eq!(told(&[]), Report::default());
    }

    #[test]
    fn complete_once_the_last_one_has_applied_it() {
        let behind = told(&[member(1, on(10)), member(2, on(9))]);
        assert_eq!((behind.total, behind.applied, behind.is_complete()), (2, 1, false));
        assert_eq!(behind.laggards, Named { ids: vec![id(2)], count: 1 });
        assert!(told(&[member(1, on(10)), member(2, on(11))]).is_complete());
    }

    #[test]
    fn a_member_that_is_cut_off_keeps_it_incomplete_and_is_named() {
        let report = told(&[member(1, on(10)), member(2, Standing::CutOff)]);
        assert!(!report.is_complete());
        assert_eq!((report.total, report.applied, report.laggards.count), (2, 1, 0));
        assert_eq!(report.cut_off.ids, [id(2)]);
    }

    #[test]
    fn those_furthest_behind_are_named_first() {
        let members: Vec<Counted> = (0..40).map(|number| member(number, on(9))).collect();
        let report = report(members, 0, &BTreeSet::from([id(39), id(3)]), R);
        assert_eq!(report.laggards.ids[..3], [id(3), id(39), id(0)]);
        assert_eq!((report.laggards.ids.len(), report.laggards.more()), (NAMES_MAX, 24));
    }

    #[test]
    fn the_loosest_policy_is_the_longest_and_the_laxest() {
        let report = told(&[Counted { policy: SERVE, ..member(1, on(10)) }, member(2, on(10))]);
        assert_eq!(report.serve_stale, 1);
        let loosest = PolicyInForce { max_staleness: DENY.max_staleness, when_stale: WhenStale::ServeStale };
        assert_eq!(report.loosest, Some(loosest));
    }

    #[test]
    fn those_of_whom_nothing_is_known_are_behind_and_have_no_bound() {
        let report = report([member(1, on(10))], 3, &BTreeSet::new(), R);
        assert_eq!((report.total, report.applied, report.is_complete()), (4, 1, false));
        assert_eq!((report.laggards.more(), report.serve_stale), (3, 3));
    }

    fn members() -> impl Strategy<Value = Vec<Counted>> {
        let standing = prop_oneof![Just(Standing::CutOff), (0..20u64).prop_map(on)];
        let member = (any::<u8>(), standing, any::<bool>()).prop_map(|(number, standing, deny)| Counted {
            policy: if deny { DENY } else { SERVE },
            ..member(number, standing)
        });
        proptest::collection::vec(member, 0..60)
    }

    proptest! {
        #[test]
        fn everybody_is_counted_once(
            members in members(), unlisted in 0..5u64, first in any::<u8>(), revision in 0..20u64,
        ) {
            let count = members.len() as u64 + unlisted;
            let report = report(members, unlisted, &BTreeSet::from([id(first)]), Revision(revision));
            prop_assert_eq!(report.applied + report.laggards.count + report.cut_off.count, report.total);
            prop_assert!(report.laggards.ids.len() <= NAMES_MAX && report.cut_off.ids.len() <= NAMES_MAX);
            prop_assert_eq!(report.total, count);
            prop_assert!(report.serve_stale <= report.total);
            prop_assert_eq!(report.is_complete(), report.total > 0 && report.applied == report.total);
        }

        #[test]
        fn a_later_revision_never_has_come_further(members in members(), at in 0..20u64) {
            let applied = |at| report(members.iter().copied(), 0, &BTreeSet::new(), Revision(at)).applied;
            prop_assert!(applied(at) >= applied(at + 1));
        }
    }
}
