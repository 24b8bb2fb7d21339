//! Searches.

use super::selector::selector;
use super::{bounded_text, position};
use crate::revocation::ports::{PAGE_SIZE_MAX, Query};
use crate::revocation::{Position, RevocationId, TestedClaim, UnixSeconds};
use crate::surface::violations::{Path, Violations};
use crate::wire::pb;

/// The page size when none is given.
const PAGE_SIZE_DEFAULT: usize = 100;
/// The longest actor, in bytes: a principal's name with room to spare.
const ACTOR_BYTES_MAX: usize = 256;
/// The longest page token, in bytes: several times the longest that is ever given out.
const PAGE_TOKEN_BYTES_MAX: usize = 1024;

/// Which revocation, and from how far an index.
pub(crate) fn id_query(message: &pb::GetRevocationRequest) -> Result<(RevocationId, Option<Position>), Violations> {
    let mut violations = Violations::default();
    let id = message.id.parse().map_err(|error| violations.add("id", error)).ok();
    let at_least = position(message.at_least.as_ref(), &mut violations);
    Ok((violations.or(id)?, at_least))
}

/// Which revocations.
pub(crate) fn list_query(message: pb::ListRevocationsRequest) -> Result<Query, Violations> {
    let mut violations = Violations::default();
    let claim = message.claim.and_then(|claim| {
        let alone = pb::Selector { claims: vec![claim.clone()] };
        selector(&alone, TestedClaim::Iat, &Path::root("claim"), &mut violations).map(|_| (claim.name, claim.value))
    });
    bounded_text(&message.actor, ACTOR_BYTES_MAX, "actor", &mut violations);
    bounded_text(&message.page_token, PAGE_TOKEN_BYTES_MAX, "page_token", &mut violations);
    let page_size = match message.page_size as usize {
        0 => PAGE_SIZE_DEFAULT,
        size if size > PAGE_SIZE_MAX => {
            violations.add("page_size", format_args!("is at most {PAGE_SIZE_MAX}, {size} given"));
            PAGE_SIZE_MAX
        }
        size => size,
    };
    let at_least = position(message.at_least.as_ref(), &mut violations);
    violations.or(Some(Query {
        claim,
        actor: (!message.actor.is_empty()).then_some(message.actor),
        accepted_from: message.accepted_from_seconds.map(UnixSeconds),
        accepted_before: message.accepted_before_seconds.map(UnixSeconds),
        live_only: message.live_only,
        page_size,
        page_token: (!message.page_token.is_empty()).then_some(message.page_token),
        at_least,
    }))
}
