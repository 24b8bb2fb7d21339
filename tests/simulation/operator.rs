//! Somebody who waits until a revocation has come everywhere, and believes what the authority says of it.

use std::time::Duration;

use rescind::hub::Awaiting;

use super::history::{AUTHORITY, Event, Point, Proven};
use super::world::World;

/// How long is waited at most.
const PATIENCE: Duration = Duration::from_secs(4);

/// A wait for one position.
pub struct Waiting {
    at: Point,
    since: Duration,
    /// As long as it lives, subscribers are asked to acknowledge at once.
    _asking: Awaiting,
}

impl World {
    /// Asks for what was acknowledged last, looks, and notes what it is told.
    pub fn wait_for_propagation(&mut self) {
        let Some(running) = &self.authority.running else {
            self.waiting = None;
            return;
        };
        let generation = running.epoch().generation;
        if self.waiting.as_ref().is_some_and(|waiting| waiting.at.generation != generation) {
            self.waiting = None;
        }
        let Some(waiting) = &self.waiting else {
            let last = self.asked_for.back().map(|(_, at)| *at).filter(|at| at.generation == generation);
            if let Some(at) = last.filter(|at| *at > self.waited_for) {
                self.waited_for = at;
                let _asking = running.hub.ask_for_acks(at.revision);
                self.waiting = Some(Waiting { at, since: self.now, _asking });
            }
            return;
        };
        let at = waiting.at;
        let told = running.propagation(at.revision, &self.runtime);
        if told.complete || self.now - waiting.since > PATIENCE {
            self.waiting = None;
            let proven = Proven { at, complete: told.complete, dead_by: told.dead_by };
            self.note(AUTHORITY, Event::Proven(proven));
        }
    }
}
