//! The authority's sense of time: a wrong clock un-revokes nothing and blocks no revoke.
//!
//! # Invariants
//! - T1. The expiry floor never falls, is a whole minute, and stays `expiry_grace` behind the stated time.
//! - T2. It advances at most twice as fast as the boot-time clock, so that a clock that jumps years ahead forgets nothing
//!   early and a server that slept a week catches up harmlessly.
//! - T3. While a clock step is in doubt the floor is held.

use std::time::Duration;

use crate::clock::{BootTime, Clock};
use crate::revocation::{Minute, Policy, UnixMillis, UnixSeconds};

/// A wall clock step against the boot-time clock beyond this raises the alarm.
pub const STEP_MAX: Duration = Duration::from_secs(5);
/// A step that lasts this long is the new normal: time servers do correct clocks.
pub const STEP_ACCEPTED_AFTER: Duration = Duration::from_secs(3600);

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock, as a record states it.
    pub wall: UnixMillis,
    /// The boot-time clock.
    pub boot: BootTime,
}

/// Reads the clocks and rules over the floor.
#[derive(Debug)]
pub struct Timekeeper {
    clock: Clock,
    /// Wall minus boot-time clock, in ms, where both agree.
    reference: i128,
    alarm: Option<Step>,
    /// Where the floor's speed limit is measured from.
    floor_base: (BootTime, Minute),
    highest_logged: UnixMillis,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    offset: i128,
    since: BootTime,
}

impl Timekeeper {
    /// Starts with what the log says: its floor and its highest time.
    #[must_use]
    pub fn new(clock: Clock, floor: Minute, highest_logged: UnixMillis) -> Self {
        let (wall, boot) = (clock.wall(), clock.boot());
        Self { reference: offset(wall, boot), alarm: None, floor_base: (boot, floor), highest_logged, clock }
    }

    /// Reads both clocks and compares them.
    pub fn observe(&mut self) -> Moment {
        let moment = Moment { wall: self.clock.wall(), boot: self.clock.boot() };
        let offset = offset(moment.wall, moment.boot);
        let beyond = |a: i128, b: i128| (a - b).unsigned_abs() > STEP_MAX.as_millis();
        if !beyond(offset, self.reference) {
            // Slow drift is followed; a step back to normal ends the alarm.
            self.alarm = None;
            self.reference = offset;
        } else {
            match self.alarm {
                Some(step) if !beyond(offset, step.offset) => {
                    if moment.boot.since(step.since) >= STEP_ACCEPTED_AFTER {
                        self.alarm = None;
                        self.reference = offset;
                    }
                }
                _ => self.alarm = Some(Step { offset, since: moment.boot }),
            }
        }
        moment
    }

    /// The boot-time clock alone.
    #[must_use]
    pub fn boot(&self) -> BootTime {
        self.clock.boot()
    }

    /// Why the clock is in doubt, if it is.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        self.alarm.map(|step| {
            let seconds = (step.offset - self.reference) as f64 / 1000.0;
            format!("the wall clock stepped by {seconds:+.1} s against the boot-time clock; the expiry floor is held")
        })
    }

    /// A record that states `time` was committed.
    pub fn logged(&mut self, time: UnixMillis) {
        self.highest_logged = self.highest_logged.max(time);
    }

    /// The authority's now: the later of its clock and the highest logged time, and the issuers' clock skew.
    #[must_use]
    pub fn now(&self, moment: Moment, policy: &Policy) -> UnixSeconds {
        moment.wall.max(self.highest_logged).seconds().plus(policy.issuer_clock_skew.as_secs())
    }

    /// The floor that a record stating `moment` may set, `current` being in force.
    #[must_use]
    pub fn floor(&self, moment: Moment, current: Minute, policy: &Policy) -> Minute {
        if self.alarm.is_some() {
            return current;
        }
        let stated = moment.wall.seconds().0.saturating_sub(policy.expiry_grace.as_secs());
        let stated = Minute::floor(UnixSeconds(stated)).unwrap_or(current);
        let (boot, base) = self.floor_base;
        let allowed = moment.boot.since(boot).as_secs() * 2 / 60;
        let limit = u32::try_from(u64::from(base.bits()) + allowed).ok().and_then(Minute::at).unwrap_or(current);
        stated.min(limit).max(current)
    }
}

fn offset(wall: UnixMillis, boot: BootTime) -> i128 {
    i128::from(wall.0) - boot.0.as_millis() as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualTime;

    const START: UnixMillis = UnixMillis(1_700_000_040_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn floor_at_start() -> Minute {
        Minute::floor(UnixSeconds(START.0 / 1000 - 3600)).unwrap()
    }

    fn started() -> (std::sync::Arc<ManualTime>, Timekeeper) {
        let time = ManualTime::starting_at(START);
        let keeper = Timekeeper::new(Clock::manual(time.clone()), floor_at_start(), START);
        (time, keeper)
    }

    fn advanced(keeper: &mut Timekeeper, current: Minute) -> u32 {
        let moment = keeper.observe();
        keeper.floor(moment, current, &Policy::default()).bits() - floor_at_start().bits()
    }

    #[test]
    fn the_floor_follows_the_clock_an_hour_behind() {
        let (time, mut keeper) = started();
        time.advance(HOUR);
        assert_eq!(advanced(&mut keeper, floor_at_start()), 60);
    }

    #[test]
    fn a_jump_ahead_raises_the_alarm_and_holds_the_floor() {
        let (time, mut keeper) = started();
        time.advance(HOUR);
        time.step_wall(UnixMillis(START.0 + 3_600_000 + 10 * 365 * 86_400_000));
        assert_eq!(advanced(&mut keeper, floor_at_start()), 0);
        assert!(keeper.alarm().is_some());
    }

    #[test]
    fn a_jump_ahead_that_lasts_is_accepted_but_the_floor_keeps_its_speed_limit() {
        let (time, mut keeper) = started();
        time.step_wall(UnixMillis(START.0 + 10 * 365 * 86_400_000));
        keeper.observe();
        time.advance(HOUR);
        assert_eq!(advanced(&mut keeper, floor_at_start()), 120, "two minutes a minute");
        assert_eq!(keeper.alarm(), None);
    }

    #[test]
    fn a_step_back_never_lowers_the_floor_or_the_authoritys_now() {
        let (time, mut keeper) = started();
        time.advance(HOUR);
        let reached = keeper.observe();
        keeper.logged(reached.wall);
        let current = keeper.floor(reached, floor_at_start(), &Policy::default());
        time.step_wall(UnixMillis(START.0 - 86_400_000));
        let moment = keeper.observe();
        assert_eq!(keeper.floor(moment, current, &Policy::default()), current);
        assert_eq!(keeper.now(moment, &Policy::default()), reached.wall.seconds());
    }

    #[test]
    fn a_small_step_is_no_alarm_and_a_step_back_to_normal_ends_one() {
        let (time, mut keeper) = started();
        time.step_wall(UnixMillis(START.0 + 4_000));
        keeper.observe();
        assert_eq!(keeper.alarm(), None);
        time.step_wall(UnixMillis(START.0 + 60_000));
        keeper.observe();
        assert!(keeper.alarm().is_some());
        time.step_wall(UnixMillis(START.0 + 4_000));
        keeper.observe();
        assert_eq!(keeper.alarm(), None);
    }
}
