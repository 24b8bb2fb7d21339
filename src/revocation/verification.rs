//! The verification policy: whose tokens are accepted, and what each class of routes asks of them.
//!
//! Plain data, part of the replicated state: written once at the authority, in force at every replica. What verifies by it is
//! `token::verify`; what it looks like in a file, the surface knows.
//!
//! # Invariants
//! - V1. A [`VerificationPolicy`] is within its limits and contradicts itself nowhere: [`VerificationPolicy::new`] and the
//!   decoder are the only ways to one.
//! - V2. Equal policies have equal bytes.

mod encoding;
mod rules;
#[cfg(test)]
mod tests;
mod versioned;

pub use encoding::VERIFICATION_BYTES_MAX;
pub use rules::{VerificationError, is_key_url};
pub use versioned::VersionedPolicy;

/// The most issuers.
pub const ISSUERS_MAX: usize = 64;
/// The most route classes.
pub const CLASSES_MAX: usize = 256;
/// The most audiences of an issuer or a class, scopes of a class, or issuers of a class.
pub const NAMES_MAX: usize = 64;
/// The most required claims of a class.
pub const REQUIRED_CLAIMS_MAX: usize = 16;
/// The most values of a required claim.
pub const REQUIRED_VALUES_MAX: usize = 64;
/// The longest issuer, audience, scope, claim value, URL or path, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The longest name of a route class, in bytes: it stands in the configuration of gateways.
pub const CLASS_NAME_BYTES_MAX: usize = 64;
/// The longest key set within a policy, in bytes.
pub const INLINE_KEYS_BYTES_MAX: usize = 32 * 1024;
/// The largest leeway, in seconds.
pub const LEEWAY_SECONDS_MAX: u16 = 300;

/// Whose tokens are accepted, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationPolicy {
    issuers: Vec<Issuer>,
    classes: Vec<RouteClass>,
}

/// Somebody whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `iss` (RFC 7519 §4.1.1), compared byte by byte.
    pub iss: String,
    /// A token names one of these in `aud` (RFC 7519 §4.1.3), unless its route class has audiences of its own.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted, and no others.
    pub algorithms: Vec<Algorithm>,
    /// The types of tokens that are accepted.
    pub types: Vec<TokenType>,
    /// How far the clocks of issuer and verifier may differ, in seconds, at most [`LEEWAY_SECONDS_MAX`].
    pub leeway_seconds: u16,
    /// Where its keys come from.
    pub keys: KeySource,
}

/// A signature algorithm of RFC 7518 §3.1 or RFC 8037 §3.1. There is no `none` and no HMAC: a verifier that could make tokens
/// itself proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "named as in RFC 7518")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    /// With Ed25519.
    EdDSA,
}

/// What `typ` (RFC 7515 §4.1.9) may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenType {
    /// `at+jwt`, an access token of RFC 9068 §2.1.
    AccessToken,
    /// `JWT`.
    Jwt,
    /// There is no `typ`.
    Absent,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `jwks_uri` of its discovery document, below `iss` (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).
    Discovery,
    /// A JWK set (RFC 7517 §5) at this URL.
    Url(String),
    /// A JWK set in this file, on each machine that verifies. An absolute path.
    File(String),
    /// This JWK set.
    Inline(String),
}

/// What a class of routes asks of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteClass {
    /// By which gateways and services ask for it: ASCII letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The issuers whose tokens are accepted; empty: all.
    pub issuers: Vec<String>,
    /// In place of the audiences of the issuer; empty: those.
    pub audiences: Vec<String>,
    /// A token has all of these in `scope` (RFC 8693 §4.2) or `scp`.
    pub scopes: Vec<String>,
    /// A token has all of these.
    pub claims: Vec<RequiredClaim>,
}

/// A claim that a token must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    /// Its name, as in selectors: `tenant_id`, `cnf.jkt`.
    pub name: String,
    /// With one of these values; empty: any value.
    pub values: Vec<String>,
}

impl VerificationPolicy {
    /// A policy of these issuers and classes. Lists whose order says nothing are sorted.
    ///
    /// # Errors
    /// The first limit that is passed or rule that contradicts another, with the field, counted in the order given.
    pub fn new(mut issuers: Vec<Issuer>, mut classes: Vec<RouteClass>) -> Result<Self, VerificationError> {
        for issuer in &mut issuers {
            issuer.audiences.sort_unstable();
            issuer.algorithms.sort_unstable();
            issuer.types.sort_unstable();
        }
        for class in &mut classes {
            [&mut class.issuers, &mut class.audiences, &mut class.scopes]
                .into_iter()
                .for_each(|names| names.sort_unstable());
            class.claims.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            class.claims.iter_mut().for_each(|claim| claim.values.sort_unstable());
        }
        rules::validate_each(&issuers, &classes)?;
        issuers.sort_unstable_by(|a, b| a.iss.cmp(&b.iss));
        classes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let policy = Self { issuers, classes };
        rules::validate_whole(&policy)?;
        Ok(policy)
    }

    /// Sorted by `iss`.
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// Sorted by name.
    #[must_use]
    pub fn classes(&self) -> &[RouteClass] {
        &self.classes
    }

    /// The issuer that is called so.
    #[must_use]
    pub fn issuer(&self, iss: &str) -> Option<&Issuer> {
        let found = self.issuers.binary_search_by(|issuer| issuer.iss.as_str().cmp(iss)).ok()?;
        self.issuers.get(found)
    }

    /// The class that is called so.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&RouteClass> {
        let found = self.classes.binary_search_by(|class| class.name.as_str().cmp(name)).ok()?;
        self.classes.get(found)
    }
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// As `alg` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm that `alg` names; case counts.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl TokenType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AccessToken, Self::Jwt, Self::Absent];

    /// As a policy file spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Jwt => "JWT",
            Self::Absent => "absent",
        }
    }

    /// What a token of this `typ` is: without regard to case, and with or without `application/` (RFC 7515 §4.1.9).
    #[must_use]
    pub fn of(typ: Option<&str>) -> Option<Self> {
        const MEDIA: &str = "application/";
        let Some(typ) = typ else { return Some(Self::Absent) };
        let is_media = typ.get(..MEDIA.len()).is_some_and(|start| start.eq_ignore_ascii_case(MEDIA));
        let typ = if is_media { &typ[MEDIA.len()..] } else { typ };
        [Self::AccessToken, Self::Jwt].into_iter().find(|one| one.name().eq_ignore_ascii_case(typ))
    }
}
