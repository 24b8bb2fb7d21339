//! Decides requests, one after the other, on a stage beside the state: accepted, refused, or known already.
//!
//! All or nothing: a request with anything wrong changes nothing and names everything that is wrong with it.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::lifetimes::{Times, kept_forever_by_choice, terms};
use super::objections::Objections;
use super::preview::try_out;
use super::requests::{Remembered, RequestKey};
use super::stage::{Accepted, Stage};
use super::state::State;
use crate::journal::{Action, REVOCATIONS_MAX, Reinstatement, Request, Revocation};
use crate::revocation::grant::Intent;
use crate::revocation::ports::{
    Caller, ExpiryChoice, ReinstateReply, RevokeReply, RevokeRequest, Revoked, Violation, WriteError,
};
use crate::revocation::{Mark, Position, RevocationId, Selector, UnixMillis};

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

/// Requests that were accepted into the revision being made, and whom to tell.
#[derive(Default)]
pub struct Group {
    pub requests: Vec<Request>,
    pub bytes: usize,
    /// How many were taken from the queue, whatever became of them.
    pub taken: usize,
    /// How many revocations they undo; a record has room for [`REVOCATIONS_MAX`].
    pub undone: usize,
    pub answers: Vec<Waiting>,
}

pub enum Waiting {
    Revoke(RevokeReply, Answer<RevokeReply>),
    Reinstate(ReinstateReply, Answer<ReinstateReply>),
    RepeatedRevoke(Remembered, Answer<RevokeReply>),
    RepeatedReinstate(Remembered, Answer<ReinstateReply>),
}

/// What all requests of one revision are decided with.
pub struct Decide {
    pub times: Times,
    pub received_at: UnixMillis,
    pub head: Position,
}

impl Decide {
    /// Decides a revoke request.
    pub fn revoke(
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
        let revocations = match self.revocations(&request, stage) {
            Ok(revocations) => revocations,
            Err(error) => return send(answer, Err(error)),
        };
        if let Err(error) = stage.admit(&revocations) {
            return send(answer, Err(error));
        }
        let nothing_to_write = revocations.iter().all(|revocation| revocation.already_expired);
        if request.dry_run || nothing_to_write {
            let tried = try_out(stage, &revocations);
            let outcomes = revocations.iter().zip(tried).map(|(revocation, tried)| Revoked {
                merged: tried.merged,
                preview: tried.preview,
                ..outcome(revocation)
            });
            let position = (!request.dry_run).then_some(self.head);
            let reply = RevokeReply { position, outcomes: outcomes.collect(), repeated: false };
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
        let reply = revoke_reply(&accepted_request, &accepted, state);
        group.add(accepted_request);
        group.answers.push(Waiting::Revoke(reply, answer));
    }

    /// The items of a request with their terms, if every one of them is permitted and right.
    fn revocations(&self, request: &RevokeRequest, stage: &Stage<'_>) -> Result<Vec<Revocation>, WriteError> {
        let (policy, key) = (stage.state().policy(), stage.state().key());
        let mut objections = Objections::default();
        let mut revocations = Vec::with_capacity(request.items.len());
        for (index, item) in request.items.iter().enumerate() {
            let terms = terms(item, self.times, &policy);
            let kept_forever = match &terms {
                Ok(terms) => kept_forever_by_choice(item, terms, self.times.now),
                Err(_) => item.expiry == ExpiryChoice::Never,
            };
            let intent = Intent { selector: item.target.selector(), exceptions: &item.exceptions, kept_forever };
            match request.caller.grant.permit(intent, |shape| stage.is_active_shape(shape)) {
                Ok(cautions) => objections.cautions(index, item, if request.confirmed { &[] } else { &cautions }),
                Err(denials) => objections.denials(index, item, denials),
            }
            match terms {
                Ok(terms) => revocations.push(Revocation {
                    selector: item.target.selector().clone(),
                    mark: Mark {
                        cutoff: terms.cutoff,
                        expiry: terms.expiry,
                        spares: item.exceptions.iter().map(|e| (e.shape(), key.fingerprint(e))).collect(),
                    },
                    exceptions: item.exceptions.clone(),
                    expiry_basis: terms.basis,
                    reason: item.reason.clone(),
                    already_expired: terms.already_expired,
                    merged: false,
                }),
                Err(error) => objections.wrong(index, error.field(), error),
            }
        }
        objections.or(revocations)
    }

    /// Decides a reinstate request.
    pub fn reinstate(
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
        let mut objections = Objections::default();
        for (index, (selector, _)) in request.items.iter().enumerate() {
            if let Err(denials) = request.caller.grant.permit_undoing(selector) {
                objections.undoing(index, denials);
            }
        }
        if let Err(error) = objections.or(()) {
            return send(answer, Err(error));
        }
        let mut undone_so_far = HashSet::new();
        let room = stage.room() - group.undone;
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
            if room < REVOCATIONS_MAX {
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
    /// Answers, now that the revision is durable and in force, or is not.
    pub fn tell(self, result: &Result<Position, WriteError>) {
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

/// The reply to a request as accepted, before its position is known.
fn revoke_reply(request: &Request, accepted: &[Accepted], state: &State) -> RevokeReply {
    let Action::Revoke(revocations) = &request.action else {
        return RevokeReply { position: None, outcomes: Vec::new(), repeated: false };
    };
    let outcomes = revocations.iter().zip(accepted).map(|(revocation, accepted)| Revoked {
        id: accepted.place.map(|place| state.id(place)),
        merged: accepted.merged,
        ..outcome(revocation)
    });
    RevokeReply { position: None, outcomes: outcomes.collect(), repeated: false }
}

/// What a journal's revocation says of its outcome, without its id.
pub fn outcome(revocation: &Revocation) -> Revoked {
    Revoked {
        id: None,
        selector: revocation.selector.clone(),
        cutoff: revocation.mark.cutoff,
        expiry: revocation.mark.expiry,
        already_expired: revocation.already_expired,
        merged: revocation.merged,
        preview: None,
    }
}
