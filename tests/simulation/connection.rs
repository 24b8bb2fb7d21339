//! A connection between the authority and a replica: the server's subscription, and what lies between.

use std::time::Duration;

use prost::Message;
use rescind::replication::frames::{GoAwayReason, ToServer};
use rescind::replication::source::Seat;
use rescind::replication::{Feed, Moment, Random, Subscription};
use rescind::wire::pb;
use rescind::wire::replication::GRPC_PREFIX_BYTES;

use super::faults::Faults;
use super::liar::Liar;
use super::link::{Parcel, Pipe, chance, corrupt};

/// A connection, as both ends and the link know it.
pub struct Connection {
    pub subscription: Subscription,
    pub seat: Box<dyn Seat>,
    pub to_server: Pipe,
    pub to_replica: Pipe,
    pub liar: Option<Liar>,
    pub hello_intact: bool,
    /// The server is done; what is under way still arrives.
    pub ended: bool,
    /// The replica is gone; the server does not know until then.
    pub abandoned_until: Option<Duration>,
}

impl Connection {
    /// Sends what the link and the sender's honesty make of it. Whether that is a lie.
    pub fn send(&mut self, now: Duration, bytes: Vec<u8>, active: bool, faults: Faults, random: &mut Random) -> bool {
        if active && chance(random, faults.lose) {
            return false;
        }
        let lie = self.liar.as_mut().filter(|_| active).and_then(|liar| liar.twist(&bytes, random));
        let lied = lie.is_some();
        for mut bytes in lie.unwrap_or_else(|| vec![bytes]) {
            let corrupts = active && chance(random, faults.corrupt);
            if corrupts {
                corrupt(&mut bytes, GRPC_PREFIX_BYTES, random);
            }
            let intact = !corrupts && !lied;
            if active && chance(random, faults.repeat) {
                self.to_replica.send(now, random.within(faults.delay_max), bytes.clone(), intact);
            }
            self.to_replica.send(now, random.within(faults.delay_max), bytes, intact);
        }
        lied
    }

    pub fn take(&mut self, moment: Moment, parcel: &Parcel, hub: &dyn Feed) {
        let message = pb::SubscribeRequest::decode(&*parcel.bytes).ok();
        match message.and_then(|message| ToServer::try_from(message).ok()) {
            Some(frame) => {
                if let ToServer::Hello(hello) = &frame {
                    self.seat.handle_hello(hello);
                }
                self.subscription.handle_frame(moment, frame, hub);
            }
            None => self.subscription.begin_go_away(GoAwayReason::Malformed, "not a frame"),
        }
    }
}
