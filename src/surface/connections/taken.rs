//! A response body that knows when the far end takes nothing of it.
//!
//! The transport asks for the next part once there is room for the last one. A part that waits for the far end is counted
//! on the connection's [`Place`](super::place::Place), which is cut when one waits for too long; a part that waits for
//! this side is not. A subscription has a limit of its own and is not counted.
//!
//! HTTP/2 takes a part whole as soon as the far end gives room for one byte. So large parts are handed on in pieces, each
//! asked for once the one before has left, and the last byte by itself: a response is over when it is taken.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::place::UnderWay;

/// The largest piece, in bytes: one frame. Whoever takes one of them in 30 s is let go on.
const PIECE_BYTES: usize = 16 << 10;
/// Parts up to this many bytes are let go whole. What of them may stick: 200 streams of 1 KiB, hence 200 KiB of a
/// connection, for as long as it lives.
const SMALL_BYTES: usize = 1 << 10;

pub(in crate::surface) struct Taken {
    body: Body,
    /// Keeps the connection from being idle.
    under_way: UnderWay,
    is_watched: bool,
    /// What is left of a part.
    rest: Option<Bytes>,
    /// The period in which the last part was handed on, while it may wait for the far end.
    waiting: Option<usize>,
}

impl Taken {
    pub(in crate::surface) fn new(body: Body, under_way: UnderWay, is_watched: bool) -> Self {
        let waiting = is_watched.then(|| under_way.place().begin_taking());
        Self { body, under_way, is_watched, rest: None, waiting }
    }

    /// Whose turn it is now.
    fn turn(&mut self, is_far_ends: bool) {
        if !self.is_watched {
            return;
        }
        if let Some(period) = self.waiting.take() {
            self.under_way.place().end_taking(period);
        }
        if is_far_ends {
            self.waiting = Some(self.under_way.place().begin_taking());
        }
    }

    /// Holds back the rest of a large part.
    fn piece(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if self.is_watched && data.len() > SMALL_BYTES {
            self.rest = Some(data.split_off(PIECE_BYTES.min(data.len() - 1)));
        }
        Frame::data(data)
    }
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(rest) = self.rest.take() {
            self.turn(true);
            return Poll::Ready(Some(Ok(self.piece(rest))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.turn(matches!(polled, Poll::Ready(Some(Ok(_)))));
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| match frame.into_data() {
                    Ok(data) => self.piece(data),
                    Err(other) => other,
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        if let Some(rest) = &self.rest {
            let more = rest.len() as u64;
            hint = match hint.exact() {
                Some(exact) => SizeHint::with_exact(exact + more),
                None => SizeHint::new(),
            };
        }
        hint
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.turn(false);
    }
}
