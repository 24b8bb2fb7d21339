//! What a dry run tells: each revocation as it would stand beside what is in force and beside the rest of its request.
//!
//! Merges exactly as [`Stage::request`] does, and changes neither the stage nor the state.

use std::collections::HashMap;

use super::stage::Stage;
use crate::journal::Revocation;
use crate::revocation::ports::{PREVIEW_IDS_MAX, PREVIEWS_IDS_MAX, Preview};
use crate::revocation::{Entry, Fingerprint, RevocationId};

/// One revocation tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Its selector has live revocations, or an earlier item of the request is of the same.
    pub merged: bool,
    /// `None` when nothing would be written.
    pub preview: Option<Preview>,
}

/// Tries all of `revocations`, in order.
pub fn try_out(stage: &Stage<'_>, revocations: &[Revocation]) -> Vec<Tried> {
    let key = stage.state().key();
    let mut touched: HashMap<Fingerprint, Touched> = HashMap::new();
    let merged: Vec<Option<(Fingerprint, bool)>> = revocations
        .iter()
        .map(|revocation| {
            let written = (!revocation.already_expired).then_some(revocation)?;
            let fingerprint = key.fingerprint(&written.selector);
            let touched = touched.entry(fingerprint).or_insert_with(|| Touched::new(stage, fingerprint));
            let merged = touched.entry.is_some();
            touched.entry = Some(Entry::merge(touched.entry.as_ref(), &written.mark));
            Some((fingerprint, merged))
        })
        .collect();
    let mut room = PREVIEWS_IDS_MAX;
    merged
        .into_iter()
        .map(|tried| {
            let Some((fingerprint, merged)) = tried else { return Tried { merged: false, preview: None } };
            let preview = touched.get(&fingerprint).and_then(|touched| touched.preview(room));
            room -= preview.as_ref().map_or(0, |preview| preview.merges_with.len());
            Tried { merged, preview }
        })
        .collect()
}

/// One selector of the request.
struct Touched {
    /// The entry after what was tried so far.
    entry: Option<Entry>,
    /// The live revocations that are in force, as far as they are shown.
    behind: Vec<RevocationId>,
    more: usize,
}

impl Touched {
    fn new(stage: &Stage<'_>, fingerprint: Fingerprint) -> Self {
        let Some((entry, live)) = stage.live(fingerprint) else {
            return Self { entry: None, behind: Vec::new(), more: 0 };
        };
        let ids = live.held(stage.floor()).map(|place| stage.state().id(place));
        let mut all: Vec<RevocationId> = ids.collect();
        let more = all.len().saturating_sub(PREVIEW_IDS_MAX);
        all.truncate(PREVIEW_IDS_MAX);
        Self { entry: Some(entry), behind: all, more }
    }

    fn preview(&self, room: usize) -> Option<Preview> {
        let entry = self.entry.as_ref()?;
        let shown = self.behind.len().min(room);
        Some(Preview {
            merges_with: self.behind[..shown].to_vec(),
            merges_with_more: self.more + self.behind.len() - shown,
            cutoff: entry.cutoff,
            expiry: entry.expiry,
        })
    }
}
