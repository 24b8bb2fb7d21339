//! The index's tables, and whether a file can be trusted to be one.
//!
//! A revocation's row id is its revision and index in one number, so that new rows always go to the end of the table and
//! "newest first" is the table backwards. What many revocations share (actor, peer, time) is kept once per request.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, Transaction, params};

use crate::journal::carried::RevocationKey;
use crate::journal::identity::Identity;
use crate::journal::record::REVOCATIONS_MAX;
use crate::revocation::{Chain, Minute, Revision, RevocationId};

/// Marks the file as ours ("RSCX").
const APPLICATION_ID: u32 = 0x5253_4358;
/// The format; any other is rebuilt.
const FORMAT: u32 = 1;
/// The memory for pages. The claims table takes inserts all over: what does not fit here is read back from the disk.
const CACHE_KIB: i32 = 128 << 10;
/// Pages in the write-ahead log before it is copied: each page is written once for many inserts into it.
const CHECKPOINT_PAGES: u32 = 16_384;

/// The bits of a row id that hold the index within the revision.
const INDEX_BITS: u32 = 15;
const _: () = assert!(REVOCATIONS_MAX <= 1 << INDEX_BITS);

const TABLES: &str = "
    CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1), epoch BLOB NOT NULL, through INTEGER NOT NULL, chain BLOB NOT NULL,
        floor INTEGER NOT NULL, pruned INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE revocations (id INTEGER PRIMARY KEY, expiry INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE claims (hash INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (hash, id)) WITHOUT ROWID, STRICT;
    CREATE TABLE actors (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY, last INTEGER NOT NULL, actor INTEGER NOT NULL, accepted_at INTEGER NOT NULL,
        peer TEXT NOT NULL
    ) STRICT;
    CREATE INDEX requests_by_actor ON requests (actor, id, last);
    CREATE TABLE zones (
        first INTEGER PRIMARY KEY, last INTEGER NOT NULL, time_min INTEGER NOT NULL, time_max INTEGER NOT NULL,
        requests INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE reinstated (
        id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, actor INTEGER NOT NULL, at INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
";

/// How far the index has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The last revision it holds.
    pub(super) through: Revision,
    /// The delta chain after it, to know the same history by.
    pub(super) chain: Chain,
    /// The expiry floor after it.
    pub(super) floor: Minute,
    /// The last revision whose pruning has been followed.
    pub(super) pruned: Revision,
}

/// Opens the index at `path`; `Err` says why what is there cannot be used.
pub(super) fn open(path: &Path, identity: &Identity) -> Result<(Connection, State), String> {
    let told = |error: rusqlite::Error| error.to_string();
    let connection = connect(path).map_err(told)?;
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0)).map_err(told);
    if number("application_id")? != APPLICATION_ID {
        return Err("it is not a search index".into());
    }
    let format = number("user_version")?;
    if format != FORMAT {
        return Err(format!("it has format {format}, this program uses {FORMAT}"));
    }
    let epoch: [u8; 16] = connection.query_row("SELECT epoch FROM state", [], |row| row.get(0)).map_err(told)?;
    if epoch != identity.epoch.id {
        return Err("it is of another epoch".into());
    }
    set_up_writer(&connection).map_err(told)?;
    let state = load_state(&connection).map_err(told)?;
    Ok((connection, state))
}

/// Makes an empty index at `path`, in place of whatever is there.
pub(super) fn create(path: &Path, identity: &Identity) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut connection = connect(path)?;
    set_up_writer(&connection)?;
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.execute_batch(TABLES)?;
    let insert = "INSERT INTO state (one, epoch, through, chain, floor, pruned) VALUES (1, ?1, 0, ?2, 0, 0)";
    transaction.execute(insert, params![identity.epoch.id, Chain::default().0])?;
    transaction.commit()?;
    Ok(connection)
}

/// A connection for queries.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// `NORMAL`: a power cut may cost the newest rows, which are read again from the journal, and never the order of writes,
/// as `OFF` would: an index that is wrong without knowing it could not be told from a right one.
fn set_up_writer(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

pub(super) fn load_state(connection: &Connection) -> Result<State, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT through, chain, floor, pruned FROM state")?;
    statement.query_row([], |row| {
        Ok(State {
            through: Revision(row.get(0)?),
            chain: Chain(row.get(1)?),
            floor: Minute::from_bits(row.get(2)?),
            pruned: Revision(row.get(3)?),
        })
    })
}

pub(super) fn store_state(transaction: &Transaction<'_>, state: &State) -> Result<(), rusqlite::Error> {
    let sql = "UPDATE state SET through = ?1, chain = ?2, floor = ?3, pruned = ?4";
    let State { through, chain, floor, pruned } = state;
    transaction.prepare_cached(sql)?.execute(params![through.0, chain.0, floor.bits(), pruned.0]).map(drop)
}

/// The row id of the revocation at `index` of `revision`. 2^48 revisions fit: more than a journal will see.
pub(super) fn row_id(revision: Revision, index: u32) -> i64 {
    (revision.0.min((1 << 48) - 1) << INDEX_BITS | u64::from(index).min((1 << INDEX_BITS) - 1)) as i64
}

pub(super) fn row_id_of(id: &RevocationId) -> i64 {
    row_id(id.revision, id.index)
}

pub(super) fn key_of_row(id: i64) -> RevocationKey {
    RevocationKey { revision: Revision(id as u64 >> INDEX_BITS), index: id as u32 & ((1 << INDEX_BITS) - 1) }
}
