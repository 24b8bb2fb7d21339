//! Writing records into the index: each batch of them is one transaction.

use std::hash::Hasher as _;

use rusqlite::{OptionalExtension as _, Transaction, params};
use siphasher::sip::SipHasher13;

use super::schema::{State, row_id, row_id_of, store_state};
use crate::journal::carried::Carried;
use crate::journal::codec::encode_revocation;
use crate::journal::identity::Identity;
use crate::journal::record::{Action, Body, Record, RecordError, Reinstatement, Request, Revocation};
use crate::revocation::{Minute, Revision, Selector};

/// Requests in one zone: a listing by time reads whole zones.
const ZONE_REQUESTS: u32 = 1024;

/// Why a batch could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Store(#[from] rusqlite::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// One batch on its way into the index.
pub(super) struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    identity: &'a Identity,
    /// Claims are inserted at the end and in order: the table is sorted by their hash, and neighbours share pages.
    claims: Vec<(i64, i64)>,
    /// The last actor met, who mostly is the next one too.
    actor: Option<(String, i64)>,
    zone: Option<Zone>,
    bytes: Vec<u8>,
}

/// A run of requests and the times they came in: what a listing by time leaves out as a whole.
struct Zone {
    first: i64,
    last: i64,
    time_min: u64,
    time_max: u64,
    requests: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn new(transaction: &'a Transaction<'a>, identity: &'a Identity) -> Result<Self, ApplyError> {
        let sql = "SELECT first, last, time_min, time_max, requests FROM zones ORDER BY first DESC LIMIT 1";
        let zone = transaction.prepare_cached(sql)?.query_row([], |row| {
            Ok(Zone {
                first: row.get(0)?,
                last: row.get(1)?,
                time_min: row.get(2)?,
                time_max: row.get(3)?,
                requests: row.get(4)?,
            })
        });
        Ok(Self { transaction, identity, claims: Vec::new(), actor: None, zone: zone.optional()?, bytes: Vec::new() })
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<(), ApplyError> {
        match &record.body {
            Body::Requests(requests) => {
                let mut index = 0;
                for request in requests {
                    match &request.action {
                        Action::Revoke(revocations) => {
                            self.revoke(record.revision, index, request, revocations)?;
                            index += revocations.len() as u32;
                        }
                        Action::Reinstate(reinstatements) => {
                            self.reinstate(record.revision, request, reinstatements)?;
                        }
                    }
                }
                Ok(())
            }
            Body::Extend(extensions) => {
                let extensions = extensions.iter();
                extensions
                    .map(|extension| (row_id_of(&extension.id), extension.expiry))
                    .try_for_each(|e| self.extend(e))
            }
            Body::Start { .. } | Body::Tick | Body::Policy { .. } | Body::Credentials(_) | Body::Verification(_) => {
                Ok(())
            }
        }
    }

    pub(super) fn carried(&mut self, carried: &Carried) -> Result<(), ApplyError> {
        let id = row_id_of(&carried.id);
        let Carried { principal, peer, received_at, revocation, expiry, .. } = carried;
        self.request_row(id, id, principal, received_at.0, peer)?;
        self.revocation_row(id, *expiry, revocation)
    }

    /// Writes what was held back.
    pub(super) fn finish(mut self, state: &State) -> Result<(), ApplyError> {
        self.claims.sort_unstable();
        {
            let mut statement =
                self.transaction.prepare_cached("INSERT OR IGNORE INTO claims (hash, id) VALUES (?1, ?2)")?;
            for (hash, id) in &self.claims {
                statement.execute([hash, id])?;
            }
        }
        self.close_zone()?;
        store_state(self.transaction, state)?;
        Ok(())
    }

    fn revoke(
        &mut self,
        revision: Revision,
        index: u32,
        request: &Request,
        revocations: &[Revocation],
    ) -> Result<(), ApplyError> {
        let Some(last) = (revocations.len() as u32).checked_sub(1) else { return Ok(()) };
        let Request { principal, peer, received_at, .. } = request;
        self.request_row(row_id(revision, index), row_id(revision, index + last), principal, received_at.0, peer)?;
        for (index, revocation) in (index..).zip(revocations) {
            self.revocation_row(row_id(revision, index), revocation.mark.expiry, revocation)?;
        }
        Ok(())
    }

    fn revocation_row(&mut self, id: i64, expiry: Minute, revocation: &Revocation) -> Result<(), ApplyError> {
        self.bytes.clear();
        encode_revocation(revocation, &mut self.bytes)?;
        let sql = "INSERT OR REPLACE INTO revocations (id, expiry, bytes) VALUES (?1, ?2, ?3)";
        self.transaction.prepare_cached(sql)?.execute(params![id, expiry.bits(), self.bytes])?;
        self.claims.extend(hashes(self.identity, &revocation.selector).map(|hash| (hash, id)));
        Ok(())
    }

    fn request_row(&mut self, id: i64, last: i64, actor: &str, time: u64, peer: &str) -> Result<(), ApplyError> {
        let actor = self.actor(actor)?;
        let sql = "INSERT OR REPLACE INTO requests (id, last, actor, accepted_at, peer) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.transaction.prepare_cached(sql)?.execute(params![id, last, actor, time, peer])?;
        if self.zone.as_ref().is_some_and(|zone| zone.requests >= ZONE_REQUESTS) {
            self.close_zone()?;
        }
        let zone = self.zone.get_or_insert(Zone { first: id, last, time_min: time, time_max: time, requests: 0 });
        (zone.first, zone.last) = (zone.first.min(id), zone.last.max(last));
        (zone.time_min, zone.time_max) = (zone.time_min.min(time), zone.time_max.max(time));
        zone.requests += 1;
        Ok(())
    }

    fn close_zone(&mut self) -> Result<(), ApplyError> {
        if let Some(zone) = self.zone.take() {
            let sql =
                "INSERT OR REPLACE INTO zones (first, last, time_min, time_max, requests) VALUES (?1, ?2, ?3, ?4, ?5)";
            let row = params![zone.first, zone.last, zone.time_min, zone.time_max, zone.requests];
            self.transaction.prepare_cached(sql)?.execute(row)?;
        }
        Ok(())
    }

    fn reinstate(&mut self, revision: Revision, request: &Request, all: &[Reinstatement]) -> Result<(), ApplyError> {
        let actor = self.actor(&request.principal)?;
        let sql = "INSERT OR IGNORE INTO reinstated (id, revision, actor, at, reason) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = self.transaction.prepare_cached(sql)?;
        for reinstatement in all {
            for id in &reinstatement.undone {
                let at = request.received_at.0;
                statement.execute(params![row_id_of(id), revision.0, actor, at, reinstatement.reason])?;
            }
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, (id, expiry): (i64, Minute)) -> Result<(), ApplyError> {
        let sql = "UPDATE revocations SET expiry = max(expiry, ?2) WHERE id = ?1";
        self.transaction.prepare_cached(sql)?.execute(params![id, expiry.bits()])?;
        Ok(())
    }

    fn actor(&mut self, name: &str) -> Result<i64, ApplyError> {
        if let Some((last, id)) = &self.actor
            && last == name
        {
            return Ok(*id);
        }
        let find = "SELECT id FROM actors WHERE name = ?1";
        let found = self.transaction.prepare_cached(find)?.query_row([name], |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => self.transaction.prepare_cached("INSERT INTO actors (name) VALUES (?1)")?.insert([name])?,
        };
        self.actor = Some((name.to_owned(), id));
        Ok(id)
    }
}

/// The keys of a selector's claims in the claims table.
pub(super) fn hashes(identity: &Identity, selector: &Selector) -> impl Iterator<Item = i64> {
    selector.pairs().map(|(name, value)| claim_hash(identity, name, value))
}

/// Eight keyed bytes for a claim; rows found by them are compared in full.
pub(super) fn claim_hash(identity: &Identity, name: &str, value: &str) -> i64 {
    let mut hasher = SipHasher13::new_with_key(identity.set_key.expose());
    hasher.write(b"rescind/claim/1\0");
    hasher.write_u64(name.len() as u64);
    hasher.write(name.as_bytes());
    hasher.write(value.as_bytes());
    hasher.finish() as i64
}
