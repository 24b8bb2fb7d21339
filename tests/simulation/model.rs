//! What ought to be in force, from the journal's records alone: plain lists, no fingerprints, no filters, no digests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rescind::journal::{Action, Body, Identity, Record};
use rescind::revocation::{Delta, Digest, Minute, Revision, RevocationId};

use super::history::Revised;

pub struct Model {
    identity: Identity,
    live: BTreeMap<String, Vec<(RevocationId, Minute)>>,
    floor: Minute,
    /// Revision 0 first, then one after the other.
    pub history: Vec<Revised>,
}

impl Model {
    pub fn new(identity: Identity) -> Self {
        Self { identity, live: BTreeMap::new(), floor: Minute::default(), history: Vec::new() }
    }

    /// The state before the first revision.
    pub fn begin(&mut self, digest: Digest, at: Duration) {
        let revision = Revision(0);
        self.history.push(Revised { revision, at, stated: at, digest, revoked: BTreeSet::new(), requests: Vec::new() });
    }

    pub fn revision(&self) -> Revision {
        self.history.last().map(|revised| revised.revision).unwrap_or_default()
    }

    pub fn last(&self) -> &Revised {
        self.history.last().unwrap()
    }

    pub fn apply(&mut self, record: &Record, at: Duration) {
        let delta = Delta::decode(&record.delta).unwrap();
        let mut requests = Vec::new();
        if let Body::Requests(accepted) = &record.body {
            let mut index = 0;
            for request in accepted {
                requests.extend(request.request_id.clone());
                match &request.action {
                    Action::Revoke(revocations) => {
                        for revocation in revocations {
                            let id = self.identity.revocation_id(record.revision, index);
                            let subject = revocation.selector.value("sub").unwrap().to_owned();
                            self.live.entry(subject).or_default().push((id, revocation.mark.expiry));
                            index += 1;
                        }
                    }
                    Action::Reinstate(reinstatements) => {
                        let undone: Vec<RevocationId> =
                            reinstatements.iter().flat_map(|reinstatement| reinstatement.undone.clone()).collect();
                        for live in self.live.values_mut() {
                            live.retain(|(id, _)| !undone.contains(id));
                        }
                    }
                }
            }
        }
        self.floor = delta.floor;
        for live in self.live.values_mut() {
            live.retain(|(_, expiry)| *expiry > delta.floor);
        }
        let revoked = self.live.iter().filter(|(_, live)| !live.is_empty());
        let revoked = revoked.map(|(subject, _)| subject.trim_start_matches("user-").parse().unwrap()).collect();
        let stated = Duration::from_millis(delta.source_time.0);
        let (revision, digest) = (record.revision, delta.digest_after);
        self.history.push(Revised { revision, at, stated, digest, revoked, requests });
    }
}
