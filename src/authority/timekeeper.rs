//! The authority's sense of time: a wrong clock un-revokes nothing and blocks no revoke.
//!
//! # Invariants
//! - T1. The expiry floor never falls, is a whole minute, and stays `expiry_grace` behind the stated time.
//! - T2. It advances at most twice as fast as the boot-time clock, so that a clock that jumps years ahead forgets nothing
//!   early and a server that slept a week catches up harmlessly. That is a rate: time in which the floor could have moved
//!   and did not gives no credit.
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
    /// How far the floor may go, in seconds since 1970, and when that was last looked at.
    reach: (BootTime, u64),
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
        let reach = (boot, u64::from(floor.bits()) * 60);
        Self { reference: offset(wall, boot), alarm: None, reach, highest_logged, clock }
    }

    /// Reads both clocks and compares them.
    pub fn observe(&mut self, policy: &Policy) -> Moment {
        let moment = self.read();
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
        self.extend_reach(moment, policy.expiry_grace);
        moment
    }

    /// Both clocks, compared with nothing.
    #[must_use]
    pub fn read(&self) -> Moment {
        Moment { wall: self.clock.wall(), boot: self.clock.boot() }
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
        let limit = u32::try_from(self.reach.1 / 60).ok().and_then(Minute::at).unwrap_or(current);
        stated.min(limit).max(current)
    }
}

impl Timekeeper {
    /// The reach follows the wall clock at a distance of `grace`, at most at twice the speed of the boot-time clock; not at
    /// all in doubt.
    fn extend_reach(&mut self, moment: Moment, grace: Duration) {
        let (looked_at, reach) = self.reach;
        let allowed = moment.boot.since(looked_at).as_secs() * 2;
        if self.alarm.is_some() {
            self.reach.0 = moment.boot;
        } else if allowed > 0 {
            self.reach = (
                moment.boot,
                (reach + allowed).min(moment.wall.seconds().0.saturating_sub(grace.as_secs())).max(reach),
            );
        }
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
        let moment = keeper.observe(&Policy::default());
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
        keeper.observe(&Policy::default());
        time.advance(HOUR);
        assert_eq!(advanced(&mut keeper, floor_at_start()), 120, "two minutes a minute");
        assert_eq!(keeper.alarm(), None);
    }

    #[test]
    fn a_long_uptime_gives_no_credit_for_a_jump_ahead() {
        let (time, mut keeper) = started();
        let mut current = floor_at_start();
        for _ in 0..30 * 24 {
            time.advance(HOUR);
            let moment = keeper.observe(&Policy::default());
            current = keeper.floor(moment, current, &Policy::default());
        }
        let wall = keeper.observe(&Policy::default()).wall;
        time.step_wall(UnixMillis(wall.0 + 30 * 86_400_000));
        keeper.observe(&Policy::default());
        time.advance(HOUR);
        let moment = keeper.observe(&Policy::default());
        assert_eq!(keeper.alarm(), None, "the step has lasted an hour");
        let next = keeper.floor(moment, current, &Policy::default());
        assert!(next.bits() - current.bits() <= 120, "{} minutes at once", next.bits() - current.bits());
    }

    #[test]
    fn a_step_back_never_lowers_the_floor_or_the_authoritys_now() {
        let (time, mut keeper) = started();
        time.advance(HOUR);
        let reached = keeper.observe(&Policy::default());
        keeper.logged(reached.wall);
        let current = keeper.floor(reached, floor_at_start(), &Policy::default());
        time.step_wall(UnixMillis(START.0 - 86_400_000));
        let moment = keeper.observe(&Policy::default());
        assert_eq!(keeper.floor(moment, current, &Policy::default()), current);
        assert_eq!(keeper.now(moment, &Policy::default()), reached.wall.seconds());
    }

    #[test]
    fn a_small_step_is_no_alarm_and_a_step_back_to_normal_ends_one() {
        let (time, mut keeper) = started();
        time.step_wall(UnixMillis(START.0 + 4_000));
        keeper.observe(&Policy::default());
        assert_eq!(keeper.alarm(), None);
        time.step_wall(UnixMillis(START.0 + 60_000));
        keeper.observe(&Policy::default());
        assert!(keeper.alarm().is_some());
        time.step_wall(UnixMillis(START.0 + 4_000));
        keeper.observe(&Policy::default());
        assert_eq!(keeper.alarm(), None);
    }
}
