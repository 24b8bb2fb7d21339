//! A response body of buffers that already carry gRPC's prefix, followed by the trailers of success.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::handoff::Taker;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Hands on what its subscription gives. A subscription ends well: why, its last frame has said.
pub(super) struct FrameBody {
    frames: Taker,
    ended: bool,
}

impl FrameBody {
    pub(super) fn new(frames: Taker) -> Self {
        Self { frames, ended: false }
    }
}

impl http_body::Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(match ready!(self.frames.poll_take(cx)) {
            Some(bytes) => Frame::data(bytes),
            None => {
                self.ended = true;
                Frame::trailers(HeaderMap::from_iter([(GRPC_STATUS, OK)]))
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
