//! Whether a token is what it says: its signature, who made it, for whom, and for when.
//!
//! Chooses keys and applies the policy; the signature itself is `ring`'s. Fetches nothing and reads no clock.
//!
//! ```text
//! parse ─▶ header ─▶ iss ─▶ alg, typ pinned ─▶ key by kid ─▶ signature ─▶ times ─▶ aud ─▶ claims, scopes
//! ```
//!
//! # Invariants
//! - F1. Nothing but a signature by a key of the issuer in `iss`, with an algorithm that the policy pins for it, makes a token
//!   accepted. The token chooses among pinned algorithms and known keys; it brings neither.
//! - F2. A token that two readers could read differently is refused: duplicate names, base64url that is not canonical, `crit`,
//!   `b64`, a token within a token.
//! - F3. A [`Refused`] holds nothing of the token.

#[cfg(test)]
mod tests;

use super::jose::{Header, Registered};
use super::jwt::jwt_parts;
use super::key_set::{Key, KeySet};
use super::{Part, TokenError, TokenKind, TokenParser};
use crate::revocation::verification::{Algorithm, Issuer, RouteClass, TokenType};
use crate::revocation::{Claims, UnixSeconds, VerificationPolicy};

/// The most scopes of a token that are looked through.
const SCOPES_MAX: usize = 1024;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// It is no well-formed token.
    #[error("{0}")]
    Malformed(TokenError),
    /// It has not three parts: it is opaque, or encrypted (RFC 7516).
    #[error("the token is not a signed JWT")]
    NotSigned,
    /// A registered member has a type that it cannot have.
    #[error("the {0} has a member of the wrong type")]
    Member(Part),
    /// `crit` or `b64`.
    #[error("the header asks for extensions")]
    Extended,
    /// A token within a token.
    #[error("the token holds a token")]
    Nested,
    /// `iss` is missing, or nobody whose tokens are accepted, or not for this class of routes.
    #[error("the issuer is not accepted")]
    Issuer,
    /// `alg` is missing, or not one that is pinned for the issuer.
    #[error("the algorithm is not accepted from this issuer")]
    Algorithm,
    /// `typ` is not accepted.
    #[error("the type of token is not accepted from this issuer")]
    Type,
    /// The issuer's keys are not known.
    #[error("the issuer's keys are not known")]
    NoKeys,
    /// The issuer has no such key.
    #[error("the issuer has no such key")]
    UnknownKey,
    /// The signature is not that of the key.
    #[error("the signature is wrong")]
    Signature,
    /// `exp` is missing or over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `aud` is missing, or names somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// A claim that the class of routes requires is missing, or says something else.
    #[error("the token lacks a claim that is required here")]
    Claim,
    /// A scope that the class of routes requires is missing.
    #[error("the token lacks a scope that is required here")]
    Scope,
}

/// By which rules a token is judged.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Whose tokens are accepted.
    pub policy: &'a VerificationPolicy,
    /// For which routes; `None`: what every class asks.
    pub class: Option<&'a RouteClass>,
    /// The time.
    pub now: UnixSeconds,
}

/// A token that was accepted; its claims are where they were parsed to.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    /// By whom it was made.
    pub issuer: &'a Issuer,
}

/// Verifies a token. Its claims replace those in `claims`, with `header.kid` as the key that verified is called; they are
/// cleared when it is refused. `keys` gives an issuer's keys; `None`: they are not known.
///
/// # Errors
/// Why it is refused. [`Refused::UnknownKey`] may be worth another try with newer keys, of the issuer that
/// [`claimed_issuer`] names.
pub fn verify<'a, K: AsRef<KeySet>>(
    parser: &mut TokenParser,
    claims: &mut Claims,
    token: &[u8],
    rules: &Rules<'a>,
    keys: impl FnOnce(&Issuer) -> Option<K>,
) -> Result<Verified<'a>, Refused> {
    let verified = authenticate(parser, claims, token, rules, keys)
        .and_then(|verified| judge_class(claims, rules.class).map(|()| verified));
    if verified.is_err() {
        claims.clear();
    }
    verified
}

/// As [`verify`], but for the claims and scopes that the class asks for: [`judge_class`]. Leaves claims behind whatever comes of it.
pub(super) fn authenticate<'a, K: AsRef<KeySet>>(
    parser: &mut TokenParser,
    claims: &mut Claims,
    token: &[u8],
    rules: &Rules<'a>,
    keys: impl FnOnce(&Issuer) -> Option<K>,
) -> Result<Verified<'a>, Refused> {
    parser.parse_token(claims, token, TokenKind::Detect)?;
    let parts = jwt_parts(token).ok_or(Refused::NotSigned)?;
    let (mut header, mut registered) = (Header::default(), Registered::default());
    parser.read(Part::Header, parts.header, header.reader())?;
    parser.read(Part::Payload, parts.payload, registered.reader())?;
    if header.is_extended {
        return Err(Refused::Extended);
    }
    if header.is_nested {
        return Err(Refused::Nested);
    }
    for (part, is_sound) in [(Part::Header, header.is_sound()), (Part::Payload, registered.is_sound())] {
        if !is_sound {
            return Err(Refused::Member(part));
        }
    }

    let issuer = issuer(claims, rules).ok_or(Refused::Issuer)?;
    let algorithm = header.alg.as_deref().and_then(Algorithm::named);
    let algorithm = algorithm.filter(|one| issuer.algorithms.contains(one)).ok_or(Refused::Algorithm)?;
    TokenType::of(header.typ.as_deref()).filter(|one| issuer.types.contains(one)).ok_or(Refused::Type)?;

    let keys = keys(issuer).ok_or(Refused::NoKeys)?;
    let signature = parser.bytes(Part::Signature, parts.signature)?;
    let kid = header.kid.as_deref();
    let key = signer(keys.as_ref(), algorithm, kid, parts.signing_input.as_bytes(), signature)?;
    claims.replace("header.kid", key.kid.as_deref().unwrap_or_default());

    judge_times(&registered, issuer, rules.now)?;
    judge_audience(claims, issuer, rules.class)?;
    Ok(Verified { issuer })
}

/// The issuer that a token says it is from, if the policy has it. Verifies nothing.
pub fn claimed_issuer<'a>(
    parser: &mut TokenParser,
    claims: &mut Claims,
    token: &[u8],
    policy: &'a VerificationPolicy,
) -> Option<&'a Issuer> {
    parser.parse_token(claims, token, TokenKind::Detect).ok()?;
    let found = claims.value("iss").and_then(|iss| policy.issuer(iss));
    claims.clear();
    found
}

/// What a token that a trusted proxy verified must still be: of an accepted issuer, in time, for the audience and the class.
/// `claims` are those of its whole payload.
///
/// # Errors
/// As [`verify`], of what can be seen.
pub fn judge_verified<'a>(
    parser: &mut TokenParser,
    claims: &Claims,
    payload: &[u8],
    rules: &Rules<'a>,
) -> Result<Verified<'a>, Refused> {
    let verified = judge_proven(parser, claims, payload, rules)?;
    judge_class(claims, rules.class).map(|()| verified)
}

/// As [`judge_verified`], but for the claims and scopes that the class asks for.
pub(super) fn judge_proven<'a>(
    parser: &mut TokenParser,
    claims: &Claims,
    payload: &[u8],
    rules: &Rules<'a>,
) -> Result<Verified<'a>, Refused> {
    let mut registered = Registered::default();
    parser.read_json(Part::Payload, payload, registered.reader())?;
    if !registered.is_sound() {
        return Err(Refused::Member(Part::Payload));
    }
    let issuer = issuer(claims, rules).ok_or(Refused::Issuer)?;
    judge_times(&registered, issuer, rules.now)?;
    judge_audience(claims, issuer, rules.class)?;
    Ok(Verified { issuer })
}

fn issuer<'a>(claims: &Claims, rules: &Rules<'a>) -> Option<&'a Issuer> {
    let iss = claims.value("iss")?;
    let is_of_class =
        rules.class.is_none_or(|class| class.issuers.is_empty() || class.issuers.iter().any(|one| one == iss));
    if is_of_class { rules.policy.issuer(iss) } else { None }
}

fn signer<'k>(
    keys: &'k KeySet,
    algorithm: Algorithm,
    kid: Option<&str>,
    message: &[u8],
    signature: &[u8],
) -> Result<&'k Key, Refused> {
    let mut refused = Refused::UnknownKey;
    for key in keys.candidates(algorithm, kid) {
        if key.verifies(algorithm, message, signature) {
            return Ok(key);
        }
        refused = Refused::Signature;
    }
    Err(refused)
}

fn judge_times(registered: &Registered, issuer: &Issuer, now: UnixSeconds) -> Result<(), Refused> {
    let leeway = u64::from(issuer.leeway_seconds);
    // RFC 7519 §4.1.4: on or after `exp` it must not be accepted.
    let earliest = UnixSeconds(now.0.saturating_sub(leeway));
    if !registered.exp.is_some_and(|exp| exp.is_after(earliest)) {
        return Err(Refused::Expired);
    }
    let latest = UnixSeconds(now.0.saturating_add(leeway));
    let is_to_come = [registered.nbf, registered.iat].into_iter().flatten().any(|time| time.is_after(latest));
    if is_to_come { Err(Refused::NotYet) } else { Ok(()) }
}

fn judge_audience(claims: &Claims, issuer: &Issuer, class: Option<&RouteClass>) -> Result<(), Refused> {
    let of_class = class.map(|class| &class.audiences).filter(|audiences| !audiences.is_empty());
    let accepted = of_class.unwrap_or(&issuer.audiences);
    let is_meant = claims.values("aud").any(|aud| accepted.iter().any(|one| one == aud.text));
    if is_meant { Ok(()) } else { Err(Refused::Audience) }
}

/// Whether a token has the claims and scopes that a class asks for.
pub(super) fn judge_class(claims: &Claims, class: Option<&RouteClass>) -> Result<(), Refused> {
    let Some(class) = class else { return Ok(()) };
    let has = |required: &crate::revocation::verification::RequiredClaim| {
        let mut values = claims.values(&required.name);
        values.any(|value| required.values.is_empty() || required.values.iter().any(|one| one == value.text))
    };
    if !class.claims.iter().all(has) {
        return Err(Refused::Claim);
    }
    let granted = |scope: &String| scopes(claims).any(|one| one == scope);
    if class.scopes.iter().all(granted) { Ok(()) } else { Err(Refused::Scope) }
}

/// The scopes that a token was granted: `scope`, separated by spaces (RFC 8693 §4.2), or `scp`, which others write, too, also
/// as an array.
pub fn scopes(claims: &Claims) -> impl Iterator<Item = &str> {
    let texts = ["scope", "scp"].into_iter().flat_map(|name| claims.values(name));
    texts.flat_map(|value| value.text.split(' ')).filter(|scope| !scope.is_empty()).take(SCOPES_MAX)
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self::Malformed(error)
    }
}
