//! Frames of a subscription, each way: protobuf, then the checks of fields.

use bytes::Bytes;
use prost::Message as _;
use rescind::replication::FrameEncoder as _;
use rescind::replication::frames::{
    CHUNKS_MAX, DELTA_BYTES_MAX, HEADER_BYTES_MAX, Hello, LAGGARDS_MAX, NAME_BYTES_MAX, PART_ITEMS_MAX, PATH_MAX,
    REASON_BYTES_MAX, ToServer, ToSubscriber, VERSION_BYTES_MAX,
};
use rescind::revocation::{ANCESTORS_MAX, CHUNK_BYTES_MAX};
use rescind::wire::pb;
use rescind::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};

use super::note_accepted;

/// A frame of a subscriber, if the bytes are one.
pub fn decode_from_subscriber(bytes: &[u8]) -> Option<ToServer> {
    pb::SubscribeRequest::decode(bytes).ok()?.try_into().ok()
}

/// A frame of a sender, if the bytes are one.
pub fn decode_from_sender(bytes: &[u8]) -> Option<ToSubscriber> {
    pb::SubscribeResponse::decode(Bytes::copy_from_slice(bytes)).ok()?.try_into().ok()
}

/// The bytes of a sender's frame, without gRPC's prefix.
pub fn encode_for_subscriber(frame: &ToSubscriber) -> Vec<u8> {
    GrpcEncoder.encode(frame)[GRPC_PREFIX_BYTES..].to_vec()
}

/// The bytes of a subscriber's frame.
pub fn encode_for_server(frame: &ToServer) -> Vec<u8> {
    pb::SubscribeRequest::from(frame).encode_to_vec()
}

pub fn from_subscriber(bytes: &[u8]) {
    let Some(frame) = decode_from_subscriber(bytes) else { return };
    note_accepted();
    match &frame {
        ToServer::Hello(hello) => {
            let Hello { name, reconnect_reason, path, version, .. } = &**hello;
            is_text(name, NAME_BYTES_MAX);
            is_text(reconnect_reason, REASON_BYTES_MAX);
            is_text(version, VERSION_BYTES_MAX);
            assert!(path.len() <= PATH_MAX);
            assert_ne!(hello.subscriber.0, [0; 16]);
        }
        ToServer::Ack(ack) => {
            assert!(ack.subtree.as_ref().is_none_or(|subtree| subtree.laggards.len() <= LAGGARDS_MAX));
        }
        ToServer::Roster(roster) => {
            assert!(roster.entries.len() <= PART_ITEMS_MAX && roster.gone.len() <= PART_ITEMS_MAX);
            for entry in &roster.entries {
                is_text(&entry.about.name, NAME_BYTES_MAX);
                is_text(&entry.about.reconnect_reason, REASON_BYTES_MAX);
                is_text(&entry.about.version, VERSION_BYTES_MAX);
                assert_ne!(entry.id.0, [0; 16]);
            }
        }
    }
    assert_eq!(decode_from_subscriber(&encode_for_server(&frame)), Some(frame), "a frame says the same when sent on");
}

pub fn from_sender(bytes: &[u8]) {
    let Some(frame) = decode_from_sender(bytes) else { return };
    note_accepted();
    match &frame {
        ToSubscriber::Welcome(welcome) => {
            assert!(welcome.path.len() <= PATH_MAX && welcome.lineage.ancestors.len() <= ANCESTORS_MAX);
        }
        ToSubscriber::SnapshotBegin(begin) => {
            assert!(begin.header.len() <= HEADER_BYTES_MAX && begin.chunks <= CHUNKS_MAX);
        }
        ToSubscriber::SnapshotChunk(chunk) => assert!(chunk.bytes.len() <= CHUNK_BYTES_MAX),
        ToSubscriber::Delta(delta) => assert!(delta.canonical.len() <= DELTA_BYTES_MAX),
        ToSubscriber::GoAway(away) => is_text(&away.detail, REASON_BYTES_MAX),
        ToSubscriber::SnapshotEnd(_) | ToSubscriber::Heartbeat(_) => {}
    }
    assert_eq!(decode_from_sender(&encode_for_subscriber(&frame)), Some(frame), "a frame says the same when sent on");
}

fn is_text(text: &str, bytes_max: usize) {
    assert!(text.len() <= bytes_max && !text.contains(char::is_control), "{text:?}");
}
