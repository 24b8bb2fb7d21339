//! Who is below a relay, told in parts.

use super::{NodeId, PolicyInForce, REASON_BYTES_MAX, Role};
use crate::replication::subscription::Mode;
use crate::revocation::{Revision, UnixMillis};

/// The most members that one relay tells of, those below relays below it included: as many as may be connected to a hub.
pub const ROSTER_MAX: usize = 10_000;
/// The most entries, and as many again that are gone, in one part; a message of a subscriber is 16 KiB at most.
pub const PART_ITEMS_MAX: usize = 512;
/// A relay fills a part up to so many bytes, and then with one more entry at most.
pub const PART_BYTES: usize = 12 << 10;
/// The longest address, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// What an entry takes beside its texts, in bytes, at most; and one that is gone.
const FIXED_BYTES: usize = 160;

/// A part of what a relay tells of those below it.
///
/// The first part on a connection begins: whoever was known below the relay and is in no part until `complete` is gone,
/// unless the relay has another memory than before. From then on only what changed is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Names the relay's memory, which ends with its process.
    pub memory: u64,
    /// The first part of this connection.
    pub begins: bool,
    /// All was said up to this change; `None` when more parts follow.
    pub complete: Option<u64>,
    /// The epoch that positions are of; `None` before there is one.
    pub epoch: Option<[u8; 16]>,
    /// Below it in any way, as they are now; at most [`PART_ITEMS_MAX`].
    pub entries: Vec<RosterEntry>,
    /// No longer below it: they said goodbye, ran out, or are elsewhere; at most [`PART_ITEMS_MAX`].
    pub gone: Vec<NodeId>,
    /// How many more there are, beyond [`ROSTER_MAX`].
    pub unlisted: u64,
}

/// A member below a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterEntry {
    /// Its process.
    pub id: NodeId,
    /// The relay that it is or was connected to.
    pub parent: NodeId,
    /// The number of the last change of its membership in the relay's memory: later ones are higher.
    pub change: u64,
    /// The number of the change with which it came there last.
    pub joined: u64,
    /// Whether it is there; one that went without a goodbye is not.
    pub connected: bool,
    /// What is known of it.
    pub about: About,
}

impl RosterEntry {
    /// At most so many bytes on the wire.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let About { name, version, address, reconnect_reason, .. } = &self.about;
        FIXED_BYTES + name.len() + version.len() + address.len() + reconnect_reason.len()
    }
}

/// A part with one more entry than [`PART_BYTES`] has room for stays below 16 KiB.
const _: () = assert!(
    PART_BYTES
        + FIXED_BYTES * 2
        + super::NAME_BYTES_MAX
        + super::VERSION_BYTES_MAX
        + ADDRESS_BYTES_MAX
        + REASON_BYTES_MAX
        < 16 << 10
);

/// What is known of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// For people; at most [`super::NAME_BYTES_MAX`].
    pub name: String,
    /// What it does.
    pub role: Role,
    /// The build; at most [`super::VERSION_BYTES_MAX`].
    pub version: String,
    /// From where it connected; at most [`ADDRESS_BYTES_MAX`].
    pub address: String,
    /// Since when it is connected, or cut off.
    pub since: UnixMillis,
    /// Why it connected again; at most [`REASON_BYTES_MAX`].
    pub reconnect_reason: String,
    /// What it does when stale.
    pub policy: PolicyInForce,
    /// The last revision it acknowledged; at least that by now.
    pub acked: Revision,
    /// Whether it answers checks from a verified set that has caught up.
    pub ready: bool,
    /// How it is being served; `None` when that is not known.
    pub mode: Option<Mode>,
    /// The authority's time in the last word that it is known to have taken; 0 before the first.
    pub source_time: UnixMillis,
}
