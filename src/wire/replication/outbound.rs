//! From frames to messages.

use std::time::Duration;

use crate::replication::frames as f;
use crate::replication::frames::{GoAwayReason, NodeId, SnapshotReason, ToServer, ToSubscriber, WelcomeMode};
use crate::replication::subscription::Mode;
use crate::revocation::{Ancestor, Epoch, WhenStale};
use crate::wire::pb;

pub(super) fn to_server(frame: &ToServer) -> pb::subscribe_request::Frame {
    match frame {
        ToServer::Hello(hello) => pb::subscribe_request::Frame::Hello(hello_message(hello)),
        ToServer::Ack(ack) => pb::subscribe_request::Frame::Ack(ack_message(ack)),
        ToServer::Roster(roster) => pb::subscribe_request::Frame::Roster(roster_message(roster)),
    }
}

pub(super) fn to_subscriber(frame: &ToSubscriber) -> pb::subscribe_response::Frame {
    use pb::subscribe_response::Frame;
    match frame {
        ToSubscriber::Welcome(welcome) => Frame::Welcome(welcome_message(welcome)),
        ToSubscriber::SnapshotBegin(begin) => Frame::SnapshotBegin(pb::SnapshotBegin {
            reason: snapshot_reason(begin.reason).into(),
            id: begin.id,
            revision: begin.revision.0,
            entries: begin.entries,
            chunks: begin.chunks,
            header: begin.header.to_vec(),
        }),
        ToSubscriber::SnapshotChunk(chunk) => Frame::SnapshotChunk(pb::SnapshotChunk {
            index: chunk.index,
            crc32c: chunk.crc32c,
            entries: chunk.bytes.clone(),
        }),
        ToSubscriber::SnapshotEnd(end) => Frame::SnapshotEnd(pb::SnapshotEnd {
            revision: end.revision.0,
            digest: end.digest.to_bytes().to_vec(),
            chain: end.chain.0.to_vec(),
            sha256: end.sha256.to_vec(),
            signature: end.signature.0.to_vec(),
            source_time_millis: end.source_time.0,
        }),
        ToSubscriber::Delta(delta) => Frame::Delta(pb::Delta {
            canonical: delta.canonical.clone(),
            ack_now: delta.ack_now,
            signature: delta.signature.map(|signature| signature.0.to_vec()).unwrap_or_default(),
        }),
        ToSubscriber::Heartbeat(heartbeat) => Frame::Heartbeat(pb::Heartbeat {
            revision: heartbeat.revision.0,
            source_time_millis: heartbeat.source_time.0,
            digest: heartbeat.digest.to_bytes().to_vec(),
            chain: heartbeat.chain.0.to_vec(),
            expiry_floor_minute: heartbeat.floor.bits(),
            ack_now: heartbeat.ack_now,
            signature: heartbeat.signature.0.to_vec(),
        }),
        ToSubscriber::GoAway(away) => Frame::GoAway(pb::GoAway {
            reason: go_away_reason(away.reason).into(),
            reconnect_window_millis: millis_u32(away.reconnect_window),
            detail: plain(&away.detail),
        }),
    }
}

fn hello_message(hello: &f::Hello) -> pb::Hello {
    pb::Hello {
        protocol_min: hello.protocol.min,
        protocol_max: hello.protocol.max,
        subscriber_id: hello.subscriber.0.to_vec(),
        subscriber_name: hello.name.clone(),
        role: role_message(hello.role).into(),
        held: hello.held.map(|held| pb::hello::Held {
            epoch: Some(epoch_message(held.epoch)),
            revision: held.revision.0,
            digest: held.digest.to_bytes().to_vec(),
        }),
        min_revision: hello.min_revision.0,
        reconnect_reason: plain(&hello.reconnect_reason),
        path: path_message(&hello.path),
        version: hello.version.clone(),
        probe: hello.probe,
        policy: hello.policy.map(policy_message),
    }
}

fn ack_message(ack: &f::Ack) -> pb::Ack {
    pb::Ack {
        applied_revision: ack.applied.0,
        digest: ack.digest.to_bytes().to_vec(),
        ready: ack.ready,
        policy: ack.policy.map(policy_message),
        subtree: ack.subtree.as_ref().map(|subtree| pb::ack::Subtree {
            subscribers: subtree.subscribers,
            ready: subtree.ready,
            applied_min: subtree.applied_min.0,
            laggards: path_message(&subtree.laggards),
            loosest_policy: subtree.loosest_policy.map(policy_message),
            changes: subtree.changes,
        }),
        source_time_millis: ack.source_time.0,
    }
}

fn welcome_message(welcome: &f::Welcome) -> pb::Welcome {
    let mode = match welcome.mode {
        WelcomeMode::Resume => pb::welcome::Mode::Resume,
        WelcomeMode::Snapshot => pb::welcome::Mode::Snapshot,
    };
    pb::Welcome {
        protocol: welcome.protocol,
        epoch: Some(epoch_message(welcome.epoch)),
        ancestors: welcome.lineage.ancestors.iter().map(ancestor_message).collect(),
        lineage_signature: welcome.lineage.signature.0.to_vec(),
        set_key: welcome.set_key.expose().to_vec(),
        mode: mode.into(),
        head_revision: welcome.head.0,
        oldest_revision: welcome.oldest.0,
        source_time_millis: welcome.source_time.0,
        source_age_millis: u64::try_from(welcome.source_age.as_millis()).unwrap_or(u64::MAX),
        heartbeat_interval_millis: millis_u32(welcome.heartbeat_interval),
        dead_after_millis: millis_u32(welcome.dead_after),
        policy: welcome.policy.encode().to_vec(),
        path: path_message(&welcome.path),
        public_key: welcome.public_key.0.to_vec(),
    }
}

fn roster_message(roster: &f::Roster) -> pb::Roster {
    pb::Roster {
        memory: roster.memory,
        begins: roster.begins,
        complete: roster.complete,
        epoch: roster.epoch.map(|id| id.to_vec()).unwrap_or_default(),
        entries: roster.entries.iter().map(entry_message).collect(),
        gone: path_message(&roster.gone),
        unlisted: roster.unlisted,
    }
}

fn entry_message(entry: &f::RosterEntry) -> pb::roster::Entry {
    let about = &entry.about;
    let mode = match about.mode {
        None => pb::roster::Mode::Unspecified,
        Some(Mode::CatchingUp) => pb::roster::Mode::CatchingUp,
        Some(Mode::Live) => pb::roster::Mode::Live,
        Some(Mode::Lagging) => pb::roster::Mode::Lagging,
    };
    pb::roster::Entry {
        id: entry.id.0.to_vec(),
        parent_id: entry.parent.0.to_vec(),
        change: entry.change,
        connected: entry.connected,
        name: about.name.clone(),
        role: role_message(about.role).into(),
        version: about.version.clone(),
        address: about.address.clone(),
        since_millis: about.since.0,
        reconnect_reason: about.reconnect_reason.clone(),
        policy: Some(policy_message(about.policy)),
        acked_revision: about.acked.0,
        ready: about.ready,
        mode: mode.into(),
        joined: entry.joined,
        source_time_millis: about.source_time.0,
    }
}

fn role_message(role: f::Role) -> pb::hello::Role {
    match role {
        f::Role::Leaf => pb::hello::Role::Leaf,
        f::Role::Relay => pb::hello::Role::Relay,
    }
}

fn policy_message(policy: f::PolicyInForce) -> pb::ack::PolicyInForce {
    pb::ack::PolicyInForce {
        max_staleness_seconds: policy.max_staleness.as_secs(),
        deny_when_stale: policy.when_stale == WhenStale::Deny,
    }
}

/// Without control characters, which the far end refuses: a reason may quote what somebody else sent. Not longer than before.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn epoch_message(epoch: Epoch) -> pb::Epoch {
    pb::Epoch { generation: epoch.generation, id: epoch.id.to_vec() }
}

fn path_message(path: &[NodeId]) -> Vec<Vec<u8>> {
    path.iter().map(|node| node.0.to_vec()).collect()
}

fn millis_u32(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn snapshot_reason(reason: SnapshotReason) -> pb::snapshot_begin::Reason {
    use pb::snapshot_begin::Reason;
    match reason {
        SnapshotReason::Empty => Reason::Empty,
        SnapshotReason::OtherEpoch => Reason::OtherEpoch,
        SnapshotReason::Compacted => Reason::Compacted,
        SnapshotReason::DigestDiffers => Reason::DigestDiffers,
        SnapshotReason::Lagged => Reason::Lagged,
    }
}

fn go_away_reason(reason: GoAwayReason) -> pb::go_away::Reason {
    use pb::go_away::Reason;
    match reason {
        GoAwayReason::Shutdown => Reason::Shutdown,
        GoAwayReason::Overloaded => Reason::Overloaded,
        GoAwayReason::Protocol => Reason::Protocol,
        GoAwayReason::BehindSubscriber => Reason::BehindSubscriber,
        GoAwayReason::Stalled => Reason::Stalled,
        GoAwayReason::Malformed => Reason::Malformed,
        GoAwayReason::OldEpoch => Reason::OldEpoch,
        GoAwayReason::Loop => Reason::Loop,
        GoAwayReason::Displaced => Reason::Displaced,
        GoAwayReason::Denied => Reason::Denied,
    }
}

fn ancestor_message(ancestor: &Ancestor) -> pb::welcome::Ancestor {
    pb::welcome::Ancestor { epoch: Some(epoch_message(ancestor.epoch)), last_revision: ancestor.last.0 }
}
