//! What became of requests: counted by reason, and told in the log where somebody should look.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::{info, warn};

use crate::security::log_limit::LogLimit;
use crate::token::Decision;

/// How many requests were allowed, and how many were not, by reason; while a layer only observes, what would have become of
/// them. Counts from the start of the process.
#[derive(Debug, Default)]
pub struct Tally {
    allowed: AtomicU64,
    /// By [`crate::token::Reason::name`] and [`crate::token::Unclear::name`], and so of a few kinds only.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    logged: LogLimit,
}

impl Tally {
    /// Requests with a token that is accepted.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Requests that were refused for this reason: a small word (`expired`, `revoked`) where the token was denied, a large one
    /// (`STALE`, `NO_KEYS`) where it could not be told.
    #[must_use]
    pub fn refused(&self, reason: &str) -> u64 {
        self.refused.lock().get(reason).copied().unwrap_or_default()
    }

    /// Every reason that there was, and how often; sorted.
    #[must_use]
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        self.refused.lock().iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// At most 20 lines in 10 s, none of which tells whose token it is.
    pub(super) fn count(&self, decision: &Decision, class: Option<&str>, observes: bool) {
        let (reason, is_unclear) = match decision {
            Decision::Allowed(_) => {
                self.allowed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Decision::Denied(denied) => (denied.reason.name(), false),
            Decision::Unclear(unclear) => (unclear.name(), true),
        };
        *self.refused.lock().entry(reason).or_default() += 1;
        // A denial is everyday; what cannot be told is for somebody to mend.
        if !(observes || is_unclear) {
            return;
        }
        let Some(left_out) = self.logged.admit() else { return };
        if observes {
            info!(reason, ?class, left_out, "a request would be refused, and is let through");
        } else {
            warn!(reason, ?class, left_out, "cannot tell whether a token is accepted");
        }
    }
}
