//! Sets of earlier epochs that stay in force: kept beside, so that a restart un-revokes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{sync_dir, write_whole};
use super::read::{self, ReadError};
use crate::replica::handle::RESIDUES_MAX;
use crate::replication::follower::Kept;

/// Present when not every set that is to stay in force is here.
const LOST: &str = "residue-lost";

/// A set of an earlier epoch, as it was read.
#[derive(Debug)]
pub(super) struct KeptResidue {
    pub(super) generation: u64,
    pub(super) kept: Kept,
}

/// Those that are kept, oldest first, and whether one is missing. What is of the epoch still `followed` was put beside by a
/// process that was killed before the new set took over: it is removed.
pub(super) fn read(dir: &Path, followed: Option<u64>, entries_max: u64) -> (Vec<KeptResidue>, bool) {
    let mut lost = dir.join(LOST).exists();
    let mut residues = Vec::new();
    for generation in generations(dir) {
        if Some(generation) == followed {
            remove(dir, generation);
            continue;
        }
        let (snapshot, deltas) = paths(dir, generation);
        if residues.len() == RESIDUES_MAX {
            lost = true;
            break;
        }
        match read::pair(&snapshot, &deltas, entries_max) {
            Ok((kept, doubt)) if kept.descent.epoch.generation == generation => {
                lost |= doubt;
                residues.push(KeptResidue { generation, kept });
            }
            other => {
                let error = other.err().unwrap_or(ReadError::Damaged("it is of another generation"));
                tracing::error!(path = %snapshot.display(), %error, "a set that is to stay in force cannot be read");
                lost = true;
            }
        }
    }
    (residues, lost)
}

/// Keeps the present files under the name of their epoch.
pub(super) fn keep(dir: &Path, generation: u64, deltas: &Path) -> io::Result<()> {
    let others = generations(dir).into_iter().filter(|other| *other != generation).count();
    if others >= RESIDUES_MAX {
        return mark_lost(dir);
    }
    remove(dir, generation);
    let (snapshot_path, deltas_path) = paths(dir, generation);
    // The deltas first: a snapshot without what followed would lack some of it.
    link(deltas, &deltas_path)?;
    link(&dir.join("snapshot"), &snapshot_path)?;
    sync_dir(dir)
}

/// From now on misses are unknown, after a restart as well.
pub(super) fn mark_lost(dir: &Path) -> io::Result<()> {
    tracing::error!(dir = %dir.display(), "a set that is to stay in force cannot be kept on disk");
    write_whole(&dir.join(LOST), b"")
}

/// Removes all but these.
pub(super) fn retain(dir: &Path, kept: &[u64]) {
    generations(dir).into_iter().filter(|generation| !kept.contains(generation)).for_each(|other| remove(dir, other));
    if kept.is_empty() {
        let _ = fs::remove_file(dir.join(LOST));
    }
}

fn remove(dir: &Path, generation: u64) {
    let (snapshot, deltas) = paths(dir, generation);
    let _ = fs::remove_file(snapshot);
    let _ = fs::remove_file(deltas);
}

fn paths(dir: &Path, generation: u64) -> (PathBuf, PathBuf) {
    let path = |kind| dir.join(format!("residue-{generation}.{kind}"));
    (path("snapshot"), path("deltas"))
}

fn generations(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut found: Vec<u64> = names
        .filter_map(|name| name.to_str()?.strip_prefix("residue-")?.strip_suffix(".snapshot")?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

/// A second name for a file, or a copy where there are none.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}
