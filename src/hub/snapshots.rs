//! Snapshots as all joiners share them: encoded once, at most two generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::{Hub, Image, moment};
use crate::replication::LogPoint;
use crate::replication::follower::SignedSnapshot;
use crate::replication::frames::{SnapshotEnd, ToSubscriber};
use crate::replication::source::{SnapshotOffer, SnapshotPermit};
use crate::revocation::{Revision, SnapshotChunk};

/// A generation that is being sent is kept so long when another one is offered; then its joiners are told to come back.
const GENERATION_KEPT: Duration = Duration::from_secs(600);

/// Why a snapshot is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Two generations are being sent; offer it again later.
    #[error("two snapshots are still being sent")]
    Busy,
    /// It is not newer than the one there is.
    #[error("snapshot {given} is not newer than {newest}")]
    NotNewer {
        /// The newest there is.
        newest: Revision,
        /// The one offered.
        given: Revision,
    },
    /// This process does not sign: it takes signed snapshots only.
    #[error("a relay signs no snapshot")]
    Unsigned,
    /// It contradicts the log, or itself.
    #[error("the snapshot of revision {revision} states another {what} than the log")]
    Contradiction {
        /// Its revision.
        revision: Revision,
        /// What differs.
        what: &'static str,
    },
}

/// The generations alive.
#[derive(Default)]
pub(super) struct Snapshots {
    newest: Option<Generation>,
    previous: Option<Generation>,
    /// Offered, not prepared yet.
    waiting: Option<Arc<Image>>,
    offered: u64,
    under_way: Arc<AtomicUsize>,
}

struct Generation {
    offer: SnapshotOffer,
    /// The chunks, then the end.
    frames: Vec<Bytes>,
    offered_at: Duration,
}

impl Hub {
    /// Takes a snapshot for all joiners from now on. Encodes and signs it, which takes a while: [`Hub::run`] does so for
    /// what [`Hub::offer_snapshot`] was given.
    ///
    /// # Errors
    /// See [`OfferError`]; nothing is changed.
    pub fn prepare(&self, image: &Image) -> Result<(), OfferError> {
        let revision = image.header.state.revision;
        self.compare_with_log(image)?;
        let now = moment(&self.clock);
        self.snapshots.lock().make_room(revision, now.boot)?;
        let header = Bytes::from(image.header.encode());
        let (entries, chunks) = (image.header.entries, image.header.chunks);
        let point =
            LogPoint { revision, digest: image.header.digest, chain: image.chain, floor: image.header.state.floor };
        // The time of the revision, not of the signature: what came after the revision is not in it.
        let Some(signer) = &self.signer else { return Err(OfferError::Unsigned) };
        let statement = self.statement(&point, image.source_time);
        let end = SnapshotEnd {
            revision,
            digest: point.digest,
            chain: point.chain,
            sha256: image.sha256,
            signature: signer.sign_snapshot(&statement, &image.sha256),
            source_time: image.source_time,
        };
        let offer = SnapshotOffer { id: 0, revision, entries, chunks, header };
        self.add_generation(offer, &image.chunks, end, now.boot);
        Ok(())
    }

    /// Takes a snapshot that the authority signed, as it came, for all joiners from now on.
    ///
    /// # Errors
    /// See [`OfferError`]; nothing is changed.
    pub fn take_signed(&self, snapshot: &SignedSnapshot) -> Result<(), OfferError> {
        let now = moment(&self.clock);
        let SignedSnapshot { header, end, chunks } = snapshot;
        self.snapshots.lock().make_room(end.revision, now.boot)?;
        let offer = SnapshotOffer {
            id: 0,
            revision: end.revision,
            entries: header.entries,
            chunks: header.chunks,
            header: Bytes::from(header.encode()),
        };
        self.add_generation(offer, chunks, end.clone(), now.boot);
        Ok(())
    }

    fn add_generation(&self, offer: SnapshotOffer, chunks: &[SnapshotChunk], end: SnapshotEnd, offered_at: Duration) {
        let chunk_frames = chunks.iter().cloned().map(ToSubscriber::SnapshotChunk);
        let frames = chunk_frames.chain([ToSubscriber::SnapshotEnd(end)]);
        let frames = frames.map(|frame| self.encoder.encode(&frame)).collect();
        self.snapshots.lock().add(Generation { offer, frames, offered_at });
        self.changed.notify_one();
    }

    /// The revision of the newest snapshot.
    #[must_use]
    pub fn snapshot_revision(&self) -> Option<Revision> {
        self.snapshots.lock().newest.as_ref().map(|newest| newest.offer.revision)
    }

    /// Prepares the snapshot that waits, if there is room for it.
    pub(super) fn prepare_offered(&self) {
        let Some(image) = self.snapshots.lock().waiting.take() else { return };
        match self.prepare(&image) {
            Ok(()) => {}
            Err(OfferError::Busy) => {
                let mut snapshots = self.snapshots.lock();
                snapshots.waiting.get_or_insert(image);
            }
            Err(error) => tracing::error!(%error, "a snapshot was not taken"),
        }
    }

    fn compare_with_log(&self, image: &Image) -> Result<(), OfferError> {
        let revision = image.header.state.revision;
        let contradiction = |what| Err(OfferError::Contradiction { revision, what });
        if image.header.chunks as usize != image.chunks.len() {
            return contradiction("number of chunks");
        }
        let state = self.state.read();
        if revision > state.log.head().revision {
            return contradiction("head");
        }
        match state.log.point_at(revision) {
            Some(point) if point.digest != image.header.digest => contradiction("digest"),
            Some(point) if point.chain != image.chain => contradiction("chain"),
            Some(point) if point.floor != image.header.state.floor => contradiction("expiry floor"),
            _ => Ok(()),
        }
    }
}

impl Snapshots {
    /// A newer one takes the place of one that waits.
    pub(super) fn wait(&mut self, image: Arc<Image>) {
        self.waiting = Some(image);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) fn newest(&self) -> Option<SnapshotOffer> {
        self.newest.as_ref().map(|newest| newest.offer.clone())
    }

    pub(super) fn frame(&self, id: u64, index: u32) -> Option<Bytes> {
        let mut kept = self.newest.iter().chain(&self.previous);
        kept.find(|kept| kept.offer.id == id)?.frames.get(index as usize).cloned()
    }

    pub(super) fn admit(&self, limit: usize) -> Option<SnapshotPermit> {
        SnapshotPermit::take(&self.under_way, limit)
    }

    /// Lets go of the generation before the newest, unless it is still needed.
    fn make_room(&mut self, revision: Revision, now: Duration) -> Result<(), OfferError> {
        if let Some(newest) = self.newest.as_ref().map(|newest| newest.offer.revision)
            && revision <= newest
        {
            return Err(OfferError::NotNewer { newest, given: revision });
        }
        let idle = self.under_way.load(Ordering::Acquire) == 0;
        let is_needed = |kept: &Generation| !idle && now.saturating_sub(kept.offered_at) < GENERATION_KEPT;
        if self.previous.as_ref().is_some_and(is_needed) {
            return Err(OfferError::Busy);
        }
        self.previous = None;
        Ok(())
    }

    fn add(&mut self, mut generation: Generation) {
        self.offered += 1;
        generation.offer.id = self.offered;
        self.previous = self.newest.replace(generation);
    }
}
