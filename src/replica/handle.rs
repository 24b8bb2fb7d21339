//! What readers share: the set that is served, and how far it is to be trusted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::counters::{Counters, Counts, count};
use super::issuers::LoggedIssuers;
use crate::clock::Clock;
use crate::replication::follower::{FollowerState, SetSwap};
use crate::replication::frames::PolicyInForce;
use crate::replication::{FollowerStatus, Moment, PublicKey};
use crate::revocation::ports::{Answer, Checks, Pending, VerificationPolicies};
use crate::revocation::{
    Claims, Digest, Epoch, Finding, LifetimePolicy, Minute, Policy, Position, Revision, RevocationSet, Shape,
    UnknownCause, VersionedPolicy, WhenStale,
};

/// The most sets of earlier epochs that stay in force. A further one cannot be kept, and misses are unknown from then on.
pub(super) const RESIDUES_MAX: usize = 4;
/// Named where there is no position yet.
const NO_EPOCH: Epoch = Epoch { generation: 0, id: [0; 16] };

/// An in-memory copy that follows the authority. Any number of threads check it; one driver feeds it. Once that has ended,
/// misses are unknown (`STALE`): the authority no longer counts on anybody who asks here.
pub struct Replica {
    view: ArcSwap<View>,
    statuses: watch::Sender<FollowerStatus>,
    /// The verification policy, for those who wait for another.
    verification: watch::Sender<Option<Arc<VersionedPolicy>>>,
    local: LocalPolicy,
    clock: Clock,
    counters: Counters,
    logged_issuers: LoggedIssuers,
}

/// What counts here besides the logged policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalPolicy {
    pub(super) staleness: Option<PolicyInForce>,
    pub(super) lifetime: LifetimePolicy,
    /// It serves stale whatever policies say.
    pub(super) break_glass: bool,
}

/// What one check reads; replaced as a whole.
struct View {
    set: Option<Arc<RevocationSet>>,
    epoch: Epoch,
    status: FollowerStatus,
    /// Sets of earlier epochs from which the present one does not go on: what they revoke stays revoked.
    residues: Vec<Residue>,
    /// One more would have had to be kept: of this generation.
    residue_lost: Option<u64>,
    /// Nobody feeds it any more.
    ended: bool,
}

/// A set of an earlier epoch that stays in force.
#[derive(Clone)]
pub(super) struct Residue {
    set: Arc<RevocationSet>,
    /// Of its epoch.
    generation: u64,
    /// When its last entry expires.
    until: Minute,
}

impl Residue {
    pub(super) fn new(set: Arc<RevocationSet>, generation: u64) -> Self {
        let until = set.stamp().latest_expiry;
        Self { set, generation, until }
    }
}

/// How a replica is.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// Where it is in its life.
    pub state: FollowerState,
    /// Everything up to here is in force; `None` before the first verified set.
    pub position: Option<Position>,
    /// The epoch followed; `None` before the first verified set.
    pub epoch: Option<Epoch>,
    /// The digest at that position.
    pub digest: Digest,
    /// The expiry floor.
    pub floor: Minute,
    /// The logged policy.
    pub logged: Policy,
    /// The key that words of the authority are verified under, once known.
    pub public_key: Option<PublicKey>,
    /// How many revisions it is known to lack.
    pub lag: u64,
    /// The age of the authority's last signed word about the set held; [`Duration::MAX`] when there was none.
    pub staleness: Duration,
    /// The set is staler than policy accepts, or nobody feeds it any more.
    pub stale: bool,
    /// It has once caught up, and was not found to differ from the authority since.
    pub ready: bool,
    /// How many entries are live.
    pub entries: u64,
    /// The active shapes.
    pub shapes: Vec<Shape>,
    /// How many sets of earlier epochs stay in force.
    pub residues: usize,
    /// The stricter of the logged and the local policy.
    pub policy: PolicyInForce,
    /// Counts since it began.
    pub counts: Counts,
}

/// The replica did not become ready in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not ready within {within:?}: {}, {}", .state.name(), .position.map_or_else(|| "no set yet".to_owned(), |p| format!("at {p}")))]
pub struct NotReady {
    /// How long was waited.
    pub within: Duration,
    /// Where the replica was then.
    pub state: FollowerState,
    /// How far it had come.
    pub position: Option<Position>,
}

impl Replica {
    /// Holds nothing yet.
    pub(super) fn new(status: FollowerStatus, local: LocalPolicy, clock: Clock) -> Self {
        let view = View { set: None, epoch: NO_EPOCH, status, residues: Vec::new(), residue_lost: None, ended: false };
        Self {
            view: ArcSwap::from_pointee(view),
            statuses: watch::Sender::new(status),
            verification: watch::Sender::new(None),
            local,
            clock,
            counters: Counters::default(),
            logged_issuers: LoggedIssuers::new(),
        }
    }

    /// Whether a token with these claims is revoked. With `at_least`, only from a set that has come that far.
    ///
    /// Synchronous, without I/O; a miss takes no lock and allocates nothing.
    pub fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        let view = self.view.load();
        let now = self.now();
        let staleness = view.status.staleness(now);
        let mut finding = view.find(claims, now);
        if finding.beyond_horizon && finding.hit.is_none() && self.local.lifetime == LifetimePolicy::Enforce {
            finding.doubt = finding.doubt.or(Some(UnknownCause::BeyondHorizon));
        }
        let doubt = view.doubt().or_else(|| self.stale_doubt(&view.status, staleness));
        if view.status.state == FollowerState::Diverged {
            // What was merged in since is in force, but it is no verified revision.
            finding.revision = finding.revision.min(view.status.revision);
        }
        self.note(&finding, doubt.as_ref(), &view.status, staleness, claims);
        Answer::of(finding, view.epoch, staleness, doubt, at_least)
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        let view = self.view.load_full();
        let status = &view.status;
        let staleness = status.staleness(self.now());
        let set = view.set.as_ref();
        let policy = self.policy(status);
        ReplicaStatus {
            state: status.state,
            position: status.position(),
            epoch: status.epoch,
            digest: status.digest,
            floor: set.map_or_else(Minute::default, |set| set.floor()),
            logged: status.policy,
            public_key: status.public_key,
            lag: status.lag(),
            staleness,
            stale: view.ended || staleness > policy.max_staleness,
            ready: status.ready,
            entries: set.map_or(0, |set| set.entries()),
            shapes: set.map(|set| set.shapes()).unwrap_or_default(),
            residues: view.residues.len(),
            policy,
            counts: self.counters.counts(),
        }
    }

    /// The generations of the earlier epochs whose sets stay in force.
    #[must_use]
    pub fn residues(&self) -> Vec<u64> {
        self.view.load().residues.iter().map(|residue| residue.generation).collect()
    }

    /// Waits until it has once caught up with a server.
    ///
    /// # Errors
    /// When it has not `within` that time; it goes on trying.
    pub async fn ready(&self, within: Duration) -> Result<(), NotReady> {
        let mut statuses = self.statuses.subscribe();
        // The sender lives as long as `self`: waiting can only succeed or take too long.
        let waited = tokio::time::timeout(within, statuses.wait_for(|status| status.ready)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let status = &self.view.load().status;
                Err(NotReady { within, state: status.state, position: status.position() })
            }
        }
    }

    /// Waits until it has come as far as `position`; after a write, with the position it returned.
    ///
    /// # Errors
    /// When it has not `within` that time.
    pub async fn reached(&self, position: Position, within: Duration) -> Result<(), NotReady> {
        let has_come = |status: &FollowerStatus| {
            status.position().is_some_and(|here| here.epoch == position.epoch && here.revision >= position.revision)
        };
        let mut statuses = self.statuses.subscribe();
        let waited = tokio::time::timeout(within, statuses.wait_for(has_come)).await;
        if matches!(waited, Ok(Ok(_))) {
            return Ok(());
        }
        let status = &self.view.load().status;
        Err(NotReady { within, state: status.state, position: status.position() })
    }

    /// The status after each change; a slow reader sees the latest only. For every single revision use
    /// [`super::Observe`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<FollowerStatus> {
        self.statuses.subscribe()
    }

    /// The verification policy of the set held; `None`: there is none. Takes no lock.
    #[must_use]
    pub fn verification(&self) -> Option<Arc<VersionedPolicy>> {
        self.view.load().set.as_ref().and_then(|set| set.verification())
    }

    /// The verification policy after each change; a slow reader sees the latest only.
    #[must_use]
    pub fn verifications(&self) -> watch::Receiver<Option<Arc<VersionedPolicy>>> {
        self.verification.subscribe()
    }

    /// What happened how often.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Now, on both clocks.
    pub(super) fn now(&self) -> Moment {
        Moment { boot: self.clock.boot().0, wall: self.clock.wall() }
    }

    /// Takes over sets that stay in force, before anything else is published; `lost` names the last generation of
    /// which some are not known.
    pub(super) fn load_residues(&self, residues: Vec<Residue>, lost: Option<u64>) {
        let status = self.view.load().status;
        self.view.store(Arc::new(View {
            set: None,
            epoch: NO_EPOCH,
            status,
            residues,
            residue_lost: lost,
            ended: false,
        }));
    }

    /// Publishes what the driver was told to: a set to swap in, or the status alone.
    pub(super) fn publish(&self, swap: Option<&SetSwap>, status: FollowerStatus) {
        let now = self.view.load();
        let mut next = View {
            set: now.set.clone(),
            epoch: now.epoch,
            status,
            residues: now.residues.clone(),
            residue_lost: now.residue_lost,
            ended: now.ended,
        };
        if let Some(swap) = swap {
            next.swap(swap);
        }
        next.release_residues();
        let verification = next.set.as_ref().and_then(|set| set.verification());
        self.view.store(Arc::new(next));
        self.verification.send_if_modified(|before| {
            let changed = *before != verification;
            *before = verification;
            changed
        });
        self.statuses.send_replace(status);
    }

    /// Nobody will feed it any more, and the authority is about to be told so: whoever goes on asking must not take what is
    /// left for an answer. Misses are unknown (`STALE`) from now on, whatever policies say; what is revoked stays so.
    pub(super) fn end(&self) {
        let now = self.view.load();
        let mut status = now.status;
        status.ready = false;
        let (set, residues) = (now.set.clone(), now.residues.clone());
        let View { epoch, residue_lost, .. } = **now;
        self.view.store(Arc::new(View { set, epoch, status, residues, residue_lost, ended: true }));
        self.statuses.send_replace(status);
    }

    /// The stricter of the logged and the local policy.
    pub(super) fn policy(&self, status: &FollowerStatus) -> PolicyInForce {
        PolicyInForce::resolve(&status.policy, self.local.staleness, self.local.break_glass)
    }

    fn stale_doubt(&self, status: &FollowerStatus, staleness: Duration) -> Option<UnknownCause> {
        let policy = self.policy(status);
        (policy.when_stale == WhenStale::Deny && staleness > policy.max_staleness).then_some(UnknownCause::Stale)
    }

    /// Counts what is out of the ordinary.
    #[inline]
    fn note(
        &self,
        finding: &Finding,
        doubt: Option<&UnknownCause>,
        status: &FollowerStatus,
        staleness: Duration,
        claims: &Claims,
    ) {
        if finding.hit.is_some() {
            count(&self.counters.revoked);
            if finding.untimed {
                count(&self.counters.untimed);
            }
            return;
        }
        if finding.beyond_horizon {
            self.note_beyond_horizon(status, claims);
        }
        if doubt.is_some() || finding.doubt.is_some() {
            count(&self.counters.unknown);
        } else if staleness > self.policy(status).max_staleness {
            count(&self.counters.served_stale);
        }
    }

    #[cold]
    fn note_beyond_horizon(&self, status: &FollowerStatus, claims: &Claims) {
        count(&self.counters.beyond_horizon);
        let issuer = claims.value("iss").unwrap_or_default();
        let lifetime_policy = status.policy.lifetime_policy.max(self.local.lifetime);
        if lifetime_policy == LifetimePolicy::Warn && self.logged_issuers.is_new(issuer) {
            tracing::warn!(
                issuer,
                "tokens of this issuer outlive revocations: raise max_token_lifetime, or enforce it (lifetime_policy)"
            );
        }
    }
}

impl View {
    /// Looks the claims up in every set that is in force.
    #[inline]
    fn find(&self, claims: &Claims, now: Moment) -> Finding {
        let now = now.wall.seconds();
        let mut finding = match &self.set {
            Some(set) => set.check(claims, now),
            None => Finding { revision: Revision(0), hit: None, doubt: None, beyond_horizon: false, untimed: false },
        };
        for residue in &self.residues {
            if finding.hit.is_some() {
                break;
            }
            let old = residue.set.check(claims, now);
            (finding.hit, finding.untimed) = (old.hit, old.untimed);
            finding.doubt = finding.doubt.or(old.doubt).filter(|_| finding.hit.is_none());
        }
        finding
    }

    /// Why a miss in these sets does not mean that nothing revokes the token, staleness aside.
    #[inline]
    fn doubt(&self) -> Option<UnknownCause> {
        match () {
            () if self.status.over_limit => Some(UnknownCause::OverLimit),
            () if self.set.is_none() => Some(UnknownCause::NeverSynced),
            () if self.ended => Some(UnknownCause::Stale),
            () if self.residue_lost.is_some() || self.status.state == FollowerState::Diverged => {
                Some(UnknownCause::Diverged)
            }
            () => None,
        }
    }

    fn swap(&mut self, swap: &SetSwap) {
        let old = self.set.replace(Arc::clone(&swap.set));
        let generation = std::mem::replace(&mut self.epoch, swap.epoch).generation;
        let loses_history = swap.epoch_change.is_some_and(|change| !change.ancestor);
        if let Some(set) = old.filter(|_| loses_history) {
            if self.residues.len() < RESIDUES_MAX {
                self.residues.push(Residue::new(set, generation));
            } else {
                self.residue_lost = self.residue_lost.max(Some(generation));
            }
        }
    }

    /// Lets go of what an operator gave up, and of what has expired.
    fn release_residues(&mut self) {
        if self.residues.is_empty() && self.residue_lost.is_none() {
            return;
        }
        let accepted = self.status.policy.losses_accepted;
        let floor = self.set.as_ref().map_or_else(Minute::default, |set| set.floor());
        self.residues.retain(|old| old.generation > accepted && (old.until > floor || old.until == Minute::NEVER));
        self.residue_lost = self.residue_lost.filter(|generation| *generation > accepted);
    }
}

impl Checks for Replica {
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        Replica::check(self, claims, at_least)
    }
}

impl VerificationPolicies for Replica {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        self.verification()
    }

    fn changed(&self, seen: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        Box::pin(async move {
            let mut changes = self.verification.subscribe();
            // The sender lives as long as `self`.
            let changed = changes.wait_for(|now| *now != seen).await;
            changed.map_or_else(|_| self.verification(), |now| now.clone())
        })
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("status", &self.view.load().status).finish_non_exhaustive()
    }
}
