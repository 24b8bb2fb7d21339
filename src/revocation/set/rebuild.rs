//! Replacing the filter by one of another size, beside the writer.
//!
//! # Flow
//! From the moment the job exists every insert goes to both filters, before the map. The job then copies what the map
//! holds into the new filter and makes it the one that checks read. A check that still reads the old one misses nothing
//! of the revision it reports: that was in the old one before the swap.

use std::sync::Arc;

use super::RevocationSet;
use crate::revocation::exact::SHARDS;
use crate::revocation::filter::Filter;
use crate::revocation::sync::{AtomicU8, Ordering};
use crate::revocation::time::Minute;

/// A filter must be replaced. Run it on a thread where some seconds of work hurt nobody.
///
/// Dropped without being run, it is abandoned; a later revision asks again.
#[must_use = "the filter errs more and more often until this is run"]
pub struct Rebuild {
    set: Arc<RevocationSet>,
    build: Arc<Build>,
    /// The floor when it began: what expired before need not be copied.
    floor: Minute,
}

/// The new filter, shared by the job that fills it and the writer that inserts beside it.
pub(super) struct Build {
    filter: Arc<Filter>,
    state: AtomicU8,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuildState {
    Running,
    Installed,
    Abandoned,
}

impl Rebuild {
    pub(super) fn begin(set: &Arc<RevocationSet>, keys: usize, floor: Minute) -> (Self, Arc<Build>) {
        let filter = Arc::new(Filter::with_capacity(keys));
        let build = Arc::new(Build { filter, state: AtomicU8::new(BuildState::Running as u8) });
        (Self { set: Arc::clone(set), build: Arc::clone(&build), floor }, build)
    }

    /// Copies the map into the new filter and swaps it in.
    pub fn run(self) {
        self.copy();
        self.install();
    }

    /// Shard by shard; a shard is locked only while its words are taken out.
    pub(super) fn copy(&self) {
        let mut words = Vec::new();
        for shard in 0..SHARDS {
            self.set.map.copy_filter_words(shard, self.floor, &mut words);
            words.drain(..).for_each(|word| self.build.filter.insert_word(word));
        }
    }

    pub(super) fn install(self) {
        self.set.change_view(|view| view.filter = Arc::clone(&self.build.filter));
        self.build.state.store(BuildState::Installed as u8, Ordering::Release);
    }
}

impl Drop for Rebuild {
    fn drop(&mut self) {
        let (running, abandoned) = (BuildState::Running as u8, BuildState::Abandoned as u8);
        // Fails when it was installed, which is as it should be.
        let _ = self.build.state.compare_exchange(running, abandoned, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Build {
    pub(super) fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    pub(super) fn state(&self) -> BuildState {
        match self.state.load(Ordering::Acquire) {
            0 => BuildState::Running,
            1 => BuildState::Installed,
            _ => BuildState::Abandoned,
        }
    }
}

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuild").field("keys", &self.build.filter.capacity()).finish_non_exhaustive()
    }
}
