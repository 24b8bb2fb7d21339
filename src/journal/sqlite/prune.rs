//! Taking records off the old end, in one transaction with what is carried.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::reader::carried;
use super::schema::{PruneAnchor, store_anchor};
use crate::journal::carried::{Carried, RevocationKey};
use crate::journal::checksum::{self, Checksum};
use crate::journal::codec::{decode_carried, encode_carried};
use crate::journal::error::{PruneError, ReadError};
use crate::journal::pruning::{self, Cut};
use crate::journal::{LiveExpiry, PruneLimits, Pruned};
use crate::revocation::Minute;

/// What failed: the database, or what it held.
pub(super) enum Failure {
    Store(rusqlite::Error),
    Other(PruneError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

/// Carried revocations that are to be let go, and where the next look begins.
pub(super) struct Release {
    keys: Vec<RevocationKey>,
    pub(super) next: Option<RevocationKey>,
}

/// Looks at carried revocations behind `after` and picks those that are dead.
pub(super) fn plan_release(
    connection: &Connection,
    after: Option<RevocationKey>,
    limits: &PruneLimits,
    live: &LiveExpiry<'_>,
) -> Result<Release, ReadError> {
    let looked_at = carried(connection, after, limits.records_max)?;
    let next = if looked_at.len() < limits.records_max { None } else { looked_at.last().map(Carried::key) };
    let dead = looked_at.iter().filter(|carried| live(carried.id, &carried.revocation).is_none());
    Ok(Release { keys: dead.map(Carried::key).collect(), next })
}

/// Carries, deletes and moves the anchor: all or nothing.
pub(super) fn apply(connection: &mut Connection, cut: &Cut, release: &Release) -> Result<Pruned, Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut released = 0;
    for key in release.keys.iter().chain(&cut.undone) {
        released += delete_carried(&transaction, *key)?;
    }
    for extension in &cut.extended {
        extend_carried(&transaction, pruning::key(&extension.id), extension.expiry)?;
    }
    for carried in &cut.carry {
        put_carried(&transaction, carried)?;
    }
    if let Some(last) = &cut.last {
        let sql = "SELECT checksum FROM records WHERE revision = ?1";
        let checksum: Checksum = transaction.query_row(sql, [last.revision.0], |row| row.get(0))?;
        transaction.execute("DELETE FROM records WHERE revision <= ?1", [last.revision.0])?;
        store_anchor(&transaction, &PruneAnchor { through: last.revision, checksum, chain: last.chain_after })?;
    }
    transaction.commit()?;
    Ok(Pruned { records: cut.records, carried: cut.carry.len(), released, more: cut.more || release.next.is_some() })
}

fn put_carried(transaction: &Transaction<'_>, carried: &Carried) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity(256);
    encode_carried(carried, &mut bytes).map_err(|error| Failure::Other(PruneError::Write(error.into())))?;
    let sql = "INSERT OR REPLACE INTO carried (revision, place, checksum, bytes) VALUES (?1, ?2, ?3, ?4)";
    let key = carried.key();
    let row = params![key.revision.0, key.index, checksum::of_carried(&bytes), bytes];
    transaction.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn delete_carried(transaction: &Transaction<'_>, key: RevocationKey) -> Result<usize, rusqlite::Error> {
    let mut statement = transaction.prepare_cached("DELETE FROM carried WHERE revision = ?1 AND place = ?2")?;
    statement.execute(params![key.revision.0, key.index])
}

/// Keeps an extension whose record goes.
fn extend_carried(transaction: &Transaction<'_>, key: RevocationKey, expiry: Minute) -> Result<(), Failure> {
    let bytes: Option<Vec<u8>> = {
        let mut statement =
            transaction.prepare_cached("SELECT bytes FROM carried WHERE revision = ?1 AND place = ?2")?;
        statement.query_row(params![key.revision.0, key.index], |row| row.get(0)).optional()?
    };
    let Some(bytes) = bytes else { return Ok(()) };
    let corrupt = |error: crate::revocation::DecodeError| ReadError::Corrupt {
        revision: key.revision,
        what: format!("the carried revocation {}: {error}", key.index),
    };
    let carried = decode_carried(&bytes).map_err(|error| Failure::Other(corrupt(error).into()))?;
    put_carried(transaction, &Carried { expiry, ..carried })
}
