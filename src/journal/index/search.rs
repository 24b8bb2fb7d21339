//! Answering queries. The rarest condition picks ranges of rows, newest first; the others are tested row by row.

use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::apply::claim_hash;
use super::query::{PAGE_ROWS_MAX, Page, Query, QueryError, Reinstated, Row};
use super::schema::{State, key_of_row, load_state, row_id_of};
use super::token;
use crate::journal::codec::read_revocation;
use crate::journal::identity::Identity;
use crate::revocation::{Minute, Reader, Revision, RevocationId, UnixMillis};

/// The most rows tested for one page. A page over few matches among many rows ends early and says where to go on.
const SCAN_ROWS_MAX: usize = 50_000;

/// Lists the revocations that meet the query's conditions.
pub(super) fn list(connection: &Connection, identity: &Identity, query: &Query) -> Result<Page, QueryError> {
    if !(1..=PAGE_ROWS_MAX).contains(&query.page_rows) {
        return Err(QueryError::PageRows { given: query.page_rows });
    }
    let before = query.page_token.as_ref().map_or(Ok(i64::MAX), |text| token::parse(identity, query, text))?;
    // One transaction, so that the page is of one moment.
    let transaction = connection.unchecked_transaction().map_err(store)?;
    let mut listing = Listing::new(&transaction, identity, query)?;
    let (rows, next) = listing.page(before)?;
    let next = next.map(|last| token::make(identity, query, last));
    Ok(Page { rows, next, indexed_through: listing.state.through })
}

/// Looks one revocation up.
pub(super) fn one(connection: &Connection, identity: &Identity, id: RevocationId) -> Result<Option<Row>, QueryError> {
    let row_id = row_id_of(&id);
    let key = key_of_row(row_id);
    // An id of another epoch, or one that no row can have.
    if identity.revocation_id(key.revision, key.index) != id {
        return Ok(None);
    }
    let transaction = connection.unchecked_transaction().map_err(store)?;
    let query = Query::default();
    let mut listing = Listing::new(&transaction, identity, &query)?;
    let sql = "SELECT expiry, bytes FROM revocations WHERE id = ?1";
    let mut statement = transaction.prepare_cached(sql).map_err(store)?;
    let found = statement.query_row([row_id], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?)));
    match found.optional().map_err(store)? {
        Some((expiry, bytes)) => listing.row(row_id, Minute::from_bits(expiry), &bytes),
        None => Ok(None),
    }
}

/// One query under way.
struct Listing<'a> {
    connection: &'a Connection,
    identity: &'a Identity,
    query: &'a Query,
    state: State,
    /// The request of the row before, which mostly is that of the next one too.
    request: Option<RequestFacts>,
}

/// What the revocations of one request share.
struct RequestFacts {
    first: i64,
    last: i64,
    actor: String,
    accepted_at: UnixMillis,
    peer: String,
}

impl<'a> Listing<'a> {
    fn new(connection: &'a Connection, identity: &'a Identity, query: &'a Query) -> Result<Self, QueryError> {
        let state = load_state(connection).map_err(store)?;
        Ok(Self { connection, identity, query, state, request: None })
    }

    /// The rows of a page, and the last row looked at if there are more.
    fn page(&mut self, before: i64) -> Result<(Vec<Row>, Option<i64>), QueryError> {
        let mut rows = Vec::new();
        let mut last = before;
        let mut looked_at = 0;
        let Some((sql, keys)) = self.ranges()? else { return Ok((rows, None)) };
        let mut outer = self.connection.prepare_cached(sql).map_err(store)?;
        let mut ranges = outer.query(params_from_iter([before].into_iter().chain(keys))).map_err(store)?;
        let sql = "SELECT id, expiry, bytes FROM revocations WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC";
        let mut inner = self.connection.prepare_cached(sql).map_err(store)?;
        while let Some(range) = ranges.next().map_err(store)? {
            let (first, end): (i64, i64) = (range.get(0).map_err(store)?, range.get(1).map_err(store)?);
            let mut found = inner.query([first, end.min(before.saturating_sub(1))]).map_err(store)?;
            while let Some(row) = found.next().map_err(store)? {
                if looked_at == SCAN_ROWS_MAX {
                    return Ok((rows, Some(last)));
                }
                looked_at += 1;
                let id = row.get(0).map_err(store)?;
                let expiry = Minute::from_bits(row.get(1).map_err(store)?);
                let bytes =
                    row.get_ref(2).map_err(store)?.as_blob().map_err(|error| QueryError::Store(error.into()))?;
                if let Some(row) = self.row(id, expiry, bytes)? {
                    if rows.len() == self.query.page_rows {
                        return Ok((rows, Some(last)));
                    }
                    rows.push(row);
                }
                last = id;
            }
        }
        Ok((rows, None))
    }

    /// Where rows may be that meet the conditions: a statement of (first, last) pairs over rows before its first
    /// parameter, and the other parameters. `None`: nowhere.
    fn ranges(&self) -> Result<Option<(&'static str, Vec<i64>)>, QueryError> {
        let Query { claim, actor, accepted_from, accepted_before, .. } = self.query;
        if let Some((name, value)) = claim {
            let sql = "SELECT id, id FROM claims WHERE id < ?1 AND hash = ?2 ORDER BY id DESC";
            return Ok(Some((sql, vec![claim_hash(self.identity, name, value)])));
        }
        if let Some(actor) = actor {
            let mut statement =
                self.connection.prepare_cached("SELECT id FROM actors WHERE name = ?1").map_err(store)?;
            let id = statement.query_row([actor], |row| row.get(0)).optional().map_err(store)?;
            let sql = "SELECT id, last FROM requests WHERE id < ?1 AND actor = ?2 ORDER BY id DESC";
            return Ok(id.map(|id| (sql, vec![id])));
        }
        if accepted_from.is_some() || accepted_before.is_some() {
            let time = |time: &Option<UnixMillis>, or| time.map_or(or, |t| i64::try_from(t.0).unwrap_or(i64::MAX));
            let sql = "SELECT first, last FROM zones WHERE first < ?1 AND time_max >= ?2 AND time_min < ?3
                ORDER BY first DESC";
            return Ok(Some((sql, vec![time(accepted_from, 0), time(accepted_before, i64::MAX)])));
        }
        Ok(Some(("SELECT 0, ?1", Vec::new())))
    }

    /// The whole row, if it meets all conditions.
    fn row(&mut self, id: i64, expiry: Minute, bytes: &[u8]) -> Result<Option<Row>, QueryError> {
        let Query { claim, actor, accepted_from, accepted_before, live, .. } = self.query;
        let request = self.request_of(id)?;
        let meets = actor.as_ref().is_none_or(|actor| *actor == request.actor)
            && accepted_from.is_none_or(|from| request.accepted_at >= from)
            && accepted_before.is_none_or(|before| request.accepted_at < before);
        if !meets {
            return Ok(None);
        }
        let (actor, peer, accepted_at) = (request.actor.clone(), request.peer.clone(), request.accepted_at);
        let mut reader = Reader::new(bytes);
        let revocation = read_revocation(&mut reader).map_err(|error| QueryError::Store(error.into()))?;
        if claim.as_ref().is_some_and(|(name, value)| revocation.selector.value(name) != Some(value)) {
            return Ok(None);
        }
        let reinstated = self.reinstated(id)?;
        let is_live = reinstated.is_none() && !revocation.already_expired && expiry > self.state.floor;
        if live.is_some_and(|live| live != is_live) {
            return Ok(None);
        }
        let key = key_of_row(id);
        Ok(Some(Row {
            id: self.identity.revocation_id(key.revision, key.index),
            selector: revocation.selector,
            cutoff: revocation.mark.cutoff,
            expiry,
            expiry_basis: revocation.expiry_basis,
            exceptions: revocation.exceptions,
            reason: revocation.reason,
            already_expired: revocation.already_expired,
            actor,
            peer,
            accepted_at,
            reinstated,
            live: is_live,
        }))
    }

    fn request_of(&mut self, id: i64) -> Result<&RequestFacts, QueryError> {
        let known = self.request.take().filter(|request| (request.first..=request.last).contains(&id));
        let request = match known {
            Some(request) => request,
            None => self.load_request(id).map_err(store)?,
        };
        Ok(self.request.insert(request))
    }

    /// The request a row came in: the last that begins at or before it.
    fn load_request(&self, id: i64) -> Result<RequestFacts, rusqlite::Error> {
        let sql = "SELECT r.id, r.last, a.name, r.accepted_at, r.peer FROM requests r JOIN actors a ON a.id = r.actor
            WHERE r.id <= ?1 ORDER BY r.id DESC LIMIT 1";
        self.connection.prepare_cached(sql)?.query_row([id], |row| {
            Ok(RequestFacts {
                first: row.get(0)?,
                last: row.get(1)?,
                actor: row.get(2)?,
                accepted_at: UnixMillis(row.get(3)?),
                peer: row.get(4)?,
            })
        })
    }

    fn reinstated(&self, id: i64) -> Result<Option<Reinstated>, QueryError> {
        let sql = "SELECT r.revision, a.name, r.at, r.reason FROM reinstated r JOIN actors a ON a.id = r.actor
            WHERE r.id = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(store)?;
        let found = statement.query_row([id], |row| {
            Ok(Reinstated {
                revision: Revision(row.get(0)?),
                actor: row.get(1)?,
                at: UnixMillis(row.get(2)?),
                reason: row.get(3)?,
            })
        });
        found.optional().map_err(store)
    }
}

fn store(error: rusqlite::Error) -> QueryError {
    QueryError::Store(error.into())
}
