//! What a caller may present and what becomes of it.

use proptest::prelude::*;

use super::super::address;
use super::super::json::JsonProblem;
use super::*;

const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;
const PAYLOAD: &str = r#"{"iss":"https://issuer.example","jti":"7","sub":"alice","iat":1700000000,"exp":1700003600}"#;

fn jwt(header: &str, payload: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

fn parse(token: impl AsRef<[u8]>, kind: TokenKind) -> (Result<Presented, TokenError>, Claims) {
    let mut claims = Claims::new();
    claims.push("left", "over", false);
    let presented = TokenParser::new().parse_token(&mut claims, token.as_ref(), kind);
    assert_eq!(claims.value("left"), None);
    (presented, claims)
}

#[track_caller]
fn refused(token: impl AsRef<[u8]>, expected: TokenError) {
    let (presented, claims) = parse(token, TokenKind::Detect);
    assert_eq!(presented, Err(expected));
    assert_eq!(format!("{claims:?}"), "Claims(0 values hidden)");
    assert_eq!((claims.iat, claims.exp), (None, None));
}

#[test]
fn a_jwt_gives_payload_header_and_the_hash_of_its_signing_input() {
    let token = jwt(HEADER, PAYLOAD, "c2ln");
    let (presented, claims) = parse(&token, TokenKind::Detect);
    assert_eq!(presented, Ok(Presented::Jwt));
    assert_eq!(claims.value("sub"), Some("alice"));
    assert_eq!(claims.value("header.kid"), Some("k1"));
    assert_eq!(claims.value("kid"), None);
    assert_eq!(claims.iat.map(|t| t.0), Some(1_700_000_000));
    assert!(!claims.header_unseen && !claims.token_unseen);

    let signing_input = token.strip_suffix(".c2ln").unwrap();
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(signing_input));
    assert_eq!(claims.value(TOKEN_SHA256), Some(&*hash));
}

#[test]
fn the_hash_does_not_depend_on_the_signature() {
    let hash =
        |signature| parse(jwt(HEADER, PAYLOAD, signature), TokenKind::Detect).1.value(TOKEN_SHA256).map(str::to_owned);
    assert!(hash("c2ln").is_some());
    assert_eq!(hash("c2ln"), hash("AAAA"));
    assert_eq!(hash("c2ln"), hash(""));
}

#[test]
fn anything_without_exactly_two_dots_is_opaque() {
    for token in ["2YotnFZFEjr1zCsicMWpAA", "a.b", "a.b.c.d", "a.b.c.d.e", "with space", "....."] {
        let (presented, claims) = parse(token, TokenKind::Detect);
        assert_eq!(presented, Ok(Presented::Opaque), "{token}");
        assert_eq!(claims.value(TOKEN_SHA256), Some(&*URL_SAFE_NO_PAD.encode(Sha256::digest(token))));
        assert_eq!(format!("{claims:?}"), "Claims(1 values hidden)");
    }
}

#[test]
fn the_caller_can_say_opaque() {
    for token in [jwt(HEADER, PAYLOAD, "c2ln"), "not.a.jwt!".into()] {
        let (presented, claims) = parse(&token, TokenKind::Opaque);
        assert_eq!(presented, Ok(Presented::Opaque));
        assert_eq!(claims.value(TOKEN_SHA256), Some(&*URL_SAFE_NO_PAD.encode(Sha256::digest(&token))));
        assert_eq!(claims.value("sub"), None);
    }
}

#[test]
fn empty_overlong_and_unprintable_tokens_are_refused() {
    refused("", TokenError::Empty);
    refused("x".repeat(TOKEN_BYTES_MAX + 1), TokenError::TooLong { bytes: TOKEN_BYTES_MAX + 1 });
    refused(vec![b'.'; 1 << 20], TokenError::TooLong { bytes: 1 << 20 });
    assert_eq!(parse("x".repeat(TOKEN_BYTES_MAX), TokenKind::Detect).0, Ok(Presented::Opaque));
    refused("opaque\n", TokenError::NotPrintable { offset: 6 });
    refused("opaqué", TokenError::NotPrintable { offset: 5 });
    refused(b"\xff", TokenError::NotPrintable { offset: 0 });
}

#[test]
fn each_part_must_be_canonical_base64url() {
    let base64 = |part, offset| TokenError::Base64 { part, offset };
    let token = jwt(HEADER, PAYLOAD, "c2ln");
    let (header, payload) = (URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(PAYLOAD));
    refused(format!(" {token}"), base64(Part::Header, 0));
    refused(format!("Bearer {token}"), base64(Part::Header, 6));
    refused(format!("{token}\n"), base64(Part::Signature, 4));
    refused(format!("{header}.{payload}.c2l+"), base64(Part::Signature, 3));
    refused(format!("{header}.{payload}.c2lnbg=="), base64(Part::Signature, 6));
    refused(format!("{header}.{payload}.c2lnb"), base64(Part::Signature, 5));
    refused(format!("{header}.é{payload}.c2ln"), base64(Part::Payload, 0));
    // `bh` would decode to the same byte as `bg`: two texts for one signing input.
    refused(format!("{header}.{payload}.c2lnbh"), base64(Part::Signature, 5));
    refused("e31.e30.", base64(Part::Header, 2));
    assert_eq!(parse("e30.e30.", TokenKind::Detect).0, Ok(Presented::Jwt));
}

#[test]
fn header_and_payload_must_be_json_objects() {
    let json = |part, problem, offset| TokenError::Claims(ClaimsError { part, error: JsonError { problem, offset } });
    refused("..", json(Part::Header, JsonProblem::NotAnObject, 0));
    refused("e30..", json(Part::Payload, JsonProblem::NotAnObject, 0));
    refused(jwt("[]", PAYLOAD, ""), json(Part::Header, JsonProblem::NotAnObject, 0));
    refused(jwt(HEADER, "\"a\"", ""), json(Part::Payload, JsonProblem::NotAnObject, 0));
    refused(jwt(HEADER, r#"{"sub":"a","sub":"b"}"#, ""), json(Part::Payload, JsonProblem::DuplicateName, 11));
    refused(jwt(r#"{"kid":"a","kid":"b"}"#, PAYLOAD, ""), json(Part::Header, JsonProblem::DuplicateName, 11));
    refused(jwt(HEADER, r#"{"sub":"\ud800"}"#, ""), json(Part::Payload, JsonProblem::LoneSurrogate, 8));
}

#[test]
fn errors_name_the_part_and_never_its_content() {
    let (presented, _) = parse(jwt(HEADER, r#"{"secret":"s","secret":"s"}"#, ""), TokenKind::Detect);
    assert_eq!(presented.unwrap_err().to_string(), "the payload is malformed: duplicate name at byte 14");
}

#[test]
fn claims_given_as_json_say_what_was_not_seen() {
    let mut parser = TokenParser::new();
    let mut claims = Claims::new();
    parser.parse_claims(&mut claims, PAYLOAD.as_bytes(), None).unwrap();
    assert!(claims.header_unseen && claims.token_unseen);
    assert!(!claims.sees("header.kid") && !claims.sees(TOKEN_SHA256) && claims.sees("sub"));
    assert_eq!(claims.value(TOKEN_SHA256), None);

    parser.parse_claims(&mut claims, PAYLOAD.as_bytes(), Some(HEADER.as_bytes())).unwrap();
    assert!(!claims.header_unseen && claims.token_unseen);
    assert_eq!((claims.value("sub"), claims.value("header.kid")), (Some("alice"), Some("k1")));

    let error = parser.parse_claims(&mut claims, b"{} ", Some(b"")).unwrap_err();
    assert_eq!((error.part, error.error.problem), (Part::Header, JsonProblem::NotAnObject));
    assert_eq!(claims.value("sub"), None);
}

#[test]
fn a_parsed_token_has_an_address() {
    let by_id = address(&parse(jwt(HEADER, PAYLOAD, ""), TokenKind::Detect).1).unwrap();
    assert_eq!(by_id.selector.pairs().collect::<Vec<_>>(), [("iss", "https://issuer.example"), ("jti", "7")]);
    assert_eq!(by_id.exp.map(|t| t.0), Some(1_700_003_600));

    let by_hash = address(&parse(jwt(HEADER, r#"{"iss":"a","jti":["7"]}"#, ""), TokenKind::Detect).1).unwrap();
    assert_eq!(by_hash.selector.shape().to_string(), TOKEN_SHA256);
    assert_eq!(by_hash.exp, None);
}

#[test]
fn buffers_stop_growing() {
    let mut parser = TokenParser::new();
    let mut claims = Claims::new();
    let payload = r#"{"a":{"b":["\u0041",1e3,"x"]},"header":{"x":[{}]},"iat":1.5}"#;
    let token = jwt(HEADER, payload, "c2ln");
    let mut capacities = Vec::new();
    for _ in 0..3 {
        parser.parse_token(&mut claims, token.as_bytes(), TokenKind::Detect).unwrap();
        capacities.push((parser.decoded.capacity(), parser.scanner.capacity(), parser.scratch.capacity()));
    }
    assert_eq!(capacities[0], capacities[2]);
    let longest = format!("{}.", "A".repeat(TOKEN_BYTES_MAX - 2));
    for token in [format!("{longest}."), format!(".{longest}"), format!("..{}", "A".repeat(TOKEN_BYTES_MAX - 2))] {
        assert!(parser.parse_token(&mut claims, token.as_bytes(), TokenKind::Detect).is_err());
    }
    assert!(parser.decoded.capacity() <= TOKEN_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_token_panics(token in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in [TokenKind::Detect, TokenKind::Opaque] {
            let _ = parse(&token, kind);
        }
    }

    #[test]
    fn a_damaged_token_is_refused_or_hashes_differently(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        length in any::<prop::sample::Index>(),
    ) {
        let token = jwt(HEADER, PAYLOAD, "c2lnbmF0dXJl");
        let signing_input = token.rfind('.').unwrap();
        let before = parse(&token, TokenKind::Detect).1.value(TOKEN_SHA256).map(str::to_owned);

        let mut changed = token.clone().into_bytes();
        let at = place.index(signing_input);
        let old = std::mem::replace(&mut changed[at], byte);
        let (presented, claims) = parse(&changed, TokenKind::Detect);
        prop_assert!(presented.is_err() || byte == old || claims.value(TOKEN_SHA256) != before.as_deref());

        let _ = parse(&token[..length.index(token.len())], TokenKind::Detect);
    }
}
