//! The simulated network as the server's listener and the replica's dialler see it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rescind::replica::{Connection, Upstream, UpstreamError};
use rescind::revocation::ports::Pending;
use rescind::surface::{Accept, Peer};
use rescind::wire::upstream::GrpcUpstream;
use tokio_stream::StreamExt;
use turmoil::net::{TcpListener, TcpStream};

/// Where every server of the simulation listens.
pub const PORT: u16 = 7009;
/// What a slow reader takes for each frame.
const SLOW_FRAME: Duration = Duration::from_millis(300);

/// A listening socket of a simulated host.
pub struct SimListener(TcpListener);

impl SimListener {
    pub async fn bind() -> io::Result<Self> {
        Ok(Self(TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await?))
    }
}

impl Accept for SimListener {
    type Connection = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        Ok((stream, address.into()))
    }
}

/// The upstream that replicas use, over a simulated connection. Its reader can be made slow.
pub struct SimUpstream {
    inner: GrpcUpstream,
    is_slow: Arc<AtomicBool>,
}

impl SimUpstream {
    /// The server on a simulated host.
    pub fn at(host: &str, is_slow: Arc<AtomicBool>) -> Arc<dyn Upstream> {
        Arc::new(Self { inner: GrpcUpstream::new(&format!("http://{host}:{PORT}")).unwrap(), is_slow })
    }
}

impl Upstream for SimUpstream {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn connect(&self) -> Pending<'_, Result<Connection, UpstreamError>> {
        Box::pin(async move {
            let Connection { outgoing, incoming } = self.inner.connect_over(dial).await?;
            let is_slow = Arc::clone(&self.is_slow);
            let incoming = incoming.then(move |frame| {
                let is_slow = is_slow.load(Ordering::Relaxed);
                async move {
                    if is_slow {
                        tokio::time::sleep(SLOW_FRAME).await;
                    }
                    frame
                }
            });
            Ok(Connection { outgoing, incoming: Box::pin(incoming) })
        })
    }
}

/// Opens a simulated connection to the host that a URL names.
pub async fn dial(uri: http::Uri) -> io::Result<TcpStream> {
    TcpStream::connect((uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(PORT))).await
}
