//! Who was sent away and why, counted and logged, and who holds what the history lacks, logged: at most so many lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::replication::frames::GoAwayReason;
use crate::security::log_limit::LogLimit;

/// Subscribers that the server sent away or cut since it began, by reason.
#[derive(Debug, Default)]
pub struct SentAway {
    counts: [AtomicU64; GoAwayReason::ALL.len()],
    logged: LogLimit,
}

/// One subscriber, as far as the log is to tell.
#[derive(Debug)]
pub(super) struct Subscriber {
    sent_away: Arc<SentAway>,
    /// Empty before Hello.
    pub(super) name: String,
    pub(super) address: String,
}

impl Subscriber {
    pub(super) fn new(sent_away: Arc<SentAway>, address: String) -> Self {
        Self { sent_away, name: String::new(), address }
    }

    /// It holds revisions that this server's history lacks: those behind a restore, or those of an epoch that was restored
    /// beside this one.
    pub(super) fn note_history_lost(&self, revisions: u64, is_of_lineage: bool) {
        let Some(left_out) = self.sent_away.logged.admit() else { return };
        let (subscriber, address) = (&self.name, &self.address);
        if is_of_lineage {
            tracing::warn!(
                ?subscriber,
                address,
                revisions,
                left_out,
                "the subscriber holds revisions that the restored backup lacks; it keeps what they revoked in force"
            );
        } else {
            tracing::warn!(
                ?subscriber,
                address,
                revisions,
                left_out,
                "the subscriber holds an epoch that this one does not go on from; if both are of one generation, it never follows"
            );
        }
    }

    /// It is sent away, or cut. A server that stops is no news of its subscribers.
    pub(super) fn note(&self, reason: GoAwayReason, detail: &str) {
        self.sent_away.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let (subscriber, address) = (&self.name, &self.address);
        if reason == GoAwayReason::Shutdown {
            tracing::debug!(?subscriber, address, "sent away: the server stops");
        } else if let Some(left_out) = self.sent_away.logged.admit() {
            let reason = reason.name();
            tracing::warn!(?subscriber, address, reason, detail, left_out, "a subscriber was sent away");
        }
    }
}

impl SentAway {
    /// How many, in the order of [`GoAwayReason::ALL`].
    #[must_use]
    pub fn counts(&self) -> [u64; GoAwayReason::ALL.len()] {
        std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_apart() {
        let away = Arc::<SentAway>::default();
        let subscriber = Subscriber::new(Arc::clone(&away), "address".to_owned());
        for (times, reason) in GoAwayReason::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| subscriber.note(reason, "why"));
        }
        assert_eq!(away.counts(), std::array::from_fn(|index| index as u64));
    }
}
