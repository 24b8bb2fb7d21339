//! What can go wrong with the journal, by what the caller does about it.

use std::error::Error;
use std::path::PathBuf;

use super::record::RecordError;
use crate::revocation::Revision;

/// The store's own error, as a cause to print.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No space on the disk. Nothing was written; the same record may be tried again.
    #[error("the disk is full")]
    Full,
    /// The store can be read but not written. Nothing was written; the same record may be tried again.
    #[error("the store is read-only")]
    ReadOnly,
    /// A write failed in a way that leaves its outcome unknown, now or earlier. The record may or may not be there;
    /// everything is refused until a restart has looked.
    #[error("a write failed with unknown outcome; restart to see whether it is there: {0}")]
    Poisoned(String),
    /// The record is not of the revision after the head. Nothing was written.
    #[error("revision {given} cannot follow {head}")]
    OutOfOrder {
        /// The last durable revision.
        head: Revision,
        /// The record's.
        given: Revision,
    },
    /// The record breaks a limit of the format. Nothing was written.
    #[error("the record cannot be kept")]
    Refused(#[from] RecordError),
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They have been pruned.
    #[error("revisions before {oldest} have been pruned")]
    Pruned {
        /// The oldest revision that can be read.
        oldest: Revision,
    },
    /// What is stored is not what was written.
    #[error("the journal is corrupt at revision {revision}: {what}")]
    Corrupt {
        /// Where.
        revision: Revision,
        /// What is wrong there.
        what: String,
    },
    /// The store failed.
    #[error("the journal cannot be read")]
    Store(#[source] Cause),
}

/// Why records were not pruned. The journal is as it was, unless the append error is [`AppendError::Poisoned`].
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// What was to be pruned could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The change could not be written.
    #[error(transparent)]
    Write(#[from] AppendError),
}

/// Why a journal cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server holds the directory.
    #[error("{} is in use by another server; stop it or choose another data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// A later version of the program wrote it.
    #[error("{} has journal format {found}; this program reads up to format {supported}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u32,
        /// The latest format this program knows.
        supported: u32,
    },
    /// The file is there and is no journal.
    #[error("{} is not a Rescind journal", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// What is stored is not what was written. Nothing is cut off or repaired: restore a backup, or ask for help.
    #[error("the journal is corrupt at revision {revision}: {what}")]
    Corrupt {
        /// Where; zero for what lies before the first record.
        revision: Revision,
        /// What is wrong there.
        what: String,
    },
    /// The directory or the file cannot be written.
    #[error("{} is read-only", path.display())]
    ReadOnly {
        /// What.
        path: PathBuf,
    },
    /// No space for a new journal, or for what a start copies from the write-ahead log into the database (64 MiB or so).
    #[error("the disk of {} is full", path.display())]
    Full {
        /// The data directory.
        path: PathBuf,
    },
    /// Anything else the system said.
    #[error("{} cannot be opened", path.display())]
    Store {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: Cause,
    },
}
