//! Tokens that others made, PyJWT and cryptography, and whether they are accepted: `tests/python/foreign.py` says of each.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stderr, reason = "a test tells what it cannot do here")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rescind::revocation::verification::{Algorithm, Issuer, KeySource, TokenType};
use rescind::revocation::{Claims, UnixSeconds, VerificationPolicy};
use rescind::token::{KeySet, Reason, Refused, Rules, TokenParser, verify};
use serde_json::Value;

/// What the script printed; `None` only where nobody set Python up and nobody relies on it.
fn minted() -> Option<Value> {
    let Some(python) = std::env::var_os("RESCIND_TEST_PYTHON") else {
        assert!(std::env::var_os("CI").is_none(), "RESCIND_TEST_PYTHON must be set where CI is");
        eprintln!("skipped: RESCIND_TEST_PYTHON is not set; `make test` sets it");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/foreign.py");
    let ran = Command::new(python).arg("-B").arg(script).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(serde_json::from_slice(&ran.stdout).unwrap())
}

fn policy(iss: &str, keys: &str) -> VerificationPolicy {
    let issuer = Issuer {
        iss: iss.to_owned(),
        audiences: vec!["api".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        types: TokenType::ALL.to_vec(),
        leeway_seconds: 60,
        keys: KeySource::Inline(keys.to_owned()),
    };
    VerificationPolicy::new(vec![issuer], vec![]).unwrap()
}

/// What is said of a refused token holds nothing of it.
fn says_nothing_of_it(refused: Refused, token: &str) -> bool {
    let said = format!("{refused} {refused:?}");
    let mut parts = token.split('.').filter(|part| part.len() > 8);
    parts.all(|part| !said.contains(part)) && !said.contains("ada") && !said.contains("evil")
}

#[test]
fn what_others_sign_is_accepted_and_what_is_odd_is_refused_for_what_it_is() {
    let Some(minted) = minted() else { return };
    let jwks = minted["jwks"].to_string();
    let keys = Arc::new(KeySet::parse(jwks.as_bytes()).unwrap());
    assert_eq!(keys.count(), 4);
    let policy = policy(minted["iss"].as_str().unwrap(), &jwks);
    let rules = Rules { policy: &policy, class: None, now: UnixSeconds(minted["now"].as_u64().unwrap()) };
    let (mut parser, mut claims) = (TokenParser::new(), Claims::new());
    let (mut wrong, mut signed_with) = (Vec::new(), BTreeSet::new());
    let tokens = minted["tokens"].as_array().unwrap();
    for one in tokens {
        let (name, token) = (one["name"].as_str().unwrap(), one["token"].as_str().unwrap());
        let judged = verify(&mut parser, &mut claims, token.as_bytes(), &rules, |_| Some(Arc::clone(&keys)));
        let found = match judged {
            Ok(_) => {
                assert_eq!(claims.value("sub"), Some("ada"), "{name}");
                signed_with.extend(one["algorithm"].as_str());
                "accepted"
            }
            Err(refused) => {
                assert!(says_nothing_of_it(refused, token), "{name}");
                assert_eq!(claims.value("iss"), None, "{name}");
                Reason::Refused(refused).name()
            }
        };
        if found != one["expected"] {
            wrong.push(format!("{name}: {found}, not {}", one["expected"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tokens.len() >= 150, "only {} tokens", tokens.len());
    assert_eq!(signed_with, Algorithm::ALL.into_iter().map(Algorithm::name).collect());
}
