//! Counts what a node answers.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::authority::{Commit, Image, Publish, Published};
use crate::clock::Clock;
use crate::revocation::ports::{
    Answer, Checks, Pending, ReinstateReply, ReinstateRequest, RevokeReply, RevokeRequest, WriteError, Writes,
};
use crate::revocation::{Claims, Position, Revision, UnknownCause, Verdict};
use crate::surface::Node;
use crate::telemetry::{Cause, Metrics, WriteOutcome};

/// The most issuers that are logged for tokens that outlive entries, each once.
const LOGGED_ISSUERS_MAX: usize = 64;

/// The same node, counted in `metrics`.
#[must_use]
pub fn metered(node: Node, metrics: &Arc<Metrics>, clock: &Clock) -> Node {
    Node {
        checks: Arc::new(MeteredChecks {
            inner: node.checks,
            metrics: Arc::clone(metrics),
            logged_issuers: Mutex::default(),
        }),
        writes: Arc::new(MeteredWrites { inner: node.writes, metrics: Arc::clone(metrics), clock: clock.clone() }),
        ..node
    }
}

struct MeteredChecks {
    inner: Arc<dyn Checks>,
    metrics: Arc<Metrics>,
    logged_issuers: Mutex<HashSet<String>>,
}

impl MeteredChecks {
    /// A token that outlives entries points at an issuer with another idea of lifetimes.
    fn warn_beyond_horizon(&self, claims: &Claims) {
        let issuer = claims.value("iss").unwrap_or("(none)");
        let mut logged = self.logged_issuers.lock();
        if logged.len() < LOGGED_ISSUERS_MAX && !logged.contains(issuer) {
            logged.insert(issuer.to_owned());
            tracing::warn!(
                issuer,
                "tokens live longer than max_token_lifetime: a revocation may be forgotten too early"
            );
        }
    }
}

impl Checks for MeteredChecks {
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        let answer = self.inner.check(claims, at_least);
        if answer.untimed {
            self.metrics.untimed_tokens.inc();
        }
        if answer.beyond_horizon {
            self.metrics.beyond_horizon_tokens.inc();
            self.warn_beyond_horizon(claims);
        }
        match &answer.verdict {
            Verdict::NotRevoked => self.metrics.count_not_revoked(),
            Verdict::Revoked(_) => self.metrics.count_revoked(),
            Verdict::Unknown(cause) => self.metrics.count_unknown(label(cause)),
        }
        answer
    }
}

fn label(cause: &UnknownCause) -> Cause {
    match cause {
        UnknownCause::NeverSynced => Cause::NeverSynced,
        UnknownCause::Stale => Cause::Stale,
        UnknownCause::Behind => Cause::Behind,
        UnknownCause::Diverged => Cause::Diverged,
        UnknownCause::OverLimit => Cause::OverLimit,
        UnknownCause::Incomplete(_) => Cause::Incomplete,
        UnknownCause::TooManyCandidates => Cause::TooManyCandidates,
        UnknownCause::BeyondHorizon => Cause::BeyondHorizon,
    }
}

struct MeteredWrites {
    inner: Arc<dyn Writes>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Writes for MeteredWrites {
    fn revoke(&self, request: RevokeRequest) -> Pending<'_, Result<RevokeReply, WriteError>> {
        Box::pin(async move {
            let (begun, dry_run) = (self.clock.boot(), request.dry_run);
            let reply = self.inner.revoke(request).await;
            let outcome = outcome(reply.as_ref().map(|reply| reply.repeated), dry_run);
            if let (WriteOutcome::Accepted, Ok(reply)) = (outcome, &reply) {
                let accepted = reply.outcomes.iter().filter(|outcome| !outcome.already_expired).count();
                self.metrics.revocations.inc_by(accepted as u64);
            }
            self.metrics.count_write(outcome, self.clock.boot().since(begun));
            reply
        })
    }

    fn reinstate(&self, request: ReinstateRequest) -> Pending<'_, Result<ReinstateReply, WriteError>> {
        Box::pin(async move {
            let (begun, dry_run) = (self.clock.boot(), request.dry_run);
            let reply = self.inner.reinstate(request).await;
            let outcome = outcome(reply.as_ref().map(|reply| reply.repeated), dry_run);
            if let (WriteOutcome::Accepted, Ok(reply)) = (outcome, &reply) {
                let undone: usize = reply.undone.iter().map(Vec::len).sum();
                self.metrics.reinstatements.inc_by(undone as u64);
            }
            self.metrics.count_write(outcome, self.clock.boot().since(begun));
            reply
        })
    }
}

fn outcome(repeated: Result<bool, &WriteError>, dry_run: bool) -> WriteOutcome {
    match repeated {
        Ok(true) => WriteOutcome::Repeated,
        Ok(false) if dry_run => WriteOutcome::DryRun,
        Ok(false) => WriteOutcome::Accepted,
        Err(WriteError::Invalid(_)) => WriteOutcome::Invalid,
        Err(WriteError::NotPermitted { .. }) => WriteOutcome::NotPermitted,
        Err(WriteError::TooManyShapes { .. } | WriteError::TooManyEntries { .. } | WriteError::Overloaded) => {
            WriteOutcome::OverLimit
        }
        Err(WriteError::RequestIdReused) => WriteOutcome::RequestIdReused,
        Err(WriteError::NotTheAuthority { .. }) => WriteOutcome::NotTheAuthority,
        Err(WriteError::Unavailable(_)) => WriteOutcome::Unavailable,
        Err(WriteError::OutcomeUnknown(_)) => WriteOutcome::OutcomeUnknown,
    }
}

/// Passes revisions on and measures their commits.
pub struct MeteredPublish {
    inner: Arc<dyn Publish>,
    metrics: Arc<Metrics>,
}

impl MeteredPublish {
    /// Measures what goes to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Publish>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl Publish for MeteredPublish {
    fn publish(&self, published: Published) {
        self.inner.publish(published);
    }

    fn offer_snapshot(&self, image: Arc<Image>) {
        self.inner.offer_snapshot(image);
    }

    fn pruned(&self, oldest: Revision) {
        self.inner.pruned(oldest);
    }

    fn measured(&self, commit: Commit) {
        self.metrics.commit_seconds.observe(commit.took.as_secs_f64());
        self.metrics.commit_requests.observe(commit.requests as f64);
    }
}
