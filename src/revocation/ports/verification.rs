//! The verification policy in force.

use std::sync::Arc;

use crate::revocation::VerificationPolicy;

/// A policy, and the how-manieth it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedPolicy {
    /// From 1, one more with each policy that was applied.
    pub version: u64,
    /// What it says.
    pub policy: VerificationPolicy,
}

/// Knows the policy in force. Cheap enough to be asked for every token.
pub trait VerificationPolicies: Send + Sync {
    /// `None`: none was ever applied, or it is not known yet.
    fn verification(&self) -> Option<Arc<VersionedPolicy>>;
}
