//! The verification policy: following it, applying it, and its history.

use std::sync::Arc;

use super::Pending;
use crate::revocation::verification::VersionedPolicy;

/// The longest source text of a verification policy, in bytes.
pub const POLICY_SOURCE_BYTES_MAX: usize = 128 * 1024;
/// How many versions are kept with their texts, the newest first to be kept; they outlive the pruning of the journal.
pub const POLICY_VERSIONS_KEPT: usize = 16;

/// Where verifiers read the verification policy that is in force: at the authority, in an agent and in a service alike.
pub trait VerificationPolicies: Send + Sync {
    /// The one in force; `None`: there is none. Cheap, but not for each token: keep what was made of it until it changes.
    fn current(&self) -> Option<Arc<VersionedPolicy>>;

    /// Waits until another one than `seen` is in force, and says which. What came and went in between is not told.
    fn changed(&self, seen: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>>;
}
