//! The application behind a gateway: counts what reaches it, and keeps what each request brought.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What it answers.
pub(crate) const BODY: &str = "the application\n";

/// A request that reached it.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The application, as long as it is kept.
pub(crate) struct Origin {
    pub(crate) listen: SocketAddr,
    reached: Arc<Mutex<Vec<Reached>>>,
    _runtime: Runtime,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let listen = listener.local_addr().unwrap();
        let reached = Arc::<Mutex<Vec<Reached>>>::default();
        let seen = Arc::clone(&reached);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| answer(Arc::clone(&seen), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { listen, reached, _runtime: runtime }
    }

    /// What reached it since this was last asked.
    pub(crate) fn take(&self) -> Vec<Reached> {
        std::mem::take(&mut *self.reached.lock())
    }
}

async fn answer(
    seen: Arc<Mutex<Vec<Reached>>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
    seen.lock().push(Reached { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, body });
    Ok(Response::new(Full::from(BODY)))
}
