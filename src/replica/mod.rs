//! A replica: the handle that checks, and the task that follows the authority.
//!
//! ```text
//! Upstream ──frames──▶ Driver(Following(Follower)) ──publishes──▶ Replica ◀──check── any thread
//! ```
//!
//! The driver does the waiting, connecting and sending that the follower asks for, and decides nothing. The replica is
//! what readers share: the set, and how far it is to be trusted.
//!
//! # Invariants
//! - P1. A check reads one published view: the set and the status belong together.
//! - P2. A check does no I/O, takes no lock on the miss path and does not allocate there.
//! - P3. A hit says revoked, whatever the doubt; a miss says "not revoked" only where there is none.
//! - P4. Before the driver says goodbye, misses become unknown: no replica that says "not revoked" has left in order.

mod below;
pub mod cache;
mod counters;
mod driver;
mod event;
mod following;
mod handle;
mod issuers;
mod keep;
mod server_url;
mod socket_path;
mod upstream;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use below::{Below, TellRoster};
pub use counters::{Break, Counters, Counts};
pub use driver::{Driver, DriverOptions};
pub use event::{Event, Observe};
#[doc(hidden)]
pub use following::Following;
pub use handle::{NotReady, Replica, ReplicaStatus};
pub use keep::Keep;
pub use server_url::{InClear, SERVERS_MAX, ServerUrl, UrlError, host};
pub use socket_path::{SOCKET_PATH_BYTES_MAX, SocketPath, SocketPathError};
pub use upstream::{Connection, OUTGOING_FRAMES, Upstream, UpstreamError};

// What a driver is told and what a replica says of itself, in the words of the agreement.
pub use crate::replication::follower::{ENTRIES_MAX, FollowerOptions, FollowerState};
pub use crate::replication::frames::{NAME_BYTES_MAX, NodeId, PolicyInForce};
pub use crate::replication::{FollowerStatus, PublicKey, PublicKeyError};
