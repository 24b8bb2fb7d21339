//! Who has applied a revision, from what all members are known to have applied: plain values in, a report out.
//!
//! # Invariants
//! - G1. `applied` is a lower bound: of what lies below a relay only what the relay vouches for is counted.
//! - G2. `applied + laggards + cut_off = total`: nobody is left out, nobody counted twice.
//! - G3. Nobody at all is not a success: an empty report is never complete.

use super::frames::{PolicyInForce, Role, Subtree};
use crate::revocation::{Revision, WhenStale};

/// The most names told of laggards, and of members that are cut off.
pub const NAMES_MAX: usize = 16;

/// Somebody who ought to be following.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// For people.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Whether it is there.
    pub standing: Standing,
    /// Of a relay: what it last said about those below it.
    pub subtree: Option<Subtree>,
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

/// At most [`NAMES_MAX`] names, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The first ones.
    pub names: Vec<String>,
    /// All, named or not.
    pub count: u64,
}

impl Named {
    fn add<'a>(&mut self, names: impl IntoIterator<Item = &'a str>, count: u64) {
        let room = NAMES_MAX - self.names.len();
        let told = usize::try_from(count).unwrap_or(usize::MAX).min(room);
        self.names.extend(names.into_iter().take(told).map(str::to_owned));
        self.count = self.count.saturating_add(count);
    }

    /// How many are not named.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.count.saturating_sub(self.names.len() as u64)
    }
}

/// How far a revision has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everybody: a relay counts as one, and as many as it says are below it.
    pub total: u64,
    /// Of them known to have applied it.
    pub applied: u64,
    /// Connected, and not known to have applied it.
    pub laggards: Named,
    /// Gone without a goodbye; a relay together with what was below it, under its own name.
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
}

/// How far `revision` has come among these members.
#[must_use]
pub fn report<'a>(members: impl IntoIterator<Item = &'a Member>, revision: Revision) -> Report {
    let mut report = Report::default();
    for member in members {
        let below = member.subtree.as_ref().filter(|_| member.role == Role::Relay);
        let below_count = below.map_or(0, |subtree| subtree.subscribers);
        report.total = report.total.saturating_add(1).saturating_add(below_count);
        report.count_policy(member.policy, 1);
        if let Some(subtree) = below.filter(|subtree| subtree.subscribers > 0) {
            report.count_policy(subtree.loosest_policy.unwrap_or(UNKNOWN), subtree.subscribers);
        }
        match member.standing {
            Standing::CutOff => report.cut_off.add([member.name.as_str()], below_count.saturating_add(1)),
            Standing::Connected(applied) => {
                if applied >= revision {
                    report.applied = report.applied.saturating_add(1);
                } else {
                    report.laggards.add([member.name.as_str()], 1);
                }
                if let Some(subtree) = below {
                    report.count_below(subtree, revision);
                }
            }
        }
    }
    report
}

/// What is assumed of those below a relay that does not say what they do when stale.
const UNKNOWN: PolicyInForce =
    PolicyInForce { max_staleness: std::time::Duration::ZERO, when_stale: WhenStale::ServeStale };

impl Report {
    fn count_below(&mut self, subtree: &Subtree, revision: Revision) {
        let ready = subtree.ready.min(subtree.subscribers);
        let applied = if subtree.applied_min >= revision { ready } else { 0 };
        self.applied = self.applied.saturating_add(applied);
        self.laggards.add(subtree.laggards.iter().map(String::as_str), subtree.subscribers - applied);
    }

    fn count_policy(&mut self, policy: PolicyInForce, members: u64) {
        self.loosest = Some(self.loosest.map_or(policy, |loosest| looser(loosest, policy)));
        if policy.when_stale == WhenStale::ServeStale {
            self.serve_stale = self.serve_stale.saturating_add(members);
        }
    }
}

/// The looser of two policies, field by field.
#[must_use]
pub fn looser(one: PolicyInForce, other: PolicyInForce) -> PolicyInForce {
    PolicyInForce {
        max_staleness: one.max_staleness.max(other.max_staleness),
        when_stale: one.when_stale.min(other.when_stale),
    }
}

/// What a member and all below it do when stale, at the loosest.
#[must_use]
pub fn loosest(own: PolicyInForce, subtree: Option<&Subtree>) -> PolicyInForce {
    match subtree.filter(|subtree| subtree.subscribers > 0) {
        Some(subtree) => looser(own, subtree.loosest_policy.unwrap_or(UNKNOWN)),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const R: Revision = Revision(10);
    const DENY: PolicyInForce = PolicyInForce { max_staleness: Duration::from_secs(60), when_stale: WhenStale::Deny };
    const SERVE: PolicyInForce =
        PolicyInForce { max_staleness: Duration::from_secs(5), when_stale: WhenStale::ServeStale };

    fn leaf(name: &str, standing: Standing) -> Member {
        Member { name: name.into(), role: Role::Leaf, standing, subtree: None, policy: DENY }
    }

    fn relay(applied: u64, subscribers: u64, ready: u64, applied_min: u64, laggards: &[&str]) -> Member {
        let laggards = laggards.iter().map(ToString::to_string).collect();
        let applied_min = Revision(applied_min);
        let subtree = Some(Subtree { subscribers, ready, applied_min, laggards, loosest_policy: Some(DENY) });
        Member { role: Role::Relay, subtree, ..leaf("relay", Standing::Connected(Revision(applied))) }
    }

    fn on(applied: u64) -> Standing {
        Standing::Connected(Revision(applied))
    }

    #[test]
    fn nobody_is_not_a_success() {
        assert!(!report([], R).is_complete());
        assert_eq!(report([], R), Report::default());
    }

    #[test]
    fn complete_once_the_last_one_has_applied_it() {
        let behind = report(&[leaf("a", on(10)), leaf("b", on(9))], R);
        assert_eq!((behind.total, behind.applied, behind.is_complete()), (2, 1, false));
        assert_eq!(behind.laggards, Named { names: vec!["b".into()], count: 1 });
        assert!(report(&[leaf("a", on(10)), leaf("b", on(11))], R).is_complete());
    }

    #[test]
    fn a_member_that_is_cut_off_keeps_it_incomplete_and_is_named() {
        let report = report(&[leaf("a", on(10)), leaf("b", Standing::CutOff)], R);
        assert!(!report.is_complete());
        assert_eq!((report.total, report.applied, report.laggards.count), (2, 1, 0));
        assert_eq!(report.cut_off.names, ["b"]);
    }

    #[test]
    fn a_relay_counts_with_all_below_it() {
        let all = report(&[relay(10, 40, 40, 10, &[])], R);
        assert_eq!((all.total, all.applied, all.is_complete()), (41, 41, true));
        let unready = report(&[relay(10, 40, 38, 10, &["x", "y"])], R);
        assert_eq!((unready.applied, unready.laggards.names.len(), unready.laggards.more()), (39, 2, 0));
        let behind = report(&[relay(10, 40, 40, 9, &["x"])], R);
        assert_eq!((behind.applied, behind.laggards.count, behind.laggards.more()), (1, 40, 39));
        let lost = report(&[Member { standing: Standing::CutOff, ..relay(10, 40, 40, 10, &[]) }], R);
        assert_eq!((lost.cut_off.count, lost.cut_off.names.len(), lost.applied), (41, 1, 0));
    }

    #[test]
    fn the_loosest_policy_is_the_longest_and_the_laxest() {
        let one = Member { policy: SERVE, ..leaf("a", on(10)) };
        let report = report(&[one, leaf("b", on(10))], R);
        assert_eq!(report.serve_stale, 1);
        let loosest = PolicyInForce { max_staleness: DENY.max_staleness, when_stale: WhenStale::ServeStale };
        assert_eq!(report.loosest, Some(loosest));
    }

    #[test]
    fn a_subtree_that_does_not_say_its_policy_has_no_bound() {
        let mut silent = relay(10, 3, 3, 10, &[]);
        silent.subtree.as_mut().unwrap().loosest_policy = None;
        assert_eq!(loosest(DENY, silent.subtree.as_ref()).when_stale, WhenStale::ServeStale);
        assert_eq!(report(&[silent], R).serve_stale, 3);
    }

    fn subtree() -> impl Strategy<Value = Subtree> {
        (0..50u64, 0..60u64, 0..20u64, 0..=16usize).prop_map(|(subscribers, ready, applied_min, named)| Subtree {
            subscribers,
            ready,
            applied_min: Revision(applied_min),
            laggards: (0..named).map(|n| format!("below{n}")).collect(),
            loosest_policy: (ready % 2 == 0).then_some(DENY),
        })
    }

    fn member() -> impl Strategy<Value = Member> {
        let standing = prop_oneof![Just(Standing::CutOff), (0..20u64).prop_map(on)];
        ("[a-z]{1,4}", any::<bool>(), standing, proptest::option::of(subtree()), any::<bool>()).prop_map(
            |(name, relay, standing, subtree, deny)| Member {
                name,
                role: if relay { Role::Relay } else { Role::Leaf },
                standing,
                subtree,
                policy: if deny { DENY } else { SERVE },
            },
        )
    }

    proptest! {
        #[test]
        fn everybody_is_counted_once(members in proptest::collection::vec(member(), 0..60), revision in 0..20u64) {
            let report = report(&members, Revision(revision));
            prop_assert_eq!(report.applied + report.laggards.count + report.cut_off.count, report.total);
            prop_assert!(report.laggards.names.len() <= NAMES_MAX && report.cut_off.names.len() <= NAMES_MAX);
            prop_assert!(report.total >= members.len() as u64 && report.serve_stale <= report.total);
            prop_assert_eq!(report.is_complete(), report.total > 0 && report.applied == report.total);
        }

        #[test]
        fn a_later_revision_never_has_come_further(members in proptest::collection::vec(member(), 0..60), at in 0..20u64) {
            prop_assert!(report(&members, Revision(at)).applied >= report(&members, Revision(at + 1)).applied);
        }
    }
}
