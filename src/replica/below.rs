//! What lies below a replica that is served again.

use std::sync::Arc;

use tokio::sync::watch;

use crate::replication::frames::{Roster, Subtree};

/// Summed up, and name by name.
#[derive(Clone)]
pub struct Below {
    /// Counted; told with acks.
    pub subtree: watch::Receiver<Subtree>,
    /// Named; told before the ack that counts them. Whoever changes it changes `subtree` after that.
    pub roster: Arc<dyn TellRoster>,
}

/// Tells of members, part by part.
pub trait TellRoster: Send + Sync {
    /// There is a new connection: everything is to be told again.
    fn begin(&self);
    /// Whether there is something to tell.
    fn is_pending(&self) -> bool;
    /// The next part of it.
    fn next_part(&self) -> Option<Roster>;
}
