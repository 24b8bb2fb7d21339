//! Deciding what pruning takes: the same for every store.

use super::carried::{Carried, RevocationKey};
use super::error::ReadError;
use super::identity::Identity;
use super::record::{Action, Body, Extension, Record};
use super::{JournalReader, LiveExpiry, PruneLimits};
use crate::revocation::RevocationId;

/// The most bytes of records looked at in one step: bounds the memory that the carried revocations take.
const STEP_BYTES_MAX: usize = 8 << 20;
/// The most records looked at between two checks of that bound.
const READ_RECORDS_MAX: usize = 1024;

/// What one pruning step takes away and what it keeps of it.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// The last record to go; `None`: none goes.
    pub(super) last: Option<Record>,
    /// How many records go.
    pub(super) records: usize,
    /// Live revocations in them.
    pub(super) carry: Vec<Carried>,
    /// Revocations that they undid: those carried earlier can go.
    pub(super) undone: Vec<RevocationKey>,
    /// Expiries that they extended: those carried earlier keep them.
    pub(super) extended: Vec<Extension>,
    /// Whether the limits would allow more at once.
    pub(super) more: bool,
}

/// Reads records from the oldest on, for as long as they may go.
pub(super) fn plan(
    reader: &dyn JournalReader,
    identity: &Identity,
    limits: &PruneLimits,
    live: &LiveExpiry<'_>,
) -> Result<Cut, ReadError> {
    let mut cut = Cut::default();
    let last_allowed = limits.through.0.min(reader.head()?.0.saturating_sub(1));
    let mut next = reader.oldest()?;
    let mut bytes_left = STEP_BYTES_MAX;
    while next.0 <= last_allowed {
        if cut.records == limits.records_max || bytes_left == 0 {
            cut.more = true;
            break;
        }
        let records_max = READ_RECORDS_MAX.min(limits.records_max - cut.records);
        for record in reader.read(next, bytes_left, records_max)? {
            if record.revision.0 > last_allowed || !past_retention(&record, limits) {
                return Ok(cut);
            }
            bytes_left = bytes_left.saturating_sub(record.delta.len() + 256 * record.revocations().count());
            next = record.revision.next();
            cut.take(record, identity, live);
        }
    }
    Ok(cut)
}

fn past_retention(record: &Record, limits: &PruneLimits) -> bool {
    let retention_ms = u64::try_from(limits.retention.as_millis()).unwrap_or(u64::MAX);
    record.source_time().0.saturating_add(retention_ms) <= limits.now.0
}

impl Cut {
    fn take(&mut self, record: Record, identity: &Identity, live: &LiveExpiry<'_>) {
        self.records += 1;
        for (index, request, revocation) in record.revocations() {
            let id = identity.revocation_id(record.revision, index);
            if let Some(expiry) = live(id, revocation) {
                self.carry.push(Carried {
                    id,
                    expiry,
                    principal: request.principal.clone(),
                    peer: request.peer.clone(),
                    received_at: request.received_at,
                    revocation: revocation.clone(),
                });
            }
        }
        match &record.body {
            Body::Requests(requests) => requests.iter().for_each(|request| self.note_undone(&request.action)),
            Body::Extend(extensions) => self.extended.extend_from_slice(extensions),
            // The snapshot behind which records may go holds policy and credentials.
            Body::Start { .. } | Body::Tick | Body::Policy { .. } | Body::Credentials(_) | Body::Verification(_) => {}
        }
        self.last = Some(record);
    }

    fn note_undone(&mut self, action: &Action) {
        if let Action::Reinstate(reinstatements) = action {
            self.undone.extend(reinstatements.iter().flat_map(|r| &r.undone).map(key));
        }
    }
}

pub(super) fn key(id: &RevocationId) -> RevocationKey {
    RevocationKey { revision: id.revision, index: id.index }
}
