//! What a verifier asks of a client, and keeps it going by.

use std::sync::Arc;

use crate::replica::Driver;
use crate::revocation::ports::{Answer, Checks, Pending, VerificationPolicies};
use crate::revocation::verification::VersionedPolicy;
use crate::revocation::{Claims, Position};

/// The replica, following as long as this lives.
pub(super) struct Following(pub(super) Arc<Driver>);

impl Checks for Following {
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        self.0.replica().check(claims, at_least)
    }
}

impl VerificationPolicies for Following {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        self.0.replica().verification()
    }

    fn changed(&self, seen: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        self.0.replica().changed(seen)
    }
}
