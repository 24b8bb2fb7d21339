//! Conversions between frames and their messages, and the shared bytes of frames.
//!
//! What comes from a peer is checked here, once: lengths, counts, ranges, and that a choice was made. What it *claims*
//! (digests, signatures, order) is for the state machines to judge.

mod inbound;
mod outbound;

#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

pub use inbound::FrameError;

use super::pb;
use crate::replication::FrameEncoder;
use crate::replication::frames::{ToServer, ToSubscriber};

/// The bytes that gRPC puts before a message: not compressed, and its length.
pub const GRPC_PREFIX_BYTES: usize = 5;

impl TryFrom<pb::SubscribeRequest> for ToServer {
    type Error = FrameError;

    fn try_from(message: pb::SubscribeRequest) -> Result<Self, FrameError> {
        inbound::to_server(message)
    }
}

impl TryFrom<pb::SubscribeResponse> for ToSubscriber {
    type Error = FrameError;

    fn try_from(message: pb::SubscribeResponse) -> Result<Self, FrameError> {
        inbound::to_subscriber(message)
    }
}

impl From<&ToServer> for pb::SubscribeRequest {
    fn from(frame: &ToServer) -> Self {
        Self { frame: Some(outbound::to_server(frame)) }
    }
}

impl From<&ToSubscriber> for pb::SubscribeResponse {
    fn from(frame: &ToSubscriber) -> Self {
        Self { frame: Some(outbound::to_subscriber(frame)) }
    }
}

/// Encodes frames as length-prefixed gRPC messages, ready for an HTTP/2 body.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcEncoder;

impl FrameEncoder for GrpcEncoder {
    fn encode(&self, frame: &ToSubscriber) -> Bytes {
        let message = pb::SubscribeResponse::from(frame);
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(GRPC_PREFIX_BYTES + length);
        bytes.put_u8(0);
        // Frames are bounded far below 4 GiB (`frames::FRAME_BYTES_MAX`).
        bytes.put_u32(length as u32);
        message.encode_raw(&mut bytes);
        bytes.freeze()
    }
}
