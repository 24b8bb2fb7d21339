//! Reading records back, each checked against the one before it.

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::fault::read_fault;
use super::schema::{PruneAnchor, load_anchor, open_reader};
use crate::journal::carried::{Carried, RevocationKey};
use crate::journal::checksum::{self, Checksum};
use crate::journal::codec::decode_carried;
use crate::journal::error::ReadError;
use crate::journal::record::Record;
use crate::journal::{JournalReader, Linked};
use crate::revocation::Revision;

/// A reading end with a connection of its own.
#[derive(Debug)]
pub(super) struct Reader {
    /// Held for one call, that is for a bounded number of bytes.
    connection: Mutex<Connection>,
}

/// What the records span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) anchor: PruneAnchor,
    /// Zero when there is no record.
    pub(super) head: Revision,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::of(open_reader(path).map_err(|error| read_fault(error, Revision(0)))?))
    }
}

impl Reader {
    pub(super) fn of(connection: Connection) -> Self {
        Self { connection: Mutex::new(connection) }
    }
}

impl JournalReader for Reader {
    fn linked(&self, from: Revision, bytes_max: usize, records_max: usize) -> Result<Vec<Linked>, ReadError> {
        let connection = self.connection.lock();
        // One transaction, so that nothing is pruned between the look at the bounds and the reading.
        let transaction = connection.unchecked_transaction().map_err(|error| read_fault(error, from))?;
        let mut records = Vec::new();
        let mut bytes_left = bytes_max;
        walk(&transaction, from, |linked, bytes| {
            if !records.is_empty() && bytes > bytes_left {
                return false;
            }
            bytes_left = bytes_left.saturating_sub(bytes);
            records.push(linked);
            records.len() < records_max
        })?;
        Ok(records)
    }

    fn oldest(&self) -> Result<Revision, ReadError> {
        Ok(bounds(&self.connection.lock())?.anchor.through.next())
    }

    fn head(&self) -> Result<Revision, ReadError> {
        Ok(bounds(&self.connection.lock())?.head)
    }

    fn carried(&self, after: Option<RevocationKey>, max: usize) -> Result<Vec<Carried>, ReadError> {
        carried(&self.connection.lock(), after, max)
    }
}

/// Hands over the records from `from` on, each with its length, verified, until `visit` says no.
///
/// Says the checksum of the last one handed over (or of the one before `from`). To be called in a transaction.
pub(super) fn walk(
    connection: &Connection,
    from: Revision,
    mut visit: impl FnMut(Linked, usize) -> bool,
) -> Result<Checksum, ReadError> {
    let Bounds { anchor, head } = bounds(connection)?;
    let mut expected = Revision(from.0.max(1));
    if expected <= anchor.through {
        return Err(ReadError::Pruned { oldest: anchor.through.next() });
    }
    let mut before = checksum_at(connection, &anchor, Revision(expected.0 - 1).min(head))?;
    if expected > head {
        return Ok(before);
    }
    let fault = |error| read_fault(error, expected);
    let sql = "SELECT revision, checksum, bytes FROM records WHERE revision >= ?1 ORDER BY revision";
    let mut statement = connection.prepare_cached(sql).map_err(fault)?;
    let mut rows = statement.query([expected.0]).map_err(fault)?;
    while expected <= head {
        let corrupt = |what: String| ReadError::Corrupt { revision: expected, what };
        let Some(row) = rows.next().map_err(|error| read_fault(error, expected))? else {
            return Err(corrupt("the record is missing".into()));
        };
        let get = |error| read_fault(error, expected);
        let found: u64 = row.get(0).map_err(get)?;
        if found != expected.0 {
            return Err(corrupt(format!("the next record there is {found}")));
        }
        let checksum: Checksum = row.get(1).map_err(get)?;
        let bytes = row.get_ref(2).map_err(get)?.as_blob().map_err(|error| corrupt(error.to_string()))?;
        if checksum::link(&before, expected, bytes) != checksum {
            return Err(corrupt("the record does not have its checksum".into()));
        }
        let record = Record::decode(bytes).map_err(|error| corrupt(error.to_string()))?;
        if record.revision != expected {
            return Err(corrupt(format!("the record says it is {}", record.revision)));
        }
        before = checksum;
        if !visit(Linked { checksum, record }, bytes.len()) {
            break;
        }
        expected = expected.next();
    }
    Ok(before)
}

pub(super) fn bounds(connection: &Connection) -> Result<Bounds, ReadError> {
    let fault = |error| read_fault(error, Revision(0));
    let anchor = load_anchor(connection).map_err(fault)?;
    let anchor = anchor.map_err(|error| ReadError::Corrupt {
        revision: Revision(0),
        what: format!("where pruning stands cannot be told: {error}"),
    })?;
    let mut statement = connection.prepare_cached("SELECT max(revision) FROM records").map_err(fault)?;
    let head: Option<u64> = statement.query_row([], |row| row.get(0)).map_err(fault)?;
    let head = Revision(head.unwrap_or(0));
    if head <= anchor.through && anchor.through > Revision(0) {
        return Err(ReadError::Corrupt {
            revision: anchor.through.next(),
            what: "the record is missing; pruning always leaves the last".into(),
        });
    }
    Ok(Bounds { anchor, head })
}

fn checksum_at(connection: &Connection, anchor: &PruneAnchor, revision: Revision) -> Result<Checksum, ReadError> {
    if revision <= anchor.through {
        return Ok(anchor.checksum);
    }
    let fault = |error| read_fault(error, revision);
    let mut statement = connection.prepare_cached("SELECT checksum FROM records WHERE revision = ?1").map_err(fault)?;
    let checksum = statement.query_row([revision.0], |row| row.get(0)).optional().map_err(fault)?;
    checksum.ok_or_else(|| ReadError::Corrupt { revision, what: "the record is missing".into() })
}

pub(super) fn carried(
    connection: &Connection,
    after: Option<RevocationKey>,
    max: usize,
) -> Result<Vec<Carried>, ReadError> {
    let (revision, place) = after.map_or((0, -1), |key| (key.revision.0, i64::from(key.index)));
    let fault = |error| read_fault(error, Revision(revision));
    let sql = "SELECT revision, place, checksum, bytes FROM carried WHERE (revision, place) > (?1, ?2)
        ORDER BY revision, place LIMIT ?3";
    let mut statement = connection.prepare_cached(sql).map_err(fault)?;
    let mut rows = statement.query(params![revision, place, max as u64]).map_err(fault)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(fault)? {
        let key = RevocationKey { revision: Revision(row.get(0).map_err(fault)?), index: row.get(1).map_err(fault)? };
        let corrupt = |what: &str| ReadError::Corrupt {
            revision: key.revision,
            what: format!("the carried revocation {}: {what}", key.index),
        };
        let checksum: Checksum = row.get(2).map_err(fault)?;
        let bytes = row.get_ref(3).map_err(fault)?.as_blob().map_err(|error| corrupt(&error.to_string()))?;
        if checksum::of_carried(bytes) != checksum {
            return Err(corrupt("it does not have its checksum"));
        }
        let carried = decode_carried(bytes).map_err(|error| corrupt(&error.to_string()))?;
        if carried.key() != key {
            return Err(corrupt("it says it is another"));
        }
        all.push(carried);
    }
    Ok(all)
}
