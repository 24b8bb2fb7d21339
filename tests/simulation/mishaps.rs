//! What befalls the authority, its disk and the clocks.

use std::time::Duration;

use rescind::journal::memory::Fault;
use rescind::revocation::UnixMillis;

use super::faults::STEP_MAX;
use super::history::{AUTHORITY, Event};
use super::link::chance;
use super::world::{World, off};

impl World {
    /// What befalls the authority, the clocks and the disk.
    pub fn afflict(&mut self, active: bool) {
        let refuses = self.authority.running.as_ref().is_some_and(|running| running.manual.writes_refused().is_some());
        let healed = self.fault_until.is_none_or(|until| until <= self.now || !active);
        if self.fault_until.is_some() && healed {
            self.authority.disk.set_fault(None);
            self.fault_until = None;
        }
        // After an unclear append only a restart helps; a full disk heals by itself.
        let stuck = refuses && healed && chance(&mut self.random, 0.02);
        if self.authority.running.is_some() && (self.befalls(active, self.faults.crash_every) || stuck) {
            self.crash();
        }
        if self.befalls(active, self.faults.disk_every) && self.fault_until.is_none() {
            let fault = if chance(&mut self.random, 0.5) { Fault::Full } else { Fault::Sync };
            self.authority.disk.set_fault(Some(fault));
            self.fault_until = Some(self.now + Duration::from_secs(1) + self.random.within(Duration::from_secs(2)));
        }
        if self.befalls(active, self.faults.step_every) {
            let far = self.faults.skew_max + STEP_MAX;
            let wall = (self.now.as_millis() as u64).saturating_add_signed(off(&mut self.random, far));
            match (self.random.next_u64() % 3) as usize {
                0 => self.time.step_wall(UnixMillis(wall)),
                index => {
                    let index = index % self.replicas.len();
                    let far = off(&mut self.random, far);
                    self.replicas[index].set_wall(far);
                }
            }
        }
        if self.befalls(active, self.faults.night_every) {
            let minutes = [3, 90, 27 * 60][(self.random.next_u64() % 3) as usize];
            self.pass(Duration::from_secs(minutes * 60));
        }
    }

    fn crash(&mut self) {
        // What was answered a moment ago may not have arrived.
        for index in 0..self.clients.len() {
            if let Some(event) = self.clients[index].lose(self.now, &mut self.random) {
                self.note(AUTHORITY, event);
            }
        }
        self.authority.crash();
        if chance(&mut self.random, 0.5) {
            self.authority.disk.cut_power();
        }
        if chance(&mut self.random, self.faults.damage) && self.authority.damage_snapshot() {
            self.note(AUTHORITY, Event::Damaged);
        }
        self.authority.disk.set_fault(None);
        self.fault_until = None;
        self.connections.clear();
        self.down_until = Some(self.now + self.random.within(Duration::from_secs(3)));
        self.note(AUTHORITY, Event::Restarted);
    }
}
