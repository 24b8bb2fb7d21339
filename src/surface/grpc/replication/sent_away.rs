//! Who was sent away and why: counted, and logged without letting the far end fill the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::replication::frames::GoAwayReason;

/// The most lines that are logged within [`LOG_WINDOW`]; the next line after it says how many were left out.
const LOG_LINES_MAX: u32 = 20;
/// See [`LOG_LINES_MAX`].
const LOG_WINDOW: Duration = Duration::from_secs(10);

/// Subscribers that the server sent away or cut since it began, by reason.
#[derive(Debug, Default)]
pub struct SentAway {
    counts: [AtomicU64; GoAwayReason::ALL.len()],
    logged: Mutex<Logged>,
}

#[derive(Debug, Default)]
struct Logged {
    /// When the window began.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
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

    /// It is sent away, or cut. A server that stops is no news of its subscribers.
    pub(super) fn note(&self, reason: GoAwayReason, detail: &str) {
        self.sent_away.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let (subscriber, address) = (&self.name, &self.address);
        if reason == GoAwayReason::Shutdown {
            tracing::debug!(?subscriber, address, "sent away: the server stops");
        } else if let Some(left_out) = self.sent_away.logged.lock().admit() {
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

impl Logged {
    /// Whether there is room for a line, and how many were left out before it.
    fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.duration_since(since) >= LOG_WINDOW) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= LOG_LINES_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_a_few_lines_and_the_number_of_those_left_out() {
        let mut logged = Logged::default();
        assert_eq!((0..1000).filter(|_| logged.admit().is_some()).count(), LOG_LINES_MAX as usize);
        tokio::time::advance(LOG_WINDOW).await;
        assert_eq!(logged.admit(), Some(1000 - u64::from(LOG_LINES_MAX)));
        assert_eq!(logged.admit(), Some(0));
    }

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
