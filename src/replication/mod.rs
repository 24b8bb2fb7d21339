//! The agreement between the authority and every replica, as two state machines without I/O.
//!
//! [`Subscription`] is the sending side, for one subscriber: a cursor and a mode over a [`Source`] that all share.
//! [`Follower`] is the receiving side: it owns the writer of a set and turns frames into verified changes of it.
//! Drivers around them own sockets, clocks, threads and randomness, and decide nothing.
//! `docs/design/protocol.md` states frames, encodings and guarantees.

mod backoff;
pub mod fleet;
pub mod follower;
pub mod frames;
mod lineage;
mod log;
mod moment;
pub mod propagation;
pub mod signature;
pub mod source;
pub mod subscription;

pub use backoff::{Backoff, Random};
pub use follower::{Action, Follower, FollowerOptions, FollowerState, FollowerStatus};
pub use lineage::Lineage;
pub use log::{Cursor, FramedLog, LogEntry, LogError, LogPoint, LogRead};
pub use moment::Moment;
pub use signature::{PublicKey, PublicKeyError, Signature, Signer};
pub use source::{Feed, FrameEncoder, Source};
pub use subscription::{Step, Subscription};
