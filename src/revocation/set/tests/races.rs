//! Checks beside a busy writer.

use std::sync::atomic::AtomicBool;

use super::*;

/// Runs `write` on this thread and `check` on two others until it is done.
fn race(write: impl FnOnce(), check: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    check();
                }
            });
        }
        write();
        done.store(true, Ordering::Relaxed);
    });
}

/// A token that matches both of two selectors, one of which is revoked at any revision.
fn check_swap(one: &Selector, other: &Selector, token: &Claims) {
    let (mut writer, set) = empty();
    let shapes = [one.shape(), other.shape()];
    let shapes = &shapes[..if shapes[0] == shapes[1] { 1 } else { 2 }];
    let change = shapes.iter().fold(Change::next(&writer), |change, shape| change.add(shape.clone()));
    let _ = change.upsert(key().fingerprint(one), &forever()).install(&mut writer);
    let swap = |writer: &mut SetWriter, add: &Selector, remove: &Selector| {
        let change = Change::next(writer).upsert(key().fingerprint(add), &forever());
        assert!(change.remove(key().fingerprint(remove)).install(writer).weakened);
    };
    race(
        || {
            for _ in 0..5_000 {
                swap(&mut writer, other, one);
                swap(&mut writer, one, other);
            }
        },
        || assert!(set.check(token, NOW).hit.is_some(), "both were missed"),
    );
}

#[test]
fn check_never_misses_both_of_a_revision_that_revokes_one_and_reinstates_another() {
    let (one, other) = (selector(&[("sub", "s")]), selector(&[("jti", "j")]));
    check_swap(&one, &other, &claims(&[("sub", "s"), ("jti", "j")]));
}

#[test]
fn check_of_an_array_never_misses_both_of_such_a_revision() {
    let (one, other) = (selector(&[("group", "1")]), selector(&[("group", "2")]));
    let mut token = claims(&[]);
    ["1", "2"].iter().for_each(|group| token.push("group", group, true));
    check_swap(&one, &other, &token);
}

#[test]
fn no_false_negative_while_the_filter_is_rebuilt() {
    let (mut writer, set) = empty();
    let user = |n: u64| selector(&[("sub", &n.to_string())]);
    let _ = Change::next(&writer).add(user(0).shape()).install(&mut writer);
    let seed = AtomicU64::new(1);
    race(
        || {
            std::thread::scope(|scope| {
                for first in (0..30_000).step_by(10) {
                    let change = (first..first + 10).fold(Change::next(&writer), |change, n| {
                        change.upsert(key().fingerprint(&user(n)), &forever())
                    });
                    if let Some(rebuild) = change.install(&mut writer).rebuild {
                        scope.spawn(|| rebuild.run());
                    }
                }
            });
        },
        || {
            let revoked = set.revision().0.saturating_sub(1) * 10;
            if revoked > 0 {
                let user = seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) % revoked;
                let finding = set.check(&claims(&[("sub", &user.to_string())]), NOW);
                assert!(finding.hit.is_some(), "user {user} of {revoked}");
            }
        },
    );
    assert!(set.view.load().filter.capacity() >= 20_000, "it was rebuilt several times");
}

#[test]
fn check_reports_a_revision_that_it_saw_all_of() {
    let (mut writer, set) = empty();
    let user = |n: u64| selector(&[("sub", &n.to_string())]);
    let _ = Change::next(&writer).add(user(0).shape()).install(&mut writer);
    // Revision n + 2 revokes user n + 1 and takes back user n.
    race(
        || {
            for n in 0..5_000 {
                let change = Change::next(&writer).upsert(key().fingerprint(&user(n + 1)), &forever());
                let _ = change.remove(key().fingerprint(&user(n))).install(&mut writer);
            }
        },
        || {
            let user = set.revision().0.saturating_sub(1);
            let finding = set.check(&claims(&[("sub", &user.to_string())]), NOW);
            let should_hit = user > 0 && finding.revision.0 == user + 1;
            assert!(finding.hit.is_some() || !should_hit, "user {user} at {}", finding.revision);
        },
    );
}
