//! The check's own rules: limits, parts unseen, times, exceptions, horizon.

use super::*;
use crate::revocation::{LifetimePolicy, UnknownCause};

/// Claims whose `name` is an array of `count` values `0`, `1`, …
fn array(claims: &mut Claims, name: &str, count: usize) {
    (0..count).for_each(|n| claims.push(name, &n.to_string(), true));
}

#[test]
fn array_elements_beyond_the_limit_of_a_shape_make_a_miss_unknown_but_hide_no_hit() {
    let (mut writer, set) = empty();
    revoke(&mut writer, &[selector(&[("group", "63")])]);
    let token = |count| {
        let mut claims = claims(&[]);
        array(&mut claims, "group", count);
        claims
    };
    assert_eq!(set.check(&token(63), NOW).doubt, None);
    assert!(set.check(&token(64), NOW).hit.is_some());
    assert!(set.check(&token(65), NOW).hit.is_some(), "the 64th element is probed");
    let mut without = claims(&[]);
    array(&mut without, "group", 63);
    without.push("group", "x", true);
    assert_eq!(set.check(&without, NOW).doubt, None, "64 candidates are all probed");
    without.push("group", "y", true);
    let finding = set.check(&without, NOW);
    assert_eq!((finding.hit, finding.doubt), (None, Some(UnknownCause::TooManyCandidates)));
}

#[test]
fn candidates_multiply_over_the_names_of_a_shape() {
    let (mut writer, set) = empty();
    revoke(&mut writer, &[selector(&[("group", "7"), ("role", "7")])]);
    let mut token = claims(&[]);
    array(&mut token, "group", 8);
    array(&mut token, "role", 8);
    assert!(set.check(&token, NOW).hit.is_some(), "the last of 64 combinations");
    token.clear();
    array(&mut token, "group", 7);
    array(&mut token, "role", 10);
    assert_eq!(set.check(&token, NOW).doubt, Some(UnknownCause::TooManyCandidates));
}

#[test]
fn candidates_beyond_the_limit_of_a_check_make_a_miss_unknown() {
    let (mut writer, set) = empty();
    let names = ["a", "b", "c", "d", "e"];
    revoke(&mut writer, &names.map(|name| selector(&[(name, "none")])));
    let mut token = claims(&[]);
    names[..4].iter().for_each(|name| array(&mut token, name, 64));
    assert_eq!(set.check(&token, NOW).doubt, None, "four times 64 are within the limit");
    token.push("e", "1", false);
    assert_eq!(set.check(&token, NOW).doubt, Some(UnknownCause::TooManyCandidates));
}

#[test]
fn part_unseen_makes_a_miss_incomplete_only_if_an_active_shape_can_need_it() {
    let (mut writer, set) = empty();
    revoke(&mut writer, &[selector(&[("header.kid", "k"), ("iss", "i")])]);
    let unseen = |values: &[(&str, &str)]| {
        let mut claims = claims(values);
        claims.header_unseen = true;
        claims
    };
    let incomplete = Some(UnknownCause::Incomplete("header.kid".into()));
    assert_eq!(set.check(&unseen(&[("iss", "i")]), NOW).doubt, incomplete);
    assert_eq!(set.check(&unseen(&[("sub", "s")]), NOW).doubt, None, "without iss no header could match");
    assert_eq!(set.check(&claims(&[("iss", "i")]), NOW).doubt, None, "the header was seen and has no kid");
    revoke(&mut writer, &[selector(&[("sub", "s")])]);
    let finding = set.check(&unseen(&[("iss", "i"), ("sub", "s")]), NOW);
    assert!(finding.hit.is_some() && finding.doubt.is_none(), "a hit needs nothing more");
}

#[test]
fn missing_or_future_time_matches_and_is_reported() {
    let (mut writer, set) = empty();
    let alice = selector(&[("sub", "alice")]);
    let entry = Entry { cutoff: Cutoff::at(NOW).unwrap(), ..forever() };
    let _ = Change::next(&writer).add(alice.shape()).upsert(key().fingerprint(&alice), &entry).install(&mut writer);
    let check = |iat| {
        let mut claims = claims(&[("sub", "alice")]);
        claims.iat = iat;
        let finding = set.check(&claims, NOW);
        (finding.hit.is_some(), finding.untimed)
    };
    assert_eq!(check(Some(NOW)), (true, false));
    assert_eq!(check(Some(NOW.plus(1))), (false, false));
    assert_eq!(check(Some(NOW.plus(600))), (false, false));
    assert_eq!(check(Some(NOW.plus(601))), (true, true));
    assert_eq!(check(None), (true, true));
}

#[test]
fn exception_spares_only_a_token_with_exactly_one_scalar_value() {
    let (mut writer, set) = empty();
    let (alice, here) = (selector(&[("sub", "alice")]), selector(&[("sid", "here")]));
    let spared = Exception { shape: here.shape(), fingerprint: key().fingerprint(&here), reach: None };
    let entry = Entry { exceptions: vec![spared], ..forever() };
    let _ = Change::next(&writer).add(alice.shape()).upsert(key().fingerprint(&alice), &entry).install(&mut writer);
    let is_revoked = |values: &[(&str, &str, bool)]| {
        let mut claims = claims(&[("sub", "alice")]);
        values.iter().for_each(|(name, value, in_array)| claims.push(name, value, *in_array));
        set.check(&claims, NOW).hit.is_some()
    };
    assert!(!is_revoked(&[("sid", "here", false)]));
    assert!(is_revoked(&[]));
    assert!(is_revoked(&[("sid", "elsewhere", false)]));
    assert!(is_revoked(&[("sid", "here", true)]));
    assert!(is_revoked(&[("sid", "here", false), ("sid", "elsewhere", false)]));
}

#[test]
fn token_beyond_the_horizon_is_counted_under_warn_and_doubted_under_enforce() {
    let (mut writer, set) = empty();
    let policy = Policy::default();
    let horizon = (policy.max_token_lifetime + policy.expiry_leeway).as_secs();
    let beyond = |iat: Option<u64>, exp: Option<u64>| {
        let mut claims = claims(&[("sub", "s")]);
        (claims.iat, claims.exp) = (iat.map(UnixSeconds), exp.map(UnixSeconds));
        let finding = set.check(&claims, NOW);
        assert_eq!(finding.doubt.is_some(), finding.beyond_horizon && set.policy() != policy);
        finding.beyond_horizon
    };
    let check_all = || {
        assert!(!beyond(Some(NOW.0 - horizon), None));
        assert!(beyond(Some(NOW.0 - horizon - 1), None));
        assert!(beyond(Some(NOW.0 - horizon - 1), Some(NOW.0 + 1)));
        assert!(!beyond(Some(NOW.0 - horizon - 1), Some(NOW.0)), "it has expired");
        assert!(!beyond(None, Some(NOW.0 + horizon)));
        assert!(beyond(None, Some(NOW.0 + horizon + 1)));
        assert!(beyond(Some(NOW.0 + 601), None), "such an iat is not believed");
        assert!(beyond(None, None));
    };
    // The empty set's numbers are too small for NOW - horizon unless the lifetimes fit.
    assert!(NOW.0 > horizon);
    check_all();
    let enforce = Policy { lifetime_policy: LifetimePolicy::Enforce, ..policy };
    let _ = Change::next(&writer).policy(enforce).install(&mut writer);
    check_all();
}

#[test]
fn shapes_are_found_the_moment_they_become_active() {
    let (mut writer, set) = empty();
    let token = claims(&[("tenant", "t"), ("sub", "s")]);
    assert!(set.check(&token, NOW).hit.is_none());
    let both = selector(&[("tenant", "t"), ("sub", "s")]);
    revoke(&mut writer, std::slice::from_ref(&both));
    let hit = set.check(&token, NOW).hit.unwrap();
    assert_eq!((hit.shape, hit.cutoff), (both.shape(), Cutoff::UNBOUNDED));
}
