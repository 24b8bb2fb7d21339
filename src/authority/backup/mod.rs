//! Backups: what lies in one, and how an authority goes on from it.
//!
//! ```text
//! <backup>/journal.sqlite                the journal, consistent at one revision
//! <backup>/snapshots/<revision>.snapshot the newest snapshot up to there, if there is any
//! <backup>/manifest                      names, lengths and hashes of the files; written last
//! ```
//!
//! A directory without a manifest is no backup, unless it is a data directory (it has a `lock`) in which no server runs.

mod copy;
mod manifest;
mod restore;

pub use copy::{Backups, Parts};
pub use manifest::{FILES_MAX, Listed, MANIFEST, Manifest, ManifestError};
pub use restore::{RestoreBackupError, Restored, restore};
