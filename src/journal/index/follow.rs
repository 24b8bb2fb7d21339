//! The thread that keeps the index up with the journal.
//!
//! Woken by a notification, it reads batches from the first revision it lacks and writes each in one transaction, until it
//! reaches the head. What pruning took from the journal it takes from the index, except what is carried. An index found
//! damaged on the way is thrown away and built again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, ErrorCode, Transaction};

use super::apply::{ApplyError, Batch, hashes};
use super::schema::{self, State, row_id, row_id_of, store_state};
use super::{IndexCause, Shared};
use crate::journal::JournalReader;
use crate::journal::carried::{Carried, RevocationKey};
use crate::journal::codec::read_revocation;
use crate::journal::error::ReadError;
use crate::journal::identity::Identity;
use crate::journal::record::RecordError;
use crate::revocation::{Minute, Reader, Revision};

/// The most bytes of records in one transaction: large enough that pages are written for many rows at once.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// The most records in one transaction.
const BATCH_RECORDS_MAX: usize = 16_384;
/// Carried revocations, and rows held against them, in one transaction.
const CARRIED_ROWS_MAX: usize = 4096;

/// Everything the thread owns.
pub(super) struct Follower {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) journal: Arc<dyn JournalReader>,
    pub(super) connection: Connection,
    pub(super) state: State,
    pub(super) shared: Arc<Shared>,
}

/// Why following stopped.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("the journal: {0}")]
    Journal(#[from] ReadError),
    #[error("the index: {0}")]
    Store(#[from] rusqlite::Error),
    #[error("the index: {0}")]
    Record(#[from] RecordError),
    #[error("the index cannot be made anew: {0}")]
    Create(IndexCause),
}

impl From<ApplyError> for FollowError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Store(error) => Self::Store(error),
            ApplyError::Record(error) => Self::Record(error),
        }
    }
}

impl Follower {
    pub(super) fn run(mut self, woken: &Receiver<()>) {
        loop {
            let outcome = self.catch_up();
            self.shared.progress(self.state.through, outcome.err().map(|error| error.to_string()));
            if woken.recv().is_err() || self.is_stopping() {
                return;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    fn catch_up(&mut self) -> Result<(), FollowError> {
        if self.shared.damaged.swap(false, Ordering::Relaxed) {
            self.rebuild("it is damaged".into())?;
        }
        loop {
            match self.step() {
                Ok(true) if !self.is_stopping() => {}
                Ok(_) => return Ok(()),
                Err(FollowError::Store(error)) if is_damage(&error) => self.rebuild(error.to_string())?,
                Err(error) => return Err(error),
            }
        }
    }

    /// One transaction's worth; says whether there may be more to do.
    fn step(&mut self) -> Result<bool, FollowError> {
        let pruned = Revision(self.journal.oldest()?.0 - 1);
        if pruned > self.state.pruned {
            self.follow_pruning(pruned)?;
            return Ok(true);
        }
        let records = match self.journal.read(self.state.through.next(), BATCH_BYTES_MAX, BATCH_RECORDS_MAX) {
            Err(ReadError::Pruned { .. }) => return Ok(true),
            other => other?,
        };
        let Some(last) = records.last() else { return Ok(false) };
        let (through, chain, floor) = (last.revision, last.chain_after, last.floor());
        let state = State { through, chain, floor, ..self.state };
        self.transact(&state, |batch| records.iter().try_for_each(|record| batch.record(record)))?;
        Ok(true)
    }

    /// Writes a batch and then tells of it.
    fn transact(
        &mut self,
        state: &State,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<(), ApplyError>,
    ) -> Result<(), FollowError> {
        let transaction = self.connection.transaction()?;
        let mut batch = Batch::new(&transaction, &self.identity)?;
        fill(&mut batch)?;
        batch.finish(state)?;
        transaction.commit()?;
        self.state = *state;
        self.shared.progress(state.through, None);
        Ok(())
    }

    /// Makes the rows up to `pruned` equal to what is carried of them.
    fn follow_pruning(&mut self, pruned: Revision) -> Result<(), FollowError> {
        let end = row_id(pruned.next(), 0);
        let mut after: Option<RevocationKey> = None;
        let mut next_row = 0;
        loop {
            let carried = self.journal.carried(after, CARRIED_ROWS_MAX)?;
            let is_last = carried.len() < CARRIED_ROWS_MAX;
            let up_to = if is_last { end } else { carried.last().map_or(end, |last| row_id_of(&last.id) + 1).min(end) };
            after = carried.last().map(Carried::key).or(after);
            self.reconcile(next_row, up_to, carried)?;
            if up_to == end {
                break;
            }
            next_row = up_to;
        }
        let state = State { pruned, through: self.state.through.max(pruned), ..self.state };
        let transaction = self.connection.transaction()?;
        let sql = "DELETE FROM requests WHERE id < ?1
            AND NOT EXISTS (SELECT 1 FROM revocations r WHERE r.id BETWEEN requests.id AND requests.last)";
        transaction.execute(sql, [end])?;
        store_state(&transaction, &state)?;
        transaction.commit()?;
        self.state = state;
        Ok(())
    }

    /// The rows from `first` to before `end` become those of `carried`.
    fn reconcile(&mut self, mut first: i64, end: i64, carried: Vec<Carried>) -> Result<(), FollowError> {
        let mut missing: BTreeMap<i64, Carried> =
            carried.into_iter().map(|c| (row_id_of(&c.id), c)).filter(|(id, _)| *id < end).collect();
        let through = row_id(self.state.through.next(), 0);
        while first < end && first < through {
            let transaction = self.connection.transaction()?;
            let rows = rows_between(&transaction, first, end)?;
            for (id, bytes) in &rows {
                match missing.remove(id) {
                    Some(carried) => extend(&transaction, *id, carried.expiry)?,
                    None => delete(&transaction, &self.identity, *id, bytes)?,
                }
            }
            transaction.commit()?;
            first = if rows.len() < CARRIED_ROWS_MAX { end } else { rows.last().map_or(end, |(id, _)| id + 1) };
        }
        let state = self.state;
        self.transact(&state, |batch| missing.values().try_for_each(|carried| batch.carried(carried)))
    }

    fn rebuild(&mut self, reason: String) -> Result<(), FollowError> {
        let mut reader = self.shared.reader.lock();
        *reader = Connection::open_in_memory()?;
        self.connection = Connection::open_in_memory()?;
        self.connection = schema::create(&self.path, &self.identity).map_err(FollowError::Create)?;
        *reader = schema::open_reader(&self.path)?;
        drop(reader);
        self.state = schema::load_state(&self.connection)?;
        self.shared.rebuilt(reason);
        Ok(())
    }
}

/// Whether an error says that the file is not what was written.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || matches!(error, rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..))
}

fn rows_between(transaction: &Transaction<'_>, first: i64, end: i64) -> Result<Vec<(i64, Vec<u8>)>, rusqlite::Error> {
    let sql = "SELECT id, bytes FROM revocations WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([first, end, CARRIED_ROWS_MAX as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn extend(transaction: &Transaction<'_>, id: i64, expiry: Minute) -> Result<(), rusqlite::Error> {
    let sql = "UPDATE revocations SET expiry = ?2 WHERE id = ?1 AND expiry < ?2";
    transaction.prepare_cached(sql)?.execute([id, i64::from(expiry.bits())]).map(drop)
}

fn delete(transaction: &Transaction<'_>, identity: &Identity, id: i64, bytes: &[u8]) -> Result<(), FollowError> {
    let revocation = read_revocation(&mut Reader::new(bytes)).map_err(RecordError::from)?;
    for hash in hashes(identity, &revocation.selector) {
        transaction.prepare_cached("DELETE FROM claims WHERE hash = ?1 AND id = ?2")?.execute([hash, id])?;
    }
    transaction.prepare_cached("DELETE FROM revocations WHERE id = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM reinstated WHERE id = ?1")?.execute([id])?;
    Ok(())
}
