//! What goes over the connections in a step, in both directions.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rescind::hub::Hub;
use rescind::replication::frames::{ToServer, ToSubscriber};
use rescind::replication::{Feed as _, Step, Subscription};
use rescind::wire::pb;
use rescind::wire::replication::GRPC_PREFIX_BYTES;

use super::connection::{Connection, TAPE_FRAMES};
use super::history::{AUTHORITY, Event};
use super::liar::Liar;
use super::link::{chance, corrupt};
use super::node::Link;
use super::world::World;

impl World {
    /// The servers' ends of all connections.
    pub fn serve(&mut self, active: bool) {
        let now = self.now;
        self.connections.retain(|_, connection| connection.abandoned_until.is_none_or(|until| now < until));
        let (mut lied_to, parted) = (Vec::new(), &self.parted_until);
        for connection in self.connections.values_mut() {
            if parted.contains_key(&(connection.client, connection.server)) {
                continue;
            }
            let served = connection.serve(now, active, self.faults, &mut self.random, &self.runtime);
            lied_to.extend((0..served.lies).map(|_| connection.client));
            if self.tape.is_empty() && connection.tape.len() == TAPE_FRAMES {
                self.tape = std::mem::take(&mut connection.tape);
            }
            if connection.server == AUTHORITY {
                self.history_lost += served.history_lost;
            }
        }
        lied_to.into_iter().for_each(|node| self.note(node, Event::Lied));
    }

    /// The replicas' ends.
    pub fn follow(&mut self, active: bool) {
        for index in 0..self.nodes.len() {
            match self.nodes[index].link {
                Link::Waiting(until) if until <= self.now => self.connect(index, active),
                Link::Waiting(_) => {}
                Link::Connected(number) => {
                    self.disturb(index, number, active);
                    self.deliver(index, number);
                }
            }
            self.nodes[index].tick();
            self.probe(index, active);
            self.send(index, active);
            let events = self.nodes[index].take_events();
            events.into_iter().for_each(|event| self.note(index, event));
        }
        self.abandon();
    }

    /// What a server feeds subscribers from, if it is there and has something.
    fn hub_of(&self, server: usize) -> Option<Arc<Hub>> {
        match server {
            AUTHORITY => self.authority.running.as_ref().map(|running| Arc::clone(&running.hub)),
            node => self.nodes[node].hub(),
        }
    }

    fn connect(&mut self, index: usize, active: bool) {
        self.opened += 1;
        let server = self.nodes[index].next_upstream();
        self.nodes[index].connect(self.opened);
        // Whoever is down, or out of reach, is found out in the next step.
        let lies = active && chance(&mut self.random, self.faults.lie);
        if self.parted_until.contains_key(&(index, server)) {
            return;
        }
        let Some(hub) = self.hub_of(server) else { return };
        let liar = lies.then(|| Liar::new(&self.tape, &mut self.random));
        let opened = Connection::open(index, server, hub, liar);
        self.connections.extend(opened.map(|connection| (self.opened, connection)));
    }

    /// Another server is asked whether it heard the authority later, and answers at once, or lies.
    fn probe(&mut self, index: usize, active: bool) {
        let Some((server, hello)) = self.nodes[index].take_probe() else { return };
        let Some(hub) = self.hub_of(server).filter(|_| !self.parted_until.contains_key(&(index, server))) else {
            return;
        };
        let mut subscription = Subscription::new(hub.now());
        subscription.handle_frame(hub.now(), ToServer::Hello(Box::new(hello)), &*hub);
        let Step::Send(bytes) = subscription.poll(hub.now(), &*hub) else { return };
        let lies = active && chance(&mut self.random, self.faults.lie);
        let lie = lies.then(|| Liar::new(&self.tape, &mut self.random).twist(&bytes, &mut self.random)).flatten();
        let told = lie.map_or_else(|| bytes.to_vec(), |frames| frames.concat());
        let message = told.get(GRPC_PREFIX_BYTES..).and_then(|told| pb::SubscribeResponse::decode(told).ok());
        if let Some(Ok(ToSubscriber::Welcome(welcome))) = message.map(ToSubscriber::try_from) {
            self.nodes[index].handle_probed(&welcome);
        }
    }

    /// Cuts the connection, lets the replica stop reading, or ends it.
    fn disturb(&mut self, index: usize, number: usize, active: bool) {
        if self.befalls(active, self.faults.stall_every) {
            self.stalled_until[index] = self.now + Duration::from_secs(3);
        }
        if self.befalls(active, self.faults.part_every)
            && let Some(connection) = self.connections.get(&number)
        {
            let until = self.now + Duration::from_secs(1) + self.random.within(Duration::from_secs(6));
            self.parted_until.insert((index, connection.server), until);
            self.note(index, Event::Parted);
        }
        let lied = self.connections.get(&number).is_some_and(|connection| connection.liar.is_some());
        if self.befalls(active, self.faults.cut_every) || (lied && !active) {
            self.nodes[index].lose();
            // Half the time the server learns late.
            if chance(&mut self.random, 0.5) {
                self.connections.remove(&number);
            }
        } else if self.befalls(active, self.faults.restart_every) {
            self.restart(index);
        }
    }

    fn deliver(&mut self, index: usize, number: usize) {
        while self.now >= self.stalled_until[index] && self.nodes[index].link == Link::Connected(number) {
            let Some(connection) = self.connections.get_mut(&number) else {
                return self.nodes[index].lose();
            };
            if self.parted_until.contains_key(&(index, connection.server)) {
                return;
            }
            match connection.to_replica.receive(self.now) {
                Some(parcel) => {
                    let hello_intact = connection.hello_intact;
                    self.nodes[index].receive(&parcel, hello_intact);
                }
                None if connection.ended && connection.to_replica.len() == 0 => self.nodes[index].lose(),
                None => return,
            }
        }
    }

    fn send(&mut self, index: usize, active: bool) {
        let frames = self.nodes[index].take_outbox();
        let Link::Connected(number) = self.nodes[index].link else { return };
        let Some(connection) = self.connections.get_mut(&number) else { return };
        for frame in frames {
            let mut bytes = pb::SubscribeRequest::from(&frame).encode_to_vec();
            let intact = !(active && chance(&mut self.random, self.faults.corrupt));
            if !intact {
                corrupt(&mut bytes, 0, &mut self.random);
            }
            if matches!(frame, ToServer::Hello(_)) {
                connection.hello_intact = intact;
            }
            let delay = self.random.within(self.faults.delay_max);
            connection.to_server.send(self.now, delay, bytes, intact);
        }
    }

    /// Connections that no replica uses any more are noticed by the server after a while.
    fn abandon(&mut self) {
        for (number, connection) in &mut self.connections {
            let is_used = self.nodes[connection.client].link == Link::Connected(*number);
            if !is_used && connection.abandoned_until.is_none() {
                let after = self.random.within(Duration::from_secs(3));
                connection.abandoned_until = Some(self.now + after);
            }
        }
    }
}
