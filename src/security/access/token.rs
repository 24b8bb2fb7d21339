//! Principals by a token: verified as any access token is, by the issuers of the principals file, and checked against this
//! node's own set of revocations.
//!
//! The token itself is not kept, for as long as its bearer stays connected, either: only its claims are.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::denial::{Claimed, Denial, DenialReason};
use crate::revocation::ports::{CREDENTIAL_NAME_BYTES_MAX, Checks};
use crate::revocation::verification::Issuer;
use crate::revocation::{Claims, Grant, UnixMillis, UnixSeconds, Verdict};
use crate::security::principals::{JWT_PREFIX, TokenIssuer, TokenIssuers};
use crate::token::keys::KeyRing;
use crate::token::{Refused, Rules, TokenParser, verify};

/// Where a token says that it is bound to a key (RFC 7800 §3, RFC 8705 §3.1, RFC 9449 §6.1). Who presents it as a bearer token has
/// not shown to hold that key, so it is not accepted.
const CONFIRMATIONS: [&str; 4] = ["cnf.jkt", "cnf.x5t#S256", "cnf.kid", "cnf.jwk.kty"];

/// What tokens of principals are judged by.
#[derive(Clone)]
pub struct Tokens {
    /// Whether they are revoked.
    pub checks: Arc<dyn Checks>,
    /// The keys of the issuers of the principals file, and of no others.
    pub keys: KeyRing,
}

/// What is kept of a token that was accepted.
pub struct Held {
    claims: Claims,
    issuer: Issuer,
}

/// Who a token says its bearer is.
pub(super) struct Bearer {
    pub(super) name: String,
    pub(super) grant: Arc<Grant>,
    pub(super) expires_at: UnixSeconds,
    pub(super) held: Arc<Held>,
}

thread_local! {
    static SCRATCH: RefCell<(TokenParser, Claims)> = RefCell::default();
}

impl Tokens {
    /// Verifies and checks a token.
    pub(super) fn judge(&self, token: &str, issuers: &TokenIssuers, now: UnixMillis) -> Result<Bearer, Denial> {
        SCRATCH.with_borrow_mut(|(parser, claims)| {
            let rules = Rules { policy: issuers.policy(), class: None, now: now.seconds() };
            let mut waiting_for: Option<String> = None;
            let verified = verify(parser, claims, token.as_bytes(), &rules, |issuer| {
                waiting_for = Some(issuer.iss.clone());
                self.keys.keys(&issuer.iss)
            });
            let issuer = match verified {
                Ok(verified) => verified.issuer,
                Err(refused) => return Err(denial(refused, waiting_for)),
            };
            let bearer = self.bearer(claims, issuer, issuers);
            claims.clear();
            bearer
        })
    }

    fn bearer(&self, claims: &Claims, issuer: &Issuer, issuers: &TokenIssuers) -> Result<Bearer, Denial> {
        let unknown = || Denial::nobody(DenialReason::Unknown, Claimed::Nobody);
        if CONFIRMATIONS.iter().any(|name| claims.value(name).is_some()) {
            return Err(unknown());
        }
        let answer = self.checks.check(claims, None);
        match answer.verdict {
            Verdict::Revoked(_) => return Err(unknown()),
            Verdict::Unknown(_) if answer.deny => return Err(unclear(None)),
            Verdict::NotRevoked | Verdict::Unknown(_) => {}
        }
        let known = issuers.issuer(&issuer.iss).ok_or_else(unknown)?;
        let (name, grant) = principal(known, claims).ok_or_else(unknown)?;
        let exp = claims.exp.ok_or_else(unknown)?;
        let held = Arc::new(Held { claims: claims.clone(), issuer: issuer.clone() });
        Ok(Bearer { name, grant, expires_at: exp.plus(u64::from(issuer.leeway_seconds)), held })
    }

    /// Who the bearer of a token that was accepted is by now; `None`: nobody, because its issuer is not trusted as it was, or it
    /// was revoked. What cannot be told leaves him who he was.
    pub(super) fn renew(&self, held: &Held, issuers: &TokenIssuers) -> Option<(String, Arc<Grant>)> {
        let is_trusted = issuers.policy().issuer(&held.issuer.iss) == Some(&held.issuer);
        let is_revoked = matches!(self.checks.check(&held.claims, None).verdict, Verdict::Revoked(_));
        if !is_trusted || is_revoked {
            return None;
        }
        principal(issuers.issuer(&held.issuer.iss)?, &held.claims)
    }
}

/// The name and the grant of a token's bearer: `jwt:<issuer>/<sub>`.
fn principal(issuer: &TokenIssuer, claims: &Claims) -> Option<(String, Arc<Grant>)> {
    let sub = claims.value("sub")?;
    let name = format!("{JWT_PREFIX}{}/{sub}", issuer.name);
    let is_name = name.len() <= CREDENTIAL_NAME_BYTES_MAX && !name.contains(char::is_control);
    is_name.then_some((name, Arc::clone(issuer.grant(claims)?)))
}

/// Nobody is told more than whom this does not help: an expired token was genuine.
fn denial(refused: Refused, waiting_for: Option<String>) -> Denial {
    let nobody = |reason| Denial::nobody(reason, Claimed::Nobody);
    match refused {
        Refused::NoKeys => unclear(waiting_for),
        Refused::UnknownKey => Denial { keys_of: waiting_for, ..nobody(DenialReason::Unknown) },
        Refused::Expired => nobody(DenialReason::Expired),
        _ => nobody(DenialReason::Unknown),
    }
}

fn unclear(keys_of: Option<String>) -> Denial {
    let retry_after = Some(super::RETRY_UNCLEAR);
    Denial { keys_of, retry_after, ..Denial::nobody(DenialReason::Unclear, Claimed::Nobody) }
}

/// Hides what the token said.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held(a token of {:?})", self.issuer.iss)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({:?})", self.keys)
    }
}
