//! Whether a token is genuine, keys that issuers publish, and the policy that says whose tokens count.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use rescind::fuzzing;
use rescind::revocation::verification::{
    Algorithm, CLASSES_MAX, ISSUERS_MAX, Issuer, KeySource, RouteClass, TokenType, is_key_url,
};
use rescind::revocation::{Claims, UnixSeconds, VerificationPolicy};
use rescind::token::{
    KEY_SET_BYTES_MAX, KEYS_MAX, KeySet, Refused, Rules, TokenParser, claimed_issuer, judge_verified,
    verify as verify_token,
};
use serde_json::Value;

use super::input::Input;
use super::note_accepted;

const ISS: &str = "https://issuer.example";
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const LEEWAY_SECONDS: u16 = 60;

/// The keys of [`SIGNED`]; their private halves signed nothing else.
pub const KEYS: &str = r#"{"keys":[{"kid":"ed","x":"6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw","kty":"OKP","crv":"Ed25519"},{"kty":"EC","crv":"P-256","x":"-evkZBR8wQLZIyTQmdknwaUOQtV6CKEW_-wKKYGdjGU","y":"cLr30SiIkCpqDB1nrdEDEjyFmrab-OlDHJOEkw1Lfu4"}]}"#;

/// By EdDSA with `kid`, and by ES256 without.
pub const SIGNED: [&str; 2] = [
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIiwidHlwIjoiYXQrand0In0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImFwaSIsIngiXSwic3ViIjoiYWRhIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDA2MDAsInNjb3BlIjoicmVhZCB3cml0ZSIsInRlbmFudCI6N30.W8Wb5HIp2y4WyJ7AL9PArbIxaRyM6irpJQnJEiHvJ2dDFdHZIzhGo9BKQx_1K6uZ0La-GoYFYMHs4QWMHWGFDg",
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImFwaSIsIngiXSwic3ViIjoiYWRhIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDA2MDAsInNjcCI6WyJyZWFkIl0sIm5iZiI6MTcwMDAwMDAwMC41fQ.AVtajexQ3C_lgU3usZ4xLlk0KPOA_GSEwJwArZQ3c5-U4OAyqaQ4VWD6PwXzNmDE376Tdg0ooz07WsYHN5sSBg",
];

struct Bench {
    policy: VerificationPolicy,
    keys: Arc<KeySet>,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| Bench {
    policy: sample_policy(),
    keys: Arc::new(KeySet::parse(KEYS.as_bytes()).expect("two sound keys")),
});

/// An issuer whose tokens may have any algorithm, and a class that asks for the scope `read`.
pub fn sample_policy() -> VerificationPolicy {
    let issuer = Issuer {
        iss: ISS.to_owned(),
        audiences: vec!["api".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        types: TokenType::ALL.to_vec(),
        leeway_seconds: LEEWAY_SECONDS,
        keys: KeySource::Inline(KEYS.to_owned()),
    };
    let scopes = vec!["read".to_owned()];
    let class = RouteClass { name: "orders".into(), issuers: vec![], audiences: vec![], scopes, claims: vec![] };
    VerificationPolicy::new(vec![issuer], vec![class]).expect("a sound policy")
}

/// A parser and claims that are used again and again, as each thread of a server does.
fn with_parser(work: impl FnOnce(&mut TokenParser, &mut Claims)) {
    thread_local! {
        static REUSED: RefCell<(TokenParser, Claims)> = RefCell::default();
    }
    REUSED.with_borrow_mut(|(parser, claims)| work(parser, claims));
}

fn judge(parser: &mut TokenParser, claims: &mut Claims, token: &[u8], keys: &Arc<KeySet>) -> Result<(), Refused> {
    let Bench { policy, .. } = &*BENCH;
    let rules = Rules { policy, class: policy.class("orders"), now: NOW };
    verify_token(parser, claims, token, &rules, |_| Some(Arc::clone(keys))).map(|verified| {
        assert_eq!(verified.issuer.iss, ISS);
    })
}

/// A token; or, from its brace on, the payload of one that a proxy verified.
pub fn verify(bytes: &[u8]) {
    if bytes.first() == Some(&b'{') {
        return verified(bytes);
    }
    with_parser(|parser, claims| match judge(parser, claims, bytes, &BENCH.keys) {
        Ok(()) => {
            note_accepted();
            let message = |token: &[u8]| token.rsplitn(2, |byte| *byte == b'.').nth(1).map(<[u8]>::to_vec);
            let is_signed = SIGNED.iter().any(|signed| message(signed.as_bytes()) == message(bytes));
            assert!(is_signed, "a token that nobody signed");
            assert_eq!(claims.value("sub"), Some("ada"));
        }
        Err(refused) => {
            assert!(!refused.to_string().is_empty());
            assert!(claims.value("iss").is_none() && claims.exp.is_none(), "what is refused leaves no claims behind");
            if let Some(issuer) = claimed_issuer(parser, claims, bytes, &BENCH.policy) {
                assert_eq!(issuer.iss, ISS);
            }
        }
    });
}

/// Compared with another reader of JSON.
fn verified(payload: &[u8]) {
    let Bench { policy, .. } = &*BENCH;
    let rules = Rules { policy, class: policy.class("orders"), now: NOW };
    with_parser(|parser, claims| {
        if parser.parse_claims(claims, payload, None).is_err()
            || judge_verified(parser, claims, payload, &rules).is_err()
        {
            return;
        }
        note_accepted();
        // Another reader may refuse a number that is too large for it, nothing else.
        let Ok(other) = serde_json::from_slice::<Value>(payload) else { return };
        assert_eq!(other["iss"], ISS);
        let is_meant = match &other["aud"] {
            Value::String(one) => one == "api",
            Value::Array(several) => several.iter().any(|one| one == "api"),
            _ => false,
        };
        assert!(is_meant, "it is for somebody else");
        let time = |name: &str| other[name].as_f64();
        let (now, leeway) = (NOW.0 as f64, f64::from(LEEWAY_SECONDS));
        assert!(time("exp").is_some_and(|exp| exp > now - leeway), "it has expired");
        for name in ["nbf", "iat"] {
            assert!(time(name).is_none_or(|time| time < now + leeway + 1.0), "it is not valid yet");
        }
    });
}

/// A key set, with which a sound token is judged.
pub fn key_set(bytes: &[u8]) {
    let Ok(keys) = KeySet::parse(bytes) else { return };
    note_accepted();
    assert!((1..=KEYS_MAX).contains(&keys.count()) && bytes.len() <= KEY_SET_BYTES_MAX);
    let keys = Arc::new(keys);
    for token in SIGNED {
        with_parser(|parser, claims| {
            let judged = judge(parser, claims, token.as_bytes(), &keys);
            assert!(matches!(judged, Ok(()) | Err(Refused::UnknownKey | Refused::Signature)), "{judged:?}");
        });
    }
}

/// An issuer's name as a block, then what it publishes.
pub fn discovery(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let iss = String::from_utf8_lossy(input.block()).into_owned();
    let places = fuzzing::discovery_places(&iss);
    assert!(!is_key_url(&iss) || places.iter().all(|place| place.contains("/.well-known/o")));
    let document = input.take(usize::MAX);
    if let Some(place) = fuzzing::discovered_keys(&iss, document) {
        note_accepted();
        assert!(is_key_url(&place), "keys that came in clear are anybody's");
        assert!(place.starts_with("https://") || !iss.starts_with("https://"));
        // It may refuse a number that is too large for it, which the product skips.
        let Ok(other) = serde_json::from_slice::<Value>(document) else { return };
        assert_eq!((&other["issuer"], &other["jwks_uri"]), (&Value::from(iss), &Value::from(place)));
    }
}

pub fn policy(bytes: &[u8]) {
    if let Ok(policy) = VerificationPolicy::decode(bytes) {
        note_accepted();
        assert_eq!(policy.encode(), bytes);
        assert!(policy.issuers().len() <= ISSUERS_MAX && policy.classes().len() <= CLASSES_MAX);
        let again = VerificationPolicy::new(policy.issuers().to_vec(), policy.classes().to_vec());
        assert_eq!(again, Ok(policy), "what is read keeps the rules of what is written");
    }
}
