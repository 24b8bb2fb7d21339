//! A token of ES256 verified, then checked: what the check adds to the signature.

mod table;

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rescind::revocation::verification::{Algorithm, Issuer, KeySource, TokenType};
use rescind::revocation::{Claims, UnixSeconds, VerificationPolicy};
use rescind::token::{KeySet, Rules, TokenParser, verify};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use table::checks::{FIVE, check, filled};
use table::{Target, mix, nanos, row};

const TOKENS: usize = 2000;
const ENTRIES: u64 = 1_000_000;
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

fn main() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key pair");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
    let pair = pair.expect("a key pair");
    let signed: Vec<(String, Vec<u8>)> = (0..TOKENS as u64).map(|n| signed(n, &pair, &random)).collect();

    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let signature = nanos(TOKENS, || {
        for (message, signature) in &signed {
            public.verify(message.as_bytes(), signature).expect("a signature just made");
        }
    });
    let verified = verified(&pair, &signed);
    row("ES256 signature verified, alone", signature / 1000.0, " us", Target::None);
    row("ES256 token verified: parsed, signature, policy", verified / 1000.0, " us", Target::None);
    for (shapes, names) in [("1 shape", &FIVE[..1]), ("5 shapes", &FIVE)] {
        let checked = check(&filled(ENTRIES, names));
        row(&format!("{ENTRIES} entries, check, {shapes}, miss"), checked, " ns", Target::None);
        row(&format!("check, {shapes} / signature"), 100.0 * checked / signature, " %", Target::AtMost(1.0));
        let both = (verified + checked) / signature;
        row(&format!("token verified and checked, {shapes} / signature"), both, "x", Target::None);
    }
}

/// The signing input of token number `n`, and its signature.
fn signed(n: u64, pair: &EcdsaKeyPair, random: &SystemRandom) -> (String, Vec<u8>) {
    let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"2026-01"}"#;
    let id = mix(n);
    let payload = format!(
        r#"{{"iss":"https://issuer.example","aud":"api","sub":"user-{id:016x}","jti":"{id:016x}","sid":"{id:x}","client_id":"web-frontend","tenant_id":"{}","scope":"read write","iat":{},"exp":{}}}"#,
        id % 1000,
        NOW.0,
        NOW.0 + 3600
    );
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = pair.sign(random, message.as_bytes()).expect("a signature").as_ref().to_vec();
    (message, signature)
}

/// Nanoseconds that it takes to verify a token, from its text to its claims.
fn verified(pair: &EcdsaKeyPair, signed: &[(String, Vec<u8>)]) -> f64 {
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    let jwks = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"2026-01","x":"{x}","y":"{y}"}}]}}"#);
    let keys = Arc::new(KeySet::parse(jwks.as_bytes()).expect("a key set"));
    let issuer = Issuer {
        iss: "https://issuer.example".to_owned(),
        audiences: vec!["api".to_owned()],
        algorithms: vec![Algorithm::ES256],
        types: vec![TokenType::AccessToken],
        leeway_seconds: 60,
        keys: KeySource::Inline(jwks),
    };
    let policy = VerificationPolicy::new(vec![issuer], vec![]).expect("a policy");
    let rules = Rules { policy: &policy, class: None, now: NOW };
    let token = |(message, signature): &(String, Vec<u8>)| format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let tokens: Vec<String> = signed.iter().map(token).collect();
    let (mut parser, mut claims) = (TokenParser::new(), Claims::new());
    nanos(TOKENS, || {
        for token in &tokens {
            let verified = verify(&mut parser, &mut claims, token.as_bytes(), &rules, |_| Some(Arc::clone(&keys)));
            black_box(verified.expect("a token just made"));
        }
    })
}
