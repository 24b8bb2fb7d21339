//! Keys and tokens for tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::revocation::verification::{Algorithm, Issuer, KeySource, TokenType};

/// The issuer of [`issuer`].
pub(crate) const ISS: &str = "https://issuer.example";
/// The time that tests tell: 2023-11-14.
pub(crate) const NOW: u64 = 1_700_000_000;

/// A key pair on P-256.
pub(crate) struct TestKey {
    kid: String,
    pair: EcdsaKeyPair,
}

impl TestKey {
    pub(crate) fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key pair");
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key pair");
        Self { kid: kid.to_owned(), pair }
    }

    /// The public half as a JWK.
    pub(crate) fn jwk(&self) -> String {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        format!(r#"{{"kty":"EC","crv":"P-256","kid":"{}","x":"{x}","y":"{y}"}}"#, self.kid)
    }

    /// A JWK set of this key alone.
    pub(crate) fn set(&self) -> String {
        format!(r#"{{"keys":[{}]}}"#, self.jwk())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    }

    /// A token with this header and payload, signed.
    pub(crate) fn token_of(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        format!("{message}.{}", encode(&self.sign(message.as_bytes())))
    }

    /// An access token with these members beside those that it needs.
    pub(crate) fn token(&self, more: &str) -> String {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{}"}}"#, self.kid);
        self.token_of(&header, &payload(more))
    }
}

/// What [`TestKey::token`] says; `more` begins with a comma if it is not empty.
pub(crate) fn payload(more: &str) -> String {
    format!(r#"{{"iss":"{ISS}","aud":"api","sub":"ada","iat":{NOW},"exp":{}{more}}}"#, NOW + 600)
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer that signs with ES256, for the audience `api`.
pub(crate) fn issuer(keys: KeySource) -> Issuer {
    Issuer {
        iss: ISS.to_owned(),
        audiences: vec!["api".to_owned()],
        algorithms: vec![Algorithm::ES256],
        types: vec![TokenType::AccessToken, TokenType::Jwt, TokenType::Absent],
        leeway_seconds: 60,
        keys,
    }
}
