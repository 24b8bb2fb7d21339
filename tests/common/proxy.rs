//! A TCP proxy that stalls, cuts and throttles what passes through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What passes at a time, in bytes.
const CHUNK_BYTES: usize = 16 << 10;
/// Between two chunks of a throttled connection.
const THROTTLED_PAUSE: Duration = Duration::from_millis(50);
/// What passes at a time then.
const THROTTLED_BYTES: usize = 2 << 10;

/// What the proxy does to everything that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Some 40 KB/s.
    Throttled,
    /// Nothing passes, and nobody is told.
    Stalled,
}

/// In front of one address.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) listen: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    cuts: Arc<watch::Sender<u64>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own, and passes on to `target`.
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let (weather, cuts) = (Arc::new(watch::Sender::new(Weather::Fair)), Arc::new(watch::Sender::new(0)));
        let task = tokio::spawn(accept(listener, target, Arc::clone(&weather), Arc::clone(&cuts)));
        Self { listen, weather, cuts, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", super::guard::scheme(), self.listen)
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Cuts every connection there is.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    cuts: Arc<watch::Sender<u64>>,
) {
    while let Ok((near, _)) = listener.accept().await {
        let (weather, mut cuts) = (weather.subscribe(), cuts.subscribe());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::select! {
                () = pass(near_in, far_out, weather.clone()) => {}
                () = pass(far_in, near_out, weather) => {}
                // The proxy itself may be gone: that cuts as well.
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let now = *weather.borrow_and_update();
        let room = match now {
            Weather::Fair => CHUNK_BYTES,
            Weather::Throttled => THROTTLED_BYTES,
            Weather::Stalled => {
                if weather.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        let read = match from.read(&mut buffer[..room]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        // What was read before the weather changed waits with the rest.
        if weather.wait_for(|weather| *weather != Weather::Stalled).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
        if now == Weather::Throttled {
            tokio::time::sleep(THROTTLED_PAUSE).await;
        }
    }
}
