//! Who is let in by a token, and who no longer is: keys in a file, a set that says what it is told, a clock set by hand.

use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::clock::{Clock, ManualTime};
use crate::revocation::grant::Role;
use crate::revocation::ports::Answer;
use crate::revocation::{Cutoff, Hit, Position, Revision, Shape, TestedClaim, UnknownCause};
use crate::security::CertificateNames;
use crate::security::access::{Access, Brought, Options};
use crate::security::call::Call;
use crate::token::keys::{FETCH_WITHIN, FORCED_EVERY, Fetch, FetchError, Fetched, Fetching};
use crate::token::testing::{ISS, NOW, TestKey};

/// Of the set and of the issuer.
struct Told {
    verdict: Mutex<Verdict>,
    keys: Mutex<Option<String>>,
}

impl Checks for Told {
    fn check(&self, _: &Claims, _: Option<Position>) -> Answer {
        let verdict = self.verdict.lock().clone();
        let deny = verdict != Verdict::NotRevoked;
        let position = Position { epoch: [0; 16], revision: Revision(1) };
        Answer { verdict, deny, position, staleness: Duration::ZERO, beyond_horizon: false, untimed: false }
    }
}

impl Fetch for Told {
    fn get<'a>(&'a self, _: &'a str) -> Fetching<'a> {
        let keys = self.keys.lock().clone();
        let fetched = keys.map(|keys| Fetched { body: keys.into_bytes(), max_age: None });
        Box::pin(async move { fetched.ok_or(FetchError::Status(503)) })
    }
}

struct House {
    access: Arc<Access>,
    told: Arc<Told>,
    time: Arc<ManualTime>,
    key: TestKey,
    dir: tempfile::TempDir,
}

fn table(more: &str) -> String {
    format!(
        "[[principal]]\nname = 'gate'\ncertificate = 'dns:gate.example'\nroles = ['check']\n\
         [[jwt]]\nname = 'idp'\nissuer = '{ISS}'\naudience = 'api'\nalgorithms = ['ES256']\n\
         keys = 'https://issuer.example/keys'\nclaim = 'groups'\n{more}\
         [[jwt.map]]\nvalue = 'ops'\nroles = ['admin']\n\
         [[jwt.map]]\nvalue = 'login'\nroles = ['revoke']\nclaims = ['sub']\nwrites_per_minute = 7\n\
         [[jwt.map]]\nvalue = 'agents'\nroles = ['subscribe']\n"
    )
}

/// Whose issuer can be reached, and whose keys are known.
async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("principals.toml"), table("")).unwrap();
    let key = TestKey::new("k1");
    let told = Arc::new(Told { verdict: Mutex::new(Verdict::NotRevoked), keys: Mutex::new(Some(key.set())) });
    let time = ManualTime::starting_at(UnixMillis(NOW * 1000));
    let keys = KeyRing::new(told.clone(), tokio::runtime::Handle::current());
    let tokens = Tokens { checks: told.clone(), keys: keys.clone() };
    let options = Options { principals: dir.path().join("principals.toml"), requests_per_second: 1000 };
    let access = Access::open(options, None, Some(tokens), Clock::manual(time.clone())).unwrap();
    keys.newer(ISS, FETCH_WITHIN).await;
    House { access, told, time, key, dir }
}

impl House {
    fn rewrite(&self, principals: &str) {
        let path: &Path = self.dir.path();
        std::fs::write(path.join("principals.toml"), principals).unwrap();
        self.access.reload().unwrap();
    }

    fn identify(&self, token: &str) -> Result<Arc<crate::security::access::Identity>, Denial> {
        let authorization = format!("Bearer {token}");
        self.access.identify(Brought { authorization: Some(authorization.as_bytes()), ..Brought::default() })
    }

    fn refused(&self, token: &str) -> DenialReason {
        self.identify(token).expect_err("let in").reason
    }

    fn revokes(&self) {
        let shape = Shape::new(["jti"], TestedClaim::Iat).unwrap();
        *self.told.verdict.lock() = Verdict::Revoked(Hit { shape, cutoff: Cutoff::UNBOUNDED });
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_entry_of_the_map_that_a_token_matches_says_what_its_bearer_may_do() {
    let house = house().await;
    for (groups, roles, writes) in [
        (r#""agents""#, "subscribe", None),
        (r#"["x","login"]"#, "revoke", Some(7)),
        (r#"["agents","login"]"#, "revoke", Some(7)),
        (r#"["agents","login","ops"]"#, "admin", None),
    ] {
        let identity = house.identify(&house.key.token(&format!(r#","groups":{groups}"#))).unwrap();
        assert_eq!(identity.name(), "jwt:idp/ada");
        let names: Vec<String> = identity.grant().roles.iter().map(|role| role.to_string()).collect();
        assert_eq!((names.join(" ").as_str(), identity.grant().writes_per_minute), (roles, writes), "{groups}");
        assert!(identity.is_by_token());
    }
    for groups in [r#""op""#, r#""ops login""#, "[]", "{}", "1"] {
        assert_eq!(
            house.refused(&house.key.token(&format!(r#","groups":{groups}"#))),
            DenialReason::Unknown,
            "{groups}"
        );
    }
    assert_eq!(house.refused(&house.key.token("")), DenialReason::Unknown);
}

#[tokio::test(start_paused = true)]
async fn scopes_are_values_of_their_own() {
    let house = house().await;
    house.rewrite(&table("").replace("claim = 'groups'", "claim = 'scope'"));
    let identity = house.identify(&house.key.token(r#","scope":"openid login""#)).unwrap();
    assert!(identity.grant().roles.allow(Role::Revoke) && !identity.grant().roles.allow(Role::Admin));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_good_lets_nobody_in_whatever_is_beside_it() {
    let house = house().await;
    let more = r#","groups":"ops""#;
    let good = house.key.token(more);
    let forged = TestKey::new("k1").token(more);
    let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"k1"}"#;
    let of = |payload: String| house.key.token_of(header, &payload);
    let elsewhere = of(format!(r#"{{"iss":"{ISS}","aud":"x","sub":"ada","exp":{},"groups":"ops"}}"#, NOW + 9));
    let nobody = of(format!(r#"{{"iss":"{ISS}","aud":"api","exp":{},"groups":"ops"}}"#, NOW + 9));
    let expired = of(format!(r#"{{"iss":"{ISS}","aud":"api","sub":"ada","exp":{},"groups":"ops"}}"#, NOW - 61));
    let long = house.key.token_of(
        header,
        &format!(r#"{{"iss":"{ISS}","aud":"api","sub":"{}","exp":{},"groups":"ops"}}"#, "a".repeat(121), NOW + 9),
    );
    let bound = house.key.token(r#","groups":"ops","cnf":{"x5t#S256":"thumb"}"#);
    let id_token = house.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, &crate::token::testing::payload(more));
    let names = CertificateNames { uris: vec![], dns_names: vec!["gate.example".to_owned()] };
    for (token, reason) in [
        (forged.as_str(), DenialReason::Unknown),
        (elsewhere.as_str(), DenialReason::Unknown),
        (nobody.as_str(), DenialReason::Unknown),
        (long.as_str(), DenialReason::Unknown),
        (bound.as_str(), DenialReason::Unknown),
        (id_token.as_str(), DenialReason::Unknown),
        (expired.as_str(), DenialReason::Expired),
        ("a.b.c", DenialReason::Unknown),
        ("opaque", DenialReason::Malformed),
        ("rsc_0.0.0", DenialReason::Malformed),
    ] {
        assert_eq!(house.refused(token), reason, "{token}");
        // A1.
        let authorization = format!("Bearer {token}");
        let authorization = Some(authorization.as_bytes());
        let beside = Brought { certificate: Some(&names), authorization, ..Brought::default() };
        assert_eq!(house.access.identify(beside).unwrap_err().reason, reason, "{token}");
    }
    // A2.
    let authorization = format!("Bearer {good}");
    let two =
        Brought { certificate: Some(&names), authorization: Some(authorization.as_bytes()), ..Brought::default() };
    assert_eq!(house.access.identify(two).unwrap_err().reason, DenialReason::Conflict);
    assert!(house.identify(&good).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_here_or_of_which_that_cannot_be_told_lets_nobody_in() {
    let house = house().await;
    let token = house.key.token(r#","groups":"ops""#);
    house.revokes();
    assert_eq!(house.refused(&token), DenialReason::Unknown);
    *house.told.verdict.lock() = Verdict::Unknown(UnknownCause::Stale);
    let denial = house.identify(&token).unwrap_err();
    assert_eq!((denial.reason, denial.retry_after.is_some()), (DenialReason::Unclear, true));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_asked_for_once_and_unknown_keys_let_nobody_in() {
    let house = house().await;
    let newer = TestKey::new("k2");
    let token = newer.token(r#","groups":"ops""#);
    tokio::time::sleep(FORCED_EVERY).await;
    let denial = house.identify(&token).unwrap_err();
    assert_eq!((denial.reason, denial.keys_of.as_deref()), (DenialReason::Unknown, Some(ISS)));
    *house.told.keys.lock() = Some(newer.set());
    assert!(house.access.newer_keys(ISS).await);
    assert!(house.identify(&token).is_ok());
    assert_eq!(house.refused(&house.key.token(r#","groups":"ops""#)), DenialReason::Unknown, "its key was withdrawn");
    assert!(!house.access.newer_keys(ISS).await, "not so soon again");
    house.rewrite(&table("").replace("/keys'", "/elsewhere'"));
    *house.told.keys.lock() = None;
    let denial = house.identify(&token).unwrap_err();
    assert_eq!((denial.reason, denial.keys_of.as_deref()), (DenialReason::Unclear, Some(ISS)), "no keys at all");
}

#[tokio::test(start_paused = true)]
async fn whoever_was_let_in_is_out_once_his_token_expires_or_is_revoked_or_the_file_says_otherwise() {
    let house = house().await;
    let identity = house.identify(&house.key.token(r#","groups":"agents""#)).unwrap();
    let need = Call::Subscribe.need();
    assert_eq!(house.access.remaining(&identity), Some(Duration::from_secs(660)), "with the leeway");
    assert_eq!(house.access.renew(&identity, need).unwrap().name(), "jwt:idp/ada");

    *house.told.verdict.lock() = Verdict::Unknown(UnknownCause::Stale);
    assert!(house.access.renew(&identity, need).is_ok(), "he was let in, and nothing says that he must go");
    house.revokes();
    assert_eq!(house.access.renew(&identity, need).unwrap_err().reason, DenialReason::Unknown);
    *house.told.verdict.lock() = Verdict::NotRevoked;

    house.rewrite(&table("").replace("'agents'", "'others'"));
    assert_eq!(house.access.renew(&identity, need).unwrap_err().reason, DenialReason::Unknown);
    house.rewrite(&table("").replace("['subscribe']", "['check']"));
    assert!(matches!(house.access.renew(&identity, need).unwrap_err().reason, DenialReason::Role { .. }));
    house.rewrite(&table("").replace("audience = 'api'", "audience = 'x'"));
    assert_eq!(
        house.access.renew(&identity, need).unwrap_err().reason,
        DenialReason::Unknown,
        "trusted for other tokens"
    );
    house.rewrite("");
    assert_eq!(house.access.renew(&identity, need).unwrap_err().reason, DenialReason::Unknown);
    house.rewrite(&table(""));
    assert!(house.access.renew(&identity, need).is_ok());

    house.time.advance(Duration::from_secs(660));
    assert_eq!(house.access.renew(&identity, need).unwrap_err().reason, DenialReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn without_a_trusted_issuer_no_token_is_looked_at() {
    let house = house().await;
    let token = house.key.token(r#","groups":"ops""#);
    house.rewrite("[[principal]]\nname = 'gate'\ncertificate = 'dns:gate.example'\nroles = ['check']\n");
    assert_eq!(house.refused(&token), DenialReason::Malformed);
}
