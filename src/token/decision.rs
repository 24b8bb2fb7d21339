//! What becomes of a request, for whoever stands in front of a service.
//!
//! What the far end is told is coarser than what is known here: a token that is revoked, expired, forged or for somebody else is
//! one and the same `invalid_token` (RFC 6750 §3.1), so that nobody learns which.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::verify::{self, Refused, Verified};
use super::{ClaimsError, TokenError};
use crate::revocation::{Claims, Hit, UnixSeconds, UnknownCause};

/// The most bytes of scopes that a challenge names: gateways refuse answers with long headers. When there are more, none is named.
const CHALLENGE_SCOPE_BYTES_MAX: usize = 1024;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Its token is genuine, meant for this, and not revoked.
    Allowed(Box<Allowed>),
    /// It is not.
    Denied(Denied),
    /// It cannot be told. What that means is configured; never simply "allowed".
    Unclear(Unclear),
}

/// Who sends a request, as its token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Allowed {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `client_id` (RFC 8693 §4.3), else `azp` (OpenID Connect Core 1.0 §2).
    pub client_id: Option<String>,
    /// The scopes, each once, in the order of the token.
    pub scopes: Vec<String>,
    /// `exp`.
    pub expires_at: Option<UnixSeconds>,
    /// The payload, as JSON.
    pub payload: String,
}

/// Why a request is denied: for the log and for counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What is known here.
    pub reason: Reason,
    /// What the far end is told.
    pub challenge: Challenge,
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It brings no token.
    Missing,
    /// It brings a token in a form that it cannot have, or several.
    Unreadable,
    /// Its token is not accepted.
    Refused(Refused),
    /// Its token is revoked.
    Revoked(Hit),
}

/// Why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// No verification policy is known.
    NoPolicy,
    /// The policy has no class of this name.
    NoSuchClass,
    /// The issuer's keys are not known.
    NoKeys,
    /// The set of revocations cannot tell.
    Verdict(UnknownCause),
}

/// How many decisions there were, by what they came to.
#[derive(Debug, Default)]
pub struct Tally {
    allowed: AtomicU64,
    denied: [AtomicU64; Reason::NAMES.len()],
    unclear: [AtomicU64; Unclear::NAMES.len()],
}

/// What the far end is told (RFC 6750 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// 400, 401 or 403.
    pub status: u16,
    /// `error`; `None`: it brought no token, and is not told more (§3.1).
    pub error: Option<&'static str>,
    /// `error_description`.
    pub description: Option<&'static str>,
    /// `scope`: what it takes, separated by spaces, at most 1 KiB; empty: not said.
    pub scope: String,
}

impl Allowed {
    pub(super) fn of(claims: &Claims, verified: &Verified<'_>, payload: String) -> Self {
        let one = |name: &str| claims.value(name).map(str::to_owned);
        let mut scopes: Vec<String> = Vec::new();
        for scope in verify::scopes(claims) {
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        Self {
            issuer: verified.issuer.iss.clone(),
            subject: one("sub"),
            client_id: one("client_id").or_else(|| one("azp")),
            scopes,
            expires_at: claims.exp,
            payload,
        }
    }
}

/// Hides who it is.
impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowed").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Denied {
    pub(super) fn missing() -> Self {
        let challenge = Challenge { status: 401, error: None, description: None, scope: String::new() };
        Self { reason: Reason::Missing, challenge }
    }

    pub(super) fn unreadable() -> Self {
        let description = Some("one access token is expected, in one Authorization header, as Bearer");
        let challenge = Challenge { status: 400, error: Some("invalid_request"), description, scope: String::new() };
        Self { reason: Reason::Unreadable, challenge }
    }

    pub(super) fn revoked(hit: Hit) -> Self {
        Self { reason: Reason::Revoked(hit), challenge: Challenge::invalid_token() }
    }

    /// `scopes` are what the class asks for.
    pub(super) fn refused(refused: Refused, scopes: &[String]) -> Self {
        let challenge = match refused {
            Refused::Scope | Refused::Claim => Challenge {
                status: 403,
                error: Some("insufficient_scope"),
                description: Some("the access token does not reach here"),
                scope: if refused == Refused::Scope { named(scopes) } else { String::new() },
            },
            _ => Challenge::invalid_token(),
        };
        Self { reason: Reason::Refused(refused), challenge }
    }
}

fn named(scopes: &[String]) -> String {
    let bytes: usize = scopes.iter().map(|scope| scope.len() + 1).sum();
    if bytes <= CHALLENGE_SCOPE_BYTES_MAX { scopes.join(" ") } else { String::new() }
}

impl Challenge {
    fn invalid_token() -> Self {
        let description = Some("the access token is expired, revoked, malformed, or not for this");
        Self { status: 401, error: Some("invalid_token"), description, scope: String::new() }
    }

    /// The value of `WWW-Authenticate`. `realm` must be plain: letters, digits and the like.
    #[must_use]
    pub fn www_authenticate(&self, realm: &str) -> String {
        use std::fmt::Write as _;
        let mut value = format!("Bearer realm=\"{realm}\"");
        let scope = (!self.scope.is_empty()).then_some(self.scope.as_str());
        for (name, text) in [("error", self.error), ("error_description", self.description), ("scope", scope)] {
            if let Some(text) = text {
                let _ = write!(value, ", {name}=\"{text}\"");
            }
        }
        value
    }
}

impl Reason {
    /// Every name that [`Reason::name`] has.
    pub const NAMES: [&'static str; 18] = [
        "missing",
        "unreadable",
        "revoked",
        "malformed",
        "not_signed",
        "member",
        "extended",
        "nested",
        "issuer",
        "algorithm",
        "type",
        "unknown_key",
        "signature",
        "expired",
        "not_yet",
        "audience",
        "claim",
        "scope",
    ];

    /// In one word, for the log and for counting.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Revoked(_) => "revoked",
            Self::Refused(refused) => match refused {
                Refused::Malformed(_) => "malformed",
                Refused::NotSigned => "not_signed",
                Refused::Member(_) => "member",
                Refused::Extended => "extended",
                Refused::Nested => "nested",
                Refused::Issuer => "issuer",
                Refused::Algorithm => "algorithm",
                Refused::Type => "type",
                Refused::NoKeys | Refused::UnknownKey => "unknown_key",
                Refused::Signature => "signature",
                Refused::Expired => "expired",
                Refused::NotYet => "not_yet",
                Refused::Audience => "audience",
                Refused::Claim => "claim",
                Refused::Scope => "scope",
            },
        }
    }
}

impl Unclear {
    /// Every name that [`Unclear::name`] has.
    pub const NAMES: [&'static str; 11] = [
        "NO_POLICY",
        "NO_SUCH_CLASS",
        "NO_KEYS",
        "NEVER_SYNCED",
        "STALE",
        "BEHIND",
        "DIVERGED",
        "OVER_LIMIT",
        "INCOMPLETE",
        "TOO_MANY_CANDIDATES",
        "BEYOND_HORIZON",
    ];

    /// In one word, as in metrics and answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoPolicy => "NO_POLICY",
            Self::NoSuchClass => "NO_SUCH_CLASS",
            Self::NoKeys => "NO_KEYS",
            Self::Verdict(cause) => cause.name(),
        }
    }
}

impl Tally {
    pub(super) fn note(&self, decision: &Decision) {
        let index = |names: &[&str], name: &str| names.iter().position(|one| *one == name);
        let count = match decision {
            Decision::Allowed(_) => Some(&self.allowed),
            Decision::Denied(denied) => index(&Reason::NAMES, denied.reason.name()).map(|at| &self.denied[at]),
            Decision::Unclear(unclear) => index(&Unclear::NAMES, unclear.name()).map(|at| &self.unclear[at]),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that were allowed.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Those that were denied, in the order of [`Reason::NAMES`].
    #[must_use]
    pub fn denied(&self) -> [u64; Reason::NAMES.len()] {
        self.denied.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Those of which it could not be told, in the order of [`Unclear::NAMES`].
    #[must_use]
    pub fn unclear(&self) -> [u64; Unclear::NAMES.len()] {
        self.unclear.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

impl From<ClaimsError> for Refused {
    fn from(error: ClaimsError) -> Self {
        Self::Malformed(TokenError::Claims(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_under_its_name() {
        let tally = Tally::default();
        tally.note(&Decision::Denied(Denied::missing()));
        tally.note(&Decision::Denied(Denied::refused(Refused::Scope, &[])));
        tally.note(&Decision::Unclear(Unclear::Verdict(UnknownCause::BeyondHorizon)));
        tally.note(&Decision::Unclear(Unclear::NoPolicy));
        let (denied, unclear) = (tally.denied(), tally.unclear());
        assert_eq!((denied[0], denied[17], denied.iter().sum::<u64>()), (1, 1, 2));
        assert_eq!((unclear[0], unclear[10], unclear.iter().sum::<u64>(), tally.allowed()), (1, 1, 2, 0));
    }

    #[test]
    fn challenges_read_as_rfc_6750_has_them() {
        assert_eq!(Denied::missing().challenge.www_authenticate("orders"), r#"Bearer realm="orders""#);
        let expired = Denied::refused(Refused::Expired, &[]).challenge;
        assert_eq!(expired.status, 401);
        assert_eq!(
            expired.www_authenticate("orders"),
            r#"Bearer realm="orders", error="invalid_token", error_description="the access token is expired, revoked, malformed, or not for this""#
        );
        let scope = Denied::refused(Refused::Scope, &["read".into(), "write".into()]).challenge;
        assert_eq!(scope.status, 403);
        assert!(scope.www_authenticate("r").ends_with(r#", scope="read write""#));
        assert_eq!(Denied::unreadable().challenge.status, 400);
    }

    #[test]
    fn a_challenge_fits_into_a_header() {
        let scopes = vec!["s".repeat(60); 64];
        let challenge = Denied::refused(Refused::Scope, &scopes).challenge;
        assert_eq!((challenge.status, challenge.scope.as_str()), (403, ""));
        assert_eq!(Denied::refused(Refused::Scope, &scopes[..16]).challenge.scope.len(), 16 * 61 - 1);
    }

    #[test]
    fn the_far_end_cannot_tell_why_a_token_is_not_accepted() {
        let told: Vec<_> =
            [Refused::Expired, Refused::Signature, Refused::Audience, Refused::UnknownKey, Refused::Issuer]
                .map(|refused| Denied::refused(refused, &[]).challenge)
                .into();
        assert!(told.iter().all(|challenge| *challenge == told[0]));
    }
}
