//! The only reader of time.
//!
//! Two clocks: the wall clock, which may step, and the boot-time clock, which never steps and counts through suspend.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::revocation::UnixMillis;

/// Time since an arbitrary instant; never steps, counts through suspend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub Duration);

impl BootTime {
    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: BootTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where the time comes from. Cheap to clone and to share.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<ManualTime>),
}

/// A time that tests set. Wall and boot-time clocks move independently, as after a clock step.
#[derive(Debug, Default)]
pub struct ManualTime {
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until `time` is told otherwise.
    #[must_use]
    pub fn manual(time: Arc<ManualTime>) -> Self {
        Self(Source::Manual(time))
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> UnixMillis {
        match &self.0 {
            Source::System => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
                UnixMillis(u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + now.tv_nsec as u64 / 1_000_000)
            }
            Source::Manual(time) => UnixMillis(time.wall_ms.load(Ordering::SeqCst)),
        }
    }

    /// The boot-time clock.
    #[must_use]
    pub fn boot(&self) -> BootTime {
        match &self.0 {
            Source::System => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                BootTime(Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), now.tv_nsec as u32))
            }
            Source::Manual(time) => BootTime(Duration::from_millis(time.boot_ms.load(Ordering::SeqCst))),
        }
    }
}

impl ManualTime {
    /// Both clocks start at `wall`.
    #[must_use]
    pub fn starting_at(wall: UnixMillis) -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicU64::new(wall.0), boot_ms: AtomicU64::new(wall.0) })
    }

    /// Lets `duration` pass on both clocks.
    pub fn advance(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.boot_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Steps the wall clock to `wall`; no time passes.
    pub fn step_wall(&self, wall: UnixMillis) {
        self.wall_ms.store(wall.0, Ordering::SeqCst);
    }
}
