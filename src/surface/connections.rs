//! The connections of a listener, counted.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many connections a listener has, and how many it had to close.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicU64,
    broken: AtomicU64,
}

/// Counts one connection as long as it lives.
pub(super) struct Open<'a>(&'a Connections);

impl Connections {
    /// Open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Closed since the listener began because the far end broke HTTP, went beyond its bounds, or fell silent.
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
    /// It ended with an error. Whether the far end is to blame: one that is gone is not.
    pub(super) fn note(&self, error: &(dyn Error + 'static)) -> bool {
        let is_broken = !is_gone(error);
        if is_broken {
            self.0.broken.fetch_add(1, Ordering::Relaxed);
        }
        is_broken
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
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() != io::ErrorKind::TimedOut;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_living_are_to_blame() {
        let connections = Connections::default();
        let (one, other) = (connections.begin(), connections.begin());
        assert_eq!(connections.open(), 2);
        assert!(!one.note(&io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(other.note(&io::Error::from(io::ErrorKind::TimedOut)));
        assert!(one.note(&std::fmt::Error));
        drop((one, other));
        assert_eq!((connections.open(), connections.broken()), (0, 2));
    }
}
