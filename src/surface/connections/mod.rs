//! The connections of a listener: who is let in, who is sent away for others, and when one has to end.
//!
//! ```text
//! accept ── admit ──▶ Place ◀── requests begin and end ── service
//!             │         ▲ └────── Watch: first request, idle, responses that are not taken
//!           Table       └──────── Proof, among every request's extensions
//! ```
//!
//! Accepting never waits for a place: somebody else's is taken, or the new connection is closed.

mod fault;
mod place;
mod proof;
mod table;
mod taken;
mod watch;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::budget::Budget;
use super::handshake::HandshakeFailure;
use super::peer::Peer;
use crate::security::log_limit::LogLimit;
use table::{Displaced, Refused, Table};

pub use proof::{Proof, TooManyConnections};
pub use table::Limits;

pub(super) use fault::Midway;
pub(super) use place::{Ending, UnderWay, WATCHES_MAX};
pub(super) use proof::prove_who_is_answered;
pub(super) use taken::Taken;
pub(super) use watch::Watch;

/// Connections at once, unless told otherwise: a fleet of 10,000 subscribers, and half as many callers.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Why connections are not let in, in the order of [`Connections::refused`].
pub const REFUSED: [&str; 3] = ["full", "address", "principal"];
/// Why connections are closed by this side, in the order of [`Connections::closed`].
pub const CLOSED: [&str; 6] = ["unproven", "displaced", "first_request", "idle", "untaken", "certificate"];

/// Why this side closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    /// It had not proven itself, and its place was needed.
    Unproven,
    /// It was idle, and its place was needed.
    Displaced,
    /// It asked nothing.
    FirstRequest,
    /// It asked nothing any more.
    Idle,
    /// It did not take what it had asked for.
    Untaken,
    /// The certificate that it had shown was taken back.
    Certificate,
}

impl Closed {
    fn ending(self) -> Ending {
        match self {
            Self::Unproven | Self::Untaken => Ending::Cut,
            Self::Displaced | Self::FirstRequest | Self::Idle | Self::Certificate => Ending::Leave,
        }
    }
}

/// The connections that a listener has, and those it had to close.
#[derive(Debug)]
pub struct Connections {
    begun: Instant,
    budget: Arc<Budget>,
    table: Mutex<Table>,
    open: AtomicU64,
    broken: AtomicU64,
    refused: [AtomicU64; REFUSED.len()],
    closed: [AtomicU64; CLOSED.len()],
    handshakes: [AtomicU64; HandshakeFailure::ALL.len()],
    logged: LogLimit,
}

/// One connection, as long as it lives.
pub(super) struct Open {
    connections: Arc<Connections>,
    place: Arc<place::Place>,
}

/// The hand that ends a connection whose certificate was taken back.
pub(super) struct Recall {
    connections: Arc<Connections>,
    place: Arc<place::Place>,
}

impl Recall {
    pub(super) fn end(self) {
        self.connections.note_closed(Closed::Certificate);
        self.place.end(Closed::Certificate.ending());
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            budget: Arc::default(),
            table: Mutex::new(Table::new(Limits::of(CONNECTIONS_MAX))),
            open: AtomicU64::default(),
            broken: AtomicU64::default(),
            refused: Default::default(),
            closed: Default::default(),
            handshakes: Default::default(),
            logged: LogLimit::default(),
        }
    }
}

impl Connections {
    /// From now on there may be so many. Nobody who is there has to go.
    pub(super) fn limit(&self, limits: Limits) {
        self.table.lock().limits = limits;
    }

    /// The requests that come over them.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Of them, those that have not proven themselves.
    #[must_use]
    pub fn unproven(&self) -> u64 {
        self.table.lock().unproven() as u64
    }

    /// Closed since the listener began because the far end broke HTTP, went beyond its bounds, or fell silent in the middle
    /// of a request. One that never asked anything, or is idle between two requests, is not among them.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Not let in since the listener began, in the order of [`REFUSED`].
    #[must_use]
    pub fn refused(&self) -> [u64; REFUSED.len()] {
        std::array::from_fn(|index| self.refused[index].load(Ordering::Relaxed))
    }

    /// Closed since the listener began for their place or their silence, in the order of [`CLOSED`].
    #[must_use]
    pub fn closed(&self) -> [u64; CLOSED.len()] {
        std::array::from_fn(|index| self.closed[index].load(Ordering::Relaxed))
    }

    /// TLS handshakes that failed, in the order of [`HandshakeFailure::ALL`]. A far end that only went away is not among
    /// them.
    #[must_use]
    pub fn handshakes_failed(&self) -> [u64; HandshakeFailure::ALL.len()] {
        self.handshakes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Lets a connection in, at the cost of another one if need be; `None` if it has to be closed.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Option<Open> {
        let now = Instant::now();
        let place = |id| Arc::new(place::Place::new(id, Arc::downgrade(self), self.begun, now));
        let admitted = self.table.lock().admit(peer, now, place);
        match admitted {
            Ok((place, gone)) => {
                gone.iter().for_each(|(place, why)| self.displaced(place, *why));
                self.open.fetch_add(1, Ordering::Relaxed);
                Some(Open { connections: Arc::clone(self), place })
            }
            Err(refused) => {
                self.note_refused(refused, peer);
                None
            }
        }
    }

    /// Closes the connection whose place is worth least, because the system has no room for a new one; whether there was
    /// any.
    pub(super) fn make_room(&self) -> bool {
        let gone = self.table.lock().displace(Instant::now());
        gone.is_some_and(|(place, why)| {
            self.displaced(&place, why);
            true
        })
    }

    fn prove(&self, place: &place::Place, principal: Option<&str>) -> Result<(), TooManyConnections> {
        let mut table = self.table.lock();
        let (proven, limit) = (table.prove(place.id(), principal, Instant::now()), table.limits.per_principal);
        drop(table);
        match proven {
            Ok(gone) => {
                gone.iter().for_each(|(place, why)| self.displaced(place, *why));
                Ok(())
            }
            Err(refused) => {
                self.note_refused(refused, Peer::Unknown);
                place.end(Ending::Leave);
                Err(TooManyConnections { limit })
            }
        }
    }

    fn displaced(&self, place: &place::Place, why: Displaced) {
        let closed = match why {
            Displaced::Unproven => Closed::Unproven,
            Displaced::Idle => Closed::Displaced,
        };
        self.note_closed(closed);
        place.end(closed.ending());
    }

    fn note_closed(&self, closed: Closed) {
        self.closed[closed as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn note_refused(&self, refused: Refused, peer: Peer) {
        let reason = REFUSED[refused as usize];
        self.refused[refused as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.logged.admit() {
            tracing::warn!(%peer, reason, left_out, "a connection was refused: there are too many");
        }
    }
}

impl Open {
    /// A request comes over it.
    pub(super) fn begin_request(&self) -> UnderWay {
        self.place.begin_request()
    }

    /// Waits until nothing is under way but watches, which end when the far end likes.
    pub(super) async fn only_watched(&self) {
        self.place.only_watched().await;
    }

    /// The requests of all connections.
    pub(super) fn budget(&self) -> Arc<Budget> {
        Arc::clone(self.connections.budget())
    }

    /// What goes among the extensions of its requests.
    pub(super) fn proof(&self) -> Proof {
        Proof(Arc::clone(&self.place))
    }

    /// What ends it when its certificate is taken back.
    pub(super) fn recall(&self) -> Recall {
        Recall { connections: Arc::clone(&self.connections), place: Arc::clone(&self.place) }
    }

    /// What tells when it has to end.
    pub(super) fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.place), Arc::clone(&self.connections))
    }

    /// It ended with an error. Whether the far end is to blame: one that is gone is not, nor one that was idle.
    pub(super) fn note(&self, error: &(dyn Error + 'static), midway: &Midway) -> bool {
        let is_broken = fault::is_broken(error, midway);
        if is_broken {
            self.connections.broken.fetch_add(1, Ordering::Relaxed);
        }
        is_broken
    }

    /// Its TLS handshake failed.
    pub(super) fn note_handshake(&self, failure: HandshakeFailure) {
        self.connections.handshakes[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is room for a line in the log, and how many were left out before it.
    pub(super) fn admit_line(&self) -> Option<u64> {
        self.connections.logged.admit()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.table.lock().remove(self.place.id());
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
