//! What SQLite's errors mean for a caller.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use rusqlite::{Error, ErrorCode, ffi};

use crate::journal::error::{AppendError, OpenError, ReadError};
use crate::revocation::Revision;

/// Why a write failed.
///
/// A full disk shows while the transaction's pages are written, before the page that commits it, so it did not happen.
/// A failed sync, and everything else that is not understood, leaves the outcome unknown.
pub(super) fn write_fault(error: &Error, lock_file: &Path) -> AppendError {
    match error.sqlite_error() {
        Some(code) if code.code == ErrorCode::DiskFull => AppendError::Full,
        Some(code) if code.extended_code == ffi::SQLITE_READONLY_DBMOVED => {
            AppendError::Poisoned("the journal's file was moved or deleted".into())
        }
        Some(code) if code.code == ErrorCode::ReadOnly => AppendError::ReadOnly,
        Some(code) if code.extended_code == ffi::SQLITE_IOERR_WRITE && is_read_only(lock_file) => AppendError::ReadOnly,
        _ => AppendError::Poisoned(error.to_string()),
    }
}

/// Why a read failed, at or near `revision`.
pub(super) fn read_fault(error: Error, revision: Revision) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ReadError::Corrupt { revision, what: error.to_string() }
        }
        _ => match error {
            Error::InvalidColumnType(..) | Error::FromSqlConversionFailure(..) | Error::IntegralValueOutOfRange(..) => {
                ReadError::Corrupt { revision, what: error.to_string() }
            }
            other => ReadError::Store(other.into()),
        },
    }
}

/// Why `path` could not be opened.
pub(super) fn open_fault(error: Error, path: &Path) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { revision: Revision(0), what: error.to_string() },
        Some(ErrorCode::ReadOnly) => OpenError::ReadOnly { path },
        Some(ErrorCode::DiskFull) => OpenError::Full { path },
        _ => OpenError::Store { path, cause: error.into() },
    }
}

/// Why the system refused `path`.
pub(super) fn system_fault(error: std::io::Error, path: &Path) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::Full { path },
        _ => OpenError::Store { path, cause: error.into() },
    }
}

/// A read error during opening.
pub(super) fn verify_fault(error: ReadError, path: &Path) -> OpenError {
    match error {
        ReadError::Corrupt { revision, what } => OpenError::Corrupt { revision, what },
        ReadError::Pruned { oldest } => {
            OpenError::Corrupt { revision: oldest, what: "records were pruned past what the caller starts from".into() }
        }
        ReadError::Store(cause) => OpenError::Store { path: path.to_owned(), cause },
    }
}

/// Whether the file system was made read-only under us: then writes are refused as a whole, not torn.
fn is_read_only(lock_file: &Path) -> bool {
    let probe = OpenOptions::new().write(true).open(lock_file);
    probe.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
}
