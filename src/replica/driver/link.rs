//! The one connection of a driver, from waiting for it to its end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Sleep, timeout};
use tokio_stream::StreamExt;

use crate::replica::below::TellRoster;
use crate::replica::upstream::{Connection, Upstream, UpstreamError};
use crate::replication::frames::{ToServer, ToSubscriber};
use crate::revocation::ports::Pending;

/// How long connecting may take altogether, whatever part of it hangs.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long the server may take to close its side, once it was told that nothing more comes.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Where the connection is.
pub(super) enum Link {
    /// There is none, and none is wanted yet.
    Idle,
    /// One is wanted later.
    Waiting(Pin<Box<Sleep>>),
    /// It is being made.
    Connecting(Pending<'static, Result<Connection, UpstreamError>>),
    /// It is there, and what is to be sent once there is room.
    Open(Connection, Box<Outbox>),
}

/// What is to be sent: Hello, then what is to be told of those below, then the ack that counts them.
pub(super) struct Outbox {
    hello: Option<ToServer>,
    roster: Option<Arc<dyn TellRoster>>,
    /// The newest says all.
    ack: Option<ToServer>,
}

impl Outbox {
    fn put(&mut self, frame: ToServer) {
        match frame {
            ToServer::Hello(_) => self.hello = Some(frame),
            ToServer::Ack(_) | ToServer::Roster(_) => self.ack = Some(frame),
        }
    }

    fn is_pending(&self) -> bool {
        self.hello.is_some() || self.ack.is_some() || self.roster.as_ref().is_some_and(|roster| roster.is_pending())
    }

    fn clear(&mut self) {
        (self.hello, self.roster, self.ack) = (None, None, None);
    }

    fn take(&mut self) -> Option<ToServer> {
        let part = || self.roster.as_ref().and_then(|roster| roster.next_part()).map(ToServer::Roster);
        self.hello.take().or_else(part).or_else(|| self.ack.take())
    }
}

/// What came of waiting.
pub(super) enum LinkInput {
    /// It is time to connect.
    Due,
    /// The connection is there.
    Connected(Connection),
    /// A frame came.
    Frame(Box<ToSubscriber>),
    /// There is no connection, or no longer one.
    Lost(UpstreamError),
}

impl Link {
    pub(super) fn wait(after: Duration) -> Self {
        Self::Waiting(Box::pin(tokio::time::sleep(after)))
    }

    pub(super) fn connect(upstream: Arc<dyn Upstream>) -> Self {
        Self::Connecting(Box::pin(async move {
            let late = |_| UpstreamError::Unreachable(format!("no connection within {CONNECT_WITHIN:?}"));
            timeout(CONNECT_WITHIN, upstream.connect()).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
        }))
    }

    /// `roster` tells of those below, if there may be any.
    pub(super) fn open(connection: Connection, roster: Option<Arc<dyn TellRoster>>) -> Self {
        if let Some(roster) = &roster {
            roster.begin();
        }
        Self::Open(connection, Box::new(Outbox { hello: None, roster, ack: None }))
    }

    /// Sends a frame when there is room. An ack that still waits is replaced.
    pub(super) fn send(&mut self, frame: ToServer) {
        if let Self::Open(_, outbox) = self {
            outbox.put(frame);
        }
        self.flush();
    }

    /// Sends what there is room for.
    pub(super) fn flush(&mut self) {
        let Self::Open(connection, outbox) = self else { return };
        while outbox.is_pending()
            && let Ok(room) = connection.outgoing.try_reserve()
        {
            match outbox.take() {
                Some(frame) => room.send(frame),
                None => return,
            }
        }
    }

    /// What happens next; never, while idle. May be dropped and called again at any time.
    pub(super) async fn next(&mut self) -> LinkInput {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Waiting(sleep) => {
                sleep.as_mut().await;
                LinkInput::Due
            }
            Self::Connecting(connecting) => match connecting.as_mut().await {
                Ok(connection) => LinkInput::Connected(connection),
                Err(error) => LinkInput::Lost(error),
            },
            Self::Open(connection, outbox) => next_frame(connection, outbox).await,
        }
    }

    /// Lets the server know that this is the end, and waits a little for it to agree.
    pub(super) async fn end(&mut self) {
        let Self::Open(Connection { outgoing, mut incoming }, _) = std::mem::replace(self, Self::Idle) else { return };
        drop(outgoing);
        // Whether it agrees or not, it is over.
        let _ =
            timeout(GOODBYE_WITHIN, async { while incoming.next().await.is_some_and(|frame| frame.is_ok()) {} }).await;
    }
}

async fn next_frame(connection: &mut Connection, outbox: &mut Outbox) -> LinkInput {
    loop {
        tokio::select! {
            room = connection.outgoing.reserve(), if outbox.is_pending() => match room {
                Ok(room) => {
                    if let Some(frame) = outbox.take() {
                        room.send(frame);
                    }
                }
                // When the server reads no more, what it still sends tells why.
                Err(_) => outbox.clear(),
            },
            frame = connection.incoming.next() => return match frame {
                Some(Ok(frame)) => LinkInput::Frame(Box::new(frame)),
                Some(Err(error)) => LinkInput::Lost(error),
                None => LinkInput::Lost(UpstreamError::Unreachable("the server closed the connection".to_owned())),
            },
        }
    }
}
