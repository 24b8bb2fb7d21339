//! What an index proves about the journal that it followed.
//!
//! It reads only what is durable, so it is never ahead of its journal. If it is, the journal lost its end: damage in the
//! middle of a write-ahead log cuts off all that comes after, and looks like a crash in the middle of a write.

use std::path::Path;

use super::super::identity::Identity;
use super::super::sqlite::open_to_look;
use super::schema;
use crate::revocation::{Chain, Revision};

/// How far an index has followed its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    through: Revision,
    chain: Chain,
}

/// Records that were accepted are missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The journal ends too early.
    #[error(
        "the journal ends at revision {head}, and the search index holds revision {indexed}: accepted records are missing"
    )]
    CutOff {
        /// The journal's last revision.
        head: Revision,
        /// The index's.
        indexed: Revision,
    },
    /// The journal went on differently.
    #[error("revision {indexed} is not the one that the search index holds: accepted records are missing")]
    Replaced {
        /// The index's last revision.
        indexed: Revision,
    },
}

impl Noted {
    /// Of the index in `dir`, which is not changed; `None` if there is none of this epoch that can be trusted.
    #[must_use]
    pub fn read(dir: &Path, identity: &Identity) -> Option<Self> {
        let path = dir.join("index.sqlite");
        if !path.is_file() {
            return None;
        }
        let connection = open_to_look(&path).ok()?;
        schema::check(&connection, identity).ok()?;
        let schema::State { through, chain, .. } = schema::load_state(&connection).ok()?;
        (through > Revision(0)).then_some(Self { through, chain })
    }

    /// The last revision in the index.
    #[must_use]
    pub fn through(&self) -> Revision {
        self.through
    }

    /// Compares a journal that ends at `head`; `chain` is its delta chain after [`Noted::through`], if that can be told.
    ///
    /// # Errors
    /// When the index followed what the journal no longer holds.
    pub fn compare(&self, head: Revision, chain: Option<Chain>) -> Result<(), Lost> {
        let indexed = self.through;
        if indexed > head {
            return Err(Lost::CutOff { head, indexed });
        }
        match chain {
            Some(chain) if chain != self.chain => Err(Lost::Replaced { indexed }),
            _ => Ok(()),
        }
    }
}
