//! The verification policy: following it, applying it, and its history.

use std::sync::Arc;

use super::{Caller, Pending, WriteError};
use crate::revocation::verification::{VerificationPolicy, VersionedPolicy};
use crate::revocation::{Position, UnixMillis};

/// The longest source text of a verification policy, in bytes.
pub const POLICY_SOURCE_BYTES_MAX: usize = 128 * 1024;
/// How many versions are kept with their texts, the newest first to be kept; they outlive the pruning of the journal.
pub const POLICY_VERSIONS_KEPT: usize = 16;
/// The most members that are named when they keep a policy from being applied.
pub const POLICY_LAGGARDS_NAMED: usize = 16;

/// Where verifiers read the verification policy that is in force: at the authority, in an agent and in a service alike.
pub trait VerificationPolicies: Send + Sync {
    /// The one in force; `None`: there is none. Cheap, but not for each token: keep what was made of it until it changes.
    fn current(&self) -> Option<Arc<VersionedPolicy>>;

    /// Waits until another one than `seen` is in force, and says which. What came and went in between is not told.
    fn changed(&self, seen: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>>;
}

/// A version of the verification policy as it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPolicy {
    /// The version and what it says.
    pub policy: Arc<VersionedPolicy>,
    /// The text that it was made of; at most [`POLICY_SOURCE_BYTES_MAX`].
    pub source: String,
    /// Who applied it.
    pub principal: String,
    /// From where.
    pub peer: String,
    /// The authority's wall clock then.
    pub applied_at: UnixMillis,
    /// Why; at most [`super::REASON_BYTES_MAX`].
    pub reason: String,
    /// The earlier version that it is the same as; `None`: it was given as a text.
    pub reverts_to: Option<u64>,
}

/// What is to be in force.
#[derive(Clone, Debug)]
pub enum PolicyChoice {
    /// A new policy, and its text.
    Text(VerificationPolicy, String),
    /// What an earlier version said, among those that are kept.
    Version(u64),
}

/// Put a verification policy in force.
#[derive(Clone, Debug)]
pub struct ApplyPolicy {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub choice: PolicyChoice,
    /// Only over this version; 0: only over none.
    pub expected_version: Option<u64>,
    /// For the audit trail.
    pub reason: String,
    /// Decide, change nothing.
    pub dry_run: bool,
    /// Members that cannot follow a state with a verification policy are left behind.
    pub leave_behind: bool,
}

/// What came of an [`ApplyPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyApplied {
    /// Where it is in force; `None` in a dry run.
    pub position: Option<Position>,
    /// The version in force; in a dry run the one that would be.
    pub version: u64,
    /// The very same was in force already: nothing was written.
    pub unchanged: bool,
}

/// Why a verification policy was not applied. Nothing was changed, unless the outcome of a write is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Somebody applied another one meanwhile.
    #[error("version {current} is in force, not {expected}: look at it before going over it")]
    OtherVersion {
        /// What the caller expected.
        expected: u64,
        /// What is in force; 0: none.
        current: u64,
    },
    /// The version is not kept, or never was.
    #[error("version {version} of the verification policy is not among the last {POLICY_VERSIONS_KEPT}")]
    NoSuchVersion {
        /// What was asked for.
        version: u64,
    },
    /// These are connected and would be sent away.
    #[error(
        "{count} connected members cannot follow a verification policy and would be sent away, so upgrade them first: {}",
        .named.join(", ")
    )]
    LeavesBehind {
        /// How many.
        count: usize,
        /// The names of some, at most [`POLICY_LAGGARDS_NAMED`].
        named: Vec<String>,
    },
    /// It was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Applies verification policies, and tells which there were.
pub trait Policies: Send + Sync {
    /// Puts one in force: durable, and published to every replica, before the answer.
    fn apply(&self, request: ApplyPolicy) -> Pending<'_, Result<PolicyApplied, PolicyError>>;
    /// The last [`POLICY_VERSIONS_KEPT`], the oldest first; an earlier one is in the journal until that is pruned.
    fn history(&self) -> Vec<Arc<AppliedPolicy>>;
}
