//! What befalls the authority, its disk, the clocks and the nodes.

use std::time::Duration;

use rescind::journal::memory::Fault;

use super::faults::STEP_MAX;
use super::history::{AUTHORITY, Event};
use super::link::chance;
use super::node::Link;
use super::world::{World, off};

/// How often an authority is restored from a backup.
const RESTORES_MAX: usize = 2;

/// The most bytes that are left of a torn record.
const TORN_BYTES_MAX: u64 = 200;

impl World {
    /// What befalls the authority, the clocks and the disk.
    pub fn afflict(&mut self, active: bool) {
        let now = self.now;
        self.parted_until.retain(|_, until| active && now < *until);
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
            let wall = off(self.now, &mut self.random, self.faults.skew_max + STEP_MAX);
            match (self.random.next_u64() % 3) as usize {
                0 => self.time.step_wall(wall),
                index => {
                    let index = index % self.nodes.len();
                    self.nodes[index].set_wall(wall);
                }
            }
        }
        if self.befalls(active, self.faults.night_every) {
            let minutes = [3, 90, 27 * 60][(self.random.next_u64() % 3) as usize];
            self.pass(Duration::from_secs(minutes * 60));
        }
        if self.authority.running.is_some() {
            self.operate(active);
        }
    }

    /// What operators do.
    fn operate(&mut self, active: bool) {
        if self.befalls(active, self.faults.policy_every) {
            self.authority.policy = self.faults.policy(self.authority.policy, &mut self.random);
            self.crash();
            return;
        }
        if self.befalls(active, self.faults.backup_every) && self.history.parents.len() < RESTORES_MAX {
            self.authority.back_up();
        }
        if self.befalls(active, self.faults.restore_every) {
            self.restore();
            return;
        }
        let restored = !self.history.parents.is_empty();
        if restored
            && self.befalls(active, self.faults.restore_every)
            && let Some(running) = &mut self.authority.running
        {
            running.accept_loss();
        }
    }

    /// The authority's machine is lost, and another one goes on from the backup.
    fn restore(&mut self) {
        let generation = self.authority.model.generation();
        let lost = self.authority.model.history.clone();
        let Some(last) = self.authority.restore(&mut self.random) else { return };
        self.history.epochs.insert(generation, lost);
        self.history.parents.insert(self.authority.model.generation(), last);
        self.crash();
        self.note(AUTHORITY, Event::Restored);
    }

    fn crash(&mut self) {
        // What was answered a moment ago may not have arrived.
        for index in 0..self.clients.len() {
            if let Some(event) = self.clients[index].lose(self.now, &mut self.random) {
                self.note(AUTHORITY, event);
            }
        }
        self.authority.crash();
        // A write under way is whole, gone, or torn.
        match self.random.next_u64() % 4 {
            0 | 1 => {}
            2 => self.authority.disk.cut_power(),
            _ => self.authority.disk.tear((self.random.next_u64() % TORN_BYTES_MAX) as usize),
        }
        if chance(&mut self.random, self.faults.damage) && self.authority.damage_snapshot() {
            self.note(AUTHORITY, Event::Damaged);
        }
        self.authority.disk.set_fault(None);
        self.fault_until = None;
        self.connections.retain(|_, connection| connection.server != AUTHORITY);
        self.down_until = Some(self.now + self.random.within(Duration::from_secs(3)));
        self.note(AUTHORITY, Event::Restarted { residues: Vec::new() });
    }

    /// A node's process ends where it stands, or in order, and another one begins; half the time the power is lost.
    pub fn restart(&mut self, index: usize) {
        let (seed, power_cut) = (self.random.next_u64(), chance(&mut self.random, 0.5));
        let used = self.connections.iter().find(|(number, _)| self.nodes[index].link == Link::Connected(**number));
        let reached = used.filter(|(_, connection)| !self.parted_until.contains_key(&(index, connection.server)));
        let used = reached.map(|(number, _)| *number);
        if chance(&mut self.random, 0.3)
            && let Some(connection) = used.and_then(|number| self.connections.remove(&number))
        {
            // It went in order.
            connection.say_goodbye();
        }
        self.nodes[index].restart(seed, power_cut);
        self.connections.retain(|_, connection| connection.server != index);
    }
}
