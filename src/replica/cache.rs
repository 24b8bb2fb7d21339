//! The cache of a replica on disk: what proves its set, so that a restart knows what the process before it knew.
//!
//! ```text
//! open ──▶ Opened ──▶ Driver ── verified ──▶ Keeper ── bounded queue ──▶ writer thread ──▶ files
//! ```
//!
//! Nothing in a cache is trusted: what was read goes to [`crate::replication::Follower::handle_cache`] and is verified
//! there like frames from the wire. Checks never depend on the cache; when the disk fails, only the cache suffers.
//!
//! # Files, all of mode 0600
//! | | |
//! |---|---|
//! | `lock` | held as long as a process uses the directory |
//! | `member` | the subscriber's id, so that a restart is the same member |
//! | `snapshot` | the signed snapshot that the set began from |
//! | `deltas-<id>` | what came since; the id is the beginning of that snapshot's signature |
//! | `residue-<generation>.snapshot`, `.deltas` | a set of an earlier epoch that stays in force |
//! | `residue-lost` | there was one more than can be kept, or one could not be read |
//!
//! # Invariants
//! - C1. One process at a time uses a directory.
//! - C2. `snapshot` is whole or not there, and deltas are only ever read behind the snapshot they follow.
//! - C3. A set that stays in force is on disk before the set that took its place.
//! - C4. The driver's task never waits for the disk, and what waits for the disk is bounded.

mod file;
mod gauge;
mod keeper;
mod queue;
pub(crate) mod read;
mod residue;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::following::Following;
use crate::clock::Clock;
use crate::replication::follower::Kept;
use crate::replication::frames::NodeId;

pub use gauge::{Condition, Gauge};
pub use keeper::Keeper;
use residue::KeptResidue;

/// Why a directory cannot be used at all. A cache that is damaged, or another authority's, is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Another process uses it.
    #[error("the cache directory {dir} is in use by another process")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be made, read or written.
    #[error("cannot use the cache directory {dir}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The system gives no random bytes for a subscriber's id.
    #[error("no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

/// A directory that is in use, and what it held: for [`super::DriverOptions::cache`].
#[derive(Debug)]
pub struct Opened {
    dir: PathBuf,
    subscriber: NodeId,
    kept: Option<Kept>,
    residues: Vec<KeptResidue>,
    residue_lost: bool,
    entries_max: u64,
    keeper: Keeper,
}

/// Opens a directory, making it if need be, and reads what it holds; nothing is verified yet. Takes as long as reading
/// the files. `entries_max` is the follower's limit: a larger set is not read.
///
/// # Errors
/// When another process uses the directory, or it cannot be used. A damaged cache is said in the log, and passed over.
pub fn open(dir: &Path, entries_max: u64, clock: Clock) -> Result<Opened, CacheError> {
    let failed = |source| CacheError::Io { dir: dir.to_owned(), source };
    file::make_dir(dir).map_err(failed)?;
    let lock = lock(dir)?;
    let subscriber = member(dir)?;
    let (kept, tail) = read::main(dir, entries_max).unzip();
    let generation = kept.as_ref().map(|kept: &Kept| kept.descent.epoch.generation);
    let (residues, residue_lost) = residue::read(dir, generation, entries_max);
    let writer = writer::Writer::new(dir.to_owned(), lock, tail, clock.clone());
    let keeper = Keeper::spawn(writer, clock).map_err(failed)?;
    Ok(Opened { dir: dir.to_owned(), subscriber, kept, residues, residue_lost, entries_max, keeper })
}

impl Opened {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names this process, as it named the one before it.
    #[must_use]
    pub fn subscriber(&self) -> NodeId {
        self.subscriber
    }

    /// How the cache does, from now on.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.keeper.gauge()
    }

    /// Only keeps on, for somebody who begins from elsewhere.
    #[must_use]
    pub fn into_keeper(self) -> Keeper {
        self.keeper
    }

    /// Hands over what was kept, as far as it proves itself, and goes on keeping.
    pub(super) fn begin(self, following: &mut Following) -> Keeper {
        let Self { dir, kept, residues, residue_lost, entries_max, keeper, .. } = self;
        let followed = kept.as_ref().map(|kept| kept.descent.epoch.generation);
        let residues = residues.into_iter().map(|residue| (residue.generation, residue.kept)).collect();
        for (generation, error) in following.begin_from(kept, residues, residue_lost, entries_max) {
            if Some(generation) == followed {
                tracing::warn!(dir = %dir.display(), %error, "the cache is not used: starting without");
            } else {
                tracing::error!(dir = %dir.display(), generation, %error, "a set that is to stay in force is lost");
            }
        }
        keeper
    }
}

fn lock(dir: &Path) -> Result<File, CacheError> {
    let failed = |source| CacheError::Io { dir: dir.to_owned(), source };
    let lock = file::create(&dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(CacheError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The id of the process before, or a new one: 16 bytes and their CRC-32C.
fn member(dir: &Path) -> Result<NodeId, CacheError> {
    let path = dir.join("member");
    if let Some(bytes) = file::read_small::<20>(&path)
        && let (Some(id), Some(crc)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<4>())
        && crc32c::crc32c(id) == u32::from_le_bytes(*crc)
    {
        return Ok(NodeId(*id));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let bytes = [&id[..], &crc32c::crc32c(&id).to_le_bytes()].concat();
    file::write_whole(&path, &bytes).map_err(|source| CacheError::Io { dir: dir.to_owned(), source })?;
    Ok(NodeId(id))
}
