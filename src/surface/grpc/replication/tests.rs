//! Subscriptions over real gRPC: fed, refused, stalled, stopped.

mod stock_client;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::clock::{Clock, ManualTime};
use crate::hub::{self, Hub, Image, Published};
use crate::replication::frames::*;
use crate::replication::source::HistoryError;
use crate::replication::{LogPoint, Signer};
use crate::revocation::*;
use crate::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};

struct NoHistory;

impl hub::History for NoHistory {
    fn deltas(&self, from: Revision, _: usize) -> Result<Vec<hub::Logged>, HistoryError> {
        Err(HistoryError::Compacted(from))
    }
}

/// A hub at revision 0, with a snapshot of it.
fn hub() -> Arc<Hub> {
    hub_of(Epoch { generation: 1, id: [2; 16] }, Vec::new())
}

fn hub_of(epoch: Epoch, ancestors: Vec<Ancestor>) -> Arc<Hub> {
    hub_over(epoch, ancestors, hub::Options::default(), Arc::new(NoHistory))
}

fn hub_over(epoch: Epoch, ancestors: Vec<Ancestor>, options: hub::Options, history: Arc<dyn hub::History>) -> Arc<Hub> {
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(1_700_000_000_000)));
    let (key, floor) = (SetKey::new([5; 16]), Minute::from_bits(7));
    let digest = RevocationSet::create(key.clone(), Policy::default(), floor).0.digest();
    let point = LogPoint { revision: Revision(0), digest, chain: Chain::default(), floor };
    let start = hub::Start {
        node: NodeId([1; 16]),
        epoch,
        ancestors,
        set_key: key.clone(),
        signer: Signer::from_seed(&[3; 32]),
        point,
        policy: Policy::default(),
        has_verification: false,
        oldest: Revision(1),
    };
    let hub = Hub::new(options, start, clock, Arc::new(GrpcEncoder), history);
    let state = SnapshotState {
        revision: Revision(0),
        floor,
        policy: Policy::default(),
        shapes: Vec::new(),
        verification: None,
    };
    let built = SnapshotBuilder::new(&key, state).finish();
    let (header, sha256, source_time) = (built.header, built.sha256, UnixMillis(9));
    hub.prepare(&Image { header, chunks: Vec::new(), sha256, chain: Chain::default(), source_time }).unwrap();
    hub
}

fn publish(hub: &Hub, revision: u64) {
    publish_as(hub, revision, format!("delta {revision}").into());
}

fn publish_as(hub: &Hub, revision: u64, canonical: Bytes) {
    hub.append(Published {
        revision: Revision(revision),
        source_time: UnixMillis(revision),
        floor: Minute::from_bits(7),
        policy: Policy::default(),
        has_verification: false,
        canonical,
        digest: Digest::from_bytes([revision as u8; 16]),
        chain: Chain([revision as u8; 32]),
    })
    .unwrap();
}

/// Of a process of its own.
fn hello() -> ToServer {
    static PROCESSES: AtomicU64 = AtomicU64::new(1);
    let process = PROCESSES.fetch_add(1, Ordering::Relaxed);
    ToServer::Hello(Box::new(Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId(u128::from(process).to_be_bytes()),
        name: "checkout".to_owned(),
        role: Role::Leaf,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: false,
        policy: None,
    }))
}

fn ack(revision: u64) -> ToServer {
    let (applied, digest) = (Revision(revision), Digest::from_bytes([revision as u8; 16]));
    ToServer::Ack(Ack { applied, digest, ready: true, policy: None, subtree: None, source_time: UnixMillis(0) })
}

fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    [&[0][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat().into()
}

/// One call, without a socket: what the subscriber sends, and what it gets.
struct Call {
    requests: mpsc::Sender<Bytes>,
    body: Body,
    /// What came of frames that were not received yet.
    pending: BytesMut,
}

/// A subscription is answered without waiting for anything.
fn at_once(mut response: Pending<'static, Result<Response<Body>, Infallible>>) -> Response<Body> {
    match response.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("it waits"),
    }
}

fn call(service: &mut SubscribeService) -> Call {
    let (requests, frames) = mpsc::channel(8);
    let request = Request::post(SUBSCRIBE_PATH).header(header::CONTENT_TYPE, GRPC);
    let sent = ReceiverStream::new(frames).map(|bytes| Ok::<_, Infallible>(http_body::Frame::data(bytes)));
    let response = service.call(request.body(Body::new(StreamBody::new(sent))).unwrap());
    Call { requests, body: at_once(response).into_body(), pending: BytesMut::new() }
}

impl Call {
    async fn send(&self, frame: &ToServer) {
        self.requests.send(framed(&pb::SubscribeRequest::from(frame))).await.unwrap();
    }

    /// The next frame; `None` once the stream has ended well.
    async fn receive(&mut self) -> Option<ToSubscriber> {
        while self.pending.is_empty() {
            match self.body.frame().await.unwrap().unwrap().into_data() {
                Ok(data) => self.pending.extend_from_slice(&data),
                Err(frame) => {
                    assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "0");
                    assert!(self.body.frame().await.is_none());
                    return None;
                }
            }
        }
        let prefix = self.pending.split_to(GRPC_PREFIX_BYTES);
        let length = u32::from_be_bytes(*prefix.last_chunk().unwrap()) as usize;
        Some(pb::SubscribeResponse::decode(self.pending.split_to(length)).unwrap().try_into().unwrap())
    }

    async fn receive_go_away(&mut self) -> GoAwayReason {
        loop {
            if let Some(ToSubscriber::GoAway(away)) = self.receive().await {
                assert_eq!(self.receive().await, None);
                return away.reason;
            }
        }
    }
}

/// Lets the tasks run until the condition holds.
async fn until(mut condition: impl FnMut() -> bool) {
    let held = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.unwrap();
}

#[tokio::test]
async fn a_subscriber_is_greeted_fed_and_known_until_it_leaves() {
    let hub = hub();
    let running = tokio::spawn(Arc::clone(&hub).run());
    let mut call = call(&mut subscribe_service(hub.clone()));
    call.send(&hello()).await;
    assert!(matches!(call.receive().await, Some(ToSubscriber::Welcome(_))));
    assert!(matches!(call.receive().await, Some(ToSubscriber::SnapshotBegin(_))));
    assert!(matches!(call.receive().await, Some(ToSubscriber::SnapshotEnd(_))));
    publish(&hub, 1);
    let delta = loop {
        if let Some(ToSubscriber::Delta(delta)) = call.receive().await {
            break delta;
        }
    };
    assert_eq!(delta.canonical, "delta 1");
    call.send(&ack(1)).await;
    until(|| hub.subscribers()[0].acked == Revision(1)).await;
    assert_eq!(hub.subscribers()[0].name, "checkout");
    drop(call);
    until(|| hub.subscriber_count() == 0).await;
    hub.stop();
    running.await.unwrap();
}

#[tokio::test]
async fn a_probe_gets_a_welcome_and_takes_no_place() {
    let hub = hub();
    let mut call = call(&mut subscribe_service(hub.clone()));
    let ToServer::Hello(mut asked) = hello() else { panic!("no hello") };
    asked.probe = true;
    call.send(&ToServer::Hello(asked)).await;
    assert!(matches!(call.receive().await, Some(ToSubscriber::Welcome(_))));
    assert_eq!(call.receive().await, None);
    until(|| hub.subscriber_count() == 0).await;
    assert_eq!(hub.history_lost(), 0);
}

#[tokio::test]
async fn what_is_no_frame_is_answered_and_ends_the_stream() {
    let hub = hub();
    let mut service = subscribe_service(hub.clone());
    let empty = framed(&pb::SubscribeRequest { frame: None });
    let garbage = Bytes::from_static(&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff]);
    let oversized = Bytes::from_static(&[0, 0xff, 0, 0, 0]);
    for bad in [empty, garbage, oversized] {
        let mut call = call(&mut service);
        call.requests.send(bad).await.unwrap();
        assert_eq!(call.receive_go_away().await, GoAwayReason::Malformed);
    }
    until(|| hub.subscriber_count() == 0).await;
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye_and_drains() {
    let hub = hub();
    let running = tokio::spawn(Arc::clone(&hub).run());
    let mut service = subscribe_service(hub.clone());
    let mut one = call(&mut service);
    one.send(&hello()).await;
    assert!(matches!(one.receive().await, Some(ToSubscriber::Welcome(_))));
    hub.stop();
    assert_eq!(one.receive_go_away().await, GoAwayReason::Shutdown);
    assert_eq!(call(&mut service).receive_go_away().await, GoAwayReason::Shutdown, "nobody joins any more");
    service.drained().await;
    running.await.unwrap();
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_is_cut_and_costs_the_others_nothing() {
    let hub = hub();
    let mut service = SubscribeService { stalled_after: Duration::from_millis(20), ..subscribe_service(hub.clone()) };
    // More than one chunk.
    (1..=100).for_each(|revision| publish_as(&hub, revision, vec![7; 1000].into()));
    let stalled = call(&mut service);
    stalled.send(&hello()).await;
    let mut reader = call(&mut service);
    reader.send(&hello()).await;
    let mut deltas = 0;
    while deltas < 100 {
        deltas += usize::from(matches!(reader.receive().await, Some(ToSubscriber::Delta(_))));
    }
    until(|| hub.subscriber_count() == 1).await;
    publish(&hub, 101);
    reader.send(&ack(100)).await;
    assert!(matches!(reader.receive().await, Some(ToSubscriber::Delta(delta)) if delta.canonical == "delta 101"));
    drop(stalled);
}

/// A client of the h2 crate with its default windows hangs up over some 230 small frames that it has not read.
#[tokio::test]
async fn small_frames_that_are_ready_together_come_in_a_few_chunks() {
    const DELTAS: usize = 1000;
    let hub = hub();
    (1..=DELTAS as u64).for_each(|revision| publish(&hub, revision));
    let mut call = call(&mut subscribe_service(hub.clone()));
    call.send(&hello()).await;
    let (mut chunks, mut bytes) = (0, Vec::new());
    let last = format!("delta {DELTAS}");
    while !bytes.windows(last.len()).any(|window| window == last.as_bytes()) {
        let chunk = call.body.frame().await.unwrap().unwrap().into_data().unwrap();
        bytes.extend_from_slice(&chunk);
        chunks += 1;
    }
    assert!(chunks <= 1 + bytes.len() / (2 << 10), "{chunks} chunks of {} bytes", bytes.len());
    call.pending = bytes.as_slice().into();
    for revision in 1..=DELTAS {
        let delta = loop {
            if let Some(ToSubscriber::Delta(delta)) = call.receive().await {
                break delta;
            }
        };
        assert_eq!(delta.canonical, format!("delta {revision}"));
    }
}

fn logged(revision: Revision) -> hub::Logged {
    let canonical = Delta::empty(revision, UnixMillis(revision.0), Minute::from_bits(7)).encode().into();
    hub::Logged { revision, canonical, chain: Chain::default() }
}

/// A history that knows how many read it at once, and gives a second reader the time to come.
#[derive(Default)]
struct ReadOneByOne {
    readers: std::sync::Mutex<Readers>,
    joined: std::sync::Condvar,
}

#[derive(Default)]
struct Readers {
    now: usize,
    most: usize,
    reads: usize,
}

impl hub::History for ReadOneByOne {
    fn deltas(&self, from: Revision, _: usize) -> Result<Vec<hub::Logged>, HistoryError> {
        let mut readers = self.readers.lock().unwrap();
        readers.now += 1;
        readers.reads += 1;
        readers.most = readers.most.max(readers.now);
        self.joined.notify_all();
        let alone = |readers: &mut Readers| readers.now < 2;
        let mut readers = self.joined.wait_timeout_while(readers, Duration::from_millis(5), alone).unwrap().0;
        readers.now -= 1;
        Ok(vec![logged(from)])
    }
}

/// Large records once were decoded by as many threads as there were joiners, each with memory of its own.
#[tokio::test]
async fn the_history_is_read_by_one_subscriber_at_a_time() {
    const KEPT: u64 = 10;
    let history = Arc::new(ReadOneByOne::default());
    let options = hub::Options { log_bytes_max: 1, ..hub::Options::default() };
    let hub = hub_over(Epoch { generation: 1, id: [2; 16] }, Vec::new(), options, history.clone());
    (1..=KEPT).for_each(|revision| publish(&hub, revision));
    let mut service = subscribe_service(hub.clone());
    let mut calls: Vec<Call> = (0..4).map(|_| call(&mut service)).collect();
    for call in &calls {
        call.send(&hello()).await;
    }
    for call in &mut calls {
        for revision in 1..=KEPT {
            let delta = loop {
                if let Some(ToSubscriber::Delta(delta)) = call.receive().await {
                    break delta;
                }
            };
            let kept: Bytes = if revision < KEPT { logged(Revision(revision)).canonical } else { "delta 10".into() };
            assert_eq!(delta.canonical, kept);
        }
    }
    let readers = history.readers.lock().unwrap();
    assert_eq!((readers.most, readers.now), (1, 0), "of {} reads", readers.reads);
    assert!(readers.reads > calls.len(), "the log kept everything");
}

#[tokio::test]
async fn more_subscribers_than_there_is_room_for_are_sent_away_and_counted() {
    let options = hub::Options { subscribers_max: 2, ..hub::Options::default() };
    let hub = hub_over(Epoch { generation: 1, id: [2; 16] }, Vec::new(), options, Arc::new(NoHistory));
    let mut service = subscribe_service(hub.clone());
    let mut let_in = [call(&mut service), call(&mut service)];
    for call in &mut let_in {
        call.send(&hello()).await;
        assert!(matches!(call.receive().await, Some(ToSubscriber::Welcome(_))));
    }
    for _ in 0..3 {
        assert_eq!(call(&mut service).receive_go_away().await, GoAwayReason::Overloaded);
    }
    assert_eq!(hub.subscriber_count(), 2);
    assert_eq!(service.sent_away().counts()[GoAwayReason::Overloaded as usize], 3);
    drop(let_in);
    until(|| hub.subscriber_count() == 0).await;
    let mut next = call(&mut service);
    next.send(&hello()).await;
    assert!(matches!(next.receive().await, Some(ToSubscriber::Welcome(_))), "there is room again");
}

#[tokio::test]
async fn other_methods_and_other_kinds_of_requests_are_refused() {
    let mut service = subscribe_service(hub());
    let mut answer = |path: &str, kind: &'static str| {
        let request = Request::post(path).header(header::CONTENT_TYPE, kind);
        at_once(service.call(request.body(Body::empty()).unwrap()))
    };
    let unknown = answer("/rescind.v1.ReplicationService/Unsubscribe", "application/grpc");
    assert_eq!(unknown.headers()["grpc-status"], "12");
    assert_eq!(answer(SUBSCRIBE_PATH, "application/json").status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer(SUBSCRIBE_PATH, "application/grpc-web").status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

/// The generated client understands what is written by hand.
#[tokio::test]
async fn a_generated_client_can_subscribe_over_a_socket() {
    let hub = hub();
    let routes = tonic::service::Routes::new(subscribe_service(hub.clone()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, routes.prepare().into_axum_router()).await });
    let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = pb::replication_service_client::ReplicationServiceClient::new(channel);
    let (requests, queue) = mpsc::channel(4);
    requests.send(pb::SubscribeRequest::from(&hello())).await.unwrap();
    let outbound = ReceiverStream::new(queue);
    let mut inbound = client.subscribe(outbound).await.unwrap().into_inner();
    let mut next = async || ToSubscriber::try_from(inbound.next().await.unwrap().unwrap()).unwrap();
    assert!(matches!(next().await, ToSubscriber::Welcome(_)));
    assert!(matches!(next().await, ToSubscriber::SnapshotBegin(_)));
    assert!(matches!(next().await, ToSubscriber::SnapshotEnd(_)));
    requests.send(pb::SubscribeRequest::from(&hello())).await.unwrap();
    let ToSubscriber::GoAway(away) = next().await else { panic!("a second hello is accepted") };
    assert_eq!(away.reason, GoAwayReason::Malformed);
    assert!(inbound.next().await.is_none(), "the stream ends well");
    server.abort();
}

/// What clients and agents connect with, against what servers listen with.
#[tokio::test]
async fn an_upstream_subscribes_through_a_unix_socket() {
    use crate::replica::Upstream;
    let dir = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", dir.path().join("s").display());
    let listener = crate::surface::Listener::bind(url.parse().unwrap(), "--listen").await.unwrap();
    let app = tonic::service::Routes::new(subscribe_service(hub())).prepare().into_axum_router();
    let stop = tokio_util::sync::CancellationToken::new();
    let served = tokio::spawn(listener.serve(app, crate::surface::Bounds::connections(1), stop.clone()));
    let upstream = crate::wire::upstream::GrpcUpstream::new(&url).unwrap();
    let mut connection = upstream.connect().await.unwrap();
    connection.outgoing.send(hello()).await.unwrap();
    let mut next = async || connection.incoming.next().await.unwrap().unwrap();
    assert!(matches!(next().await, ToSubscriber::Welcome(_)));
    assert!(matches!(next().await, ToSubscriber::SnapshotBegin(_)));
    drop(connection);
    stop.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn revisions_beyond_the_restore_point_are_counted_once_for_each_greeting() {
    let parent = Ancestor { epoch: Epoch { generation: 1, id: [2; 16] }, last: Revision(5) };
    let hub = hub_of(Epoch { generation: 2, id: [4; 16] }, vec![parent]);
    let mut service = subscribe_service(hub.clone());
    for (held, lost) in [(9, 4), (5, 4), (7, 6)] {
        let mut call = call(&mut service);
        let ToServer::Hello(mut greeting) = hello() else { unreachable!() };
        greeting.held = Some(Held { epoch: parent.epoch, revision: Revision(held), digest: Digest::default() });
        call.send(&ToServer::Hello(greeting)).await;
        assert!(matches!(call.receive().await, Some(ToSubscriber::Welcome(_))));
        call.send(&ack(0)).await;
        assert_eq!(hub.history_lost(), lost, "held {held}");
    }
}
