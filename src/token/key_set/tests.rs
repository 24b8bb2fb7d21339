use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::token::testing::TestKey;

fn parse(json: &str) -> Result<KeySet, KeySetError> {
    KeySet::parse(json.as_bytes())
}

fn set(keys: &[&str]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// Whether a token of an RFC is signed by a key of the set.
fn verifies(json: &str, algorithm: Algorithm, kid: Option<&str>, token: &str) -> bool {
    let keys = parse(json).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    keys.candidates(algorithm, kid).any(|key| key.verifies(algorithm, message.as_bytes(), &signature))
}

const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn the_rs256_example_of_rfc_7515_a_2_verifies() {
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let set = include_str!("rfc7515_a2.json");
    let token = format!("eyJhbGciOiJSUzI1NiJ9.{PAYLOAD}.{signature}");
    assert!(verifies(set, Algorithm::RS256, None, &token));
    assert!(!verifies(set, Algorithm::RS512, None, &token) && !verifies(set, Algorithm::PS256, None, &token));
    assert!(!verifies(set, Algorithm::RS256, None, &token.replacen("eyJhbGci", "eyJhbGcj", 1)));
    let exponent = set.replace(r#""e":"AQAB""#, r#""e":"AAEAAQ""#);
    assert!(verifies(&exponent, Algorithm::RS256, None, &token), "some write zeros in front");
}

#[test]
fn the_es256_example_of_rfc_7515_a_3_verifies() {
    let key = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let token = format!("eyJhbGciOiJFUzI1NiJ9.{PAYLOAD}.{signature}");
    assert!(verifies(&set(&[key]), Algorithm::ES256, None, &token));
    assert!(!verifies(&set(&[key]), Algorithm::ES384, None, &token));
}

#[test]
fn the_eddsa_example_of_rfc_8037_a_4_verifies() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(verifies(&set(&[key]), Algorithm::EdDSA, None, token));
}

#[test]
fn the_public_keys_of_rfc_7517_a_1_are_told_apart() {
    // The first is for encryption, the second for RS256.
    let ec = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}"#;
    let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    let keys = parse(&set(&[ec, rsa])).unwrap();
    assert_eq!(keys.count(), 1);
    let named = |algorithm, kid| keys.candidates(algorithm, kid).count();
    assert_eq!(named(Algorithm::RS256, Some("2011-04-29")), 1);
    assert_eq!(named(Algorithm::RS256, None), 1);
    assert_eq!(named(Algorithm::RS512, Some("2011-04-29")), 0, "the key is for RS256 only");
    assert_eq!(named(Algorithm::ES256, Some("1")), 0);
}

#[test]
fn keys_of_no_use_are_passed_over_and_do_not_spoil_the_set() {
    let good = TestKey::new("good").jwk();
    let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
    let weak = format!(r#"{{"kty":"RSA","n":"{short}","e":"AQAB"}}"#);
    let padded_weak = format!(
        r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#,
        URL_SAFE_NO_PAD.encode([vec![0; 200], vec![0xff; 128]].concat())
    );
    let useless = [
        r#"{"kty":"oct","k":"AAAA","alg":"HS256"}"#,
        r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#,
        r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
        r#"{"kty":"EC","crv":"P-256","x":"!!","y":"AA"}"#,
        r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
        r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#,
        r#"{"kty":7}"#,
        "7",
        "{}",
        &weak,
        &padded_weak,
        &good.replace(r#""kid""#, r#""key_ops":["sign"],"kid""#),
        &good.replace(r#""kid""#, r#""use":"enc","kid""#),
        &good.replace(r#""kid""#, r#""alg":"ES384","kid""#),
        &good.replace(r#""kid""#, r#""alg":"HS256","kid""#),
        &good.replace(r#""kid""#, r#""alg":"ECDH-ES","kid""#),
    ];
    for key in useless {
        let with = parse(&set(&[key, &good])).unwrap();
        assert_eq!(with.count(), 1, "{key}");
        assert_eq!(parse(&set(&[key])).unwrap_err(), KeySetError::NoneUsable { keys: 1 }, "{key}");
    }
    for more in [r#""use":"sig","#, r#""key_ops":["verify"],"#, r#""alg":"ES256","#, r#""x5c":["x"],"#, r#""d":"x","#] {
        assert_eq!(
            parse(&set(&[&good.replacen('{', &format!("{{{more}"), 1)])).map(|keys| keys.count()),
            Ok(1),
            "{more}"
        );
    }
}

#[test]
fn a_set_has_limits_and_a_form() {
    let good = TestKey::new("k").jwk();
    let many = vec![good.as_str(); 10_000];
    assert_eq!(parse(&set(&many[..KEYS_MAX])).map(|keys| keys.count()), Ok(KEYS_MAX));
    assert_eq!(parse(&set(&many[..KEYS_MAX + 1])).unwrap_err(), KeySetError::TooMany { keys: KEYS_MAX + 1 });
    let ten_thousand = set(&many);
    assert_eq!(parse(&ten_thousand).unwrap_err(), KeySetError::TooLong { bytes: ten_thousand.len() });
    let small = set(&vec!["{}"; 10_000]);
    assert_eq!(parse(&small).unwrap_err(), KeySetError::TooMany { keys: 10_000 });
    for json in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>", r#"{"keys":[]"#] {
        assert!(matches!(parse(json), Err(KeySetError::Malformed { .. })), "{json}");
    }
    assert_eq!(parse(r#"{"keys":[]}"#).unwrap_err(), KeySetError::NoneUsable { keys: 0 });
    let deep = format!(r#"{{"keys":[{}]}}"#, "[".repeat(100_000));
    assert!(matches!(parse(&deep), Err(KeySetError::Malformed { .. })));
    let keys = parse(&set(&many[..20])).unwrap();
    assert_eq!(keys.candidates(Algorithm::ES256, None).count(), TRIED_MAX);
}
