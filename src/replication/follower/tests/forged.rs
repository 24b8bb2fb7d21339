//! What a relay may try: it holds the set key, so whatever it invents can have the right digest. It cannot sign.

use super::*;

/// A live follower that holds alice and bob, and a relay with a copy of the set.
fn lied_to() -> (Authority, Follower, Authority) {
    let mut authorities = [Authority::new(1), Authority::new(1)];
    for authority in &mut authorities {
        authority.commit("alice", false);
        authority.commit("bob", false);
    }
    let [authority, mut relay] = authorities;
    relay.signer = Signer::from_seed(&[66; 32]);
    let follower = live(&authority);
    (authority, follower, relay)
}

fn signature_of(frame: &ToSubscriber) -> Option<Signature> {
    let ToSubscriber::Delta(frame) = frame else { panic!("not a delta") };
    frame.signature
}

#[test]
fn a_relay_that_holds_the_set_key_can_invent_nothing() {
    type Forge = fn(&mut Authority) -> ToSubscriber;
    let forgeries: [(&str, Forge); 3] = [
        ("a removal", |relay| relay.commit("alice", true)),
        ("a revocation", |relay| relay.commit("mallory", false)),
        ("a revision that changes nothing", |relay| relay.commit("alice", false)),
    ];
    for (what, forge) in forgeries {
        for signed in ["with its own key", "with a signature of the authority's for something else", "not at all"] {
            let (mut authority, mut follower, mut relay) = lied_to();
            let forged = forge(&mut relay);
            let forged = match signed {
                "with its own key" => forged,
                "not at all" => unsigned(forged),
                _ => with_signature(forged, signature_of(&authority.commit("carol", false))),
            };
            follower.handle_frame(at(200), forged);
            let status = follower.status();
            assert!(is_revoked(&follower, "alice"), "{what}, signed {signed}");
            assert_eq!(status.revision, Revision(2), "{what}, signed {signed}");
            let told = signed == "not at all";
            assert_eq!(status.state == FollowerState::Live, told, "{what}, signed {signed}: {status:?}");
            // Nor does it become true by waiting.
            if told {
                assert!(!is_revoked(&follower, "mallory"), "{what}");
                authority.commit("carol", false);
                follower.handle_frame(at(300), authority.heartbeat(at(300)));
                assert_eq!(follower.status().state, FollowerState::Diverged, "{what}");
                assert_eq!(follower.status().revision, Revision(2), "{what}");
                assert!(is_revoked(&follower, "alice"), "{what}");
            }
        }
    }
}

#[test]
fn what_came_unsigned_waits_unseen_until_a_word_covers_it() {
    let (mut authority, mut follower, _) = lied_to();
    for (subject, undo) in [("carol", false), ("alice", true)] {
        follower.handle_frame(at(200), unsigned(authority.commit(subject, undo)));
    }
    let status = follower.status();
    assert_eq!((status.revision, status.state), (Revision(2), FollowerState::Live));
    assert!(!is_revoked(&follower, "carol") && is_revoked(&follower, "alice"));
    follower.handle_frame(at(300), authority.heartbeat(at(300)));
    assert_eq!(follower.status().revision, Revision(4));
    assert!(is_revoked(&follower, "carol") && !is_revoked(&follower, "alice"));
}

#[test]
fn a_signed_delta_covers_those_before_it_and_is_news() {
    let (mut authority, mut follower, _) = lied_to();
    authority.wall = UnixMillis(T0 + 5000);
    follower.handle_frame(at(5000), unsigned(authority.commit("carol", false)));
    follower.handle_frame(at(5000), authority.commit("dave", false));
    let status = follower.status();
    assert_eq!(status.revision, Revision(4));
    assert!(is_revoked(&follower, "carol") && is_revoked(&follower, "dave"));
    assert_eq!(status.staleness(at(5000)), Duration::ZERO, "the authority's word");
}

#[test]
fn a_word_about_the_middle_of_what_waits_covers_that_far() {
    let (mut authority, mut follower, _) = lied_to();
    let first = unsigned(authority.commit("carol", false));
    let word = authority.heartbeat(at(300));
    let second = unsigned(authority.commit("dave", false));
    for frame in [first, second, word] {
        follower.handle_frame(at(300), frame);
    }
    assert_eq!(follower.status().revision, Revision(3));
    assert!(is_revoked(&follower, "carol") && !is_revoked(&follower, "dave"));
    follower.handle_frame(at(400), authority.heartbeat(at(400)));
    assert_eq!(follower.status().revision, Revision(4));
}

#[test]
fn while_catching_up_one_signature_is_verified_for_many_deltas() {
    let (mut authority, _, _) = lied_to();
    let mut follower = Follower::new(FollowerOptions { keeps: true, ..follower().options });
    subscribe(&mut follower, at(0), greeted_with_snapshot(&authority));
    drain(&mut follower);
    follower.handle_disconnect("gone");
    let mut missed: Vec<_> = (0..300).map(|n| authority.commit(&format!("s{n}"), false)).collect();
    // Nobody looks at this one: those after it cover it.
    missed[10] = with_signature(missed[10].clone(), Some(Signature([7; 64])));
    let resumed = [welcome(&authority, WelcomeMode::Resume)].into_iter().chain(missed);
    let actions = subscribe(&mut follower, at(10), resumed);
    assert_eq!(follower.status().revision, Revision(302));
    let kept: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Verified(Verified::Delta(kept)) => Some(kept),
            _ => None,
        })
        .collect();
    let verified: Vec<_> =
        kept.iter().filter(|kept| kept.signature.is_some()).map(|kept| kept.point.revision.0).collect();
    assert_eq!(kept.len(), 300);
    assert_eq!(verified, [258, 302], "no signature is passed on that was not verified");
}

#[test]
fn what_waited_is_merged_once_the_set_is_in_doubt_and_forgotten_with_the_connection() {
    let (mut authority, mut follower, _) = lied_to();
    follower.handle_frame(at(200), unsigned(authority.commit("carol", false)));
    authority.commit("missed", false);
    follower.handle_frame(at(200), authority.commit("dave", false));
    assert_eq!(follower.status().state, FollowerState::Diverged);
    assert!(is_revoked(&follower, "carol") && is_revoked(&follower, "dave"));

    let (mut authority, mut follower, _) = lied_to();
    let carol = authority.commit("carol", false);
    follower.handle_frame(at(200), unsigned(carol.clone()));
    follower.handle_disconnect("gone");
    subscribe(&mut follower, at(400), [welcome(&authority, WelcomeMode::Resume), carol]);
    assert_eq!((follower.status().revision, follower.status().state), (Revision(3), FollowerState::Live));
}

#[test]
fn more_than_may_wait_unsigned_ends_the_connection() {
    let (mut authority, mut follower, _) = lied_to();
    for _ in 0..8192 {
        follower.handle_frame(at(200), unsigned(authority.commit("carol", false)));
        assert!(refusal(&drain(&mut follower)).is_none());
    }
    follower.handle_frame(at(200), unsigned(authority.commit("carol", false)));
    assert_eq!(refusal(&drain(&mut follower)), Some(&DisconnectReason::Unsigned));
    assert_eq!(follower.status().revision, Revision(2));
}
