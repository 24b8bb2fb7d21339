//! The authority's state: the set, and what stands behind it. A function of the log alone.
//!
//! # Invariants
//! - A1. It changes only by [`State::install`], with a transition that the journal has made durable.
//! - A2. Replaying a record yields the very delta that the record holds; recovery checks each one.

use std::sync::Arc;

use crate::journal::{CredentialChange, Record, Revocation, accepted_by};
use crate::revocation::ports::AppliedPolicy;
use crate::revocation::{
    Ancestor, Chain, Delta, Digest, Entry, Epoch, Fingerprint, Minute, Policy, Rebuild, Revision, RevocationId,
    RevocationSet, SetKey, SetWriter, Shape, StageError, UnixMillis,
};

use super::credentials::CredentialTable;
use super::ledger::{ByFingerprint, Live, Place};
use super::policies::PolicyTable;
use super::requests::{Remembered, RequestKey, RequestWindow};
use super::shapes::{ShapeChanges, ShapeTable};
use super::snapshot::Header;
use super::stage::Stage;

/// The set, the revocations behind its entries, the active shapes and the remembered requests.
pub struct State {
    epoch: Epoch,
    ancestors: Vec<Ancestor>,
    writer: SetWriter,
    set: Arc<RevocationSet>,
    ledger: ByFingerprint<Live>,
    shapes: ShapeTable,
    requests: RequestWindow,
    credentials: CredentialTable,
    policies: PolicyTable,
    chain: Chain,
    /// The latest time any record stated.
    highest_time: UnixMillis,
    /// The time the last record stated.
    source_time: UnixMillis,
}

/// The parts of a [`State`] beside its set, as a snapshot brings them back.
#[derive(Default)]
pub struct Behind {
    /// The live revocations behind each entry.
    pub ledger: ByFingerprint<Live>,
    /// The active shapes and their entries.
    pub shapes: ShapeTable,
    /// The remembered requests.
    pub requests: RequestWindow,
    /// The credentials that are neither revoked nor expired.
    pub credentials: CredentialTable,
    /// The last verification policies.
    pub policies: PolicyTable,
    /// The chain at the set's revision.
    pub chain: Chain,
    /// The latest time any record stated.
    pub highest_time: UnixMillis,
    /// The time the last record stated.
    pub source_time: UnixMillis,
}

/// One revision, decided but not yet durable.
#[derive(Debug)]
pub struct Transition {
    /// What every replica will apply.
    pub delta: Delta,
    /// Its canonical bytes.
    pub canonical: Vec<u8>,
    /// The chain after it.
    pub chain: Chain,
    /// The entries that change, with what stands behind them, sorted.
    pub rows: Vec<(Fingerprint, Row)>,
    /// The same, counted by shape.
    pub shapes: ShapeChanges,
    /// The requests to remember.
    pub requests: Vec<(RequestKey, Remembered)>,
    /// What happens to credentials.
    pub credentials: Option<CredentialChange>,
    /// The verification policy that comes in force.
    pub verification: Option<Arc<AppliedPolicy>>,
}

/// An entry and what stands behind it; `None`: it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The claim names of its selector.
    pub shape: Shape,
    /// The entry with what stands behind it.
    pub live: Option<(Entry, Live)>,
}

/// Why a record of the journal cannot be replayed: it, or the state it is replayed on, is damaged.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Its delta is not the one that the state yields.
    #[error("revision {0} does not replay to the change it recorded")]
    Differs(Revision),
    /// Its delta does not fit the state.
    #[error("revision {revision} does not fit the state before it")]
    Unfit {
        /// The record's revision.
        revision: Revision,
        /// What does not fit.
        source: StageError,
    },
}

impl State {
    /// The state before the first revision.
    #[must_use]
    pub fn empty(epoch: Epoch, key: SetKey, policy: Policy, floor: Minute) -> Self {
        let (writer, set) = RevocationSet::create(key, policy, floor);
        Self::assemble(epoch, writer, set, Behind::default())
    }

    /// The state that a snapshot holds.
    #[must_use]
    pub fn assemble(epoch: Epoch, writer: SetWriter, set: Arc<RevocationSet>, behind: Behind) -> Self {
        let Behind { ledger, shapes, requests, credentials, policies, chain, highest_time, source_time } = behind;
        let ancestors = Vec::new();
        Self {
            epoch,
            ancestors,
            writer,
            set,
            ledger,
            shapes,
            requests,
            credentials,
            policies,
            chain,
            highest_time,
            source_time,
        }
    }

    /// The same state in a history that descends from these epochs, the parent first.
    #[must_use]
    pub fn descending_from(self, ancestors: Vec<Ancestor>) -> Self {
        Self { ancestors, ..self }
    }

    /// The set that checks read.
    #[must_use]
    pub fn set(&self) -> &Arc<RevocationSet> {
        &self.set
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.writer.revision()
    }

    /// The digest at the last revision.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.writer.digest()
    }

    /// The chain at the last revision.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// The expiry floor.
    #[must_use]
    pub fn floor(&self) -> Minute {
        self.writer.floor()
    }

    /// The logged policy.
    #[must_use]
    pub fn policy(&self) -> Policy {
        *self.writer.policy()
    }

    /// The latest time any record stated.
    #[must_use]
    pub fn highest_time(&self) -> UnixMillis {
        self.highest_time
    }

    /// The time the last record stated.
    #[must_use]
    pub fn source_time(&self) -> UnixMillis {
        self.source_time
    }

    /// The active shapes.
    #[must_use]
    pub fn shapes(&self) -> &ShapeTable {
        &self.shapes
    }

    /// The remembered requests.
    #[must_use]
    pub fn requests(&self) -> &RequestWindow {
        &self.requests
    }

    /// The credentials.
    #[must_use]
    pub fn credentials(&self) -> &CredentialTable {
        &self.credentials
    }

    /// The last verification policies.
    #[must_use]
    pub fn policies(&self) -> &PolicyTable {
        &self.policies
    }

    /// Shows the credentials to other threads from now on.
    pub fn serve_credentials(&mut self) {
        self.credentials.serve();
    }

    /// The fingerprint of a selector in this epoch. Any thread may ask the set instead.
    #[must_use]
    pub fn key(&self) -> &SetKey {
        self.set.key()
    }

    /// The entry under `fingerprint` that is live beyond `floor`, and what stands behind it.
    #[must_use]
    pub fn live(&self, fingerprint: Fingerprint, floor: Minute) -> Option<(Entry, &Live)> {
        let entry = self.writer.entry(fingerprint).filter(|entry| entry.expiry > floor)?;
        Some((entry, self.ledger.get(&fingerprint)?))
    }

    /// The entry under `fingerprint` as it stands, whatever floor is to come.
    #[must_use]
    pub fn entry(&self, fingerprint: Fingerprint) -> Option<Entry> {
        self.writer.entry(fingerprint)
    }

    /// What stands behind every entry, expired ones included until they are swept.
    pub fn ledger(&self) -> impl Iterator<Item = (Fingerprint, &Live)> {
        self.ledger.iter().map(|(fingerprint, live)| (*fingerprint, live))
    }

    /// The id of a revocation of this history.
    #[must_use]
    pub fn id(&self, place: Place) -> RevocationId {
        let Place { revision, index } = place;
        RevocationId { epoch_prefix: accepted_by(self.epoch, &self.ancestors, revision).prefix(), revision, index }
    }

    /// Fills in the digest and the chain of a decided revision.
    ///
    /// # Errors
    /// When the delta does not fit the state, which would be a defect here.
    pub fn seal(&self, mut delta: Delta) -> Result<(Delta, Vec<u8>, Chain), StageError> {
        delta.digest_after = self.writer.stage(&delta)?;
        let canonical = delta.encode();
        let chain = self.chain.next(&canonical);
        Ok((delta, canonical, chain))
    }

    /// Takes a durable revision in force. Every check that begins afterwards sees it.
    ///
    /// # Errors
    /// When the transition was made for another state, which would be a defect here.
    pub fn install(&mut self, transition: &Transition) -> Result<Option<Rebuild>, StageError> {
        let delta = &transition.delta;
        let applied = self.writer.apply(delta)?;
        for (fingerprint, row) in &transition.rows {
            match &row.live {
                Some((_, live)) => self.ledger.insert(*fingerprint, live.clone()),
                None => self.ledger.remove(fingerprint),
            };
        }
        self.shapes.apply(&transition.shapes, delta.floor);
        for (key, request) in &transition.requests {
            self.requests.remember(*key, *request, delta.source_time);
        }
        self.credentials.apply(transition.credentials.as_ref(), delta.floor);
        if let Some(applied) = &transition.verification {
            self.policies.apply(applied);
        }
        self.chain = transition.chain;
        self.highest_time = self.highest_time.max(delta.source_time);
        self.source_time = delta.source_time;
        Ok(applied.rebuild)
    }

    /// Replays a record of the journal.
    ///
    /// # Errors
    /// When the record does not yield the delta it holds.
    pub fn replay(&mut self, record: &Record) -> Result<(Transition, Option<Rebuild>), ReplayError> {
        let revision = record.revision;
        let recorded = Delta::decode(&record.delta).map_err(|_| ReplayError::Differs(revision))?;
        let unfit = |source| ReplayError::Unfit { revision, source };
        let mut stage = Stage::new(self, recorded.source_time, recorded.floor);
        stage.record(&record.body);
        let transition = stage.finish().map_err(unfit)?;
        if transition.canonical != record.delta || transition.chain != record.chain_after {
            return Err(ReplayError::Differs(revision));
        }
        let rebuild = self.install(&transition).map_err(unfit)?;
        Ok((transition, rebuild))
    }

    /// Lets go of what stands behind entries that expired: the ledger's share of sweeping.
    pub fn forget(&mut self, expired: &[Fingerprint]) {
        for fingerprint in expired {
            if self.writer.entry(*fingerprint).is_none() {
                self.ledger.remove(fingerprint);
            }
        }
    }

    /// Reclaims the memory of at most `entries_max` expired entries.
    pub fn sweep(&mut self, entries_max: usize) {
        self.writer.sweep(entries_max);
    }

    /// The expiry of the accepted revocation `id`, if it is in force.
    #[must_use]
    pub fn live_expiry(&self, id: RevocationId, revocation: &Revocation) -> Option<Minute> {
        let place = Place { revision: id.revision, index: id.index };
        let fingerprint = self.key().fingerprint(&revocation.selector);
        let (entry, live) = self.live(fingerprint, self.floor())?;
        live.expiry_of(place, &entry).filter(|expiry| *expiry > self.floor())
    }

    /// What a snapshot of this state begins with.
    #[must_use]
    pub fn header(&self) -> Header {
        Header {
            epoch: self.epoch,
            revision: self.revision(),
            chain: self.chain,
            digest: self.digest(),
            floor: self.floor(),
            highest_time: self.highest_time,
            source_time: self.source_time,
            policy: self.policy(),
            shapes: self.shapes.active().cloned().collect(),
            verification: self.writer.verification().cloned(),
        }
    }
}
