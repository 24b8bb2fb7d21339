//! The keys of all issuers of a policy, fetched and kept fresh in the background.
//!
//! ```text
//! policy ── follow ──▶ one Source per issuer ── task ──▶ discovery, URL, file ──▶ KeySet
//!                            ▲                                                      │
//! verifier ── newer ─────────┘   one fetch for all who wait       keys ◀────────────┘
//! ```
//!
//! # Invariants
//! - Q1. Looking keys up waits for nothing.
//! - Q2. A fetch that fails takes no keys away: the last good ones stay, however long the issuer is down.
//! - Q3. However many tokens name keys that are not known, an issuer is asked at most once in [`FORCED_EVERY`], by one request
//!   at a time.
//! - Q4. Keys come from where the policy says, or where the issuer's own discovery document does; redirects are not followed.

pub(crate) mod discovery;
mod fetch;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::KeySet;
use crate::revocation::VerificationPolicy;
pub use fetch::{Fetch, FetchError, Fetched, Fetching};
use source::Source;
pub use source::{FETCH_WITHIN, FORCED_EVERY, REFRESH_EVERY, REFRESH_EVERY_MAX, REFRESH_EVERY_MIN, SourceStatus};

/// The keys of all issuers. Clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<Ring>);

struct Ring {
    fetch: Arc<dyn Fetch>,
    runtime: Handle,
    sources: ArcSwap<BTreeMap<String, Arc<Source>>>,
    /// Held while the policy is followed, so that two do not overtake each other.
    following: Mutex<()>,
}

impl KeyRing {
    /// No keys yet; they will be fetched with `fetch`, by tasks of `runtime`.
    #[must_use]
    pub fn new(fetch: Arc<dyn Fetch>, runtime: Handle) -> Self {
        Self(Arc::new(Ring { fetch, runtime, sources: ArcSwap::default(), following: Mutex::default() }))
    }

    /// Fetches the keys of these issuers from now on, and no others. What is known of an issuer stays as long as the policy
    /// takes its keys from the same place.
    pub fn follow(&self, policy: &VerificationPolicy) {
        let _turn = self.0.following.lock();
        let before = self.0.sources.load();
        let sources = policy.issuers().iter().map(|issuer| {
            let kept = before.get(&issuer.iss).filter(|source| source.place() == &issuer.keys);
            let source = kept.cloned().unwrap_or_else(|| {
                Arc::new(Source::spawn(&issuer.iss, issuer.keys.clone(), Arc::clone(&self.0.fetch), &self.0.runtime))
            });
            (issuer.iss.clone(), source)
        });
        self.0.sources.store(Arc::new(sources.collect()));
    }

    /// The keys of an issuer; `None`: there are none yet.
    #[must_use]
    pub fn keys(&self, iss: &str) -> Option<Arc<KeySet>> {
        self.0.sources.load().get(iss)?.keys()
    }

    /// Asks for newer keys of an issuer, and waits until there was an answer; `false` when none can be had so soon after the
    /// last, or it takes longer than `within`.
    pub async fn newer(&self, iss: &str, within: Duration) -> bool {
        let source = self.0.sources.load().get(iss).cloned();
        match source {
            Some(source) => source.newer(within).await,
            None => false,
        }
    }

    /// How each source is, by issuer.
    #[must_use]
    pub fn status(&self) -> Vec<SourceStatus> {
        self.0.sources.load().values().map(|source| source.status()).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} issuers)", self.0.sources.load().len())
    }
}
