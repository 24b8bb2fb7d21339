//! An issuer of access tokens, with one ES256 key, whose key set is in a file.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rescind::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tempfile::TempDir;

/// As the policy in deploy/ names it.
pub(crate) const ISS: &str = "https://idp.example";

pub(crate) struct TestIssuer {
    pair: EcdsaKeyPair,
    dir: TempDir,
}

impl TestIssuer {
    pub(crate) fn new() -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref();
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
            "x": encode(&point[1..33]), "y": encode(&point[33..]),
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("idp.jwks"), json!({ "keys": [key] }).to_string()).unwrap();
        Self { pair, dir }
    }

    /// Its key set.
    pub(crate) fn jwks(&self) -> PathBuf {
        self.dir.path().join("idp.jwks")
    }

    /// A token for the audience `api` that is good for ten minutes, with `changes` to its claims; null takes one out.
    pub(crate) fn token(&self, changes: &Value) -> String {
        let now = Clock::system().wall().0 / 1000;
        let mut claims = json!({
            "iss": ISS, "aud": "api", "sub": "ada", "client_id": "shop", "scope": "orders.read",
            "iat": now, "exp": now + 600,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": "k1" });
        let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature.as_ref()))
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
