//! From a subscription to its response body: room for one chunk.
//!
//! A channel of the runtime does the same, and sets 1.5 KiB aside for each subscriber that has nothing to say to it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

/// The taker is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left;

#[derive(Default)]
struct Slot {
    chunk: Option<Bytes>,
    /// The giver has given its last.
    ended: bool,
    /// The taker is gone.
    left: bool,
    giver: Option<Waker>,
    taker: Option<Waker>,
}

/// The subscription's end; it ends the body when dropped. Waited on by one task.
pub(super) struct Giver(Arc<Mutex<Slot>>);

/// The body's end; the subscriber has left when it is dropped. Polled by one task.
pub(super) struct Taker(Arc<Mutex<Slot>>);

pub(super) fn handoff() -> (Giver, Taker) {
    let slot = Arc::<Mutex<Slot>>::default();
    (Giver(Arc::clone(&slot)), Taker(slot))
}

impl Giver {
    /// Resolves once the chunk given last is taken, or can never be.
    pub(super) async fn room(&self) -> Result<(), Left> {
        poll_fn(|cx| {
            let mut slot = self.0.lock();
            if slot.left {
                return Poll::Ready(Err(Left));
            }
            if slot.chunk.is_none() {
                return Poll::Ready(Ok(()));
            }
            note(&mut slot.giver, cx);
            Poll::Pending
        })
        .await
    }

    /// Resolves once the taker is gone.
    pub(super) async fn left(&self) {
        poll_fn(|cx| {
            let mut slot = self.0.lock();
            if slot.left {
                return Poll::Ready(());
            }
            note(&mut slot.giver, cx);
            Poll::Pending
        })
        .await;
    }

    /// Gives the next chunk. Wait for [`Giver::room`] before the second one and all after: it takes the place of one
    /// that was not taken.
    pub(super) fn give(&self, chunk: Bytes) {
        let mut slot = self.0.lock();
        slot.chunk = Some(chunk);
        wake(slot.taker.take(), slot);
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.ended = true;
        wake(slot.taker.take(), slot);
    }
}

impl Taker {
    /// The next chunk; `None` once the giver has ended.
    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut slot = self.0.lock();
        match slot.chunk.take() {
            Some(chunk) => {
                wake(slot.giver.take(), slot);
                Poll::Ready(Some(chunk))
            }
            None if slot.ended => Poll::Ready(None),
            None => {
                note(&mut slot.taker, cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut slot = self.0.lock();
        slot.left = true;
        let chunk = slot.chunk.take();
        wake(slot.giver.take(), slot);
        drop(chunk);
    }
}

fn note(waiting: &mut Option<Waker>, cx: &Context<'_>) {
    match waiting {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waiting = Some(cx.waker().clone()),
    }
}

/// Wakes whoever waits, not under the lock.
fn wake(waiting: Option<Waker>, slot: impl Sized) {
    drop(slot);
    if let Some(waker) = waiting {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(taker: &mut Taker) -> Option<Bytes> {
        poll_fn(|cx| taker.poll_take(cx)).await
    }

    #[tokio::test]
    async fn chunks_come_in_order_one_at_a_time_and_then_the_end() {
        let (giver, mut taker) = handoff();
        let giving = tokio::spawn(async move {
            for chunk in ["a", "b", "c"] {
                giver.room().await.unwrap();
                giver.give(chunk.into());
            }
        });
        for chunk in ["a", "b", "c"] {
            assert_eq!(take(&mut taker).await, Some(chunk.into()));
        }
        assert_eq!(take(&mut taker).await, None);
        giving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_room_before_a_chunk_is_taken() {
        let (giver, mut taker) = handoff();
        giver.give("a".into());
        let long = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(long, giver.room()).await.is_err());
        assert_eq!(take(&mut taker).await, Some("a".into()));
        assert_eq!(giver.room().await, Ok(()));
    }

    #[tokio::test]
    async fn whoever_waits_hears_that_the_taker_left() {
        let (giver, taker) = handoff();
        giver.give("a".into());
        let waiting = tokio::spawn(async move { (giver.room().await, giver.left().await) });
        tokio::task::yield_now().await;
        drop(taker);
        assert_eq!(waiting.await.unwrap(), (Err(Left), ()));
    }
}
