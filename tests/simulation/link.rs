//! One direction of one connection: in order, with delays; it may repeat or corrupt what it carries.

use std::collections::VecDeque;
use std::time::Duration;

use rescind::replication::Random;

/// Bytes on their way.
#[derive(Debug, Default)]
pub struct Pipe {
    queue: VecDeque<Parcel>,
}

#[derive(Debug)]
pub struct Parcel {
    pub due: Duration,
    pub bytes: Vec<u8>,
    pub intact: bool,
}

impl Pipe {
    /// Sends; it arrives no earlier than what was sent before.
    pub fn send(&mut self, now: Duration, delay: Duration, bytes: Vec<u8>, intact: bool) {
        let due = self.queue.back().map_or(Duration::ZERO, |last| last.due).max(now + delay);
        self.queue.push_back(Parcel { due, bytes, intact });
    }

    /// What has arrived.
    pub fn receive(&mut self, now: Duration) -> Option<Parcel> {
        self.queue.pop_front_if(|parcel| parcel.due <= now)
    }

    /// How much is under way.
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Changes one byte behind the first `skip`.
pub fn corrupt(bytes: &mut [u8], skip: usize, random: &mut Random) {
    let Some(room) = bytes.len().checked_sub(skip).filter(|room| *room > 0) else { return };
    let index = skip + random.next_u64() as usize % room;
    bytes[index] ^= 1 + (random.next_u64() % 255) as u8;
}

/// True with this probability.
pub fn chance(random: &mut Random, probability: f64) -> bool {
    (random.next_u64() as f64 / u64::MAX as f64) < probability
}
