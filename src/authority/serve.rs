//! The authority as the surfaces see it: requests go to the commit thread, checks read the set, searches the index.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::clock::{BootTime, Clock};
use crate::journal::index::{self, QueryError};
use crate::journal::{Identity, Index, JournalReader, ReadError, Record};
use crate::revocation::ports::{
    AcceptLossError, Answer, BackupParts, Caller, Checks, ExportParts, FindError, Finds, Found, OperateError, Operates,
    Page, Pending, Query, Record as FoundRecord, RecordState, ReinstateReply, ReinstateRequest, Reports, RevokeReply,
    RevokeRequest, Status, Undo, Violation, WriteError, Writes,
};
use crate::revocation::{Claims, Epoch, Position, Revision, RevocationId, RevocationSet, Selector, UnixMillis};

use super::backup::Backups;
use super::commit::Work;
use super::credentials::CredentialView;
use super::decide::{Decided, ResolvedReinstate};
use super::export::Exports;
use super::lookup;
use super::policies::KeptPolicies;
use super::publish::Publish;
use super::recovery::Recovered;
use super::requests::Remembered;
use super::vitals::Vitals;

/// The most requests that wait for the commit thread; more are refused at once.
const QUEUE_REQUESTS: usize = 4096;
/// The most items that wait, of all requests together. Bounds their number, not their bytes: an item has up to 8 KiB of claims.
const QUEUE_ITEMS: usize = 400_000;
/// How long a search waits for the index to reach `at_least`.
const INDEX_WAIT: Duration = Duration::from_secs(1);

/// The running authority.
pub struct Authority {
    queue: SyncSender<Work>,
    queued_items: Arc<AtomicUsize>,
    set: Arc<RevocationSet>,
    reader: Arc<dyn JournalReader>,
    index: Arc<Index>,
    vitals: Arc<Vitals>,
    clock: Clock,
    started: BootTime,
    identity: Identity,
    pub(super) credentials: Arc<CredentialView>,
    pub(super) policies: watch::Receiver<KeptPolicies>,
    backups: Backups,
    exports: Exports,
    public_key: [u8; 32],
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Gives the items of a request back to the queue's budget when it has been answered.
pub(super) struct Room(Arc<AtomicUsize>, usize);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Authority {
    /// Serves what was recovered. `public_key` is that of the identity's signing key.
    ///
    /// # Errors
    /// When the commit thread cannot be started.
    pub fn start(
        recovered: Recovered,
        index: Index,
        publisher: Arc<dyn Publish>,
        public_key: [u8; 32],
    ) -> std::io::Result<Arc<Self>> {
        let (queue, inbox) = sync_channel(QUEUE_REQUESTS);
        let vitals = Arc::new(Vitals::default());
        let clock = recovered.options.clock.clone();
        let index = Arc::new(index);
        let exports = Exports::new(recovered.reader().map_err(std::io::Error::other)?, recovered.identity().clone());
        let mut authority = Self {
            queue,
            queued_items: Arc::default(),
            set: Arc::clone(recovered.state.set()),
            reader: Arc::clone(&recovered.reader),
            index: Arc::clone(&index),
            vitals: Arc::clone(&vitals),
            started: clock.boot(),
            clock,
            backups: Backups::new(recovered.options.data_dir.clone(), recovered.identity().epoch),
            exports,
            identity: recovered.identity().clone(),
            credentials: Arc::clone(recovered.state.credentials().view()),
            policies: recovered.state.policies().view(),
            public_key,
            thread: Mutex::new(None),
        };
        let notifying = Notifying { publisher, index };
        let committer = recovered.into_committer(Arc::new(notifying), vitals, inbox);
        let thread = std::thread::Builder::new().name("commit".into()).spawn(move || committer.run())?;
        authority.thread = Mutex::new(Some(thread));
        Ok(Arc::new(authority))
    }

    /// Lets everything that was accepted be committed, then ends the commit thread. Later writes are refused.
    pub fn stop(&self) {
        let _ = self.queue.send(Work::Stop);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }

    /// The set that checks read.
    #[must_use]
    pub fn set(&self) -> &Arc<RevocationSet> {
        &self.set
    }

    /// The commit thread's condition.
    #[must_use]
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    fn epoch(&self) -> Epoch {
        self.identity.epoch
    }

    /// Room for a request in the queue.
    pub(super) fn room(&self, items: usize) -> Result<Room, WriteError> {
        if let Some(reason) = self.vitals.writes_refused().filter(|_| !self.vitals.may_retry_writes()) {
            return Err(WriteError::Unavailable(reason));
        }
        let before = self.queued_items.fetch_add(items, Ordering::Relaxed);
        let room = Room(Arc::clone(&self.queued_items), items);
        if before + items > QUEUE_ITEMS { Err(WriteError::Overloaded) } else { Ok(room) }
    }

    pub(super) fn enqueue(&self, work: Work) -> Result<(), WriteError> {
        self.queue.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => WriteError::Overloaded,
            TrySendError::Disconnected(_) => WriteError::Unavailable("the server is stopping".into()),
        })
    }

    /// Reads the journal away from the async threads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn JournalReader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let reader = Arc::clone(&self.reader);
        let joined = tokio::task::spawn_blocking(move || read(&*reader)).await;
        let result = joined.map_err(|error| WriteError::Unavailable(error.to_string()))?;
        result.map_err(|error| WriteError::Unavailable(error.to_string()))
    }

    /// The request that was remembered, as the journal holds it.
    async fn earlier(&self, remembered: Remembered) -> Result<Record, WriteError> {
        let record = self.read(move |reader| reader.record(remembered.revision)).await?;
        record.ok_or_else(lookup::missing)
    }

    /// What each item of a reinstatement names.
    async fn resolve(&self, items: Vec<Undo>) -> Result<Vec<(Selector, Option<RevocationId>)>, WriteError> {
        let identity = self.identity.clone();
        self.read(move |reader| lookup::named(reader, &identity, items)).await?.map_err(WriteError::Invalid)
    }
}

/// Publishes, and tells the index that the journal has grown.
struct Notifying {
    publisher: Arc<dyn Publish>,
    index: Arc<Index>,
}

impl Publish for Notifying {
    fn publish(&self, published: super::Published) {
        self.publisher.publish(published);
        self.index.notify();
    }

    fn offer_snapshot(&self, image: Arc<super::Image>) {
        self.publisher.offer_snapshot(image);
    }

    fn pruned(&self, oldest: Revision) {
        self.publisher.pruned(oldest);
        self.index.notify();
    }

    fn measured(&self, commit: super::Commit) {
        self.publisher.measured(commit);
    }
}

impl Checks for Authority {
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer {
        let finding = self.set.check(claims, self.clock.wall().seconds());
        Answer::fresh(finding, self.epoch(), at_least)
    }
}

impl Writes for Authority {
    fn revoke(&self, request: RevokeRequest) -> Pending<'_, Result<RevokeReply, WriteError>> {
        Box::pin(async move {
            let _room = self.room(request.items.len())?;
            let (answer, decided) = oneshot::channel();
            self.enqueue(Work::Revoke(request, answer))?;
            match decided.await.map_err(|_| gone())?? {
                Decided::Now(reply) => Ok(reply),
                Decided::Earlier(earlier) => {
                    let record = self.earlier(earlier).await?;
                    lookup::repeat_revoke(&self.identity, &record, earlier.ordinal)
                }
            }
        })
    }

    fn reinstate(&self, request: ReinstateRequest) -> Pending<'_, Result<ReinstateReply, WriteError>> {
        Box::pin(async move {
            let _room = self.room(request.items.len())?;
            let ReinstateRequest { caller, request_id, body_hash, items, reason, dry_run } = request;
            let items = self.resolve(items).await?;
            let request = ResolvedReinstate { caller, request_id, body_hash, items, reason, dry_run };
            let (answer, decided) = oneshot::channel();
            self.enqueue(Work::Reinstate(request, answer))?;
            match decided.await.map_err(|_| gone())?? {
                Decided::Now(reply) => Ok(reply),
                Decided::Earlier(earlier) => {
                    let record = self.earlier(earlier).await?;
                    lookup::repeat_reinstate(&self.identity, &record, earlier.ordinal)
                }
            }
        })
    }
}

impl Operates for Authority {
    fn backup(&self) -> Result<BackupParts, OperateError> {
        Ok(Box::new(self.backups.begin()?))
    }

    fn export(&self, from: Revision) -> Result<ExportParts, OperateError> {
        Ok(Box::new(self.exports.begin(from)?))
    }

    fn accept_loss(&self, caller: Caller, generation: u64) -> Pending<'_, Result<Position, AcceptLossError>> {
        Box::pin(async move {
            let _room = self.room(1)?;
            let (answer, decided) = oneshot::channel();
            self.enqueue(Work::AcceptLoss(caller, generation, answer))?;
            decided.await.map_err(|_| gone())?
        })
    }
}

/// The commit thread ended with the request in its hands.
pub(super) fn gone() -> WriteError {
    WriteError::OutcomeUnknown("the server stopped before it answered".into())
}

impl Finds for Authority {
    fn find(
        &self,
        id: RevocationId,
        at_least: Option<Position>,
    ) -> Pending<'_, Result<Found<Option<FoundRecord>>, FindError>> {
        Box::pin(async move {
            let epoch = self.epoch();
            self.search(at_least, move |index| {
                let through = index.indexed_through();
                let row = index.revocation(id).map_err(find_error)?;
                let indexed_through = Position { epoch: epoch.id, revision: through };
                Ok(Found { value: row.map(record_of), indexed_through })
            })
            .await
        })
    }

    fn list(&self, query: Query) -> Pending<'_, Result<Found<Page>, FindError>> {
        Box::pin(async move {
            let epoch = self.epoch();
            let at_least = query.at_least;
            let asked = index::Query {
                claim: query.claim,
                actor: query.actor,
                accepted_from: query.accepted_from.map(|time| UnixMillis(time.0.saturating_mul(1000))),
                accepted_before: query.accepted_before.map(|time| UnixMillis(time.0.saturating_mul(1000))),
                live: query.live_only.then_some(true),
                page_rows: query.page_size,
                page_token: query.page_token,
            };
            self.search(at_least, move |index| {
                let page = index.query(&asked).map_err(find_error)?;
                let indexed_through = Position { epoch: epoch.id, revision: page.indexed_through };
                let records = page.rows.into_iter().map(record_of).collect();
                Ok(Found { value: Page { records, next: page.next }, indexed_through })
            })
            .await
        })
    }
}

impl Authority {
    async fn search<T: Send + 'static>(
        &self,
        at_least: Option<Position>,
        ask: impl FnOnce(&Index) -> Result<T, FindError> + Send + 'static,
    ) -> Result<T, FindError> {
        let epoch = self.epoch();
        if at_least.is_some_and(|position| position.epoch != epoch.id) {
            let description = "the position is of another epoch".into();
            return Err(FindError::Invalid(vec![Violation { field: "at_least".into(), description }]));
        }
        let index = Arc::clone(&self.index);
        let searched = tokio::task::spawn_blocking(move || {
            if let Some(position) = at_least
                && !index.wait_through(position.revision, INDEX_WAIT)
            {
                let indexed_through = Position { epoch: epoch.id, revision: index.indexed_through() };
                return Err(FindError::Behind { indexed_through });
            }
            ask(&index)
        });
        searched.await.map_err(|error| FindError::Unavailable(error.to_string()))?
    }
}

fn find_error(error: QueryError) -> FindError {
    let invalid = |field: &str, error: &QueryError| {
        FindError::Invalid(vec![Violation { field: field.into(), description: error.to_string() }])
    };
    match &error {
        QueryError::PageRows { .. } => invalid("page_size", &error),
        QueryError::PageToken | QueryError::PageTokenEpoch => invalid("page_token", &error),
        QueryError::Store(_) => FindError::Unavailable(error.to_string()),
    }
}

fn record_of(row: index::Row) -> FoundRecord {
    let state = match row.reinstated {
        Some(undone) => RecordState::Reinstated { actor: undone.actor, at: undone.at, reason: undone.reason },
        None if row.live => RecordState::Live,
        None => RecordState::Expired,
    };
    FoundRecord {
        id: row.id,
        selector: row.selector,
        cutoff: row.cutoff,
        expiry: row.expiry,
        exceptions: row.exceptions,
        reason: row.reason,
        actor: row.actor,
        accepted_at: row.accepted_at,
        state,
    }
}

impl Reports for Authority {
    fn status(&self) -> Status {
        let stamp = self.set.stamp();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            epoch: self.epoch(),
            revision: stamp.revision,
            digest: stamp.digest,
            live_entries: stamp.entries,
            policy: self.set.policy(),
            shapes: self.set.shapes(),
            floor: stamp.floor,
            staleness: Duration::ZERO,
            uptime: self.clock.boot().since(self.started),
            indexed_through: self.index.indexed_through(),
            oldest: self.reader.oldest().unwrap_or(stamp.revision),
            subscribers: 0,
            history_lost: 0,
            members_cut_off: 0,
            members_trouble: None,
            writes_refused: self.vitals.writes_refused(),
            clock_alarm: self.vitals.clock_in_doubt(),
            index_trouble: self.index.trouble(),
            public_key: self.public_key,
            audit_head: Some(self.vitals.audit_head()),
            now: self.clock.wall(),
            following: None,
        }
    }
}
