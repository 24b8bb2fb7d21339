//! What the authority and its clients do in a step, and what is asked of everybody.

use std::time::Duration;

use rescind::revocation::ports::Answer;
use rescind::revocation::{Position, Verdict};

use super::client::Client;
use super::connection::WINDOW;
use super::history::{AUTHORITY, Event, Found, Observed, Point};
use super::link::chance;
use super::token;
use super::world::World;

/// So many of the last acknowledged revocations are asked for.
const ASKED_FOR: usize = 3;

impl World {
    /// The authority and its clients do their work, or fail to.
    pub fn act(&mut self, active: bool) {
        self.afflict(active);
        if self.authority.running.is_none() && self.down_until.is_none_or(|until| until <= self.now) {
            self.authority.start().unwrap();
            self.authority.follow_log(self.now);
            self.history_lost = 0;
            self.note(AUTHORITY, Event::Recovered);
            self.observe_authority();
        }
        // Bursts: some seconds of quick requests, some of rest.
        let busy = (self.now.as_secs() / 3).is_multiple_of(2);
        for client in &mut self.clients {
            if active && client.is_done() && chance(&mut self.random, if busy { 0.2 } else { 0.01 }) {
                client.begin(&mut self.random);
            }
        }
        let Some(running) = &mut self.authority.running else { return };
        self.clients.iter_mut().for_each(|client| client.ask(self.now, &running.manual));
        running.manual.step();
        if (self.now - self.began).as_millis().is_multiple_of(1000) {
            running.hub.heartbeat(false);
            running.prepare();
            if self.faults.short_history {
                running.forget_history();
            }
        }
        self.authority.follow_log(self.now);
        self.answer(active);
    }

    /// The clients get their answers, and check them.
    fn answer(&mut self, active: bool) {
        let generation = self.authority.model.generation();
        let mut events = Vec::new();
        for client in &mut self.clients {
            if active && client.is_waiting() && chance(&mut self.random, self.faults.lose_answer) {
                events.extend(client.lose(self.now, &mut self.random));
            }
            events.extend(client.poll(self.now, generation, &mut self.random));
        }
        for event in events {
            if let Event::Acknowledged(acknowledged) = &event {
                for token in acknowledged.tokens.iter().filter(|_| acknowledged.revokes) {
                    self.asked_for.push_back((*token, acknowledged.at));
                }
            }
            let is_answer = matches!(event, Event::Acknowledged(_));
            self.note(AUTHORITY, event);
            if is_answer {
                self.check_asked_for();
            }
        }
        while self.asked_for.len() > ASKED_FOR {
            self.asked_for.pop_front();
        }
    }

    /// Everybody is asked about what was acknowledged lately.
    pub fn check_asked_for(&mut self) {
        let Some(running) = &self.authority.running else { return };
        let mut events = Vec::new();
        for &(token, at_least) in self.asked_for.iter().filter(|(_, at)| at.generation == running.epoch().generation) {
            let position = Position { epoch: running.epoch().id, revision: at_least.revision };
            let asked = |(answer, answered): (Answer, Point)| {
                let found = match answer.verdict {
                    Verdict::Revoked(_) => Found::Revoked,
                    Verdict::NotRevoked => Found::NotRevoked,
                    Verdict::Unknown(_) => Found::Unknown,
                };
                Event::Asked { token, at_least, found, answered }
            };
            events.push((AUTHORITY, asked(running.check(token, position))));
            for (index, node) in self.nodes.iter().enumerate() {
                events.push((index, asked(node.check(token, position))));
            }
        }
        events.into_iter().for_each(|(node, event)| self.note(node, event));
    }

    pub fn observe_authority(&mut self) {
        let log_bytes_max = self.authority.log_bytes_max() as u64;
        let Some(running) = &mut self.authority.running else { return };
        let (at, digest) = running.stamp();
        let revoked = running.revoked();
        let seen = Observed {
            live: true,
            diverged: false,
            ready: true,
            synced: true,
            accepts: !revoked.contains(&token::SUBJECTS),
            fresh: true,
            at,
            digest,
            revoked,
            residues: Vec::new(),
            staleness: Duration::ZERO,
        };
        let load = Event::Load {
            log_bytes: running.log_bytes(),
            log_bytes_max,
            frames: self.connections.values().map(|connection| connection.to_replica.len()).max().unwrap_or(0),
            // A repetition, or a lie, makes two of one.
            frames_max: 2 * WINDOW,
            unanswered: self.clients.iter().filter(|client| Client::is_waiting(client)).count(),
        };
        let lost = Event::HistoryLost { counted: running.hub.history_lost(), told: self.history_lost };
        for event in [Event::Observed(seen), load, lost] {
            self.note(AUTHORITY, event);
        }
    }
}
