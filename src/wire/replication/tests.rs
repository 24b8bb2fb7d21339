//! Frames to messages and back.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::replication::frames::*;
use crate::replication::subscription::Mode;
use crate::replication::{Lineage, PublicKey, Signature};
use crate::revocation::{
    Ancestor, Chain, Digest, Epoch, Minute, Policy, Revision, SetKey, SnapshotChunk, UnixMillis, WhenStale,
};

fn epoch() -> Epoch {
    Epoch { generation: 3, id: [4; 16] }
}

fn policy() -> PolicyInForce {
    PolicyInForce { max_staleness: Duration::from_secs(300), when_stale: WhenStale::Deny }
}

fn hello() -> Hello {
    Hello {
        protocol: ProtocolRange { min: 1, max: 2 },
        subscriber: NodeId([1; 16]),
        name: "checkout-7".to_owned(),
        role: Role::Relay,
        held: Some(Held { epoch: epoch(), revision: Revision(9), digest: Digest::from_bytes([5; 16]) }),
        min_revision: Revision(7),
        reconnect_reason: "connection lost".to_owned(),
        path: vec![NodeId([2; 16]), NodeId([3; 16])],
        version: "0.1.0".to_owned(),
        probe: true,
        policy: None,
    }
}

fn ack() -> Ack {
    Ack {
        applied: Revision(9),
        digest: Digest::from_bytes([6; 16]),
        ready: true,
        policy: Some(policy()),
        subtree: Some(Subtree {
            subscribers: 5,
            ready: 4,
            applied_min: Revision(8),
            laggards: vec![NodeId([21; 16])],
            loosest_policy: Some(policy()),
            changes: 22,
        }),
        source_time: UnixMillis(29),
    }
}

fn roster() -> Roster {
    let entry = |mode, role, connected| RosterEntry {
        id: NodeId([23; 16]),
        parent: NodeId([24; 16]),
        change: 25,
        joined: 24,
        connected,
        about: About {
            name: "leaf".to_owned(),
            role,
            version: "0.1.0".to_owned(),
            address: "10.0.0.1:1".to_owned(),
            since: UnixMillis(26),
            reconnect_reason: "reset".to_owned(),
            policy: policy(),
            acked: Revision(27),
            ready: true,
            mode,
            source_time: UnixMillis(30),
        },
    };
    Roster {
        memory: u64::MAX,
        begins: true,
        complete: Some(0),
        epoch: Some([28; 16]),
        entries: vec![
            entry(None, Role::Leaf, false),
            entry(Some(Mode::CatchingUp), Role::Relay, true),
            entry(Some(Mode::Live), Role::Leaf, true),
            entry(Some(Mode::Lagging), Role::Leaf, true),
        ],
        gone: vec![NodeId([29; 16])],
        unlisted: 30,
    }
}

fn to_subscriber_frames() -> Vec<ToSubscriber> {
    let (digest, chain) = (Digest::from_bytes([7; 16]), Chain([8; 32]));
    let mut frames = vec![
        ToSubscriber::Welcome(Box::new(Welcome {
            protocol: 1,
            epoch: epoch(),
            lineage: Lineage {
                ancestors: vec![Ancestor { epoch: Epoch { generation: 2, id: [9; 16] }, last: Revision(3) }],
                signature: Signature([22; 64]),
            },
            set_key: SetKey::new([10; 16]),
            mode: WelcomeMode::Resume,
            head: Revision(12),
            oldest: Revision(2),
            source_time: UnixMillis(1_700_000_000_000),
            source_age: Duration::from_millis(150),
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            policy: Policy::default(),
            path: vec![NodeId([11; 16])],
            public_key: PublicKey([12; 32]),
        })),
        ToSubscriber::SnapshotChunk(SnapshotChunk::new(3, Bytes::from_static(&[13; 48]))),
        ToSubscriber::SnapshotEnd(SnapshotEnd {
            revision: Revision(12),
            digest,
            chain,
            sha256: [14; 32],
            signature: Signature([15; 64]),
            source_time: UnixMillis(16),
        }),
        ToSubscriber::Delta(DeltaFrame { canonical: Bytes::from_static(b"delta"), signature: None, ack_now: true }),
        ToSubscriber::Delta(DeltaFrame {
            canonical: Bytes::from_static(b"delta"),
            signature: Some(Signature([20; 64])),
            ack_now: false,
        }),
        ToSubscriber::Heartbeat(Heartbeat {
            revision: Revision(12),
            source_time: UnixMillis(17),
            digest,
            chain,
            floor: Minute::from_bits(18),
            ack_now: false,
            signature: Signature([19; 64]),
        }),
    ];
    use SnapshotReason::{Compacted, DigestDiffers, Empty, Lagged, OtherEpoch};
    for reason in [Empty, OtherEpoch, Compacted, DigestDiffers, Lagged] {
        frames.push(ToSubscriber::SnapshotBegin(SnapshotBegin {
            reason,
            id: 20,
            revision: Revision(12),
            entries: 21,
            chunks: 22,
            header: Bytes::from_static(b"header"),
        }));
    }
    use GoAwayReason::{BehindSubscriber, Loop, Malformed, OldEpoch, Overloaded, Protocol, Shutdown, Stalled};
    for reason in [Shutdown, Overloaded, Protocol, BehindSubscriber, Stalled, Malformed, OldEpoch, Loop] {
        frames.push(ToSubscriber::GoAway(GoAway {
            reason,
            reconnect_window: Duration::from_secs(10),
            detail: "why".to_owned(),
        }));
    }
    frames
}

#[test]
fn frames_round_trip_through_the_bytes_of_the_wire() {
    let more = Roster { complete: None, epoch: None, begins: false, ..roster() };
    let rosters = [ToServer::Roster(roster()), ToServer::Roster(more)];
    for frame in [ToServer::Hello(Box::new(hello())), ToServer::Ack(ack())].into_iter().chain(rosters) {
        let bytes = pb::SubscribeRequest::from(&frame).encode_to_vec();
        assert_eq!(ToServer::try_from(pb::SubscribeRequest::decode(&*bytes).unwrap()), Ok(frame));
    }
    for frame in to_subscriber_frames() {
        let bytes = GrpcEncoder.encode(&frame);
        let (prefix, message) = bytes.split_at(GRPC_PREFIX_BYTES);
        assert_eq!(prefix[0], 0, "not compressed");
        assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, message.len());
        assert_eq!(ToSubscriber::try_from(pb::SubscribeResponse::decode(message).unwrap()), Ok(frame));
    }
}

#[test]
fn a_message_without_a_frame_is_refused() {
    assert_eq!(ToServer::try_from(pb::SubscribeRequest { frame: None }), Err(FrameError::Missing("frame")));
    assert_eq!(ToSubscriber::try_from(pb::SubscribeResponse { frame: None }), Err(FrameError::Missing("frame")));
}

fn refused_hello(change: impl FnOnce(&mut pb::Hello)) -> FrameError {
    let mut message = pb::SubscribeRequest::from(&ToServer::Hello(Box::new(hello())));
    let Some(pb::subscribe_request::Frame::Hello(hello)) = &mut message.frame else { panic!("not a hello") };
    change(hello);
    ToServer::try_from(message).unwrap_err()
}

#[test]
fn a_hello_with_a_bad_field_is_refused_by_name() {
    let too_long = |field, limit, given| FrameError::TooLong { field, limit, given };
    let length = |field, given| FrameError::Length { field, expected: 16, given };
    assert_eq!(refused_hello(|h| h.role = 0), FrameError::Missing("hello.role"));
    assert_eq!(refused_hello(|h| h.role = 99), FrameError::Invalid("hello.role"));
    assert_eq!(refused_hello(|h| h.subscriber_id = vec![0; 16]), FrameError::Invalid("hello.subscriber_id"));
    assert_eq!(refused_hello(|h| h.subscriber_id.truncate(3)), length("hello.subscriber_id", 3));
    assert_eq!(refused_hello(|h| h.subscriber_name = "x".repeat(129)), too_long("hello.subscriber_name", 128, 129));
    assert_eq!(refused_hello(|h| h.version = "x".repeat(65)), too_long("hello.version", 64, 65));
    assert_eq!(refused_hello(|h| h.reconnect_reason = "x".repeat(257)), too_long("hello.reconnect_reason", 256, 257));
    assert_eq!(refused_hello(|h| h.path = vec![vec![0; 16]; 17]), too_long("hello.path", 16, 17));
    assert_eq!(refused_hello(|h| h.path[0].push(1)), length("hello.path", 17));
    assert_eq!(refused_hello(|h| h.held.as_mut().unwrap().epoch = None), FrameError::Missing("hello.held.epoch"));
    assert_eq!(refused_hello(|h| h.held.as_mut().unwrap().digest.clear()), length("hello.held.digest", 0));
}

#[test]
fn a_text_that_a_terminal_would_obey_is_refused() {
    let control = FrameError::Control;
    assert_eq!(refused_hello(|h| h.subscriber_name = "a\x1b[2J".into()), control("hello.subscriber_name"));
    assert_eq!(refused_hello(|h| h.version = "1\n2".into()), control("hello.version"));
    assert_eq!(refused_hello(|h| h.reconnect_reason = "\u{9b}31m".into()), control("hello.reconnect_reason"));
    assert_eq!(refused_roster(|r| r.entries[0].name = "a\rb".into()), control("roster.entries.name"));
    assert_eq!(refused_roster(|r| r.entries[0].version = "\0".into()), control("roster.entries.version"));
    assert_eq!(refused_roster(|r| r.entries[0].address = "\x7f".into()), control("roster.entries.address"));
    let reason = |r: &mut pb::Roster| r.entries[0].reconnect_reason = "\t".into();
    assert_eq!(refused_roster(reason), control("roster.entries.reconnect_reason"));
    let away = GoAway { reason: GoAwayReason::Stalled, reconnect_window: Duration::ZERO, detail: String::new() };
    let error = refused(&ToSubscriber::GoAway(away), |frame| {
        let pb::subscribe_response::Frame::GoAway(away) = frame else { panic!("not a GoAway") };
        away.detail = "a\nb".into();
    });
    assert_eq!(error, control("go_away.detail"));
}

#[test]
fn a_reason_that_quotes_control_characters_is_sent_without() {
    let quoting = Hello { reconnect_reason: "lost: a\n\u{9b}b".into(), ..hello() };
    let message = pb::SubscribeRequest::from(&ToServer::Hello(Box::new(quoting)));
    let Ok(ToServer::Hello(came)) = ToServer::try_from(message) else { panic!("not a hello") };
    assert_eq!(came.reconnect_reason, "lost: a  b");
}

fn refused_roster(change: impl FnOnce(&mut pb::Roster)) -> FrameError {
    let mut message = pb::SubscribeRequest::from(&ToServer::Roster(roster()));
    let Some(pb::subscribe_request::Frame::Roster(roster)) = &mut message.frame else { panic!("not a roster") };
    change(roster);
    ToServer::try_from(message).unwrap_err()
}

#[test]
fn a_roster_with_a_bad_field_is_refused_by_name() {
    let too_long = |field, limit, given| FrameError::TooLong { field, limit, given };
    let length = |field, given| FrameError::Length { field, expected: 16, given };
    assert_eq!(refused_roster(|r| r.epoch.truncate(3)), length("roster.epoch", 3));
    assert_eq!(refused_roster(|r| r.gone[0].push(1)), length("roster.gone", 17));
    assert_eq!(refused_roster(|r| r.gone = vec![vec![0; 16]; 513]), too_long("roster.gone", 512, 513));
    assert_eq!(refused_roster(|r| r.entries = vec![r.entries[0].clone(); 513]), too_long("roster.entries", 512, 513));
    assert_eq!(refused_roster(|r| r.entries[0].id.clear()), length("roster.entries.id", 0));
    assert_eq!(refused_roster(|r| r.entries[0].parent_id.clear()), length("roster.entries.parent_id", 0));
    assert_eq!(refused_roster(|r| r.entries[0].id = vec![0; 16]), FrameError::Invalid("roster.entries.id"));
    assert_eq!(refused_roster(|r| r.gone = vec![vec![0; 16]]), FrameError::Invalid("roster.gone"));
    assert_eq!(refused_roster(|r| r.entries[0].role = 0), FrameError::Missing("roster.entries.role"));
    assert_eq!(refused_roster(|r| r.entries[0].mode = 9), FrameError::Invalid("roster.entries.mode"));
    assert_eq!(refused_roster(|r| r.entries[0].policy = None), FrameError::Missing("roster.entries.policy"));
    let long = "x".repeat(129);
    assert_eq!(refused_roster(|r| r.entries[0].address = long), too_long("roster.entries.address", 128, 129));
}

fn refused(frame: &ToSubscriber, change: impl FnOnce(&mut pb::subscribe_response::Frame)) -> FrameError {
    let mut message = pb::SubscribeResponse::from(frame);
    change(message.frame.as_mut().unwrap());
    ToSubscriber::try_from(message).unwrap_err()
}

#[test]
fn frames_over_their_limits_are_refused() {
    use pb::subscribe_response::Frame;
    let frames = to_subscriber_frames();
    let error = refused(&frames[1], |frame| {
        let Frame::SnapshotChunk(chunk) = frame else { panic!("not a chunk") };
        chunk.entries = Bytes::from(vec![0; (256 << 10) + 1]);
    });
    let (limit, given) = (256 << 10, (256 << 10) + 1);
    assert_eq!(error, FrameError::TooLong { field: "snapshot_chunk.entries", limit, given });
    let error = refused(&frames[5], |frame| {
        let Frame::Heartbeat(heartbeat) = frame else { panic!("not a heartbeat") };
        heartbeat.expiry_floor_minute = u32::MAX;
    });
    assert_eq!(error, FrameError::Invalid("heartbeat.expiry_floor_minute"));
    let error = refused(&frames[0], |frame| {
        let Frame::Welcome(welcome) = frame else { panic!("not a welcome") };
        welcome.policy.clear();
    });
    assert_eq!(error, FrameError::Invalid("welcome.policy"));
    let error = refused(&frames[6], |frame| {
        let Frame::SnapshotBegin(begin) = frame else { panic!("not a begin") };
        begin.chunks = CHUNKS_MAX + 1;
    });
    assert_eq!(error, FrameError::Invalid("snapshot_begin.chunks"));
}
