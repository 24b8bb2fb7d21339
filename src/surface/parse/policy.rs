//! Requests about the verification policy.

use super::reason;
use crate::revocation::ports::{ApplyPolicy, Caller, PolicyChoice};
use crate::surface::policy_file::parse_policy;
use crate::surface::violations::Violations;
use crate::wire::pb;

/// What is to be in force.
pub(crate) fn apply_policy(message: pb::ApplyPolicyRequest, caller: Caller) -> Result<ApplyPolicy, Violations> {
    use pb::apply_policy_request::Policy;
    let mut violations = Violations::default();
    reason(&message.reason, "reason", &mut violations);
    let choice = match message.policy {
        Some(Policy::Text(text)) => match parse_policy(&text) {
            Ok(policy) => Some(PolicyChoice::Text(policy, text)),
            Err(error) => {
                violations.add("text", error);
                None
            }
        },
        Some(Policy::RevertTo(0)) => {
            violations.add("revert_to", "is at least 1, 0 given");
            None
        }
        Some(Policy::RevertTo(version)) => Some(PolicyChoice::Version(version)),
        None => {
            violations.add("policy", "is required: a text or a version to go back to");
            None
        }
    };
    let pb::ApplyPolicyRequest { expected_version, reason, dry_run, leave_behind, .. } = message;
    let choice = violations.or(choice)?;
    Ok(ApplyPolicy { caller, choice, expected_version, reason, dry_run, leave_behind })
}
