//! Where frames come from and go to, whatever carries them.

use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;

use crate::replication::frames::{ToServer, ToSubscriber};
use crate::revocation::ports::Pending;

/// How many frames wait for the transport: Hello, and an ack. When full, the newest ack waits and replaces older ones.
pub const OUTGOING_FRAMES: usize = 2;

/// A server that can be subscribed to.
pub trait Upstream: Send + Sync {
    /// Names it in logs: its URL, without secrets.
    fn name(&self) -> &str;

    /// Connects, with a limit on how long that may take. Dropping the future gives it up.
    fn connect(&self) -> Pending<'_, Result<Connection, UpstreamError>>;
}

/// One subscription in the making: a framed duplex. Dropping `outgoing` says that nothing more will be sent; dropping
/// both ends the connection.
pub struct Connection {
    /// To the server; holds at most [`OUTGOING_FRAMES`].
    pub outgoing: mpsc::Sender<ToServer>,
    /// From the server, in order. Read one at a time, so that the transport's flow control bounds what waits.
    pub incoming: Pin<Box<dyn Stream<Item = Result<ToSubscriber, UpstreamError>> + Send>>,
}

/// Why there is no connection, or no longer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody answered, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered, and refused.
    #[error("refused: {0}")]
    Refused(String),
    /// What it sent is not a frame.
    #[error("not a frame: {0}")]
    Malformed(String),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
