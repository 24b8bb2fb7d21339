//! Somebody who revokes and reinstates, and asks again with the same request id until the outcome is known.

use std::time::Duration;

use rescind::authority::manual::{Asked, ManualAuthority};
use rescind::replication::Random;
use rescind::revocation::ports::{
    Caller, CutoffChoice, ExpiryChoice, ReinstateReply, ReinstateRequest, Revoke, RevokeReply, RevokeRequest, Target,
    Undo, WriteError,
};
use rescind::revocation::{Grant, RevocationId};

use super::history::{Acknowledged, Event, Point};
use super::link::chance;
use super::token::{self, SUBJECTS, selector};

pub struct Client {
    number: usize,
    requests: u64,
    pending: Option<Pending>,
    /// The last revocation it was told of.
    known: Option<(RevocationId, u32)>,
}

struct Pending {
    request: Request,
    id: String,
    subjects: Vec<u32>,
    asked: Option<Answer>,
    retry_at: Duration,
}

#[derive(Clone)]
enum Request {
    Revoke(RevokeRequest),
    Reinstate(ReinstateRequest),
}

enum Answer {
    Revoke(Asked<RevokeReply>),
    Reinstate(Asked<ReinstateReply>),
}

impl Client {
    pub fn new(number: usize) -> Self {
        Self { number, requests: 0, pending: None, known: None }
    }

    /// Whether it waits for nothing.
    pub fn is_done(&self) -> bool {
        self.pending.is_none()
    }

    /// Whether an answer is owed to it.
    pub fn is_waiting(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.asked.is_some())
    }

    /// Thinks of something to ask for.
    pub fn begin(&mut self, random: &mut Random) {
        self.requests += 1;
        let id = format!("{}-{}", self.number, self.requests);
        let mut body_hash = [0; 32];
        body_hash[..8].copy_from_slice(&self.requests.to_le_bytes());
        let caller =
            Caller { principal: format!("client-{}", self.number), peer: "sim".into(), grant: Grant::everything() };
        let mut subjects: Vec<u32> = (0..=random.next_u64() % 3).map(|_| subject(random)).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let request_id = Some(id.clone());
        let request = if chance(random, 0.65) {
            let items = subjects.iter().map(|subject| revocation(*subject, random)).collect();
            let any_issuer = false;
            Request::Revoke(RevokeRequest {
                caller,
                request_id,
                body_hash,
                items,
                dry_run: false,
                any_issuer,
                confirmed: true,
            })
        } else {
            let undo = match self.known.take().filter(|_| chance(random, 0.5)) {
                Some((id, subject)) => {
                    subjects = vec![subject];
                    Undo::Id(id)
                }
                None => {
                    subjects.truncate(1);
                    Undo::Selector(selector(subjects[0]))
                }
            };
            let (items, reason) = (vec![undo], String::new());
            Request::Reinstate(ReinstateRequest { caller, request_id, body_hash, items, reason, dry_run: false })
        };
        self.pending = Some(Pending { request, id, subjects, asked: None, retry_at: Duration::ZERO });
    }

    /// Asks, if there is something to ask.
    pub fn ask(&mut self, now: Duration, authority: &ManualAuthority) {
        let Some(pending) = self.pending.as_mut().filter(|p| p.asked.is_none() && p.retry_at <= now) else { return };
        pending.asked = Some(match pending.request.clone() {
            Request::Revoke(request) => Answer::Revoke(authority.revoke(request)),
            Request::Reinstate(request) => Answer::Reinstate(authority.reinstate(request)),
        });
    }

    /// Gives up waiting; it asks again.
    pub fn lose(&mut self, now: Duration, random: &mut Random) -> Option<Event> {
        let pending = self.pending.as_mut()?;
        pending.asked.take()?;
        pending.retry_at = now + random.within(Duration::from_secs(1));
        Some(Event::Unclear)
    }

    /// Takes the answer, if there is one.
    pub fn poll(&mut self, now: Duration, generation: u64, random: &mut Random) -> Option<Event> {
        let pending = self.pending.as_mut()?;
        let told = match pending.asked.as_mut()? {
            Answer::Revoke(asked) => asked.poll()?.map(|reply| {
                let id = reply.outcomes.first().and_then(|outcome| outcome.id);
                (reply.position, reply.repeated, id)
            }),
            Answer::Reinstate(asked) => asked.poll()?.map(|reply| (reply.position, reply.repeated, None)),
        };
        match told {
            Ok((position, repeated, id)) => {
                let pending = self.pending.take()?;
                self.known = id.map(|id| (id, pending.subjects[0])).or(self.known);
                Some(Event::Acknowledged(Acknowledged {
                    request: pending.id,
                    revokes: matches!(pending.request, Request::Revoke(_)),
                    tokens: pending.subjects.into_iter().map(token::of).collect(),
                    at: Point { generation, revision: position?.revision },
                    repeated,
                }))
            }
            Err(WriteError::OutcomeUnknown(_) | WriteError::Unavailable(_) | WriteError::Overloaded) => {
                self.lose(now, random)
            }
            Err(_) => {
                self.pending = None;
                Some(Event::Rejected)
            }
        }
    }
}

fn subject(random: &mut Random) -> u32 {
    (random.next_u64() % u64::from(SUBJECTS)) as u32
}

fn revocation(subject: u32, random: &mut Random) -> Revoke {
    let expiry = match random.next_u64() % 8 {
        0 => ExpiryChoice::Natural,
        1 => ExpiryChoice::Never,
        minutes => ExpiryChoice::In(Duration::from_secs(60 * minutes)),
    };
    let cutoff = if chance(random, 0.5) { CutoffChoice::Natural } else { CutoffChoice::Unbounded };
    let target = Target::Selector(selector(subject));
    let exceptions = if chance(random, 0.3) { vec![token::session(subject)] } else { Vec::new() };
    Revoke { target, cutoff, expiry, exceptions, reason: String::new() }
}
