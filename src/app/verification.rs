//! The verifier of a node: its policy, its set, and the issuers' keys that a task keeps fresh.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::revocation::ports::{Checks, VerificationPolicies};
use crate::security::IssuerDocuments;
use crate::security::tls::ClientFiles;
use crate::token::Verifier;
use crate::token::keys::KeyRing;

/// A verifier, and the task that follows the policy for it, so that keys are there before the first token is.
pub(super) struct Verification {
    pub(super) verifier: Verifier,
    following: JoinHandle<()>,
}

impl Verification {
    /// Begins to follow the policy. `checks` are asked for each token that was verified.
    pub(super) fn begin(
        policies: Arc<dyn VerificationPolicies>,
        checks: Arc<dyn Checks>,
        issuer_ca: Option<PathBuf>,
        clock: &Clock,
    ) -> Self {
        let files = ClientFiles { authorities: issuer_ca, ..ClientFiles::default() };
        let keys = KeyRing::new(Arc::new(IssuerDocuments::trusting(files)), Handle::current());
        let verifier = Verifier::new(policies, checks, keys, clock.clone());
        let following = tokio::spawn(verifier.clone().keep_following());
        Self { verifier, following }
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.following.abort();
    }
}
