//! The one write path: validate → append → durable → apply → publish → acknowledge.
//!
//! One thread owns the state and the journal. It takes all requests that have gathered while the one before was being
//! synced, decides them one after the other on a [`Stage`], appends what was accepted as a single record, and only then
//! takes it in force, publishes it and answers. So every refusal is exact, and nothing that was not durable is ever seen.
//!
//! # Invariants
//! - C1. An answer that names a position is built from [`Durable`], which only the journal makes.
//! - C2. After an unclear append nothing more is appended until a restart has read what the disk holds.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::credentials;
use super::decide::{Answer, Decide, Group, ResolvedReinstate};
use super::lifetimes::Times;
use super::policies::{self, Decision};
use super::publish::{Commit, Publish};
use super::requests::REMEMBERED_FOR;
use super::snapshot::{Overlay, Snapshotter};
use super::stage::Stage;
use super::state::{State, Transition};
use super::timekeeper::{Moment, Timekeeper};
use super::vitals::Vitals;
use crate::clock::BootTime;
use crate::hub::Published;
use crate::journal::{
    AppendError, Body, CredentialAction, CredentialChange, Durable, Journal, JournalReader, PruneLimits, Record,
};
use crate::revocation::ports::{
    AcceptLossError, ApplyPolicy, AuditHead, Caller, CredentialError, PolicyApplied, PolicyError, REQUEST_ITEMS_MAX,
    ReinstateReply, RevokeReply, RevokeRequest, WriteError,
};
use crate::revocation::{Minute, Policy, Position, Rebuild, Revision};

/// The most requests that share one revision.
pub const GROUP_REQUESTS_MAX: usize = 1024;
/// The most bytes of claims and reasons that share one revision.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// How long a group is open, whatever becomes of its requests: those accepted first wait for it.
const GROUP_TIME_MAX: Duration = Duration::from_millis(20);
/// How often the thread looks at the clocks when there is nothing to write.
const TICK: Duration = Duration::from_secs(1);
/// How often the audit head is put into the log: often enough to bound what can be changed unseen, seldom enough to be read.
const AUDIT_HEAD_TOLD_EVERY: Duration = Duration::from_secs(3600);
/// How many expired entries are reclaimed between two commits.
const SWEEP_ENTRIES: usize = 4096;
/// How many records are pruned between two commits at most: the writers wait meanwhile.
const PRUNE_RECORDS: usize = 200;

/// What the commit thread is asked to do.
pub enum Work {
    /// Revoke.
    Revoke(RevokeRequest, Answer<RevokeReply>),
    /// Take back.
    Reinstate(ResolvedReinstate, Answer<ReinstateReply>),
    /// Give up what epochs up to a generation revoked and this one lacks; who wants it.
    AcceptLoss(Caller, u64, oneshot::Sender<Result<Position, AcceptLossError>>),
    /// Let credentials come or go; who wants it.
    Credentials(Caller, CredentialAction, credentials::Answer),
    /// Put a verification policy in force.
    Verification(Box<ApplyPolicy>, policies::Answer),
    /// End, after everything before it in the queue.
    Stop,
}

/// The commit thread's own.
pub struct Committer {
    pub(super) state: State,
    pub(super) journal: Box<dyn Journal>,
    pub(super) reader: Arc<dyn JournalReader>,
    pub(super) keeper: Timekeeper,
    pub(super) publisher: Arc<dyn Publish>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) overlay: Overlay,
    pub(super) snapshotter: Snapshotter,
    pub(super) queue: Receiver<Work>,
    pub(super) ticked_at: BootTime,
    /// When the audit head was last put into the log.
    pub(super) told_head_at: BootTime,
    /// The journal is to be pruned through here, step by step.
    pub(super) pruning: Option<Revision>,
    pub(super) audit_retention: Duration,
    /// Runs a rebuild of the filter; nothing waits for it.
    pub(super) run_rebuild: fn(Rebuild),
    /// An append ended unclear: nothing more is appended.
    pub(super) poisoned: bool,
}

impl Committer {
    /// Works until told to stop or until every sender is gone.
    pub fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.vitals));
        loop {
            let due = TICK.saturating_sub(self.keeper.boot().since(self.ticked_at));
            let work = match self.queue.recv_timeout(due) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if !self.step(work) {
                break;
            }
        }
        self.snapshotter.stop();
        self.tell_audit_head();
    }

    /// One round: a group that begins with `work`, then what is due. False: stop.
    pub(super) fn step(&mut self, work: Option<Work>) -> bool {
        if let Some(work) = work
            && !self.work(work)
        {
            return false;
        }
        if self.keeper.boot().since(self.ticked_at) >= TICK {
            self.ticked_at = self.keeper.boot();
            self.tick();
        }
        if self.keeper.boot().since(self.told_head_at) >= AUDIT_HEAD_TOLD_EVERY {
            self.tell_audit_head();
        }
        self.state.sweep(SWEEP_ENTRIES);
        self.tend_snapshots();
        self.prune();
        true
    }

    /// Does `first` and what turns out to wait behind it. False: stop afterwards.
    fn work(&mut self, first: Work) -> bool {
        let mut next = Some(first);
        while let Some(work) = next.take() {
            match work {
                Work::Stop => return false,
                Work::AcceptLoss(caller, generation, answer) => {
                    // Who asked may have left; the record stands.
                    let _ = answer.send(self.accept_loss(caller, generation));
                }
                Work::Credentials(caller, action, answer) => {
                    let _ = answer.send(self.change_credentials(caller, action));
                }
                Work::Verification(request, answer) => {
                    let _ = answer.send(self.apply_policy(*request));
                }
                Work::Revoke(..) | Work::Reinstate(..) => next = self.commit_group(work),
            }
        }
        true
    }

    /// A record of its own: it changes the policy.
    fn accept_loss(&mut self, caller: Caller, generation: u64) -> Result<Position, AcceptLossError> {
        let policy = self.state.policy();
        let current = self.state.epoch().generation;
        match generation {
            0 => return Err(AcceptLossError::NotPast { generation, current }),
            _ if generation == policy.losses_accepted => return Ok(self.head()),
            _ if generation >= current => return Err(AcceptLossError::NotPast { generation, current }),
            _ if generation < policy.losses_accepted => {
                return Err(AcceptLossError::AcceptedBeyond { generation, accepted: policy.losses_accepted });
            }
            _ => {}
        }
        let moment = self.observe();
        let floor = self.keeper.floor(moment, self.state.floor(), &policy);
        let policy = Policy { losses_accepted: generation, ..policy };
        let mut stage = Stage::new(&self.state, moment.wall, floor);
        stage.policy(policy);
        let transition = stage.finish().map_err(|error| WriteError::Unavailable(format!("internal: {error}")))?;
        tracing::warn!(
            generation,
            actor = caller.principal,
            "what was revoked up to a generation and lost is given up"
        );
        let Caller { principal: actor, peer, .. } = caller;
        Ok(self.commit(transition, Body::Policy { policy, actor, peer })?)
    }

    /// A record of its own, and a delta that says nothing: replicas do not hold credentials.
    fn change_credentials(&mut self, caller: Caller, action: CredentialAction) -> Result<Position, CredentialError> {
        let moment = self.observe();
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        self.state.credentials().admit(&action, floor)?;
        let Caller { principal, peer, .. } = caller;
        let action = match action {
            CredentialAction::Create(mut credential) => {
                credential.created_at = moment.wall;
                credential.created_by.clone_from(&principal);
                CredentialAction::Create(credential)
            }
            revoke @ CredentialAction::Revoke(_) => revoke,
        };
        let change = CredentialChange { principal, peer, received_at: moment.wall, action };
        let mut stage = Stage::new(&self.state, moment.wall, floor);
        stage.credentials(change.clone());
        let transition = stage.finish().map_err(|error| WriteError::Unavailable(format!("internal: {error}")))?;
        Ok(self.commit(transition, Body::Credentials(change))?)
    }

    /// A record of its own.
    fn apply_policy(&mut self, request: ApplyPolicy) -> Result<PolicyApplied, PolicyError> {
        let moment = self.observe();
        let dry_run = request.dry_run;
        let applied = match self.state.policies().decide(request, moment.wall)? {
            Decision::Unchanged(version) => {
                let position = (!dry_run).then(|| self.head());
                return Ok(PolicyApplied { position, version, unchanged: true });
            }
            Decision::Apply(applied) => applied,
        };
        let version = applied.policy.version;
        if dry_run {
            return Ok(PolicyApplied { position: None, version, unchanged: false });
        }
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        let mut stage = Stage::new(&self.state, moment.wall, floor);
        stage.verification(Arc::clone(&applied));
        let transition = stage.finish().map_err(|error| WriteError::Unavailable(format!("internal: {error}")))?;
        tracing::info!(
            version,
            actor = applied.principal,
            reverts_to = applied.reverts_to,
            "the verification policy changes"
        );
        let position = self.commit(transition, Body::Verification(applied))?;
        Ok(PolicyApplied { position: Some(position), version, unchanged: false })
    }

    /// Decides `first` and whatever else has gathered, as one revision. Says what cannot be part of it.
    fn commit_group(&mut self, first: Work) -> Option<Work> {
        let moment = self.observe();
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        let mut stage = Stage::new(&self.state, moment.wall, floor);
        let mut group = Group::default();
        let mut next = Some(first);
        let mut apart = None;
        while let Some(work) = next.take() {
            // Each request has a time of its own: a default cutoff must not lie before a token minted meanwhile.
            let arrived = self.keeper.read();
            let now = self.keeper.now(arrived, &self.state.policy());
            let times = Times { now, wall: arrived.wall.seconds(), floor };
            let decide = Decide { times, received_at: arrived.wall, head: self.head() };
            match work {
                Work::Revoke(request, answer) => decide.revoke(&mut stage, &mut group, request, answer, &self.state),
                Work::Reinstate(request, answer) => decide.reinstate(&mut stage, &mut group, request, answer),
                work @ (Work::AcceptLoss(..) | Work::Credentials(..) | Work::Verification(..) | Work::Stop) => {
                    apart = Some(work);
                    break;
                }
            }
            group.taken += 1;
            if group.taken < GROUP_REQUESTS_MAX
                && arrived.boot.since(moment.boot) < GROUP_TIME_MAX
                && group.bytes < GROUP_BYTES_MAX
                && stage.room() >= group.undone + REQUEST_ITEMS_MAX
            {
                next = self.queue.try_recv().ok();
            }
        }
        let Group { requests, answers, .. } = group;
        if requests.is_empty() {
            drop(stage);
            answers.into_iter().for_each(|waiting| waiting.tell(&Ok(self.head())));
        } else {
            let result = match stage.finish() {
                Ok(transition) => self.commit(transition, Body::Requests(requests)),
                Err(error) => Err(WriteError::Unavailable(format!("internal: {error}"))),
            };
            answers.into_iter().for_each(|waiting| waiting.tell(&result));
        }
        apart
    }

    /// Makes a decided revision durable, takes it in force and publishes it.
    pub(super) fn commit(&mut self, transition: Transition, body: Body) -> Result<Position, WriteError> {
        let revision = transition.delta.revision;
        let record = Record { revision, chain_after: transition.chain, body, delta: transition.canonical.clone() };
        let begun = self.keeper.boot();
        let durable = match self.journal.append(&record) {
            Ok(durable) => durable,
            Err(error) => return Err(self.refused(&error)),
        };
        self.publisher.measured(Commit {
            took: self.keeper.boot().since(begun),
            requests: match &record.body {
                Body::Requests(requests) => requests.len(),
                _ => 0,
            },
            delta_bytes: record.delta.len(),
        });
        self.vitals.accept_writes();
        self.vitals.recorded(AuditHead { revision, checksum: self.journal.checksum() });
        self.take_in_force(durable, transition)
    }

    fn take_in_force(&mut self, durable: Durable<Position>, transition: Transition) -> Result<Position, WriteError> {
        let rebuild = match self.state.install(&transition) {
            Ok(rebuild) => rebuild,
            Err(error) => {
                // Durable but not in force: only a replay can tell what is right.
                tracing::error!(%error, "a committed revision does not fit the state; writes stop until a restart");
                self.vitals.refuse_writes("the state differs from the journal; restart the server");
                return Err(WriteError::OutcomeUnknown(error.to_string()));
            }
        };
        if let Some(rebuild) = rebuild {
            (self.run_rebuild)(rebuild);
        }
        let delta = &transition.delta;
        self.keeper.logged(delta.source_time);
        self.publisher.publish(Published {
            revision: delta.revision,
            source_time: delta.source_time,
            floor: delta.floor,
            policy: self.state.policy(),
            has_verification: self.state.policies().version() > 0,
            canonical: Bytes::copy_from_slice(&transition.canonical),
            digest: delta.digest_after,
            chain: transition.chain,
        });
        self.vitals.committed(&self.state, transition.requests.len());
        self.overlay.add(transition);
        Ok(durable.into_inner())
    }

    /// Looks at the clocks, moves the floor when that lets something go, and tries a journal that refused.
    fn tick(&mut self) {
        let moment = self.observe();
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        let table = self.state.shapes();
        let expires = floor > self.state.floor() && table.live_beyond(floor) < table.live_beyond(self.state.floor());
        if expires || self.vitals.may_retry_writes() {
            self.commit_empty(moment, floor);
        }
    }

    /// Reads the clocks, and says so when they are in doubt.
    fn observe(&mut self) -> Moment {
        let moment = self.keeper.observe(&self.state.policy());
        self.vitals.clock_alarm(self.keeper.alarm());
        moment
    }

    fn commit_empty(&mut self, moment: Moment, floor: Minute) {
        match Stage::new(&self.state, moment.wall, floor).finish() {
            Ok(transition) => {
                // Why not is said where it is refused.
                let _ = self.commit(transition, Body::Tick);
            }
            Err(error) => tracing::error!(%error, "cannot move the expiry floor"),
        }
    }

    fn refused(&mut self, error: &AppendError) -> WriteError {
        let reason = error.to_string();
        // Once, not for each request: the log may lie on the same disk.
        if self.vitals.writes_refused().as_deref() != Some(&reason) {
            tracing::error!(%error, "the journal refused an append");
        }
        match error {
            AppendError::Full | AppendError::ReadOnly => {
                self.vitals.refuse_writes_for_now(&reason);
                WriteError::Unavailable(reason)
            }
            AppendError::Poisoned(_) => {
                let attempted = !std::mem::replace(&mut self.poisoned, true);
                self.vitals.refuse_writes(&reason);
                if attempted { WriteError::OutcomeUnknown(reason) } else { WriteError::Unavailable(reason) }
            }
            AppendError::OutOfOrder { .. } | AppendError::Refused(_) => WriteError::Unavailable(reason),
        }
    }

    /// Whoever keeps the log elsewhere can prove by it that no record up to here was changed.
    fn tell_audit_head(&mut self) {
        self.told_head_at = self.keeper.boot();
        tracing::info!(audit_head = %self.vitals.audit_head(), "audit head");
    }

    fn head(&self) -> Position {
        Position { epoch: self.state.epoch().id, revision: self.state.revision() }
    }

    fn tend_snapshots(&mut self) {
        match self.snapshotter.poll(&mut self.overlay) {
            Ok(None) => {}
            Ok(Some(ready)) => {
                tracing::info!(revision = %ready.revision, entries = ready.entries, "snapshot written");
                self.state.forget(&ready.expired);
                self.publisher.offer_snapshot(ready.image);
                // Through the snapshot before it: should the new one prove damaged, a start from that one still works.
                self.pruning = ready.before;
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "snapshot failed"),
        }
        if self.overlay.is_due() && self.snapshotter.is_idle() {
            self.snapshotter.begin(&mut self.overlay, &self.state);
        }
    }

    /// Lets some records go that are past the audit retention; what still lives in them is carried.
    fn prune(&mut self) {
        let Some(through) = self.pruning.take() else { return };
        let limits = PruneLimits {
            through,
            // A clock that was ahead once must not end the retention early.
            now: self.state.highest_time().min(self.keeper.read().wall),
            // A repeat is answered from its record.
            retention: self.audit_retention.max(REMEMBERED_FOR),
            records_max: PRUNE_RECORDS,
        };
        let state = &self.state;
        match self.journal.prune(&limits, &|id, revocation| state.live_expiry(id, revocation)) {
            Ok(pruned) if pruned.records > 0 => {
                self.pruning = pruned.more.then_some(through);
                tracing::info!(records = pruned.records, "journal pruned");
                match self.reader.oldest() {
                    Ok(oldest) => self.publisher.pruned(oldest),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the journal cannot be read")
                    }
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the journal was not pruned"),
        }
    }
}

/// However the commit thread ends, nobody is left to believe that writes are accepted.
struct Ending(Arc<Vitals>);

impl Drop for Ending {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.0.refuse_writes(if panicked { "the commit thread failed; restart" } else { "the server is stopping" });
    }
}

/// Rebuilding the filter only reads and hints: it runs beside the writer.
pub(super) fn run_rebuild(rebuild: Rebuild) {
    let spawned = std::thread::Builder::new().name("filter-rebuild".into()).spawn(move || rebuild.run());
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot start the filter rebuild; checks get slower, not wrong");
    }
}
