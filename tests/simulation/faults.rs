//! What goes wrong, and how often.

use std::time::Duration;

use rescind::replication::Random;
use rescind::revocation::{Policy, WhenStale};

use super::link::chance;

/// Everything that can go wrong. `None`: never; else about so often.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub delay_max: Duration,
    /// Connections live about so long.
    pub cut_every: Option<Duration>,
    /// Replicas stop reading, for a while.
    pub stall_every: Option<Duration>,
    /// The probability that a frame comes twice.
    pub repeat: f64,
    /// The probability that a byte of a frame is changed.
    pub corrupt: f64,
    /// The probability that a frame of the server vanishes.
    pub lose: f64,
    /// The probability that a connection leads to a sender that lies.
    pub lie: f64,
    /// The shared log is small and the history behind it goes no further than the newest snapshot, so that slow subscribers
    /// fall out of what is kept.
    pub short_history: bool,
    /// The authority ends where it stands, half the time with a power cut, which loses or tears what was not synced.
    pub crash_every: Option<Duration>,
    /// The probability that a crash damages the newest snapshot, if it is newer than the last one damaged.
    pub damage: f64,
    /// The disk is full for a while, or a sync fails.
    pub disk_every: Option<Duration>,
    /// A replica loses its memory.
    pub restart_every: Option<Duration>,
    /// Wall clocks are off by up to so much, and step.
    pub skew_max: Duration,
    pub step_every: Option<Duration>,
    /// Everything sleeps for minutes, hours or a day: entries expire, the journal is pruned.
    pub night_every: Option<Duration>,
    /// The probability that an answer to a client is lost.
    pub lose_answer: f64,
    /// How many relays there are.
    pub relays: usize,
    /// The probability that a node has a disk.
    pub cached: f64,
    /// A node and its server no longer reach each other, for a while.
    pub part_every: Option<Duration>,
    /// The policy changes: how stale a set may be, and what is done then.
    pub policy_every: Option<Duration>,
    /// A backup is made, and the authority goes on from it as another epoch; operators accept the loss as often.
    pub backup_every: Option<Duration>,
    pub restore_every: Option<Duration>,
}

impl Faults {
    pub const NONE: Self = Self {
        delay_max: Duration::from_millis(20),
        cut_every: None,
        stall_every: None,
        repeat: 0.0,
        corrupt: 0.0,
        lose: 0.0,
        lie: 0.0,
        short_history: false,
        crash_every: None,
        damage: 0.0,
        disk_every: None,
        restart_every: None,
        skew_max: Duration::ZERO,
        step_every: None,
        night_every: None,
        lose_answer: 0.0,
        relays: 0,
        cached: 0.0,
        part_every: None,
        policy_every: None,
        backup_every: None,
        restore_every: None,
    };

    /// A mixture that depends on the seed alone.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let every = |random: &mut Random, least: u64, most: u64| {
            let seconds = least + random.next_u64() % (most - least);
            chance(random, 0.5).then_some(Duration::from_secs(seconds))
        };
        let rate = |random: &mut Random, most: f64| {
            let rate = most * (random.next_u64() % 100) as f64 / 100.0;
            if chance(random, 0.4) { rate } else { 0.0 }
        };
        Self {
            delay_max: Duration::from_millis(10 + random.next_u64() % 300),
            cut_every: every(&mut random, 2, 10),
            stall_every: every(&mut random, 3, 10),
            repeat: rate(&mut random, 0.05),
            corrupt: rate(&mut random, 0.02),
            lose: rate(&mut random, 0.01),
            lie: rate(&mut random, 0.5),
            short_history: chance(&mut random, 0.5),
            crash_every: every(&mut random, 2, 10),
            damage: rate(&mut random, 0.8),
            disk_every: every(&mut random, 3, 10),
            restart_every: every(&mut random, 4, 12),
            skew_max: Duration::from_millis(random.next_u64() % 400),
            step_every: every(&mut random, 4, 12),
            night_every: every(&mut random, 3, 12),
            lose_answer: rate(&mut random, 0.3),
            relays: (random.next_u64() % 3) as usize,
            cached: rate(&mut random, 1.0),
            part_every: every(&mut random, 4, 12),
            policy_every: every(&mut random, 6, 14),
            backup_every: every(&mut random, 2, 8),
            restore_every: every(&mut random, 6, 14),
        }
    }

    /// A policy after it was changed.
    pub fn policy(&self, before: Policy, random: &mut Random) -> Policy {
        if self.policy_every.is_none() {
            return before;
        }
        let max_staleness = Duration::from_secs([2, 5, 300][(random.next_u64() % 3) as usize]);
        let when_stale = if chance(random, 0.6) { WhenStale::Deny } else { WhenStale::ServeStale };
        Policy { max_staleness, when_stale, ..before }
    }

    /// The furthest apart that two wall clocks ever are.
    pub fn skew_bound(&self) -> Duration {
        let step = self.step_every.map_or(Duration::ZERO, |_| STEP_MAX);
        (self.skew_max + step) * 2
    }
}

/// The furthest that a wall clock steps.
pub const STEP_MAX: Duration = Duration::from_secs(8);
