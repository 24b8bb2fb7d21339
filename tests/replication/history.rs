//! What happened, as the validators see it.

use std::collections::BTreeSet;
use std::time::Duration;

use rescind::revocation::{Digest, Revision};

/// A revision as the authority made it.
#[derive(Clone, Debug)]
pub struct Published {
    pub revision: Revision,
    pub at: Duration,
    pub digest: Digest,
    /// The subjects revoked at it.
    pub revoked: BTreeSet<u32>,
}

/// A record of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Revision 0 first, then one after the other.
    pub published: Vec<Published>,
    pub events: Vec<Record>,
    /// How long a frame may take at most.
    pub delay_max: Duration,
    pub replicas: usize,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub at: Duration,
    pub replica: usize,
    pub event: Event,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A replica was greeted.
    Welcomed {
        /// What it had said it holds.
        held: Option<(Revision, Digest)>,
        /// The first revision the server could still read when it answered.
        oldest: Revision,
        resumed: bool,
        /// Whether the greeting came as it was sent.
        intact: bool,
    },
    /// The verified revision of a replica moved by a delta.
    Advanced {
        from: Revision,
        to: Revision,
    },
    /// Another set took the place of the one served.
    Swapped {
        to: Revision,
    },
    /// A heartbeat came that was as it had been sent, and the replica took it as true.
    Heartbeat {
        revision: Revision,
        applied: Revision,
    },
    /// What readers saw.
    Observed(Observed),
    /// The connection was lost.
    Lost,
    /// A snapshot in mid-stream.
    Lagged,
    Diverged,
    /// The replica gave a connection up.
    Refused,
}

#[derive(Clone, Debug)]
pub struct Observed {
    pub live: bool,
    pub diverged: bool,
    pub ready: bool,
    pub synced: bool,
    /// The verified revision and its digest.
    pub revision: Revision,
    pub digest: Digest,
    /// The subjects that checks found revoked.
    pub revoked: BTreeSet<u32>,
    pub staleness: Duration,
}

impl History {
    pub fn at_revision(&self, revision: Revision) -> Option<&Published> {
        self.published.get(usize::try_from(revision.0).ok()?)
    }

    pub fn of(&self, replica: usize) -> impl Iterator<Item = &Record> {
        self.events.iter().filter(move |record| record.replica == replica)
    }

    pub fn observed(&self) -> impl Iterator<Item = (&Record, &Observed)> {
        self.events.iter().filter_map(|record| match &record.event {
            Event::Observed(observed) => Some((record, observed)),
            _ => None,
        })
    }

    pub fn count(&self, matches: impl Fn(&Event) -> bool) -> u64 {
        self.events.iter().filter(|record| matches(&record.event)).count() as u64
    }
}
