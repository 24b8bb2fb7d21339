//! From messages to frames: the only place where a peer's fields are checked.

mod roster;

use std::time::Duration;

use bytes::Bytes;

use crate::replication::frames as f;
use crate::replication::frames::{
    CHUNKS_MAX, DELTA_BYTES_MAX, GoAwayReason, HEADER_BYTES_MAX, LAGGARDS_MAX, NAME_BYTES_MAX, NodeId, PATH_MAX,
    REASON_BYTES_MAX, SnapshotReason, ToServer, ToSubscriber, VERSION_BYTES_MAX, WelcomeMode,
};
use crate::replication::{Lineage, PublicKey, Signature};
use crate::revocation::{
    ANCESTORS_MAX, Ancestor, CHUNK_BYTES_MAX, Chain, Digest, Epoch, Minute, Policy, Revision, SetKey, SnapshotChunk,
    UnixMillis, WhenStale,
};
use crate::wire::pb;

/// Why a message is not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A field, or the choice of frame, is not set.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A byte field of a fixed length has another.
    #[error("{field} has {given} bytes instead of {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// Its length.
        expected: usize,
        /// The one it has.
        given: usize,
    },
    /// A field or a list is longer than its limit.
    #[error("{field} has {given} bytes or items, at most {limit} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// The limit.
        limit: usize,
        /// Its length.
        given: usize,
    },
    /// A field has a value it cannot have.
    #[error("{0} has a value it cannot have")]
    Invalid(&'static str),
    /// A text holds what a terminal or a log would obey rather than show.
    #[error("{0} has a control character")]
    Control(&'static str),
}

pub(super) fn to_server(message: pb::SubscribeRequest) -> Result<ToServer, FrameError> {
    use pb::subscribe_request::Frame;
    Ok(match message.frame.ok_or(FrameError::Missing("frame"))? {
        Frame::Hello(hello) => ToServer::Hello(Box::new(hello_frame(hello)?)),
        Frame::Ack(ack) => ToServer::Ack(ack_frame(ack)?),
        Frame::Roster(roster) => ToServer::Roster(roster::frame(roster)?),
    })
}

pub(super) fn to_subscriber(message: pb::SubscribeResponse) -> Result<ToSubscriber, FrameError> {
    use pb::subscribe_response::Frame;
    Ok(match message.frame.ok_or(FrameError::Missing("frame"))? {
        Frame::Welcome(welcome) => ToSubscriber::Welcome(Box::new(welcome_frame(welcome)?)),
        Frame::SnapshotBegin(begin) => ToSubscriber::SnapshotBegin(begin_frame(begin)?),
        Frame::SnapshotChunk(chunk) => ToSubscriber::SnapshotChunk(SnapshotChunk {
            index: chunk.index,
            crc32c: chunk.crc32c,
            bytes: at_most(chunk.entries, CHUNK_BYTES_MAX, "snapshot_chunk.entries")?,
        }),
        Frame::SnapshotEnd(end) => ToSubscriber::SnapshotEnd(f::SnapshotEnd {
            revision: Revision(end.revision),
            digest: digest(&end.digest, "snapshot_end.digest")?,
            chain: Chain(fixed(&end.chain, "snapshot_end.chain")?),
            sha256: fixed(&end.sha256, "snapshot_end.sha256")?,
            signature: Signature(fixed(&end.signature, "snapshot_end.signature")?),
            source_time: UnixMillis(end.source_time_millis),
        }),
        Frame::Delta(delta) => ToSubscriber::Delta(f::DeltaFrame {
            canonical: at_most(delta.canonical, DELTA_BYTES_MAX, "delta.canonical")?,
            signature: match delta.signature.as_slice() {
                [] => None,
                bytes => Some(Signature(fixed(bytes, "delta.signature")?)),
            },
            ack_now: delta.ack_now,
        }),
        Frame::Heartbeat(heartbeat) => ToSubscriber::Heartbeat(heartbeat_frame(&heartbeat)?),
        Frame::GoAway(away) => ToSubscriber::GoAway(f::GoAway {
            reason: go_away_reason(away.reason)?,
            reconnect_window: Duration::from_millis(away.reconnect_window_millis.into()),
            detail: text(away.detail, REASON_BYTES_MAX, "go_away.detail")?,
        }),
    })
}

fn hello_frame(hello: pb::Hello) -> Result<f::Hello, FrameError> {
    let role = role(hello.role, "hello.role")?;
    let held = match hello.held {
        Some(held) => Some(f::Held {
            epoch: epoch(held.epoch, "hello.held.epoch")?,
            revision: Revision(held.revision),
            digest: digest(&held.digest, "hello.held.digest")?,
        }),
        None => None,
    };
    Ok(f::Hello {
        protocol: f::ProtocolRange { min: hello.protocol_min, max: hello.protocol_max },
        subscriber: member(&hello.subscriber_id, "hello.subscriber_id")?,
        name: text(hello.subscriber_name, NAME_BYTES_MAX, "hello.subscriber_name")?,
        role,
        held,
        min_revision: Revision(hello.min_revision),
        reconnect_reason: text(hello.reconnect_reason, REASON_BYTES_MAX, "hello.reconnect_reason")?,
        path: path(&hello.path, "hello.path")?,
        version: text(hello.version, VERSION_BYTES_MAX, "hello.version")?,
        probe: hello.probe,
        policy: hello.policy.map(policy_in_force),
    })
}

fn ack_frame(ack: pb::Ack) -> Result<f::Ack, FrameError> {
    let subtree = match ack.subtree {
        Some(subtree) => {
            let given = subtree.laggards.len();
            if given > LAGGARDS_MAX {
                return Err(FrameError::TooLong { field: "ack.subtree.laggards", limit: LAGGARDS_MAX, given });
            }
            let id = |id: &Vec<u8>| fixed(id, "ack.subtree.laggards").map(NodeId);
            Some(f::Subtree {
                subscribers: subtree.subscribers,
                ready: subtree.ready,
                applied_min: Revision(subtree.applied_min),
                laggards: subtree.laggards.iter().map(id).collect::<Result<_, _>>()?,
                loosest_policy: subtree.loosest_policy.map(policy_in_force),
                changes: subtree.changes,
            })
        }
        None => None,
    };
    Ok(f::Ack {
        applied: Revision(ack.applied_revision),
        digest: digest(&ack.digest, "ack.digest")?,
        ready: ack.ready,
        policy: ack.policy.map(policy_in_force),
        subtree,
        source_time: UnixMillis(ack.source_time_millis),
    })
}

fn welcome_frame(welcome: pb::Welcome) -> Result<f::Welcome, FrameError> {
    let mode = match pb::welcome::Mode::try_from(welcome.mode) {
        Ok(pb::welcome::Mode::Resume) => WelcomeMode::Resume,
        Ok(pb::welcome::Mode::Snapshot) => WelcomeMode::Snapshot,
        Ok(pb::welcome::Mode::Unspecified) => return Err(FrameError::Missing("welcome.mode")),
        Err(_) => return Err(FrameError::Invalid("welcome.mode")),
    };
    if welcome.ancestors.len() > ANCESTORS_MAX {
        return Err(FrameError::Invalid("welcome.ancestors"));
    }
    let ancestor = |ancestor: pb::welcome::Ancestor| {
        let last = Revision(ancestor.last_revision);
        Ok(Ancestor { epoch: epoch(ancestor.epoch, "welcome.ancestors.epoch")?, last })
    };
    let lineage = Lineage {
        ancestors: welcome.ancestors.into_iter().map(ancestor).collect::<Result<_, FrameError>>()?,
        signature: Signature(fixed(&welcome.lineage_signature, "welcome.lineage_signature")?),
    };
    Ok(f::Welcome {
        protocol: welcome.protocol,
        epoch: epoch(welcome.epoch, "welcome.epoch")?,
        lineage,
        set_key: SetKey::new(fixed(&welcome.set_key, "welcome.set_key")?),
        mode,
        head: Revision(welcome.head_revision),
        oldest: Revision(welcome.oldest_revision),
        source_time: UnixMillis(welcome.source_time_millis),
        source_age: Duration::from_millis(welcome.source_age_millis),
        heartbeat_interval: Duration::from_millis(welcome.heartbeat_interval_millis.into()),
        dead_after: Duration::from_millis(welcome.dead_after_millis.into()),
        policy: Policy::decode(&welcome.policy).map_err(|_| FrameError::Invalid("welcome.policy"))?,
        path: path(&welcome.path, "welcome.path")?,
        public_key: PublicKey(fixed(&welcome.public_key, "welcome.public_key")?),
    })
}

fn begin_frame(begin: pb::SnapshotBegin) -> Result<f::SnapshotBegin, FrameError> {
    use pb::snapshot_begin::Reason;
    let reason = match Reason::try_from(begin.reason) {
        Ok(Reason::Empty) => SnapshotReason::Empty,
        Ok(Reason::OtherEpoch) => SnapshotReason::OtherEpoch,
        Ok(Reason::Compacted) => SnapshotReason::Compacted,
        Ok(Reason::DigestDiffers) => SnapshotReason::DigestDiffers,
        Ok(Reason::Lagged) => SnapshotReason::Lagged,
        Ok(Reason::Unspecified) => return Err(FrameError::Missing("snapshot_begin.reason")),
        Err(_) => return Err(FrameError::Invalid("snapshot_begin.reason")),
    };
    if begin.chunks > CHUNKS_MAX {
        return Err(FrameError::Invalid("snapshot_begin.chunks"));
    }
    Ok(f::SnapshotBegin {
        reason,
        id: begin.id,
        revision: Revision(begin.revision),
        entries: begin.entries,
        chunks: begin.chunks,
        header: at_most(Bytes::from(begin.header), HEADER_BYTES_MAX, "snapshot_begin.header")?,
    })
}

fn heartbeat_frame(heartbeat: &pb::Heartbeat) -> Result<f::Heartbeat, FrameError> {
    if heartbeat.expiry_floor_minute > Minute::MAX {
        return Err(FrameError::Invalid("heartbeat.expiry_floor_minute"));
    }
    Ok(f::Heartbeat {
        revision: Revision(heartbeat.revision),
        source_time: UnixMillis(heartbeat.source_time_millis),
        digest: digest(&heartbeat.digest, "heartbeat.digest")?,
        chain: Chain(fixed(&heartbeat.chain, "heartbeat.chain")?),
        floor: Minute::from_bits(heartbeat.expiry_floor_minute),
        ack_now: heartbeat.ack_now,
        signature: Signature(fixed(&heartbeat.signature, "heartbeat.signature")?),
    })
}

fn go_away_reason(reason: i32) -> Result<GoAwayReason, FrameError> {
    use pb::go_away::Reason;
    Ok(match Reason::try_from(reason) {
        Ok(Reason::Shutdown) => GoAwayReason::Shutdown,
        Ok(Reason::Overloaded) => GoAwayReason::Overloaded,
        Ok(Reason::Protocol) => GoAwayReason::Protocol,
        Ok(Reason::BehindSubscriber) => GoAwayReason::BehindSubscriber,
        Ok(Reason::Stalled) => GoAwayReason::Stalled,
        Ok(Reason::Malformed) => GoAwayReason::Malformed,
        Ok(Reason::OldEpoch) => GoAwayReason::OldEpoch,
        Ok(Reason::Loop) => GoAwayReason::Loop,
        Ok(Reason::Displaced) => GoAwayReason::Displaced,
        Ok(Reason::Denied) => GoAwayReason::Denied,
        Ok(Reason::Unspecified) => return Err(FrameError::Missing("go_away.reason")),
        Err(_) => return Err(FrameError::Invalid("go_away.reason")),
    })
}

fn role(role: i32, field: &'static str) -> Result<f::Role, FrameError> {
    match pb::hello::Role::try_from(role) {
        Ok(pb::hello::Role::Leaf) => Ok(f::Role::Leaf),
        Ok(pb::hello::Role::Relay) => Ok(f::Role::Relay),
        Ok(pb::hello::Role::Unspecified) => Err(FrameError::Missing(field)),
        Err(_) => Err(FrameError::Invalid(field)),
    }
}

fn policy_in_force(policy: pb::ack::PolicyInForce) -> f::PolicyInForce {
    f::PolicyInForce {
        max_staleness: Duration::from_secs(policy.max_staleness_seconds),
        when_stale: if policy.deny_when_stale { WhenStale::Deny } else { WhenStale::ServeStale },
    }
}

fn epoch(message: Option<pb::Epoch>, field: &'static str) -> Result<Epoch, FrameError> {
    let message = message.ok_or(FrameError::Missing(field))?;
    Ok(Epoch { generation: message.generation, id: fixed(&message.id, field)? })
}

fn path(nodes: &[Vec<u8>], field: &'static str) -> Result<Vec<NodeId>, FrameError> {
    if nodes.len() > PATH_MAX {
        return Err(FrameError::TooLong { field, limit: PATH_MAX, given: nodes.len() });
    }
    nodes.iter().map(|node| fixed(node, field).map(NodeId)).collect()
}

/// Somebody who may be a member. All zeros stand for those whom nobody knows.
fn member(bytes: &[u8], field: &'static str) -> Result<NodeId, FrameError> {
    match fixed(bytes, field)? {
        id if id == [0; 16] => Err(FrameError::Invalid(field)),
        id => Ok(NodeId(id)),
    }
}

fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, FrameError> {
    fixed(bytes, field).map(Digest::from_bytes)
}

fn fixed<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], FrameError> {
    bytes.try_into().map_err(|_| FrameError::Length { field, expected: N, given: bytes.len() })
}

fn at_most(bytes: Bytes, limit: usize, field: &'static str) -> Result<Bytes, FrameError> {
    match bytes.len() {
        given if given > limit => Err(FrameError::TooLong { field, limit, given }),
        _ => Ok(bytes),
    }
}

fn text(text: String, limit: usize, field: &'static str) -> Result<String, FrameError> {
    match text.len() {
        given if given > limit => Err(FrameError::TooLong { field, limit, given }),
        _ if text.contains(char::is_control) => Err(FrameError::Control(field)),
        _ => Ok(text),
    }
}
