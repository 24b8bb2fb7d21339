//! What the journal says of earlier requests and of revocations named by id.
//!
//! Only reads, and may wait for the disk: never called by the commit thread.

use super::decide::outcome;
use super::ledger::Place;
use super::recovery::{carried, selector_at};
use crate::journal::{Action, Body, Identity, JournalReader, ReadError, Record};
use crate::revocation::ports::{ReinstateReply, RevokeReply, Undo, Violation, WriteError};
use crate::revocation::{Position, Revision, RevocationId, Selector};

/// A selector whose revocations are taken back, and the one meant; `None`: all live ones.
pub type Named = (Selector, Option<RevocationId>);

/// What each item of a reinstatement names, or what is wrong with the ids in it.
pub fn named(
    reader: &dyn JournalReader,
    identity: &Identity,
    items: Vec<Undo>,
) -> Result<Result<Vec<Named>, Vec<Violation>>, ReadError> {
    let (mut found, mut unknown) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.into_iter().enumerate() {
        let id = match item {
            Undo::Selector(selector) => {
                found.push((selector, None));
                continue;
            }
            Undo::Id(id) => id,
        };
        let selector =
            if identity.revocation_id(id.revision, id.index) == id { selector_of(reader, id)? } else { None };
        match selector {
            Some(selector) => found.push((selector, Some(id))),
            None => unknown.push(Violation {
                field: format!("reinstatements[{index}].id"),
                description: format!("{id} names no revocation of this history"),
            }),
        }
    }
    Ok(if unknown.is_empty() { Ok(found) } else { Err(unknown) })
}

fn selector_of(reader: &dyn JournalReader, id: RevocationId) -> Result<Option<Selector>, ReadError> {
    match reader.record(id.revision) {
        Ok(record) => Ok(record.and_then(|record| selector_at(&record, id.index))),
        Err(ReadError::Pruned { .. }) => carried(reader, Place { revision: id.revision, index: id.index }),
        Err(error) => Err(error),
    }
}

/// The first answer to a revoke request that came again.
pub fn repeat_revoke(identity: &Identity, record: &Record, ordinal: u32) -> Result<RevokeReply, WriteError> {
    let Body::Requests(requests) = &record.body else { return Err(not_a_request()) };
    let ordinal = ordinal as usize;
    let request = requests.get(ordinal).ok_or_else(not_a_request)?;
    let Action::Revoke(revocations) = &request.action else { return Err(WriteError::RequestIdReused) };
    let before: usize = requests[..ordinal]
        .iter()
        .map(|request| match &request.action {
            Action::Revoke(revocations) => revocations.len(),
            Action::Reinstate(_) => 0,
        })
        .sum();
    let id = |index| identity.revocation_id(record.revision, (before + index) as u32);
    let outcomes = revocations.iter().enumerate().map(|(index, revocation)| {
        let mut outcome = outcome(revocation);
        outcome.id = (!outcome.already_expired).then(|| id(index));
        outcome
    });
    let position = Some(position(identity, record.revision));
    Ok(RevokeReply { position, outcomes: outcomes.collect(), repeated: true })
}

/// The first answer to a reinstate request that came again.
pub fn repeat_reinstate(identity: &Identity, record: &Record, ordinal: u32) -> Result<ReinstateReply, WriteError> {
    let Body::Requests(requests) = &record.body else { return Err(not_a_request()) };
    let request = requests.get(ordinal as usize).ok_or_else(not_a_request)?;
    let Action::Reinstate(reinstatements) = &request.action else { return Err(WriteError::RequestIdReused) };
    let undone = reinstatements.iter().map(|reinstatement| reinstatement.undone.clone()).collect();
    Ok(ReinstateReply { position: Some(position(identity, record.revision)), undone, repeated: true })
}

/// A remembered request whose record is not there.
pub fn missing() -> WriteError {
    WriteError::Unavailable("the journal lacks a remembered request".into())
}

fn not_a_request() -> WriteError {
    WriteError::Unavailable("the journal does not hold the remembered request".into())
}

fn position(identity: &Identity, revision: Revision) -> Position {
    Position { epoch: identity.epoch.id, revision }
}
