//! What requests may hold, field by field.

use super::*;
use crate::revocation::ports::{Caller, CutoffChoice, ExpiryChoice, Target, Undo};
use crate::revocation::{Cutoff, Grant, Minute};
use crate::wire::pb::{reinstatement, revocation};

const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOjQyfQ.c2lnbmF0dXJl";

fn caller() -> Caller {
    Caller { principal: "tester".into(), peer: "192.0.2.1".into(), grant: Grant::everything() }
}

fn claims(pairs: &[(&str, &str)]) -> pb::Selector {
    let claim = |(name, value): &(&str, &str)| pb::Claim { name: (*name).into(), value: (*value).into() };
    pb::Selector { claims: pairs.iter().map(claim).collect() }
}

fn by_sub() -> pb::Revocation {
    pb::Revocation { target: Some(revocation::Target::Selector(claims(&[("sub", "secret")]))), ..Default::default() }
}

fn with_selector(pairs: &[(&str, &str)]) -> pb::Revocation {
    pb::Revocation { target: Some(revocation::Target::Selector(claims(pairs))), ..Default::default() }
}

fn with_token(token: &str) -> pb::Revocation {
    pb::Revocation { target: Some(revocation::Target::Token(token.into())), ..Default::default() }
}

fn request(revocations: Vec<pb::Revocation>) -> pb::RevokeRequest {
    pb::RevokeRequest { revocations, ..Default::default() }
}

fn told(violations: &Violations) -> Vec<(&str, &str)> {
    violations.told().iter().map(|v| (v.field.as_str(), v.description.as_str())).collect()
}

/// Asserts that a request is refused for exactly these fields, each described by a text that holds these parts.
fn check_refused(violations: &Violations, expected: &[(&str, &[&str])]) {
    let told = told(violations);
    let fields: Vec<&str> = told.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, expected.iter().map(|(field, _)| *field).collect::<Vec<_>>(), "{told:?}");
    for ((field, description), (_, parts)) in told.iter().zip(expected) {
        for part in *parts {
            assert!(description.contains(part), "{field}: {part:?} is missing in {description:?}");
        }
        assert!(!description.contains("secret"), "{field}: {description:?} tells a value");
    }
}

fn check_revoke_refused(item: pb::Revocation, expected: &[(&str, &[&str])]) {
    let violations = revoke_request(request(vec![item]), caller(), Issuers::One).unwrap_err();
    check_refused(&violations, expected);
}

#[test]
fn each_wrong_selector_is_refused_by_field() {
    let long = "x".repeat(1025);
    let name = "n".repeat(129);
    let nine: Vec<(String, String)> = (0..9).map(|n| (format!("c{n}"), "secret".to_owned())).collect();
    let nine: Vec<(&str, &str)> = nine.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let first = "revocations[0].selector";
    for (pairs, field, parts) in [
        (&[][..], first, &["at least one claim"][..]),
        (&nine, first, &["at most 8", "9 given"]),
        (&[("sub", "secret"), ("sub", "secret2")], first, &["\"sub\"", "twice"]),
        (&[("", "secret")], "revocations[0].selector.claims[0].name", &["empty"]),
        (&[("sub", "")], "revocations[0].selector.claims[0].value", &["\"sub\"", "empty"]),
        (&[("iss", "a"), ("sub", &long)], "revocations[0].selector.claims[1].value", &["1024", "1025 given"]),
        (&[(&name, "secret")], "revocations[0].selector.claims[0].name", &["128", "129 given"]),
        (&[("token_sha256", "secret")], first, &["43 bytes", "6 bytes given"]),
    ] {
        check_revoke_refused(with_selector(pairs), &[(field, parts)]);
    }
    check_revoke_refused(
        pb::Revocation { target: None, ..Default::default() },
        &[("revocations[0]", &["selector, token and opaque_token"])],
    );
}

#[test]
fn each_wrong_choice_is_refused_by_field() {
    use revocation::{Cutoff as C, Expiry as E};
    let auth_time = pb::TestedClaim::AuthTime.into();
    let item = by_sub;
    for (item, field, parts) in [
        (
            pb::Revocation { cutoff: Some(C::CutoffSeconds(1 << 34)), ..item() },
            "cutoff_seconds",
            &["17179869182", "17179869184 given"][..],
        ),
        (pb::Revocation { cutoff: Some(C::Unbounded(false)), ..item() }, "unbounded", &["only be true"]),
        (pb::Revocation { cutoff: Some(C::Unbounded(true)), cutoff_on: auth_time, ..item() }, "cutoff_on", &["a time"]),
        (pb::Revocation { cutoff_on: 7, ..item() }, "cutoff_on", &["7 given"]),
        (pb::Revocation { cutoff_on: auth_time, ..with_token(TOKEN) }, "cutoff_on", &["auth_time", "token"]),
        (pb::Revocation { expiry: Some(E::ExpiresAtSeconds(u64::MAX)), ..item() }, "expires_at_seconds", &["at most"]),
        (pb::Revocation { expiry: Some(E::ExpiresInSeconds(0)), ..item() }, "expires_in_seconds", &["1 to", "0 given"]),
        (pb::Revocation { expiry: Some(E::NeverExpires(false)), ..item() }, "never_expires", &["only be true"]),
        (
            pb::Revocation { exceptions: vec![claims(&[("sid", "a")]); 5], ..item() },
            "exceptions",
            &["at most 4", "5 given"],
        ),
        (pb::Revocation { exceptions: vec![claims(&[("sid", "a")]); 2], ..item() }, "exceptions[1]", &["twice"]),
        (pb::Revocation { exceptions: vec![claims(&[])], ..item() }, "exceptions[0]", &["at least one"]),
        (pb::Revocation { reason: "x".repeat(513), ..item() }, "reason", &["512", "513 given"]),
    ] {
        check_revoke_refused(item, &[(&format!("revocations[0].{field}"), parts)]);
    }
}

#[test]
fn each_wrong_token_is_refused() {
    let long = "x".repeat(64 * 1024 + 1);
    for (token, parts) in [
        ("", &["empty"][..]),
        ("a.b.!", &["signature", "base64url"]),
        ("e30.e30x.", &["payload"]),
        ("e30.W10.", &["payload", "object"]),
        ("line\nend", &["printable"]),
        (&long, &["65536", "65537 given"]),
    ] {
        check_revoke_refused(with_token(token), &[("revocations[0].token", parts)]);
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let items =
        vec![with_selector(&[]), pb::Revocation { reason: "x".repeat(513), ..by_sub() }, by_sub(), with_token("")];
    let message = pb::RevokeRequest { request_id: "x".repeat(129), ..request(items) };
    let violations = revoke_request(message, caller(), Issuers::One).unwrap_err();
    let expected: &[(&str, &[&str])] = &[
        ("request_id", &["128", "129 given"]),
        ("revocations[0].selector", &[]),
        ("revocations[1].reason", &[]),
        ("revocations[3].token", &[]),
    ];
    check_refused(&violations, expected);
}

#[test]
fn a_request_of_the_wrong_size_is_refused_as_a_whole() {
    let refused = |items| revoke_request(request(items), caller(), Issuers::One).unwrap_err();
    check_refused(&refused(vec![]), &[("revocations", &["1 to 10000", "0 given"])]);
    check_refused(&refused(vec![by_sub(); 10_001]), &[("revocations", &["1 to 10000", "10001 given"])]);
    let large = with_selector(&[("sub", &"x".repeat(1024))]);
    check_refused(&refused(vec![large; 1100]), &[("revocations", &["1048576", "given"])]);
    assert!(revoke_request(request(vec![by_sub(); 10_000]), caller(), Issuers::One).is_ok());
}

#[test]
fn several_issuers_make_an_unscoped_selector_ambiguous() {
    for name in ["sub", "sid", "jti", "client_id"] {
        let ask = |pairs: &[(&str, &str)], issuers, any_issuer| {
            let message = pb::RevokeRequest { any_issuer, ..request(vec![with_selector(pairs)]) };
            revoke_request(message, caller(), issuers)
        };
        let refused = ask(&[(name, "secret")], Issuers::Several, false).unwrap_err();
        check_refused(&refused, &[("revocations[0].selector", &[name, "iss", "any_issuer"])]);
        assert!(ask(&[(name, "secret")], Issuers::Several, true).is_ok());
        assert!(ask(&[(name, "secret")], Issuers::One, false).is_ok());
        assert!(ask(&[(name, "secret"), ("iss", "a")], Issuers::Several, false).is_ok());
    }
    let tenant = revoke_request(request(vec![with_selector(&[("tenant_id", "t")])]), caller(), Issuers::Several);
    assert!(tenant.is_ok());
    assert!(revoke_request(request(vec![with_token(TOKEN)]), caller(), Issuers::Several).is_ok());
}

#[test]
fn choices_reach_the_node_as_they_were_made() {
    use revocation::{Cutoff as C, Expiry as E};
    let one = |item| revoke_request(request(vec![item]), caller(), Issuers::One).unwrap().items.remove(0);
    let natural = one(by_sub());
    assert_eq!((natural.cutoff, natural.expiry), (CutoffChoice::Natural, ExpiryChoice::Natural));
    let seconds = crate::revocation::UnixSeconds(Cutoff::MAX_SECONDS);
    let latest = one(pb::Revocation {
        cutoff: Some(C::CutoffSeconds(Cutoff::MAX_SECONDS)),
        expiry: Some(E::ExpiresAtSeconds(u64::from(Minute::MAX) * 60)),
        cutoff_on: pb::TestedClaim::AuthTime.into(),
        ..by_sub()
    });
    assert_eq!(latest.cutoff, CutoffChoice::At(seconds));
    assert_eq!(latest.target.selector().tested(), TestedClaim::AuthTime);
    let forever = one(pb::Revocation {
        cutoff: Some(C::Unbounded(true)),
        expiry: Some(E::NeverExpires(true)),
        exceptions: vec![claims(&[("sid", "a"), ("iss", "b")])],
        ..by_sub()
    });
    assert_eq!((forever.cutoff, forever.expiry), (CutoffChoice::Unbounded, ExpiryChoice::Never));
    assert_eq!(forever.exceptions[0].shape().to_string(), "iss, sid");
    let Target::Token { selector, exp } = one(with_token(TOKEN)).target else { panic!("not a token") };
    assert_eq!((selector.shape().to_string().as_str(), exp), ("token_sha256", None));
}

#[test]
fn the_same_request_hashes_the_same_whatever_the_order_of_its_claims() {
    let hash = |message| revoke_request(message, caller(), Issuers::One).unwrap().body_hash;
    let pairs = [("sub", "a"), ("iss", "b")];
    let reversed = [pairs[1], pairs[0]];
    let one = hash(request(vec![with_selector(&pairs)]));
    assert_eq!(one, hash(request(vec![with_selector(&reversed)])));
    assert_eq!(one, hash(pb::RevokeRequest { request_id: "r1".into(), ..request(vec![with_selector(&pairs)]) }));
    assert_ne!(one, hash(request(vec![with_selector(&pairs[..1])])));
    assert_ne!(one, hash(pb::RevokeRequest { any_issuer: true, ..request(vec![with_selector(&pairs)]) }));
    assert_eq!(one, hash(pb::RevokeRequest { confirmed: true, ..request(vec![with_selector(&pairs)]) }));
    let reason = pb::Revocation { reason: "why".into(), ..with_selector(&pairs) };
    assert_ne!(one, hash(request(vec![reason])));
}

#[test]
fn each_wrong_reinstatement_is_refused_by_field() {
    use reinstatement::Target as T;
    let auth_time = pb::TestedClaim::AuthTime.into();
    for (target, cutoff_on, field, parts) in [
        (None, 0, "reinstatements[0]", &["id, selector and token"][..]),
        (Some(T::Id("secret".into())), 0, "reinstatements[0].id", &["eight hexadecimal digits"]),
        (Some(T::Selector(claims(&[]))), 0, "reinstatements[0].selector", &["at least one"]),
        (Some(T::Token("a..".into())), 0, "reinstatements[0].token", &["header"]),
        (Some(T::Token("opaque".into())), auth_time, "reinstatements[0].cutoff_on", &["selector only"]),
    ] {
        let reinstatements = vec![pb::Reinstatement { target, cutoff_on }];
        let message = pb::ReinstateRequest { reinstatements, ..Default::default() };
        check_refused(&reinstate_request(message, caller()).unwrap_err(), &[(field, parts)]);
    }
    let none = reinstate_request(pb::ReinstateRequest::default(), caller()).unwrap_err();
    check_refused(&none, &[("reinstatements", &["1 to 10000", "0 given"])]);
}

#[test]
fn a_token_is_reinstated_by_what_it_would_be_revoked_by() {
    let target = Some(reinstatement::Target::Token(TOKEN.into()));
    let reinstatements = vec![pb::Reinstatement { target, cutoff_on: 0 }];
    let message = pb::ReinstateRequest { reinstatements, ..Default::default() };
    let undo = reinstate_request(message, caller()).unwrap().items.remove(0);
    let revoke = revoke_request(request(vec![with_token(TOKEN)]), caller(), Issuers::One).unwrap().items.remove(0);
    assert_eq!(undo, Undo::Selector(revoke.target.selector().clone()));
}

#[test]
fn each_wrong_search_is_refused_by_field() {
    let short = Some(pb::Position { epoch: vec![1; 3], revision: 1 });
    let empty = || pb::ListRevocationsRequest::default();
    let claim = |name: &str, value: &str| Some(pb::Claim { name: name.into(), value: value.into() });
    for (message, field, parts) in [
        (pb::ListRevocationsRequest { claim: claim("sub", ""), ..empty() }, "claim.claims[0].value", &["empty"][..]),
        (pb::ListRevocationsRequest { actor: "x".repeat(257), ..empty() }, "actor", &["256", "257 given"]),
        (pb::ListRevocationsRequest { page_size: 1001, ..empty() }, "page_size", &["1000", "1001 given"]),
        (pb::ListRevocationsRequest { page_token: "x".repeat(1025), ..empty() }, "page_token", &["1024"]),
        (pb::ListRevocationsRequest { at_least: short.clone(), ..empty() }, "at_least.epoch", &["16", "3 given"]),
    ] {
        check_refused(&list_query(message).unwrap_err(), &[(field, parts)]);
    }
    assert_eq!(list_query(empty()).unwrap().page_size, 100);
    let id = pb::GetRevocationRequest { id: "x".into(), at_least: short };
    check_refused(&id_query(&id).unwrap_err(), &[("id", &["eight"]), ("at_least.epoch", &["16"])]);
}
