//! The same rows as replicas receive them.

use std::sync::Arc;

use super::file::Header;
use super::rows::LiveRow;
use crate::hub::Image;
use crate::revocation::{Chain, Digest, RevocationSet, SetKey, SetWriter, UnixMillis};
use crate::revocation::{SetBuilder, SnapshotBuilder, SnapshotChunk, SnapshotEntry, SnapshotState};

/// Packs rows, in order, into an image.
pub struct Packer {
    builder: SnapshotBuilder,
    chunks: Vec<SnapshotChunk>,
    digest: Digest,
    chain: Chain,
    source_time: UnixMillis,
}

impl Packer {
    /// Begins the image of the state that `header` speaks of.
    pub fn new(key: &SetKey, header: &Header) -> Self {
        let Header { revision, floor, policy, .. } = *header;
        let state = SnapshotState {
            revision,
            floor,
            policy,
            shapes: header.shapes.clone(),
            verification: header.verification.clone(),
        };
        Self {
            builder: SnapshotBuilder::new(key, state),
            chunks: Vec::new(),
            digest: header.digest,
            chain: header.chain,
            source_time: header.source_time,
        }
    }

    /// Adds the next row.
    pub fn push(&mut self, row: &LiveRow) -> Result<(), String> {
        let (fingerprint, entry) = (row.fingerprint, row.entry.packed());
        let entry = SnapshotEntry { fingerprint, entry, exceptions: row.entry.exceptions.clone() };
        self.chunks.extend(self.builder.push(&entry).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Ends the image, if its rows add up to the digest that the state had.
    pub fn finish(mut self) -> Result<Image, String> {
        let built = self.builder.finish();
        if built.header.digest != self.digest {
            return Err("its rows do not add up to the digest of its revision".into());
        }
        self.chunks.extend(built.last);
        let Self { chunks, chain, source_time, .. } = self;
        Ok(Image { header: built.header, chunks, sha256: built.sha256, chain, source_time })
    }
}

/// Builds and proves the set that an image holds.
pub fn load(image: &Image, key: &SetKey) -> Result<(SetWriter, Arc<RevocationSet>), String> {
    let mut builder =
        SetBuilder::begin(key.clone(), image.header.clone(), u64::MAX).map_err(|error| error.to_string())?;
    for chunk in &image.chunks {
        builder.load(chunk).map_err(|error| error.to_string())?;
    }
    builder.finish(image.sha256).map_err(|error| error.to_string())
}
