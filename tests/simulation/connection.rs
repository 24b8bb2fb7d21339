//! A connection between a server and a replica: the server's subscription, and what lies between.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rescind::hub::Hub;
use rescind::replication::frames::{GoAwayReason, ToServer};
use rescind::replication::source::Seat;
use rescind::replication::subscription::Mode;
use rescind::replication::{Feed as _, Random, Source as _, Step, Subscription};
use rescind::wire::pb;
use rescind::wire::replication::GRPC_PREFIX_BYTES;
use tokio::runtime::Runtime;

use super::faults::Faults;
use super::liar::Liar;
use super::link::{Parcel, Pipe, chance, corrupt};

/// Frames on their way to a replica; then the server waits.
pub const WINDOW: usize = 8;
/// So many frames make a tape.
pub const TAPE_FRAMES: usize = 40;

/// A connection, as both ends and the link know it.
pub struct Connection {
    pub client: usize,
    pub server: usize,
    pub hub: Arc<Hub>,
    subscription: Subscription,
    seat: Box<dyn Seat>,
    mode: Mode,
    pub to_server: Pipe,
    pub to_replica: Pipe,
    pub liar: Option<Liar>,
    /// The first frames of one that does not lie.
    pub tape: Vec<Vec<u8>>,
    pub hello_intact: bool,
    greeted: bool,
    /// The server is done; what is under way still arrives.
    pub ended: bool,
    /// The replica is gone; the server does not know until then.
    pub abandoned_until: Option<Duration>,
}

/// What a server did in a step.
#[derive(Default)]
pub struct Served {
    pub lies: u64,
    /// How many revisions the subscriber said it holds that the server's epoch did not take over.
    pub history_lost: u64,
}

impl Connection {
    /// `None` when the server lets nobody in any more.
    pub fn open(client: usize, server: usize, hub: Arc<Hub>, liar: Option<Liar>) -> Option<Self> {
        let subscription = Subscription::new(hub.now());
        let mode = subscription.mode();
        let mut seat = hub.join("sim".into()).ok()?;
        seat.handle_mode(mode);
        Some(Self {
            client,
            server,
            hub,
            subscription,
            seat,
            mode,
            to_server: Pipe::default(),
            to_replica: Pipe::default(),
            liar,
            tape: Vec::new(),
            hello_intact: true,
            greeted: false,
            ended: false,
            abandoned_until: None,
        })
    }

    /// Does what the server's driver of a subscription does, as long as there is room.
    pub fn serve(
        &mut self,
        now: Duration,
        active: bool,
        faults: Faults,
        random: &mut Random,
        runtime: &Runtime,
    ) -> Served {
        let mut served = Served::default();
        let hub = Arc::clone(&self.hub);
        let moment = hub.now();
        while let Some(parcel) = self.to_server.receive(now) {
            self.take(&parcel, &mut served, runtime);
        }
        if let Some(reason) = self.seat.farewell() {
            self.subscription.begin_farewell(reason);
        }
        while !self.ended && self.to_replica.len() < WINDOW {
            match self.subscription.poll(moment, &*hub) {
                Step::Send(bytes) => served.lies += u64::from(self.send(now, bytes.to_vec(), active, faults, random)),
                Step::ReadHistory { from, bytes_max } => {
                    let deltas = hub.read_history(from, bytes_max);
                    self.subscription.handle_history(moment, deltas, &*hub);
                }
                Step::Wait { .. } => break,
                Step::Close => self.ended = true,
            }
        }
        if self.mode != self.subscription.mode() {
            self.mode = self.subscription.mode();
            self.seat.handle_mode(self.mode);
        }
        served
    }

    /// Sends what the link and the sender's honesty make of it. Whether that is a lie.
    fn send(&mut self, now: Duration, bytes: Vec<u8>, active: bool, faults: Faults, random: &mut Random) -> bool {
        if active && chance(random, faults.lose) {
            return false;
        }
        if self.liar.is_none() && self.tape.len() < TAPE_FRAMES {
            self.tape.push(bytes.clone());
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

    /// The process ends in order.
    pub fn say_goodbye(mut self) {
        self.seat.handle_goodbye();
    }

    fn take(&mut self, parcel: &Parcel, served: &mut Served, runtime: &Runtime) {
        let hub = Arc::clone(&self.hub);
        let message = pb::SubscribeRequest::decode(&*parcel.bytes).ok();
        let Some(frame) = message.and_then(|message| ToServer::try_from(message).ok()) else {
            return self.subscription.begin_go_away(GoAwayReason::Malformed, "not a frame");
        };
        let hello = match &frame {
            ToServer::Hello(hello) => Some(hello.clone()),
            ToServer::Ack(_) | ToServer::Roster(_) => None,
        };
        let acks = matches!(frame, ToServer::Ack(_));
        if let Some(hello) = hello.as_ref().filter(|_| self.subscription.awaits_hello()) {
            if self.seat.handle_hello(hello).is_err() {
                return self.subscription.begin_go_away(GoAwayReason::Denied, "another principal's");
            }
            if let Some(admission) = self.seat.admission() {
                runtime.block_on(admission);
            }
        }
        self.subscription.handle_frame(hub.now(), frame, &*hub);
        if let Some(hello) = hello.filter(|_| !std::mem::replace(&mut self.greeted, true)) {
            let counted = self.subscription.history_lost();
            if counted > 0 {
                self.seat.handle_history_lost(counted);
            }
            let held = hello.held.map(|held| (held, hub.origin().lineage.ancestors.iter()));
            let told = held.and_then(|(held, mut ancestors)| {
                let taken_over = ancestors.find(|ancestor| ancestor.epoch == held.epoch)?.last;
                Some(held.revision.0.saturating_sub(taken_over.0))
            });
            // What a corrupted greeting says is nobody's loss.
            served.history_lost += if parcel.intact { told.unwrap_or(0) } else { counted };
        }
        if let Some(ack) = self.subscription.acked().filter(|_| acks) {
            self.seat.handle_ack(ack);
        }
        if let Some(roster) = self.subscription.take_roster()
            && let Err(fault) = self.seat.handle_roster(&roster)
        {
            self.subscription.begin_go_away(GoAwayReason::Malformed, &fault.to_string());
        }
    }
}
