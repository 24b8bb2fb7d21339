//! Who ought to be following, kept over restarts: one small table in a database of its own.
//!
//! Not part of the log and not rebuilt from it: what is lost here cannot be found again. It decides nothing; who becomes a
//! member, and when one is forgotten, is the authority's to say.
//!
//! # Invariants
//! - M1. [`MemberTable::write`] is all or nothing, and durable when it returns.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, Transaction, params};

use super::error::Cause;
use crate::revocation::WhenStale;

/// Marks the file as ours: "RSCM".
const APPLICATION_ID: u32 = 0x5253_434d;
/// The layout of the table. Format 1 knew nothing of those below relays, format 2 nothing of principals.
const FORMAT: u32 = 3;
/// The most members; as many again are never read. About 150 bytes each.
pub const MEMBERS_MAX: usize = 100_000;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS members (
        id BLOB PRIMARY KEY, name TEXT NOT NULL, relay INTEGER NOT NULL, max_staleness INTEGER NOT NULL,
        deny INTEGER NOT NULL, parent BLOB, via BLOB, memory INTEGER, changes INTEGER, owner TEXT
    ) WITHOUT ROWID, STRICT;
";
const FROM_FORMAT_2: &str = "ALTER TABLE members ADD COLUMN owner TEXT;";
const FROM_FORMAT_1: &str = "
    ALTER TABLE members ADD COLUMN parent BLOB;
    ALTER TABLE members ADD COLUMN via BLOB;
    ALTER TABLE members ADD COLUMN memory INTEGER;
    ALTER TABLE members ADD COLUMN changes INTEGER;
";

/// A member as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    /// Its process.
    pub id: [u8; 16],
    /// For people.
    pub name: String,
    /// Whether it serves others.
    pub relay: bool,
    /// The staleness it accepts, whole seconds.
    pub max_staleness: Duration,
    /// What it does beyond.
    pub when_stale: WhenStale,
    /// The principal whose process it is, if one was asked for.
    pub owner: Option<String>,
    /// The relay it is or was connected to; `None`: to this server.
    pub parent: Option<[u8; 16]>,
    /// The relay connected to this server that told of it.
    pub via: Option<[u8; 16]>,
    /// Of a relay: the memory it told from, and the last change that it told.
    pub heard: Option<(u64, u64)>,
}

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// It is a member, under this policy.
    Put(StoredMember),
    /// It is none any more.
    Remove([u8; 16]),
}

/// Why the table cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("the member table {path} cannot be used: {cause}")]
pub struct MembersError {
    /// The file.
    pub path: String,
    /// What the system said.
    #[source]
    pub cause: Cause,
}

/// The writing end, with one owner; calls block until the disk has answered.
#[derive(Debug)]
pub struct MemberTable {
    connection: Connection,
    path: String,
}

impl MemberTable {
    /// Opens `<dir>/members.sqlite`, or creates it, and reads who is in it; one that is created holds `first`.
    ///
    /// # Errors
    /// When it cannot be opened or read, or is something else. It is left as it is.
    pub fn open(dir: &Path, first: &[StoredMember]) -> Result<(Self, Vec<StoredMember>), MembersError> {
        let path = dir.join("members.sqlite");
        let failed = |cause| MembersError { path: path.display().to_string(), cause };
        let connection = open(&path, first).map_err(failed)?;
        let members = load(&connection).map_err(|error| failed(error.into()))?;
        Ok((Self { connection, path: path.display().to_string() }, members))
    }

    /// Makes all of these changes, in order, in one transaction.
    ///
    /// # Errors
    /// When they are not durable. They may be made again.
    pub fn write(&mut self, changes: &[MemberChange]) -> Result<(), MembersError> {
        write(&mut self.connection, changes)
            .map_err(|error| MembersError { path: self.path.clone(), cause: error.into() })
    }
}

fn open(path: &Path, first: &[StoredMember]) -> Result<Connection, Cause> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let number = |connection: &Connection, pragma| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let (id, format): (u32, u32) = (number(&connection, "application_id")?, number(&connection, "user_version")?);
    match (id, format) {
        (0, 0) => {
            let transaction = connection.transaction()?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.execute_batch(TABLE)?;
            first.iter().try_for_each(|member| put(&transaction, member))?;
            transaction.commit()?;
        }
        (APPLICATION_ID, FORMAT) => {}
        (APPLICATION_ID, before @ 1..FORMAT) => {
            let transaction = connection.transaction()?;
            if before == 1 {
                transaction.execute_batch(FROM_FORMAT_1)?;
            }
            transaction.execute_batch(FROM_FORMAT_2)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.commit()?;
        }
        (APPLICATION_ID, format) => {
            return Err(format!("it has format {format}, this program uses {FORMAT}").into());
        }
        _ => return Err("it is no member table".into()),
    }
    Ok(connection)
}

fn load(connection: &Connection) -> Result<Vec<StoredMember>, rusqlite::Error> {
    let sql = "SELECT id, name, relay, max_staleness, deny, parent, via, memory, changes, owner FROM members
        ORDER BY id LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([MEMBERS_MAX as i64], stored)?;
    rows.collect()
}

pub(crate) fn stored(row: &Row<'_>) -> Result<StoredMember, rusqlite::Error> {
    let deny: bool = row.get(4)?;
    let (memory, changes): (Option<i64>, Option<i64>) = (row.get(7)?, row.get(8)?);
    Ok(StoredMember {
        id: row.get(0)?,
        name: row.get(1)?,
        relay: row.get(2)?,
        max_staleness: Duration::from_secs(row.get::<_, i64>(3)?.max(0).unsigned_abs()),
        when_stale: if deny { WhenStale::Deny } else { WhenStale::ServeStale },
        owner: row.get(9)?,
        parent: row.get(5)?,
        via: row.get(6)?,
        heard: memory.zip(changes).map(|(memory, changes)| (memory.cast_unsigned(), changes.cast_unsigned())),
    })
}

pub(crate) fn put(transaction: &Transaction<'_>, member: &StoredMember) -> Result<(), rusqlite::Error> {
    let sql =
        "INSERT OR REPLACE INTO members (id, name, relay, max_staleness, deny, parent, via, memory, changes, owner)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let staleness = i64::try_from(member.max_staleness.as_secs()).unwrap_or(i64::MAX);
    let deny = member.when_stale == WhenStale::Deny;
    let StoredMember { id, name, relay, owner, parent, via, heard, .. } = member;
    let (memory, changes) = heard.unzip();
    let (memory, changes) = (memory.map(u64::cast_signed), changes.map(u64::cast_signed));
    let values = params![id, name, relay, staleness, deny, parent, via, memory, changes, owner];
    transaction.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn write(connection: &mut Connection, changes: &[MemberChange]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for change in changes {
        match change {
            MemberChange::Put(member) => put(&transaction, member)?,
            MemberChange::Remove(id) => {
                transaction.prepare_cached("DELETE FROM members WHERE id = ?1")?.execute([id])?;
            }
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn member(id: u8) -> StoredMember {
        StoredMember {
            id: [id; 16],
            name: format!("member {id}"),
            relay: id % 2 == 1,
            max_staleness: Duration::from_secs(u64::from(id)),
            when_stale: if id > 5 { WhenStale::Deny } else { WhenStale::ServeStale },
            owner: (id > 5).then(|| format!("owner {id}")),
            parent: (id > 6).then_some([9; 16]),
            via: (id > 6).then_some([10; 16]),
            heard: (id == 1).then_some((u64::MAX, 3)),
        }
    }

    #[test]
    fn members_survive_a_restart_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut table, found) = MemberTable::open(dir.path(), &[]).unwrap();
        assert_eq!(found, []);
        let puts: Vec<MemberChange> = [7, 1, 6].into_iter().map(|id| MemberChange::Put(member(id))).collect();
        table.write(&puts).unwrap();
        let renamed = StoredMember { name: "renamed".into(), ..member(7) };
        table.write(&[MemberChange::Put(renamed.clone()), MemberChange::Remove([1; 16])]).unwrap();
        drop(table);
        assert_eq!(MemberTable::open(dir.path(), &[]).unwrap().1, [member(6), renamed]);
        let mode = std::fs::metadata(dir.path().join("members.sqlite")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn only_a_table_that_is_created_holds_the_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(MemberTable::open(dir.path(), &[member(3)]).unwrap().1, [member(3)]);
        assert_eq!(MemberTable::open(dir.path(), &[member(4)]).unwrap().1, [member(3)]);
    }

    #[test]
    fn tables_of_earlier_formats_are_taken_over() {
        let back_to_2 = "ALTER TABLE members DROP COLUMN owner; PRAGMA user_version = 2;";
        let back_to_1 = "ALTER TABLE members DROP COLUMN parent; ALTER TABLE members DROP COLUMN via;
            ALTER TABLE members DROP COLUMN memory; ALTER TABLE members DROP COLUMN changes; PRAGMA user_version = 1;";
        for back in [back_to_2.to_owned(), format!("{back_to_2}{back_to_1}")] {
            let dir = tempfile::tempdir().unwrap();
            let (mut table, _) = MemberTable::open(dir.path(), &[]).unwrap();
            table.write(&[MemberChange::Put(member(6))]).unwrap();
            table.connection.execute_batch(&back).unwrap();
            drop(table);
            let (mut table, found) = MemberTable::open(dir.path(), &[]).unwrap();
            let unowned = StoredMember { owner: None, ..member(6) };
            assert_eq!(found, std::slice::from_ref(&unowned));
            table.write(&[MemberChange::Put(member(1)), MemberChange::Put(member(7))]).unwrap();
            drop(table);
            assert_eq!(MemberTable::open(dir.path(), &[]).unwrap().1, [member(1), unowned, member(7)]);
        }
    }

    #[test]
    fn something_else_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members.sqlite");
        std::fs::write(&path, b"these are somebody's notes, not a database at all").unwrap();
        let error = MemberTable::open(dir.path(), &[]).unwrap_err();
        assert!(error.to_string().contains("members.sqlite"), "{error}");
        assert!(std::fs::read(&path).unwrap().starts_with(b"these are"));
    }
}
