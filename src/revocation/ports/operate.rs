//! What an operator asks of a node, beside its condition.

use super::{Caller, ExportParts, Pending, Position, Revision, WriteError};

/// Done for operators.
pub trait Operates: Send + Sync {
    /// A backup of everything that a restart needs, made when its first part is asked for.
    ///
    /// # Errors
    /// [`OperateError::Busy`] while another one is being made, [`OperateError::Unsupported`] where there is no journal.
    fn backup(&self) -> Result<BackupParts, OperateError>;

    /// The records of the journal from `from` on, or from the oldest if that is zero, up to where it stands now.
    ///
    /// # Errors
    /// [`OperateError::Busy`] while as many as may be are under way, [`OperateError::Unsupported`] where there is no journal.
    fn export(&self, from: Revision) -> Result<ExportParts, OperateError>;

    /// Gives up, durably and at every replica, what epochs up to `generation` revoked and the present one lacks. Says
    /// where that is in force; accepting the same again changes nothing.
    fn accept_loss(&self, caller: Caller, generation: u64) -> Pending<'_, Result<Position, AcceptLossError>>;
}

/// A backup, part by part; asking for the next one does I/O and blocks. After an error there is no more.
pub type BackupParts = Box<dyn Iterator<Item = Result<BackupPart, OperateError>> + Send>;

/// The most bytes in one [`BackupPart::Chunk`].
pub const BACKUP_CHUNK_BYTES: usize = 256 << 10;

/// One part of a backup: its position, then for each file its name, its bytes and their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPart {
    /// Where the journal stands in this backup. Comes first.
    Position(Position),
    /// A file begins.
    File {
        /// Its name, from the backup's directory on.
        name: String,
        /// Its length in bytes.
        length: u64,
    },
    /// The next bytes of the file.
    Chunk(Vec<u8>),
    /// The file ends.
    FileEnd {
        /// The SHA-256 of all its bytes.
        sha256: [u8; 32],
    },
    /// The backup is complete. Comes last.
    End {
        /// How many files it has.
        files: u32,
    },
}

/// Why an operator's request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// As many as may be are under way.
    #[error("as many backups or exports as may be made at once are under way")]
    Busy,
    /// Not now.
    #[error("cannot be done now: {0}")]
    Unavailable(String),
    /// What was asked for is gone.
    #[error("records before revision {oldest} have been pruned")]
    Pruned {
        /// The oldest that is kept.
        oldest: Revision,
    },
    /// What was asked for is not there yet, and whoever saw what is before it saw another history.
    #[error(
        "the journal ends at revision {head}: was it restored since? then go on after the revision that it was restored from"
    )]
    PastEnd {
        /// The last revision.
        head: Revision,
    },
    /// Not by this node.
    #[error("this node cannot do that; ask the authority")]
    Unsupported,
}

/// Why a loss was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptLossError {
    /// The generation is the present one or one to come, or 0.
    #[error("generation {generation} is not past; the present one is {current}")]
    NotPast {
        /// What was asked for.
        generation: u64,
        /// The present one.
        current: u64,
    },
    /// More was accepted before.
    #[error("the loss of generation {accepted} was accepted before; generation {generation} changes nothing")]
    AcceptedBeyond {
        /// What was asked for.
        generation: u64,
        /// What was accepted.
        accepted: u64,
    },
    /// There is no authority here.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// The journal did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}
