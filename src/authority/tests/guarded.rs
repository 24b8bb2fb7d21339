//! What a caller may write, decided where it is written: refused before anything is, in a dry run as well.

use std::sync::Arc;
use std::time::Duration;

use super::durable::{START, Server, caller, fixture, item, selector};
use crate::revocation::grant::Role;
use crate::revocation::ports::{
    Caller, CutoffChoice, ExpiryChoice, PREVIEW_IDS_MAX, Revoke, RevokeReply, RevokeRequest, Target, Violation,
    WriteError,
};
use crate::revocation::{Cutoff, Grant, Minute, Policy, Selector, TestedClaim, UnixSeconds};

const NOW: u64 = START.0 / 1000;

/// One with this grant.
fn with(grant: Grant) -> Caller {
    Caller { grant: Arc::new(grant), ..caller() }
}

fn revoker() -> Grant {
    Grant { roles: [Role::Revoke].into_iter().collect(), ..Grant::default() }
}

fn asked(caller: Caller, items: Vec<Revoke>) -> RevokeRequest {
    let body_hash = [0; 32];
    let request_id = None;
    RevokeRequest { caller, request_id, body_hash, items, dry_run: false, any_issuer: false, confirmed: false }
}

/// The fields that are told, of a refusal for lack of permission.
fn denied(result: Result<RevokeReply, WriteError>) -> Vec<Violation> {
    match result {
        Err(WriteError::NotPermitted { violations }) => violations,
        other => panic!("{other:?}"),
    }
}

fn never(item: Revoke) -> Revoke {
    Revoke { expiry: ExpiryChoice::Never, ..item }
}

#[test]
fn one_item_beyond_the_grant_refuses_the_whole_request_and_its_dry_run() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let before = (server.set.revision(), server.set.digest());
    let scoped = Grant { issuers: Some(vec!["https://a".into()]), ..revoker() };
    let of_a = Selector::new([("iss", "https://a"), ("jti", "j")], TestedClaim::Iat).unwrap();
    let mine = Revoke { target: Target::Selector(of_a), ..item("jti", "j") };
    let token = Target::Token { selector: selector("token_sha256", "hash"), exp: Some(UnixSeconds(NOW + 60)) };
    let by_hash = Revoke { target: token, ..item("jti", "j") };
    for dry_run in [false, true] {
        let items = vec![mine.clone(), item("sub", "alice"), by_hash.clone()];
        let violations = denied(server.ask_to_revoke(RevokeRequest { dry_run, ..asked(with(scoped.clone()), items) }));
        let fields: Vec<&str> = violations.iter().map(|violation| &*violation.field).collect();
        assert_eq!(fields, ["revocations[1].selector", "revocations[2].token"]);
    }
    assert_eq!((server.set.revision(), server.set.digest()), before);
    server.ask_to_revoke(asked(with(scoped), vec![mine])).unwrap();
}

#[test]
fn the_bounds_of_an_admin_hold_for_what_is_reinstated() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let id = server.ask_to_revoke(asked(caller(), vec![item("sub", "alice")])).unwrap().outcomes[0].id;
    let of_a = Selector::new([("iss", "https://a"), ("jti", "j")], TestedClaim::Iat).unwrap();
    let admin: Grant = Grant::clone(&Grant::everything());
    let scoped = with(Grant { issuers: Some(vec!["https://a".into()]), ..admin });
    let before = (server.set.revision(), server.set.digest());
    for only in [None, id] {
        let items = vec![(of_a.clone(), None), (selector("sub", "alice"), only)];
        match server.reinstate_as(scoped.clone(), items) {
            Err(WriteError::NotPermitted { violations }) => {
                assert_eq!(violations.len(), 1);
                assert_eq!(violations[0].field, "reinstatements[1]");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((server.set.revision(), server.set.digest()), before);
    server.reinstate_as(scoped, vec![(of_a, None)]).unwrap();
}

#[test]
fn what_is_not_permitted_is_told_before_what_is_wrong() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let late = Revoke { cutoff: CutoffChoice::At(UnixSeconds(NOW + 60)), ..item("sub", "a") };
    let items = vec![late.clone(), item("email", "a@example.com")];
    let violations = denied(server.ask_to_revoke(asked(with(revoker()), items)));
    assert_eq!(violations.len(), 1);
    assert!(violations[0].field == "revocations[1].selector" && violations[0].description.contains("first by {email}"));
    let wrong = server.ask_to_revoke(asked(with(revoker()), vec![late]));
    assert!(matches!(wrong, Err(WriteError::Invalid(_))), "{wrong:?}");
}

#[test]
fn the_first_of_a_shape_needs_an_admin_and_the_next_does_not() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let key = |kid: &str| vec![item("header.kid", kid)];
    denied(server.ask_to_revoke(asked(with(revoker()), key("k1"))));
    let short = Revoke { expiry: ExpiryChoice::In(Duration::from_secs(60)), ..item("header.kid", "k1") };
    server.ask_to_revoke(asked(caller(), vec![short])).unwrap();
    server.ask_to_revoke(asked(with(revoker()), key("k2"))).unwrap();
    server.reinstate(vec![(selector("header.kid", "k2"), None)]).unwrap();
    time.advance(Duration::from_secs(3 * 3600));
    denied(server.ask_to_revoke(asked(with(revoker()), key("k3"))));
}

fn kept(item: Revoke, days: u64) -> Revoke {
    Revoke { expiry: ExpiryChoice::In(Duration::from_secs(days * 24 * 3600)), ..item }
}

#[test]
fn what_is_kept_for_as_long_as_a_token_can_live_needs_no_admin() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    server.ask_to_revoke(asked(with(revoker()), vec![kept(item("sub", "a"), 400)])).unwrap();
}

#[test]
fn a_whole_issuer_or_an_entry_for_good_is_confirmed_by_an_admin() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let unbounded = Revoke { cutoff: CutoffChoice::Unbounded, ..item("sub", "a") };
    for (item, field, part) in [
        (item("iss", "https://a"), "revocations[0].selector", "every token of that issuer"),
        (never(item("sub", "a")), "revocations[0].never_expires", "until it is reinstated"),
        (unbounded, "revocations[0].unbounded", "until it is reinstated"),
        (kept(item("sub", "a"), 401), "revocations[0].expires_at_seconds", "more than 400 days"),
        (kept(item("jti", "a"), 100_000), "revocations[0].expires_at_seconds", "more than 400 days"),
    ] {
        for confirmed in [false, true] {
            let violations =
                denied(server.ask_to_revoke(RevokeRequest { confirmed, ..asked(with(revoker()), vec![item.clone()]) }));
            assert_eq!(violations[0].field, field);
            assert!(violations[0].description.contains("needs the role admin"), "{}", violations[0].description);
        }
        for dry_run in [false, true] {
            match server.ask_to_revoke(RevokeRequest { dry_run, ..asked(caller(), vec![item.clone()]) }).unwrap_err() {
                WriteError::Invalid(violations) => {
                    assert_eq!(violations[0].field, field);
                    let description = &violations[0].description;
                    assert!(description.contains(part) && description.contains("--yes"), "{description}");
                }
                other => panic!("{other}"),
            }
        }
        assert!(!server.revokes("sub", "a") && !server.revokes("iss", "https://a"));
        server.ask_to_revoke(RevokeRequest { confirmed: true, ..asked(caller(), vec![item]) }).unwrap();
        server.reinstate(vec![(selector("sub", "a"), None), (selector("iss", "https://a"), None)]).unwrap();
    }
}

#[test]
fn what_never_expires_by_nature_needs_no_confirmation() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let without_exp = Target::Token { selector: selector("jti", "j"), exp: None };
    let token = Revoke { target: without_exp, ..item("jti", "j") };
    let items = vec![item("header.kid", "k"), never(item("cnf.jkt", "t")), token];
    let reply = server.ask_to_revoke(asked(caller(), items)).unwrap();
    assert!(reply.outcomes.iter().all(|outcome| outcome.expiry == Minute::NEVER), "{reply:?}");
    let dead = Target::Token { selector: selector("jti", "d"), exp: Some(UnixSeconds(NOW - 86_400)) };
    let dead = never(Revoke { target: dead, ..item("jti", "d") });
    assert!(server.ask_to_revoke(asked(caller(), vec![dead])).unwrap().outcomes[0].already_expired);
}

#[test]
fn a_dry_run_shows_what_would_be_in_force_and_the_write_agrees() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let at = |seconds: u64| Revoke { cutoff: CutoffChoice::At(UnixSeconds(seconds)), ..item("sub", "alice") };
    let hour = Revoke { expiry: ExpiryChoice::In(Duration::from_secs(3600)), ..at(NOW - 50) };
    let long = at(NOW - 100);
    let mut ids: Vec<_> = (0..PREVIEW_IDS_MAX as u64 + 3)
        .map(|_| server.revoke(vec![hour.clone()]).unwrap().outcomes[0].id.unwrap())
        .collect();
    let items = vec![long.clone(), item("sub", "bob"), item("sub", "bob")];
    let tried =
        |items| server.ask_to_revoke(RevokeRequest { dry_run: true, ..asked(caller(), items) }).unwrap().outcomes;
    let outcomes = tried(items.clone());
    let alice = outcomes[0].preview.clone().unwrap();
    assert_eq!((alice.merges_with_more, &alice.merges_with[..]), (3, &ids[..PREVIEW_IDS_MAX]));
    assert_eq!(alice.cutoff, Cutoff::at(UnixSeconds(NOW - 50)).unwrap(), "that of the others is later");
    assert_eq!(alice.expiry, outcomes[0].expiry, "its own is later");
    let bob = outcomes[2].preview.clone().unwrap();
    assert!(bob.merges_with.is_empty() && bob.merges_with_more == 0);
    assert_eq!((outcomes[1].merged, outcomes[2].merged), (false, true), "with an earlier one of the same request");

    let written = server.ask_to_revoke(asked(caller(), items)).unwrap().outcomes;
    for (tried, written) in outcomes.iter().zip(&written) {
        assert_eq!((tried.cutoff, tried.expiry, tried.merged), (written.cutoff, written.expiry, written.merged));
        assert_eq!((tried.id, &written.preview), (None, &None));
    }
    ids.push(written[0].id.unwrap());
    // By now all but the last have expired.
    time.advance(Duration::from_secs(4 * 3600));
    server.revoke(vec![item("jti", "moves the floor")]).unwrap();
    let later = tried(vec![long])[0].preview.clone().unwrap();
    assert_eq!((later.merges_with, later.merges_with_more), (ids[PREVIEW_IDS_MAX + 3..].to_vec(), 0));
}
