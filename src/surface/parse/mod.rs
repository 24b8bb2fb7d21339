//! Requests parsed at the edge: from messages into what the core's ports take, or everything that is wrong with them.
//!
//! The one place that decides what a request may hold. JSON becomes the same messages first ([`super::http`]), so both
//! forms obey the same rules. What only the log can decide (limits on live entries, times relative to its now) is left
//! to the node.

mod credential;
mod policy;
mod propagation;
mod query;
mod reinstate;
mod revoke;
mod selector;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use sha2::{Digest, Sha256};

use super::violations::{Path, Violations};
use crate::revocation::ports::{REASON_BYTES_MAX, REQUEST_BYTES_MAX, REQUEST_ID_BYTES_MAX, REQUEST_ITEMS_MAX};
use crate::revocation::{Position, TestedClaim};
use crate::wire::{self, pb};

pub(crate) use credential::{CredentialChoice, Wanted, credential_choice, credentials_after, wanted_credential};
pub(crate) use policy::apply_policy;
pub(crate) use propagation::{await_propagation, forget, subscribers};
pub(crate) use query::{id_query, list_query};
pub(crate) use reinstate::reinstate_request;
pub(crate) use revoke::revoke_request;
pub(crate) use token::{TOKENS_MAX, presented, with_scratch};

/// Whether selectors must say which issuer they mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Issuers {
    /// At most one is configured: a value can be nobody else's.
    #[default]
    One,
    /// Several are: the same `sub` may be two people.
    Several,
}

fn bounded_text(text: &str, bytes_max: usize, at: impl fmt::Display, violations: &mut Violations) {
    if text.len() > bytes_max {
        violations.add(at, format_args!("has at most {bytes_max} bytes, {} given", text.len()));
    }
}

fn reason(text: &str, at: impl fmt::Display, violations: &mut Violations) {
    bounded_text(text, REASON_BYTES_MAX, at, violations);
}

fn request_id(text: &str, violations: &mut Violations) -> Option<String> {
    bounded_text(text, REQUEST_ID_BYTES_MAX, "request_id", violations);
    (!text.is_empty()).then(|| text.to_owned())
}

fn item_count(count: usize, field: &str, violations: &mut Violations) {
    if count == 0 || count > REQUEST_ITEMS_MAX {
        violations.add(field, format_args!("holds 1 to {REQUEST_ITEMS_MAX}, {count} given"));
    }
}

fn request_bytes(message: &impl prost::Message, field: &str, violations: &mut Violations) {
    let bytes = message.encoded_len();
    if bytes > REQUEST_BYTES_MAX {
        violations.add(field, format_args!("a request has at most {REQUEST_BYTES_MAX} encoded bytes, {bytes} given"));
    }
}

pub(super) fn position(message: Option<&pb::Position>, violations: &mut Violations) -> Option<Position> {
    match wire::position(message?) {
        Ok(position) => Some(position),
        Err(error) => {
            violations.add("at_least.epoch", error);
            None
        }
    }
}

fn tested(number: i32, at: &Path<'_>, violations: &mut Violations) -> TestedClaim {
    wire::tested(number).unwrap_or_else(|error| {
        violations.add(at.field("cutoff_on"), error);
        TestedClaim::default()
    })
}

/// What makes two requests the same: SHA-256 over `domain` and the protobuf encoding of the request, fields in the
/// order of their numbers and defaults left out, the request id cleared and the claims of each selector sorted.
/// The JSON twin of a request hashes to the same, whatever the order of its keys.
fn body_hash(domain: &[u8], canonical: &impl prost::Message) -> [u8; 32] {
    Sha256::new().chain_update(domain).chain_update(canonical.encode_to_vec()).finalize().into()
}

fn sort_claims(selector: &mut pb::Selector) {
    selector.claims.sort_unstable_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
}
