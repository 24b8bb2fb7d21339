//! Verification policies applied, shown and listed for callers.

use std::sync::Arc;

use super::ask::{Desk, Refusal};
use super::parse;
use super::policy_file::render_policy;
use crate::revocation::VersionedPolicy;
use crate::revocation::ports::{AppliedPolicy, Caller, OperateError, Policies, PolicyError, WriteError};
use crate::wire::{self, pb};

impl Desk {
    pub(super) async fn apply_policy(
        &self,
        message: pb::ApplyPolicyRequest,
        caller: Caller,
    ) -> Result<pb::ApplyPolicyResponse, Refusal> {
        let policies = self.policies()?;
        let applied = policies.apply(parse::apply_policy(message, caller)?).await?;
        Ok(pb::ApplyPolicyResponse {
            version: applied.version,
            unchanged: applied.unchanged,
            position: applied.position.map(wire::position_message),
        })
    }

    /// An agent shows what is in force, as it knows it: what is said, not by whom.
    pub(super) fn get_policy(&self, message: &pb::GetPolicyRequest) -> Result<pb::GetPolicyResponse, Refusal> {
        let kept = self.node.policies.as_ref().map(|policies| policies.history()).unwrap_or_default();
        let found = match message.version {
            0 => kept.last(),
            version => kept.iter().find(|applied| applied.policy.version == version),
        };
        if let Some(applied) = found {
            return Ok(pb::GetPolicyResponse {
                policy: Some(record(applied)),
                text: applied.source.clone(),
                rendered: false,
            });
        }
        let current = self.node.verification.current();
        let wanted = current.filter(|now| message.version == 0 || message.version == now.version);
        match wanted {
            Some(now) => Ok(rendered(&now)),
            None if message.version == 0 => Err(Refusal::NoPolicy),
            None => Err(PolicyError::NoSuchVersion { version: message.version }.into()),
        }
    }

    pub(super) fn list_policies(&self) -> Result<pb::ListPoliciesResponse, Refusal> {
        let history = self.policies()?.history();
        Ok(pb::ListPoliciesResponse { policies: history.iter().rev().map(|applied| record(applied)).collect() })
    }

    /// Whoever applies them; an agent says whom to ask.
    fn policies(&self) -> Result<Arc<dyn Policies>, Refusal> {
        let unknown = || match self.node.reports.status().following {
            Some(following) => WriteError::NotTheAuthority { upstream: following.upstream }.into(),
            None => OperateError::Unsupported.into(),
        };
        self.node.policies.clone().ok_or_else(unknown)
    }
}

fn record(applied: &AppliedPolicy) -> pb::PolicyRecord {
    pb::PolicyRecord {
        version: applied.policy.version,
        applied_at_millis: applied.applied_at.0,
        applied_by: applied.principal.clone(),
        peer: applied.peer.clone(),
        reason: applied.reason.clone(),
        reverts_to: applied.reverts_to.unwrap_or(0),
    }
}

fn rendered(now: &VersionedPolicy) -> pb::GetPolicyResponse {
    let policy = Some(pb::PolicyRecord { version: now.version, ..pb::PolicyRecord::default() });
    pb::GetPolicyResponse { policy, text: render_policy(&now.policy), rendered: true }
}
