//! Beginning from a cache: what is believed, and what is not.

use super::*;

/// A cache at revision 4: a snapshot of 2, and two deltas, the last of them signed.
fn kept(authority: &mut Authority) -> Kept {
    authority.commit("a", false);
    authority.commit("b", false);
    let (mut header, mut chunks, mut end) = (None, Vec::new(), None);
    for frame in authority.snapshot() {
        match frame {
            ToSubscriber::SnapshotBegin(begin) => header = Some(SnapshotHeader::decode(&begin.header).unwrap()),
            ToSubscriber::SnapshotChunk(chunk) => chunks.push(chunk),
            ToSubscriber::SnapshotEnd(signed) => end = Some(signed),
            _ => {}
        }
    }
    let mut deltas = vec![cached(authority.commit("c", false)), cached(authority.commit("a", true))];
    deltas[0].signature = None;
    let descent = Descent {
        epoch: authority.epoch,
        lineage: authority.lineage(),
        set_key: authority.key.clone(),
        public_key: authority.signer.public_key(),
    };
    let snapshot = SignedSnapshot { header: header.unwrap(), chunks, end: end.unwrap() };
    Kept { descent, snapshot: snapshot.into(), deltas, word: None }
}

fn cached(frame: ToSubscriber) -> CachedDelta {
    let ToSubscriber::Delta(DeltaFrame { canonical, signature, .. }) = frame else { panic!("no delta") };
    CachedDelta { canonical, signature }
}

fn warm(authority: &mut Authority) -> Follower {
    let mut follower = follower();
    follower.handle_cache(kept(authority)).unwrap();
    follower
}

#[test]
fn a_cache_is_served_before_the_first_connection_and_is_infinitely_stale() {
    let mut authority = Authority::new(1);
    let mut follower = Follower::new(FollowerOptions { keeps: true, ..follower().options });
    follower.handle_cache(kept(&mut authority)).unwrap();
    let actions = drain(&mut follower);
    let [Action::Swap(swap), Action::Connect { .. }, Action::Publish(status)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(swap.provenance.as_ref().unwrap().point().revision, Revision(4));
    assert_eq!((status.state, status.revision, status.ready), (FollowerState::Warm, Revision(4), false));
    assert_eq!(status.staleness(at(100)), Duration::MAX);
    assert_eq!(["a", "b", "c"].map(|subject| is_revoked(&follower, subject)), [false, true, true]);
}

#[test]
fn a_warm_follower_resumes_and_becomes_live_without_a_snapshot() {
    let mut authority = Authority::new(1);
    let mut follower = warm(&mut authority);
    drain(&mut follower);
    follower.handle_connected(at(0));
    assert_eq!(follower.status().state, FollowerState::Warm);
    let actions = drain(&mut follower);
    let Action::Send(ToServer::Hello(hello)) = &actions[0] else { panic!("{actions:?}") };
    let held = Held { epoch: authority.epoch, revision: Revision(4), digest: authority.writer.digest() };
    assert_eq!(hello.held, Some(held));
    authority.wall = UnixMillis(T0 + 10);
    let delta = authority.commit("d", false);
    follower.handle_frame(at(10), welcome(&authority, WelcomeMode::Resume));
    assert_eq!(follower.status().state, FollowerState::Resuming);
    assert!(!follower.status().ready);
    follower.handle_frame(at(20), delta);
    follower.handle_frame(at(30), authority.heartbeat(at(30)));
    let status = follower.status();
    assert_eq!((status.state, status.ready), (FollowerState::Live, true));
    assert!(status.staleness(at(40)) < Duration::from_secs(1));
    assert!(is_revoked(&follower, "d"));
}

#[test]
fn a_cache_pins_its_key_only_where_none_was_given() {
    let mut authority = Authority::new(1);
    let kept = kept(&mut authority);
    let other = Signer::from_seed(&[8; 32]);
    let mut follower = Follower::new(FollowerOptions { public_key: Some(other.public_key()), ..follower().options });
    assert!(matches!(follower.handle_cache(kept), Err(CacheFault::OtherKey { .. })));
    assert_eq!(follower.status().state, FollowerState::Init);

    let mut follower = warm(&mut Authority::new(1));
    let mut foreign = Authority::new(2);
    foreign.signer = other;
    let actions = subscribe(&mut follower, at(0), [welcome(&foreign, WelcomeMode::Snapshot)]);
    assert_eq!(refusal(&actions), Some(&DisconnectReason::Refused(fault::Refusal::OtherKey)));
}

#[test]
fn a_cache_comes_too_late_once_something_is_held() {
    let mut authority = Authority::new(1);
    let mut follower = live(&authority);
    assert_eq!(follower.handle_cache(kept(&mut authority)), Err(CacheFault::Late));
}

#[test]
fn no_tampered_part_of_a_cache_is_believed() {
    fn snapshot(kept: &mut Kept) -> &mut SignedSnapshot {
        std::sync::Arc::get_mut(&mut kept.snapshot).unwrap()
    }
    type Tamper = (&'static str, fn(&mut Kept));
    let tampers: [Tamper; 19] = [
        ("generation", |kept| kept.descent.epoch.generation += 1),
        ("epoch", |kept| kept.descent.epoch.id[0] ^= 1),
        ("set key", |kept| kept.descent.set_key = SetKey::new([77; 16])),
        ("public key", |kept| kept.descent.public_key = Signer::from_seed(&[8; 32]).public_key()),
        ("lineage", |kept| {
            let ancestor = Ancestor { epoch: Epoch { generation: 0, id: [7; 16] }, last: Revision(9) };
            kept.descent.lineage.ancestors.push(ancestor);
        }),
        ("revision", |kept| snapshot(kept).header.state.revision = Revision(3)),
        ("both revisions", |kept| {
            snapshot(kept).header.state.revision = Revision(3);
            snapshot(kept).end.revision = Revision(3);
        }),
        ("floor", |kept| snapshot(kept).header.state.floor = Minute::from_bits(2)),
        ("entries", |kept| snapshot(kept).header.entries += 1),
        ("chunk", |kept| {
            let chunk = &mut snapshot(kept).chunks[0];
            *chunk = SnapshotChunk::new(0, chunk.bytes.slice(24..));
        }),
        ("no chunk", |kept| snapshot(kept).chunks.clear()),
        ("chain", |kept| snapshot(kept).end.chain = Chain([1; 32])),
        ("hash", |kept| snapshot(kept).end.sha256[0] ^= 1),
        ("signature", |kept| snapshot(kept).end.signature.0[0] ^= 1),
        ("missing delta", |kept| drop(kept.deltas.remove(0))),
        ("repeated delta", |kept| kept.deltas.push(kept.deltas[1].clone())),
        ("last delta not signed", |kept| kept.deltas[1].signature = None),
        ("last signature", |kept| kept.deltas[1].signature.as_mut().unwrap().0[0] ^= 1),
        ("end cut off", |kept| drop(kept.deltas.pop())),
    ];
    for (part, tamper) in tampers {
        let mut authority = Authority::new(1);
        let mut kept = kept(&mut authority);
        tamper(&mut kept);
        let mut follower = follower();
        assert!(follower.handle_cache(kept.clone()).is_err(), "{part}");
        assert!(kept.verified_set(u64::MAX).is_err(), "{part}");
        assert_eq!(follower.status().state, FollowerState::Init, "{part}");
        // And it goes on as if there had been no cache.
        subscribe(&mut follower, at(0), greeted_with_snapshot(&authority));
        assert_eq!(follower.status().revision, Revision(4), "{part}");
    }
}

#[test]
fn a_word_signs_for_a_last_delta_that_came_unsigned() {
    let mut authority = Authority::new(1);
    let mut kept = kept(&mut authority);
    kept.deltas[1].signature = None;
    let ToSubscriber::Heartbeat(word) = authority.heartbeat(at(50)) else { panic!("no heartbeat") };
    for (word, fits) in [
        (word.clone(), true),
        (Heartbeat { source_time: UnixMillis(T0 + 51), ..word.clone() }, false),
        (Heartbeat { revision: Revision(9), ..word }, false),
    ] {
        kept.word = Some(word);
        assert_eq!(follower().handle_cache(kept.clone()).is_ok(), fits);
    }
}

#[test]
fn a_cache_beyond_the_limit_is_refused_as_a_whole() {
    for (entries_max, fits) in [(1, false), (2, false), (3, true)] {
        let mut follower = Follower::new(FollowerOptions { entries_max, ..follower().options });
        let result = follower.handle_cache(kept(&mut Authority::new(1)));
        assert_eq!(result.is_ok(), fits, "{entries_max}");
        assert!(fits || matches!(result, Err(CacheFault::OverLimit { .. })), "{result:?}");
    }
}

proptest! {
    #[test]
    fn no_flipped_bit_of_a_delta_is_believed(bit in 0_usize..10_000) {
        let mut kept = kept(&mut Authority::new(1));
        let mut bytes = kept.deltas[0].canonical.to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        kept.deltas[0].canonical = bytes.into();
        prop_assert!(follower().handle_cache(kept).is_err());
    }
}
