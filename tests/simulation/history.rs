//! What happened, as the validators see it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rescind::revocation::{Digest, Minute, Revision};
use sha2::{Digest as _, Sha256};

/// The number of the authority among the nodes.
pub const AUTHORITY: usize = usize::MAX;

/// A revision of an epoch. Those of a later epoch are later, whatever their revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub generation: u64,
    pub revision: Revision,
}

impl Point {
    pub fn next(self) -> Self {
        Self { revision: self.revision.next(), ..self }
    }
}

/// A durable revision, and what the model makes of it.
#[derive(Clone, Debug)]
pub struct Revised {
    pub revision: Revision,
    /// When that was known: after an unclear append, at the restart.
    pub at: Duration,
    /// The time that it states.
    pub stated: Duration,
    pub digest: Digest,
    /// The tokens revoked at it, and until when at the longest.
    pub until: BTreeMap<u32, Minute>,
    /// The tokens revoked at it.
    pub revoked: BTreeSet<u32>,
    /// The ids of the requests that it holds.
    pub requests: Vec<String>,
    pub floor: Minute,
    /// The last generation whose losses an operator has accepted.
    pub losses_accepted: u64,
}

/// A record of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By the generation of the epoch: revision 0 first, then one after the other, those taken over included.
    pub epochs: BTreeMap<u64, Vec<Revised>>,
    /// Of a restored epoch: the last revision taken over.
    pub parents: BTreeMap<u64, Point>,
    pub events: Vec<Record>,
    /// When it began.
    pub began: Duration,
    /// How long a frame may take at most.
    pub delay_max: Duration,
    /// How far apart two wall clocks ever were, at most.
    pub skew_max: Duration,
    pub nodes: usize,
    pub relays: usize,
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
        held: Option<(Point, Digest)>,
        /// The epoch that is served.
        generation: u64,
        /// The first revision the server could still read when it answered.
        oldest: Revision,
        resumed: bool,
        /// Whether the greeting came as it was sent.
        intact: bool,
    },
    /// The verified revision of a replica moved by a delta.
    Advanced {
        from: Point,
        to: Point,
    },
    /// Another set took the place of the one served.
    Swapped {
        to: Point,
    },
    /// A heartbeat came that was as it had been sent, and the replica took it as true.
    Heartbeat {
        of: Point,
        applied: Point,
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
    /// The node lost all it had in memory, and began anew, with these sets of earlier epochs on its disk.
    Restarted {
        residues: Vec<Point>,
    },
    /// It began from its disk.
    Warmed,
    /// The authority recovered.
    Recovered,
    /// The authority goes on from a backup that ends here, as another epoch.
    Restored,
    /// A client has its answer.
    Acknowledged(Acknowledged),
    /// A client was told that its request cannot be accepted.
    Rejected,
    /// A client does not know what became of its request.
    Unclear,
    /// A check with `at_least`.
    Asked {
        token: u32,
        at_least: Point,
        found: Found,
        answered: Point,
    },
    /// What subscribers cost the authority.
    Load {
        log_bytes: u64,
        log_bytes_max: u64,
        frames: usize,
        frames_max: usize,
        unanswered: usize,
    },
    /// How many revisions subscribers held that the authority's epoch lacks: as it says, and as they said.
    HistoryLost {
        counted: u64,
        told: u64,
    },
    /// Somebody waited for a position to come everywhere, and has an answer.
    Proven(Proven),
    /// The journal's first revision is another one.
    Pruned,
    /// The newest snapshot on the disk was damaged.
    Damaged,
    /// A sender lied.
    Lied,
    /// Something came that is not what was sent, or a lie.
    Misled,
    /// A node and a server no longer reach each other.
    Parted,
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
    pub tokens: Vec<u32>,
    pub at: Point,
    pub repeated: bool,
}

/// What the authority says of where a position has come.
#[derive(Clone, Debug)]
pub struct Proven {
    pub at: Point,
    /// Every subscriber has applied it.
    pub complete: bool,
    /// From this time on, on the wall clock, no checker accepts what was revoked at it.
    pub dead_by: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Observed {
    pub live: bool,
    pub diverged: bool,
    pub ready: bool,
    pub synced: bool,
    /// Whether a token of which nothing is known is accepted.
    pub accepts: bool,
    /// Whether the set is as fresh as policy wants it.
    pub fresh: bool,
    /// The verified revision and its digest.
    pub at: Point,
    pub digest: Digest,
    /// The tokens that checks found revoked.
    pub revoked: BTreeSet<u32>,
    /// The generations of the earlier epochs whose sets stay in force.
    pub residues: Vec<u64>,
    pub staleness: Duration,
}

impl History {
    pub fn revised(&self, at: Point) -> Option<&Revised> {
        self.epochs.get(&at.generation)?.get(usize::try_from(at.revision.0).ok()?)
    }

    /// The last revision of the last epoch.
    pub fn last(&self) -> Option<(Point, &Revised)> {
        let (generation, revised) = self.epochs.last_key_value()?;
        let last = revised.last()?;
        Some((Point { generation: *generation, revision: last.revision }, last))
    }

    /// Whether what was held at `at` is all part of the history of an epoch.
    pub fn takes_over(&self, generation: u64, at: Point) -> bool {
        let (mut generation, mut last) = (generation, Revision(u64::MAX));
        while generation > at.generation {
            let Some(parent) = self.parents.get(&generation) else { return false };
            (generation, last) = (parent.generation, last.min(parent.revision));
        }
        generation == at.generation && at.revision <= last
    }

    pub fn of(&self, node: usize) -> impl Iterator<Item = &Record> {
        self.events.iter().filter(move |record| record.node == node)
    }

    /// Everybody, the authority last.
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes).chain([AUTHORITY])
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
        self.epochs.iter().for_each(|revised| hash.update(format!("{revised:?}\n")));
        self.events.iter().for_each(|record| hash.update(format!("{record:?}\n")));
        hash.finalize().into()
    }
}
