//! JSON requests as the messages of their gRPC twins.
//!
//! Only the form is judged here: types, unknown keys, times, and choices of which one is to be given. What the fields
//! may hold is judged where the message is parsed.

use serde_json::error::Category;

use super::time::Rounding;
use super::tree::{Fields, Tree};
use crate::revocation::Position;
use crate::surface::violations::{Path, Violations};
use crate::wire::{self, pb};

const REVOCATION_KEYS: &str = "selector, token, opaque_token, cutoff, unbounded, cutoff_on, expires_at, \
                               expires_in_seconds, never_expires, exceptions, reason";

/// Why bytes are not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON at all.
    #[error("not valid JSON at line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON of another form.
    #[error("{0}")]
    Form(Violations),
}

/// A revocation alone: a line of a batch.
///
/// # Errors
/// When it is not JSON, or not of the form of an element of `revocations`.
pub fn revocation(json: &[u8]) -> Result<pb::Revocation, DecodeError> {
    decode(json, |tree, violations| read_revocation(tree, &Path::root("revocation"), violations))
}

pub(crate) fn revoke_request(json: &[u8]) -> Result<pb::RevokeRequest, DecodeError> {
    decode(json, |tree, violations| {
        let mut fields = Fields::of(tree, None, violations)?;
        let revocations = fields.array("revocations", violations).into_iter().enumerate();
        let revocations = revocations
            .filter_map(|(index, item)| read_revocation(item, &Path::element("revocations", index), violations))
            .collect();
        let request = pb::RevokeRequest {
            revocations,
            request_id: fields.string("request_id", violations).unwrap_or_default(),
            dry_run: fields.boolean("dry_run", violations).unwrap_or_default(),
            any_issuer: fields.boolean("any_issuer", violations).unwrap_or_default(),
            confirmed: fields.boolean("confirmed", violations).unwrap_or_default(),
        };
        fields.finish("revocations, request_id, dry_run, any_issuer, confirmed", violations);
        Some(request)
    })
}

pub(crate) fn reinstate_request(json: &[u8]) -> Result<pb::ReinstateRequest, DecodeError> {
    decode(json, |tree, violations| {
        let mut fields = Fields::of(tree, None, violations)?;
        let reinstatements = fields.array("reinstatements", violations).into_iter().enumerate();
        let reinstatements = reinstatements
            .filter_map(|(index, item)| read_reinstatement(item, &Path::element("reinstatements", index), violations))
            .collect();
        let request = pb::ReinstateRequest {
            reinstatements,
            reason: fields.string("reason", violations).unwrap_or_default(),
            request_id: fields.string("request_id", violations).unwrap_or_default(),
            dry_run: fields.boolean("dry_run", violations).unwrap_or_default(),
        };
        fields.finish("reinstatements, reason, request_id, dry_run", violations);
        Some(request)
    })
}

pub(crate) fn list_request(json: &[u8]) -> Result<pb::ListRevocationsRequest, DecodeError> {
    decode(json, |tree, violations| {
        let mut fields = Fields::of(tree, None, violations)?;
        let claim = fields.take("claim").and_then(|claim| read_claim(claim, violations));
        let page_size = fields.whole_number("page_size", violations).unwrap_or_default();
        let request = pb::ListRevocationsRequest {
            claim,
            actor: fields.string("actor", violations).unwrap_or_default(),
            accepted_from_seconds: fields.time("accepted_from", Rounding::Down, violations),
            accepted_before_seconds: fields.time("accepted_before", Rounding::Up, violations),
            live_only: fields.boolean("live_only", violations).unwrap_or_default(),
            page_size: u32::try_from(page_size).unwrap_or(u32::MAX),
            page_token: fields.string("page_token", violations).unwrap_or_default(),
            at_least: read_at_least(&mut fields, violations),
        };
        let known = "claim, actor, accepted_from, accepted_before, live_only, page_size, page_token, at_least";
        fields.finish(known, violations);
        Some(request)
    })
}

pub(crate) fn check_request(json: &[u8]) -> Result<pb::CheckTokenRequest, DecodeError> {
    use pb::presented_token::Presented;
    decode(json, |tree, violations| {
        let mut fields = Fields::of(tree, None, violations)?;
        let token = fields.string("token", violations).map(Presented::Token);
        let opaque = fields.string("opaque_token", violations).map(Presented::OpaqueToken);
        let claims = fields.take("claims").and_then(|claims| read_claims(claims, violations)).map(Presented::Claims);
        let at_least = read_at_least(&mut fields, violations);
        let presented = one_of([token, opaque, claims], || {
            fields.wrong("token", "only one of token, opaque_token and claims can be given", violations);
        });
        fields.finish("token, opaque_token, claims, at_least", violations);
        Some(pb::CheckTokenRequest { token: Some(pb::PresentedToken { presented }), at_least })
    })
}

fn decode<T>(json: &[u8], read: impl FnOnce(Tree, &mut Violations) -> Option<T>) -> Result<T, DecodeError> {
    let tree: Tree = serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Syntax | Category::Eof | Category::Io | Category::Data => {
            DecodeError::Syntax { line: error.line(), column: error.column() }
        }
    })?;
    let mut violations = Violations::default();
    let request = read(tree, &mut violations);
    violations.or(request).map_err(DecodeError::Form)
}

fn read_revocation(tree: Tree, at: &Path<'_>, violations: &mut Violations) -> Option<pb::Revocation> {
    use pb::revocation::{Cutoff, Expiry, Target};
    let mut fields = Fields::of(tree, Some(at), violations)?;
    let selector = fields.take("selector");
    let selector = selector.and_then(|tree| read_selector(tree, &at.field("selector"), violations));
    let targets = [
        selector.map(Target::Selector),
        fields.string("token", violations).map(Target::Token),
        fields.string("opaque_token", violations).map(Target::OpaqueToken),
    ];
    let cutoffs = [
        fields.time("cutoff", Rounding::Up, violations).map(Cutoff::CutoffSeconds),
        fields.boolean("unbounded", violations).map(Cutoff::Unbounded),
    ];
    let expiries = [
        fields.time("expires_at", Rounding::Up, violations).map(Expiry::ExpiresAtSeconds),
        fields.whole_number("expires_in_seconds", violations).map(Expiry::ExpiresInSeconds),
        fields.boolean("never_expires", violations).map(Expiry::NeverExpires),
    ];
    let exceptions = fields.array("exceptions", violations).into_iter().enumerate();
    let exceptions =
        exceptions.filter_map(|(index, item)| read_selector(item, &at.item("exceptions", index), violations)).collect();
    let revocation = pb::Revocation {
        target: one_of(targets, || {
            violations.add(at, "only one of selector, token and opaque_token can be given");
        }),
        cutoff: one_of(cutoffs, || violations.add(at, "only one of cutoff and unbounded can be given")),
        cutoff_on: read_tested(&mut fields, violations),
        expiry: one_of(expiries, || {
            violations.add(at, "only one of expires_at, expires_in_seconds and never_expires can be given");
        }),
        exceptions,
        reason: fields.string("reason", violations).unwrap_or_default(),
    };
    fields.finish(REVOCATION_KEYS, violations);
    Some(revocation)
}

fn read_reinstatement(tree: Tree, at: &Path<'_>, violations: &mut Violations) -> Option<pb::Reinstatement> {
    use pb::reinstatement::Target;
    let mut fields = Fields::of(tree, Some(at), violations)?;
    let selector = fields.take("selector");
    let selector = selector.and_then(|tree| read_selector(tree, &at.field("selector"), violations));
    let targets = [
        fields.string("id", violations).map(Target::Id),
        selector.map(Target::Selector),
        fields.string("token", violations).map(Target::Token),
    ];
    let reinstatement = pb::Reinstatement {
        target: one_of(targets, || violations.add(at, "only one of id, selector and token can be given")),
        cutoff_on: read_tested(&mut fields, violations),
    };
    fields.finish("id, selector, token, cutoff_on", violations);
    Some(reinstatement)
}

/// `{"sub": "alice", "client_id": "web"}`.
fn read_selector(tree: Tree, at: &Path<'_>, violations: &mut Violations) -> Option<pb::Selector> {
    let members = tree.members(at, violations)?;
    let claims = members
        .into_iter()
        .filter_map(|(name, value)| Some(pb::Claim { value: value.scalar(at, violations)?, name }))
        .collect();
    Some(pb::Selector { claims })
}

/// `{"name": "sub", "value": "alice"}`.
fn read_claim(tree: Tree, violations: &mut Violations) -> Option<pb::Claim> {
    let at = Path::root("claim");
    let mut fields = Fields::of(tree, Some(&at), violations)?;
    let name = fields.string("name", violations).unwrap_or_default();
    let value = fields.take("value").and_then(|value| value.scalar(&at.field("value"), violations));
    fields.finish("name, value", violations);
    Some(pb::Claim { name, value: value.unwrap_or_default() })
}

/// `{"payload": {…}, "header": {…}}`.
fn read_claims(tree: Tree, violations: &mut Violations) -> Option<pb::presented_token::Claims> {
    let at = Path::root("claims");
    let mut fields = Fields::of(tree, Some(&at), violations)?;
    let text = |tree: Tree| {
        let mut text = String::new();
        tree.write(&mut text);
        text.into_bytes()
    };
    let payload = fields.take("payload").map(text);
    let header = fields.take("header").map(text);
    if payload.is_none() {
        fields.wrong("payload", "is required", violations);
    }
    fields.finish("payload, header", violations);
    Some(pb::presented_token::Claims { payload_json: payload.unwrap_or_default(), header_json: header })
}

fn read_tested(fields: &mut Fields<'_>, violations: &mut Violations) -> i32 {
    match fields.string("cutoff_on", violations).as_deref() {
        None => pb::TestedClaim::Unspecified.into(),
        Some("iat") => pb::TestedClaim::Iat.into(),
        Some("auth_time") => pb::TestedClaim::AuthTime.into(),
        Some(_) => {
            fields.wrong("cutoff_on", "must be iat or auth_time", violations);
            0
        }
    }
}

fn read_at_least(fields: &mut Fields<'_>, violations: &mut Violations) -> Option<pb::Position> {
    let text = fields.string("at_least", violations)?;
    match text.parse::<Position>() {
        Ok(position) => Some(wire::position_message(position)),
        Err(error) => {
            fields.wrong("at_least", error, violations);
            None
        }
    }
}

/// The one choice that was made; calls `several` when more than one was.
fn one_of<T, const N: usize>(choices: [Option<T>; N], several: impl FnOnce()) -> Option<T> {
    let mut made = choices.into_iter().flatten();
    let first = made.next();
    if made.next().is_some() {
        several();
    }
    first
}
