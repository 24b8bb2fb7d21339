//! The peer of the ratios: a bare hyper HTTP/2 server that fans the same bytes out, in a process of its own.
//!
//! `POST /publish` makes the next frame, hands it to all streams and answers; every other request opens a stream.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rescind::replication::frames::{DeltaFrame, ToSubscriber};
use rescind::replication::{FrameEncoder, Signature};
use rescind::wire::replication::GrpcEncoder;
use tokio::sync::mpsc;

/// The bytes of a delta with one upsert.
const CANONICAL_BYTES: usize = 74;
const QUEUE_FRAMES: usize = 64;

#[derive(Default)]
struct Streams {
    revision: u64,
    open: Vec<mpsc::Sender<Bytes>>,
}

/// What is sent, and what the subscriber sends, which is thrown away.
struct Outgoing {
    frames: mpsc::Receiver<Bytes>,
    incoming: Option<Incoming>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(incoming) = &mut self.incoming {
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => self.incoming = None,
                Poll::Pending => break,
            }
        }
        self.frames.poll_recv(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn frame(revision: u64) -> Bytes {
    let mut canonical = vec![7; CANONICAL_BYTES];
    canonical[..8].copy_from_slice(&revision.to_le_bytes());
    GrpcEncoder.encode(&ToSubscriber::Delta(DeltaFrame {
        canonical: canonical.into(),
        signature: Some(Signature([7; 64])),
        ack_now: false,
    }))
}

fn answer(request: Request<Incoming>, streams: &Mutex<Streams>) -> Response<Outgoing> {
    let (sender, frames) = mpsc::channel(QUEUE_FRAMES);
    let mut streams = streams.lock().unwrap();
    if request.uri().path() == "/publish" {
        streams.revision += 1;
        let bytes = frame(streams.revision);
        // One that is full misses the frame; the measured rates never fill it.
        streams.open.retain(|open| !matches!(open.try_send(bytes.clone()), Err(mpsc::error::TrySendError::Closed(_))));
        return Response::new(Outgoing { frames, incoming: None });
    }
    sender.try_send(frame(streams.revision)).unwrap();
    streams.open.push(sender);
    Response::new(Outgoing { frames, incoming: Some(request.into_body()) })
}

/// Serves until the process is killed. Says its address first.
pub(crate) async fn serve() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    let streams = Arc::new(Mutex::new(Streams::default()));
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let streams = Arc::clone(&streams);
        tokio::spawn(async move {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(request, &streams))));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
