//! A follower, its driver, and the readers of its set.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rescind::replication::follower::{Alarm, TICK};
use rescind::replication::frames::{NodeId, ToServer, ToSubscriber, WelcomeMode};
use rescind::replication::{Action, Follower, FollowerOptions, FollowerState, Moment};
use rescind::revocation::ports::Answer;
use rescind::revocation::{Digest, Position, Revision, RevocationSet, UnixMillis, UnknownCause};
use rescind::wire::pb;
use rescind::wire::replication::GRPC_PREFIX_BYTES;

use super::authority::{STRANGERS, SUBJECTS, claims};
use super::history::{Event, Observed};
use super::link::Parcel;

pub struct Replica {
    index: usize,
    follower: Follower,
    /// How far its wall clock is off, in ms.
    wall_off: i64,
    served: Option<Arc<RevocationSet>>,
    pub link: Link,
    ticked_at: Duration,
    /// What the last Hello said, and whether it left as it was.
    held: Option<(Revision, Digest)>,
    pub outbox: Vec<ToServer>,
    events: Vec<Event>,
    /// The revision of what is served.
    reached: Revision,
    gave_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Until this time.
    Waiting(Duration),
    /// This connection.
    Connected(usize),
}

impl Replica {
    pub fn new(index: usize, seed: u64, now: Duration, wall_off: i64) -> Self {
        let now = moment(now, wall_off);
        let options = FollowerOptions::leaf(NodeId([index as u8 + 1; 16]), &format!("replica-{index}"), seed);
        let mut replica = Self {
            index,
            wall_off,
            follower: Follower::new(options),
            served: None,
            link: Link::Waiting(now.boot),
            ticked_at: now.boot,
            held: None,
            outbox: Vec::new(),
            events: Vec::new(),
            reached: Revision(0),
            gave_up: false,
        };
        replica.carry_out(now);
        replica
    }

    /// Loses all that is in memory, and begins anew.
    pub fn restart(&mut self, seed: u64, now: Duration) {
        *self = Self::new(self.index, seed, now, self.wall_off);
        self.events.push(Event::Restarted);
    }

    /// Its wall clock steps.
    pub fn set_wall(&mut self, wall_off: i64) {
        self.wall_off = wall_off;
    }

    pub fn connect(&mut self, now: Duration, connection: usize) {
        let now = self.moment(now);
        self.link = Link::Connected(connection);
        self.follower.handle_connected(now);
        self.carry_out(now);
    }

    pub fn lose(&mut self, now: Duration) {
        self.events.push(Event::Lost);
        self.follower.handle_disconnect("connection lost");
        self.carry_out(self.moment(now));
    }

    pub fn tick(&mut self, now: Duration) {
        let now = self.moment(now);
        if now.since(self.ticked_at) >= TICK {
            self.ticked_at = now.boot;
            self.follower.handle_tick(now);
            self.carry_out(now);
        }
    }

    fn moment(&self, now: Duration) -> Moment {
        moment(now, self.wall_off)
    }

    pub fn receive(&mut self, now: Duration, parcel: &Parcel, hello_intact: bool) {
        let now = self.moment(now);
        let message = parcel.bytes.get(GRPC_PREFIX_BYTES..).map(pb::SubscribeResponse::decode);
        let frame = match message {
            Some(Ok(message)) => ToSubscriber::try_from(message).ok(),
            _ => None,
        };
        let Some(frame) = frame else {
            self.events.push(Event::Refused);
            self.follower.handle_disconnect("not a frame");
            return self.carry_out(now);
        };
        let heartbeat = match &frame {
            ToSubscriber::Heartbeat(heartbeat) if parcel.intact => Some(heartbeat.revision),
            _ => None,
        };
        match &frame {
            ToSubscriber::Welcome(welcome) => self.events.push(Event::Welcomed {
                held: self.held,
                oldest: welcome.oldest,
                resumed: welcome.mode == WelcomeMode::Resume,
                intact: parcel.intact && hello_intact,
            }),
            ToSubscriber::SnapshotBegin(begin)
                if begin.reason == rescind::replication::frames::SnapshotReason::Lagged =>
            {
                self.events.push(Event::Lagged);
            }
            _ => {}
        }
        self.follower.handle_frame(now, frame);
        self.carry_out(now);
        self.note(heartbeat);
    }

    fn note(&mut self, heartbeat: Option<Revision>) {
        let status = self.follower.status();
        let after = status.revision;
        let follows = matches!(status.state, FollowerState::Live | FollowerState::Resuming);
        if let Some(revision) = heartbeat.filter(|_| follows && !self.gave_up) {
            self.events.push(Event::Heartbeat { revision, applied: after });
        }
        self.gave_up = false;
    }

    fn carry_out(&mut self, now: Moment) {
        while let Some(action) = self.follower.poll_action() {
            match action {
                Action::Connect { after } => self.link = Link::Waiting(now.boot + after),
                Action::Send(frame) => {
                    if let ToServer::Hello(hello) = &frame {
                        self.held = hello.held.map(|held| (held.revision, held.digest));
                    }
                    self.outbox.push(frame);
                }
                Action::Disconnect { .. } => {
                    self.gave_up = true;
                    self.outbox.clear();
                    self.events.push(Event::Refused);
                }
                Action::Swap(swap) => {
                    self.reached = swap.set.revision();
                    self.events.push(Event::Swapped { to: self.reached });
                    self.served = Some(swap.set);
                }
                Action::Applied { delta, .. } => {
                    let (from, to) = (self.reached, delta.revision);
                    self.reached = to;
                    self.events.push(Event::Advanced { from, to });
                }
                Action::Rebuild(rebuild) => rebuild.run(),
                Action::Alarm(Alarm::Diverged(_)) => self.events.push(Event::Diverged),
                // There is no other server here.
                Action::Probe(_) => {}
                Action::Alarm(_) | Action::Publish(_) | Action::Verified(_) => {}
            }
        }
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What readers see.
    pub fn observe(&self, now: Duration) -> Observed {
        let now = self.moment(now);
        let status = self.follower.status();
        let is_revoked = |subject: &u32| {
            let found = self.served.as_ref().map(|set| set.check(&claims(*subject), now.wall.seconds()));
            found.is_some_and(|finding| finding.hit.is_some())
        };
        let revoked: BTreeSet<u32> = (0..SUBJECTS + STRANGERS).filter(is_revoked).collect();
        Observed {
            live: status.state == FollowerState::Live,
            diverged: status.state == FollowerState::Diverged,
            ready: status.ready,
            synced: self.served.is_some(),
            revision: status.revision,
            digest: status.digest,
            revoked,
            staleness: status.staleness(now),
        }
    }

    /// A check, answered as a service that holds this replica answers it; `None` before there is any set.
    pub fn check(&self, now: Duration, subject: u32, at_least: Position) -> Option<Answer> {
        let now = self.moment(now);
        let status = self.follower.status();
        let mut finding = self.served.as_ref()?.check(&claims(subject), now.wall.seconds());
        let diverged = status.state == FollowerState::Diverged;
        if diverged {
            finding.revision = finding.revision.min(status.revision);
        }
        let doubt = diverged.then_some(UnknownCause::Diverged);
        Some(Answer::of(finding, status.epoch?, status.staleness(now), doubt, Some(at_least)))
    }

    /// Whether it is live at this state.
    pub fn is_at(&self, revision: Revision, digest: Digest) -> bool {
        let status = self.follower.status();
        status.state == FollowerState::Live && status.ready && (status.revision, status.digest) == (revision, digest)
    }
}

fn moment(now: Duration, wall_off: i64) -> Moment {
    Moment { boot: now, wall: UnixMillis((now.as_millis() as u64).saturating_add_signed(wall_off)) }
}
