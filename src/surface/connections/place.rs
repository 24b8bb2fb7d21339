//! What is known of one connection, shared by whoever serves it and whoever may need its place.
//!
//! Time is kept in whole milliseconds since the listener began, so that it fits an atomic.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Connections;

/// A response that is not taken is noticed after two whole ones of these, at the latest after three.
pub(super) const UNTAKEN_PERIOD: Duration = Duration::from_secs(15);
/// Periods told apart. Four: the one under way, the two before it, and the one that is too old.
const PERIODS: usize = 4;

/// Watches of health, and streams of reflection, at once on one connection: one of each service, and some. Each takes some 7 or
/// 16 KiB for as long as whoever asked likes; of his health a server tells even those who do not say who they are.
pub(in crate::surface) const WATCHES_MAX: u32 = 8;

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::surface) enum Ending {
    /// In order: it is told (GOAWAY), and what has begun is answered.
    Leave,
    /// At once.
    Cut,
}

const OPEN: u8 = 0;
const LEAVE: u8 = 1;
const CUT: u8 = 2;

#[derive(Debug)]
pub(in crate::surface) struct Place {
    id: u64,
    connections: Weak<Connections>,
    begun: Instant,
    proven: AtomicBool,
    /// Whether it ever asked anything.
    asked: AtomicBool,
    /// Requests and subscriptions that are not over.
    under_way: AtomicU32,
    /// Of them, those that last and are no subscriptions.
    watches: AtomicU32,
    /// Since when there is none.
    idle_since: AtomicU64,
    /// Responses whose next part waits for the far end, by the period in which the last part was taken.
    untaken: [AtomicU32; PERIODS],
    ending: AtomicU8,
    ended: Notify,
    /// A request was over beside one that lasts.
    watched: Notify,
}

impl Place {
    pub(super) fn new(id: u64, connections: Weak<Connections>, begun: Instant, now: Instant) -> Self {
        Self {
            id,
            connections,
            begun,
            proven: AtomicBool::default(),
            asked: AtomicBool::default(),
            under_way: AtomicU32::default(),
            watches: AtomicU32::default(),
            idle_since: AtomicU64::new(millis(begun, now)),
            untaken: Default::default(),
            ending: AtomicU8::new(OPEN),
            ended: Notify::new(),
            watched: Notify::new(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn connections(&self) -> Option<Arc<Connections>> {
        self.connections.upgrade()
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(super) fn set_proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Whether it ever asked anything.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Since when nothing has been under way; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.under_way.load(Ordering::Acquire) == 0;
        is_idle.then(|| self.begun + Duration::from_millis(self.idle_since.load(Ordering::Acquire)))
    }

    /// A request begins; it ends with what is returned.
    pub(in crate::surface) fn begin_request(self: &Arc<Self>) -> UnderWay {
        self.asked.store(true, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay { place: Arc::clone(self), is_watch: false }
    }

    /// A part of a response goes to the transport, which asks for more once the far end has taken enough.
    pub(super) fn begin_taking(&self) -> usize {
        let period = self.period(Instant::now()) % PERIODS;
        self.untaken[period].fetch_add(1, Ordering::AcqRel);
        period
    }

    pub(super) fn end_taking(&self, period: usize) {
        self.untaken[period % PERIODS].fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a response waits to be taken for too long; if not, when to look again.
    pub(super) fn look_at_untaken(&self, now: Instant) -> Result<Option<Instant>, TooSlow> {
        let count = |period: usize| self.untaken[period % PERIODS].load(Ordering::Acquire);
        let period = self.period(now);
        if count(period + 1) > 0 {
            return Err(TooSlow);
        }
        let is_waiting = (0..PERIODS).any(|period| count(period) > 0);
        Ok(is_waiting.then(|| self.begun + UNTAKEN_PERIOD * (period as u32 + 1)))
    }

    /// Tells whoever serves the connection to end it.
    pub(super) fn end(&self, ending: Ending) {
        let ending = if ending == Ending::Cut { CUT } else { LEAVE };
        self.ending.fetch_max(ending, Ordering::AcqRel);
        self.ended.notify_one();
    }

    /// Waits until it is told to end.
    pub(super) async fn ended(&self) -> Ending {
        loop {
            match self.ending.load(Ordering::Acquire) {
                OPEN => self.ended.notified().await,
                LEAVE => return Ending::Leave,
                _ => return Ending::Cut,
            }
        }
    }

    /// Waits until nothing is under way but what lasts, of which there is one at least.
    pub(super) async fn only_watched(&self) {
        loop {
            let (watches, under_way) = (self.watches.load(Ordering::Acquire), self.under_way.load(Ordering::Acquire));
            if watches > 0 && under_way <= watches {
                return;
            }
            self.watched.notified().await;
        }
    }

    fn period(&self, now: Instant) -> usize {
        (millis(self.begun, now) / UNTAKEN_PERIOD.as_millis() as u64) as usize
    }
}

/// A response was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// A request or subscription, until its response is over.
#[derive(Debug)]
pub(in crate::surface) struct UnderWay {
    place: Arc<Place>,
    is_watch: bool,
}

impl UnderWay {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// It is one of those that last; whether the connection may have one more.
    pub(in crate::surface) fn begin_watch(&mut self) -> bool {
        let more = |count| (count < WATCHES_MAX).then_some(count + 1);
        self.is_watch = self.place.watches.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok();
        self.is_watch
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // Before the count: whoever sees none under way must not see an old time.
        self.place.idle_since.store(millis(self.place.begun, Instant::now()), Ordering::Release);
        self.place.under_way.fetch_sub(1, Ordering::AcqRel);
        if self.is_watch {
            self.place.watches.fetch_sub(1, Ordering::AcqRel);
        }
        if self.place.watches.load(Ordering::Acquire) > 0 {
            self.place.watched.notify_one();
        }
    }
}

fn millis(begun: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(begun).as_millis() as u64
}
