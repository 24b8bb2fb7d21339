//! The sending side, for one subscriber: a cursor and a mode, nothing else.
//!
//! # Call order
//! Hand in what the subscriber sends with [`Subscription::handle_frame`]; then, and whenever the source has changed,
//! [`Subscription::poll`] until it says [`Step::Wait`] or [`Step::Close`]. On [`Step::ReadHistory`] read and call
//! [`Subscription::handle_history`]. Poll for the next frame only once the transport has room: that is what bounds the
//! memory of a slow subscriber.
//!
//! # Invariants
//! - U1. Deltas are sent contiguously, from the revision resumed or of the snapshot.
//! - U2. Only a subscriber whose digest is the authority's at its revision is resumed.
//! - U3. A frame of the subscriber that breaks the protocol ends the subscription, and nothing else.

mod greeting;
mod serving;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::frames::{
    Ack, GoAway, GoAwayReason, Hello, PROTOCOL, PROTOCOL_OF_VERIFICATION, REASON_BYTES_MAX, Role, Roster,
    SnapshotReason, ToServer, ToSubscriber,
};
use super::log::Cursor;
use super::moment::Moment;
use super::source::{SnapshotPermit, Source};
use crate::revocation::Revision;

/// How long a subscriber may take to say Hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long a subscriber from the future waits for the log to come to it.
const FUTURE_WAIT: Duration = Duration::from_secs(1);
/// How long a subscriber waits for a snapshot that is being made: less than it waits for an answer.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(8);
/// How long a snapshot may take: whoever reads a chunk now and then keeps others from theirs, and has given up by then.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Without an ack for so long (heartbeats ask for one every second) it is cut.
pub const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Within this window one that was cut or turned away comes back.
const RECONNECT_WINDOW: Duration = Duration::from_secs(10);
/// The frames taken from the log or the history at a time, in bytes: what a subscriber that stalls in the middle of them
/// costs. Frames of the log are shared, but a small one takes half its bytes again for its place in the batch.
const BATCH_BYTES: usize = 16 << 10;

/// How a subscriber is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It gets what it lacks.
    CatchingUp,
    /// It has everything.
    Live,
    /// It fell behind by more than is kept, and gets a snapshot.
    Lagging,
}

impl Mode {
    /// The name used on every surface.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
            Self::Lagging => "lagging",
        }
    }
}

/// What whoever cannot follow is told.
const TOO_OLD: &str = "a verification policy is in force, which takes protocol 2: upgrade this subscriber";

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Send these bytes, then poll again.
    Send(Bytes),
    /// Read the history from here, and say what it has.
    ReadHistory {
        /// The first revision wanted.
        from: Revision,
        /// Stop at about so many bytes.
        bytes_max: usize,
    },
    /// Nothing until a frame comes, the source changes, or this boot time is reached.
    Wait {
        /// The next moment at which time alone matters.
        until: Duration,
    },
    /// It is over: end the stream.
    Close,
}

/// The sending state machine of one subscriber.
#[derive(Debug)]
pub struct Subscription {
    stage: Stage,
    mode: Mode,
    cursor: Cursor,
    /// The last revision that the subscriber may have applied.
    sent: Revision,
    /// Frames taken from the source and not sent yet, with the cursor after each.
    batch: VecDeque<(Bytes, Cursor)>,
    heard_at: Duration,
    /// How many revisions of another epoch the subscriber had that this one has not.
    history_lost: u64,
    acked: Option<Ack>,
    /// The newest protocol that it speaks.
    speaks: u32,
    /// As it said.
    role: Role,
    roster: Option<Roster>,
}

#[derive(Debug)]
enum Stage {
    AwaitingHello {
        since: Duration,
    },
    /// The subscriber holds a revision that is not published here yet.
    AwaitingHead {
        hello: Box<Hello>,
        until: Duration,
    },
    /// Its digest is being looked up in the history.
    Comparing {
        hello: Box<Hello>,
        asked: bool,
    },
    /// A snapshot is owed.
    AwaitingSnapshot {
        reason: SnapshotReason,
        since: Option<Duration>,
        welcomed: bool,
    },
    Snapshot {
        id: u64,
        revision: Revision,
        next: u32,
        chunks: u32,
        since: Duration,
        _permit: SnapshotPermit,
    },
    Streaming {
        reading: bool,
    },
    /// It only asked: Welcome is all it gets.
    Answered,
    Leaving(GoAway),
    /// GoAway was handed over.
    Over(GoAway),
}

impl Subscription {
    /// A stream was opened.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            stage: Stage::AwaitingHello { since: now.boot },
            mode: Mode::CatchingUp,
            cursor: Cursor::default(),
            sent: Revision(0),
            batch: VecDeque::new(),
            heard_at: now.boot,
            history_lost: 0,
            acked: None,
            speaks: PROTOCOL,
            role: Role::Leaf,
            roster: None,
        }
    }

    /// How it is being served.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Nothing came yet: a Hello is the first one, and may be granted.
    #[must_use]
    pub fn awaits_hello(&self) -> bool {
        matches!(self.stage, Stage::AwaitingHello { .. })
    }

    /// The last ack.
    #[must_use]
    pub fn acked(&self) -> Option<&Ack> {
        self.acked.as_ref()
    }

    /// What the frame that was handed in last told of those below; once.
    pub fn take_roster(&mut self) -> Option<Roster> {
        self.roster.take()
    }

    /// How many revisions the subscriber had applied beyond the point that an ancestor was restored to, or of an epoch that is
    /// no ancestor.
    #[must_use]
    pub fn history_lost(&self) -> u64 {
        self.history_lost
    }

    /// Why it was sent away, once GoAway was handed over.
    #[must_use]
    pub fn sent_away(&self) -> Option<&GoAway> {
        match &self.stage {
            Stage::Over(away) => Some(away),
            _ => None,
        }
    }

    /// The subscriber sent a frame.
    pub fn handle_frame(&mut self, now: Moment, frame: ToServer, source: &dyn Source) {
        match (&self.stage, frame) {
            (Stage::Leaving(_) | Stage::Over(_), _) => {}
            (Stage::AwaitingHello { .. }, ToServer::Hello(hello)) => {
                self.role = hello.role;
                self.speaks = hello.protocol.max;
                self.handle_hello(now, hello, source);
            }
            (Stage::AwaitingHello { .. }, ToServer::Ack(_)) => self.leave_malformed("an ack before hello"),
            (Stage::AwaitingHello { .. }, ToServer::Roster(_)) => self.leave_malformed("a roster before hello"),
            (_, ToServer::Hello(_)) => self.leave_malformed("a second hello"),
            (_, ToServer::Ack(ack)) => self.handle_ack(now, ack),
            (_, ToServer::Roster(_)) if self.role != Role::Relay => self.leave_malformed("a roster from no relay"),
            (_, ToServer::Roster(roster)) => self.roster = Some(roster),
        }
    }

    /// Ends the subscription with a GoAway.
    pub fn begin_go_away(&mut self, reason: GoAwayReason, detail: &str) {
        if matches!(self.stage, Stage::Leaving(_) | Stage::Over(_)) {
            return;
        }
        let reconnect_window = match reason {
            GoAwayReason::Shutdown | GoAwayReason::Overloaded | GoAwayReason::Stalled => RECONNECT_WINDOW,
            _ => Duration::ZERO,
        };
        self.batch.clear();
        let detail = detail[..detail.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        self.stage = Stage::Leaving(GoAway { reason, reconnect_window, detail });
    }

    /// The seat must be left.
    pub fn begin_farewell(&mut self, reason: GoAwayReason) {
        let detail = match reason {
            GoAwayReason::Displaced => "another process came with this id",
            _ => "the server stops",
        };
        self.begin_go_away(reason, detail);
    }

    /// What to do next.
    pub fn poll(&mut self, now: Moment, source: &dyn Source) -> Step {
        if let Some((reason, detail)) = self.overdue(now) {
            self.begin_go_away(reason, detail);
        }
        loop {
            let step = match &self.stage {
                Stage::AwaitingHello { since } => Some(Step::Wait { until: *since + HELLO_WITHIN }),
                Stage::AwaitingHead { .. } => self.poll_awaiting_head(now, source),
                Stage::Comparing { .. } => Some(self.poll_comparing()),
                Stage::AwaitingSnapshot { .. } => self.poll_awaiting_snapshot(now, source),
                Stage::Snapshot { .. } => self.poll_snapshot(source),
                Stage::Streaming { .. } => self.poll_streaming(source),
                Stage::Answered => Some(self.take_batched().unwrap_or(Step::Close)),
                Stage::Leaving(away) => {
                    let frame = source.encode(&ToSubscriber::GoAway(away.clone()));
                    self.stage = Stage::Over(away.clone());
                    Some(Step::Send(frame))
                }
                Stage::Over(_) => Some(Step::Close),
            };
            // After it was taken from the source: what came with the policy is in no frame before it is known of.
            if self.cannot_follow(source) {
                self.begin_go_away(GoAwayReason::Protocol, TOO_OLD);
                continue;
            }
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Whether what is served has come to hold what it could not read.
    fn cannot_follow(&self, source: &dyn Source) -> bool {
        self.speaks < PROTOCOL_OF_VERIFICATION
            && !matches!(self.stage, Stage::AwaitingHello { .. } | Stage::Leaving(_) | Stage::Over(_))
            && source.has_verification()
    }

    fn handle_ack(&mut self, now: Moment, ack: Ack) {
        if ack.applied > self.sent {
            return self.leave_malformed("an ack beyond what was sent");
        }
        if self.acked.as_ref().is_some_and(|before| ack.applied < before.applied && ack.ready) {
            return self.leave_malformed("an ack that goes back");
        }
        self.heard_at = now.boot;
        self.acked = Some(ack);
    }

    fn leave_malformed(&mut self, detail: &str) {
        self.begin_go_away(GoAwayReason::Malformed, detail);
    }

    fn overdue(&self, now: Moment) -> Option<(GoAwayReason, &'static str)> {
        match &self.stage {
            Stage::AwaitingHello { since } if now.since(*since) > HELLO_WITHIN => {
                Some((GoAwayReason::Malformed, "no hello"))
            }
            Stage::Snapshot { since, .. } if now.since(*since) > SNAPSHOT_WITHIN => {
                Some((GoAwayReason::Stalled, "the snapshot took longer than 15 min"))
            }
            Stage::Streaming { .. } if now.since(self.heard_at) > STALLED_AFTER => {
                Some((GoAwayReason::Stalled, "no ack for 30 s"))
            }
            _ => None,
        }
    }
}
