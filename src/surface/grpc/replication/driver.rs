//! Drives one subscription: moves frames, waits, and decides nothing.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use super::sent_away::Subscriber;
use crate::replication::frames::{DeltaFrame, GoAwayReason, ToServer};
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
pub(super) async fn drive(
    feed: Arc<dyn Feed>,
    mut subscriber: Subscriber,
    mut inbound: Streaming<pb::SubscribeRequest>,
    out: mpsc::Sender<Bytes>,
    stalled_after: Duration,
) {
    let mut subscription = Subscription::new(feed.now());
    let mut seat = match feed.join(&subscriber.address) {
        Ok(seat) => seat,
        Err(reason) => {
            subscription.begin_go_away(reason, "no place");
            subscriber.note(reason, "no place");
            if let Step::Send(frame) = subscription.poll(feed.now(), source(&feed)) {
                // Nobody is there to be told that nobody was told.
                let _ = out.try_send(frame);
            }
            return;
        }
    };
    let mut mode = subscription.mode();
    seat.handle_mode(mode);
    // Cleared once the subscriber sent something that is no frame: it is told so, and not listened to any more.
    let mut listening = true;
    loop {
        if let Some(reason) = seat.farewell() {
            subscription.begin_go_away(reason, "the server stops");
        }
        let step = subscription.poll(feed.now(), source(&feed));
        note_mode(&mut mode, &subscription, seat.as_mut());
        if let (Step::Send(_), Some(away)) = (&step, subscription.sent_away()) {
            subscriber.note(away.reason, &away.detail);
        }
        let came = match step {
            Step::Send(frame) => {
                let deadline = Instant::now() + stalled_after;
                match send(&out, frame, listening.then_some(&mut inbound), deadline).await {
                    Sent::Taken => None,
                    Sent::Meanwhile(came, frame) => {
                        // The frame is due all the same; what came must not wait behind it for long.
                        listening &= handle(came, &mut subscription, seat.as_mut(), &feed).await;
                        match timeout_at(deadline, out.send(frame)).await {
                            Ok(Ok(())) => None,
                            Ok(Err(_)) => return,
                            Err(_) => return cut(&subscription, &subscriber),
                        }
                    }
                    Sent::Goodbye => return part(&out, seat.as_mut()).await,
                    Sent::Stalled => return cut(&subscription, &subscriber),
                    Sent::Gone => return,
                }
            }
            Step::ReadHistory { from, bytes_max } => {
                let deltas = read_history(&feed, from, bytes_max).await;
                subscription.handle_history(feed.now(), deltas, source(&feed));
                None
            }
            Step::Wait { until } => {
                let pause = until.saturating_sub(feed.now().boot) + ROUNDING;
                tokio::select! {
                    came = next(&mut inbound), if listening => Some(came),
                    () = seat.changed() => None,
                    () = sleep(pause) => None,
                    () = out.closed() => return,
                }
            }
            Step::Close => return,
        };
        match came {
            Some(Inbound::Goodbye) => return part(&out, seat.as_mut()).await,
            Some(Inbound::Broken) => return,
            Some(came) => {
                if let Inbound::Frame(ToServer::Hello(hello)) = &came {
                    subscriber.name.clone_from(&hello.name);
                }
                listening &= handle(came, &mut subscription, seat.as_mut(), &feed).await;
            }
            None => {}
        }
    }
}

/// Nobody takes anything any more: a GoAway would wait like the rest.
fn cut(subscription: &Subscription, subscriber: &Subscriber) {
    if subscription.sent_away().is_none() {
        subscriber.note(GoAwayReason::Stalled, "it takes nothing");
    }
}

/// Tells a goodbye from a stream that was abandoned.
async fn part(out: &mpsc::Sender<Bytes>, seat: &mut dyn Seat) {
    if timeout(GOODBYE_SETTLES, out.closed()).await.is_err() {
        seat.handle_goodbye();
    }
}

enum Sent {
    Taken,
    /// Something came first; the frame is still to be sent.
    Meanwhile(Inbound, Bytes),
    /// The subscriber ended its side.
    Goodbye,
    /// The subscriber took nothing for too long.
    Stalled,
    /// It is gone.
    Gone,
}

/// Waits for room. What the subscriber sends comes first, or a stream of frames would starve its acks.
async fn send(
    out: &mpsc::Sender<Bytes>,
    frame: Bytes,
    inbound: Option<&mut Streaming<pb::SubscribeRequest>>,
    deadline: Instant,
) -> Sent {
    let came = async {
        match inbound {
            Some(inbound) => next(inbound).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        came = came => match came {
            Inbound::Goodbye => Sent::Goodbye,
            Inbound::Broken => Sent::Gone,
            came => Sent::Meanwhile(came, frame),
        },
        room = timeout_at(deadline, out.reserve()) => match room {
            Ok(Ok(room)) => {
                room.send(frame);
                Sent::Taken
            }
            Ok(Err(_)) => Sent::Gone,
            Err(_) => Sent::Stalled,
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

/// Bytes that are no message deserve an answer; a connection that broke can get none. What the transport says has a
/// source, what the codec says has none.
fn broken(status: &Status) -> Inbound {
    match status.code() {
        _ if status.source().is_some() => Inbound::Broken,
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
            let (greets, acks) = (matches!(frame, ToServer::Hello(_)), matches!(frame, ToServer::Ack(_)));
            if let ToServer::Hello(hello) = &frame
                && !hello.probe
            {
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
            if let Some(ack) = subscription.acked().filter(|_| acks) {
                seat.handle_ack(ack);
            }
            if let Some(roster) = subscription.take_roster()
                && let Err(fault) = seat.handle_roster(&roster)
            {
                subscription.begin_go_away(GoAwayReason::Malformed, &fault.to_string());
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

async fn read_history(
    feed: &Arc<dyn Feed>,
    from: Revision,
    bytes_max: usize,
) -> Result<Vec<(Revision, DeltaFrame)>, HistoryError> {
    let feed = Arc::clone(feed);
    let read = tokio::task::spawn_blocking(move || feed.read_history(from, bytes_max));
    read.await.unwrap_or_else(|error| Err(HistoryError::Unavailable(error.to_string())))
}

fn source(feed: &Arc<dyn Feed>) -> &dyn Source {
    &**feed
}
