//! Presented tokens and claims, compared with another reader of JSON.

use std::cell::RefCell;

use rescind::revocation::{Claims, NAME_BYTES_MAX, TOKEN_SHA256, VALUE_BYTES_MAX};
use rescind::token::{Address, JSON_BYTES_MAX, Presented, TOKEN_BYTES_MAX, TokenKind, TokenParser, address};
use serde_json::Value;

use super::note_accepted;

/// A parser and claims that are used again and again, as each thread of a server does.
fn with_parser(work: impl FnOnce(&mut TokenParser, &mut Claims)) {
    thread_local! {
        static REUSED: RefCell<(TokenParser, Claims)> = RefCell::default();
    }
    REUSED.with_borrow_mut(|(parser, claims)| work(parser, claims));
}

pub fn token(bytes: &[u8]) {
    with_parser(|parser, claims| match parser.parse_token(claims, bytes, TokenKind::Detect) {
        Err(_) => assert!(is_empty(claims), "what is refused leaves no claims behind"),
        Ok(presented) => {
            assert!((1..=TOKEN_BYTES_MAX).contains(&bytes.len()));
            let dots = bytes.iter().filter(|byte| **byte == b'.').count();
            assert_eq!(presented == Presented::Jwt, dots == 2);
            note_accepted();
            is_addressed(claims);
        }
    });
}

pub fn opaque(bytes: &[u8]) {
    with_parser(|parser, claims| match parser.parse_token(claims, bytes, TokenKind::Opaque) {
        Err(_) => assert!(is_empty(claims)),
        Ok(presented) => {
            note_accepted();
            assert_eq!(presented, Presented::Opaque);
            assert!(bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e)), "a hash of anything else never matches");
            is_addressed(claims);
        }
    });
}

/// JSON as a token's whole payload.
pub fn claims(bytes: &[u8]) {
    let other: Option<Value> = serde_json::from_slice(bytes).ok();
    with_parser(|parser, claims| {
        if parser.parse_claims(claims, bytes, None).is_err() {
            return assert!(is_empty(claims));
        }
        note_accepted();
        assert!(bytes.len() <= JSON_BYTES_MAX);
        // Another reader may refuse a number that is too large for it, nothing else.
        let Some(Value::Object(members)) = other else {
            return assert!(bytes.iter().any(u8::is_ascii_digit), "accepted, and no JSON to another reader");
        };
        for (name, value) in &members {
            // Names that are ignored, computed, paths too, or that no selector can hold.
            let is_special = name.contains('.') || name == TOKEN_SHA256 || name == "header";
            if is_special || !(1..=NAME_BYTES_MAX).contains(&name.len()) {
                continue;
            }
            let expected = match value {
                Value::String(text) if (1..=VALUE_BYTES_MAX).contains(&text.len()) => Some(text.clone()),
                Value::Bool(truth) => Some(truth.to_string()),
                _ => None,
            };
            if let Some(expected) = expected {
                let found = claims.values(name).any(|found| found.text == expected && !found.in_array);
                assert!(found, "a claim that another reader sees is missing");
            }
        }
    });
}

fn is_addressed(claims: &Claims) {
    let Address { selector, exp } = address(claims).expect("a token that was read can be revoked");
    assert_eq!(exp, claims.exp);
    assert_eq!(claims.value(TOKEN_SHA256).map(str::len), Some(43));
    assert_eq!(claims.values(TOKEN_SHA256).count(), 1, "it is computed, never read");
    assert!(selector.pairs().all(|(name, value)| claims.values(name).any(|found| found.text == value)));
}

fn is_empty(claims: &Claims) -> bool {
    let times = [claims.iat, claims.auth_time, claims.exp];
    times.iter().all(Option::is_none) && claims.value("sub").is_none() && claims.value(TOKEN_SHA256).is_none()
}
