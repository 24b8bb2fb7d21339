//! What verifies access tokens: for the surfaces by the verification policy, for the door by the principals file. Each has keys
//! of its own, so that neither can bring the other to trust somebody.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::revocation::ports::{Checks, VerificationPolicies};
use crate::security::IssuerDocuments;
use crate::security::access::Tokens;
use crate::security::tls::ClientFiles;
use crate::token::Verifier;
use crate::token::keys::{Fetch, KeyRing};

/// Where issuers' documents come from.
pub(super) struct Issuers {
    fetch: Arc<dyn Fetch>,
    clock: Clock,
}

/// A verifier that has keys fetched as soon as a policy names their issuer.
pub(super) struct Following {
    pub(super) verifier: Verifier,
    _follow: AbortOnDropHandle<()>,
}

impl Issuers {
    /// Over TLS that trusts whom these files say.
    pub(super) fn trusting(files: ClientFiles, clock: Clock) -> Self {
        Self { fetch: Arc::new(IssuerDocuments::trusting(files)), clock }
    }

    /// For the door.
    pub(super) fn tokens(&self, checks: Arc<dyn Checks>) -> Tokens {
        Tokens { checks, keys: self.keys() }
    }

    /// For the surfaces.
    pub(super) fn verifier(&self, policies: Arc<dyn VerificationPolicies>, checks: Arc<dyn Checks>) -> Following {
        let verifier = Verifier::new(Arc::clone(&policies), checks, self.keys(), self.clock.clone());
        let follow = AbortOnDropHandle::new(tokio::spawn(follow(policies, verifier.clone())));
        Following { verifier, _follow: follow }
    }

    fn keys(&self) -> KeyRing {
        KeyRing::new(Arc::clone(&self.fetch), Handle::current())
    }
}

async fn follow(policies: Arc<dyn VerificationPolicies>, verifier: Verifier) {
    let mut seen = None;
    loop {
        seen = policies.changed(seen).await;
        // Looking is what has keys fetched.
        let version = verifier.policy().map(|current| current.version);
        tracing::info!(version, "the verification policy has changed");
    }
}
