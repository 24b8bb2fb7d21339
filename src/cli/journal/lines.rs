//! A record of the journal as lines of JSON: one for each item of each request, one for everything else.

use serde_json::{Map, Value, json};

use crate::cli::revoke::hex;
use crate::journal::{
    Action, Body, CredentialAction, CredentialChange, Extension, Linked, Reinstatement, Request, Revocation,
    accepted_by,
};
use crate::revocation::ports::{AppliedPolicy, Credential};
use crate::revocation::{
    Ancestor, Cutoff, Epoch, LifetimePolicy, Minute, Policy, Revision, RevocationId, Selector, UnixMillis, WhenStale,
};
use crate::surface::http::{render_millis, render_time};
use crate::wire;

/// Whose records they are: what ids begin with.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) epoch: Epoch,
    pub(super) ancestors: Vec<Ancestor>,
}

impl History {
    /// The record, in lines.
    pub(super) fn lines(&self, linked: &Linked) -> Vec<Value> {
        let record = &linked.record;
        let line = |at: UnixMillis, action: &str, facts: Value| {
            let mut line = Map::new();
            line.insert("revision".into(), record.revision.to_string().into());
            line.insert("checksum".into(), hex(&linked.checksum).into());
            line.insert("at".into(), render_millis(at.0).into());
            line.insert("action".into(), action.into());
            if let Value::Object(facts) = facts {
                line.extend(facts);
            }
            Value::Object(line)
        };
        let stated = record.source_time();
        match &record.body {
            Body::Start { build, wall_time } => vec![line(*wall_time, "start", json!({ "build": build }))],
            Body::Tick => vec![line(stated, "tick", Value::Null)],
            Body::Policy { policy, actor, peer } => {
                vec![line(
                    stated,
                    "policy",
                    json!({ "principal": actor, "peer": text(peer), "policy": policy_of(policy) }),
                )]
            }
            Body::Extend(extensions) => {
                extensions.iter().map(|extension| line(stated, "extend", extension_of(extension))).collect()
            }
            Body::Credentials(change) => {
                let facts = credential_facts(change).into_iter();
                facts
                    .map(|(action, facts)| {
                        line(change.received_at, action, with_caller(facts, &change.principal, &change.peer))
                    })
                    .collect()
            }
            Body::Verification(applied) => {
                let facts = with_caller(verification_of(applied), &applied.principal, &applied.peer);
                vec![line(applied.applied_at, "apply_policy", facts)]
            }
            Body::Requests(requests) => {
                let mut index = 0;
                let mut all = Vec::new();
                for request in requests {
                    for (action, facts) in self.items(record.revision, request, &mut index) {
                        let mut facts = with_caller(facts, &request.principal, &request.peer);
                        facts["request_id"] = json!(request.request_id);
                        all.push(line(request.received_at, action, facts));
                    }
                }
                all
            }
        }
    }

    /// `index` counts the revocations of the whole record.
    fn items(&self, revision: Revision, request: &Request, index: &mut u32) -> Vec<(&'static str, Value)> {
        match &request.action {
            Action::Revoke(revocations) => revocations
                .iter()
                .map(|revocation| {
                    let epoch_prefix = accepted_by(self.epoch, &self.ancestors, revision).prefix();
                    let id = RevocationId { epoch_prefix, revision, index: *index };
                    *index += 1;
                    ("revoke", revocation_of(id, revocation))
                })
                .collect(),
            Action::Reinstate(all) => all.iter().map(|one| ("reinstate", reinstatement_of(one))).collect(),
        }
    }
}

fn with_caller(mut facts: Value, principal: &str, peer: &str) -> Value {
    facts["principal"] = principal.into();
    facts["peer"] = text(peer);
    facts
}

fn revocation_of(id: RevocationId, revocation: &Revocation) -> Value {
    let Revocation { selector, mark, exceptions, reason, already_expired, merged, .. } = revocation;
    json!({
        "id": (!already_expired).then(|| id.to_string()),
        "selector": selector_of(selector),
        "cutoff": cutoff(mark.cutoff),
        "cutoff_on": wire::tested_name(selector.tested()),
        "expires_at": minute(mark.expiry),
        "exceptions": exceptions.iter().map(selector_of).collect::<Vec<_>>(),
        "reason": text(reason),
        "already_expired": already_expired,
        "merged": merged,
    })
}

fn reinstatement_of(reinstatement: &Reinstatement) -> Value {
    let Reinstatement { selector, only, undone, reason } = reinstatement;
    json!({
        "selector": selector_of(selector),
        "cutoff_on": wire::tested_name(selector.tested()),
        "only": only.map(|id| id.to_string()),
        "undone": undone.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "reason": text(reason),
    })
}

fn extension_of(Extension { id, selector, expiry }: &Extension) -> Value {
    json!({ "id": id.to_string(), "selector": selector_of(selector), "expires_at": minute(*expiry) })
}

fn credential_facts(change: &CredentialChange) -> Vec<(&'static str, Value)> {
    match &change.action {
        CredentialAction::Create(credential) => vec![("create_credential", credential_of(credential))],
        CredentialAction::Revoke(ids) => {
            ids.iter().map(|id| ("revoke_credential", json!({ "credential": id.to_string() }))).collect()
        }
    }
}

/// Without what is kept of its secret.
fn credential_of(credential: &Credential) -> Value {
    let Credential { id, name, grant, expires_at, .. } = credential;
    json!({
        "credential": id.to_string(),
        "name": name,
        "roles": grant.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "issuers": grant.issuers,
        "claims": grant.claims,
        "writes_per_minute": grant.writes_per_minute,
        "expires_at": expires_at.map(|at| render_time(at.0)),
    })
}

fn verification_of(applied: &AppliedPolicy) -> Value {
    json!({
        "version": applied.policy.version.to_string(),
        "reverts_to": applied.reverts_to.map(|version| version.to_string()),
        "reason": text(&applied.reason),
        "policy_text": applied.source,
    })
}

fn policy_of(policy: &Policy) -> Value {
    json!({
        "max_entries": policy.max_entries.to_string(),
        "max_token_lifetime_seconds": policy.max_token_lifetime.as_secs(),
        "max_session_lifetime_seconds": policy.max_session_lifetime.as_secs(),
        "expiry_leeway_seconds": policy.expiry_leeway.as_secs(),
        "expiry_grace_seconds": policy.expiry_grace.as_secs(),
        "max_staleness_seconds": policy.max_staleness.as_secs(),
        "clock_skew_max_seconds": policy.clock_skew_max.as_secs(),
        "issuer_clock_skew_seconds": policy.issuer_clock_skew.as_secs(),
        "when_stale": if policy.when_stale == WhenStale::Deny { "deny" } else { "serve_stale" },
        "lifetime_policy": if policy.lifetime_policy == LifetimePolicy::Enforce { "enforce" } else { "warn" },
        "losses_accepted": policy.losses_accepted.to_string(),
    })
}

fn selector_of(selector: &Selector) -> Value {
    Value::Object(selector.pairs().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

fn cutoff(cutoff: Cutoff) -> Value {
    cutoff.seconds().map_or(Value::Null, |at| render_time(at.0).into())
}

fn minute(minute: Minute) -> Value {
    minute.seconds().map_or(Value::Null, |at| render_time(at.0).into())
}

fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract::sample;

    fn history() -> History {
        History { epoch: Epoch { generation: 2, id: [0xab; 16] }, ancestors: Vec::new() }
    }

    #[test]
    fn each_item_of_each_request_is_a_line_with_who_where_what_why_and_when() {
        let lines: Vec<Value> = sample::one_of_each()
            .into_iter()
            .flat_map(|record| history().lines(&Linked { checksum: [0xcd; 32], record }))
            .collect();
        let actions: Vec<&str> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
        let expected = "start policy revoke revoke revoke revoke reinstate revoke reinstate extend tick policy \
                        create_credential create_credential revoke_credential revoke_credential \
                        apply_policy";
        assert_eq!(actions.join(" "), expected);
        for line in &lines {
            assert_eq!(line["checksum"], "cd".repeat(32));
            assert!(line["at"].as_str().unwrap().ends_with('Z') && line["revision"].is_string(), "{line}");
        }
        let revoked = &lines[3];
        for (field, value) in [
            ("revision", json!("3")),
            ("id", json!("abababab-3-1")),
            ("principal", json!("admin-0")),
            ("peer", json!("127.0.0.1:4711")),
            ("request_id", json!("request-3")),
            ("selector", json!({ "iss": "idp", "sub": "user-3-1" })),
            ("cutoff", json!("1970-01-01T00:16:40Z")),
            ("expires_at", json!("1970-01-01T08:20:00Z")),
            ("reason", json!("left the company")),
            ("at", json!("1970-01-04T00:00:00.000Z")),
        ] {
            assert_eq!(revoked[field], value, "{field}");
        }
        assert_eq!(lines[7]["id"], "abababab-4-2", "revocations count through the record");
        assert_eq!(lines[6]["request_id"], Value::Null);
        assert_eq!((&lines[11]["principal"], &lines[11]["peer"]), (&json!("root"), &json!("192.0.2.1")));
        let created = &lines[12];
        assert_eq!(
            (&created["credential"], &created["roles"]),
            (&json!("0707070707070707"), &json!(["check", "revoke"]))
        );
        assert!(created.to_string().find("digest").is_none() && created.get("hash").is_none());
    }
}
