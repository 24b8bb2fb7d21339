//! The table of who may write what.

use super::super::Roles;
use super::*;
use crate::revocation::TestedClaim;

fn selector(pairs: &[(&str, &str)]) -> Selector {
    Selector::new(pairs.iter().copied(), TestedClaim::Iat).unwrap()
}

fn of(role: Role) -> Grant {
    Grant { roles: [role].into_iter().collect(), ..Grant::default() }
}

fn list(texts: &[&str]) -> Option<Vec<String>> {
    Some(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn judge(grant: &Grant, pairs: &[(&str, &str)]) -> Result<Vec<Caution>, Vec<(Part, Denial)>> {
    judge_with(grant, pairs, &[], false)
}

fn judge_with(
    grant: &Grant,
    pairs: &[(&str, &str)],
    exceptions: &[Selector],
    kept_forever: bool,
) -> Result<Vec<Caution>, Vec<(Part, Denial)>> {
    let selector = selector(pairs);
    grant.permit(Intent { selector: &selector, exceptions, kept_forever }, |shape| shape.to_string() == "device")
}

#[test]
fn who_may_not_revoke_writes_nothing() {
    for role in Role::ALL {
        let permitted = judge(&of(role), &[("jti", "a")]);
        match role {
            Role::Revoke | Role::Admin => assert_eq!(permitted, Ok(vec![])),
            _ => assert_eq!(permitted, Err(vec![(Part::Target, Denial::Role)]), "{role}"),
        }
    }
    let nothing = Grant { roles: Roles::default(), ..Grant::default() };
    assert_eq!(judge(&nothing, &[("jti", "a")]), Err(vec![(Part::Target, Denial::Role)]));
}

#[test]
fn an_issuer_scope_holds_for_every_selector_and_for_admins() {
    for role in [Role::Revoke, Role::Admin] {
        let grant = Grant { issuers: list(&["https://a", "https://b"]), ..of(role) };
        assert_eq!(judge(&grant, &[("iss", "https://b"), ("jti", "j")]), Ok(vec![]));
        for (pairs, denial) in [
            (&[("jti", "j")][..], Denial::IssuerMissing(2)),
            (&[("token_sha256", "x")], Denial::IssuerMissing(2)),
            (&[("iss", "https://c"), ("jti", "j")], Denial::IssuerForeign(2)),
            (&[("iss", "https://a/"), ("jti", "j")], Denial::IssuerForeign(2)),
            (&[("iss", "HTTPS://A"), ("jti", "j")], Denial::IssuerForeign(2)),
        ] {
            assert_eq!(judge(&grant, pairs), Err(vec![(Part::Target, denial)]), "{pairs:?}");
        }
    }
    let none = Grant { issuers: list(&[]), ..of(Role::Revoke) };
    assert_eq!(judge(&none, &[("iss", "i"), ("jti", "j")]), Err(vec![(Part::Target, Denial::IssuerForeign(0))]));
}

#[test]
fn a_claims_scope_holds_for_selectors_and_exceptions_and_lets_iss_through() {
    let grant = Grant { claims: list(&["sub", "department"]), ..of(Role::Revoke) };
    assert_eq!(judge(&grant, &[("iss", "i"), ("sub", "s")]), Ok(vec![]));
    assert_eq!(judge(&grant, &[("department", "d")]), Ok(vec![]), "listed, so it may be the first");
    let denied = |pairs, exceptions: &[Selector]| match judge_with(&grant, pairs, exceptions, false) {
        Err(denials) => denials.into_iter().map(|(part, denial)| (part, denial.to_string())).collect::<Vec<_>>(),
        Ok(_) => panic!("permitted"),
    };
    let told = |part, name| {
        vec![(part, format!("the claim {name:?} is not among those that this principal may name: sub, department"))]
    };
    assert_eq!(denied(&[("jti", "j"), ("sub", "s")], &[]), told(Part::Target, "jti"));
    assert_eq!(denied(&[("token_sha256", "x")], &[]), told(Part::Target, "token_sha256"));
    let exceptions = [selector(&[("sub", "s"), ("iss", "i")]), selector(&[("sid", "s")])];
    assert_eq!(denied(&[("sub", "s")], &exceptions), told(Part::Exception(1), "sid"));
}

#[test]
fn a_new_shape_of_unusual_claims_needs_an_admin_or_a_list() {
    let revoker = of(Role::Revoke);
    for name in USUAL_CLAIMS.into_iter().filter(|name| *name != "iss") {
        assert_eq!(judge(&revoker, &[(name, "v")]), Ok(vec![]), "{name}");
    }
    for name in ["header.kid", "cnf.x5t#S256", "email", "SUB"] {
        let denials = judge(&revoker, &[("sub", "v"), (name, "v")]).unwrap_err();
        assert!(matches!(&denials[..], [(Part::Target, Denial::NewShape { name: told, .. })] if told == name));
        assert_eq!(judge(&of(Role::Admin), &[(name, "v")]), Ok(vec![]));
    }
    assert_eq!(judge(&revoker, &[("device", "v")]), Ok(vec![]), "it is in use");
    let issuers = Grant { issuers: list(&["i"]), ..of(Role::Revoke) };
    assert!(judge(&issuers, &[("iss", "i"), ("email", "e")]).is_err(), "issuers alone list no claims");
}

#[test]
fn what_reaches_an_issuer_or_never_ends_needs_an_admin_who_confirms() {
    let issuer_wide = &[("iss", "i")][..];
    for (pairs, forever, caution) in [
        (issuer_wide, false, Caution::IssuerWide),
        (&[("sub", "s")], true, Caution::KeptForever),
        (&[("jti", "s")], true, Caution::KeptForever),
    ] {
        assert_eq!(judge_with(&of(Role::Admin), pairs, &[], forever), Ok(vec![caution]));
        let denied = vec![(caution.part(), Denial::Admin(caution))];
        assert_eq!(judge_with(&of(Role::Revoke), pairs, &[], forever), Err(denied));
    }
    let auth_time = Selector::new([("iss", "i")], TestedClaim::AuthTime).unwrap();
    let intent = Intent { selector: &auth_time, exceptions: &[], kept_forever: false };
    assert_eq!(of(Role::Admin).permit(intent, |_| false), Ok(vec![Caution::IssuerWide]), "by auth_time, too");
    let both = judge_with(&of(Role::Admin), issuer_wide, &[], true);
    assert_eq!(both, Ok(vec![Caution::IssuerWide, Caution::KeptForever]));
    for key in ["header.kid", "cnf.jkt"] {
        assert_eq!(judge_with(&of(Role::Admin), &[(key, "k")], &[], true), Ok(vec![]), "{key} never expires anyway");
    }
}

#[test]
fn no_denial_shows_a_value() {
    let grant = Grant { issuers: list(&["https://a"]), claims: list(&["sub"]), ..of(Role::Check) };
    let secret = [("iss", "secret"), ("email", "secret")];
    for (_, denial) in judge_with(&grant, &secret, &[], true).unwrap_err() {
        assert!(!denial.to_string().contains("secret"), "{denial}");
    }
}
