//! The connections of a listener, counted.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::log_limit::LogLimit;

/// How many connections a listener has, and how many it had to close.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    broken: AtomicU64,
    logged: LogLimit,
}

/// Counts one connection as long as it lives.
pub(super) struct Open<'a>(&'a Connections);

/// Whether the far end has begun something that is not answered. Where it has not, falling silent is its right.
#[derive(Clone, Debug, Default)]
pub(super) struct Midway(Arc<AtomicBool>);

impl Midway {
    /// Bytes came.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What they asked for is answered.
    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Connections {
    /// Open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Closed since the listener began because the far end broke HTTP, went beyond its bounds, or fell silent in the middle
    /// of a request. One that never asked anything, or is idle between two requests, is not among them.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) -> Open<'_> {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self)
    }
}

impl Open<'_> {
    /// It ended with an error. Whether the far end is to blame: one that is gone is not, nor one that was idle.
    pub(super) fn note(&self, error: &(dyn Error + 'static), midway: &Midway) -> bool {
        let is_idle = is_timeout(error) && !midway.0.load(Ordering::Relaxed);
        let is_broken = !is_gone(error) && !is_idle;
        if is_broken {
            self.0.broken.fetch_add(1, Ordering::Relaxed);
        }
        is_broken
    }

    /// Whether there is room for a line in the log, and how many were left out before it.
    pub(super) fn admit_line(&self) -> Option<u64> {
        self.0.logged.admit()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the connection was lost or left, in the middle of something or not.
fn is_gone(error: &(dyn Error + 'static)) -> bool {
    if error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_canceled()) {
        return true;
    }
    io_error(error).is_some_and(|error| error.kind() != io::ErrorKind::TimedOut)
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout)
        || io_error(error).is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// The error of the socket, if that is what it came from.
fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_living_are_to_blame() {
        let connections = Connections::default();
        let (one, other) = (connections.begin(), connections.begin());
        assert_eq!(connections.open(), 2);
        let midway = Midway::default();
        assert!(!other.note(&io::Error::from(io::ErrorKind::TimedOut), &midway), "it never asked anything");
        midway.begin();
        assert!(!one.note(&io::Error::from(io::ErrorKind::ConnectionReset), &midway));
        assert!(other.note(&io::Error::from(io::ErrorKind::TimedOut), &midway));
        assert!(one.note(&std::fmt::Error, &midway));
        midway.end();
        assert!(!one.note(&io::Error::from(io::ErrorKind::TimedOut), &midway), "it is idle");
        drop((one, other));
        assert_eq!((connections.open(), connections.broken()), (0, 2));
    }
}
