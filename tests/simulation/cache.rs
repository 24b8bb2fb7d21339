//! A replica's disk: the signed snapshot and what followed it, and the sets of earlier epochs. It keeps what the cache of
//! `src/replica/cache` keeps, with the same moments of syncing; a power cut loses what was not synced.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rescind::replica::Keep;
use rescind::replication::FollowerStatus;
use rescind::replication::follower::{CachedDelta, FollowerState, Kept, KeptDelta, SetSwap, Verified};
use rescind::revocation::Revision;

use super::history::Point;

/// The same as in the cache.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const RESIDUES_MAX: usize = 4;

/// Cheap to clone: all clones are the same disk.
#[derive(Clone, Default)]
pub struct Cache(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    main: Option<Main>,
    /// Sets of earlier epochs that stay in force.
    residues: Vec<Kept>,
    lost: bool,
    synced_at: Duration,
}

#[derive(Clone)]
struct Main {
    written: Written,
    /// What a power cut leaves.
    synced: Written,
}

#[derive(Clone)]
struct Written {
    kept: Kept,
    /// So many deltas are signed for.
    signed: usize,
    in_doubt: bool,
}

impl Main {
    fn generation(&self) -> u64 {
        generation(&self.written.kept)
    }
}

impl Cache {
    /// Makes durable what was written, if that is due.
    pub fn tend(&self, now: Duration) {
        let mut files = self.0.lock();
        if now.saturating_sub(files.synced_at) >= SYNC_INTERVAL {
            files.synced_at = now;
            if let Some(main) = &mut files.main {
                main.synced = main.written.clone();
            }
        }
    }

    /// The process ends; with the power, what was not synced is lost.
    pub fn end(&self, power_cut: bool) {
        let mut files = self.0.lock();
        if let Some(main) = &mut files.main {
            match power_cut {
                true => main.written = main.synced.clone(),
                false => main.synced = main.written.clone(),
            }
            // What nobody signed for is not read.
            main.written.kept.deltas.truncate(main.written.signed);
        }
        // Its set differed from the authority's: it is not begun from.
        if files.main.as_ref().is_some_and(|main| main.written.in_doubt) {
            files.main = None;
        }
        // What was put beside before the set that was to take its place.
        let followed = files.main.as_ref().map(Main::generation);
        files.residues.retain(|kept| Some(generation(kept)) != followed);
    }

    /// What a new process finds: the set, those of earlier epochs, and whether one more is missing.
    pub fn kept(&self) -> (Option<Kept>, Vec<(u64, Kept)>, bool) {
        let files = self.0.lock();
        let residues = files.residues.iter().map(|kept| (generation(kept), kept.clone())).collect();
        (files.main.as_ref().map(|main| main.written.kept.clone()), residues, files.lost)
    }

    /// How far the sets of earlier epochs go.
    pub fn residues(&self) -> Vec<Point> {
        let reach = |kept: &Kept| Revision(kept.snapshot.end.revision.0 + kept.deltas.len() as u64);
        let files = self.0.lock();
        files.residues.iter().map(|kept| Point { generation: generation(kept), revision: reach(kept) }).collect()
    }
}

impl Keep for Cache {
    fn handle_swap(&mut self, swap: &SetSwap, status: &FollowerStatus) {
        // What came from here is here.
        if status.state == FollowerState::Warm {
            return;
        }
        let Some(provenance) = &swap.provenance else { return };
        let mut files = self.0.lock();
        if swap.epoch_change.is_some_and(|change| !change.ancestor) {
            match files.main.take() {
                Some(before) if files.residues.len() < RESIDUES_MAX => {
                    files.lost |= before.written.in_doubt;
                    files.residues.push(before.written.kept);
                }
                _ => files.lost = true,
            }
        }
        let kept = Kept {
            descent: provenance.descent.clone(),
            snapshot: Arc::clone(&provenance.snapshot),
            deltas: provenance.deltas.iter().map(cached).collect(),
            word: None,
        };
        let signed = kept.deltas.iter().rposition(|delta| delta.signature.is_some()).map_or(0, |last| last + 1);
        let written = Written { kept, signed, in_doubt: false };
        files.main = Some(Main { written: written.clone(), synced: written });
    }

    fn handle_verified(&mut self, verified: &Verified, _: Duration) {
        let mut files = self.0.lock();
        let Some(Main { written, .. }) = &mut files.main else { return };
        match verified {
            Verified::Delta(delta) => {
                written.kept.deltas.push(cached(delta));
                if delta.signature.is_none() {
                    return;
                }
            }
            Verified::Word(word) => written.kept.word = Some(word.clone()),
            Verified::Path(_) => return,
        }
        written.signed = written.kept.deltas.len();
    }

    fn handle_status(&mut self, status: &FollowerStatus) {
        if status.state == FollowerState::Diverged
            && let Some(main) = &mut self.0.lock().main
        {
            main.written.in_doubt = true;
        }
    }

    fn handle_residues(&mut self, generations: &[u64]) {
        let mut files = self.0.lock();
        files.residues.retain(|kept| generations.contains(&generation(kept)));
        files.lost &= !generations.is_empty();
    }
}

fn cached(delta: &KeptDelta) -> CachedDelta {
    CachedDelta { canonical: delta.canonical.clone(), signature: delta.signature }
}

fn generation(kept: &Kept) -> u64 {
    kept.descent.epoch.generation
}
