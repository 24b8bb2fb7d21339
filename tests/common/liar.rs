//! A relay that lies: it passes a real server's frames on, and tells the lies it was given, one after the other.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use rescind::wire::pb;
use rescind::wire::pb::replication_service_client::ReplicationServiceClient;
use rescind::wire::pb::replication_service_server::{ReplicationService, ReplicationServiceServer};
use rescind::wire::pb::subscribe_response::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::server::free_port;

/// What comes instead of a frame.
pub(crate) enum Lie {
    /// These frames, or none; then the truth again.
    Instead(Vec<Frame>),
    /// The end of the stream.
    Cut,
    /// These frames, then whatever this makes, until the subscriber has had enough of it.
    Forever(Vec<Frame>, Box<dyn FnMut(u64) -> Frame + Send>),
}

/// Looks at a frame that passes; a lie that was told is not told again.
pub(crate) type Tamper = Box<dyn FnMut(&Frame) -> Option<Lie> + Send>;

/// The lies that are still to be told, first things first.
#[derive(Clone, Default)]
pub(crate) struct Lies(Arc<Mutex<VecDeque<Tamper>>>);

impl Lies {
    pub(crate) fn push(&self, tamper: impl FnMut(&Frame) -> Option<Lie> + Send + 'static) {
        self.0.lock().push_back(Box::new(tamper));
    }

    /// Whether all were told.
    pub(crate) fn are_told(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn about(&self, frame: &Frame) -> Option<Lie> {
        let mut lies = self.0.lock();
        let lie = lies.front_mut()?(frame)?;
        lies.pop_front();
        Some(lie)
    }
}

/// The relay, as long as it is kept.
pub(crate) struct Liar {
    pub(crate) url: String,
    pub(crate) lies: Lies,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Liar {
    /// In front of the server at `upstream`; honest until it is given a lie.
    pub(crate) fn before(upstream: &str) -> Self {
        let lies = Lies::default();
        let upstream = Endpoint::from_shared(upstream.to_owned()).unwrap().connect_lazy();
        let upstream = ReplicationServiceClient::new(upstream).max_decoding_message_size(32 << 20);
        let service = ReplicationServiceServer::new(Service { upstream, lies: lies.clone() });
        let address = free_port();
        let served = tonic::transport::Server::builder().add_service(service).serve(address);
        Self { url: format!("http://{address}"), lies, task: tokio::spawn(served) }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    upstream: ReplicationServiceClient<Channel>,
    lies: Lies,
}

type Frames = Pin<Box<dyn Stream<Item = Result<pb::SubscribeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ReplicationService for Service {
    type SubscribeStream = Frames;

    async fn subscribe(&self, request: Request<Streaming<pb::SubscribeRequest>>) -> Result<Response<Frames>, Status> {
        let asked = request.into_inner().map_while(Result::ok);
        let answered = self.upstream.clone().subscribe(asked).await?.into_inner();
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(pass(answered, send, self.lies.clone()));
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receive))))
    }

    async fn list_subscribers(
        &self,
        request: Request<pb::ListSubscribersRequest>,
    ) -> Result<Response<pb::ListSubscribersResponse>, Status> {
        self.upstream.clone().list_subscribers(request).await
    }
}

async fn pass(
    mut answered: Streaming<pb::SubscribeResponse>,
    send: mpsc::Sender<Result<pb::SubscribeResponse, Status>>,
    lies: Lies,
) {
    let send = async |frame| send.send(Ok(pb::SubscribeResponse { frame: Some(frame) })).await.is_ok();
    while let Ok(Some(response)) = answered.message().await {
        let frame = response.frame.unwrap();
        let (frames, forever) = match lies.about(&frame) {
            None => (vec![frame], None),
            Some(Lie::Instead(frames)) => (frames, None),
            Some(Lie::Forever(frames, next)) => (frames, Some(next)),
            Some(Lie::Cut) => return,
        };
        for frame in frames {
            if !send(frame).await {
                return;
            }
        }
        if let Some(mut next) = forever {
            let mut turn = 0;
            while send(next(turn)).await {
                turn += 1;
            }
            return;
        }
    }
}
