//! Drives one subscription: moves frames, waits, and decides nothing.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use super::handoff::Giver;
use super::pack::pack;
use super::sent_away::Subscriber;
use super::standing::Standing;
use crate::replication::frames::{DeltaFrame, GoAwayReason, Held, Hello, ToServer};
use crate::replication::source::{Guest, HistoryError, Seat};
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
    mut subscriber: Subscriber,
    mut standing: Option<Box<Standing>>,
    mut inbound: Streaming<pb::SubscribeRequest>,
    out: Giver,
    history: Arc<Semaphore>,
    stalled_after: Duration,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut subscription = Subscription::new(feed.now());
        let principal = standing.as_ref().map(|standing| standing.principal());
        let mut seat = match feed.join(Guest { address: subscriber.address.clone(), principal }) {
            Ok(seat) => seat,
            Err(reason) => {
                subscription.begin_go_away(reason, "no place");
                subscriber.note(reason, "no place");
                if let Step::Send(frame) = subscription.poll(feed.now(), source(&feed)) {
                    out.give(frame);
                }
                return;
            }
        };
        let mut mode = subscription.mode();
        seat.handle_mode(mode);
        // Cleared once the subscriber sent something that is no frame: it is told so, and not listened to any more.
        let mut listening = true;
        // Something came in the last turn.
        let mut heard = false;
        // What comes before the next poll, and until when there must be room for it.
        let (mut ahead, mut deadline) = (None, None);
        loop {
            if let Some(reason) = seat.farewell() {
                subscription.begin_farewell(reason);
            }
            if let Some(why) = standing.as_mut().and_then(|standing| standing.lost()) {
                // Nothing more is sent to it, not even what was about to be.
                (standing, ahead, listening) = (None, None, false);
                subscription.begin_go_away(GoAwayReason::Denied, &why);
            }
            let step = ahead.take().unwrap_or_else(|| subscription.poll(feed.now(), source(&feed)));
            note_mode(&mut mode, &subscription, seat.as_mut());
            let came = match step {
                Step::Send(frame) => {
                    // What came must not wait behind a frame; nor the frame behind whoever sends without end.
                    let listen = listening && !heard;
                    let until = *deadline.get_or_insert_with(|| Instant::now() + stalled_after);
                    match room(&out, listen.then_some(&mut inbound), standing.as_deref_mut(), until).await {
                        Room::Made => {
                            deadline = None;
                            let (chunk, next) = pack(frame, || subscription.poll(feed.now(), source(&feed)));
                            out.give(chunk);
                            ahead = next;
                            None
                        }
                        Room::Came(came) => {
                            ahead = Some(Step::Send(frame));
                            Some(came)
                        }
                        Room::Asked => {
                            ahead = Some(Step::Send(frame));
                            None
                        }
                        Room::Stalled => return cut(&subscription, &subscriber),
                        Room::Left => return,
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
                        () = changed(standing.as_deref_mut()) => None,
                        () = sleep(pause) => None,
                        () = out.left() => return,
                    }
                }
                Step::Close => {
                    if let Some(away) = subscription.sent_away() {
                        subscriber.note(away.reason, &away.detail);
                    }
                    return;
                }
            };
            heard = came.is_some();
            match came {
                Some(Inbound::Goodbye) => return part(&out, seat.as_mut()).await,
                Some(Inbound::Broken) => return,
                Some(came) => {
                    if let Inbound::Frame(ToServer::Hello(hello)) = &came {
                        subscriber.name.clone_from(&hello.name);
                    }
                    let held = match &came {
                        Inbound::Frame(ToServer::Hello(hello)) => hello.held,
                        _ => None,
                    };
                    listening &= handle(came, &mut subscription, seat.as_mut(), standing.as_deref_mut(), &feed).await;
                    note_history_lost(held, &subscription, seat.as_mut(), &feed, &subscriber);
                }
                None => {}
            }
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
    /// Its right to be here may be lost.
    Asked,
    /// The subscriber took nothing for too long.
    Stalled,
    /// It is gone.
    Left,
}

/// Waits for room. What the subscriber sends comes first, or a stream of frames would starve its acks.
async fn room(
    out: &Giver,
    inbound: Option<&mut Streaming<pb::SubscribeRequest>>,
    standing: Option<&mut Standing>,
    until: Instant,
) -> Room {
    let came = async {
        match inbound {
            Some(inbound) => next(inbound).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = changed(standing) => Room::Asked,
        came = came => Room::Came(came),
        room = timeout_at(until, out.room()) => match room {
            Ok(Ok(())) => Room::Made,
            Ok(Err(_)) => Room::Left,
            Err(_) => Room::Stalled,
        }
    }
}

async fn changed(standing: Option<&mut Standing>) {
    match standing {
        Some(standing) => standing.changed().await,
        None => std::future::pending().await,
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
async fn handle(
    came: Inbound,
    subscription: &mut Subscription,
    seat: &mut dyn Seat,
    standing: Option<&mut Standing>,
    feed: &Arc<dyn Feed>,
) -> bool {
    match came {
        Inbound::Frame(frame) => {
            let acks = matches!(frame, ToServer::Ack(_));
            if let ToServer::Hello(hello) = &frame
                && subscription.awaits_hello()
            {
                // Whoever only asks, or is sent away at once, is no member that could be missed.
                let is_member = !hello.probe && Subscription::refusal(hello, source(feed)).is_none();
                if let Err(why) = greet(hello, is_member, seat, standing) {
                    subscription.begin_go_away(GoAwayReason::Denied, &why);
                    return false;
                }
                if let Some(admission) = seat.admission() {
                    admission.await;
                }
            }
            subscription.handle_frame(feed.now(), frame, source(feed));
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

/// Why somebody may not come as whom and what he says.
fn greet(
    hello: &Hello,
    is_member: bool,
    seat: &mut dyn Seat,
    mut standing: Option<&mut Standing>,
) -> Result<(), String> {
    if let Some(standing) = &mut standing {
        standing.handle_hello(hello)?;
    }
    match if is_member { seat.handle_hello(hello) } else { Ok(()) } {
        Ok(()) => Ok(()),
        Err(error) => Err(standing.map_or_else(|| error.to_string(), |standing| standing.refuse_member())),
    }
}

/// After a Hello: what it `held` may be of a history that is not this server's.
fn note_history_lost(
    held: Option<Held>,
    subscription: &Subscription,
    seat: &mut dyn Seat,
    feed: &Arc<dyn Feed>,
    subscriber: &Subscriber,
) {
    let (Some(held), revisions @ 1..) = (held, subscription.history_lost()) else { return };
    seat.handle_history_lost(revisions);
    subscriber.note_history_lost(revisions, feed.origin().lineage.knows(held.epoch));
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
) -> Result<Vec<(Revision, DeltaFrame)>, HistoryError> {
    let feed = Arc::clone(feed);
    // It is never closed.
    let _turn = history.acquire().await;
    let read = tokio::task::spawn_blocking(move || feed.read_history(from, bytes_max));
    read.await.unwrap_or_else(|error| Err(HistoryError::Unavailable(error.to_string())))
}

fn source(feed: &Arc<dyn Feed>) -> &dyn Source {
    &**feed
}
