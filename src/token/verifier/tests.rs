use parking_lot::Mutex;

use super::*;
use crate::clock::ManualTime;
use crate::revocation::VerificationPolicy;
use crate::revocation::ports::{Answer, Pending};
use crate::revocation::verification::KeySource;
use crate::revocation::{Cutoff, Hit, Position, Revision, Selector, TestedClaim, UnixMillis, UnknownCause};
use crate::token::KeySet;
use crate::token::keys::{Fetch, FetchError, Fetched, Fetching};
use crate::token::testing::{NOW, TestKey, issuer, payload};

/// A node whose policy and set are told what to say, and an issuer whose keys are.
struct Told {
    policy: Mutex<Option<Arc<VersionedPolicy>>>,
    revoked: Mutex<Vec<String>>,
    unknown: Mutex<Option<(UnknownCause, bool)>>,
    kid_seen: Mutex<Option<String>>,
    keys: Mutex<Option<String>>,
    /// Is done once, between looking the policy up and answering.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl VerificationPolicies for Told {
    fn current(&self) -> Option<Arc<VersionedPolicy>> {
        let found = self.policy.lock().clone();
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        found
    }

    fn changed(&self, _: Option<Arc<VersionedPolicy>>) -> Pending<'_, Option<Arc<VersionedPolicy>>> {
        Box::pin(std::future::pending())
    }
}

impl Checks for Told {
    fn check(&self, claims: &Claims, _: Option<Position>) -> Answer {
        *self.kid_seen.lock() = claims.value("header.kid").map(str::to_owned);
        let is_revoked = claims.value("jti").is_some_and(|jti| self.revoked.lock().iter().any(|one| one == jti));
        let (verdict, deny) = match self.unknown.lock().clone() {
            _ if is_revoked => {
                let shape = Selector::new([("jti", "x")], TestedClaim::Iat).unwrap().shape();
                (Verdict::Revoked(Hit { shape, cutoff: Cutoff::UNBOUNDED }), true)
            }
            Some((cause, deny)) => (Verdict::Unknown(cause), deny),
            None => (Verdict::NotRevoked, false),
        };
        let position = Position { epoch: [0; 16], revision: Revision(1) };
        Answer { verdict, deny, position, staleness: Duration::ZERO, beyond_horizon: false, untimed: false }
    }
}

impl Fetch for Told {
    fn get<'a>(&'a self, _: &'a str) -> Fetching<'a> {
        let keys = self.keys.lock().clone();
        Box::pin(async move {
            let body = keys.ok_or(FetchError::Unreachable("down".into()))?.into_bytes();
            Ok(Fetched { body, max_age: None })
        })
    }
}

fn class(name: &str, scopes: &[&str]) -> RouteClass {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    RouteClass { name: name.to_owned(), issuers: vec![], audiences: vec![], scopes, claims: vec![] }
}

fn bench(key: &TestKey) -> (Arc<Told>, Verifier) {
    let told = Arc::new(Told {
        policy: Mutex::default(),
        revoked: Mutex::default(),
        unknown: Mutex::default(),
        kid_seen: Mutex::default(),
        keys: Mutex::new(Some(key.set())),
        meanwhile: Mutex::default(),
    });
    told.apply(1, vec![class("orders", &["orders.read"]), class("open", &[])]);
    let keys = KeyRing::new(told.clone(), tokio::runtime::Handle::current());
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(NOW * 1000)));
    let verifier = Verifier::new(told.clone(), told.clone(), keys, clock);
    (told, verifier)
}

impl Told {
    fn apply(&self, version: u64, classes: Vec<RouteClass>) {
        let at = KeySource::Url("https://issuer.example/keys".into());
        let policy = VerificationPolicy::new(vec![issuer(at)], classes).unwrap();
        *self.policy.lock() = Some(Arc::new(VersionedPolicy { version, policy }));
    }
}

async fn reason(verifier: &Verifier, bearer: Bearer<'_>, class: &str) -> String {
    match verifier.decide(bearer, Some(class)).await {
        Decision::Allowed(_) => "allowed".to_owned(),
        Decision::Denied(denied) => format!("{} {}", denied.challenge.status, denied.reason.name()),
        Decision::Unclear(unclear) => unclear.name().to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_genuine_token_that_is_not_revoked_is_allowed_and_says_whose_it_is() {
    let key = TestKey::new("k1");
    let (told, verifier) = bench(&key);
    let token = key.token(r#","jti":"7","scope":"orders.read x orders.read","azp":"app""#);
    let Decision::Allowed(allowed) = verifier.decide(Bearer::Token(&token), Some("orders")).await else {
        panic!("not allowed");
    };
    assert_eq!((allowed.subject.as_deref(), allowed.client_id.as_deref()), (Some("ada"), Some("app")));
    assert_eq!(allowed.scopes, ["orders.read", "x"]);
    assert_eq!(allowed.expires_at, Some(UnixSeconds(NOW + 600)));
    assert!(allowed.payload.contains(r#""jti":"7""#) && !format!("{allowed:?}").contains("ada"));
    assert_eq!(told.kid_seen.lock().as_deref(), Some("k1"));
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "allowed");
}

#[tokio::test(start_paused = true)]
async fn every_other_token_is_denied() {
    let key = TestKey::new("k1");
    let (told, verifier) = bench(&key);
    let good = key.token(r#","jti":"7","scope":"orders.read""#);
    assert_eq!(reason(&verifier, Bearer::Token(&good), "orders").await, "allowed");
    told.revoked.lock().push("7".to_owned());
    for (bearer, expected) in [
        (Bearer::Token(&good), "401 revoked"),
        (Bearer::Token(&key.token(r#","jti":"7""#)), "401 revoked"),
        (Bearer::Missing, "401 missing"),
        (Bearer::Unreadable, "400 unreadable"),
        (Bearer::Token(&key.token("")), "403 scope"),
        (Bearer::Token(&TestKey::new("k1").token("")), "401 signature"),
        (Bearer::Token("opaque"), "401 not_signed"),
        (Bearer::Token("a.b.c"), "401 malformed"),
    ] {
        assert_eq!(reason(&verifier, bearer, "orders").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_never_allowed_unless_policy_says_so() {
    let key = TestKey::new("k1");
    let (told, verifier) = bench(&key);
    let token = key.token(r#","jti":"7""#);
    assert_eq!(reason(&verifier, Bearer::Token(&token), "no-such-class").await, "NO_SUCH_CLASS");
    *told.unknown.lock() = Some((UnknownCause::Stale, true));
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "STALE");
    told.revoked.lock().push("7".to_owned());
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "401 revoked", "a hit counts all the same");
    told.revoked.lock().clear();
    *told.unknown.lock() = Some((UnknownCause::BeyondHorizon, false));
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "allowed");
    *told.policy.lock() = None;
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "NO_POLICY");
    assert_eq!(reason(&verifier, Bearer::Missing, "open").await, "401 missing", "that needs no policy");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_new_at_the_issuer_is_fetched_once_and_then_known() {
    let (old, new) = (TestKey::new("old"), TestKey::new("new"));
    let (told, verifier) = bench(&old);
    assert_eq!(reason(&verifier, Bearer::Token(&old.token("")), "open").await, "allowed");
    *told.keys.lock() = Some(new.set());
    assert_eq!(
        reason(&verifier, Bearer::Token(&new.token("")), "open").await,
        "401 unknown_key",
        "too soon to ask again"
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(reason(&verifier, Bearer::Token(&new.token("")), "open").await, "allowed");
    assert_eq!(reason(&verifier, Bearer::Token(&old.token("")), "open").await, "401 unknown_key");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_was_never_reached_makes_it_unclear_and_comes_back() {
    let key = TestKey::new("k1");
    let (told, verifier) = bench(&key);
    *told.keys.lock() = None;
    let token = key.token("");
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "NO_KEYS");
    *told.keys.lock() = Some(key.set());
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "allowed");
    assert!(KeySet::parse(key.set().as_bytes()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_holds_from_the_next_token_on() {
    let key = TestKey::new("k1");
    let (told, verifier) = bench(&key);
    let token = key.token("");
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "allowed");
    told.apply(2, vec![class("open", &["now.needed"])]);
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "403 scope");
    *told.policy.lock() = Some(Arc::new(VersionedPolicy {
        version: 3,
        policy: VerificationPolicy::new(vec![], vec![class("open", &[])]).unwrap(),
    }));
    assert_eq!(reason(&verifier, Bearer::Token(&token), "open").await, "401 issuer");
}

#[tokio::test(start_paused = true)]
async fn another_policy_of_the_same_version_is_followed_too() {
    // As after a restore, whose history goes on from its backup's.
    let (told, verifier) = bench(&TestKey::new("k1"));
    told.apply(2, vec![class("open", &[])]);
    assert_eq!(reason(&verifier, Bearer::Token(&TestKey::new("k1").token("")), "open").await, "401 signature");
    let other = VerificationPolicy::new(vec![], vec![class("open", &[])]).unwrap();
    *told.policy.lock() = Some(Arc::new(VersionedPolicy { version: 2, policy: other }));
    assert!(verifier.policy().is_some_and(|current| current.policy.issuers().is_empty()));
    assert_eq!(verifier.keys().status(), []);
}

#[tokio::test(start_paused = true)]
async fn whoever_read_an_older_policy_does_not_take_the_keys_back_to_it() {
    let (told, verifier) = bench(&TestKey::new("k1"));
    verifier.policy().unwrap();
    let (node, faster) = (Arc::clone(&told), verifier.clone());
    *told.meanwhile.lock() = Some(Box::new(move || {
        let nobody = VerificationPolicy::new(vec![], vec![]).unwrap();
        *node.policy.lock() = Some(Arc::new(VersionedPolicy { version: 2, policy: nobody }));
        faster.policy().unwrap();
    }));
    verifier.policy().unwrap();
    assert_eq!(verifier.keys().status(), [], "the newer policy has no issuer");
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_verified_is_judged_and_checked_without_its_signature() {
    let key = TestKey::new("k1");
    let (told, verifier) = bench(&key);
    let json = payload(r#","jti":"7""#);
    assert_eq!(reason(&verifier, Bearer::Verified(&json), "open").await, "allowed");
    assert_eq!(*told.kid_seen.lock(), None);
    told.revoked.lock().push("7".to_owned());
    assert_eq!(reason(&verifier, Bearer::Verified(&json), "open").await, "401 revoked");
    assert_eq!(reason(&verifier, Bearer::Verified(&json), "orders").await, "401 revoked", "whatever it would reach");
    told.revoked.lock().clear();
    assert_eq!(reason(&verifier, Bearer::Verified(&json), "orders").await, "403 scope");
    assert_eq!(reason(&verifier, Bearer::Verified("{"), "open").await, "401 malformed");
}

#[test]
fn one_bearer_token_in_one_header_is_a_token() {
    let of = |values: &[&'static str]| Bearer::of(values.iter().map(|value| value.as_bytes()));
    assert_eq!(of(&[]), Bearer::Missing);
    for value in ["Bearer abc", "bearer abc", "BEARER   abc "] {
        assert_eq!(of(&[value]), Bearer::Token("abc"), "{value}");
    }
    for value in ["Basic abc", "Bearerabc", "", "DPoP abc"] {
        assert_eq!(of(&[value]), Bearer::Missing, "{value}");
    }
    for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer é", "Bearer a\tb"] {
        assert_eq!(of(&[value]), Bearer::Unreadable, "{value}");
    }
    assert_eq!(of(&["Bearer abc", "Bearer abc"]), Bearer::Unreadable);
    assert_eq!(Bearer::of([&b"Bearer \xff"[..]].into_iter()), Bearer::Unreadable);
}
