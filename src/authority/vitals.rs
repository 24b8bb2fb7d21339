//! What the commit thread tells the rest of the process, without being waited for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::revocation::ports::AuditHead;
use crate::revocation::{Chain, Revision, UnixMillis};

use super::state::State;

/// The commit thread's condition, readable from anywhere.
#[derive(Debug)]
pub struct Vitals {
    refused: Mutex<Option<String>>,
    /// The refusal may pass: the next tick tries again.
    passing: AtomicBool,
    clock_alarm: Mutex<Option<String>>,
    last: Mutex<(Chain, UnixMillis)>,
    audit_head: Mutex<AuditHead>,
    commits: AtomicU64,
    requests: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            refused: Mutex::default(),
            passing: AtomicBool::default(),
            clock_alarm: Mutex::default(),
            last: Mutex::default(),
            audit_head: Mutex::new(AuditHead { revision: Revision(0), checksum: [0; 32] }),
            commits: AtomicU64::default(),
            requests: AtomicU64::default(),
        }
    }
}

impl Vitals {
    /// Why writes are refused; `None` when they are not.
    #[must_use]
    pub fn writes_refused(&self) -> Option<String> {
        self.refused.lock().clone()
    }

    /// Why the clock is in doubt; `None` when it is not.
    #[must_use]
    pub fn clock_in_doubt(&self) -> Option<String> {
        self.clock_alarm.lock().clone()
    }

    /// The chain after the last revision, and the time it stated.
    #[must_use]
    pub fn last(&self) -> (Chain, UnixMillis) {
        *self.last.lock()
    }

    /// The last record and its checksum.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        *self.audit_head.lock()
    }

    pub(super) fn recorded(&self, head: AuditHead) {
        *self.audit_head.lock() = head;
    }

    /// Revisions committed and requests accepted since the process began.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.commits.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }

    pub(super) fn committed(&self, state: &State, requests: usize) {
        *self.last.lock() = (state.chain(), state.source_time());
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
    }

    pub(super) fn clock_alarm(&self, alarm: Option<String>) {
        let mut current = self.clock_alarm.lock();
        match (&*current, &alarm) {
            (None, Some(reason)) => tracing::warn!(%reason, "clock alarm"),
            (Some(_), None) => tracing::info!("clock alarm over"),
            _ => {}
        }
        *current = alarm;
    }

    pub(super) fn accept_writes(&self) {
        self.passing.store(false, Ordering::Relaxed);
        if self.refused.lock().take().is_some() {
            tracing::info!("the journal accepts writes again");
        }
    }

    pub(super) fn refuse_writes(&self, reason: &str) {
        self.passing.store(false, Ordering::Relaxed);
        *self.refused.lock() = Some(reason.to_owned());
    }

    pub(super) fn refuse_writes_for_now(&self, reason: &str) {
        *self.refused.lock() = Some(reason.to_owned());
        self.passing.store(true, Ordering::Relaxed);
    }

    pub(super) fn may_retry_writes(&self) -> bool {
        self.passing.load(Ordering::Relaxed)
    }
}
