//! Light subscribers: raw HTTP/2 clients that say Hello, ack once a second and note when each revision came.
//!
//! They hold no set and verify nothing, so that thousands fit into one thread. They know nothing but a URL's address: a
//! relay can stand where the server stands.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request, header};
use prost::Message;
use rescind::wire::pb;
use rescind::wire::pb::subscribe_response::Frame;
use rescind::wire::replication::GRPC_PREFIX_BYTES;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use crate::table::mix;

/// More than the overhead of all small frames that fit into a window.
const DATA_FRAME_BUDGET: usize = 16 << 20;

/// Of a narrow socket, in bytes: the least that the kernel allows (about 2 KiB), and segments so small that it makes no more
/// than some 70 KiB of the server's side, instead of 4 MiB.
const NARROW_BUFFER: u32 = 1;
const NARROW_SEGMENT: u32 = 536;
/// What a stream may hold unread at the far end of a narrow socket, in bytes: more than the socket.
const WIDE_WINDOW: u32 = 4 << 20;

/// What a subscriber can go on from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) epoch: Option<pb::Epoch>,
    pub(crate) revision: u64,
    pub(crate) digest: Vec<u8>,
}

/// How a fleet connects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) count: usize,
    /// The number of the first: their ids go by it.
    pub(crate) first: usize,
    /// So many connect at a time.
    pub(crate) at_once: usize,
    /// What all of them hold.
    pub(crate) held: Option<Held>,
    /// The kernel holds little for them, and their windows are wide: who does not read its socket makes the server wait.
    pub(crate) narrow: bool,
}

/// How subscribers stall.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stall {
    /// The stream is not read; the connection is.
    Stream = 1,
    /// The socket is not read.
    Socket = 2,
}

/// What all subscribers of a fleet note.
#[derive(Default)]
pub(crate) struct Notes {
    live: AtomicUsize,
    gone: AtomicUsize,
    snapshots: AtomicUsize,
    /// The first so many stall,
    stalled: AtomicUsize,
    /// in this way,
    stall: AtomicU8,
    /// and then still read so many bytes each.
    allowed: AtomicUsize,
    /// The bytes that those which do not stall have read.
    read: AtomicUsize,
    last: Mutex<Held>,
    arrivals: Mutex<Vec<(u64, Instant)>>,
}

/// Subscribers on a thread of their own, until it is dropped.
pub(crate) struct Fleet {
    notes: Arc<Notes>,
    count: usize,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Fleet {
    /// Connects without waiting.
    pub(crate) fn connect(server: SocketAddr, options: Options) -> Self {
        let notes = Arc::new(Notes::default());
        let builder = &mut tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let places = Arc::new(Semaphore::new(options.at_once));
        for index in 0..options.count {
            let (notes, places) = (Arc::clone(&notes), Arc::clone(&places));
            let options = options.clone();
            runtime.spawn(async move {
                let subscriber = Subscriber { index, notes: Arc::clone(&notes), head: None, applied: 0, live: false };
                let place = places.acquire_owned().await.unwrap();
                let count = options.count;
                let ended = subscriber.run(server, options, place).await;
                if notes.gone.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("one of {count} subscribers is gone: {ended:?}");
                }
            });
        }
        Self { notes, count: options.count, runtime: Some(runtime) }
    }

    /// Connects, and returns once all are live.
    pub(crate) fn live(server: SocketAddr, count: usize) -> Self {
        Self::live_with(server, Options { count, at_once: 64, ..Options::default() })
    }

    /// The same, connecting as `options` say.
    pub(crate) fn live_with(server: SocketAddr, options: Options) -> Self {
        let fleet = Self::connect(server, options);
        fleet.until_live(Duration::from_secs(60));
        fleet
    }

    /// Waits until all are live; how long that took.
    pub(crate) fn until_live(&self, within: Duration) -> Duration {
        let begin = Instant::now();
        while self.notes.live.load(Ordering::Relaxed) < self.count {
            let live = self.notes.live.load(Ordering::Relaxed);
            assert!(begin.elapsed() < within, "only {live} of {} are live", self.count);
            std::thread::sleep(Duration::from_millis(2));
        }
        begin.elapsed()
    }

    /// How many connections have ended.
    pub(crate) fn gone(&self) -> usize {
        self.notes.gone.load(Ordering::Relaxed)
    }

    /// How many bytes those that do not stall have read.
    pub(crate) fn read(&self) -> usize {
        self.notes.read.load(Ordering::Relaxed)
    }

    /// How many were sent a snapshot.
    pub(crate) fn snapshots(&self) -> usize {
        self.notes.snapshots.load(Ordering::Relaxed)
    }

    /// Where the last of them stands.
    pub(crate) fn held(&self) -> Held {
        self.notes.last.lock().unwrap().clone()
    }

    /// Takes what was noted since the last time.
    pub(crate) fn arrivals(&self) -> Vec<(u64, Instant)> {
        std::mem::take(&mut *self.notes.arrivals.lock().unwrap())
    }

    /// The first so many stall from their next frame on.
    pub(crate) fn stall(&self, count: usize, how: Stall) {
        self.notes.stall.store(how as u8, Ordering::Relaxed);
        self.notes.stalled.store(count, Ordering::Relaxed);
    }

    /// Those that do not read their stream take so many bytes more.
    pub(crate) fn allow(&self, bytes: usize) {
        self.notes.allowed.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Notes {
    fn stalls(&self, index: usize) -> bool {
        index < self.stalled.load(Ordering::Relaxed)
    }

    fn stalls_socket(&self, index: usize) -> bool {
        self.stalls(index) && self.stall.load(Ordering::Relaxed) == Stall::Socket as u8
    }
}

struct Subscriber {
    index: usize,
    notes: Arc<Notes>,
    head: Option<u64>,
    applied: u64,
    live: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Subscriber {
    async fn run<P>(mut self, server: SocketAddr, options: Options, place: P) -> Result<(), Failure> {
        let (mut send, mut body) = self.open(server, options).await?;
        let mut place = Some(place);
        let mut pending = BytesMut::new();
        let phase = Duration::from_millis(mix(self.index as u64) % 1000);
        let mut ack = interval_at(tokio::time::Instant::now() + phase, Duration::from_secs(1));
        ack.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_stalled = 0;
        loop {
            while self.notes.stalls(self.index) && read_stalled >= self.notes.allowed.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(100)).await;
            }
            tokio::select! {
                data = body.data() => {
                    let Some(data) = data.transpose()? else { return Ok(()) };
                    if self.notes.stalls(self.index) {
                        read_stalled += data.len();
                    } else {
                        self.notes.read.fetch_add(data.len(), Ordering::Relaxed);
                    }
                    body.flow_control().release_capacity(data.len())?;
                    self.take(&mut pending, data)?;
                    place = place.filter(|_| !self.live);
                }
                _ = ack.tick(), if self.live => {
                    // When it fails the stream has ended; what was said last stands in the body.
                    let _ = send.send_data(ack_message(self.applied), false);
                }
            }
        }
    }

    async fn open(
        &self,
        server: SocketAddr,
        Options { first, held, narrow, .. }: Options,
    ) -> Result<(h2::SendStream<Bytes>, h2::RecvStream), Failure> {
        let socket = if narrow { narrow_socket()?.connect(server).await? } else { TcpStream::connect(server).await? };
        socket.set_nodelay(true)?;
        // By default a client leaves a server that sends it many small frames, one after the other, which it does not
        // read: here the server's part is measured.
        let mut builder = h2::client::Builder::new();
        if narrow {
            builder.initial_window_size(WIDE_WINDOW).initial_connection_window_size(WIDE_WINDOW);
        }
        let (client, connection) = builder.data_frame_budget(DATA_FRAME_BUDGET).handshake::<_, Bytes>(socket).await?;
        let (notes, index) = (Arc::clone(&self.notes), self.index);
        tokio::spawn(async move {
            let mut connection = Box::pin(connection);
            let ended = std::future::poll_fn(|cx| {
                // Nothing will wake it: a stalled socket stays so.
                if notes.stalls_socket(index) { Poll::Pending } else { Pin::new(&mut connection).poll(cx) }
            });
            let _ = ended.await;
        });
        let request = Request::post(format!("http://{server}/rescind.v1.ReplicationService/Subscribe"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"))
            .body(())?;
        let (response, mut send) = client.ready().await?.send_request(request, false)?;
        send.send_data(hello_message(first + self.index, held), false)?;
        Ok((send, response.await?.into_body()))
    }

    /// Notes every whole frame.
    fn take(&mut self, pending: &mut BytesMut, data: Bytes) -> Result<(), Failure> {
        // Nearly always it is whole frames.
        let mut bytes = if pending.is_empty() {
            data
        } else {
            pending.extend_from_slice(&data);
            std::mem::take(pending).freeze()
        };
        while let Some(prefix) = bytes.first_chunk::<GRPC_PREFIX_BYTES>() {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            if bytes.len() < GRPC_PREFIX_BYTES + length {
                break;
            }
            bytes.advance(GRPC_PREFIX_BYTES);
            self.note(bytes.split_to(length))?;
        }
        pending.extend_from_slice(&bytes);
        Ok(())
    }

    fn note(&mut self, message: Bytes) -> Result<(), Failure> {
        // A chunk of a snapshot need not be looked at.
        const CHUNK_TAG: u8 = 3 << 3 | 2;
        if message.first() == Some(&CHUNK_TAG) {
            return Ok(());
        }
        match pb::SubscribeResponse::decode(message)?.frame {
            Some(Frame::Welcome(welcome)) => {
                self.head = Some(welcome.head_revision);
                self.notes.last.lock().unwrap().epoch = welcome.epoch;
            }
            Some(Frame::SnapshotBegin(_)) => {
                self.notes.snapshots.fetch_add(1, Ordering::Relaxed);
            }
            Some(Frame::SnapshotEnd(end)) => self.stand_at(end.revision, &end.digest),
            Some(Frame::Delta(delta)) => {
                let revision = delta.canonical.first_chunk().ok_or("a short delta")?;
                let revision = u64::from_le_bytes(*revision);
                self.notes.arrivals.lock().unwrap().push((revision, Instant::now()));
                let digest = delta.canonical.last_chunk::<16>().ok_or("a short delta")?;
                self.stand_at(revision, digest);
            }
            Some(Frame::Heartbeat(heartbeat)) => self.stand_at(heartbeat.revision, &heartbeat.digest),
            Some(Frame::GoAway(away)) => return Err(away.detail.into()),
            _ => {}
        }
        Ok(())
    }

    fn stand_at(&mut self, revision: u64, digest: &[u8]) {
        self.applied = revision;
        let mut last = self.notes.last.lock().unwrap();
        if revision > last.revision || last.digest.is_empty() {
            (last.revision, last.digest) = (revision, digest.to_vec());
        }
        if !self.live && self.head.is_none_or(|head| revision >= head) {
            self.live = true;
            self.notes.live.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn narrow_socket() -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(NARROW_BUFFER)?;
    SockRef::from(&socket).set_tcp_mss(NARROW_SEGMENT)?;
    Ok(socket)
}

fn framed(frame: pb::subscribe_request::Frame) -> Bytes {
    let message = pb::SubscribeRequest { frame: Some(frame) };
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn hello_message(index: usize, held: Option<Held>) -> Bytes {
    let mut id = [0xfe; 16];
    id[..8].copy_from_slice(&(index as u64).to_le_bytes());
    let held = held.map(|held| pb::hello::Held { epoch: held.epoch, revision: held.revision, digest: held.digest });
    framed(pb::subscribe_request::Frame::Hello(pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        subscriber_id: id.to_vec(),
        subscriber_name: format!("light-{index}"),
        role: pb::hello::Role::Leaf.into(),
        held,
        version: "bench".into(),
        ..Default::default()
    }))
}

fn ack_message(applied: u64) -> Bytes {
    let digest = vec![0; 16];
    framed(pb::subscribe_request::Frame::Ack(pb::Ack {
        applied_revision: applied,
        digest,
        ready: true,
        ..Default::default()
    }))
}
