//! `ReplicationService`: one subscription per call, fed with bytes that all subscribers share.
//!
//! Written by hand instead of generated, because tonic's encoder copies every message into a buffer of its own: the body
//! here hands on buffers that already carry gRPC's prefix.
//!
//! ```text
//! request body ── decode ──▶ Subscription ◀── poll ── Feed
//!                                └─ frames ── pack ──▶ handoff ──▶ response body
//! ```
//!
//! A subscriber that leaves is seen as the drop of the response body, of which the handoff tells; the task then ends and
//! leaves its place.

mod body;
mod driver;
mod handoff;
mod listing;
mod pack;
mod sent_away;
mod standing;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::body::Body;
use tonic::codec::BufferSettings;
use tonic::server::NamedService;
use tonic_prost::ProstCodec;
use tower::Service;

use crate::replication::source::Feeds;
use crate::replication::subscription::STALLED_AFTER;
use crate::revocation::ports::{NotAuthority, Pending, Propagates};
use crate::surface::asker::Asker;
use crate::surface::peer::Peer;
use crate::wire::pb;
use body::FrameBody;
use sent_away::Subscriber;
use standing::Standing;

pub use sent_away::SentAway;

/// The largest message of a subscriber, in bytes: a part of a relay's roster.
const INBOUND_BYTES_MAX: usize = 16 << 10;
/// What a subscription sets aside for what its subscriber sends, in bytes: an ack of a leaf. A Hello or a relay's report
/// takes more for as long as it is read. tonic's own choice is 8 KiB, idle or not.
const INBOUND_BUFFER_BYTES: usize = 128;
/// For encoders only; nothing is encoded through tonic here.
const YIELD_BYTES: usize = 32 << 10;

/// Reads of the history at once: it has one reading end, and a large record takes megabytes while it is decoded, which
/// the allocator keeps for each thread that ever did so.
const HISTORY_READS_MAX: usize = 1;

const SUBSCRIBE_PATH: &str = "/rescind.v1.ReplicationService/Subscribe";
const LIST_PATH: &str = "/rescind.v1.ReplicationService/ListSubscribers";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Serves `rescind.v1.ReplicationService` from the feed of the moment, to everybody. Add it to the surface's routes.
#[must_use]
pub fn subscribe_service(feeds: impl Feeds + 'static) -> SubscribeService {
    let propagates = Arc::new(NotAuthority);
    let sent_away = Arc::default();
    SubscribeService {
        feeds: Arc::new(feeds),
        propagates,
        tasks: TaskTracker::new(),
        sent_away,
        history: Arc::new(Semaphore::new(HISTORY_READS_MAX)),
        guarded: false,
        stalled_after: STALLED_AFTER,
    }
}

/// The service; clones share the subscriptions they run.
#[derive(Clone)]
pub struct SubscribeService {
    feeds: Arc<dyn Feeds>,
    propagates: Arc<dyn Propagates>,
    tasks: TaskTracker,
    sent_away: Arc<SentAway>,
    /// The right to read the history.
    history: Arc<Semaphore>,
    /// Requests must have come through the door.
    guarded: bool,
    /// A subscriber that takes nothing for so long is cut.
    stalled_after: Duration,
}

impl SubscribeService {
    /// The same, listing the subscribers that `propagates` knows.
    #[must_use]
    pub fn listing(self, propagates: Arc<dyn Propagates>) -> Self {
        Self { propagates, ..self }
    }

    /// The same, to those only whom the surface's door let in.
    #[must_use]
    pub fn guarded(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// Who was sent away and why, since it began.
    #[must_use]
    pub fn sent_away(&self) -> Arc<SentAway> {
        Arc::clone(&self.sent_away)
    }

    /// Resolves once all subscriptions have ended. Tell the feed to stop first.
    pub fn drained(&self) -> impl Future<Output = ()> + use<> {
        let tasks = self.tasks.clone();
        tasks.close();
        async move { tasks.wait().await }
    }

    fn subscribe(&self, request: Request<Body>) -> Response<Body> {
        let Some(feed) = self.feeds.feed() else {
            return tonic::Status::unavailable("nothing can be served yet: this replica holds no verified set")
                .into_http();
        };
        let asker = match Asker::of(request.extensions()) {
            Ok(asker) => asker,
            Err(_) if !self.guarded => Asker::anybody(Peer::of(request.extensions())),
            Err(refusal) => return super::errors::status(&refusal).into_http(),
        };
        let subscriber = Subscriber::new(self.sent_away(), asker.peer().to_string());
        let standing = Standing::of(&asker);
        let decoder = ProstCodec::<pb::SubscribeResponse, pb::SubscribeRequest>::raw_decoder(BufferSettings::new(
            INBOUND_BUFFER_BYTES,
            YIELD_BYTES,
        ));
        let inbound = Streaming::new_request(decoder, request.into_body(), None, Some(INBOUND_BYTES_MAX));
        let (out, frames) = handoff::handoff();
        let history = Arc::clone(&self.history);
        self.tasks.spawn(driver::drive(feed, subscriber, standing, inbound, out, history, self.stalled_after));
        Response::builder()
            .header(header::CONTENT_TYPE, GRPC)
            .body(Body::new(FrameBody::new(frames)))
            .unwrap_or_default()
    }
}

impl NamedService for SubscribeService {
    const NAME: &'static str = "rescind.v1.ReplicationService";
}

impl Service<Request<Body>> for SubscribeService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pending<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == LIST_PATH {
            let propagates = Arc::clone(&self.propagates);
            return Box::pin(async move { Ok(listing::answer(propagates, request).await) });
        }
        let response = if request.uri().path() != SUBSCRIBE_PATH {
            tonic::Status::unimplemented("no such method").into_http()
        } else if request.method() != Method::POST || !is_grpc(&request) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            response
        } else {
            self.subscribe(request)
        };
        Box::pin(ready(Ok(response)))
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.strip_prefix("application/grpc")).is_some_and(|rest| matches!(rest, "" | "+proto"))
}

impl std::fmt::Debug for SubscribeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscribeService").field("subscriptions", &self.tasks.len()).finish_non_exhaustive()
    }
}
