//! Now, as the state machines are told it.

use std::time::Duration;

use crate::revocation::UnixMillis;

/// One instant on both clocks. They move independently: the wall clock may step, the boot-time clock never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The boot-time clock: since an arbitrary instant, counting through suspend.
    pub boot: Duration,
    /// The wall clock.
    pub wall: UnixMillis,
}

impl Moment {
    /// How much boot time passed since `earlier`; zero when none did.
    #[must_use]
    pub fn since(&self, earlier: Duration) -> Duration {
        self.boot.saturating_sub(earlier)
    }
}
