//! From what the disk holds to an authority that may serve.
//!
//! The newest sound snapshot is loaded and the journal behind it replayed, each record against the delta it recorded.
//! Then a start record is committed: nothing that was recovered is published or served before it is durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::hub::Image;
use crate::journal::{
    Body, CredentialAction, CredentialChange, EmbeddedJournal, ExpiryBasis, Extension, Identity, Journal,
    JournalReader, OpenError, Options as JournalOptions, ReadError, Record, RevocationKey, create_private_folder,
};
use crate::revocation::ports::{AuditHead, WriteError};
use crate::revocation::{Minute, Policy, Revision, Selector, UnixSeconds};

use super::backup::MANIFEST;
use super::commit::{Committer, run_rebuild};
use super::ledger::Place;
use super::snapshot::{self, Loaded, Overlay, SnapshotFileError, SnapshotReader, Snapshotter};
use super::stage::Stage;
use super::state::{ReplayError, State};
use super::timekeeper::Timekeeper;
use super::vitals::Vitals;

/// How much of the journal is read at a time.
const REPLAY_BYTES: usize = 8 << 20;
const REPLAY_RECORDS: usize = 4096;
/// How many expiries one record extends.
const EXTENSIONS_MAX: usize = 10_000;

/// How an authority is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where journal, index and snapshots lie; created if missing.
    pub data_dir: PathBuf,
    /// The policy to log, if it differs from the one in force.
    pub policy: Policy,
    /// How long records are kept for the audit: 90 days by default.
    pub audit_retention: Duration,
    /// The fewest bytes of deltas after which a snapshot is cut: 4 MiB by default, at most 32 MiB.
    pub snapshot_bytes_min: u64,
    /// The clocks.
    pub clock: Clock,
    /// The build, for the start record.
    pub build: String,
}

/// Why an authority cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal does not replay.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// No snapshot is sound, and the journal does not reach back to the beginning.
    #[error("no sound snapshot is left and the journal begins at revision {oldest}; restore a backup")]
    NoSnapshot {
        /// The oldest revision of the journal.
        oldest: Revision,
    },
    /// The directory is a backup. Served as it is, it would be a second history under the name of the first.
    #[error("{} is a backup; restore it with rescind journal restore", path.display())]
    Backup {
        /// The directory.
        path: PathBuf,
    },
    /// The folder of snapshots, or a thread, cannot be had.
    #[error("cannot use {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The start record, or the policy, cannot be committed.
    #[error("the start cannot be committed")]
    Commit(#[from] WriteError),
}

/// An authority that is durable and consistent, but not yet served.
pub struct Recovered {
    pub(super) state: State,
    pub(super) journal: Box<dyn Journal>,
    pub(super) reader: Arc<dyn JournalReader>,
    pub(super) keeper: Timekeeper,
    pub(super) overlay: Overlay,
    pub(super) snapshotter: Snapshotter,
    pub(super) options: Options,
    /// There was something to recover: the log was not begun by this start.
    pub has_past: bool,
    /// The snapshot that joiners get; of the empty state if there is no other.
    pub image: Arc<Image>,
}

impl Options {
    /// The defaults for this directory.
    #[must_use]
    pub fn new(data_dir: PathBuf, clock: Clock) -> Self {
        Self {
            data_dir,
            policy: Policy::default(),
            audit_retention: Duration::from_secs(90 * 24 * 3600),
            snapshot_bytes_min: snapshot::DUE_BYTES_MIN,
            clock,
            build: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl Recovered {
    /// Who the journal is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.journal.identity()
    }

    /// The state, as it will be served.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A reading end of the journal, for one user: readers of one end wait for each other.
    ///
    /// # Errors
    /// When the store cannot be opened once more.
    pub fn reader(&self) -> Result<Arc<dyn JournalReader>, ReadError> {
        self.journal.reader()
    }
}

/// Recovers what `options.data_dir` holds, or begins a new journal there.
///
/// # Errors
/// Everything a [`RecoverError`] can say. Nothing is repaired or dropped silently.
pub fn recover(options: Options) -> Result<Recovered, RecoverError> {
    if options.data_dir.join(MANIFEST).exists() {
        return Err(RecoverError::Backup { path: options.data_dir });
    }
    let folder = options.data_dir.join("snapshots");
    let io = |source| RecoverError::Io { path: folder.clone(), source };
    create_private_folder(&folder).map_err(io)?;
    let snapshots = snapshot::list(&folder).map_err(io)?;
    let verify_after = snapshots.iter().find_map(|path| Some(SnapshotReader::open(path).ok()?.header().revision));
    let journal_options =
        JournalOptions { clock: options.clock.clone(), verify_after: verify_after.unwrap_or_default() };
    let journal = EmbeddedJournal::open(&options.data_dir, &journal_options)?.journal;
    recover_from(Box::new(journal), options, snapshots, |base| Snapshotter::start(folder.clone(), base).map_err(io))
}

/// Recovers what `journal` holds; `snapshots` lie beside it, newest first.
pub(super) fn recover_from(
    journal: Box<dyn Journal>,
    options: Options,
    snapshots: Vec<PathBuf>,
    snapshotter: impl FnOnce(Option<PathBuf>) -> Result<Snapshotter, RecoverError>,
) -> Result<Recovered, RecoverError> {
    let reader = journal.reader()?;
    let identity = journal.identity().clone();

    let loaded = snapshots.iter().find_map(|path| load(path, &identity, journal.head()).map(|loaded| (path, loaded)));
    let (mut state, image, base) = match loaded {
        Some((path, loaded)) => {
            let state = State::assemble(identity.epoch, loaded.writer, loaded.set, loaded.behind);
            (state, loaded.image, Some(path.clone()))
        }
        None => {
            let oldest = reader.oldest()?;
            if oldest > Revision(1) {
                return Err(RecoverError::NoSnapshot { oldest });
            }
            let state = genesis(&identity);
            let image = snapshot::image_of_empty(&state);
            (state, image, None)
        }
    };
    let base_bytes = base.as_deref().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len());
    state = state.descending_from(identity.ancestors.clone());
    let mut overlay = Overlay::new(options.snapshot_bytes_min, base_bytes);
    replay(&mut state, &*reader, &mut overlay)?;

    let has_past = state.revision() > Revision(0);
    let keeper = Timekeeper::new(options.clock.clone(), state.floor(), state.highest_time());
    let snapshotter = snapshotter(base)?;
    let mut recovered = Recovered { state, journal, reader, keeper, overlay, snapshotter, options, has_past, image };
    recovered.drop_credentials()?;
    recovered.commit_start()?;
    recovered.commit_policy()?;
    Ok(recovered)
}

/// The state that every history of this journal begins with: a function of the identity alone.
fn genesis(identity: &Identity) -> State {
    let created = identity.created_at.seconds().0;
    let policy = Policy::default();
    let floor = UnixSeconds(created.saturating_sub(policy.expiry_grace.as_secs()));
    State::empty(identity.epoch, identity.set_key.clone(), policy, Minute::floor(floor).unwrap_or_default())
}

/// A snapshot that is sound and of this journal; any other is passed over, loudly.
fn load(path: &Path, identity: &Identity, head: Revision) -> Option<Loaded> {
    let refuse = |reason: &str| {
        tracing::warn!(path = %path.display(), reason, "snapshot passed over");
        None
    };
    match snapshot::load(path, &identity.set_key) {
        Ok(Loaded { header, .. }) if !identity.takes_over(header.epoch, header.revision) => {
            refuse("it is of another history")
        }
        Ok(loaded) if loaded.header.revision > head => refuse("it is ahead of the journal"),
        Ok(loaded) => Some(loaded),
        Err(error @ (SnapshotFileError::Damaged { .. } | SnapshotFileError::NewerFormat { .. })) => {
            refuse(&error.to_string())
        }
        Err(error) => refuse(&format!(
            "{error}: {}",
            std::error::Error::source(&error).map_or_else(String::new, |s| s.to_string())
        )),
    }
}

fn replay(state: &mut State, reader: &dyn JournalReader, overlay: &mut Overlay) -> Result<(), RecoverError> {
    loop {
        let records = reader.read(state.revision().next(), REPLAY_BYTES, REPLAY_RECORDS)?;
        if records.is_empty() {
            return Ok(());
        }
        for record in &records {
            let (transition, rebuild) = state.replay(record)?;
            overlay.add(transition);
            if let Some(rebuild) = rebuild {
                rebuild.run();
            }
        }
    }
}

impl Recovered {
    /// Before anything else of a history that was restored without its credentials.
    fn drop_credentials(&mut self) -> Result<(), WriteError> {
        let mut ids: Vec<_> = self.state.credentials().kept().keys().copied().collect();
        if !self.journal.drops_credentials() || ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        tracing::warn!(count = ids.len(), "the backup's credentials are revoked");
        let received_at = self.keeper.observe(&self.state.policy()).wall;
        let (principal, peer, action) = ("restore".to_owned(), String::new(), CredentialAction::Revoke(ids));
        let change = CredentialChange { principal, peer, received_at, action };
        self.commit(|stage| stage.credentials(change.clone()), Body::Credentials(change.clone()))
    }

    fn commit_start(&mut self) -> Result<(), WriteError> {
        let wall_time = self.keeper.observe(&self.state.policy()).wall;
        let body = Body::Start { build: self.options.build.clone(), wall_time };
        self.commit(|_| {}, body)
    }

    fn commit_policy(&mut self) -> Result<(), WriteError> {
        // Configuration does not speak of losses: what an operator accepted stays accepted.
        let policy = Policy { losses_accepted: self.state.policy().losses_accepted, ..self.options.policy };
        if policy == self.state.policy() {
            return Ok(());
        }
        self.extend_expiries(&policy)?;
        tracing::info!("the policy changes");
        self.commit(
            |stage| stage.policy(policy),
            Body::Policy { policy, actor: "configuration".into(), peer: String::new() },
        )
    }

    /// Before a lifetime is raised, what was to expire by the old one gets the new one.
    fn extend_expiries(&mut self, policy: &Policy) -> Result<(), WriteError> {
        let old = self.state.policy();
        let raised = |new: Duration, before: Duration| {
            let seconds = (new + policy.expiry_leeway).saturating_sub(before + old.expiry_leeway).as_secs();
            u32::try_from(seconds.div_ceil(60)).unwrap_or(Minute::MAX)
        };
        let token = raised(policy.max_token_lifetime, old.max_token_lifetime);
        let session = raised(policy.max_session_lifetime, old.max_session_lifetime);
        let by = |basis| match basis {
            ExpiryBasis::TokenLifetime => token,
            ExpiryBasis::SessionLifetime => session,
            ExpiryBasis::Given | ExpiryBasis::TokenExp | ExpiryBasis::Never => 0,
        };
        let floor = self.state.floor();
        let mut due: Vec<(Place, Minute)> = Vec::new();
        for (fingerprint, _) in self.state.ledger() {
            let Some((entry, live)) = self.state.live(fingerprint, self.state.floor()) else { continue };
            for item in live
                .clone()
                .into_stack(&entry)
                .items
                .iter()
                .filter(|item| by(item.basis) > 0 && item.mark.expiry > floor)
            {
                let expiry = item.mark.expiry.bits().saturating_add(by(item.basis));
                due.push((item.place, Minute::at(expiry).unwrap_or(Minute::NEVER)));
            }
        }
        due.sort_unstable_by_key(|(place, _)| *place);
        for some in due.chunks(EXTENSIONS_MAX) {
            let extensions = self.extensions(some)?;
            self.commit(|stage| extensions.iter().for_each(|e| stage.extend(e)), Body::Extend(extensions.clone()))?;
        }
        Ok(())
    }

    fn extensions(&self, due: &[(Place, Minute)]) -> Result<Vec<Extension>, WriteError> {
        let mut extensions = Vec::with_capacity(due.len());
        let mut record: Option<Record> = None;
        for (place, expiry) in due {
            if record.as_ref().is_none_or(|record| record.revision != place.revision) {
                record = match self.reader.record(place.revision) {
                    Ok(record) => record,
                    Err(ReadError::Pruned { .. }) => None,
                    Err(error) => return Err(WriteError::Unavailable(error.to_string())),
                };
            }
            let of_record = record.as_ref().and_then(|record| selector_at(record, place.index));
            let selector = match of_record {
                Some(selector) => Some(selector),
                None => carried(&*self.reader, *place).map_err(|error| WriteError::Unavailable(error.to_string()))?,
            };
            let missing = || WriteError::Unavailable(format!("revision {} lacks a live revocation", place.revision));
            let selector = selector.ok_or_else(missing)?;
            extensions.push(Extension { id: self.state.id(*place), selector, expiry: *expiry });
        }
        Ok(extensions)
    }

    /// Commits a record of the authority's own, before anything is served.
    fn commit(&mut self, fill: impl FnOnce(&mut Stage<'_>), body: Body) -> Result<(), WriteError> {
        let moment = self.keeper.observe(&self.state.policy());
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        let mut stage = Stage::new(&self.state, moment.wall, floor);
        fill(&mut stage);
        let internal = |error: &dyn std::fmt::Display| WriteError::Unavailable(error.to_string());
        let transition = stage.finish().map_err(|error| internal(&error))?;
        let revision = transition.delta.revision;
        let record = Record { revision, chain_after: transition.chain, body, delta: transition.canonical.clone() };
        let _durable = self.journal.append(&record).map_err(|error| internal(&error))?;
        self.keeper.logged(moment.wall);
        if let Some(rebuild) = self.state.install(&transition).map_err(|error| internal(&error))? {
            rebuild.run();
        }
        self.overlay.add(transition);
        Ok(())
    }

    /// The commit thread's own, ready to run.
    pub(super) fn into_committer(
        self,
        publisher: Arc<dyn super::publish::Publish>,
        vitals: Arc<Vitals>,
        queue: std::sync::mpsc::Receiver<super::commit::Work>,
    ) -> Committer {
        let Self { mut state, journal, reader, keeper, overlay, snapshotter, options, .. } = self;
        state.serve_credentials();
        let audit_retention = options.audit_retention;
        let ticked_at = keeper.boot();
        let audit_head = AuditHead { revision: journal.head(), checksum: journal.checksum() };
        tracing::info!(%audit_head, "audit head");
        vitals.recorded(audit_head);
        Committer {
            state,
            journal,
            reader,
            keeper,
            publisher,
            vitals,
            overlay,
            snapshotter,
            queue,
            audit_retention,
            ticked_at,
            told_head_at: ticked_at,
            pruning: None,
            run_rebuild,
            poisoned: false,
        }
    }
}

/// The selector of the revocation at `index` of a record.
pub(super) fn selector_at(record: &Record, index: u32) -> Option<Selector> {
    record.revocations().find(|(i, ..)| *i == index).map(|(_, _, revocation)| revocation.selector.clone())
}

/// The selector of a revocation whose record was pruned while it lives on.
pub(super) fn carried(reader: &dyn JournalReader, place: Place) -> Result<Option<Selector>, ReadError> {
    let before = match place.index.checked_sub(1) {
        Some(index) => RevocationKey { revision: place.revision, index },
        None => RevocationKey { revision: Revision(place.revision.0.saturating_sub(1)), index: u32::MAX },
    };
    let next = reader.carried(Some(before), 1)?;
    let key = RevocationKey { revision: place.revision, index: place.index };
    Ok(next.into_iter().find(|carried| carried.key() == key).map(|carried| carried.revocation.selector))
}
