//! Principals by a token of a trusted issuer: the `[[jwt]]` tables of a principals file.
//!
//! ```toml
//! [[jwt]]
//! name = "idp"
//! issuer = "https://login.example.org"
//! audience = "rescind"
//! algorithms = ["ES256"]
//! claim = "groups"
//!
//! [[jwt.map]]
//! value = "gateways"
//! roles = ["check"]
//! ```
//!
//! An issuer is trusted to name principals here by this file alone: what the verification policy trusts it with is another
//! matter, and whoever may change that does not become a principal by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::{CLAIM_BYTES_MAX, ISSUER_BYTES_MAX, Names, RoleList, Writes, granted};
use crate::revocation::verification::{Algorithm, Issuer, KeySource, TokenType, VerificationError};
use crate::revocation::{Claims, Grant, VALUE_BYTES_MAX, VerificationPolicy};
use crate::token::scopes;

/// What the name of a principal begins with that is known by a token.
pub const JWT_PREFIX: &str = "jwt:";
/// The longest name of an issuer, in bytes: it is part of its principals' names.
const NAME_BYTES_MAX: usize = 32;
/// The most values of one issuer that map to roles.
const MAPPED_MAX: usize = 256;
/// How far the clocks of issuer and server may differ, in seconds, unless told otherwise.
const LEEWAY_SECONDS: u16 = 60;

/// Whose tokens make somebody a principal.
#[derive(Debug)]
pub struct TokenIssuers {
    policy: VerificationPolicy,
    issuers: Vec<TokenIssuer>,
}

/// An issuer, and what its tokens come to.
#[derive(Debug)]
pub struct TokenIssuer {
    /// What it is called here: principals are `jwt:<name>/<sub>`.
    pub name: String,
    /// `iss`.
    pub iss: String,
    claim: String,
    map: Vec<(String, Arc<Grant>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: ShortName,
    issuer: Text<ISSUER_BYTES_MAX>,
    audience: Text<ISSUER_BYTES_MAX>,
    algorithms: Vec<Known<Algorithm>>,
    types: Option<Vec<Known<TokenType>>>,
    keys: Option<Text<ISSUER_BYTES_MAX>>,
    leeway_seconds: Option<u16>,
    claim: Text<CLAIM_BYTES_MAX>,
    map: Vec<Mapped>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapped {
    value: Text<VALUE_BYTES_MAX>,
    roles: RoleList,
    issuers: Option<Names<ISSUER_BYTES_MAX>>,
    claims: Option<Names<CLAIM_BYTES_MAX>>,
    writes_per_minute: Option<Writes>,
}

impl TokenIssuers {
    pub(super) fn new(issuers: Vec<(TokenIssuer, Issuer)>) -> Result<Self, VerificationError> {
        let (issuers, trusted): (Vec<_>, Vec<_>) = issuers.into_iter().unzip();
        Ok(Self { policy: VerificationPolicy::new(trusted, Vec::new())?, issuers })
    }

    /// By which their tokens are verified.
    #[must_use]
    pub fn policy(&self) -> &VerificationPolicy {
        &self.policy
    }

    /// The issuer of this `iss`.
    #[must_use]
    pub fn issuer(&self, iss: &str) -> Option<&TokenIssuer> {
        self.issuers.iter().find(|issuer| issuer.iss == iss)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.issuers.len()
    }
}

impl TokenIssuer {
    /// What a token with these claims may do: by the first entry of the map, in the order of the file, whose value it has.
    #[must_use]
    pub fn grant(&self, claims: &Claims) -> Option<&Arc<Grant>> {
        let is_scope = matches!(self.claim.as_str(), "scope" | "scp");
        let has = |value: &str| match is_scope {
            true => scopes(claims).any(|scope| scope == value),
            false => claims.values(&self.claim).any(|found| found.text == value),
        };
        self.map.iter().find(|(value, _)| has(value)).map(|(_, grant)| grant)
    }
}

impl Entry {
    /// The issuer as it is known here and as its tokens are verified.
    pub(super) fn check(self) -> Result<(TokenIssuer, Issuer), String> {
        let name = self.name.0;
        let given = self.map.len();
        if !(1..=MAPPED_MAX).contains(&given) {
            return Err(format!("map: 1 to {MAPPED_MAX} values, {given} given"));
        }
        let mut values = BTreeSet::new();
        let mut map = Vec::with_capacity(given);
        for mapped in self.map {
            let value = mapped.value.0;
            if !values.insert(value.clone()) {
                return Err("map.value: one is given twice".to_owned());
            }
            let writes = mapped.writes_per_minute;
            let grant = granted(mapped.roles, mapped.issuers, mapped.claims, writes, &name)?;
            map.push((value, Arc::new(grant)));
        }
        let types = self.types.unwrap_or_else(|| vec![Known(TokenType::AccessToken), Known(TokenType::Jwt)]);
        let keys = match self.keys.map(|keys| keys.0) {
            None => KeySource::Discovery,
            Some(path) if path.starts_with('/') => KeySource::File(path),
            Some(url) => KeySource::Url(url),
        };
        let leeway_seconds = self.leeway_seconds.unwrap_or(LEEWAY_SECONDS);
        let issuer = Issuer {
            iss: self.issuer.0.clone(),
            audiences: vec![self.audience.0],
            algorithms: self.algorithms.into_iter().map(|known| known.0).collect(),
            types: types.into_iter().map(|known| known.0).collect(),
            leeway_seconds,
            keys,
        };
        // What is wrong with one is told with its line.
        VerificationPolicy::new(vec![issuer.clone()], Vec::new()).map_err(|error| {
            let message = error.to_string();
            let message = message.strip_prefix("issuers[0].").unwrap_or(&message);
            message.replacen("iss:", "issuer:", 1)
        })?;
        let known = TokenIssuer { name, iss: self.issuer.0, claim: self.claim.0, map };
        Ok((known, issuer))
    }
}

struct ShortName(String);

impl<'de> Deserialize<'de> for ShortName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_plain && (1..=NAME_BYTES_MAX).contains(&name.len()) {
            return Ok(Self(name));
        }
        Err(D::Error::custom(format_args!(
            "name: 1 to {NAME_BYTES_MAX} ASCII letters, digits, '-', '_' and '.', {} bytes given",
            name.len()
        )))
    }
}

struct Text<const BYTES_MAX: usize>(String);

impl<'de, const BYTES_MAX: usize> Deserialize<'de> for Text<BYTES_MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if (1..=BYTES_MAX).contains(&text.len()) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format_args!("1 to {BYTES_MAX} bytes, {} given", text.len())))
    }
}

/// One of the names that there are.
struct Known<T>(T);

impl<'de> Deserialize<'de> for Known<Algorithm> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Algorithm::named(&String::deserialize(deserializer)?);
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        found.map(Self).ok_or_else(|| D::Error::custom(format_args!("algorithms: one of {names}")))
    }
}

impl<'de> Deserialize<'de> for Known<TokenType> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = String::deserialize(deserializer)?;
        let found = TokenType::ALL.into_iter().find(|one| one.name() == given);
        let names = TokenType::ALL.map(TokenType::name).join(", ");
        found.map(Self).ok_or_else(|| D::Error::custom(format_args!("types: one of {names}")))
    }
}
