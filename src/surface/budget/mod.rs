//! How many requests are under way at once, and which are refused when there are too many.
//!
//! A request counts from the moment its head is read, so that those that wait for a processor count too, until its answer
//! begins. One whose body is slow to come steps aside: it is counted apart, and when too many are aside the one that has
//! been so for longest is refused. So whoever sends slowly takes no place from whoever does not.
//!
//! # Invariants
//! - B1. A class is taken only while fewer requests are under way than its share of the budget: what can wait is refused
//!   first, checks last.
//! - B2. Bytes of requests that are gathered beyond [`BODY_BYTES_FREE`] each are at most [`BODY_BYTES_MAX`] in all.

mod arriving;
mod class;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use super::http;
use super::reason::{DOMAIN, OVERLOADED, RETRY_DELAY};
use crate::security::log_limit::LogLimit;
use arriving::Ticket;

pub use class::CLASSES;

pub(super) use arriving::{Arriving, BODY_WITHIN, Late};
pub(super) use class::Class;

/// Requests under way, unless told otherwise. At some 30 µs of work each on two cores the last of them waits 60 ms.
pub const REQUESTS_MAX: usize = 4096;
/// Bytes of a request's body that count for nothing: most requests are smaller.
pub(super) const BODY_BYTES_FREE: usize = 64 << 10;
/// Bytes of all bodies beyond that, together: as many batches of a full MiB.
pub(super) const BODY_BYTES_MAX: usize = 128 << 20;

/// The requests of a listener that are under way.
#[derive(Debug)]
pub struct Budget {
    requests_max: AtomicUsize,
    under_way: AtomicUsize,
    /// Those that wait for their bodies, the longest first; those that have come are dropped when they are met.
    aside: Mutex<VecDeque<Weak<Ticket>>>,
    body_bytes: AtomicUsize,
    shed: [AtomicU64; CLASSES.len()],
    logged: LogLimit,
}

/// A request that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shed(Class);

/// The place of a request in the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    ticket: Arc<Ticket>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            requests_max: AtomicUsize::new(REQUESTS_MAX),
            under_way: AtomicUsize::default(),
            aside: Mutex::default(),
            body_bytes: AtomicUsize::default(),
            shed: Default::default(),
            logged: LogLimit::default(),
        }
    }
}

impl Budget {
    /// From now on there may be so many.
    pub(super) fn limit(&self, requests_max: usize) {
        self.requests_max.store(requests_max, Ordering::Relaxed);
    }

    /// Under way now, without those that wait for their bodies.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed) as u64
    }

    /// Refused since it began, in the order of [`CLASSES`].
    #[must_use]
    pub fn shed(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|index| self.shed[index].load(Ordering::Relaxed))
    }

    /// Takes a request, or refuses it.
    pub(super) fn admit(self: &Arc<Self>, class: Class) -> Result<Admitted, Shed> {
        let most = (self.requests_max() * class.quarters()).div_ceil(4);
        let took = self
            .under_way
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |count| (count < most).then_some(count + 1));
        match took {
            Ok(_) => Ok(Admitted { ticket: Arc::new(Ticket::new(Arc::clone(self), class)) }),
            Err(_) => {
                self.note(class);
                Err(Shed(class))
            }
        }
    }

    fn requests_max(&self) -> usize {
        self.requests_max.load(Ordering::Relaxed)
    }

    fn note(&self, class: Class) {
        self.shed[class as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.logged.admit() {
            tracing::warn!(class = class.name(), left_out, "a request was refused: too many are under way");
        }
    }

    /// The body of `ticket`'s request is slow. Somebody else may have to go for it.
    fn step_aside(&self, ticket: &Arc<Ticket>) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        let requests_max = self.requests_max();
        let displaced = {
            let mut aside = self.aside.lock();
            let is_aside = |ticket: &Weak<Ticket>| ticket.upgrade().is_some_and(|ticket| ticket.is_aside());
            while aside.front().is_some_and(|first| !is_aside(first)) {
                aside.pop_front();
            }
            // What has come in the middle is swept out before anybody has to go.
            if aside.len() >= requests_max {
                aside.retain(is_aside);
            }
            let displaced = if aside.len() >= requests_max { aside.pop_front() } else { None };
            aside.push_back(Arc::downgrade(ticket));
            displaced
        };
        if let Some(displaced) = displaced.and_then(|displaced| displaced.upgrade()) {
            self.note(displaced.class());
            displaced.displace();
        }
    }

    /// It has come.
    fn step_back(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// Room for `bytes` of a body; whether there was any.
    fn hold(&self, bytes: usize) -> bool {
        let held = self.body_bytes.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|held| *held <= BODY_BYTES_MAX)
        });
        held.is_ok()
    }

    fn release(&self, bytes: usize) {
        self.body_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Admitted {
    /// What the body of the request reports to.
    pub(super) fn ticket(&self) -> Arc<Ticket> {
        Arc::clone(&self.ticket)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.ticket.finish();
    }
}

impl Shed {
    /// The answer, in the form the caller speaks.
    pub(super) fn response(self, is_grpc: bool) -> Response {
        let Self(class) = self;
        let detail = format!("too many requests are under way to take another {}; try again", class.name());
        no_room(detail, is_grpc)
    }
}

/// A refusal for want of room, in the form the caller speaks.
pub(super) fn no_room(detail: String, is_grpc: bool) -> Response {
    if is_grpc { overloaded(detail).into_http() } else { http::overloaded(detail).into_response() }
}

/// The refusal over gRPC.
fn overloaded(detail: String) -> Status {
    let mut details = ErrorDetails::with_error_info(OVERLOADED, DOMAIN, []);
    details.set_retry_info(Some(RETRY_DELAY));
    Status::with_error_details(tonic::Code::ResourceExhausted, detail, details)
}

#[cfg(test)]
mod tests;
