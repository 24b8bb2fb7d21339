//! Beginning from a cache: the set that an earlier process held, verified like frames from the wire.
//!
//! Nothing in a cache is trusted. The snapshot must be signed, every delta must fit, and the last signed word must be
//! about a state on the way. What follows that word is believed as deltas on a connection are: until a word contradicts.
//!
//! A cache says nothing about freshness: its set counts as infinitely stale until the authority is heard.

use std::sync::Arc;

use bytes::Bytes;

use super::action::{Action, SetSwap};
use super::fault::{Divergence, ResyncFault};
use super::incoming::verify;
use super::kept::{Descent, KeptDelta, Provenance, SignedSnapshot};
use super::link::Phase;
use super::replicated::Step;
use super::{Follower, Replicated};
use crate::replication::frames::{DeltaFrame, Heartbeat, PROTOCOL};
use crate::replication::signature::{PublicKey, Statement};
use crate::revocation::{DecodeError, Delta, Rebuild, RevocationSet, SetBuilder, SnapshotError};

/// What a cache holds: exactly what proves a set.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Which log.
    pub descent: Descent,
    /// Where the set began.
    pub snapshot: Arc<SignedSnapshot>,
    /// The canonical bytes of every delta since, in order.
    pub deltas: Vec<Bytes>,
    /// The last word that the authority signed about one of these states.
    pub word: Option<Heartbeat>,
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
    /// A delta, or the last word, does not fit.
    #[error("what follows its snapshot does not fit: {0}")]
    Unfit(#[from] Divergence),
    /// The last word is about a revision that the cache does not reach, or begins after.
    #[error("its last signed word is about revision {0}, which it does not hold")]
    WordElsewhere(crate::revocation::Revision),
}

/// A verified cache.
struct Warm {
    replicated: Replicated,
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
        let Warm { replicated, deltas, rebuilds } = check(&kept, self.options.entries_max)?;
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
    let mut warm = Warm { replicated: begin(kept, entries_max)?, deltas: Vec::new(), rebuilds: Vec::new() };
    let mut word = kept.word.as_ref();
    prove(&mut warm.replicated, kept, &mut word)?;
    for canonical in &kept.deltas {
        warm.apply(canonical, entries_max)?;
        prove(&mut warm.replicated, kept, &mut word)?;
    }
    word.map_or(Ok(warm), |word| Err(CacheFault::WordElsewhere(word.revision)))
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
    Ok(verify(PROTOCOL, descent.epoch, &descent.public_key, builder, &snapshot.end)?)
}

/// Takes the word once the state is reached that it is about.
fn prove(replicated: &mut Replicated, kept: &Kept, word: &mut Option<&Heartbeat>) -> Result<(), CacheFault> {
    let Some(heartbeat) = word.take_if(|word| word.revision == replicated.verified().0) else { return Ok(()) };
    let statement = Statement {
        protocol: PROTOCOL,
        epoch: kept.descent.epoch,
        revision: heartbeat.revision,
        digest: heartbeat.digest,
        chain: heartbeat.chain,
        floor: heartbeat.floor,
        source_time: heartbeat.source_time,
    };
    if kept.descent.public_key.verify_heartbeat(&statement, &heartbeat.signature).is_err() {
        return Err(Divergence::Signature { revision: heartbeat.revision }.into());
    }
    replicated.prove(heartbeat)?;
    Ok(())
}

impl Warm {
    fn apply(&mut self, canonical: &Bytes, entries_max: u64) -> Result<(), CacheFault> {
        let delta = Delta::decode(canonical)?;
        let entries = self.replicated.writer().entries().saturating_add(delta.upserts.len() as u64);
        if entries > entries_max {
            return Err(CacheFault::OverLimit { limit: entries_max, entries });
        }
        match self.replicated.apply(&delta, canonical)? {
            Step::Applied(applied) => self.rebuilds.extend(applied.rebuild),
            // A delta is written once: what comes twice was put there.
            Step::Known => return Err(Divergence::Contradiction { revision: delta.revision }.into()),
        }
        self.deltas.push(self.replicated.kept(&delta, &DeltaFrame { canonical: canonical.clone(), ack_now: false }));
        Ok(())
    }
}
