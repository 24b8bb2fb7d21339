//! Which authority is followed.

use super::*;

fn change(actions: &[Action]) -> Option<EpochChange> {
    actions.iter().find_map(|action| match action {
        Action::Swap(swap) => swap.epoch_change,
        _ => None,
    })
}

#[test]
fn an_older_epoch_is_refused_and_alarmed() {
    let mut follower = live(&Authority::new(2));
    follower.handle_disconnect("reset");
    let old = Authority::new(1);
    let actions = subscribe(&mut follower, at(1000), greeted_with_snapshot(&old));
    assert!(matches!(refusal(&actions), Some(DisconnectReason::Refused(_))));
    assert!(matches!(alarm(&actions), Some(Alarm::OldEpoch { .. })));
    assert_eq!(follower.status().epoch.unwrap().generation, 2);
}

#[test]
fn another_epoch_of_the_same_generation_is_refused_and_alarmed() {
    let mut follower = live(&Authority::new(2));
    follower.handle_disconnect("reset");
    let mut fork = Authority::new(2);
    fork.epoch.id = [77; 16];
    let actions = subscribe(&mut follower, at(1000), greeted_with_snapshot(&fork));
    assert!(matches!(alarm(&actions), Some(Alarm::ForkedEpoch { .. })));
    assert!(matches!(refusal(&actions), Some(DisconnectReason::Refused(_))));
}

#[test]
fn another_authoritys_key_is_refused_and_alarmed() {
    let mut follower = live(&Authority::new(2));
    follower.handle_disconnect("reset");
    let mut other = Authority::new(3);
    other.signer = Signer::from_seed(&[10; 32]);
    let actions = subscribe(&mut follower, at(1000), greeted_with_snapshot(&other));
    assert!(matches!(alarm(&actions), Some(Alarm::OtherKey { .. })));
}

#[test]
fn a_key_that_proved_nothing_is_not_pinned() {
    let mut liar = Authority::new(1);
    let honest = Authority::new(1);
    liar.signer = Signer::from_seed(&[10; 32]);
    let mut follower = follower();
    // It claims the honest key's place, but signs with another.
    let mut frames = greeted_with_snapshot(&liar);
    let mut claim = liar.welcome(WelcomeMode::Snapshot);
    let claimed = Signer::from_seed(&[11; 32]);
    claim.public_key = claimed.public_key();
    claim.lineage = Lineage::sign(&claimed, claim.epoch, Vec::new());
    frames[0] = ToSubscriber::Welcome(Box::new(claim));
    let actions = subscribe(&mut follower, at(0), frames);
    assert!(matches!(refusal(&actions), Some(DisconnectReason::ResyncFailed(ResyncFault::Signature))));
    subscribe(&mut follower, at(1000), greeted_with_snapshot(&honest));
    assert!(follower.status().position().is_some());
}

#[test]
fn a_newer_epoch_takes_over_only_with_a_verified_snapshot() {
    let mut old = Authority::new(1);
    old.commit("alice", false);
    let mut follower = live(&old);
    follower.handle_disconnect("reset");
    let mut new = Authority::new(2);
    new.ancestors = vec![Ancestor { epoch: old.epoch, last: Revision(1) }];
    new.commit("alice", false);
    let mut frames = greeted_with_snapshot(&new);
    let end = frames.pop().unwrap();
    let actions = subscribe(&mut follower, at(1000), frames);
    assert!(change(&actions).is_none() && is_revoked(&follower, "alice"));
    assert_eq!(follower.status().epoch, Some(old.epoch), "the old set is served meanwhile");
    follower.handle_frame(at(1000), end);
    let change = change(&drain(&mut follower)).unwrap();
    assert!(change.ancestor && change.to == new.epoch && change.from.revision == Revision(1));
    assert_eq!(follower.status().epoch, Some(new.epoch));
}

#[test]
fn a_newer_epoch_that_lost_history_is_reported_as_such() {
    let mut old = Authority::new(1);
    old.commit("alice", false);
    old.commit("bob", false);
    let mut follower = live(&old);
    follower.handle_disconnect("reset");
    let mut new = Authority::new(2);
    new.ancestors = vec![Ancestor { epoch: old.epoch, last: Revision(1) }];
    let actions = subscribe(&mut follower, at(1000), greeted_with_snapshot(&new));
    let change = change(&actions).unwrap();
    assert!(!change.ancestor, "revision 2 of the old epoch is not in the new one");
    assert_eq!(change.from.revision, Revision(2));
}

#[test]
fn an_epoch_two_restores_later_goes_on_from_its_grandparent() {
    let mut old = Authority::new(1);
    old.commit("alice", false);
    let mut follower = live(&old);
    follower.handle_disconnect("reset");
    let mut new = Authority::new(3);
    let between = Epoch { generation: 2, id: [2; 16] };
    new.ancestors = [(between, 4), (old.epoch, 1)].map(|(epoch, last)| Ancestor { epoch, last: Revision(last) }).into();
    new.commit("alice", false);
    let actions = subscribe(&mut follower, at(1000), greeted_with_snapshot(&new));
    assert!(change(&actions).unwrap().ancestor);
}

#[test]
fn an_epoch_that_goes_on_takes_over_only_once_it_has_come_as_far() {
    let mut old = Authority::new(1);
    old.commit("alice", false);
    old.commit("bob", false);
    let mut follower = live(&old);
    follower.handle_disconnect("reset");
    let mut new = Authority::new(2);
    new.ancestors = vec![Ancestor { epoch: old.epoch, last: Revision(2) }];
    new.commit("alice", false);
    // Its snapshot is from before bob; a relay may keep the rest to itself.
    let actions = subscribe(&mut follower, at(1000), greeted_with_snapshot(&new));
    assert!(change(&actions).is_none() && is_revoked(&follower, "bob"));
    assert_eq!((follower.status().epoch, follower.status().revision), (Some(old.epoch), Revision(2)));
    follower.handle_frame(at(1100), new.commit("bob", false));
    assert!(change(&drain(&mut follower)).unwrap().ancestor);
    assert!(is_revoked(&follower, "alice") && is_revoked(&follower, "bob"));
    assert_eq!((follower.status().epoch, follower.status().revision), (Some(new.epoch), Revision(2)));
}

#[test]
fn a_relay_cannot_say_that_an_epoch_lost_nothing() {
    let mut old = Authority::new(1);
    old.commit("alice", false);
    old.commit("bob", false);
    let mut follower = live(&old);
    follower.handle_disconnect("reset");
    let mut new = Authority::new(2);
    new.ancestors = vec![Ancestor { epoch: old.epoch, last: Revision(1) }];
    let mut frames = greeted_with_snapshot(&new);
    let ToSubscriber::Welcome(welcome) = &mut frames[0] else { panic!("no welcome") };
    welcome.lineage.ancestors[0].last = Revision(2);
    let actions = subscribe(&mut follower, at(1000), frames);
    assert_eq!(refusal(&actions), Some(&DisconnectReason::Refused(fault::Refusal::Lineage)));
    assert_eq!(follower.status().epoch, Some(old.epoch));
}

#[test]
fn a_server_behind_what_is_held_is_refused() {
    let mut authority = Authority::new(1);
    let early = greeted_with_snapshot(&authority);
    authority.commit("alice", false);
    let mut follower = live(&authority);
    follower.handle_disconnect("reset");
    let actions = subscribe(&mut follower, at(1000), early);
    assert!(matches!(refusal(&actions), Some(DisconnectReason::Refused(_))));
    assert!(is_revoked(&follower, "alice"));
}
