//! What a replica's owner can be told as it happens, in order and without gaps.

use std::time::Duration;

use crate::replication::FollowerStatus;
use crate::replication::follower::{Alarm, EpochChange};
use crate::revocation::{Delta, Position};

/// Something happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A server accepted the connection; what comes of it is still open.
    Connected {
        /// Its name.
        server: &'a str,
    },
    /// There is no connection, or no longer one.
    Disconnected {
        /// The server's name.
        server: &'a str,
        /// Why.
        reason: &'a str,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// A revision is in force.
    Revision {
        /// What it changed.
        delta: &'a Delta,
        /// The live entries after it.
        entries: u64,
    },
    /// Checks are answered from another set, which was sent as a whole.
    Swapped {
        /// Where it stands.
        position: Position,
        /// Its live entries.
        entries: u64,
        /// Set when the set before it was of another epoch.
        epoch_change: Option<&'a EpochChange>,
    },
    /// People should know about this.
    Alarm(&'a Alarm),
    /// State, position, freshness or policy changed: see the status.
    Status,
}

/// Is told of every event on the driver's task: keep it short, and never wait.
pub trait Observe: Send {
    /// Something happened; `status` is how the replica is after it.
    fn handle_event(&mut self, event: Event<'_>, status: &FollowerStatus);
}

impl<F: FnMut(Event<'_>, &FollowerStatus) + Send> Observe for F {
    fn handle_event(&mut self, event: Event<'_>, status: &FollowerStatus) {
        self(event, status);
    }
}
