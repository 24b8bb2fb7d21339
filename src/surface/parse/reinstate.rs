//! Reinstate requests.

use super::selector::selector;
use super::token::target as token_target;
use super::{body_hash, item_count, reason, request_bytes, request_id, sort_claims, tested};
use crate::revocation::TestedClaim;
use crate::revocation::ports::{Caller, ReinstateRequest, Undo};
use crate::surface::violations::{Path, Violations};
use crate::token::TokenKind;
use crate::wire::pb;

const BODY_DOMAIN: &[u8] = b"rescind/body/reinstate/1\0";

/// The request that a message holds, or all that is wrong with it.
pub(crate) fn reinstate_request(message: pb::ReinstateRequest, caller: Caller) -> Result<ReinstateRequest, Violations> {
    let mut violations = Violations::default();
    item_count(message.reinstatements.len(), "reinstatements", &mut violations);
    request_bytes(&message, "reinstatements", &mut violations);
    if !violations.is_empty() {
        return Err(violations);
    }
    let request_id = request_id(&message.request_id, &mut violations);
    reason(&message.reason, "reason", &mut violations);
    let items = message
        .reinstatements
        .iter()
        .enumerate()
        .filter_map(|(index, item)| undo(item, &Path::element("reinstatements", index), &mut violations))
        .collect();
    violations.or(Some(()))?;
    let (reason, dry_run) = (message.reason.clone(), message.dry_run);
    Ok(ReinstateRequest { caller, request_id, body_hash: hash(message), items, reason, dry_run })
}

fn hash(mut message: pb::ReinstateRequest) -> [u8; 32] {
    message.request_id.clear();
    for reinstatement in &mut message.reinstatements {
        if let Some(pb::reinstatement::Target::Selector(selector)) = &mut reinstatement.target {
            sort_claims(selector);
        }
    }
    body_hash(BODY_DOMAIN, &message)
}

fn undo(message: &pb::Reinstatement, at: &Path<'_>, violations: &mut Violations) -> Option<Undo> {
    use pb::reinstatement::Target as Message;
    let tested = tested(message.cutoff_on, at, violations);
    if tested != TestedClaim::Iat && !matches!(message.target, Some(Message::Selector(_))) {
        violations.add(at.field("cutoff_on"), "goes with a selector only");
    }
    match &message.target {
        Some(Message::Id(id)) => match id.parse() {
            Ok(id) => Some(Undo::Id(id)),
            Err(error) => {
                violations.add(at.field("id"), error);
                None
            }
        },
        Some(Message::Selector(claims)) => {
            selector(claims, tested, &at.field("selector"), violations).map(Undo::Selector)
        }
        Some(Message::Token(token)) => token_target(token, TokenKind::Detect, &at.field("token"), violations)
            .map(|target| Undo::Selector(target.selector().clone())),
        None => {
            violations.add(at, "one of id, selector and token is required");
            None
        }
    }
}
