//! Drives one subscription: moves frames, waits, and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use super::handoff::Giver;
use super::pack::pack;
use crate::replication::frames::{GoAwayReason, ToServer};
use crate::replication::source::{HistoryError, Seat};
use crate::replication::subscription::Mode;
use crate::replication::{Feed, Source, Step, Subscription};
use crate::revocation::Revision;
use crate::wire::pb;

/// Added to every wait, so that the moment waited for has passed when it ends.
const ROUNDING: Duration = Duration::from_millis(1);

/// One that ended its side in order, and does not wait for the end for so long, has broken off: both ends of a stream that
/// is abandoned are closed by messages that follow each other.
const GOODBYE_SETTLES: Duration = Duration::from_millis(100);

/// What the subscriber's side of the stream brought.
enum Inbound {
    Frame(ToServer),
    /// A message that is no frame; why.
    Malformed(String),
    /// It ended its side in order.
    Goodbye,
    /// The connection broke.
    Broken,
}

/// Runs until the subscriber leaves, stalls, or was told to go.
#[allow(clippy::manual_async_fn, reason = "an async fn keeps the room of its arguments twice, here for hours")]
pub(super) fn drive(
    feed: Arc<dyn Feed>,
    address: String,
    mut inbound: Streaming<pb::SubscribeRequest>,
    out: Giver,
    history: Arc<Semaphore>,
    stalled_after: Duration,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut subscription = Subscription::new(feed.now());
        let mut seat = match feed.join(&address) {
            Ok(seat) => seat,
            Err(reason) => {
                subscription.begin_go_away(reason, "no place");
                if let Step::Send(frame) = subscription.poll(feed.now(), source(&feed)) {
                    out.give(frame);
                }
                return;
            }
        };
        drop(address);
        let mut mode = subscription.mode();
        seat.handle_mode(mode);
        // Cleared once the subscriber sent something that is no frame: it is told so, and not listened to any more.
        let mut listening = true;
        // Something came in the last turn.
        let mut heard = false;
        // What comes before the next poll.
        let mut ahead = None;
        loop {
            if let Some(reason) = seat.farewell() {
                subscription.begin_go_away(reason, "the server stops");
            }
            let step = ahead.take().unwrap_or_else(|| subscription.poll(feed.now(), source(&feed)));
            note_mode(&mut mode, &subscription, seat.as_mut());
            let came = match step {
                Step::Send(frame) => {
                    // What came must not wait behind a frame; nor the frame behind whoever sends without end.
                    let listen = listening && !heard;
                    match room(&out, listen.then_some(&mut inbound), stalled_after).await {
                        Room::Made => {
                            let (chunk, next) = pack(frame, || subscription.poll(feed.now(), source(&feed)));
                            out.give(chunk);
                            ahead = next;
                            None
                        }
                        Room::Came(came) => {
                            ahead = Some(Step::Send(frame));
                            Some(came)
                        }
                        Room::Stalled => return,
                    }
                }
                Step::ReadHistory { from, bytes_max } => {
                    let deltas = read_history(&feed, &history, from, bytes_max).await;
                    subscription.handle_history(feed.now(), deltas, source(&feed));
                    None
                }
                Step::Wait { until } => {
                    let pause = until.saturating_sub(feed.now().boot) + ROUNDING;
                    tokio::select! {
                        came = next(&mut inbound), if listening => Some(came),
                        () = seat.changed() => None,
                        () = sleep(pause) => None,
                        () = out.left() => return,
                    }
                }
                Step::Close => return,
            };
            heard = came.is_some();
            match came {
                Some(Inbound::Goodbye) => return part(&out, seat.as_mut()).await,
                Some(Inbound::Broken) => return,
                Some(came) => listening &= handle(came, &mut subscription, seat.as_mut(), &feed).await,
                None => {}
            }
        }
    }
}

/// Tells a goodbye from a stream that was abandoned.
async fn part(out: &Giver, seat: &mut dyn Seat) {
    if timeout(GOODBYE_SETTLES, out.left()).await.is_err() {
        seat.handle_goodbye();
    }
}

enum Room {
    /// The next chunk may be given.
    Made,
    /// Something came first.
    Came(Inbound),
    /// The subscriber took nothing for too long, or is gone.
    Stalled,
}

/// Waits for room. What the subscriber sends comes first, or a stream of frames would starve its acks.
async fn room(out: &Giver, inbound: Option<&mut Streaming<pb::SubscribeRequest>>, stalled_after: Duration) -> Room {
    let came = async {
        match inbound {
            Some(inbound) => next(inbound).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        came = came => Room::Came(came),
        room = timeout(stalled_after, out.room()) => match room {
            Ok(Ok(())) => Room::Made,
            _ => Room::Stalled,
        }
    }
}

async fn next(inbound: &mut Streaming<pb::SubscribeRequest>) -> Inbound {
    match inbound.message().await {
        Ok(Some(message)) => match ToServer::try_from(message) {
            Ok(frame) => Inbound::Frame(frame),
            Err(error) => Inbound::Malformed(error.to_string()),
        },
        Ok(None) => Inbound::Goodbye,
        Err(status) => broken(&status),
    }
}

/// Bytes that are no message deserve an answer; a connection that broke can get none.
fn broken(status: &Status) -> Inbound {
    match status.code() {
        Code::Internal | Code::OutOfRange | Code::Unimplemented | Code::ResourceExhausted => {
            Inbound::Malformed(status.message().to_owned())
        }
        _ => Inbound::Broken,
    }
}

/// Hands in what came; whether more may follow.
async fn handle(came: Inbound, subscription: &mut Subscription, seat: &mut dyn Seat, feed: &Arc<dyn Feed>) -> bool {
    match came {
        Inbound::Frame(frame) => {
            let greets = matches!(frame, ToServer::Hello(_));
            if let ToServer::Hello(hello) = &frame {
                seat.handle_hello(hello);
                if let Some(admission) = seat.admission() {
                    admission.await;
                }
            }
            subscription.handle_frame(feed.now(), frame, source(feed));
            match subscription.history_lost() {
                revisions if greets && revisions > 0 => seat.handle_history_lost(revisions),
                _ => {}
            }
            if let Some(ack) = subscription.acked() {
                seat.handle_ack(ack);
            }
            true
        }
        Inbound::Malformed(why) => {
            subscription.begin_go_away(GoAwayReason::Malformed, &why);
            false
        }
        Inbound::Goodbye | Inbound::Broken => false,
    }
}

fn note_mode(mode: &mut Mode, subscription: &Subscription, seat: &mut dyn Seat) {
    if *mode != subscription.mode() {
        *mode = subscription.mode();
        seat.handle_mode(*mode);
    }
}

/// Reads on a thread where that hurts nobody, once it is this subscriber's turn.
async fn read_history(
    feed: &Arc<dyn Feed>,
    history: &Semaphore,
    from: Revision,
    bytes_max: usize,
) -> Result<Vec<(Revision, Bytes)>, HistoryError> {
    let feed = Arc::clone(feed);
    // It is never closed.
    let _turn = history.acquire().await;
    let read = tokio::task::spawn_blocking(move || feed.read_history(from, bytes_max));
    read.await.unwrap_or_else(|error| Err(HistoryError::Unavailable(error.to_string())))
}

fn source(feed: &Arc<dyn Feed>) -> &dyn Source {
    &**feed
}
