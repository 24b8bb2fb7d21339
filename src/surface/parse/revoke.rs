//! Revoke requests.

use std::time::Duration;

use super::selector::{check_issuer, selector};
use super::token::target as token_target;
use super::{Issuers, body_hash, item_count, reason, request_bytes, request_id, sort_claims, tested};
use crate::revocation::ports::{Caller, CutoffChoice, ExpiryChoice, Revoke, RevokeRequest, Target};
use crate::revocation::{Cutoff, EXCEPTIONS_MAX, Minute, Selector, TestedClaim, UnixSeconds};
use crate::surface::violations::{Path, Violations};
use crate::token::TokenKind;
use crate::wire::pb;

const BODY_DOMAIN: &[u8] = b"rescind/body/revoke/1\0";

/// The request that a message holds, or all that is wrong with it.
pub(crate) fn revoke_request(
    message: pb::RevokeRequest,
    caller: Caller,
    issuers: Issuers,
) -> Result<RevokeRequest, Violations> {
    let mut violations = Violations::default();
    item_count(message.revocations.len(), "revocations", &mut violations);
    request_bytes(&message, "revocations", &mut violations);
    if !violations.is_empty() {
        return Err(violations);
    }
    let request_id = request_id(&message.request_id, &mut violations);
    let items = message.revocations.iter().enumerate().filter_map(|(index, revocation)| {
        let at = Path::element("revocations", index);
        let item = revoke(revocation, &at, &mut violations)?;
        if let Target::Selector(selector) = &item.target {
            check_issuer(selector, issuers, message.any_issuer, &at.field("selector"), &mut violations);
        }
        Some(item)
    });
    let items: Vec<Revoke> = items.collect();
    let pb::RevokeRequest { dry_run, any_issuer, confirmed, .. } = message;
    violations.or(Some(()))?;
    Ok(RevokeRequest { caller, request_id, body_hash: hash(message), items, dry_run, any_issuer, confirmed })
}

fn hash(mut message: pb::RevokeRequest) -> [u8; 32] {
    message.request_id.clear();
    // Whoever is told to confirm sends the same request again.
    message.confirmed = false;
    for revocation in &mut message.revocations {
        if let Some(pb::revocation::Target::Selector(selector)) = &mut revocation.target {
            sort_claims(selector);
        }
        revocation.exceptions.iter_mut().for_each(sort_claims);
    }
    body_hash(BODY_DOMAIN, &message)
}

fn revoke(message: &pb::Revocation, at: &Path<'_>, violations: &mut Violations) -> Option<Revoke> {
    let tested = tested(message.cutoff_on, at, violations);
    let cutoff = cutoff(message, tested, at, violations);
    let expiry = expiry(message, at, violations);
    let exceptions = exceptions(message, at, violations);
    reason(&message.reason, at.field("reason"), violations);
    let target = target(message, tested, at, violations)?;
    Some(Revoke { target, cutoff, expiry, exceptions, reason: message.reason.clone() })
}

fn target(message: &pb::Revocation, tested: TestedClaim, at: &Path<'_>, violations: &mut Violations) -> Option<Target> {
    use pb::revocation::Target as Message;
    match &message.target {
        Some(Message::Selector(claims)) => {
            selector(claims, tested, &at.field("selector"), violations).map(Target::Selector)
        }
        Some(Message::Token(token)) => {
            only_iat(tested, at, violations);
            token_target(token, TokenKind::Detect, &at.field("token"), violations)
        }
        Some(Message::OpaqueToken(token)) => {
            only_iat(tested, at, violations);
            token_target(token, TokenKind::Opaque, &at.field("opaque_token"), violations)
        }
        None => {
            violations.add(at, "one of selector, token and opaque_token is required");
            None
        }
    }
}

/// A token is one token, whenever its user logged in.
fn only_iat(tested: TestedClaim, at: &Path<'_>, violations: &mut Violations) {
    if tested != TestedClaim::Iat {
        violations.add(at.field("cutoff_on"), "auth_time cannot be tested for a handed-in token");
    }
}

fn cutoff(message: &pb::Revocation, tested: TestedClaim, at: &Path<'_>, violations: &mut Violations) -> CutoffChoice {
    use pb::revocation::Cutoff as Message;
    match message.cutoff {
        None => CutoffChoice::Natural,
        Some(Message::CutoffSeconds(seconds)) => {
            if Cutoff::at(UnixSeconds(seconds)).is_none() {
                let max = Cutoff::MAX_SECONDS;
                violations.add(at.field("cutoff_seconds"), format_args!("is at most {max}, {seconds} given"));
            }
            CutoffChoice::At(UnixSeconds(seconds))
        }
        Some(Message::Unbounded(unbounded)) => {
            only_true(unbounded, &at.field("unbounded"), violations);
            if tested != TestedClaim::Iat {
                violations.add(at.field("cutoff_on"), "needs a cutoff that is a time, unbounded given");
            }
            CutoffChoice::Unbounded
        }
    }
}

fn expiry(message: &pb::Revocation, at: &Path<'_>, violations: &mut Violations) -> ExpiryChoice {
    use pb::revocation::Expiry as Message;
    const SECONDS_MAX: u64 = Minute::MAX as u64 * 60;
    match message.expiry {
        None => ExpiryChoice::Natural,
        Some(Message::ExpiresAtSeconds(seconds)) => {
            if seconds > SECONDS_MAX {
                let at = at.field("expires_at_seconds");
                violations.add(at, format_args!("is at most {SECONDS_MAX}, {seconds} given"));
            }
            ExpiryChoice::At(UnixSeconds(seconds))
        }
        Some(Message::ExpiresInSeconds(seconds)) => {
            if seconds == 0 || seconds > SECONDS_MAX {
                let at = at.field("expires_in_seconds");
                violations.add(at, format_args!("is 1 to {SECONDS_MAX}, {seconds} given"));
            }
            ExpiryChoice::In(Duration::from_secs(seconds))
        }
        Some(Message::NeverExpires(never)) => {
            only_true(never, &at.field("never_expires"), violations);
            ExpiryChoice::Never
        }
    }
}

/// A choice that is made by its presence.
fn only_true(given: bool, at: &Path<'_>, violations: &mut Violations) {
    if !given {
        violations.add(at, "can only be true; leave it out instead");
    }
}

fn exceptions(message: &pb::Revocation, at: &Path<'_>, violations: &mut Violations) -> Vec<Selector> {
    let count = message.exceptions.len();
    if count > EXCEPTIONS_MAX {
        violations.add(at.field("exceptions"), format_args!("holds at most {EXCEPTIONS_MAX}, {count} given"));
        return Vec::new();
    }
    let mut kept: Vec<Selector> = Vec::with_capacity(count);
    for (index, exception) in message.exceptions.iter().enumerate() {
        let at = at.item("exceptions", index);
        let Some(selector) = selector(exception, TestedClaim::Iat, &at, violations) else { continue };
        if kept.contains(&selector) {
            violations.add(at, "is given twice");
        } else {
            kept.push(selector);
        }
    }
    kept
}
