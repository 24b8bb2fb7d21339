//! The one write path: validate → append → durable → apply → publish → acknowledge.
//!
//! One thread owns the state and the journal. It takes all requests that have gathered while the one before was being
//! synced, decides them one after the other on a [`Stage`], appends what was accepted as a single record, and only then
//! takes it in force, publishes it and answers. So every refusal is exact, and nothing that was not durable is ever seen.
//!
//! # Invariants
//! - C1. An answer that names a position is built from [`Durable`], which only the journal makes.
//! - C2. After an unclear append nothing more is appended until a restart has read what the disk holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::journal::{
    Action, AppendError, Body, Durable, Journal, PruneLimits, REVOCATIONS_MAX, Record, Reinstatement, Request,
    Revocation,
};
use crate::revocation::ports::{Caller, ReinstateReply, RevokeReply, RevokeRequest, Revoked, Violation, WriteError};
use crate::revocation::{Mark, Minute, Position, Rebuild, Revision, RevocationId, Selector, UnixMillis};

use super::lifetimes::{Times, terms};
use super::publish::{Commit, Publish, Published};
use super::requests::{Remembered, RequestKey};
use super::snapshot::{Overlay, Snapshotter};
use super::stage::{Accepted, Stage};
use super::state::{State, Transition};
use super::timekeeper::{Moment, Timekeeper};
use super::vitals::Vitals;

/// The most requests that share one revision.
pub const GROUP_REQUESTS_MAX: usize = 1024;
/// The most bytes of claims and reasons that share one revision.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// How often the thread looks at the clocks when there is nothing to write.
const TICK: Duration = Duration::from_secs(1);
/// How many expired entries are reclaimed between two commits.
const SWEEP_ENTRIES: usize = 4096;
/// How many records are pruned after a snapshot at most: the writers wait meanwhile.
const PRUNE_RECORDS: usize = 1000;

/// What the commit thread is asked to do.
pub enum Work {
    /// Revoke.
    Revoke(RevokeRequest, Answer<RevokeReply>),
    /// Take back.
    Reinstate(ResolvedReinstate, Answer<ReinstateReply>),
    /// End, after everything before it in the queue.
    Stop,
}

/// Where an answer goes. A caller that went away does not undo its request.
pub type Answer<T> = oneshot::Sender<Result<Decided<T>, WriteError>>;

/// A decision on a request.
#[derive(Debug)]
pub enum Decided<T> {
    /// The outcome.
    Now(T),
    /// The outcome is that of an earlier request with the same id; the journal holds it.
    Earlier(Remembered),
}

/// A reinstatement whose ids have been looked up.
#[derive(Clone, Debug)]
pub struct ResolvedReinstate {
    /// Who asks.
    pub caller: Caller,
    /// Makes a repeat safe.
    pub request_id: Option<String>,
    /// The hash of all that makes two requests the same.
    pub body_hash: [u8; 32],
    /// In the order of the request: whose revocations, and the one meant; `None`: all live ones.
    pub items: Vec<(Selector, Option<RevocationId>)>,
    /// For the audit trail.
    pub reason: String,
    /// Decide, change nothing.
    pub dry_run: bool,
}

/// The commit thread's own.
pub struct Committer {
    pub(super) state: State,
    pub(super) journal: Box<dyn Journal>,
    pub(super) keeper: Timekeeper,
    pub(super) publisher: Arc<dyn Publish>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) overlay: Overlay,
    pub(super) snapshotter: Snapshotter,
    pub(super) queue: Receiver<Work>,
    pub(super) audit_retention: Duration,
    /// An append ended unclear: nothing more is appended.
    pub(super) poisoned: bool,
}

/// Requests that were accepted into the revision being made, and whom to tell.
#[derive(Default)]
struct Group {
    requests: Vec<Request>,
    bytes: usize,
    /// How many revocations they undo; a record has room for [`REVOCATIONS_MAX`].
    undone: usize,
    answers: Vec<Waiting>,
}

enum Waiting {
    Revoke(RevokeReply, Answer<RevokeReply>),
    Reinstate(ReinstateReply, Answer<ReinstateReply>),
    RepeatedRevoke(Remembered, Answer<RevokeReply>),
    RepeatedReinstate(Remembered, Answer<ReinstateReply>),
}

impl Committer {
    /// Works until told to stop or until every sender is gone.
    pub fn run(mut self) {
        loop {
            match self.queue.recv_timeout(TICK) {
                Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(work) => {
                    if !self.commit_group(work) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tick(),
            }
            self.state.sweep(SWEEP_ENTRIES);
            self.tend_snapshots();
        }
        self.vitals.refuse_writes("the server is stopping");
        self.snapshotter.stop();
    }

    /// Decides `first` and whatever else has gathered, as one revision. False: stop afterwards.
    fn commit_group(&mut self, first: Work) -> bool {
        let moment = self.keeper.observe();
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        let now = self.keeper.now(moment, &self.state.policy());
        let times = Times { now, wall: moment.wall.seconds(), floor };
        let decide = Decide { times, received_at: moment.wall, head: self.head() };
        let mut stage = Stage::new(&self.state, moment.wall, floor);
        let mut group = Group::default();
        let mut next = Some(first);
        let mut go_on = true;
        while let Some(work) = next.take() {
            match work {
                Work::Revoke(request, answer) => decide.revoke(&mut stage, &mut group, request, answer, &self.state),
                Work::Reinstate(request, answer) => decide.reinstate(&mut stage, &mut group, request, answer),
                Work::Stop => {
                    go_on = false;
                    break;
                }
            }
            if group.requests.len() < GROUP_REQUESTS_MAX
                && group.bytes < GROUP_BYTES_MAX
                && stage.has_room(crate::revocation::ports::REQUEST_ITEMS_MAX)
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
        go_on
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
            run_rebuild(rebuild);
        }
        let delta = &transition.delta;
        self.keeper.logged(delta.source_time);
        self.publisher.publish(Published {
            revision: delta.revision,
            source_time: delta.source_time,
            floor: delta.floor,
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
        let moment = self.keeper.observe();
        self.vitals.clock_alarm(self.keeper.alarm());
        let floor = self.keeper.floor(moment, self.state.floor(), &self.state.policy());
        let table = self.state.shapes();
        let expires = floor > self.state.floor() && table.live_beyond(floor) < table.live_beyond(self.state.floor());
        if expires || self.vitals.may_retry_writes() {
            self.commit_empty(moment, floor);
        }
    }

    fn commit_empty(&mut self, moment: Moment, floor: Minute) {
        match Stage::new(&self.state, moment.wall, floor).finish() {
            Ok(transition) => {
                if let Err(error) = self.commit(transition, Body::Tick) {
                    tracing::warn!(%error, "the journal does not accept writes");
                }
            }
            Err(error) => tracing::error!(%error, "cannot move the expiry floor"),
        }
    }

    fn refused(&mut self, error: &AppendError) -> WriteError {
        tracing::error!(%error, "the journal refused an append");
        let reason = error.to_string();
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
                self.prune(ready.revision);
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "snapshot failed"),
        }
        if self.overlay.is_due() && self.snapshotter.is_idle() {
            self.snapshotter.begin(&mut self.overlay, &self.state);
        }
    }

    /// Lets records go that are past the audit retention; what still lives in them is carried.
    fn prune(&mut self, through: Revision) {
        let limits = PruneLimits {
            through,
            now: self.state.highest_time(),
            retention: self.audit_retention,
            records_max: PRUNE_RECORDS,
        };
        let state = &self.state;
        match self.journal.prune(&limits, &|id, revocation| state.live_expiry(id, revocation)) {
            Ok(pruned) if pruned.records > 0 => tracing::info!(records = pruned.records, "journal pruned"),
            Ok(_) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the journal was not pruned"),
        }
    }
}

/// Rebuilding the filter only reads and hints: it runs beside the writer.
fn run_rebuild(rebuild: Rebuild) {
    let spawned = std::thread::Builder::new().name("filter-rebuild".into()).spawn(move || rebuild.run());
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot start the filter rebuild; checks get slower, not wrong");
    }
}

/// What all requests of one revision are decided with.
struct Decide {
    times: Times,
    received_at: UnixMillis,
    head: Position,
}

impl Decide {
    fn revoke(
        &self,
        stage: &mut Stage<'_>,
        group: &mut Group,
        request: RevokeRequest,
        answer: Answer<RevokeReply>,
        state: &State,
    ) {
        let earlier =
            request.request_id.as_ref().and_then(|id| stage.earlier(&RequestKey::new(&request.caller.principal, id)));
        if let Some(earlier) = earlier {
            if earlier.body_hash == request.body_hash {
                group.answers.push(Waiting::RepeatedRevoke(earlier, answer));
            } else {
                send(answer, Err(WriteError::RequestIdReused));
            }
            return;
        }
        let revocations = match self.revocations(&request, state) {
            Ok(revocations) => revocations,
            Err(violations) => return send(answer, Err(WriteError::Invalid(violations))),
        };
        if let Err(error) = stage.admit(&revocations) {
            return send(answer, Err(error));
        }
        let nothing_to_write = revocations.iter().all(|revocation| revocation.already_expired);
        if request.dry_run || nothing_to_write {
            let mut trial = Stage::new(state, self.received_at, state.floor());
            let request_of_trial = self.request(&request.caller, None, request.body_hash, Action::Revoke(revocations));
            let accepted = trial.request(&request_of_trial);
            let mut reply = revoke_reply(&request_of_trial, &accepted, None);
            reply.outcomes.iter_mut().for_each(|outcome| outcome.id = None);
            reply.position = (!request.dry_run).then_some(self.head);
            return send(answer, Ok(Decided::Now(reply)));
        }
        let mut accepted_request =
            self.request(&request.caller, request.request_id, request.body_hash, Action::Revoke(revocations));
        let accepted = stage.request(&accepted_request);
        if let Action::Revoke(revocations) = &mut accepted_request.action {
            for (revocation, accepted) in revocations.iter_mut().zip(&accepted) {
                revocation.merged = accepted.merged;
            }
        }
        let reply = revoke_reply(&accepted_request, &accepted, Some(state));
        group.add(accepted_request);
        group.answers.push(Waiting::Revoke(reply, answer));
    }

    fn revocations(&self, request: &RevokeRequest, state: &State) -> Result<Vec<Revocation>, Vec<Violation>> {
        /// More wrong items than this are not listed one by one.
        const VIOLATIONS_MAX: usize = 100;
        let policy = state.policy();
        let mut violations = Vec::new();
        let mut revocations = Vec::with_capacity(request.items.len());
        for (index, item) in request.items.iter().enumerate() {
            let terms = match terms(item, self.times, &policy) {
                Ok(terms) => terms,
                Err(error) => {
                    let field = format!("revocations[{index}].{}", error.field());
                    violations.push(Violation { field, description: error.to_string() });
                    if violations.len() == VIOLATIONS_MAX {
                        break;
                    }
                    continue;
                }
            };
            let spares = item.exceptions.iter().map(|e| (e.shape(), state.key().fingerprint(e))).collect();
            revocations.push(Revocation {
                selector: item.target.selector().clone(),
                mark: Mark { cutoff: terms.cutoff, expiry: terms.expiry, spares },
                exceptions: item.exceptions.clone(),
                expiry_basis: terms.basis,
                reason: item.reason.clone(),
                already_expired: terms.already_expired,
                merged: false,
            });
        }
        if violations.is_empty() { Ok(revocations) } else { Err(violations) }
    }

    fn reinstate(
        &self,
        stage: &mut Stage<'_>,
        group: &mut Group,
        request: ResolvedReinstate,
        answer: Answer<ReinstateReply>,
    ) {
        let earlier =
            request.request_id.as_ref().and_then(|id| stage.earlier(&RequestKey::new(&request.caller.principal, id)));
        if let Some(earlier) = earlier {
            if earlier.body_hash == request.body_hash {
                group.answers.push(Waiting::RepeatedReinstate(earlier, answer));
            } else {
                send(answer, Err(WriteError::RequestIdReused));
            }
            return;
        }
        let mut undone_so_far = HashSet::new();
        let room = REVOCATIONS_MAX - group.undone;
        let reinstatements: Vec<Reinstatement> = request
            .items
            .into_iter()
            .map(|(selector, only)| {
                let mut undone = stage.undoable(&selector, only);
                undone.retain(|id| undone_so_far.insert(*id));
                Reinstatement { selector, only, undone, reason: request.reason.clone() }
            })
            .collect();
        if undone_so_far.len() > room {
            if group.undone > 0 {
                return send(answer, Err(WriteError::Overloaded));
            }
            let description = format!("{} revocations would be undone, at most {REVOCATIONS_MAX}", undone_so_far.len());
            return send(
                answer,
                Err(WriteError::Invalid(vec![Violation { field: "reinstatements".into(), description }])),
            );
        }
        let undone = reinstatements.iter().map(|reinstatement| reinstatement.undone.clone()).collect();
        let reply = ReinstateReply { position: None, undone, repeated: false };
        let changes =
            reinstatements.iter().any(|r| r.only.is_none() && stage.is_live(&r.selector)) || !undone_so_far.is_empty();
        // Under a request id even "nothing was live" is remembered: a late repeat must not undo what came after it.
        if request.dry_run || (!changes && request.request_id.is_none()) {
            let position = (!request.dry_run).then_some(self.head);
            return send(answer, Ok(Decided::Now(ReinstateReply { position, ..reply })));
        }
        let action = Action::Reinstate(reinstatements);
        let accepted = self.request(&request.caller, request.request_id, request.body_hash, action);
        stage.request(&accepted);
        group.undone += undone_so_far.len();
        group.add(accepted);
        group.answers.push(Waiting::Reinstate(reply, answer));
    }

    fn request(&self, caller: &Caller, id: Option<String>, body_hash: [u8; 32], action: Action) -> Request {
        let (principal, peer) = (caller.principal.clone(), caller.peer.clone());
        Request { principal, peer, request_id: id, body_hash, received_at: self.received_at, action }
    }
}

impl Group {
    fn add(&mut self, request: Request) {
        self.bytes += weight(&request);
        self.requests.push(request);
    }
}

/// About how many bytes of the record a request takes.
fn weight(request: &Request) -> usize {
    let selector =
        |selector: &Selector| selector.pairs().map(|(name, value)| name.len() + value.len() + 3).sum::<usize>();
    match &request.action {
        Action::Revoke(revocations) => revocations
            .iter()
            .map(|r| 16 + selector(&r.selector) + r.exceptions.iter().map(selector).sum::<usize>() + r.reason.len())
            .sum(),
        Action::Reinstate(undone) => {
            undone.iter().map(|r| 16 + selector(&r.selector) + r.undone.len() * 16 + r.reason.len()).sum()
        }
    }
}

impl Waiting {
    fn tell(self, result: &Result<Position, WriteError>) {
        match self {
            Self::Revoke(mut reply, answer) => send(
                answer,
                result.clone().map(|position| {
                    reply.position = Some(position);
                    Decided::Now(reply)
                }),
            ),
            Self::Reinstate(mut reply, answer) => send(
                answer,
                result.clone().map(|position| {
                    reply.position = Some(position);
                    Decided::Now(reply)
                }),
            ),
            Self::RepeatedRevoke(earlier, answer) => send(answer, result.clone().map(|_| Decided::Earlier(earlier))),
            Self::RepeatedReinstate(earlier, answer) => send(answer, result.clone().map(|_| Decided::Earlier(earlier))),
        }
    }
}

fn send<T>(answer: Answer<T>, result: Result<Decided<T>, WriteError>) {
    // A caller that gave up is not an error: the request stands, a repeat with its id finds the outcome.
    let _ = answer.send(result);
}

/// The reply to a request as accepted, before its position is known. Without a state the ids are left out.
fn revoke_reply(request: &Request, accepted: &[Accepted], state: Option<&State>) -> RevokeReply {
    let Action::Revoke(revocations) = &request.action else {
        return RevokeReply { position: None, outcomes: Vec::new(), repeated: false };
    };
    let outcomes = revocations.iter().zip(accepted).map(|(revocation, accepted)| Revoked {
        id: accepted.place.and_then(|place| Some(state?.id(place))),
        merged: accepted.merged,
        ..outcome(revocation)
    });
    RevokeReply { position: None, outcomes: outcomes.collect(), repeated: false }
}

/// What a journal's revocation says of its outcome, without its id.
pub(super) fn outcome(revocation: &Revocation) -> Revoked {
    Revoked {
        id: None,
        selector: revocation.selector.clone(),
        cutoff: revocation.mark.cutoff,
        expiry: revocation.mark.expiry,
        already_expired: revocation.already_expired,
        merged: revocation.merged,
    }
}
