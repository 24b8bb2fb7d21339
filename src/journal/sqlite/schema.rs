//! The database's tables and settings, and how it comes to be.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, params};

use super::fault::{open_fault, system_fault};
use crate::journal::checksum::Checksum;
use crate::journal::error::OpenError;
use crate::journal::identity::{FORMAT_VERSION, Identity};
use crate::revocation::{Chain, DecodeError, Reader, Revision};

/// Marks the file as ours ("RSCJ"), where `file(1)` and SQLite look for it.
pub(super) const APPLICATION_ID: u32 = 0x5253_434a;

/// Waiting for a lock that a foreign tool holds; our own connections never wait for each other.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The oldest format that is read. It lacks records of credentials, format 2 those of verification
/// policies; otherwise they are format 3.
const FORMAT_MIN: u32 = 1;

/// The checksum stands before the bytes so that it can be read without walking through them.
const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE records (revision INTEGER PRIMARY KEY, checksum BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE carried (
        revision INTEGER NOT NULL, place INTEGER NOT NULL, checksum BLOB NOT NULL, bytes BLOB NOT NULL,
        PRIMARY KEY (revision, place)
    ) WITHOUT ROWID, STRICT;
";

/// What remains of the records that were pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PruneAnchor {
    /// The last one.
    pub(super) through: Revision,
    /// Its checksum, which the oldest record kept is chained to.
    pub(super) checksum: Checksum,
    /// The delta chain after it.
    pub(super) chain: Chain,
}

/// Opens the database and sets it up for writing.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let connection = open_connection(path).map_err(|error| open_fault(error, path))?;
    check_header(&connection, path)?;
    let set_up = || {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Checkpoints have a thread of their own.
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    };
    set_up().map_err(|error| open_fault(error, path))?;
    if connection.is_readonly("main").map_err(|error| open_fault(error, path))? {
        return Err(OpenError::ReadOnly { path: path.to_owned() });
    }
    Ok(connection)
}

/// Another connection to an open journal, for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = open_connection(path)?;
    connection.pragma_update(None, "query_only", true)?;
    // A reader that outlives the writer leaves the log as it is for the next start.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

pub(super) fn open_connection(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Refuses what is not ours or not yet ours, and says the format of what is.
pub(super) fn check_header(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    let application_id = match number("application_id") {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        other => other.map_err(|error| open_fault(error, path))?,
    };
    if application_id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let found = number("user_version").map_err(|error| open_fault(error, path))?;
    match found {
        FORMAT_MIN..=FORMAT_VERSION => Ok(found),
        0 => Err(OpenError::Foreign { path: path.to_owned() }),
        _ => Err(OpenError::NewerFormat { path: path.to_owned(), found, supported: FORMAT_VERSION }),
    }
}

/// Says in the file that it has the present format; durable with the next commit or checkpoint. An older program refuses
/// it from then on, whether or not there is a record that it could not read.
pub(super) fn upgrade(connection: &Connection) -> Result<(), rusqlite::Error> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found < FORMAT_VERSION {
        tracing::info!(from = found, to = FORMAT_VERSION, "the journal is upgraded");
        connection.pragma_update(None, "user_version", FORMAT_VERSION)?;
    }
    Ok(())
}

/// Makes a complete database beside `path` and renames it there: a file at `path` is never half made.
pub(super) fn create(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let beside = beside(path);
    for leftover in [beside.clone(), suffixed(&beside, "-journal")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(system_fault(error, &leftover)),
            _ => {}
        }
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    file.map_err(|error| system_fault(error, &beside))?;
    fill(&beside, identity).map_err(|error| open_fault(error, &beside))?;
    let settle = || {
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    settle().map_err(|error| system_fault(error, path))
}

fn fill(path: &Path, identity: &Identity) -> Result<(), rusqlite::Error> {
    let mut connection = open_connection(path)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT_VERSION)?;
    transaction.execute_batch(TABLES)?;
    store_identity(&transaction, identity)?;
    put_meta(&transaction, "anchor", &identity.anchor())?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}

/// The identity, proved against the anchor that all records are chained to.
pub(super) fn load_identity(connection: &Connection, path: &Path) -> Result<Identity, OpenError> {
    let corrupt = |what: &str| OpenError::Corrupt { revision: Revision(0), what: what.to_owned() };
    let load = |key| meta(connection, key).map_err(|error| open_fault(error, path));
    let bytes = zeroize::Zeroizing::new(load("identity")?.ok_or_else(|| corrupt("the identity is missing"))?);
    let identity = Identity::decode(&bytes).map_err(|error| corrupt(&format!("the identity {error}")))?;
    if load("anchor")?.as_deref() != Some(&identity.anchor()[..]) {
        return Err(corrupt("the identity does not have its checksum"));
    }
    if load("lineage")?.as_deref() != identity.lineage().as_ref().map(|hash| &hash[..]) {
        return Err(corrupt("the identity's ancestors do not have their checksum"));
    }
    Ok(identity)
}

/// Writes the identity, and what binds its ancestors to the anchor. The anchor stays.
pub(super) fn store_identity(transaction: &Transaction<'_>, identity: &Identity) -> Result<(), rusqlite::Error> {
    put_meta(transaction, "identity", &identity.encode())?;
    identity.lineage().map_or(Ok(()), |lineage| put_meta(transaction, "lineage", &lineage))
}

/// Where pruning stands; the beginning of the epoch when nothing was pruned.
pub(super) fn load_anchor(connection: &Connection) -> Result<Result<PruneAnchor, DecodeError>, rusqlite::Error> {
    Ok(match meta(connection, "pruned")? {
        Some(bytes) => PruneAnchor::decode(&bytes),
        None => meta(connection, "anchor")?.map_or(Err(DecodeError::EndsEarly), |bytes| {
            let checksum = Reader::new(&bytes).array()?;
            Ok(PruneAnchor { checksum, ..PruneAnchor::default() })
        }),
    })
}

pub(super) fn store_anchor(transaction: &Transaction<'_>, anchor: &PruneAnchor) -> Result<(), rusqlite::Error> {
    put_meta(transaction, "pruned", &anchor.encode())
}

/// The revision after which all credentials are to be revoked, because a restore was told so.
pub(super) fn load_credentials_end(connection: &Connection, path: &Path) -> Result<Option<Revision>, OpenError> {
    let bytes = meta(connection, "credentials_end").map_err(|error| open_fault(error, path))?;
    let corrupt = |_| OpenError::Corrupt { revision: Revision(0), what: "where credentials end cannot be told".into() };
    bytes.map(|bytes| Ok(Revision(u64::from_le_bytes(bytes[..].try_into().map_err(corrupt)?)))).transpose()
}

pub(super) fn store_credentials_end(transaction: &Transaction<'_>, end: Revision) -> Result<(), rusqlite::Error> {
    put_meta(transaction, "credentials_end", &end.0.to_le_bytes())
}

impl PruneAnchor {
    fn encode(&self) -> Vec<u8> {
        [&self.through.0.to_le_bytes()[..], &self.checksum, &self.chain.0].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let anchor =
            Self { through: Revision(reader.u64()?), checksum: reader.array()?, chain: Chain(reader.array()?) };
        reader.finish()?;
        Ok(anchor)
    }
}

fn meta(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    statement.query_row([key], |row| row.get(0)).optional()
}

fn put_meta(transaction: &Transaction<'_>, key: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
    let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?;
    statement.execute(params![key, value]).map(drop)
}

fn beside(path: &Path) -> PathBuf {
    suffixed(path, ".new")
}

/// `path` with `suffix` behind its last character.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
