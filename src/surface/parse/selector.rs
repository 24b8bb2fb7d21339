//! Selectors, with every wrong claim named.

use super::Issuers;
use crate::revocation::{CLAIMS_MAX, Selector, SelectorError, TOKEN_SHA256, TestedClaim};
use crate::surface::violations::{Path, Violations};
use crate::wire::pb;

/// Claims whose values are only unique within one issuer.
const ISSUER_SCOPED: [&str; 4] = ["sub", "sid", "jti", "client_id"];
/// The length of an unpadded base64url SHA-256.
const SHA256_TEXT_BYTES: usize = 43;

/// The selector that a message holds.
pub(super) fn selector(
    message: &pb::Selector,
    tested: TestedClaim,
    at: &Path<'_>,
    violations: &mut Violations,
) -> Option<Selector> {
    let pairs = message.claims.iter().map(|claim| (claim.name.as_str(), claim.value.as_str()));
    match Selector::new(pairs, tested) {
        Ok(selector) => {
            check_hash(&selector, at, violations);
            Some(selector)
        }
        Err(first) => {
            explain(message, first, at, violations);
            None
        }
    }
}

/// Refuses a selector that several issuers' tokens could match by accident.
pub(super) fn check_issuer(
    selector: &Selector,
    issuers: Issuers,
    any_issuer: bool,
    at: &Path<'_>,
    violations: &mut Violations,
) {
    if issuers == Issuers::One || any_issuer || selector.value("iss").is_some() {
        return;
    }
    if let Some(name) = ISSUER_SCOPED.into_iter().find(|name| selector.value(name).is_some()) {
        violations.add(
            at,
            format_args!(
                "several issuers are configured and {name} is unique within one only: add iss, or set any_issuer"
            ),
        );
    }
}

/// A hash of another length would silently never match.
fn check_hash(selector: &Selector, at: &Path<'_>, violations: &mut Violations) {
    let Some(hash) = selector.value(TOKEN_SHA256) else { return };
    let base64url = hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if hash.len() != SHA256_TEXT_BYTES || !base64url {
        violations.add(
            at,
            format_args!(
                "{TOKEN_SHA256} is an unpadded base64url SHA-256 of {SHA256_TEXT_BYTES} bytes, {} bytes given",
                hash.len()
            ),
        );
    }
}

fn explain(message: &pb::Selector, first: SelectorError, at: &Path<'_>, violations: &mut Violations) {
    if message.claims.len() > CLAIMS_MAX {
        return violations.add(at, SelectorError::TooManyClaims(message.claims.len()));
    }
    let before = violations.count();
    for (index, claim) in message.claims.iter().enumerate() {
        let alone = Selector::new([(claim.name.as_str(), claim.value.as_str())], TestedClaim::Iat);
        if let Err(error) = alone {
            violations.add(at.item("claims", index).field(part(&error)), error);
        }
    }
    if violations.count() == before {
        violations.add(at, first);
    }
}

fn part(error: &SelectorError) -> &'static str {
    match error {
        SelectorError::EmptyValue(_) | SelectorError::ValueTooLong { .. } => "value",
        SelectorError::Empty
        | SelectorError::TooManyClaims(_)
        | SelectorError::DuplicateName(_)
        | SelectorError::EmptyName
        | SelectorError::NameTooLong(_) => "name",
    }
}
