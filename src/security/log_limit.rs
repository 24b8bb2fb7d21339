//! Lines about what far ends do: logged without letting them fill the log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The most lines within [`WINDOW`]; the next line after it says how many were left out.
const LINES_MAX: u32 = 20;
/// See [`LINES_MAX`].
const WINDOW: Duration = Duration::from_secs(10);

/// At most 20 lines in 10 s.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<Logged>);

#[derive(Debug, Default)]
struct Logged {
    /// When the window began.
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LogLimit {
    /// Whether there is room for a line, and how many were left out before it.
    pub(crate) fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut logged = self.0.lock();
        if logged.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            (logged.since, logged.lines) = (Some(now), 0);
        }
        if logged.lines >= LINES_MAX {
            logged.left_out = logged.left_out.saturating_add(1);
            return None;
        }
        logged.lines += 1;
        Some(std::mem::take(&mut logged.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_a_few_lines_and_the_number_of_those_left_out() {
        let limit = LogLimit::default();
        assert_eq!((0..1000).filter(|_| limit.admit().is_some()).count(), LINES_MAX as usize);
        tokio::time::advance(WINDOW).await;
        assert_eq!(limit.admit(), Some(1000 - u64::from(LINES_MAX)));
        assert_eq!(limit.admit(), Some(0));
    }
}
