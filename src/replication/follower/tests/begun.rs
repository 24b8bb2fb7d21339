//! Whoever has only begun is not as fresh as what it holds.

use super::*;

#[test]
fn a_first_set_behind_the_head_is_beyond_any_staleness_until_it_has_caught_up() {
    let mut authority = Authority::new(1);
    authority.commit("alice", false);
    let snapshot = authority.snapshot();
    let deltas = [authority.commit("bob", false), authority.commit("carol", false)];
    let mut follower = follower();
    subscribe(&mut follower, at(0), [welcome(&authority, WelcomeMode::Snapshot)].into_iter().chain(snapshot));
    assert!(is_revoked(&follower, "alice"), "it answers all the same, if policy lets it");
    for delta in deltas {
        assert_eq!((follower.status().ready, follower.status().staleness(at(0))), (false, Duration::MAX));
        follower.handle_frame(at(0), delta);
    }
    assert!(follower.status().ready && follower.status().staleness(at(0)) < Duration::MAX);
}

#[test]
fn another_epoch_is_begun_anew() {
    let mut follower = live(&Authority::new(1));
    follower.handle_disconnect("reset");
    let mut restored = Authority::new(2);
    restored.commit("alice", false);
    let snapshot = restored.snapshot();
    let delta = restored.commit("bob", false);
    let greeted = [welcome(&restored, WelcomeMode::Snapshot)].into_iter().chain(snapshot);
    subscribe(&mut follower, at(1000), greeted);
    assert_eq!(follower.status().epoch.unwrap().generation, 2);
    assert_eq!((follower.status().ready, follower.status().staleness(at(1000))), (false, Duration::MAX));
    follower.handle_frame(at(1000), delta);
    assert!(follower.status().ready && follower.status().staleness(at(1000)) < Duration::MAX);
}
