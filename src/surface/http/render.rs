//! gRPC answers as JSON. Also what the command line prints with `--json`.

use serde_json::{Map, Value, json};

use super::time::{render_millis, render_time};
use crate::wire::{self, pb};

/// The answer to a revoke request.
#[must_use]
pub fn revoke(response: &pb::RevokeResponse) -> Value {
    let outcome = |outcome: &pb::RevocationOutcome| {
        let mut members = json!({
            "id": text(&outcome.id),
            "selector": outcome.selector.as_ref().map(selector),
            "cutoff": time(outcome.cutoff_seconds),
            "cutoff_on": tested(outcome.cutoff_on),
            "tokens_valid_from": time(outcome.tokens_valid_from_seconds),
            "expires_at": time(outcome.expires_at_seconds),
            "already_expired": outcome.already_expired,
            "merged": outcome.merged,
        });
        if let Some(preview) = &outcome.preview {
            members["preview"] = json!({
                "merges_with": preview.merges_with,
                "merges_with_more": preview.merges_with_more,
                "cutoff": time(preview.cutoff_seconds),
                "expires_at": time(preview.expires_at_seconds),
            });
        }
        members
    };
    json!({
        "position": position(response.position.as_ref()),
        "outcomes": response.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        "repeated_request": response.repeated_request,
    })
}

/// The answer to a reinstate request.
#[must_use]
pub fn reinstate(response: &pb::ReinstateResponse) -> Value {
    let outcome = |outcome: &pb::ReinstatementOutcome| json!({ "undone_ids": outcome.undone_ids, "still_revoked_by": outcome.still_revoked_by });
    json!({
        "position": position(response.position.as_ref()),
        "outcomes": response.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        "repeated_request": response.repeated_request,
    })
}

/// A page of revocations.
#[must_use]
pub fn list(response: &pb::ListRevocationsResponse) -> Value {
    json!({
        "revocations": response.revocations.iter().map(record).collect::<Vec<_>>(),
        "next_page_token": text(&response.next_page_token),
        "indexed_through": position(response.indexed_through.as_ref()),
    })
}

fn record(record: &pb::RevocationRecord) -> Value {
    use pb::revocation_record::State;
    let state = match record.state() {
        State::Live => Some("live"),
        State::Expired => Some("expired"),
        State::Reinstated => Some("reinstated"),
        State::Unspecified => None,
    };
    let undoing = |undoing: &pb::revocation_record::Undoing| json!({ "actor": undoing.actor, "at": render_millis(undoing.at_millis), "reason": undoing.reason });
    json!({
        "id": record.id,
        "selector": record.selector.as_ref().map(selector),
        "cutoff": time(record.cutoff_seconds),
        "cutoff_on": tested(record.cutoff_on),
        "expires_at": time(record.expires_at_seconds),
        "exceptions": record.exceptions.iter().map(selector).collect::<Vec<_>>(),
        "reason": record.reason,
        "actor": record.actor,
        "accepted_at": render_millis(record.accepted_at_millis),
        "state": state,
        "reinstated": record.reinstated.as_ref().map(undoing),
    })
}

/// The answer to a check. An outcome that is not set reads as unknown.
#[must_use]
pub fn check(response: &pb::CheckTokenResponse) -> Value {
    use pb::verdict::Outcome;
    let mut members = match response.verdict.as_ref().and_then(|verdict| verdict.outcome.as_ref()) {
        Some(Outcome::NotRevoked(_)) => json!({ "verdict": "not_revoked" }),
        Some(Outcome::Revoked(revoked)) => json!({
            "verdict": "revoked",
            "claim_names": revoked.claim_names,
            "cutoff": time(revoked.cutoff_seconds),
            "cutoff_on": tested(revoked.cutoff_on),
        }),
        Some(Outcome::Unknown(unknown)) => json!({
            "verdict": "unknown",
            "cause": unknown.cause().as_str_name(),
            "missing": text(&unknown.missing),
            "deny": unknown.deny,
        }),
        None => json!({ "verdict": "unknown", "cause": "CAUSE_UNSPECIFIED", "missing": null, "deny": true }),
    };
    members["position"] = position(response.position.as_ref());
    members["staleness_seconds"] = seconds(response.staleness_millis);
    members
}

/// How a node is.
#[must_use]
pub fn status(response: &pb::GetStatusResponse) -> Value {
    json!({
        "version": response.version,
        "position": position(response.position.as_ref()),
        "epoch_generation": response.epoch_generation.to_string(),
        "digest": hex(&response.digest),
        "live_entries": response.live_entries.to_string(),
        "max_entries": response.max_entries.to_string(),
        "active_shapes": response.active_shapes,
        "expiry_floor": render_time(response.expiry_floor_seconds),
        "staleness_seconds": seconds(response.staleness_millis),
        "uptime_seconds": response.uptime_seconds.to_string(),
        "indexed_through": position(response.indexed_through.as_ref()),
        "oldest_revision": response.oldest_revision.to_string(),
        "subscribers": response.subscribers.to_string(),
        "members_cut_off": response.members_cut_off.to_string(),
        "members_trouble": text(&response.members_trouble),
        "writes_refused": text(&response.writes_refused),
        "clock_alarm": text(&response.clock_alarm),
        "insecure": response.insecure,
        "authentication": response.authentication,
        "tls": response.tls,
        "audit_head": text(&response.audit_head),
        "public_key": hex(&response.public_key),
        "data_dir": response.data_dir,
        "following": response.following.as_ref().map(following),
    })
}

fn following(following: &pb::get_status_response::Following) -> Value {
    json!({
        "upstream": following.upstream,
        "state": following.state,
        "lag": following.lag.to_string(),
        "ready": following.ready,
        "stale": following.stale,
        "deny_when_stale": following.deny_when_stale,
        "max_staleness_seconds": following.max_staleness_seconds.to_string(),
        "residues": following.residues.to_string(),
        "trouble": text(&following.trouble),
    })
}

fn selector(message: &pb::Selector) -> Value {
    let members: Map<String, Value> =
        message.claims.iter().map(|claim| (claim.name.clone(), Value::from(claim.value.as_str()))).collect();
    Value::Object(members)
}

fn position(message: Option<&pb::Position>) -> Value {
    message.and_then(|message| wire::position(message).ok()).map_or(Value::Null, |here| here.to_string().into())
}

fn time(seconds: Option<u64>) -> Value {
    seconds.map_or(Value::Null, |seconds| render_time(seconds).into())
}

fn tested(number: i32) -> Value {
    wire::tested(number).map_or(Value::Null, |tested| wire::tested_name(tested).into())
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn seconds(millis: u64) -> Value {
    (millis as f64 / 1000.0).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
