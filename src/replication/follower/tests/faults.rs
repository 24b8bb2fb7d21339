//! What contradicts the set, and how it is got over.

use super::*;

fn edit(frame: &ToSubscriber, change: impl FnOnce(&mut Delta)) -> ToSubscriber {
    let ToSubscriber::Delta(frame) = frame else { panic!("not a delta") };
    let mut delta = Delta::decode(&frame.canonical).unwrap();
    change(&mut delta);
    ToSubscriber::Delta(DeltaFrame { canonical: delta.encode().into(), ..frame.clone() })
}

/// A live follower that holds alice, and has then been driven to diverge by a gap: bob was heard of, carol missed.
fn diverged() -> (Authority, Follower) {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    authority.commit("carol", false);
    let delta = authority.commit("bob", false);
    follower.handle_frame(at(200), delta);
    let actions = drain(&mut follower);
    let gap = Divergence::Gap { expected: Revision(2), given: Revision(3) };
    assert_eq!(refusal(&actions), Some(&DisconnectReason::Diverged(gap.clone())));
    assert_eq!(alarm(&actions), Some(&Alarm::Diverged(gap)));
    (authority, follower)
}

#[test]
fn a_diverged_follower_revokes_what_it_hears_and_takes_nothing_back() {
    let (mut authority, mut follower) = diverged();
    assert!(is_revoked(&follower, "alice") && is_revoked(&follower, "bob"));
    let status = follower.status();
    assert_eq!((status.state, status.revision, status.ready), (FollowerState::Diverged, Revision(1), false));
    assert_eq!(status.staleness(at(5100)), Duration::from_secs(5), "frozen at the last word");
    // The snapshot is of revision 3, the server at 4: the swap waits for what was published meanwhile.
    let snapshot = authority.snapshot();
    let undo = authority.commit("alice", true);
    let frames = [welcome(&authority, WelcomeMode::Snapshot)].into_iter().chain(snapshot);
    let actions = subscribe(&mut follower, at(5100), frames);
    assert!(!actions.iter().any(|action| matches!(action, Action::Swap(_))));
    assert!(is_revoked(&follower, "alice"));
    assert_eq!(acks(&actions).last(), Some(&Revision(0)), "what is served did not come from here");
    follower.handle_frame(at(5200), undo);
    assert!(drain(&mut follower).iter().any(|action| matches!(action, Action::Swap(_))));
    assert!(!is_revoked(&follower, "alice") && is_revoked(&follower, "bob") && is_revoked(&follower, "carol"));
    assert_eq!(follower.status().revision, Revision(4));
}

/// What a diverged follower hears is not signed for: a server could go on for ever.
#[test]
fn a_diverged_follower_takes_over_no_more_than_it_may_hold() {
    let (mut authority, mut follower) = diverged();
    follower.options.entries_max = 4;
    subscribe(&mut follower, at(1000), [welcome(&authority, WelcomeMode::Snapshot)]);
    follower.incoming = Some(Incoming::Listening);
    let mut alarms = Vec::new();
    for subject in 0..100 {
        follower.handle_frame(at(1100), authority.commit(&format!("subject-{subject}"), false));
        alarms.extend(drain(&mut follower).into_iter().filter_map(|action| match action {
            Action::Alarm(alarm) => Some(alarm),
            _ => None,
        }));
    }
    assert_eq!(alarms, [Alarm::OverLimit { limit: 4, entries: 5 }], "said once");
    assert_eq!(follower.held.as_ref().unwrap().writer().entries(), 4);
    assert!(follower.status().over_limit);
    assert!(
        is_revoked(&follower, "alice") && is_revoked(&follower, "subject-1") && !is_revoked(&follower, "subject-2")
    );
}

#[test]
fn after_three_failed_resyncs_it_listens_and_tries_again_later() {
    let (mut authority, mut follower) = diverged();
    let corrupt = |authority: &Authority| {
        let mut frames = greeted_with_snapshot(authority);
        if let Some(ToSubscriber::SnapshotEnd(end)) = frames.last_mut() {
            end.signature = Signature([1; 64]);
        }
        frames
    };
    for _ in 0..2 {
        let actions = subscribe(&mut follower, at(1000), corrupt(&authority));
        assert!(matches!(refusal(&actions), Some(DisconnectReason::ResyncFailed(ResyncFault::Signature))));
    }
    let actions = subscribe(&mut follower, at(1000), corrupt(&authority));
    assert!(refusal(&actions).is_none(), "it stays");
    assert_eq!(alarm(&actions), Some(&Alarm::ResyncFailing { attempts: 3 }));
    follower.handle_frame(at(1100), authority.commit("dave", false));
    follower.handle_frame(at(1100), authority.commit("alice", true));
    assert!(is_revoked(&follower, "dave") && is_revoked(&follower, "alice"));
    assert_eq!(follower.status().state, FollowerState::Diverged);
    follower.handle_tick(at(60_000));
    assert_eq!(refusal(&drain(&mut follower)), Some(&DisconnectReason::Resync));
    subscribe(&mut follower, at(61_000), greeted_with_snapshot(&authority));
    assert!(!is_revoked(&follower, "alice") && follower.status().ready);
}

#[test]
fn what_contradicts_the_set_is_told_apart() {
    let prepare = || {
        let mut authority = Authority::new(1);
        let first = authority.commit("alice", false);
        (live(&authority), authority, first)
    };
    let cause = |follower: &mut Follower, frame| {
        follower.handle_frame(at(200), frame);
        match refusal(&drain(follower)) {
            Some(DisconnectReason::Diverged(divergence)) => divergence.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (mut follower, _, first) = prepare();
    let other = edit(&first, |delta| delta.digest_after = Digest::default());
    assert_eq!(cause(&mut follower, other), Divergence::Contradiction { revision: Revision(1) });

    let (mut follower, mut authority, _) = prepare();
    // Signed, and yet it does not fit: what is held is not what the authority holds.
    let bad = edit(&authority.commit("bob", false), |delta| delta.digest_after = Digest::default());
    let mismatch = StageError::DigestMismatch { revision: Revision(2) };
    assert_eq!(cause(&mut follower, authority.signed_again(&bad)), Divergence::Unfit(mismatch));
    assert!(is_revoked(&follower, "bob"), "merged all the same");

    let (mut follower, mut authority, _) = prepare();
    let late = edit(&authority.commit("bob", false), |delta| delta.source_time = UnixMillis(1));
    let signature = Divergence::Signature { revision: Revision(2) };
    assert_eq!(cause(&mut follower, late.clone()), signature);

    let (mut follower, mut authority, _) = prepare();
    authority.commit("bob", false);
    // A time is in the chain, not in the digest: the next word tells.
    follower.handle_frame(at(200), unsigned(late));
    let chain = Divergence::OtherState { what: "chain", revision: Revision(2) };
    assert_eq!(cause(&mut follower, authority.heartbeat(at(200))), chain);

    let (mut follower, authority, _) = prepare();
    let ToSubscriber::Heartbeat(mut heartbeat) = authority.heartbeat(at(200)) else { panic!() };
    heartbeat.source_time = UnixMillis(T0 + 900_000);
    let signature = Divergence::Signature { revision: Revision(1) };
    assert_eq!(cause(&mut follower, ToSubscriber::Heartbeat(heartbeat)), signature);

    let (mut follower, mut authority, _) = prepare();
    authority.commit("bob", false);
    let gap = Divergence::Gap { expected: Revision(2), given: Revision(2) };
    assert_eq!(cause(&mut follower, authority.heartbeat(at(200))), gap, "a heartbeat that overtook its delta");
}

#[test]
fn a_frame_out_of_turn_ends_the_connection_only() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let before_welcome = authority.heartbeat(at(0));
    let mut follower = follower();
    let actions = subscribe(&mut follower, at(0), [before_welcome]);
    assert_eq!(refusal(&actions), Some(&DisconnectReason::Unexpected { frame: "heartbeat" }));
    let mut frames = greeted_with_snapshot(&authority);
    frames.insert(2, authority.commit("bob", false));
    let actions = subscribe(&mut follower, at(0), frames);
    assert_eq!(refusal(&actions), Some(&DisconnectReason::Unexpected { frame: "delta" }));
    assert_eq!(follower.status().position(), None, "no part of a snapshot is served");
    let resume = welcome(&authority, WelcomeMode::Resume);
    let actions = subscribe(&mut follower, at(0), [resume]);
    assert!(matches!(refusal(&actions), Some(DisconnectReason::Refused(_))), "nothing is held to resume");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Real frames in any order, some of them damaged: no panic, and what was served stays revoked.
    #[test]
    fn no_sequence_of_frames_panics_or_takes_back(order in prop::collection::vec((0usize..11, any::<u16>()), 0..60)) {
        let mut authority = Authority::new(1);
        authority.commit("alice", false);
        let mut follower = live(&authority);
        let mut frames = greeted_with_snapshot(&authority);
        frames.push(welcome(&authority, WelcomeMode::Resume));
        frames.push(authority.commit("bob", false));
        frames.push(authority.heartbeat(at(300)));
        frames.push(authority.commit("carol", false));
        frames.extend(authority.snapshot());
        for (millis, (index, damage)) in (400u64..).step_by(100).zip(order) {
            let mut frame = frames[index % frames.len()].clone();
            if let (ToSubscriber::Delta(delta), true) = (&mut frame, damage % 3 == 0) {
                let mut bytes = delta.canonical.to_vec();
                let place = usize::from(damage) % bytes.len();
                bytes[place] ^= 1;
                delta.canonical = bytes.into();
            }
            match damage % 7 {
                0 => follower.handle_connected(at(millis)),
                1 => follower.handle_tick(at(millis)),
                _ => follower.handle_frame(at(millis), frame),
            }
            drain(&mut follower);
            prop_assert!(is_revoked(&follower, "alice"));
        }
    }
}

/// Time passes second by second, and each second something comes: when the connection is given up, and why.
fn outlast(follower: &mut Follower, begin: u64, mut frame: impl FnMut(u64) -> ToSubscriber) -> (u64, DisconnectReason) {
    for second in 1..=3600 {
        let now = at(begin + second * 1000);
        follower.handle_frame(now, frame(second));
        follower.handle_tick(now);
        if let Some(reason) = refusal(&drain(follower)) {
            return (second, reason.clone());
        }
    }
    panic!("it holds on");
}

/// The server claims to have more, and sends the word that it sent before, over and over.
#[test]
fn heartbeats_without_data_do_not_hold_a_follower_that_lacks_something() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    let word = authority.heartbeat(at(100));
    follower.handle_disconnect("the link broke");
    let ahead = Welcome { head: Revision(9), ..authority.welcome(WelcomeMode::Resume) };
    subscribe(&mut follower, at(1000), [ToSubscriber::Welcome(Box::new(ahead))]);
    let (seconds, reason) = outlast(&mut follower, 1000, |_| word.clone());
    assert_eq!(reason, DisconnectReason::Silent { limit: SILENCE_MAX });
    assert_eq!(seconds, 16);
    assert!(follower.status().staleness(at(17_000)) >= Duration::from_secs(16));
}

/// Each chunk is sound, and there is always one more.
#[test]
fn a_snapshot_that_is_always_about_to_end_is_given_up() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    follower.handle_disconnect("the link broke");
    let state = SnapshotState {
        revision: Revision(9),
        floor: authority.writer.floor(),
        policy: Policy::default(),
        shapes: authority.writer.shapes().to_vec(),
        verification: None,
    };
    let header = SnapshotHeader { state, entries: 10_000, chunks: 10_000, digest: Digest::default() };
    let begin = SnapshotBegin {
        reason: SnapshotReason::Compacted,
        id: 1,
        revision: Revision(9),
        entries: header.entries,
        chunks: header.chunks,
        header: header.encode().into(),
    };
    let frames = [welcome(&authority, WelcomeMode::Snapshot), ToSubscriber::SnapshotBegin(begin)];
    subscribe(&mut follower, at(1000), frames);
    let (seconds, reason) = outlast(&mut follower, 1000, |second| {
        let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false).bits().to_le_bytes();
        let bytes = [&Fingerprint([second, 0]).to_bytes()[..], &entry].concat();
        ToSubscriber::SnapshotChunk(SnapshotChunk::new(second as u32 - 1, bytes.into()))
    });
    assert_eq!(reason, DisconnectReason::Silent { limit: CATCH_UP_MAX });
    assert_eq!(Duration::from_secs(seconds), CATCH_UP_MAX + Duration::from_secs(1));
    assert!(is_revoked(&follower, "alice"), "what was held is served all the while");
}

/// What was signed once is sent again and again.
#[test]
fn sound_snapshots_over_and_over_do_not_hold_a_follower() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    let frames = authority.snapshot();
    let (seconds, reason) = outlast(&mut follower, 1000, |second| frames[(second as usize - 1) % frames.len()].clone());
    assert_eq!(reason, DisconnectReason::Silent { limit: CATCH_UP_MAX });
    assert!(Duration::from_secs(seconds) <= CATCH_UP_MAX + Duration::from_secs(2), "{seconds}");
}

/// Each word is news, and comes later than the one before.
#[test]
fn words_that_are_held_back_ever_longer_do_not_hold_a_follower() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    let mut probes = 0;
    let lost = (1..=120).find_map(|second| {
        follower.handle_frame(at(second * 1000), authority.heartbeat(at(100 + second * 500)));
        follower.handle_tick(at(second * 1000));
        let actions = drain(&mut follower);
        probes += actions.iter().filter(|action| matches!(action, Action::Probe(_))).count();
        refusal(&actions).cloned().map(|reason| (second, reason))
    });
    let Some((second, DisconnectReason::Silent { .. })) = lost else { panic!("{lost:?}") };
    assert!((60..=70).contains(&second), "{second}");
    assert!(probes > 5, "other servers were asked meanwhile: {probes}");
}

#[test]
fn a_welcome_cannot_say_which_times_are_possible() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    follower.handle_disconnect("the link broke");
    let policy = Policy { clock_skew_max: Duration::from_secs(u64::MAX), ..Policy::default() };
    let source_time = UnixMillis(u64::MAX);
    let lie = Welcome { head: Revision(u64::MAX), policy, source_time, ..authority.welcome(WelcomeMode::Resume) };
    subscribe(&mut follower, at(1000), [ToSubscriber::Welcome(Box::new(lie))]);
    follower.handle_frame(at(2000), authority.heartbeat(at(2000)));
    let status = follower.status();
    assert_eq!((status.state, status.staleness(at(2000))), (FollowerState::Live, Duration::ZERO));
}
