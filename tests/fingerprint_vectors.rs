//! The golden vectors of the canonical encoding, of canonical numbers and of what a token's claims are.
//!
//! `vectors/check.py` recomputed them all from the written rules; here the crate has to agree, and the script runs again.
//! A vector that changes breaks every other implementation: add new ones, never edit one that was released.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rescind::revocation::{Claims, Selector, SetKey, TestedClaim, scalar};
use rescind::token::TokenParser;
use serde_json::Value;

fn vectors_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn vectors(kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(vectors_dir().join("fingerprint.json")).unwrap();
    let vectors = serde_json::from_str::<Value>(&text).unwrap()[kind].as_array().unwrap().clone();
    assert!(vectors.len() >= 40, "{kind}: only {} vectors", vectors.len());
    vectors
}

fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_else(|| panic!("{}: no {field}", vector["name"]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(hex: &str) -> SetKey {
    let mut key = [0; 16];
    assert_eq!(hex.len(), 2 * key.len());
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
    }
    SetKey::new(key)
}

/// The parts of a selector's encoding in order, each with what it is, as docs/design/fingerprint.md says.
fn encoded_parts(selector: &Selector) -> Vec<(&'static str, Vec<u8>)> {
    let mut pairs: Vec<(&str, &str)> = selector.pairs().collect();
    if selector.tested() == TestedClaim::AuthTime {
        pairs.push(("@auth_time", ""));
    }
    let length = |text: &str| u16::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    let mut parts = vec![("domain", b"rescind/fp/1\0".to_vec()), ("pairs", vec![pairs.len() as u8])];
    for (name, value) in pairs {
        parts.push(("name length", length(name)));
        parts.push(("name", name.into()));
        parts.push(("value length", length(value)));
        parts.push(("value", value.into()));
    }
    parts
}

#[test]
fn fingerprints_equal_the_vectors() {
    for vector in vectors("fingerprints") {
        let pairs = vector["pairs"].as_array().unwrap();
        let pairs = pairs.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
        let tested = match text(&vector, "tested") {
            "iat" => TestedClaim::Iat,
            "auth_time" => TestedClaim::AuthTime,
            other => panic!("tests {other}"),
        };
        let selector = Selector::new(pairs, tested).unwrap();
        let encoded: Vec<u8> = encoded_parts(&selector).into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert_eq!(hex(&encoded), text(&vector, "encoded"), "{}", vector["name"]);
        let fingerprint = key(text(&vector, "key")).fingerprint(&selector).to_bytes();
        assert_eq!(hex(&fingerprint), text(&vector, "fingerprint"), "{}", vector["name"]);
    }
}

#[test]
fn canonical_numbers_equal_the_vectors() {
    for vector in vectors("numbers") {
        let canonical = scalar::canonical_number(text(&vector, "number"));
        assert_eq!(canonical.as_deref(), vector["canonical"].as_str(), "{}", vector["name"]);
    }
}

#[test]
fn candidates_equal_the_vectors() {
    let mut parser = TokenParser::new();
    let mut claims = Claims::new();
    for vector in vectors("candidates") {
        let header = vector["header"].as_str().map(str::as_bytes);
        let parsed = parser.parse_claims(&mut claims, text(&vector, "payload").as_bytes(), header);
        let found = parsed.ok().map(|()| {
            let values = claims.values(text(&vector, "claim"));
            let mut values: Vec<_> = values.map(|value| (value.text.to_owned(), value.in_array)).collect();
            values.sort();
            values
        });
        let candidate = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_bool().unwrap());
        let expected = vector["candidates"].as_array().map(|pairs| pairs.iter().map(candidate).collect::<Vec<_>>());
        assert_eq!(found, expected, "{}", vector["name"]);
    }
}

#[test]
fn an_independent_implementation_agrees() {
    let output = run_checker(&vectors_dir());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_independent_implementation_notices_one_wrong_digit() {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(vectors_dir().join("check.py"), copy.path().join("check.py")).unwrap();
    let vectors = std::fs::read_to_string(vectors_dir().join("fingerprint.json")).unwrap();
    for right in ["\"fingerprint\": \"", "\"encoded\": \"", "\"canonical\": \""] {
        let wrong = vectors.replacen(right, &format!("{right}0"), 1);
        assert_ne!(wrong, vectors);
        std::fs::write(copy.path().join("fingerprint.json"), wrong).unwrap();
        let output = run_checker(copy.path());
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn run_checker(dir: &Path) -> Output {
    let checker = Command::new("python3").arg("-B").arg(dir.join("check.py")).output();
    checker.expect("the vectors are checked by a second implementation, which needs python3")
}

#[test]
fn the_worked_example_in_the_documentation_is_right() {
    let selector = Selector::new([("sub", "alice"), ("client_id", "web")], TestedClaim::Iat).unwrap();
    let set_key = "000102030405060708090a0b0c0d0e0f";
    let mut example = format!("{:<13} {set_key}\n", "key");
    for (what, bytes) in encoded_parts(&selector) {
        let readable =
            if what == "name" || what == "value" { String::from_utf8(bytes.clone()).unwrap() } else { String::new() };
        example.push_str(format!("{what:<13} {:<26} {readable}", hex(&bytes)).trim_end());
        example.push('\n');
    }
    let fingerprint = key(set_key).fingerprint(&selector).to_bytes();
    example.push_str(&format!("{:<13} {}\n", "fingerprint", hex(&fingerprint)));

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/design/fingerprint.md");
    let document = std::fs::read_to_string(document).unwrap();
    assert!(document.contains(&example), "the document should show:\n{example}");
}
