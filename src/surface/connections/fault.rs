//! Who is to blame when a connection ends with an error.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the far end has begun something that is not answered. Where it has not, falling silent is its right.
#[derive(Clone, Debug, Default)]
pub(in crate::surface) struct Midway(Arc<AtomicBool>);

impl Midway {
    /// Bytes came.
    pub(in crate::surface) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What they asked for is answered.
    pub(in crate::surface) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Whether the far end broke something: one that is gone did not, nor one that was idle.
pub(super) fn is_broken(error: &(dyn Error + 'static), midway: &Midway) -> bool {
    let is_idle = is_timeout(error) && !midway.0.load(Ordering::Relaxed);
    !is_gone(error) && !is_idle
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
        let midway = Midway::default();
        let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
        assert!(!is_broken(&timed_out(), &midway), "it never asked anything");
        midway.begin();
        assert!(!is_broken(&io::Error::from(io::ErrorKind::ConnectionReset), &midway));
        assert!(is_broken(&timed_out(), &midway));
        assert!(is_broken(&std::fmt::Error, &midway));
        midway.end();
        assert!(!is_broken(&timed_out(), &midway), "it is idle");
    }
}
