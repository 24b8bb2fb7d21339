//! How much a principal asks for, and when that is too much.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::BootTime;

/// Seconds that are looked back over: one more than a minute, because the first of them may be only partly in it.
const SECONDS: usize = 61;
/// How far ahead of its pace a principal may be: a second's worth, for bursts.
const BURST: Duration = Duration::from_secs(1);

/// What one principal has spent, over all its certificates and credentials.
#[derive(Debug)]
pub struct Spending {
    /// Between two requests at the granted pace, in nanoseconds.
    interval_ns: u64,
    /// When it would be due, in nanoseconds, if everything so far had come at the granted pace.
    due_ns: AtomicU64,
    writes: Mutex<Writes>,
}

#[derive(Debug)]
struct Writes {
    /// Of each second, at its place in the ring, and of no other than [`SECONDS`] up to `now`.
    counts: [u64; SECONDS],
    now: u64,
}

/// It is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// When it may be tried again; `None`: never in one request.
    pub retry_after: Option<Duration>,
}

impl Spending {
    /// Nothing so far, at most so many requests per second.
    #[must_use]
    pub fn new(requests_per_second: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(requests_per_second.max(1));
        let writes = Mutex::new(Writes { counts: [0; SECONDS], now: 0 });
        Self { interval_ns, due_ns: AtomicU64::new(0), writes }
    }

    /// One more request now.
    ///
    /// # Errors
    /// When the principal is a second's worth ahead of its pace.
    pub fn request(&self, now: BootTime) -> Result<(), TooMuch> {
        let now_ns = u64::try_from(now.0.as_nanos()).unwrap_or(u64::MAX);
        let latest_ns = now_ns.saturating_add(BURST.as_nanos() as u64);
        let mut due_ns = self.due_ns.load(Ordering::Relaxed);
        loop {
            let next_ns = due_ns.max(now_ns).saturating_add(self.interval_ns);
            if next_ns > latest_ns {
                return Err(TooMuch { retry_after: Some(Duration::from_nanos(next_ns - latest_ns)) });
            }
            match self.due_ns.compare_exchange_weak(due_ns, next_ns, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(changed_ns) => due_ns = changed_ns,
            }
        }
    }

    /// So many more writes now, of at most `limit` in any minute.
    ///
    /// # Errors
    /// When that is more than the limit leaves; then none is counted.
    pub fn write(&self, now: BootTime, limit: u32, count: u64) -> Result<(), TooMuch> {
        let mut writes = self.writes.lock();
        writes.advance(now.0.as_secs());
        let (limit, spent) = (u64::from(limit), writes.counts.iter().sum::<u64>());
        if spent + count > limit {
            let wait = (count <= limit).then(|| writes.until_free(spent + count - limit));
            return Err(TooMuch { retry_after: wait });
        }
        let place = writes.place(0);
        writes.counts[place] += count;
        Ok(())
    }
}

impl Writes {
    fn place(&self, seconds_ahead: u64) -> usize {
        ((self.now + seconds_ahead) % SECONDS as u64) as usize
    }

    /// Forgets the seconds that are over. The clock never steps back.
    fn advance(&mut self, second: u64) {
        let passed = second.saturating_sub(self.now).min(SECONDS as u64);
        self.now = self.now.max(second) - passed;
        for _ in 0..passed {
            self.now += 1;
            let place = self.place(0);
            self.counts[place] = 0;
        }
    }

    /// After how many seconds so many are forgotten.
    fn until_free(&self, count: u64) -> Duration {
        let mut free = 0;
        for ahead in 1..=SECONDS as u64 {
            free += self.counts[self.place(ahead)];
            if free >= count {
                return Duration::from_secs(ahead);
            }
        }
        Duration::from_secs(SECONDS as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootTime {
        BootTime(Duration::from_millis(1_000_000 + ms))
    }

    #[test]
    fn requests_may_burst_for_a_second_and_then_keep_their_pace() {
        let spending = Spending::new(10);
        assert_eq!((0..20).filter(|_| spending.request(at(0)).is_ok()).count(), 10);
        let refused = spending.request(at(0)).unwrap_err();
        assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
        assert!(spending.request(at(99)).is_err());
        assert!(spending.request(at(100)).is_ok());
        assert_eq!((0..20).filter(|_| spending.request(at(60_000)).is_ok()).count(), 10, "rest is not saved up");
    }

    #[test]
    fn no_minute_holds_more_writes_than_were_granted() {
        let spending = Spending::new(1);
        let mut admitted: Vec<u64> = Vec::new();
        for ms in (0..300_000).step_by(700) {
            if spending.write(at(ms), 20, 1).is_ok() {
                admitted.push(ms);
            }
        }
        for from in &admitted {
            let within = admitted.iter().filter(|ms| (*from..from + 60_000).contains(ms)).count();
            assert!(within <= 20, "{within} from {from}");
        }
        assert!(admitted.len() >= 80, "{} in five minutes", admitted.len());
    }

    #[test]
    fn writes_are_counted_by_item_and_refused_as_a_whole() {
        let spending = Spending::new(1);
        assert_eq!(spending.write(at(0), 10, 11), Err(TooMuch { retry_after: None }));
        assert_eq!(spending.write(at(0), 10, 6), Ok(()));
        assert_eq!(spending.write(at(5_000), 10, 3), Ok(()));
        let refused = spending.write(at(10_000), 10, 2).unwrap_err();
        assert_eq!(refused.retry_after, Some(Duration::from_secs(51)));
        assert_eq!(spending.write(at(10_000), 10, 1), Ok(()), "the refused ones were not counted");
        assert!(spending.write(at(60_000), 10, 2).is_err());
        assert_eq!(spending.write(at(61_000), 10, 2), Ok(()));
        assert_eq!(spending.write(at(500_000), 10, 10), Ok(()));
    }
}
