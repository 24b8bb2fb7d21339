//! When a connection has to end although its far end does not end it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::place::{Ending, Place};
use super::{Closed, Connections};

/// How long a connection may take until its first request is there, from when it was accepted, or its TLS handshake done.
/// Whoever connects has something to ask.
pub(in crate::surface) const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// An HTTP/2 connection on which nothing is under way for so long is closed: callers open another one at a fraction of
/// what it costs to keep them all. (HTTP/1 closes after a shorter time: the wait for the next head has its own limit.)
pub(in crate::surface) const IDLE_MAX: Duration = Duration::from_secs(300);

/// Looks after one connection. Poll it whenever the connection is polled: what is under way may have changed.
pub(in crate::surface) struct Watch {
    place: Arc<Place>,
    connections: Arc<Connections>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(place: Arc<Place>, connections: Arc<Connections>) -> Self {
        Self { place, connections, timer: None }
    }

    /// Waits until the connection has to end.
    pub(in crate::surface) async fn ending(&mut self) -> Ending {
        let place = Arc::clone(&self.place);
        tokio::select! {
            biased;
            ending = place.ended() => ending,
            ending = poll_fn(|cx| self.poll_overdue(cx)) => ending,
        }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let now = Instant::now();
            let due = match self.look(now) {
                Ok(due) => due,
                Err(closed) => {
                    self.connections.note_closed(closed);
                    return Poll::Ready(closed.ending());
                }
            };
            let Some(due) = due else { return Poll::Pending };
            // A timer that is early does no harm: it looks again. So it is only ever set back.
            let timer = match &mut self.timer {
                Some(timer) if timer.deadline() <= due && !timer.is_elapsed() => timer,
                Some(timer) => {
                    timer.as_mut().reset(due);
                    timer
                }
                None => self.timer.insert(Box::pin(sleep_until(due))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Why it has to end; or else when that is to be asked again.
    fn look(&self, now: Instant) -> Result<Option<Instant>, Closed> {
        let untaken = self.place.look_at_untaken(now).map_err(|_| Closed::Untaken)?;
        let Some(since) = self.place.idle_since() else { return Ok(untaken) };
        let (limit, closed) = match self.place.has_asked() {
            true => (IDLE_MAX, Closed::Idle),
            false => (FIRST_REQUEST_WITHIN, Closed::FirstRequest),
        };
        if since + limit <= now {
            return Err(closed);
        }
        Ok(Some(untaken.map_or(since + limit, |untaken| untaken.min(since + limit))))
    }
}
