use std::sync::Arc;

use super::*;
use crate::revocation::verification::{KeySource, RequiredClaim};
use crate::token::testing::{ISS, NOW, TestKey, encode, issuer, payload};

struct Bench {
    key: TestKey,
    keys: Arc<KeySet>,
    policy: VerificationPolicy,
    class: Option<RouteClass>,
    now: UnixSeconds,
}

fn class() -> RouteClass {
    RouteClass { name: "orders".into(), issuers: vec![], audiences: vec![], scopes: vec![], claims: vec![] }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Issuer)) -> Self {
        let key = TestKey::new("k1");
        let keys = Arc::new(KeySet::parse(key.set().as_bytes()).unwrap());
        let mut issuer = issuer(KeySource::Discovery);
        change(&mut issuer);
        let policy = VerificationPolicy::new(vec![issuer], vec![]).unwrap();
        Self { key, keys, policy, class: None, now: UnixSeconds(NOW) }
    }

    fn verify_into(&self, claims: &mut Claims, token: &str) -> Result<(), Refused> {
        let rules = Rules { policy: &self.policy, class: self.class.as_ref(), now: self.now };
        let keys = |_: &Issuer| Some(Arc::clone(&self.keys));
        verify(&mut TokenParser::new(), claims, token.as_bytes(), &rules, keys).map(|verified| {
            assert_eq!(verified.issuer.iss, ISS);
        })
    }

    fn verify(&self, token: &str) -> Result<(), Refused> {
        let mut claims = Claims::new();
        let verified = self.verify_into(&mut claims, token);
        assert_eq!(claims.value("iss").is_some(), verified.is_ok(), "claims of a refused token stay behind");
        verified
    }

    /// What becomes of a token with this header.
    fn header(&self, header: &str) -> Result<(), Refused> {
        self.verify(&self.key.token_of(header, &payload("")))
    }

    /// What becomes of a token with this payload.
    fn payload(&self, payload: &str) -> Result<(), Refused> {
        self.verify(&self.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, payload))
    }
}

#[test]
fn a_good_token_is_accepted_and_its_key_is_named() {
    let bench = Bench::new();
    let mut claims = Claims::new();
    assert_eq!(bench.verify_into(&mut claims, &bench.key.token(r#","jti":"7""#)), Ok(()));
    assert_eq!((claims.value("jti"), claims.value("header.kid")), (Some("7"), Some("k1")));
}

#[test]
fn a_key_is_named_by_the_set_and_not_by_the_token() {
    let mut bench = Bench::new();
    let nameless = bench.key.set().replace(r#""kid":"k1","#, "");
    bench.keys = Arc::new(KeySet::parse(nameless.as_bytes()).unwrap());
    let mut claims = Claims::new();
    let token = bench.key.token_of(r#"{"alg":"ES256"}"#, &payload(""));
    assert_eq!(bench.verify_into(&mut claims, &token), Ok(()));
    assert_eq!(claims.value("header.kid"), None);
    assert_eq!(bench.verify(&bench.key.token("")), Err(Refused::UnknownKey), "there is no key of that name");
}

#[test]
fn no_signature_and_no_other_algorithm_is_accepted() {
    let bench = Bench::new();
    for alg in ["none", "None", "NONE", "HS256", "RS256", "ES384", "es256", "EdDSA", "", "ES256 "] {
        assert_eq!(bench.header(&format!(r#"{{"alg":"{alg}","kid":"k1"}}"#)), Err(Refused::Algorithm), "{alg}");
    }
    assert_eq!(bench.header(r#"{"kid":"k1"}"#), Err(Refused::Algorithm));
    let unsigned = format!("{}.{}.", encode(br#"{"alg":"none"}"#), encode(payload("").as_bytes()));
    assert_eq!(bench.verify(&unsigned), Err(Refused::Algorithm));
    let cut = bench.key.token("");
    let cut = &cut[..=cut.rfind('.').unwrap()];
    assert_eq!(bench.verify(cut), Err(Refused::Signature));
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    // Whoever pins RS256 has HS256 refused before a key is looked for; the set holds no symmetric key either.
    let rsa = include_str!("../key_set/rfc7515_a2.json");
    let mut bench = Bench::with(|issuer| issuer.algorithms = vec![Algorithm::RS256]);
    bench.keys = Arc::new(KeySet::parse(rsa.as_bytes()).unwrap());
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(payload("").as_bytes()));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, rsa.as_bytes());
    let token = format!("{message}.{}", encode(ring::hmac::sign(&secret, message.as_bytes()).as_ref()));
    assert_eq!(bench.verify(&token), Err(Refused::Algorithm));
}

#[test]
fn a_signature_that_is_not_the_keys_is_refused() {
    let bench = Bench::new();
    let good = bench.key.token("");
    let (message, signature) = good.rsplit_once('.').unwrap();
    let signed = |bytes: &[u8]| format!("{message}.{}", encode(bytes));
    assert_eq!(bench.verify(&signed(&[0; 64])), Err(Refused::Signature), "r = s = 0");
    for length in [0, 1, 63, 65, 70, 1000] {
        assert_eq!(bench.verify(&signed(&vec![7; length])), Err(Refused::Signature), "{length} bytes");
    }
    let other = TestKey::new("k1").token("");
    assert_eq!(bench.verify(&other), Err(Refused::Signature));
    let swapped = format!("{}.{signature}", bench.key.token(r#","sub2":1"#).rsplit_once('.').unwrap().0);
    assert_eq!(bench.verify(&swapped), Err(Refused::Signature));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let bench = Bench::new();
    let good = bench.key.token("");
    for bad in [format!("{good}="), format!("{good}\n"), format!(" {good}"), good.replacen('.', "=.", 1)] {
        assert!(matches!(bench.verify(&bad), Err(Refused::Malformed(_))), "{bad}");
    }
    // The last symbol of a 64-byte signature has four bits of its own: others decode to the same bytes for a lenient reader.
    let (start, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    let same = format!("{start}{}", &alphabet[index + 1..=index + 1]);
    assert!(matches!(bench.verify(&same), Err(Refused::Malformed(TokenError::Base64 { .. }))));
    let twice = payload("").replace(r#""sub":"ada""#, r#""sub":"ada","sub":"eve""#);
    assert!(matches!(bench.payload(&twice), Err(Refused::Malformed(TokenError::Claims(_)))));
    assert!(matches!(bench.header(r#"{"alg":"ES256","alg":"none","kid":"k1"}"#), Err(Refused::Malformed(_))));
}

#[test]
fn extensions_nested_and_encrypted_tokens_are_refused() {
    let bench = Bench::new();
    for more in [r#""crit":["exp"]"#, r#""crit":[]"#, r#""b64":false"#, r#""crit":["b64"],"b64":false"#] {
        assert_eq!(bench.header(&format!(r#"{{"alg":"ES256","kid":"k1",{more}}}"#)), Err(Refused::Extended), "{more}");
    }
    assert_eq!(bench.header(r#"{"alg":"ES256","kid":"k1","cty":"JWT"}"#), Err(Refused::Nested));
    for token in ["a.b.c.d.e", "opaque", "a.b", "a.b.c.d"] {
        assert_eq!(bench.verify(token), Err(Refused::NotSigned), "{token}");
    }
}

#[test]
fn keys_that_a_token_brings_are_not_looked_at() {
    let bench = Bench::new();
    let thief = TestKey::new("k1");
    for more in [
        format!(r#""jwk":{}"#, thief.jwk()),
        r#""jku":"https://evil.example/keys""#.to_owned(),
        r#""x5u":"https://evil.example/cert""#.to_owned(),
        r#""x5c":["MIIB"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"k1",{more}}}"#);
        assert_eq!(bench.verify(&thief.token_of(&header, &payload(""))), Err(Refused::Signature), "{more}");
        assert_eq!(bench.header(&header), Ok(()), "{more}");
    }
}

#[test]
fn a_kid_is_a_name_and_nothing_else() {
    let bench = Bench::new();
    let kids =
        ["../../../../dev/null", "k1' OR '1'='1", "/etc/passwd", "K1", "k1\\u0000", "https://evil.example/", "", "k1/"];
    for kid in kids {
        assert_eq!(bench.header(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)), Err(Refused::UnknownKey), "{kid}");
    }
    let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(2000));
    assert_eq!(bench.header(&long), Err(Refused::Member(Part::Header)));
}

#[test]
fn times_are_judged_with_the_leeway_of_the_issuer() {
    let bench = Bench::new();
    let with = |exp: i64, nbf: &str, iat: &str| {
        let exp = NOW as i64 + exp;
        bench.payload(&format!(r#"{{"iss":"{ISS}","aud":"api","exp":{exp}{nbf}{iat}}}"#))
    };
    assert_eq!(with(1, "", ""), Ok(()));
    assert_eq!(with(-59, "", ""), Ok(()), "within the leeway");
    assert_eq!(with(-60, "", ""), Err(Refused::Expired));
    let at = |name: &str, offset: i64| format!(r#","{name}":{}"#, NOW as i64 + offset);
    assert_eq!(with(600, &at("nbf", 60), ""), Ok(()));
    assert_eq!(with(600, &at("nbf", 61), ""), Err(Refused::NotYet));
    assert_eq!(with(600, "", &at("iat", 60)), Ok(()));
    assert_eq!(with(600, "", &at("iat", 61)), Err(Refused::NotYet));
    assert_eq!(with(600, r#","nbf":1e99"#, ""), Err(Refused::NotYet));
    assert_eq!(with(600, r#","nbf":"soon""#, ""), Err(Refused::Member(Part::Payload)));
    assert_eq!(bench.payload(&format!(r#"{{"iss":"{ISS}","aud":"api"}}"#)), Err(Refused::Expired), "exp is missing");
    assert_eq!(bench.payload(&format!(r#"{{"iss":"{ISS}","aud":"api","exp":-1}}"#)), Err(Refused::Expired));
    assert_eq!(
        bench.payload(&format!(r#"{{"iss":"{ISS}","aud":"api","exp":"9"}}"#)),
        Err(Refused::Member(Part::Payload))
    );
}

#[test]
fn only_whom_the_policy_names_is_an_issuer_or_an_audience() {
    let bench = Bench::new();
    for iss in [r#""https://issuer.example/""#, r#""https://evil.example""#, r#""""#, r#""HTTPS://issuer.example""#] {
        let payload = payload("").replace(&format!("\"{ISS}\""), iss);
        assert_eq!(bench.payload(&payload), Err(Refused::Issuer), "{iss}");
    }
    assert_eq!(bench.payload(&format!(r#"{{"aud":"api","exp":{}}}"#, NOW + 9)), Err(Refused::Issuer));
    for (aud, expected) in [
        (r#""api""#, Ok(())),
        (r#"["x","api"]"#, Ok(())),
        (r#""x""#, Err(Refused::Audience)),
        (r#"["x"]"#, Err(Refused::Audience)),
        ("[]", Err(Refused::Audience)),
        (r#""API""#, Err(Refused::Audience)),
        ("null", Err(Refused::Member(Part::Payload))),
    ] {
        let payload = payload("").replace(r#""aud":"api""#, &format!(r#""aud":{aud}"#));
        assert_eq!(bench.payload(&payload), expected, "{aud}");
    }
}

#[test]
fn the_type_must_be_one_that_the_issuer_may_use() {
    let bench = Bench::with(|issuer| issuer.types = vec![TokenType::AccessToken]);
    for (typ, expected) in [
        (r#""typ":"at+jwt","#, Ok(())),
        (r#""typ":"application/AT+JWT","#, Ok(())),
        (r#""typ":"JWT","#, Err(Refused::Type)),
        (r#""typ":"logout+jwt","#, Err(Refused::Type)),
        ("", Err(Refused::Type)),
    ] {
        assert_eq!(bench.header(&format!(r#"{{{typ}"alg":"ES256","kid":"k1"}}"#)), expected, "{typ}");
    }
}

#[test]
fn a_class_asks_for_more() {
    let mut bench = Bench::new();
    let asks = |change: &dyn Fn(&mut RouteClass)| {
        let mut asked = class();
        change(&mut asked);
        Some(asked)
    };
    bench.class = asks(&|class| class.scopes = vec!["read".into(), "write".into()]);
    for (scope, expected) in [
        (r#","scope":"write x read""#, Ok(())),
        (r#","scp":["read","write"]"#, Ok(())),
        (r#","scp":"read write""#, Ok(())),
        (r#","scope":"read""#, Err(Refused::Scope)),
        (r#","scope":"readwrite""#, Err(Refused::Scope)),
        (r#","scope":["read","write"]"#, Ok(())),
        (r#","scope":{"read":"write"}"#, Err(Refused::Scope)),
        ("", Err(Refused::Scope)),
    ] {
        assert_eq!(bench.payload(&payload(scope)), expected, "{scope}");
    }
    let claim = |name: &str, values: &[&str]| RequiredClaim {
        name: name.into(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    bench.class = asks(&|class| class.claims = vec![claim("tenant_id", &["7", "8"]), claim("cnf.jkt", &[])]);
    for (claims, expected) in [
        (r#","tenant_id":7,"cnf":{"jkt":"x"}"#, Ok(())),
        (r#","tenant_id":["9","8"],"cnf.jkt":"x""#, Ok(())),
        (r#","tenant_id":9,"cnf":{"jkt":"x"}"#, Err(Refused::Claim)),
        (r#","tenant_id":7"#, Err(Refused::Claim)),
        (r#","tenant_id":7,"cnf":{"jkt":""}"#, Err(Refused::Claim)),
    ] {
        assert_eq!(bench.payload(&payload(claims)), expected, "{claims}");
    }
    bench.class = asks(&|class| class.audiences = vec!["billing".into()]);
    assert_eq!(bench.payload(&payload("")), Err(Refused::Audience));
    bench.class = asks(&|class| class.issuers = vec!["https://other.example".into()]);
    assert_eq!(bench.payload(&payload("")), Err(Refused::Issuer));
}

#[test]
fn without_keys_nothing_is_known() {
    let bench = Bench::new();
    let rules = Rules { policy: &bench.policy, class: None, now: bench.now };
    let token = bench.key.token("");
    let none = |_: &Issuer| None::<Arc<KeySet>>;
    let (mut parser, mut claims) = (TokenParser::new(), Claims::new());
    let refused = verify(&mut parser, &mut claims, token.as_bytes(), &rules, none).map(|_| ());
    assert_eq!(refused, Err(Refused::NoKeys));
    let claimed = claimed_issuer(&mut parser, &mut claims, token.as_bytes(), &bench.policy);
    assert_eq!(claimed.map(|issuer| issuer.iss.as_str()), Some(ISS));
}

#[test]
fn what_a_proxy_verified_is_still_judged() {
    let bench = Bench::new();
    let judge = |payload: &str| {
        let (mut parser, mut claims) = (TokenParser::new(), Claims::new());
        parser.parse_claims(&mut claims, payload.as_bytes(), None).unwrap();
        let rules = Rules { policy: &bench.policy, class: None, now: bench.now };
        judge_verified(&mut parser, &claims, payload.as_bytes(), &rules).map(|_| ())
    };
    assert_eq!(judge(&payload("")), Ok(()));
    assert_eq!(judge(&payload("").replace(ISS, "https://evil.example")), Err(Refused::Issuer));
    assert_eq!(judge(&payload("").replace("api", "other")), Err(Refused::Audience));
    assert_eq!(judge(&format!(r#"{{"iss":"{ISS}","aud":"api","exp":{}}}"#, NOW - 600)), Err(Refused::Expired));
    assert_eq!(judge(&format!(r#"{{"iss":"{ISS}","aud":"api","exp":"1"}}"#)), Err(Refused::Member(Part::Payload)));
}
