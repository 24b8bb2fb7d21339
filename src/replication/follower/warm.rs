//! Beginning from a cache: the set that an earlier process held, verified like frames from the wire.
//!
//! Nothing in a cache is trusted. The snapshot must be signed, every delta must fit, and the authority must have signed for
//! the state at the end: with the last delta, or with a word after it. Signatures in between are covered by that one; now and
//! then one is verified and kept, for whoever is served from here.
//!
//! A cache says nothing about freshness: its set counts as infinitely stale until the authority is heard.

use std::sync::Arc;

use bytes::Bytes;

use super::action::{Action, SetSwap};
use super::fault::{Divergence, ResyncFault};
use super::incoming::verify;
use super::kept::{Descent, KeptDelta, Provenance, SignedSnapshot};
use super::link::Phase;
use super::pending::Waiting;
use super::replicated::{Fit, Next};
use super::{Follower, Replicated};
use crate::replication::frames::{DeltaFrame, Heartbeat};
use crate::replication::signature::{PublicKey, Signature};
use crate::revocation::{DecodeError, Delta, Rebuild, Revision, RevocationSet, SetBuilder, SnapshotError};

/// What a cache holds: exactly what proves a set.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Which log.
    pub descent: Descent,
    /// Where the set began.
    pub snapshot: Arc<SignedSnapshot>,
    /// Every delta since, in order.
    pub deltas: Vec<CachedDelta>,
    /// What the authority signed about the state after the last delta; not needed if that is signed itself.
    pub word: Option<Heartbeat>,
}

/// A delta as a cache holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedDelta {
    /// Its canonical bytes.
    pub canonical: Bytes,
    /// The authority's, if it came with one.
    pub signature: Option<Signature>,
}

/// Why a cache is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheFault {
    /// It came too late: something is held or followed already.
    #[error("a cache counts only before the first connection")]
    Late,
    /// It is another authority's.
    #[error("it is signed by the key {found} instead of the pinned {pinned}")]
    OtherKey {
        /// The pinned key.
        pinned: PublicKey,
        /// The cache's.
        found: PublicKey,
    },
    /// Where its epoch came from is not signed for.
    #[error("where its epoch came from has a bad signature")]
    Lineage,
    /// The snapshot is damaged, or not the authority's.
    #[error("its snapshot is not to be believed: {0}")]
    Snapshot(#[from] ResyncFault),
    /// The set is larger than this process may hold.
    #[error("its set has {entries} entries or more, at most {limit} may be held here")]
    OverLimit {
        /// The limit.
        limit: u64,
        /// How many there are.
        entries: u64,
    },
    /// A delta is not an encoding of anything.
    #[error("malformed delta: {0}")]
    Malformed(#[from] DecodeError),
    /// A delta, or what the authority signed about the last of them, does not fit.
    #[error("what follows its snapshot does not fit: {0}")]
    Unfit(#[from] Divergence),
    /// The authority did not sign for the last delta.
    #[error("nothing signed is about its last revision, {0}")]
    Unsigned(Revision),
}

/// The most deltas between two signatures that are verified and kept, and the most bytes: half of what may wait unsigned.
const UNSIGNED_MAX: usize = 4096;
const UNSIGNED_BYTES_MAX: usize = 8 << 20;

/// A verified cache.
struct Warm {
    replicated: Replicated,
    /// How many deltas came since a signature was kept, and of how many bytes.
    since_signed: (usize, usize),
    deltas: Vec<KeptDelta>,
    rebuilds: Vec<Rebuild>,
}

impl Follower {
    /// Begins from what an earlier process kept; to be called before the first connection. The set is held and served,
    /// infinitely stale, and Hello resumes from it.
    ///
    /// # Errors
    /// When anything in it does not agree: then nothing is held, as without a cache.
    pub fn handle_cache(&mut self, kept: Kept) -> Result<(), CacheFault> {
        if self.held.is_some() || !matches!(self.phase, Phase::Disconnected) {
            return Err(CacheFault::Late);
        }
        let found = kept.descent.public_key;
        if let Some(pinned) = self.pinned.filter(|pinned| *pinned != found) {
            return Err(CacheFault::OtherKey { pinned, found });
        }
        let Warm { replicated, deltas, rebuilds, .. } = check(&kept, self.options.entries_max)?;
        self.pinned = Some(found);
        self.head = replicated.verified().0;
        let Kept { descent, snapshot, .. } = kept;
        let provenance = self.options.keeps.then(|| Box::new(Provenance { descent, snapshot, deltas }));
        let (set, epoch) = (Arc::clone(replicated.writer().set()), replicated.epoch());
        // Before the first connection is asked for: who is told of both learns of the set first.
        self.actions.push_front(Action::Swap(SetSwap { set, epoch, epoch_change: None, provenance }));
        self.actions.extend(rebuilds.into_iter().map(Action::Rebuild));
        self.held = Some(replicated);
        self.warm = true;
        Ok(())
    }
}

impl Kept {
    /// The set that it proves, for a set of an earlier epoch which stays in force: nobody follows it any more.
    ///
    /// # Errors
    /// When anything in it does not agree.
    pub fn verified_set(&self, entries_max: u64) -> Result<Arc<RevocationSet>, CacheFault> {
        let Warm { replicated, rebuilds, .. } = check(self, entries_max)?;
        rebuilds.into_iter().for_each(Rebuild::run);
        Ok(Arc::clone(replicated.writer().set()))
    }
}

fn check(kept: &Kept, entries_max: u64) -> Result<Warm, CacheFault> {
    let Descent { epoch, lineage, public_key, .. } = &kept.descent;
    lineage.verify(public_key, *epoch).map_err(|_| CacheFault::Lineage)?;
    let mut warm =
        Warm { replicated: begin(kept, entries_max)?, since_signed: (0, 0), deltas: Vec::new(), rebuilds: Vec::new() };
    let mut last = None;
    for cached in &kept.deltas {
        last = warm.apply(cached, entries_max)?;
        warm.keep_signature(&kept.descent, last.as_ref());
    }
    warm.prove(kept, last)?;
    Ok(warm)
}

fn begin(kept: &Kept, entries_max: u64) -> Result<Replicated, CacheFault> {
    let Kept { descent, snapshot, .. } = kept;
    let over_limit_or = |error| match error {
        SnapshotError::TooManyEntries { limit, given } => CacheFault::OverLimit { limit, entries: given },
        error => ResyncFault::from(error).into(),
    };
    let mut builder =
        SetBuilder::begin(descent.set_key.clone(), snapshot.header.clone(), entries_max).map_err(over_limit_or)?;
    for chunk in &snapshot.chunks {
        builder.load(chunk).map_err(over_limit_or)?;
    }
    Ok(verify(descent.epoch, &descent.public_key, builder, &snapshot.end)?)
}

impl Warm {
    /// Applies a delta; what its own signature says, if it has one.
    fn apply(&mut self, cached: &CachedDelta, entries_max: u64) -> Result<Option<Heartbeat>, CacheFault> {
        let delta = Delta::decode(&cached.canonical)?;
        let (revision, replicated) = (delta.revision, &mut self.replicated);
        match replicated.expects(&delta)? {
            Fit::Next => {}
            // A delta is written once: what comes twice was put there.
            Fit::Known => return Err(Divergence::Contradiction { revision }.into()),
        }
        let CachedDelta { canonical, signature } = cached.clone();
        let over_limit = |entries| CacheFault::OverLimit { limit: entries_max, entries };
        // It is applied at once: there is room.
        replicated
            .push(delta, DeltaFrame { canonical, signature, ack_now: false })
            .map_err(|_| CacheFault::Unsigned(revision))?;
        let entries = replicated.entries_after_next();
        if entries > entries_max {
            return Err(over_limit(entries));
        }
        let word = replicated.pending().last().and_then(Waiting::word);
        if let Some(Next { applied, kept, .. }) = replicated.apply_next()? {
            self.rebuilds.extend(applied.rebuild);
            self.deltas.push(kept);
        }
        Ok(word)
    }

    /// Verifies a signature now and then: those who are served from here must not wait for one too long, and get none that
    /// was not verified.
    fn keep_signature(&mut self, descent: &Descent, word: Option<&Heartbeat>) {
        let Some(delta) = self.deltas.last_mut() else { return };
        let (count, bytes) = self.since_signed;
        self.since_signed = (count + 1, bytes + delta.canonical.len());
        let is_due = self.since_signed.0 >= UNSIGNED_MAX || self.since_signed.1 >= UNSIGNED_BYTES_MAX;
        if is_due && word.is_some_and(|word| descent.has_signed(word)) {
            self.since_signed = (0, 0);
        } else {
            delta.signature = None;
        }
    }

    /// The authority must have signed for the state reached.
    fn prove(&mut self, kept: &Kept, last: Option<Heartbeat>) -> Result<(), CacheFault> {
        let reached = self.replicated.verified().0;
        let Some(word) = kept.word.as_ref().filter(|word| word.revision == reached).or(last.as_ref()) else {
            // The snapshot itself is signed.
            return if kept.deltas.is_empty() { Ok(()) } else { Err(CacheFault::Unsigned(reached)) };
        };
        if !kept.descent.has_signed(word) {
            return Err(Divergence::Signature { revision: reached }.into());
        }
        self.replicated.covered(word)?;
        if let (Some(delta), Some(cached)) = (self.deltas.last_mut(), kept.deltas.last()) {
            delta.signature = cached.signature.filter(|own| *own == word.signature);
        }
        Ok(())
    }
}
