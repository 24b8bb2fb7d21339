//! Answers as messages.

use crate::revocation::ports::BackupPart;
use std::time::Duration;

use super::pb;
use super::value::{position_message, selector_message, tested_message};
use crate::revocation::ports::{
    Answer, Found, Page, Preview, Record, RecordState, ReinstateReply, RevokeReply, Revoked, Status,
};
use crate::revocation::{Cutoff, Minute, Position, RevocationId, UnixSeconds, UnknownCause, Verdict};

/// The answer to a revoke request.
#[must_use]
pub fn revoke_response(reply: &RevokeReply) -> pb::RevokeResponse {
    pb::RevokeResponse {
        position: reply.position.map(position_message),
        outcomes: reply.outcomes.iter().map(revocation_outcome).collect(),
        repeated_request: reply.repeated,
    }
}

fn revocation_outcome(revoked: &Revoked) -> pb::RevocationOutcome {
    pb::RevocationOutcome {
        id: revoked.id.map(|id| id.to_string()).unwrap_or_default(),
        selector: Some(selector_message(&revoked.selector)),
        cutoff_seconds: cutoff_seconds(revoked.cutoff),
        tokens_valid_from_seconds: revoked.cutoff.seconds().map(|cutoff| cutoff.plus(1).0),
        expires_at_seconds: minute_seconds(revoked.expiry),
        already_expired: revoked.already_expired,
        merged: revoked.merged,
        cutoff_on: tested_message(revoked.selector.tested()),
        preview: revoked.preview.as_ref().map(preview),
    }
}

fn preview(preview: &Preview) -> pb::revocation_outcome::Preview {
    pb::revocation_outcome::Preview {
        merges_with: preview.merges_with.iter().map(ToString::to_string).collect(),
        merges_with_more: u32::try_from(preview.merges_with_more).unwrap_or(u32::MAX),
        cutoff_seconds: cutoff_seconds(preview.cutoff),
        expires_at_seconds: minute_seconds(preview.expiry),
    }
}

/// The answer to a reinstate request. What still revokes a token is for the caller to add.
#[must_use]
pub fn reinstate_response(reply: &ReinstateReply) -> pb::ReinstateResponse {
    let outcome = |ids: &Vec<RevocationId>| pb::ReinstatementOutcome {
        undone_ids: ids.iter().map(ToString::to_string).collect(),
        still_revoked_by: Vec::new(),
    };
    pb::ReinstateResponse {
        position: reply.position.map(position_message),
        outcomes: reply.undone.iter().map(outcome).collect(),
        repeated_request: reply.repeated,
    }
}

/// The answer to a search for one revocation; `None` when there is none.
#[must_use]
pub fn found_record(found: &Found<Option<Record>>) -> Option<pb::GetRevocationResponse> {
    found.value.as_ref().map(|one| pb::GetRevocationResponse {
        revocation: Some(record(one)),
        indexed_through: Some(position_message(found.indexed_through)),
    })
}

/// A page of revocations.
#[must_use]
pub fn page(found: &Found<Page>) -> pb::ListRevocationsResponse {
    pb::ListRevocationsResponse {
        revocations: found.value.records.iter().map(record).collect(),
        next_page_token: found.value.next.clone().unwrap_or_default(),
        indexed_through: Some(position_message(found.indexed_through)),
    }
}

/// One accepted revocation.
#[must_use]
pub fn record(record: &Record) -> pb::RevocationRecord {
    use pb::revocation_record::{State, Undoing};
    let (state, reinstated) = match &record.state {
        RecordState::Live => (State::Live, None),
        RecordState::Expired => (State::Expired, None),
        RecordState::Reinstated { actor, at, reason } => {
            (State::Reinstated, Some(Undoing { actor: actor.clone(), at_millis: at.0, reason: reason.clone() }))
        }
    };
    pb::RevocationRecord {
        id: record.id.to_string(),
        selector: Some(selector_message(&record.selector)),
        cutoff_seconds: cutoff_seconds(record.cutoff),
        cutoff_on: tested_message(record.selector.tested()),
        expires_at_seconds: minute_seconds(record.expiry),
        exceptions: record.exceptions.iter().map(selector_message).collect(),
        reason: record.reason.clone(),
        actor: record.actor.clone(),
        accepted_at_millis: record.accepted_at.0,
        state: state.into(),
        reinstated,
    }
}

/// The answer to a check.
#[must_use]
pub fn check_response(answer: &Answer) -> pb::CheckTokenResponse {
    pb::CheckTokenResponse {
        verdict: Some(pb::Verdict { outcome: Some(outcome(answer)) }),
        position: Some(position_message(answer.position)),
        staleness_millis: millis(answer.staleness),
    }
}

fn outcome(answer: &Answer) -> pb::verdict::Outcome {
    use pb::verdict::{NotRevoked, Outcome, Revoked, Unknown};
    match &answer.verdict {
        Verdict::NotRevoked => Outcome::NotRevoked(NotRevoked {}),
        Verdict::Revoked(hit) => Outcome::Revoked(Revoked {
            claim_names: hit.shape.names().map(str::to_owned).collect(),
            cutoff_seconds: cutoff_seconds(hit.cutoff),
            cutoff_on: tested_message(hit.tested()),
        }),
        Verdict::Unknown(cause) => {
            let missing = match cause {
                UnknownCause::Incomplete(claim) => claim.clone(),
                _ => String::new(),
            };
            Outcome::Unknown(Unknown { cause: cause_number(cause).into(), missing, deny: answer.deny })
        }
    }
}

fn cause_number(cause: &UnknownCause) -> pb::verdict::Cause {
    use pb::verdict::Cause;
    match cause {
        UnknownCause::NeverSynced => Cause::NeverSynced,
        UnknownCause::Stale => Cause::Stale,
        UnknownCause::Behind => Cause::Behind,
        UnknownCause::Diverged => Cause::Diverged,
        UnknownCause::OverLimit => Cause::OverLimit,
        UnknownCause::Incomplete(_) => Cause::Incomplete,
        UnknownCause::TooManyCandidates => Cause::TooManyCandidates,
        UnknownCause::BeyondHorizon => Cause::BeyondHorizon,
    }
}

/// How a node is. Where it keeps its data, and whether it is exposed, is for the caller to add.
#[must_use]
pub fn status_response(status: &Status) -> pb::GetStatusResponse {
    let indexed_through = Position { epoch: status.epoch.id, revision: status.indexed_through };
    pb::GetStatusResponse {
        version: status.version.to_owned(),
        position: Some(position_message(status.position())),
        epoch_generation: status.epoch.generation,
        digest: status.digest.to_bytes().to_vec(),
        live_entries: status.live_entries,
        max_entries: status.policy.max_entries,
        active_shapes: status.shapes.iter().map(ToString::to_string).collect(),
        expiry_floor_seconds: status.floor.seconds().unwrap_or(UnixSeconds(0)).0,
        staleness_millis: millis(status.staleness),
        uptime_seconds: status.uptime.as_secs(),
        indexed_through: Some(position_message(indexed_through)),
        oldest_revision: status.oldest.0,
        subscribers: status.subscribers as u64,
        members_cut_off: status.members_cut_off,
        members_trouble: status.members_trouble.clone().unwrap_or_default(),
        writes_refused: status.writes_refused.clone().unwrap_or_default(),
        clock_alarm: status.clock_alarm.clone().unwrap_or_default(),
        insecure: false,
        authentication: false,
        tls: false,
        public_key: status.public_key.to_vec(),
        data_dir: String::new(),
        audit_head: status.audit_head.map(|head| head.to_string()).unwrap_or_default(),
        following: status.following.as_ref().map(|following| pb::get_status_response::Following {
            upstream: following.upstream.clone(),
            state: following.state.to_owned(),
            lag: following.lag,
            ready: following.ready,
            stale: following.stale,
            deny_when_stale: following.deny_when_stale,
            max_staleness_seconds: following.max_staleness.as_secs(),
            residues: following.residues as u64,
            trouble: following.trouble.clone().unwrap_or_default(),
        }),
    }
}

fn cutoff_seconds(cutoff: Cutoff) -> Option<u64> {
    cutoff.seconds().map(|seconds| seconds.0)
}

fn minute_seconds(minute: Minute) -> Option<u64> {
    minute.seconds().map(|seconds| seconds.0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One part of a backup.
#[must_use]
pub fn backup_part(part: BackupPart) -> pb::BackupResponse {
    use pb::backup_response::Part;
    pb::BackupResponse {
        part: Some(match part {
            BackupPart::Position(position) => Part::Position(position_message(position)),
            BackupPart::File { name, length } => Part::File(pb::BackupFile { name, length }),
            BackupPart::Chunk(bytes) => Part::Chunk(bytes),
            BackupPart::FileEnd { sha256 } => Part::Sha256(sha256.to_vec()),
            BackupPart::End { files } => Part::End(pb::BackupEnd { files }),
        }),
    }
}
