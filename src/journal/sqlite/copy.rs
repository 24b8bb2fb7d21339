//! A copy of the journal while its server writes it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::fault::read_fault;
use super::{reader, schema};
use crate::journal::error::ReadError;
use crate::revocation::Revision;

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its last revision.
    pub head: Revision,
    /// The oldest revision whose record it holds.
    pub oldest: Revision,
}

/// Copies the journal in `dir` to a new file at `to`, in one read transaction of a connection of its own: it waits for no
/// writer and none waits for it. Meanwhile the write-ahead log keeps what is written. The copy is not synced.
///
/// # Errors
/// When either file cannot be used.
pub fn copy_journal(dir: &Path, to: &Path) -> Result<Copied, ReadError> {
    let store = |error: std::io::Error| ReadError::Store(error.into());
    match fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(store(error)),
        _ => {}
    }
    // SQLite fills an empty file that is there, and leaves its mode as it is.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(store)?;
    let fault = |error| read_fault(error, Revision(0));
    let copy = || {
        let connection = schema::open_connection(&dir.join("journal.sqlite"))?;
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        schema::open_connection(to)
    };
    let bounds = reader::bounds(&copy().map_err(fault)?)?;
    Ok(Copied { head: bounds.head, oldest: bounds.anchor.through.next() })
}
