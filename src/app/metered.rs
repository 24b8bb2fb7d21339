//! Counts what a node answers.

use std::sync::Arc;

use crate::clock::Clock;
use crate::revocation::ports::{
    Answer, Checks, Pending, ReinstateReply, ReinstateRequest, RevokeReply, RevokeRequest, WriteError, Writes,
};
use crate::revocation::{Claims, Position, UnknownCause, Verdict};
use crate::surface::Node;
use crate::telemetry::{Cause, Metrics, WriteOutcome};

/// The same node, counted in `metrics`.
#[must_use]
pub fn metered(node: Node, metrics: &Arc<Metrics>, clock: &Clock) -> Node {
    Node {
        checks: Arc::new(MeteredChecks { inner: node.checks, metrics: Arc::clone(metrics) }),
        writes: Arc::new(MeteredWrites { inner: node.writes, metrics: Arc::clone(metrics), clock: clock.clone() }),
        ..node
    }
}

struct MeteredChecks {
    inner: Arc<dyn Checks>,
    metrics: Arc<Metrics>,
}

impl Checks for MeteredChecks {
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        let answer = self.inner.check(claims, at_least);
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
        Err(WriteError::TooManyShapes { .. } | WriteError::TooManyEntries { .. } | WriteError::Overloaded) => {
            WriteOutcome::OverLimit
        }
        Err(WriteError::RequestIdReused) => WriteOutcome::RequestIdReused,
        Err(WriteError::Unavailable(_)) => WriteOutcome::Unavailable,
        Err(WriteError::OutcomeUnknown(_)) => WriteOutcome::OutcomeUnknown,
    }
}
