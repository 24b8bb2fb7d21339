//! A deadline for the first bytes of a connection, and whether something came at all.
//!
//! The server tells HTTP/2 from HTTP/1 by them and would wait for ever; only then do the deadlines of either begin.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connections::Midway;

/// The length of HTTP/2's connection preface (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// A connection that fails if its first bytes take too long.
pub(super) struct Prefaced<I> {
    io: I,
    /// How many of the first bytes are still to come.
    missing: usize,
    /// Until then; `None` once they came.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Told of what comes.
    midway: Midway,
}

impl<I> Prefaced<I> {
    /// Gives `io` this long.
    pub(super) fn within(io: I, limit: Duration, midway: Midway) -> Self {
        Self { io, missing: PREFACE_BYTES, deadline: Some(Box::pin(sleep(limit))), midway }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefaced<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if came > 0 {
            self.midway.begin();
        }
        self.missing = self.missing.saturating_sub(came);
        if self.missing == 0 {
            self.deadline = None;
        }
        match &mut self.deadline {
            Some(deadline) if read.is_pending() => {
                deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            _ => read,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefaced<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_connection_that_says_too_little_fails() {
        let (mut far, near) = duplex(64);
        far.write_all(&[0; PREFACE_BYTES - 1]).await.unwrap();
        let mut read = [0; PREFACE_BYTES];
        let failed = Prefaced::within(near, LIMIT, Midway::default()).read_exact(&mut read).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_that_said_enough_may_be_silent() {
        let (mut far, near) = duplex(64);
        let mut near = Prefaced::within(near, LIMIT, Midway::default());
        far.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        near.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let mut more = [0; 1];
        let silent = tokio::time::timeout(LIMIT * 3, near.read_exact(&mut more)).await;
        assert!(silent.is_err(), "still waiting");
        far.write_all(&[7]).await.unwrap();
        near.read_exact(&mut more).await.unwrap();
        assert_eq!(more, [7]);
    }
}
