//! The frames of a subscription, one type per message of `proto/rescind/v1/replication.proto`.
//!
//! Frames hold what a peer *said*: counts and lengths are within their limits, nothing is verified yet.

mod roster;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub use roster::{ADDRESS_BYTES_MAX, About, PART_BYTES, PART_ITEMS_MAX, ROSTER_MAX, Roster, RosterEntry};

use super::lineage::Lineage;
use super::signature::{PublicKey, Signature, Statement};
use crate::revocation::verification::VERIFICATION_BYTES_MAX;
use crate::revocation::{Chain, Digest, Epoch, Minute, Policy, Revision, SetKey, SnapshotChunk, UnixMillis, WhenStale};

/// The newest protocol version that this build speaks.
pub const PROTOCOL: u32 = 2;
/// The oldest.
pub const PROTOCOL_MIN: u32 = 1;
/// The oldest in which a state with a verification policy can be told: whoever speaks none so new cannot read it.
pub const PROTOCOL_OF_VERIFICATION: u32 = 2;
/// The version that signatures state: that of what is signed, which has not changed since.
pub const PROTOCOL_SIGNED: u32 = 1;
/// The longest subscriber name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest reason for reconnecting, and the longest detail of a [`GoAway`], in bytes.
pub const REASON_BYTES_MAX: usize = 256;
/// The longest build version, in bytes.
pub const VERSION_BYTES_MAX: usize = 64;
/// The most relays between a subscriber and the authority.
pub const PATH_MAX: usize = 16;
/// The most laggards an [`Ack`] names.
pub const LAGGARDS_MAX: usize = 16;
/// The most chunks of one snapshot: a tebibyte, beyond any set.
pub const CHUNKS_MAX: u32 = 1 << 22;
/// The largest snapshot header, in bytes: 32 shapes of eight names of 128 bytes, some fixed fields, and a verification policy.
pub const HEADER_BYTES_MAX: usize = (64 << 10) + 12 + VERIFICATION_BYTES_MAX;
/// The largest canonical delta, in bytes: 20,000 upserts with their exceptions fit, were each of the usual size.
pub const DELTA_BYTES_MAX: usize = 16 << 20;
/// The largest frame in either direction, encoded, in bytes.
pub const FRAME_BYTES_MAX: usize = DELTA_BYTES_MAX + (1 << 10);

/// Names a process: a subscriber, or a relay in a path. 16 random bytes, kept as long as the process lives,
/// or as its cache on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// From the subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToServer {
    /// First, and once.
    Hello(Box<Hello>),
    /// At most one a second, or at once when asked.
    Ack(Ack),
    /// From a relay: who is below it. What changed goes before the next ack that counts it.
    Roster(Roster),
}

/// To the subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToSubscriber {
    /// The answer to Hello.
    Welcome(Box<Welcome>),
    /// A snapshot follows.
    SnapshotBegin(SnapshotBegin),
    /// A part of it.
    SnapshotChunk(SnapshotChunk),
    /// All of it was sent.
    SnapshotEnd(SnapshotEnd),
    /// One revision.
    Delta(DeltaFrame),
    /// Every delta up to its revision was sent.
    Heartbeat(Heartbeat),
    /// The server ends the subscription.
    GoAway(GoAway),
}

/// The protocol versions a subscriber speaks, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolRange {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl ProtocolRange {
    /// What this build speaks.
    pub const SPOKEN: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL };

    /// The newest version that lies in both; `None` when they have none in common.
    #[must_use]
    pub fn common(&self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }

    /// Whether a version lies in it.
    #[must_use]
    pub fn contains(&self, version: u32) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// What a subscriber does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Checks, and serves nobody.
    Leaf,
    /// Serves the same frames again.
    Relay,
}

/// A verified state: where it stands, and its digest there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The epoch.
    pub epoch: Epoch,
    /// The revision.
    pub revision: Revision,
    /// The digest at it.
    pub digest: Digest,
}

/// Who subscribes, and what it holds already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it speaks.
    pub protocol: ProtocolRange,
    /// Which process it is.
    pub subscriber: NodeId,
    /// For people; at most [`NAME_BYTES_MAX`].
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What it holds; `None` when nothing that can be gone on from.
    pub held: Option<Held>,
    /// It is not ready below this revision of the epoch it holds.
    pub min_revision: Revision,
    /// Why it connects again, at most [`REASON_BYTES_MAX`]; empty the first time.
    pub reconnect_reason: String,
    /// The relays between it and the authority, nearest first; at most [`PATH_MAX`].
    pub path: Vec<NodeId>,
    /// The build; at most [`VERSION_BYTES_MAX`].
    pub version: String,
    /// Only asks what Welcome says: the stream ends after it, and no place among the subscribers is taken.
    pub probe: bool,
    /// What it does when stale, as far as it knows the logged policy; `None` when it does not say.
    pub policy: Option<PolicyInForce>,
}

/// What a subscriber has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The last revision of this subscription's epoch that checks are answered from; 0 before there is one.
    pub applied: Revision,
    /// The digest at it.
    pub digest: Digest,
    /// It answers checks from a verified set at or beyond the Welcome's head and its own minimum.
    pub ready: bool,
    /// What it does when stale.
    pub policy: Option<PolicyInForce>,
    /// Of a relay: what lies below it.
    pub subtree: Option<Subtree>,
    /// The authority's time in the last word that it took as news; 0 before the first.
    pub source_time: UnixMillis,
}

/// What a checker does when stale: the stricter of the logged and the local policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyInForce {
    /// The staleness it accepts, whole seconds.
    pub max_staleness: Duration,
    /// What it does beyond.
    pub when_stale: WhenStale,
}

impl PolicyInForce {
    /// The loosest there is: what one who says nothing adds to the logged policy.
    pub const LOOSEST: Self = Self { max_staleness: Duration::from_secs(u64::MAX), when_stale: WhenStale::ServeStale };

    /// What the logged policy says.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        Self { max_staleness: policy.max_staleness, when_stale: policy.when_stale }
    }

    /// What is in force: the stricter of the logged and the local policy; with `break_glass` it serves stale whatever
    /// they say.
    #[must_use]
    pub fn resolve(logged: &Policy, local: Option<Self>, break_glass: bool) -> Self {
        let logged = Self::of(logged);
        let strict = local.map_or(logged, |local| logged.stricter(local));
        if break_glass { Self { when_stale: WhenStale::ServeStale, ..strict } } else { strict }
    }

    /// The looser of the two, field by field.
    #[must_use]
    pub fn looser(self, other: Self) -> Self {
        Self {
            max_staleness: self.max_staleness.max(other.max_staleness),
            when_stale: self.when_stale.min(other.when_stale),
        }
    }

    /// The stricter of the two, field by field.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        Self {
            max_staleness: self.max_staleness.min(other.max_staleness),
            when_stale: self.when_stale.max(other.when_stale),
        }
    }
}

/// What lies below a relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtree {
    /// Connected.
    pub subscribers: u64,
    /// Of them ready: they answer from a verified set that has caught up.
    pub ready: u64,
    /// The lowest revision that all ready ones have applied.
    pub applied_min: Revision,
    /// Those furthest behind, of those behind at all; at most [`LAGGARDS_MAX`].
    pub laggards: Vec<NodeId>,
    /// The loosest policy among them.
    pub loosest_policy: Option<PolicyInForce>,
    /// It counts those of whom the [`Roster`] tells up to this change.
    pub changes: u64,
}

/// What follows a Welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WelcomeMode {
    /// Deltas, from the revision after the one held.
    Resume,
    /// A snapshot, and deltas from the revision after it.
    Snapshot,
}

/// What both sides go by from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version used.
    pub protocol: u32,
    /// The epoch; a subscription never spans two.
    pub epoch: Epoch,
    /// Where the epoch came from.
    pub lineage: Lineage,
    /// The secret of its fingerprints and digests.
    pub set_key: SetKey,
    /// What follows.
    pub mode: WelcomeMode,
    /// The last revision published.
    pub head: Revision,
    /// The first revision that can still be sent one by one.
    pub oldest: Revision,
    /// The authority's last stated time.
    pub source_time: UnixMillis,
    /// How long ago the sender learnt it.
    pub source_age: Duration,
    /// Between two heartbeats.
    pub heartbeat_interval: Duration,
    /// Without progress of `source_time` for so long, the subscriber looks elsewhere.
    pub dead_after: Duration,
    /// The logged policy at `head`.
    pub policy: Policy,
    /// The relays between the authority and the sender, nearest to the sender first; at most [`PATH_MAX`].
    pub path: Vec<NodeId>,
    /// The key that signs deltas, heartbeats and snapshots.
    pub public_key: PublicKey,
}

/// Why a subscriber is not served deltas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotReason {
    /// It holds nothing.
    Empty,
    /// It holds another epoch.
    OtherEpoch,
    /// The revisions it lacks are no longer kept.
    Compacted,
    /// Its digest differs from the authority's at that revision.
    DigestDiffers,
    /// It fell behind by more than is kept, in mid-stream.
    Lagged,
}

/// A snapshot follows: as many chunks, then its end. No delta in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// Why.
    pub reason: SnapshotReason,
    /// Which one, for logs.
    pub id: u64,
    /// The revision it is of.
    pub revision: Revision,
    /// How many entries it holds.
    pub entries: u64,
    /// How many chunks follow; at most [`CHUNKS_MAX`].
    pub chunks: u32,
    /// The canonical header; at most [`HEADER_BYTES_MAX`].
    pub header: Bytes,
}

/// What proves a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// The revision.
    pub revision: Revision,
    /// The digest at it.
    pub digest: Digest,
    /// The chain at it.
    pub chain: Chain,
    /// SHA-256 over the header and the SHA-256 over all chunks ([`crate::revocation::Built::sha256`]).
    pub sha256: [u8; 32],
    /// Over [`super::signature::Statement`] and `sha256`.
    pub signature: Signature,
    /// The time that the revision stated.
    pub source_time: UnixMillis,
}

/// One revision's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaFrame {
    /// [`crate::revocation::Delta::encode`]; at most [`DELTA_BYTES_MAX`]. The chain runs over exactly these bytes.
    pub canonical: Bytes,
    /// That of a heartbeat about the state after it, at the time it states ([`super::signature::Statement`]). `None` where
    /// a later frame's covers it: through the chain, a signature is about everything up to its revision.
    pub signature: Option<Signature>,
    /// Somebody waits: acknowledge at once.
    pub ack_now: bool,
}

/// A signed word of the authority, behind every delta up to its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The revision.
    pub revision: Revision,
    /// The authority's time when it signed.
    pub source_time: UnixMillis,
    /// The digest at the revision.
    pub digest: Digest,
    /// The chain at the revision.
    pub chain: Chain,
    /// The expiry floor at the revision.
    pub floor: Minute,
    /// Somebody waits: acknowledge at once.
    pub ack_now: bool,
    /// Over [`super::signature::Statement`].
    pub signature: Signature,
}

impl Heartbeat {
    /// What its signature is about, if it is of this epoch.
    #[must_use]
    pub fn statement(&self, protocol: u32, epoch: Epoch) -> Statement {
        let Self { revision, digest, chain, floor, source_time, .. } = *self;
        Statement { protocol, epoch, revision, digest, chain, floor, source_time }
    }
}

/// Why a server ends a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoAwayReason {
    /// It stops.
    Shutdown,
    /// Too many snapshots are under way, or too many subscribers.
    Overloaded,
    /// No protocol version in common.
    Protocol,
    /// The subscriber is ahead of it.
    BehindSubscriber,
    /// The subscriber read or acknowledged nothing for too long.
    Stalled,
    /// A frame broke the protocol.
    Malformed,
    /// The subscriber follows a newer epoch.
    OldEpoch,
    /// It lies below the subscriber.
    Loop,
    /// Another process came with the subscriber's id.
    Displaced,
    /// The subscriber's principal may not do what it does, or no longer.
    Denied,
}

impl GoAwayReason {
    /// All of them, each at the place of its discriminant.
    pub const ALL: [Self; 10] = [
        Self::Shutdown,
        Self::Overloaded,
        Self::Protocol,
        Self::BehindSubscriber,
        Self::Stalled,
        Self::Malformed,
        Self::OldEpoch,
        Self::Loop,
        Self::Displaced,
        Self::Denied,
    ];

    /// The name used in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Overloaded => "overloaded",
            Self::Protocol => "protocol",
            Self::BehindSubscriber => "behind_subscriber",
            Self::Stalled => "stalled",
            Self::Malformed => "malformed",
            Self::OldEpoch => "old_epoch",
            Self::Loop => "loop",
            Self::Displaced => "displaced",
            Self::Denied => "denied",
        }
    }
}

/// The last frame of a subscription that the server ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// Why.
    pub reason: GoAwayReason,
    /// Come back at a random moment within it; zero: as the subscriber's own back-off says.
    pub reconnect_window: Duration,
    /// For people; at most [`REASON_BYTES_MAX`].
    pub detail: String,
}
