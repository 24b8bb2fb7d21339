//! What ought to be in force, from the journal's records alone: plain lists, no fingerprints, no filters, no digests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rescind::journal::{Action, Body, Identity, Record, Reinstatement};
use rescind::revocation::{Delta, Digest, Minute, Revision, RevocationId};

use super::history::{Point, Revised};
use super::token;

#[derive(Clone)]
pub struct Model {
    identity: Identity,
    live: BTreeMap<u32, Subject>,
    losses_accepted: u64,
    /// Revision 0 first, then one after the other, those of earlier epochs included.
    pub history: Vec<Revised>,
}

/// What is live of a subject.
#[derive(Clone, Default)]
struct Subject {
    /// One by one, for reinstatements.
    live: Vec<Live>,
    /// One of them reaches the session "here". Outlives that one until the last of them expires, or one is taken back.
    reaches_here: bool,
}

/// A live revocation.
#[derive(Clone)]
struct Live {
    id: RevocationId,
    expiry: Minute,
    /// It spares the session "here".
    spares_here: bool,
}

impl Model {
    pub fn new(identity: Identity) -> Self {
        Self { identity, live: BTreeMap::new(), losses_accepted: 0, history: Vec::new() }
    }

    /// Goes on as another epoch.
    pub fn descend(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// The state before the first revision.
    pub fn begin(&mut self, digest: Digest, at: Duration) {
        let revised = Revised {
            revision: Revision(0),
            at,
            stated: at,
            digest,
            until: BTreeMap::new(),
            revoked: BTreeSet::new(),
            requests: Vec::new(),
            floor: Minute::default(),
            losses_accepted: 0,
        };
        self.history.push(revised);
    }

    pub fn generation(&self) -> u64 {
        self.identity.epoch.generation
    }

    pub fn revision(&self) -> Revision {
        self.history.last().map(|revised| revised.revision).unwrap_or_default()
    }

    pub fn last(&self) -> &Revised {
        self.history.last().unwrap()
    }

    pub fn at(&self) -> Point {
        Point { generation: self.generation(), revision: self.revision() }
    }

    pub fn apply(&mut self, record: &Record, at: Duration) {
        let delta = Delta::decode(&record.delta).unwrap();
        self.losses_accepted = delta.policy.map_or(self.losses_accepted, |policy| policy.losses_accepted);
        self.expire(delta.floor);
        let mut requests = Vec::new();
        if let Body::Requests(accepted) = &record.body {
            let mut index = 0;
            for request in accepted {
                requests.extend(request.request_id.clone());
                match &request.action {
                    Action::Revoke(revocations) => {
                        for revocation in revocations {
                            let spares_here = !revocation.exceptions.is_empty();
                            let id = self.identity.revocation_id(record.revision, index);
                            let live = Live { id, expiry: revocation.mark.expiry, spares_here };
                            let subject = self.live.entry(token::subject_of(&revocation.selector)).or_default();
                            subject.live.push(live);
                            subject.reaches_here |= !spares_here;
                            index += 1;
                        }
                    }
                    Action::Reinstate(reinstatements) => {
                        reinstatements.iter().for_each(|reinstatement| self.reinstate(reinstatement));
                    }
                }
            }
        }
        self.expire(delta.floor);
        let until = self.until();
        self.history.push(Revised {
            revision: record.revision,
            at,
            stated: Duration::from_millis(delta.source_time.0),
            digest: delta.digest_after,
            revoked: until.keys().copied().collect(),
            until,
            requests,
            floor: delta.floor,
            losses_accepted: self.losses_accepted,
        });
    }

    fn reinstate(&mut self, reinstatement: &Reinstatement) {
        let Some(subject) = self.live.get_mut(&token::subject_of(&reinstatement.selector)) else { return };
        let before = subject.live.len();
        subject.live.retain(|live| !reinstatement.undone.contains(&live.id));
        if subject.live.len() < before {
            subject.reaches_here = subject.live.iter().any(|live| !live.spares_here);
        }
    }

    fn expire(&mut self, floor: Minute) {
        for subject in self.live.values_mut() {
            subject.live.retain(|live| live.expiry > floor);
        }
        self.live.retain(|_, subject| !subject.live.is_empty());
    }

    /// Until when each token is revoked.
    fn until(&self) -> BTreeMap<u32, Minute> {
        let mut until = BTreeMap::new();
        for (number, subject) in &self.live {
            let Some(last) = subject.live.iter().map(|live| live.expiry).max() else { continue };
            until.insert(token::of(*number), last);
            if subject.reaches_here {
                until.insert(token::here(*number), last);
            }
        }
        until
    }
}
