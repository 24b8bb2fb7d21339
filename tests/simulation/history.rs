//! What happened, as the validators see it.

use std::collections::BTreeSet;
use std::time::Duration;

use rescind::revocation::{Digest, Revision};
use sha2::{Digest as _, Sha256};

/// The number of the authority among the nodes.
pub const AUTHORITY: usize = usize::MAX;

/// A durable revision, and what the model makes of it.
#[derive(Clone, Debug)]
pub struct Revised {
    pub revision: Revision,
    /// When that was known: after an unclear append, at the restart.
    pub at: Duration,
    /// The time that it states.
    pub stated: Duration,
    pub digest: Digest,
    /// The subjects revoked at it.
    pub revoked: BTreeSet<u32>,
    /// The ids of the requests that it holds.
    pub requests: Vec<String>,
}

/// A record of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Revision 0 first, then one after the other.
    pub revised: Vec<Revised>,
    pub events: Vec<Record>,
    /// How long a frame may take at most.
    pub delay_max: Duration,
    /// How far apart two wall clocks ever were, at most.
    pub skew_max: Duration,
    pub replicas: usize,
}

#[derive(Clone, Debug)]
pub struct Record {
    pub at: Duration,
    /// A replica, or [`AUTHORITY`].
    pub node: usize,
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
    /// The node lost all it had in memory, and began anew.
    Restarted,
    /// The authority recovered.
    Recovered,
    /// A client has its answer.
    Acknowledged(Acknowledged),
    /// A client was told that its request cannot be accepted.
    Rejected,
    /// A client does not know what became of its request.
    Unclear,
    /// A check with `at_least`.
    Asked {
        subject: u32,
        at_least: Revision,
        found: Found,
        revision: Revision,
    },
    /// What subscribers cost the authority.
    Load {
        log_bytes: u64,
        log_bytes_max: u64,
        frames: usize,
        frames_max: usize,
        unanswered: usize,
    },
    /// The journal's first revision is another one.
    Pruned,
    /// The newest snapshot on the disk was damaged.
    Damaged,
    /// A sender lied.
    Lied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Revoked,
    NotRevoked,
    Unknown,
}

#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub request: String,
    pub revokes: bool,
    pub subjects: Vec<u32>,
    pub revision: Revision,
    pub repeated: bool,
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
    pub fn at_revision(&self, revision: Revision) -> Option<&Revised> {
        self.revised.get(usize::try_from(revision.0).ok()?)
    }

    pub fn of(&self, node: usize) -> impl Iterator<Item = &Record> {
        self.events.iter().filter(move |record| record.node == node)
    }

    /// Everybody, the authority last.
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        (0..self.replicas).chain([AUTHORITY])
    }

    pub fn observed(&self) -> impl Iterator<Item = (&Record, &Observed)> {
        self.events.iter().filter_map(|record| match &record.event {
            Event::Observed(observed) => Some((record, observed)),
            _ => None,
        })
    }

    pub fn acknowledged(&self) -> impl Iterator<Item = (&Record, &Acknowledged)> {
        self.events.iter().filter_map(|record| match &record.event {
            Event::Acknowledged(acknowledged) => Some((record, acknowledged)),
            _ => None,
        })
    }

    pub fn count(&self, matches: impl Fn(&Event) -> bool) -> u64 {
        self.events.iter().filter(|record| matches(&record.event)).count() as u64
    }

    /// A hash over everything that happened.
    pub fn trace(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.revised.iter().for_each(|revised| hash.update(format!("{revised:?}\n")));
        self.events.iter().for_each(|record| hash.update(format!("{record:?}\n")));
        hash.finalize().into()
    }
}
