//! What an operator asks of a node, beside its condition.

/// Done for operators.
pub trait Operates: Send + Sync {
    /// A backup of everything that a restart needs, made when its first part is asked for.
    ///
    /// # Errors
    /// [`OperateError::Busy`] while another one is being made, [`OperateError::Unsupported`] where there is no journal.
    fn backup(&self) -> Result<BackupParts, OperateError>;
}

/// A backup, part by part; asking for the next one does I/O and blocks. After an error there is no more.
pub type BackupParts = Box<dyn Iterator<Item = Result<BackupPart, OperateError>> + Send>;

/// The most bytes in one [`BackupPart::Chunk`].
pub const BACKUP_CHUNK_BYTES: usize = 256 << 10;

/// One part of a backup: its position, then for each file its name, its bytes and their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPart {
    /// Where the journal stands in this backup. Comes first.
    Position(super::Position),
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
    /// Another one is under way.
    #[error("another backup is being made")]
    Busy,
    /// Not now.
    #[error("cannot be done now: {0}")]
    Unavailable(String),
    /// Not by this node.
    #[error("this node cannot do that; ask the authority")]
    Unsupported,
}
