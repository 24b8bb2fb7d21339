//! Verification policies: applied by the commit thread, each in a record of its own; followed by everybody in memory.
//!
//! # Invariants
//! - P1. What is kept is a function of the log: the last [`POLICY_VERSIONS_KEPT`] versions, whatever is pruned.
//! - P2. The last one kept is the one that the set holds.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::commit::Work;
use super::serve::{Authority, gone};
use crate::hub::{Hub, SubscriberStatus};
use crate::replication::frames::PROTOCOL_OF_VERIFICATION;
use crate::revocation::ports::{
    AppliedPolicy, ApplyPolicy, POLICY_LAGGARDS_NAMED, POLICY_VERSIONS_KEPT, Pending, Policies, PolicyApplied,
    PolicyChoice, PolicyError, VerificationPolicies,
};
use crate::revocation::{UnixMillis, VersionedPolicy};

/// The last versions, the oldest first.
pub type KeptPolicies = Arc<Vec<Arc<AppliedPolicy>>>;

/// Where the commit thread sends what came of one.
pub type Answer = oneshot::Sender<Result<PolicyApplied, PolicyError>>;

/// What was applied, as of the last revision.
#[derive(Debug)]
pub struct PolicyTable {
    kept: KeptPolicies,
    view: watch::Sender<KeptPolicies>,
}

impl Default for PolicyTable {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl PolicyTable {
    /// What a snapshot holds.
    #[must_use]
    pub fn of(applied: Vec<AppliedPolicy>) -> Self {
        let kept: KeptPolicies = Arc::new(applied.into_iter().map(Arc::new).collect());
        Self { view: watch::Sender::new(Arc::clone(&kept)), kept }
    }

    /// The last versions, the oldest first.
    #[must_use]
    pub fn kept(&self) -> &KeptPolicies {
        &self.kept
    }

    /// What other threads look at: changed before an apply is answered.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<KeptPolicies> {
        self.view.subscribe()
    }

    /// The version in force; 0: none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.kept.last().map_or(0, |applied| applied.policy.version)
    }

    /// Takes one in force that is durable.
    pub fn apply(&mut self, applied: &Arc<AppliedPolicy>) {
        let too_many = (self.kept.len() + 1).saturating_sub(POLICY_VERSIONS_KEPT);
        let kept = Arc::make_mut(&mut self.kept);
        kept.drain(..too_many);
        kept.push(Arc::clone(applied));
        self.view.send_replace(Arc::clone(&self.kept));
    }

    /// What a request comes to.
    ///
    /// # Errors
    /// When another version is in force than it expects, or the one that it names is not kept.
    pub fn decide(&self, request: ApplyPolicy, now: UnixMillis) -> Result<Decision, PolicyError> {
        let current = self.version();
        let last = self.kept.last();
        let (policy, source, reverts_to) = match request.choice {
            PolicyChoice::Text(policy, source) => (policy, source, None),
            PolicyChoice::Version(version) => {
                let earlier = self.kept.iter().find(|applied| applied.policy.version == version);
                let earlier = earlier.ok_or(PolicyError::NoSuchVersion { version })?;
                (earlier.policy.policy.clone(), earlier.source.clone(), Some(version))
            }
        };
        // Before the expectation: whoever did not hear the answer asks again, and has what was asked for.
        if last.is_some_and(|last| last.source == source && last.policy.policy == policy) {
            return Ok(Decision::Unchanged(current));
        }
        if let Some(expected) = request.expected_version.filter(|expected| *expected != current) {
            return Err(PolicyError::OtherVersion { expected, current });
        }
        Ok(Decision::Apply(Arc::new(AppliedPolicy {
            policy: Arc::new(VersionedPolicy { version: current + 1, policy }),
            source,
            principal: request.caller.principal,
            peer: request.caller.peer,
            applied_at: now,
            reason: request.reason,
            reverts_to,
        })))
    }
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This is in force already, under this version.
    Unchanged(u64),
    /// This is to be written.
    Apply(Arc<AppliedPolicy>),
}

impl Policies for Authority {
    fn apply(&self, request: ApplyPolicy) -> Pending<'_, Result<PolicyApplied, PolicyError>> {
        Box::pin(async move {
            let _room = self.room(1)?;
            let (answer, decided) = oneshot::channel();
            self.enqueue(Work::Verification(Box::new(request), answer))?;
            decided.await.map_err(|_| gone())?
        })
    }

    fn history(&self) -> Vec<Arc<AppliedPolicy>> {
        self.policies.borrow().to_vec()
    }
}

/// Applies through the authority, unless that would send members away that nobody spoke of.
pub struct PolicyGate {
    authority: Arc<Authority>,
    hub: Arc<Hub>,
}

impl PolicyGate {
    /// In front of `authority`, whose subscribers are fed by `hub`.
    #[must_use]
    pub fn new(authority: Arc<Authority>, hub: Arc<Hub>) -> Self {
        Self { authority, hub }
    }

    /// The first policy is what those who speak protocol 1 cannot follow; afterwards none of them is connected. One that
    /// joins in between is sent away with the reason: this asks, the protocol makes sure.
    fn left_behind(&self) -> Result<(), PolicyError> {
        if self.authority.current().is_some() {
            return Ok(());
        }
        let all = self.hub.subscribers();
        let cannot: Vec<_> =
            all.iter().filter(|status| status.id.is_some() && status.speaks < PROTOCOL_OF_VERIFICATION).collect();
        if cannot.is_empty() {
            return Ok(());
        }
        let name = |status: &&SubscriberStatus| match (&status.name[..], status.id) {
            ("", Some(id)) => id.to_string(),
            (name, _) => name.to_owned(),
        };
        let named = cannot.iter().take(POLICY_LAGGARDS_NAMED).map(name).collect();
        Err(PolicyError::LeavesBehind { count: cannot.len(), named })
    }
}

impl Policies for PolicyGate {
    fn apply(&self, request: ApplyPolicy) -> Pending<'_, Result<PolicyApplied, PolicyError>> {
        Box::pin(async move {
            if !request.leave_behind {
                self.left_behind()?;
            }
            self.authority.apply(request).await
        })
    }

    fn history(&self) -> Vec<Arc<AppliedPolicy>> {
        self.authority.history()
    }
}

impl VerificationPolicies for Authority {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        self.set().verification()
    }

    fn changed(&self, seen: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        Box::pin(async move {
            let last = |kept: &KeptPolicies| kept.last().map(|applied| Arc::clone(&applied.policy));
            let mut view = self.policies.clone();
            let changed = view.wait_for(|kept| last(kept) != seen).await.map(|kept| last(&kept));
            match changed {
                Ok(policy) => policy,
                // The commit thread has ended: nothing will change any more.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::Grant;
    use crate::revocation::ports::Caller;
    use crate::revocation::verification::{RouteClass, VerificationPolicy};

    fn policy(class: &str) -> VerificationPolicy {
        let name = class.to_owned();
        let class = RouteClass { name, issuers: vec![], audiences: vec![], scopes: vec![], claims: vec![] };
        VerificationPolicy::new(vec![], vec![class]).unwrap()
    }

    fn text(class: &str) -> PolicyChoice {
        PolicyChoice::Text(policy(class), format!("# {class}"))
    }

    fn request(choice: PolicyChoice, expected_version: Option<u64>) -> ApplyPolicy {
        let caller = Caller { principal: "root".into(), peer: "192.0.2.1".into(), grant: Arc::new(Grant::default()) };
        let (dry_run, leave_behind) = (false, false);
        ApplyPolicy { caller, choice, expected_version, reason: "why".into(), dry_run, leave_behind }
    }

    fn apply(table: &mut PolicyTable, choice: PolicyChoice) {
        match table.decide(request(choice, None), UnixMillis(7)).unwrap() {
            Decision::Apply(applied) => table.apply(&applied),
            Decision::Unchanged(version) => panic!("{version} was in force"),
        }
    }

    #[test]
    fn a_policy_goes_over_the_expected_version_only() {
        let mut table = PolicyTable::default();
        let decide = |table: &PolicyTable, choice, expected| table.decide(request(choice, expected), UnixMillis(7));
        let other = |expected, current| Err(PolicyError::OtherVersion { expected, current });
        assert_eq!(decide(&table, text("a"), Some(1)), other(1, 0));
        assert!(
            matches!(decide(&table, text("a"), Some(0)), Ok(Decision::Apply(applied)) if applied.policy.version == 1)
        );
        apply(&mut table, text("a"));
        assert_eq!(decide(&table, text("b"), Some(0)), other(0, 1));
        assert_eq!(decide(&table, text("a"), Some(0)), Ok(Decision::Unchanged(1)), "asked again after a lost answer");
        let reworded = PolicyChoice::Text(policy("a"), "# another text".into());
        assert!(matches!(decide(&table, reworded, Some(1)), Ok(Decision::Apply(_))), "the text counts too");
    }

    #[test]
    fn the_last_sixteen_are_kept_and_can_be_gone_back_to() {
        let mut table = PolicyTable::default();
        let view = table.view();
        (1..=20).for_each(|n| apply(&mut table, text(&n.to_string())));
        let versions: Vec<u64> = table.kept().iter().map(|applied| applied.policy.version).collect();
        assert_eq!(versions, (5..=20).collect::<Vec<u64>>());
        assert!(Arc::ptr_eq(&view.borrow(), table.kept()), "others see the same");
        let gone = table.decide(request(PolicyChoice::Version(4), None), UnixMillis(7));
        assert_eq!(gone, Err(PolicyError::NoSuchVersion { version: 4 }));
        apply(&mut table, PolicyChoice::Version(5));
        let last = table.kept().last().unwrap();
        assert_eq!((last.policy.version, &last.source[..], last.reverts_to), (21, "# 5", Some(5)));
        assert_eq!(last.policy.policy, policy("5"));
        let same = table.decide(request(PolicyChoice::Version(21), None), UnixMillis(7));
        assert_eq!(same, Ok(Decision::Unchanged(21)));
    }
}
