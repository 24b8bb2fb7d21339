//! The authority without threads, for simulations: time passes and work is done when the caller says so.
//!
//! Everything that decides, commits, publishes and recovers is what a server runs; only the threads around it are missing.
//! The caller brings the journal, and with it the disk's faults.
//!
//! # Call order
//! [`recover`], [`ManualAuthority::start`], then in any order: [`ManualAuthority::revoke`] and
//! [`ManualAuthority::reinstate`] queue, [`ManualAuthority::step`] does one group and what is due, [`Asked::poll`] tells the
//! answer. Dropping it is a crash: what was not decided is not answered.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;

use super::commit::{Committer, Work};
use super::decide::{Decided, ResolvedReinstate};
use super::lookup;
use super::publish::Publish;
use super::recovery::{self, Options, RecoverError, Recovered};
use super::requests::Remembered;
use super::serve::gone;
use super::snapshot::{self, Snapshotter};
use super::vitals::Vitals;
use crate::journal::{CredentialAction, Identity, Journal, JournalReader, Record, create_private_folder};
use crate::revocation::ports::{
    AcceptLossError, AppliedPolicy, ApplyPolicy, Caller, Credential, CredentialError, PolicyApplied, PolicyError,
    ReinstateReply, ReinstateRequest, RevokeReply, RevokeRequest, WriteError,
};
use crate::revocation::{Position, Rebuild, RevocationSet, UnixMillis};

/// The most requests that wait for a step; more are refused.
const QUEUE_REQUESTS: usize = 4096;

/// An authority that works when told to.
pub struct ManualAuthority {
    committer: Committer,
    queue: SyncSender<Work>,
    identity: Identity,
    reader: Arc<dyn JournalReader>,
    set: Arc<RevocationSet>,
    vitals: Arc<Vitals>,
}

/// Recovers from `journal` and from the snapshots below `options.data_dir`, as a server does.
///
/// # Errors
/// Everything a [`RecoverError`] can say.
pub fn recover(options: Options, journal: Box<dyn Journal>) -> Result<Recovered, RecoverError> {
    let folder = options.data_dir.join("snapshots");
    let io = |source| RecoverError::Io { path: folder.clone(), source };
    create_private_folder(&folder).map_err(io)?;
    let snapshots = snapshot::list(&folder).map_err(io)?;
    recovery::recover_from(journal, options, snapshots, |base| Ok(Snapshotter::inline(folder.clone(), base)))
}

impl ManualAuthority {
    /// Takes over what was recovered.
    #[must_use]
    pub fn start(recovered: Recovered, publisher: Arc<dyn Publish>) -> Self {
        let (queue, inbox) = sync_channel(QUEUE_REQUESTS);
        let vitals = Arc::new(Vitals::default());
        let identity = recovered.identity().clone();
        let reader = Arc::clone(&recovered.reader);
        let set = Arc::clone(recovered.state().set());
        let mut committer = recovered.into_committer(publisher, Arc::clone(&vitals), inbox);
        committer.run_rebuild = Rebuild::run;
        Self { committer, queue, identity, reader, set, vitals }
    }

    /// Queues a revoke request.
    pub fn revoke(&self, request: RevokeRequest) -> Asked<RevokeReply> {
        self.ask(|answer| Ok(Work::Revoke(request, answer)), lookup::repeat_revoke)
    }

    /// Queues a reinstate request.
    pub fn reinstate(&self, request: ReinstateRequest) -> Asked<ReinstateReply> {
        let resolved = |answer| {
            let ReinstateRequest { caller, request_id, body_hash, items, reason, dry_run } = request;
            let named = lookup::named(&*self.reader, &self.identity, items);
            let named = named.map_err(|error| WriteError::Unavailable(error.to_string()))?;
            let items = named.map_err(WriteError::Invalid)?;
            Ok(Work::Reinstate(ResolvedReinstate { caller, request_id, body_hash, items, reason, dry_run }, answer))
        };
        self.ask(resolved, lookup::repeat_reinstate)
    }

    /// Gives up what epochs up to `generation` revoked and this one lacks: does one round of the commit thread for it.
    ///
    /// # Errors
    /// When it is not accepted, or not known to be durable.
    pub fn accept_loss(&mut self, caller: Caller, generation: u64) -> Result<Position, AcceptLossError> {
        let (answer, mut decided) = oneshot::channel();
        self.committer.step(Some(Work::AcceptLoss(caller, generation, answer)));
        decided.try_recv().map_err(|_| gone())?
    }

    /// Creates or revokes credentials: does one round of the commit thread for it.
    ///
    /// # Errors
    /// When it is not accepted, or not known to be durable.
    pub fn change_credentials(
        &mut self,
        caller: Caller,
        action: CredentialAction,
    ) -> Result<Position, CredentialError> {
        let (answer, mut decided) = oneshot::channel();
        self.committer.step(Some(Work::Credentials(caller, action, answer)));
        decided.try_recv().map_err(|_| gone())?
    }

    /// Puts a verification policy in force: does one round of the commit thread for it.
    ///
    /// # Errors
    /// When it is not accepted, or not known to be durable.
    pub fn apply_policy(&mut self, request: ApplyPolicy) -> Result<PolicyApplied, PolicyError> {
        let (answer, mut decided) = oneshot::channel();
        self.committer.step(Some(Work::Verification(Box::new(request), answer)));
        decided.try_recv().map_err(|_| gone())?
    }

    /// The last verification policies, the oldest first.
    #[must_use]
    pub fn policies(&self) -> Vec<Arc<AppliedPolicy>> {
        self.committer.state.policies().kept().to_vec()
    }

    /// The credentials that are neither revoked nor expired, by name and id.
    #[must_use]
    pub fn credentials(&self) -> Vec<Credential> {
        self.committer.state.credentials().view().list()
    }

    fn ask<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<Decided<T>, WriteError>>) -> Result<Work, WriteError>,
        repeat: Repeat<T>,
    ) -> Asked<T> {
        let (answer, decided) = oneshot::channel();
        let refused = self.vitals.writes_refused().filter(|_| !self.vitals.may_retry_writes());
        let queued = match refused {
            Some(reason) => Err(WriteError::Unavailable(reason)),
            None => work(answer).and_then(|work| self.queue.try_send(work).map_err(refusal)),
        };
        let refused = queued.err();
        Asked { refused, decided, reader: Arc::clone(&self.reader), identity: self.identity.clone(), repeat }
    }

    /// Does one round of the commit thread: a group of what is queued, then what is due. Never waits.
    pub fn step(&mut self) {
        let work = self.committer.queue.try_recv().ok();
        self.committer.step(work);
    }

    /// The set that checks read.
    #[must_use]
    pub fn set(&self) -> &Arc<RevocationSet> {
        &self.set
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.committer.keeper.read().wall
    }

    /// Why the clock is in doubt; `None` when it is not.
    #[must_use]
    pub fn clock_in_doubt(&self) -> Option<String> {
        self.vitals.clock_in_doubt()
    }

    /// Why writes are refused; `None` when they are not.
    #[must_use]
    pub fn writes_refused(&self) -> Option<String> {
        self.vitals.writes_refused()
    }
}

fn refusal(error: TrySendError<Work>) -> WriteError {
    match error {
        TrySendError::Full(_) => WriteError::Overloaded,
        TrySendError::Disconnected(_) => WriteError::Unavailable("the server is stopping".into()),
    }
}

type Repeat<T> = fn(&Identity, &Record, u32) -> Result<T, WriteError>;

/// A request on its way.
pub struct Asked<T> {
    refused: Option<WriteError>,
    decided: oneshot::Receiver<Result<Decided<T>, WriteError>>,
    reader: Arc<dyn JournalReader>,
    identity: Identity,
    repeat: Repeat<T>,
}

impl<T> Asked<T> {
    /// The answer, once; `None` while there is none.
    pub fn poll(&mut self) -> Option<Result<T, WriteError>> {
        if let Some(error) = self.refused.take() {
            return Some(Err(error));
        }
        match self.decided.try_recv() {
            Ok(Ok(Decided::Now(reply))) => Some(Ok(reply)),
            Ok(Ok(Decided::Earlier(earlier))) => Some(self.repeated(earlier)),
            Ok(Err(error)) => Some(Err(error)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(gone())),
        }
    }

    fn repeated(&self, earlier: Remembered) -> Result<T, WriteError> {
        let record = self.reader.record(earlier.revision);
        let record = record.map_err(|error| WriteError::Unavailable(error.to_string()))?.ok_or_else(lookup::missing)?;
        (self.repeat)(&self.identity, &record, earlier.ordinal)
    }
}
