//! The receiving machine: epochs, faults, resyncs, acks, freshness.

mod forged;
mod warm;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::replication::frames::*;
use crate::replication::signature::{Signer, Statement};
use crate::replication::{Lineage, Moment, Signature};
use crate::revocation::*;

/// A delta as it comes from the history: a later signature covers it.
fn unsigned(frame: ToSubscriber) -> ToSubscriber {
    with_signature(frame, None)
}

fn with_signature(frame: ToSubscriber, signature: Option<Signature>) -> ToSubscriber {
    let ToSubscriber::Delta(frame) = frame else { panic!("not a delta") };
    ToSubscriber::Delta(DeltaFrame { signature, ..frame })
}

/// An authority that answers with frames.
struct Authority {
    epoch: Epoch,
    ancestors: Vec<Ancestor>,
    key: SetKey,
    signer: Signer,
    writer: SetWriter,
    chain: Chain,
    chain_before: Chain,
    live: Vec<(Fingerprint, PackedEntry)>,
    wall: UnixMillis,
}

const T0: u64 = 1_700_000_000_000;

fn at(millis: u64) -> Moment {
    Moment { boot: Duration::from_millis(millis), wall: UnixMillis(T0 + millis) }
}

fn selector(subject: &str) -> Selector {
    Selector::new([("sub", subject)], TestedClaim::Iat).unwrap()
}

impl Authority {
    fn new(generation: u64) -> Self {
        let key = SetKey::new([generation as u8; 16]);
        let (writer, _) = RevocationSet::create(key.clone(), Policy::default(), Minute::from_bits(1));
        let epoch = Epoch { generation, id: [generation as u8; 16] };
        let signer = Signer::from_seed(&[9; 32]);
        Self {
            epoch,
            ancestors: Vec::new(),
            key,
            signer,
            writer,
            chain: Chain::default(),
            chain_before: Chain::default(),
            live: Vec::new(),
            wall: UnixMillis(T0),
        }
    }

    /// Revokes, or with `undo` reinstates, a subject.
    fn commit(&mut self, subject: &str, undo: bool) -> ToSubscriber {
        let revision = self.writer.revision().next();
        let fingerprint = self.key.fingerprint(&selector(subject));
        let mut delta = Delta::empty(revision, self.wall, self.writer.floor());
        if self.writer.shapes().is_empty() {
            delta.shapes_added = vec![selector(subject).shape()];
        }
        self.live.retain(|(other, _)| *other != fingerprint);
        if undo {
            delta.removals = vec![fingerprint];
        } else {
            delta.upserts = vec![(fingerprint, PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false))];
            self.live.extend(&delta.upserts);
            self.live.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        }
        delta.digest_after = self.writer.stage(&delta).unwrap();
        let _ = self.writer.apply(&delta).unwrap();
        let canonical = Bytes::from(delta.encode());
        let before = self.chain;
        self.chain = before.next(&canonical);
        self.chain_before = before;
        let signature = Some(self.signer.sign_heartbeat(&self.statement(self.wall)));
        ToSubscriber::Delta(DeltaFrame { canonical, signature, ack_now: false })
    }

    fn lineage(&self) -> Lineage {
        Lineage::sign(&self.signer, self.epoch, self.ancestors.clone())
    }

    fn welcome(&self, mode: WelcomeMode) -> Welcome {
        Welcome {
            protocol: PROTOCOL,
            epoch: self.epoch,
            lineage: self.lineage(),
            set_key: self.key.clone(),
            mode,
            head: self.writer.revision(),
            oldest: Revision(1),
            source_time: self.wall,
            source_age: Duration::ZERO,
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            policy: *self.writer.policy(),
            path: Vec::new(),
            public_key: self.signer.public_key(),
        }
    }

    fn statement(&self, source_time: UnixMillis) -> Statement {
        Statement {
            protocol: PROTOCOL_SIGNED,
            epoch: self.epoch,
            revision: self.writer.revision(),
            digest: self.writer.digest(),
            chain: self.chain,
            floor: self.writer.floor(),
            source_time,
        }
    }

    /// Signs for what a delta says, whatever that is.
    fn signed_again(&self, frame: &ToSubscriber) -> ToSubscriber {
        let ToSubscriber::Delta(frame) = frame else { panic!("not a delta") };
        let delta = Delta::decode(&frame.canonical).unwrap();
        let before = self.chain_before;
        let statement = Statement {
            revision: delta.revision,
            digest: delta.digest_after,
            chain: before.next(&frame.canonical),
            floor: delta.floor,
            ..self.statement(delta.source_time)
        };
        let signature = Some(self.signer.sign_heartbeat(&statement));
        ToSubscriber::Delta(DeltaFrame { signature, ..frame.clone() })
    }

    fn heartbeat(&self, now: Moment) -> ToSubscriber {
        let statement = self.statement(now.wall);
        ToSubscriber::Heartbeat(Heartbeat {
            revision: statement.revision,
            source_time: now.wall,
            digest: statement.digest,
            chain: statement.chain,
            floor: statement.floor,
            ack_now: false,
            signature: self.signer.sign_heartbeat(&statement),
        })
    }

    fn snapshot(&self) -> Vec<ToSubscriber> {
        let state = SnapshotState {
            revision: self.writer.revision(),
            floor: self.writer.floor(),
            policy: *self.writer.policy(),
            shapes: self.writer.shapes().to_vec(),
            verification: self.writer.verification().cloned(),
        };
        let mut builder = SnapshotBuilder::new(&self.key, state);
        for (fingerprint, entry) in &self.live {
            let entry = SnapshotEntry { fingerprint: *fingerprint, entry: *entry, exceptions: Vec::new() };
            assert_eq!(builder.push(&entry), Ok(None));
        }
        let Built { last, header, sha256 } = builder.finish();
        let statement = self.statement(self.wall);
        let begin = SnapshotBegin {
            reason: SnapshotReason::Empty,
            id: 1,
            revision: header.state.revision,
            entries: header.entries,
            chunks: header.chunks,
            header: header.encode().into(),
        };
        let end = SnapshotEnd {
            revision: statement.revision,
            digest: statement.digest,
            chain: statement.chain,
            sha256,
            signature: self.signer.sign_snapshot(&statement, &sha256),
            source_time: self.wall,
        };
        let chunks = last.into_iter().map(ToSubscriber::SnapshotChunk);
        [ToSubscriber::SnapshotBegin(begin)].into_iter().chain(chunks).chain([ToSubscriber::SnapshotEnd(end)]).collect()
    }
}

fn follower() -> Follower {
    Follower::new(FollowerOptions::leaf(NodeId([1; 16]), "test", 1))
}

fn drain(follower: &mut Follower) -> Vec<Action> {
    std::iter::from_fn(|| follower.poll_action()).collect()
}

/// Connects and hands frames in; what the follower wanted done.
fn subscribe(follower: &mut Follower, now: Moment, frames: impl IntoIterator<Item = ToSubscriber>) -> Vec<Action> {
    follower.handle_connected(now);
    frames.into_iter().for_each(|frame| follower.handle_frame(now, frame));
    drain(follower)
}

fn welcome(authority: &Authority, mode: WelcomeMode) -> ToSubscriber {
    ToSubscriber::Welcome(Box::new(authority.welcome(mode)))
}

fn greeted_with_snapshot(authority: &Authority) -> Vec<ToSubscriber> {
    [welcome(authority, WelcomeMode::Snapshot)].into_iter().chain(authority.snapshot()).collect()
}

/// A follower that is live at the authority's state, at time 0.
fn live(authority: &Authority) -> Follower {
    let mut follower = follower();
    subscribe(&mut follower, at(0), greeted_with_snapshot(authority));
    follower.handle_frame(at(100), authority.heartbeat(at(100)));
    drain(&mut follower);
    assert_eq!(follower.status().state, FollowerState::Live);
    follower
}

fn is_revoked(follower: &Follower, subject: &str) -> bool {
    let mut claims = Claims::new();
    claims.push("sub", subject, false);
    let set = follower.held.as_ref().unwrap().writer().set();
    set.check(&claims, UnixSeconds(T0 / 1000)).hit.is_some()
}

fn refusal(actions: &[Action]) -> Option<&DisconnectReason> {
    actions.iter().find_map(|action| match action {
        Action::Disconnect { reason } => Some(reason),
        _ => None,
    })
}

fn alarm(actions: &[Action]) -> Option<&Alarm> {
    actions.iter().find_map(|action| if let Action::Alarm(alarm) = action { Some(alarm) } else { None })
}

fn acks(actions: &[Action]) -> Vec<Revision> {
    let ack = |action: &Action| match action {
        Action::Send(ToServer::Ack(ack)) => Some(ack.applied),
        _ => None,
    };
    actions.iter().filter_map(ack).collect()
}

mod begun;
mod epochs;
mod faults;

#[test]
fn a_first_snapshot_is_served_once_it_is_whole_and_ready_at_the_head() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let snapshot = authority.snapshot();
    let delta = authority.commit("bob", false);
    let mut follower = follower();
    assert_eq!(follower.status().state, FollowerState::Init);
    let (end, before) = snapshot.split_last().unwrap();
    let begun = [welcome(&authority, WelcomeMode::Snapshot)].into_iter().chain(before.iter().cloned());
    let actions = subscribe(&mut follower, at(0), begun);
    assert!(!actions.iter().any(|action| matches!(action, Action::Swap(_))));
    assert_eq!(follower.status().state, FollowerState::Snapshotting);
    assert_eq!(follower.status().position(), None);
    follower.handle_frame(at(0), end.clone());
    assert!(drain(&mut follower).iter().any(|action| matches!(action, Action::Swap(_))));
    assert!(is_revoked(&follower, "alice") && !follower.status().ready);
    assert_eq!((follower.status().revision, follower.status().lag()), (Revision(1), 1));
    follower.handle_frame(at(0), delta);
    assert!(is_revoked(&follower, "bob") && follower.status().ready);
    follower.handle_frame(at(200), authority.heartbeat(at(200)));
    assert_eq!(follower.status().state, FollowerState::Live);
    assert_eq!(follower.status().staleness(at(700)), Duration::from_millis(500));
}

#[test]
fn a_follower_says_what_it_holds_and_goes_on_from_there() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    follower.handle_disconnect("reset");
    follower.handle_connected(at(5000));
    let actions = drain(&mut follower);
    let hello = actions.iter().find_map(|action| match action {
        Action::Send(ToServer::Hello(hello)) => Some(hello),
        _ => None,
    });
    let held = Held { epoch: authority.epoch, revision: Revision(1), digest: authority.writer.digest() };
    assert_eq!(hello.unwrap().held, Some(held));
    assert_eq!(hello.unwrap().reconnect_reason, "reset");
    let delta = authority.commit("bob", false);
    follower.handle_frame(at(5000), welcome(&authority, WelcomeMode::Resume));
    assert_eq!(follower.status().state, FollowerState::Resuming);
    follower.handle_frame(at(5000), delta.clone());
    assert_eq!(follower.status().revision, Revision(2));
    follower.handle_frame(at(5000), delta);
    assert_eq!(follower.status().revision, Revision(2), "a replay does nothing");
    assert!(refusal(&drain(&mut follower)).is_none());
}

#[test]
fn acks_are_at_most_one_a_second_unless_asked_for() {
    let mut authority = Authority::new(1);
    let mut follower = live(&authority);
    let mut ack_at = |millis: u64, ack_now: bool| {
        let ToSubscriber::Delta(delta) = authority.commit(&format!("user-{millis}"), false) else { panic!() };
        follower.handle_frame(at(millis), ToSubscriber::Delta(DeltaFrame { ack_now, ..delta }));
        acks(&drain(&mut follower))
    };
    assert_eq!(ack_at(1200, false), [Revision(1)]);
    assert_eq!(ack_at(1300, false), []);
    assert_eq!(ack_at(1400, true), [Revision(3)]);
    assert_eq!(ack_at(2300, false), []);
    follower.handle_tick(at(2400));
    assert_eq!(acks(&drain(&mut follower)), [Revision(4)]);
    follower.handle_tick(at(3333));
    assert_eq!(acks(&drain(&mut follower)), [], "nothing came since");
}

#[test]
fn only_signed_words_keep_a_follower_live() {
    let mut authority = Authority::new(1);
    let mut follower = live(&authority);
    for millis in [1000, 2000, 3000] {
        follower.handle_frame(at(millis), unsigned(authority.commit("alice", false)));
    }
    follower.handle_tick(at(3050));
    assert!(refusal(&drain(&mut follower)).is_none());
    assert_eq!(follower.status().staleness(at(3050)), Duration::from_millis(2950), "what is unsigned proves nothing");
    follower.handle_tick(at(3101));
    let actions = drain(&mut follower);
    assert!(refusal(&actions).is_none() && actions.iter().any(|action| matches!(action, Action::Probe(_))));
    assert_eq!(follower.status().state, FollowerState::Suspect);
    assert!(follower.status().ready, "what it holds is still verified");
    follower.handle_frame(at(4000), authority.heartbeat(at(4000)));
    assert_eq!(follower.status().state, FollowerState::Live);
    follower.handle_tick(at(64_001));
    assert!(matches!(refusal(&drain(&mut follower)), Some(DisconnectReason::Silent { .. })));
}

#[test]
fn another_server_is_moved_to_only_while_suspect_and_if_it_heard_the_authority_later() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let offer = |change: fn(&mut Welcome)| {
        let mut welcome = authority.welcome(WelcomeMode::Resume);
        welcome.source_time = UnixMillis(T0 + 101);
        change(&mut welcome);
        welcome
    };
    let mut follower = live(&authority);
    assert!(!follower.handle_probed(at(1000), &offer(|_| ())), "the server followed is alive");
    follower.handle_tick(at(3101));
    drain(&mut follower);
    type Offer = (&'static str, fn(&mut Welcome));
    let refused: [Offer; 5] = [
        ("heard no later", |welcome| welcome.source_time = UnixMillis(T0 + 100)),
        ("a time to come", |welcome| welcome.source_time = UnixMillis(T0 + 60_000)),
        ("behind", |welcome| welcome.head = Revision(0)),
        ("another epoch", |welcome| welcome.epoch.id = [7; 16]),
        ("below this one", |welcome| welcome.path = vec![NodeId([1; 16])]),
    ];
    for (what, change) in refused {
        assert!(!follower.handle_probed(at(3200), &offer(change)), "{what}");
        assert!(drain(&mut follower).is_empty(), "{what}");
    }
    assert!(follower.handle_probed(at(3200), &offer(|_| ())));
    let actions = drain(&mut follower);
    assert_eq!(refusal(&actions), Some(&DisconnectReason::Moved));
    assert!(actions.iter().any(|action| matches!(action, Action::Connect { after: Duration::ZERO })));
}

#[test]
fn a_server_that_sends_people_away_says_when_to_come_back() {
    let authority = Authority::new(1);
    let mut follower = live(&authority);
    let away = |reason, seconds| {
        let reconnect_window = Duration::from_secs(seconds);
        ToSubscriber::GoAway(GoAway { reason, reconnect_window, detail: String::new() })
    };
    follower.handle_frame(at(200), away(GoAwayReason::Shutdown, 40));
    let actions = drain(&mut follower);
    let after = actions.iter().find_map(|a| if let Action::Connect { after } = a { Some(*after) } else { None });
    assert!(after.unwrap() < Duration::from_secs(40));
    assert!(matches!(refusal(&actions), Some(DisconnectReason::GoAway(_))));
    follower.handle_frame(at(300), authority.heartbeat(at(300)));
    assert!(drain(&mut follower).is_empty(), "the connection is gone");
}

#[test]
fn whoever_is_denied_comes_back_ever_less_often_whatever_window_it_is_told() {
    let denied = GoAway { reason: GoAwayReason::Denied, reconnect_window: Duration::ZERO, detail: String::new() };
    let mut longest = [Duration::ZERO; 12];
    for seed in 0..200 {
        let mut follower = Follower::new(FollowerOptions::leaf(NodeId([1; 16]), "denied", seed));
        for longest in &mut longest {
            let actions = subscribe(&mut follower, at(0), [ToSubscriber::GoAway(denied.clone())]);
            let mut waits =
                actions.iter().filter_map(|a| if let Action::Connect { after } = a { Some(*after) } else { None });
            *longest = waits.next_back().unwrap().max(*longest);
        }
    }
    assert!(longest[0] < Duration::from_millis(200), "{longest:?}");
    assert!(longest[11] > Duration::from_secs(8), "{longest:?}");
    assert!(longest.windows(2).take(5).all(|pair| pair[0] < pair[1]), "{longest:?}");
}

#[test]
fn a_set_over_this_process_limit_is_refused_as_a_whole() {
    let mut authority = Authority::new(1);
    for subject in ["a", "b", "c"] {
        authority.commit(subject, false);
    }
    let mut options = FollowerOptions::leaf(NodeId([1; 16]), "small", 1);
    options.entries_max = 2;
    let mut follower = Follower::new(options);
    let actions = subscribe(&mut follower, at(0), greeted_with_snapshot(&authority));
    assert_eq!(refusal(&actions), Some(&DisconnectReason::OverLimit));
    assert_eq!(alarm(&actions), Some(&Alarm::OverLimit { limit: 2, entries: 3 }));
    assert!(follower.status().over_limit && follower.status().position().is_none());
}
