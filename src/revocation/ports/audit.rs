//! What the audit asks of an authority: its journal's head, and its records.

use std::fmt;
use std::str::FromStr;

use super::{OperateError, Position, Revision};
use crate::revocation::Ancestor;

/// A revision and the checksum of its record, which binds all records up to there. Kept elsewhere, it proves later that none
/// of them was changed or cut off. Written `<revision>:<64 hexadecimal digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The revision.
    pub revision: Revision,
    /// The checksum of its record.
    pub checksum: [u8; 32],
}

impl fmt::Display for AuditHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.revision)?;
        self.checksum.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is no audit head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audit head is a revision, a colon and 64 hexadecimal digits")]
pub struct AuditHeadError;

impl FromStr for AuditHead {
    type Err = AuditHeadError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (revision, hex) = text.split_once(':').ok_or(AuditHeadError)?;
        let is_number = !revision.is_empty() && revision.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AuditHeadError);
        }
        let mut checksum = [0; 32];
        for (byte, at) in checksum.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| AuditHeadError)?;
        }
        Ok(Self { revision: Revision(revision.parse().map_err(|_| AuditHeadError)?), checksum })
    }
}

/// The records of a journal, part by part; asking for the next one does I/O and blocks. After an error there is no more.
pub type ExportParts = Box<dyn Iterator<Item = Result<ExportPart, OperateError>> + Send>;

/// One part of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportPart {
    /// Comes first.
    Begin {
        /// The last record that will come.
        head: Position,
        /// The generation of its epoch.
        generation: u64,
        /// The epochs that this one descends from, its parent first.
        ancestors: Vec<Ancestor>,
    },
    /// Some records, in order and without a gap.
    Records(Vec<ExportedRecord>),
}

/// A record as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedRecord {
    /// Its checksum.
    pub checksum: [u8; 32],
    /// Its bytes.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_as_it_is_written_and_nothing_else_does() {
        let head = AuditHead { revision: Revision(42), checksum: [0xab; 32] };
        let text = head.to_string();
        assert_eq!(text, format!("42:{}", "ab".repeat(32)));
        assert_eq!(text.parse(), Ok(head));
        assert_eq!(text.to_uppercase().parse(), Ok(head));
        for wrong in
            ["", "42", ":", &text[1..2], &text[2..], &text[..text.len() - 1], &format!("+{text}"), &format!("{text}0")]
        {
            assert_eq!(wrong.parse::<AuditHead>(), Err(AuditHeadError), "{wrong}");
        }
    }
}
