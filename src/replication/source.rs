//! What a subscription is fed from, shared by all subscribers: a log of framed bytes, the history behind it, and a
//! snapshot behind that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::fleet::RosterFault;
use super::frames::{Ack, DeltaFrame, GoAwayReason, Hello, NodeId, Roster, ToSubscriber};
use super::lineage::Lineage;
use super::log::{Cursor, LogRead};
use super::moment::Moment;
use super::signature::PublicKey;
use super::subscription::Mode;
use crate::revocation::ports::Pending;
use crate::revocation::{Digest, Epoch, Policy, Revision, SetKey, UnixMillis};

/// Turns a frame into the bytes of the wire, with the wire's own framing around them.
pub trait FrameEncoder: Send + Sync {
    /// The bytes. The same frame always yields the same.
    fn encode(&self, frame: &ToSubscriber) -> Bytes;
}

/// What never changes while an epoch is served.
#[derive(Clone, Debug)]
pub struct Origin {
    /// This process.
    pub node: NodeId,
    /// The epoch.
    pub epoch: Epoch,
    /// Where it came from.
    pub lineage: Lineage,
    /// Its secret.
    pub set_key: SetKey,
    /// The authority's key.
    pub public_key: PublicKey,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Without progress for so long, subscribers look elsewhere.
    pub dead_after: Duration,
}

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last revision.
    pub revision: Revision,
    /// The digest at it.
    pub digest: Digest,
    /// The logged policy.
    pub policy: Policy,
    /// The authority's last stated time.
    pub source_time: UnixMillis,
    /// How long ago it was learnt.
    pub source_age: Duration,
}

/// A snapshot that can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Names it as long as it is kept.
    pub id: u64,
    /// Its revision.
    pub revision: Revision,
    /// How many entries it has.
    pub entries: u64,
    /// In how many chunks.
    pub chunks: u32,
    /// Its canonical header.
    pub header: Bytes,
}

/// The right to have one snapshot sent; given back when dropped.
#[derive(Debug)]
pub struct SnapshotPermit(Arc<AtomicUsize>);

impl SnapshotPermit {
    /// One more under way, unless that would be more than `limit`.
    #[must_use]
    pub fn take(under_way: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |now: usize| (now < limit).then_some(now + 1);
        under_way.try_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(under_way)))
    }
}

impl Drop for SnapshotPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Pulled from by every [`super::Subscription`]; never blocks.
pub trait Source {
    /// The facts of the epoch.
    fn origin(&self) -> &Origin;
    /// The relays between the authority and here, nearest first, this one included if it is one.
    fn path(&self) -> Vec<NodeId>;
    /// The end of the log.
    fn head(&self, now: Moment) -> Head;
    /// Whether a verification policy is part of the state at the end of the log.
    fn has_verification(&self) -> bool;
    /// The first revision that can be read one by one, from the log or the history.
    fn oldest(&self) -> Revision;
    /// The digest at a revision that the log still knows.
    fn digest_at(&self, revision: Revision) -> Option<Digest>;
    /// What comes after a cursor, up to about `bytes_max`.
    fn read(&self, cursor: Cursor, bytes_max: usize) -> LogRead;
    /// The newest snapshot; `None` while there is none.
    fn snapshot(&self) -> Option<SnapshotOffer>;
    /// A frame of a snapshot: its chunks, then its end. `None` once that snapshot is no longer kept.
    fn snapshot_frame(&self, id: u64, index: u32) -> Option<Bytes>;
    /// The right to begin with a snapshot; `None` when too many are under way.
    fn admit_snapshot(&self) -> Option<SnapshotPermit>;
    /// Encodes a frame that is not shared.
    fn encode(&self, frame: &ToSubscriber) -> Bytes;
}

/// Why revisions cannot be read from the history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// They are no longer kept.
    #[error("revision {0} is no longer kept")]
    Compacted(Revision),
    /// It cannot be read now.
    #[error("the history cannot be read: {0}")]
    Unavailable(String),
}

/// What is known of a subscriber before it says anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// From where it connected.
    pub address: String,
    /// Who it proved to be; `None` when nobody was asked.
    pub principal: Option<Arc<str>>,
}

/// One that was not asked who it is.
impl From<&str> for Guest {
    fn from(address: &str) -> Self {
        Self { address: address.to_owned(), principal: None }
    }
}

/// The member belongs to another principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this member id is that of another principal's process")]
pub struct NotItsOwner;

/// What a driver of subscriptions needs besides.
pub trait Feed: Source + Send + Sync {
    /// Now.
    fn now(&self) -> Moment;
    /// Takes a place among the subscribers.
    ///
    /// # Errors
    /// When there are too many, or the server stops.
    fn join(&self, guest: Guest) -> Result<Box<dyn Seat>, GoAwayReason>;
    /// Deltas from a revision on, contiguous, the last of them signed. May block: call it where that hurts nobody.
    ///
    /// # Errors
    /// When they are not kept or cannot be read.
    fn read_history(&self, from: Revision, bytes_max: usize) -> Result<Vec<(Revision, DeltaFrame)>, HistoryError>;
}

/// What surfaces serve: the feed of the moment.
pub trait Feeds: Send + Sync {
    /// The feed; `None` while there is nothing to serve yet, or any more.
    fn feed(&self) -> Option<Arc<dyn Feed>>;
}

impl<F: Feed + 'static> Feeds for Arc<F> {
    fn feed(&self) -> Option<Arc<dyn Feed>> {
        Some(Arc::clone(self) as Arc<dyn Feed>)
    }
}

/// A place among the subscribers; left when dropped.
pub trait Seat: Send {
    /// Resolves when there may be something new to poll for.
    fn changed(&mut self) -> Pending<'_, ()>;
    /// Why the subscription must end, if it must.
    fn farewell(&self) -> Option<GoAwayReason>;
    /// Who it is.
    ///
    /// # Errors
    /// When its id is another principal's: it must go.
    fn handle_hello(&mut self, hello: &Hello) -> Result<(), NotItsOwner>;
    /// It holds so many revisions of another epoch that were not taken over.
    fn handle_history_lost(&mut self, revisions: u64);
    /// What it has applied.
    fn handle_ack(&mut self, ack: &Ack);
    /// Who is below it, in part.
    ///
    /// # Errors
    /// When it breaks the rules: it must go.
    fn handle_roster(&mut self, roster: &Roster) -> Result<(), RosterFault>;
    /// How it is being served.
    fn handle_mode(&mut self, mode: Mode);
    /// It ended its side in order and waited for the end: whoever leaves without this is cut off.
    fn handle_goodbye(&mut self);
    /// What must be waited for after Hello, before anything is sent; once.
    fn admission(&mut self) -> Option<Pending<'static, ()>>;
}

/// Remembers who ought to be following, beyond their connections. Nothing here blocks.
pub trait Members: Send + Sync {
    /// Who sits in a seat, from now on. Returns what must be waited for before it is sent anything.
    ///
    /// # Errors
    /// When its id is another principal's: it must go, and nothing was changed.
    fn handle_hello(
        &self,
        seat: u64,
        guest: &Guest,
        hello: &Hello,
    ) -> Result<Option<Pending<'static, ()>>, NotItsOwner>;
    /// What the member in a seat has applied, and how it behaves when stale.
    fn handle_ack(&self, seat: u64, member: NodeId, ack: &Ack);
    /// Who is below the relay in a seat, in part.
    ///
    /// # Errors
    /// When it breaks the rules: it must go.
    fn handle_roster(&self, seat: u64, member: NodeId, roster: &Roster) -> Result<(), RosterFault>;
    /// How the member in a seat is being served.
    fn handle_mode(&self, seat: u64, member: NodeId, mode: Mode);
    /// The seat is left: with a goodbye, or cut off.
    fn handle_leave(&self, seat: u64, member: NodeId, goodbye: bool);
}
